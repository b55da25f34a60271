"""Neurons with voltage-gated channels (Hodgkin and Huxley 1952)."""

from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import (
    as_real,
    check_name,
    check_parameter,
    check_threshold,
    concrete,
    doubt,
    inverse_exprel,
    shortened,
)
from jsnn._names import explained

Values = dict[str, Array]


@explained
class Exp(eqx.Module):
    """A rate of a gate (1/ms): a exp((v - v_0) / s), with a in 1/ms and v_0, s in mV."""

    a: Array
    v_0: Array
    s: Array

    def __init__(self, a: ArrayLike, v_0: ArrayLike, s: ArrayLike):
        self.a, self.v_0, self.s = _kinetics(a, v_0, s)

    def __call__(self, v: Array) -> Array:
        return self.a * jnp.exp((v - self.v_0) * (1 / self.s))


@explained
class Linoid(eqx.Module):
    """A rate of a gate (1/ms): a (v - v_0) / (1 - exp(-(v - v_0) / s)), which is a s at v_0, with
    a in 1/(mV ms) and v_0, s in mV. It falls with v where both a and s are negative."""

    a: Array
    v_0: Array
    s: Array

    def __init__(self, a: ArrayLike, v_0: ArrayLike, s: ArrayLike):
        self.a, self.v_0, self.s = _kinetics(a, v_0, s, low=None)
        known = concrete(self.a), concrete(self.s)
        if known[0] is None or known[1] is None:
            doubt(lambda a, s: a * s < 0, self.a, self.s)
        elif np.any(known[0] * known[1] < 0):
            raise ValueError(f"a={a} and s={s} make a negative rate; give them the same sign")

    def __call__(self, v: Array) -> Array:
        return self.a * self.s * inverse_exprel((v - self.v_0) * (-1 / self.s))


@explained
class Sigmoid(eqx.Module):
    """A rate of a gate (1/ms): a / (1 + exp(-(v - v_0) / s)), with a in 1/ms and v_0, s in mV."""

    a: Array
    v_0: Array
    s: Array

    def __init__(self, a: ArrayLike, v_0: ArrayLike, s: ArrayLike):
        self.a, self.v_0, self.s = _kinetics(a, v_0, s)

    def __call__(self, v: Array) -> Array:
        return self.a * jax.nn.sigmoid((v - self.v_0) * (1 / self.s))


Rate = Exp | Linoid | Sigmoid


@explained
class Gate(eqx.Module):
    """dx/dt = alpha(v) (1 - x) - beta(v) x: the part of gates that are open; `power` of them in a
    row make a channel."""

    alpha: Rate
    beta: Rate
    power: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        for name in ("alpha", "beta"):
            if not isinstance(getattr(self, name), Rate):
                given = getattr(self, name)
                raise TypeError(f"{name}={given!r} is no rate; give Exp, Linoid or Sigmoid")
        if isinstance(self.power, bool) or not isinstance(self.power, (int, np.integer)):
            raise TypeError(f"power={self.power!r} is not an integer; give 1 or more")
        if self.power < 1:
            raise ValueError(f"power={self.power} must be at least 1")

    def slope(self, x: Array, v: Array) -> Array:
        return self.alpha(v) * (1 - x) - self.beta(v) * x

    def equilibrium(self, v: Array) -> Array:
        alpha, beta = self.alpha(v), self.beta(v)
        return alpha / (alpha + beta)


@explained
class Channel(eqx.Module):
    """Many channels of a kind: the current g m^p h^q ... (e - v) of the conductance `g` (nS) when
    all are open, the reversal potential `e` (mV), and gates by name."""

    g: Array
    e: Array
    gates: dict[str, Gate]

    def __init__(self, g: ArrayLike, e: ArrayLike, gates: Mapping[str, Gate]):
        check_parameter("g", g, low=0.0)
        check_parameter("e", e)
        if not isinstance(gates, Mapping):
            raise TypeError(f"gates={shortened(gates)} is not a dictionary; give names")
        for name, gate in gates.items():
            check_name("gate", name)
            if not isinstance(gate, Gate):
                raise TypeError(f"gate {name!r} is {shortened(gate)}; give a Gate")
        self.g, self.e, self.gates = as_real(g), as_real(e), dict(gates)

    def current(self, values: Values, v: Array) -> Array:
        open_ = self.g
        for name, gate in self.gates.items():
            open_ = open_ * values[name] ** gate.power
        return open_ * (self.e - v)


@explained
class AtMaximum(eqx.Module):
    """A spike is a maximum of the membrane that is not below v_th: the step after which v is lower
    than before it. NEST's `hh_` models have it, with v_th = 0.

    Its margin is v - v_th in steps in which v falls: a surrogate acts on the way down.
    """

    def margin(self, before: Array, after: Array, v_th: Array) -> Array:
        """What the cell fires at once it is not negative (mV)."""
        return jnp.where(after < before, after - v_th, -jnp.inf)


@explained
class Crossing(eqx.Module):
    """A spike is the step in which the membrane rises over v_th: it was below before, and is not
    after. Brian 2's `threshold="v > v_th", refractory="v > v_th"`.

    Its margin is v - v_th in steps that begin below v_th: a surrogate acts until the spike. Where
    an arrival at a `Delta` receptor lifts the membrane over v_th after the threshold was tested
    (without a delay, or `order.AsInBrian()`), the next step begins above, and there is no spike:
    `Above` has one.
    """

    def margin(self, before: Array, after: Array, v_th: Array) -> Array:
        """What the cell fires at once it is not negative (mV)."""
        return jnp.where(before < v_th, after - v_th, -jnp.inf)


@explained
class Above(eqx.Module):
    """A spike is any step after which the membrane is not below v_th, but for those within t_ref of
    the last one. Brian 2's `threshold="v > v_th", refractory=3*ms` (a t_ref one step shorter); the
    refractory time should be longer than the membrane stays above.

    Its margin is v - v_th.
    """

    def margin(self, before: Array, after: Array, v_th: Array) -> Array:
        """What the cell fires at once it is not negative (mV)."""
        return after - v_th


Spike = AtMaximum | Crossing | Above


@explained
class HodgkinHuxley(eqx.Module):
    """A membrane with a leak and channels (Hodgkin and Huxley 1952, J. Physiol. 117:500):

        c_m dv/dt = g_l (e_l - v) + sum over channels of g m^p h^q ... (e - v) + i + i_e

    What a spike is says `spike`: `AtMaximum()`, a maximum of the membrane that is not below `v_th`,
    as in NEST; `Crossing()`, the step in which it rises over v_th; or `Above()`, any step in which
    it is not below v_th. Nothing is reset; no further spike is seen for `t_ref`.

    | parameter | meaning | unit |
    |---|---|---|
    | `channels` | `Channel` by name | |
    | `c_m` | membrane capacitance | pF |
    | `g_l`, `e_l` | leak conductance and its reversal potential | nS, mV |
    | `v_0` | membrane potential at the start, at whose equilibrium the gates start | mV |
    | `t_ref` | time after a spike in which none is seen, whole steps | ms |
    | `i_e` | constant current | pA |
    | `v_th` | least potential of a spike, or the threshold that it crosses | mV |
    | `spike` | `AtMaximum()`, `Crossing()` or `Above()` | |

    A parameter is a scalar, an array `[n]` or a distribution, those of channels, gates and rates
    too. States are `v` (mV) and each gate by its name. `interneuron` and `squid` make published
    cells. Where the population gives another v at the start, gates still start at the equilibrium
    of v_0.
    """

    channels: dict[str, Channel]
    c_m: Array
    g_l: Array
    e_l: Array
    v_0: Array
    t_ref: Array
    i_e: Array
    v_th: Array
    spike: Spike

    def __init__(
        self,
        channels: Mapping[str, Channel],
        *,
        c_m: ArrayLike,
        g_l: ArrayLike,
        e_l: ArrayLike,
        v_0: ArrayLike,
        t_ref: ArrayLike = 2.0,
        i_e: ArrayLike = 0.0,
        v_th: ArrayLike = 0.0,
        spike: Spike | None = None,
    ):
        if not isinstance(channels, Mapping):
            raise TypeError(f"channels={shortened(channels)} is not a dictionary; give names")
        seen: dict[str, str] = {}
        for name, channel in channels.items():
            check_name("channel", name)
            if not isinstance(channel, Channel):
                raise TypeError(f"channel {name!r} is {shortened(channel)}; give a Channel")
            for gate in channel.gates:
                if gate in ("v", "refractory", *seen):
                    other = f"channel {seen[gate]!r}" if gate in seen else "every cell"
                    raise ValueError(
                        f"gate {gate!r} of channel {name!r} has the name of a state of {other}; "
                        "give another"
                    )
                seen[gate] = name
        check_parameter("c_m", c_m, low=0.0, strict=True)
        check_parameter("g_l", g_l, low=0.0)
        check_parameter("t_ref", t_ref, low=0.0)
        for name, value in (("e_l", e_l), ("v_0", v_0), ("i_e", i_e)):
            check_parameter(name, value)
        self.channels = dict(channels)
        self.c_m, self.g_l, self.e_l = as_real(c_m), as_real(g_l), as_real(e_l)
        self.v_0, self.t_ref = as_real(v_0), as_real(t_ref)
        check_threshold("v_th", v_th)
        self.i_e, self.v_th = as_real(i_e), as_real(v_th)
        self.spike = AtMaximum() if spike is None else spike
        if not isinstance(self.spike, Spike):
            raise TypeError(
                f"spike={shortened(spike)}; give AtMaximum(), Crossing() or Above() of jsnn.neurons"
            )

    @classmethod
    @explained
    def squid(
        cls,
        *,
        g_na: ArrayLike = 12000.0,
        g_k: ArrayLike = 3600.0,
        e_na: ArrayLike = 50.0,
        e_k: ArrayLike = -77.0,
        c_m: ArrayLike = 100.0,
        g_l: ArrayLike = 30.0,
        e_l: ArrayLike = -54.387,
        v_0: ArrayLike = -65.0,
        t_ref: ArrayLike = 2.0,
        i_e: ArrayLike = 0.0,
        v_th: ArrayLike = 0.0,
        spike: Spike | None = None,
    ) -> "HodgkinHuxley":
        """The squid's giant axon of 1952: sodium `na` with gates m^3 h, potassium `k` with n^4.

        The published densities (120, 36, 0.3 mS/cm^2 and 1 uF/cm^2) on 1e-4 cm^2, with the resting
        potential at -65 mV and potentials of today's sign.
        """
        m = Gate(Linoid(0.1, -40.0, 10.0), Exp(4.0, -65.0, -18.0), 3)
        h = Gate(Exp(0.07, -65.0, -20.0), Sigmoid(1.0, -35.0, 10.0))
        n = Gate(Linoid(0.01, -55.0, 10.0), Exp(0.125, -65.0, -80.0), 4)
        channels = {"na": Channel(g_na, e_na, {"m": m, "h": h}), "k": Channel(g_k, e_k, {"n": n})}
        membrane = {"c_m": c_m, "g_l": g_l, "e_l": e_l, "v_0": v_0}
        return cls(channels, **membrane, t_ref=t_ref, i_e=i_e, v_th=v_th, spike=spike)

    @classmethod
    @explained
    def interneuron(
        cls,
        *,
        g_na: ArrayLike = 4500.0,
        g_kv1: ArrayLike = 9.0,
        g_kv3: ArrayLike = 9000.0,
        e_na: ArrayLike = 74.0,
        e_k: ArrayLike = -90.0,
        c_m: ArrayLike = 40.0,
        g_l: ArrayLike = 10.0,
        e_l: ArrayLike = -70.0,
        v_0: ArrayLike = -69.60401191631222,
        t_ref: ArrayLike = 2.0,
        i_e: ArrayLike = 0.0,
        v_th: ArrayLike = 0.0,
        spike: Spike | None = None,
    ) -> "HodgkinHuxley":
        """A fast-spiking cortical interneuron (Mancilla, Lewis, Pinto, Rinzel and Connors 2007,
        J. Neurosci. 27:2058): sodium `na` with m^3 h, potassium `kv1` with n^4 and `kv3` with p^2.
        """
        m = Gate(Linoid(40.0, 75.5, 13.5), Exp(1.2262, 0.0, -42.248), 3)
        h = Gate(Exp(0.0035, 0.0, -24.186), Linoid(0.017, -51.25, 5.2))
        n = Gate(Linoid(0.014, -44.0, 2.3), Exp(0.0043, -44.0, -34.0), 4)
        p = Gate(Linoid(1.0, 95.0, 11.8), Exp(0.025, 0.0, -22.222), 2)
        channels = {
            "na": Channel(g_na, e_na, {"m": m, "h": h}),
            "kv1": Channel(g_kv1, e_k, {"n": n}),
            "kv3": Channel(g_kv3, e_k, {"p": p}),
        }
        membrane = {"c_m": c_m, "g_l": g_l, "e_l": e_l, "v_0": v_0}
        return cls(channels, **membrane, t_ref=t_ref, i_e=i_e, v_th=v_th, spike=spike)

    @property
    def is_linear(self) -> bool:
        return False

    @property
    def is_stiff(self) -> bool:
        """Whether gates may be much faster than a step."""
        return True

    @property
    def is_spiking(self) -> bool:
        return True

    @property
    def resets_within(self) -> bool:
        return False

    @property
    def frozen(self) -> tuple[str, ...]:
        """The states that stand still while the cell is refractory."""
        return ()

    @property
    def gates(self) -> dict[str, Gate]:
        return {name: gate for own in self.channels.values() for name, gate in own.gates.items()}

    def initial(self) -> Values:
        return {"v": self.v_0, **{name: g.equilibrium(self.v_0) for name, g in self.gates.items()}}

    def vector_field(
        self, values: Values, current: Callable[[Array], Array], frozen: Array | bool
    ) -> Values:
        """The slopes of the states, under a current that is a function of v."""
        v = values["v"]
        total = current(v) + self.i_e + self.g_l * (self.e_l - v)
        for channel in self.channels.values():
            total = total + channel.current(values, v)
        slopes = {name: gate.slope(values[name], v) for name, gate in self.gates.items()}
        return {"v": total * (1 / self.c_m), **slopes}

    def margin(self, before: Values, values: Values) -> Array:
        """What the cell fires at once it is not negative (mV)."""
        return self.spike.margin(before["v"], values["v"], self.v_th)

    def reset(self, values: Values, fired: Array) -> Values:
        """The state after the spikes `fired` (1 or 0): the same."""
        return values

    def outlasts(self, fired: Array) -> Array:
        """The part of an arrival before the reset that is left after it."""
        return jnp.ones_like(fired)

    def receive(self, values: Values, amount: Array) -> Values:
        """The state after arrivals at a `Delta` receptor (mV)."""
        return {**values, "v": values["v"] + amount}


def _kinetics(
    a: ArrayLike, v_0: ArrayLike, s: ArrayLike, low: float | None = 0.0
) -> tuple[Array, Array, Array]:
    check_parameter("a", a, low=low)
    check_parameter("v_0", v_0)
    check_parameter("s", s)
    slope = concrete(s)
    if slope is None:
        doubt(lambda slope: slope == 0, s)
    elif np.any(slope == 0):
        raise ValueError(f"s={s} is 0; give the mV in which the rate grows e-fold")
    return as_real(a), as_real(v_0), as_real(s)
