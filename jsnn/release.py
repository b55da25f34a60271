"""Short-term plasticity: how much a synapse releases with each spike.

A release is a module of parameters, each a scalar, an array with one number a source or one an
edge, or a distribution to draw one an edge from. Where no parameter is given edge by edge, all
synapses of a source are in the same state, which is then kept once for the source.

It has `init()`, the values at the start; `relax(values, elapsed, first)`, what they are `elapsed`
ms after the last spike (for the `first` one, since t = 0); and `spike(values, first)`, the values
after a spike and the amount r that it releases: the spike arrives with r times the weight. The time
of a spike is that of its emission, whatever the delay.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jsnn._math import as_real, check_number, concrete, doubt, exp_slope, real_dtype
from jsnn._names import explained
from jsnn.distributions import Distribution, is_distribution

Values = dict[str, Array]
Parameter = ArrayLike | Distribution


@explained
class Constant(eqx.Module):
    """Every spike releases 1: a synapse without short-term plasticity."""

    @property
    def states(self) -> tuple[str, ...]:
        return ()

    def init(self) -> Values:
        return {}

    def relax(self, values: Values, elapsed: Array, first: Array) -> Values:
        return {}

    def spike(self, values: Values, first: Array) -> tuple[Values, Array]:
        return {}, jnp.ones(())


@explained
class TsodyksMarkram(eqx.Module):
    """Depression and facilitation (Tsodyks, Pawelzik and Markram 1998; Tsodyks 2005):

        du/dt = -u / tau_fac,  dx/dt = (1 - x) / tau_rec

    solved in closed form from spike to spike, and at a spike, in this order,

        u <- u + U (1 - u),  r = u x,  x <- x - r

    | parameter | meaning | unit | default |
    |---|---|---|---|
    | `U` | utilisation: the rise of u with a spike, and u of the first one | 1 | 0.5 |
    | `tau_rec` | recovery from depression; 1 / Omega_d | ms | 800 |
    | `tau_fac` | decay of facilitation; 1 / Omega_f; 0 for none | ms | 0 |
    | `u`, `x` | at t = 0 | 1 | 0, 1 |

    The states are `u` (utilisation) and `x` (available resources). Time constants may be infinite.
    """

    U: Any
    tau_rec: Any
    tau_fac: Any
    u: Any
    x: Any

    def __init__(
        self,
        U: Parameter = 0.5,
        tau_rec: Parameter = 800.0,
        tau_fac: Parameter = 0.0,
        *,
        u: Parameter = 0.0,
        x: Parameter = 1.0,
    ):
        self.U, self.u, self.x = _fraction("U", U), _fraction("u", u), _fraction("x", x)
        self.tau_rec, self.tau_fac = _tau("tau_rec", tau_rec), _tau("tau_fac", tau_fac, zero=True)

    @property
    def states(self) -> tuple[str, ...]:
        return ("u", "x")

    def init(self) -> Values:
        return {"u": self.u, "x": self.x}

    def relax(self, values: Values, elapsed: Array, first: Array) -> Values:
        return _recovered(values, elapsed, self.tau_rec, self.tau_fac)

    def spike(self, values: Values, first: Array) -> tuple[Values, Array]:
        return _released(values["u"] + self.U * (1 - values["u"]), values["x"])


@explained
class MaassMarkram(eqx.Module):
    """`TsodyksMarkram` with u and x of the first spike as initial values (Markram, Wang and Tsodyks
    1998; Maass and Markram 2002): they stand still until it, and it does not raise u.

    | parameter | meaning | unit | default |
    |---|---|---|---|
    | `U` | utilisation: the rise of u with a spike | 1 | 0.5 |
    | `tau_rec` | recovery from depression | ms | 800 |
    | `tau_fac` | decay of facilitation; 0 for none | ms | 0 |
    | `u`, `x` | that the first spike releases with | 1 | 0.5, 1 |

    This is NEST's tsodyks2_synapse, whose u does not follow U either: give both. The states are `u`
    and `x`; x is what a spike leaves, where NEST's status shows what it finds.
    """

    U: Any
    tau_rec: Any
    tau_fac: Any
    u: Any
    x: Any

    def __init__(
        self,
        U: Parameter = 0.5,
        tau_rec: Parameter = 800.0,
        tau_fac: Parameter = 0.0,
        *,
        u: Parameter = 0.5,
        x: Parameter = 1.0,
    ):
        self.U, self.u, self.x = _fraction("U", U), _fraction("u", u), _fraction("x", x)
        self.tau_rec, self.tau_fac = _tau("tau_rec", tau_rec), _tau("tau_fac", tau_fac, zero=True)

    @property
    def states(self) -> tuple[str, ...]:
        return ("u", "x")

    def init(self) -> Values:
        return {"u": self.u, "x": self.x}

    def relax(self, values: Values, elapsed: Array, first: Array) -> Values:
        relaxed = _recovered(values, elapsed, self.tau_rec, self.tau_fac)
        return {name: jnp.where(first, values[name], own) for name, own in relaxed.items()}

    def spike(self, values: Values, first: Array) -> tuple[Values, Array]:
        raised = values["u"] + self.U * (1 - values["u"])
        return _released(jnp.where(first, values["u"], raised), values["x"])


@explained
class Tsodyks(eqx.Module):
    """Depression and facilitation with released transmitter that is not yet recovering (Tsodyks,
    Uziel and Markram 2000), NEST's tsodyks_synapse:

        du/dt = -u / tau_fac,  dy/dt = -y / tau_psc,  dz/dt = y / tau_psc - z / tau_rec

    with x + y + z = 1, solved in closed form from spike to spike, and at a spike, in this order,

        u <- u + U (1 - u),  r = u x,  x <- x - r,  y <- y + r

    | parameter | meaning | unit | default |
    |---|---|---|---|
    | `U` | utilisation: the rise of u with a spike | 1 | 0.5 |
    | `tau_psc` | of the released transmitter; as a rule that of the receptor | ms | 3 |
    | `tau_rec` | recovery from depression | ms | 800 |
    | `tau_fac` | decay of facilitation; 0 for none | ms | 0 |
    | `u`, `x`, `y` | at t = 0; x + y is at most 1 | 1 | 0, 1, 0 |

    The states are `u` (utilisation), `x` (available) and `y` (released).
    """

    U: Any
    tau_psc: Any
    tau_rec: Any
    tau_fac: Any
    u: Any
    x: Any
    y: Any

    def __init__(
        self,
        U: Parameter = 0.5,
        tau_psc: Parameter = 3.0,
        tau_rec: Parameter = 800.0,
        tau_fac: Parameter = 0.0,
        *,
        u: Parameter = 0.0,
        x: Parameter = 1.0,
        y: Parameter = 0.0,
    ):
        self.U, self.u = _fraction("U", U), _fraction("u", u)
        self.x, self.y = _fraction("x", x), _fraction("y", y)
        self.tau_psc = _tau("tau_psc", tau_psc, infinite=False)
        self.tau_rec = _tau("tau_rec", tau_rec, infinite=False)
        self.tau_fac = _tau("tau_fac", tau_fac, zero=True)
        if not is_distribution(self.x) and not is_distribution(self.y):
            _check_sum(self.x, self.y)

    @property
    def states(self) -> tuple[str, ...]:
        return ("u", "x", "y")

    def init(self) -> Values:
        return {"u": self.u, "x": self.x, "y": self.y}

    def relax(self, values: Values, elapsed: Array, first: Array) -> Values:
        x, y = values["x"], values["y"]
        a, b = elapsed / self.tau_psc, elapsed / self.tau_rec
        # Of y, exp(-b) + b (exp(-a) - exp(-b)) / (b - a) is not in x yet
        between, recovered = b * exp_slope(a, b), -jnp.expm1(-b)
        return {
            "u": values["u"] * _decay(elapsed, self.tau_fac),
            "x": x + (recovered - between) * y + recovered * (1 - x - y),
            "y": y * jnp.exp(-a),
        }

    def spike(self, values: Values, first: Array) -> tuple[Values, Array]:
        u = values["u"] + self.U * (1 - values["u"])
        r = u * values["x"]
        return {"u": u, "x": values["x"] - r, "y": values["y"] + r}, r


Release = Constant | TsodyksMarkram | MaassMarkram | Tsodyks


class ReleaseState(eqx.Module):
    """What the synapses of a projection remember.

    `values` by name, `[n_pre]` or, where parameters are of edges, `[n_edges]`: those just after the
    last spike. `last` `[n_pre]` is the step of that spike, -1 before the first. `deviation` is
    zero, of the shape of the values, and only there where gradients are (see `step`); else empty.
    """

    values: Values
    last: Array
    deviation: Values


def at(release: Any, index: Array) -> Any:
    """The parameters, or values, of some sources or edges."""
    return jax.tree.map(lambda leaf: leaf[index] if jnp.ndim(leaf) else leaf, release)


def spike(
    release: Release, values: Values, last: Array, step: Array, dt: float
) -> tuple[Values, Array]:
    """Values after a spike at a step, and what it releases."""
    first, elapsed = since(last, step, dt)
    return release.spike(release.relax(values, elapsed, first), first)


def step(
    release: Release, state: ReleaseState, last: Array, fired: Array, step: Array, dt: float
) -> tuple[Values, Values, Array]:
    """Values and deviations after the spikes `fired` (1 or 0) of a step, and what they release.

    All of one shape; `last` is here that of each value. Differentiable in parameters, values and
    `fired`. A cell that nearly fired would have changed the values of this step, but they are kept
    as they were at its last spike, and to reckon back to that overflows. So the change is kept
    apart, in the deviations: they are always zero, but carry the gradient from step to step.
    """
    first, elapsed = since(last, step, dt)
    relaxed, deviation = release.relax(state.values, elapsed, first), {}
    if state.deviation:
        one = lambda values: release.relax(values, jnp.asarray(dt, real_dtype()), first)  # noqa: E731
        _, deviation = jax.jvp(one, (lax.stop_gradient(relaxed),), (state.deviation,))
        relaxed = {name: own + deviation[name] for name, own in relaxed.items()}
    after, r = release.spike(relaxed, first)
    amount = fired * r
    now = fired > 0
    values = {name: jnp.where(now, after[name], own) for name, own in state.values.items()}
    if state.deviation:
        zero = fired - lax.stop_gradient(fired)
        moved = {name: zero * (after[name] - relaxed[name]) for name in values}
        values = {name: own + jnp.where(now, moved[name], 0) for name, own in values.items()}
        deviation = {name: jnp.where(now, 0, own + moved[name]) for name, own in deviation.items()}
    return values, deviation, amount


def since(last: Array, step: Array, dt: float) -> tuple[Array, Array]:
    """Whether there was no spike yet, and the time since the last one, or since t = 0."""
    return last < 0, (step - last).astype(real_dtype()) * dt


def _recovered(values: Values, elapsed: Array, tau_rec: Array, tau_fac: Array) -> Values:
    return {
        "u": values["u"] * _decay(elapsed, tau_fac),
        "x": 1 + (values["x"] - 1) * jnp.exp(-elapsed / tau_rec),
    }


def _released(u: Array, x: Array) -> tuple[Values, Array]:
    """The values after a spike with utilisation u, and what it releases."""
    r = u * x
    return {"u": u, "x": x - r}, r


def _decay(elapsed: Array, tau: Array) -> Array:
    """exp(-elapsed / tau), for tau of 0 too, where it is 1 at 0."""
    none = tau == 0
    decay = jnp.exp(-elapsed / jnp.where(none, 1, tau))
    return jnp.where(none, (elapsed == 0).astype(decay.dtype), decay)


def _check_sum(x: Array, y: Array) -> None:
    try:
        np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        return  # the projection looks at it
    known = concrete(x), concrete(y)
    if known[0] is None or known[1] is None:
        doubt(lambda x, y: x + y > 1 + 1e-6, x, y)
        return
    total = (known[0] + known[1]).max(initial=0.0)
    if total > 1 + 1e-6:
        raise ValueError(f"x + y is {total:g}; give at most 1")


def _fraction(name: str, value: Any) -> Any:
    if is_distribution(value):
        return value
    check_number(name, value, low=0.0)
    known = concrete(value)
    if known is None:
        doubt(lambda value: value > 1, value)
    elif known.size and known.max() > 1:
        raise ValueError(f"{name}={known.max():g} must be at most 1")
    return as_real(value)


def _tau(name: str, value: Any, *, zero: bool = False, infinite: bool = True) -> Any:
    if is_distribution(value):
        return value
    check_number(name, value, low=0.0, strict=not zero, finite=not infinite)
    return as_real(value)
