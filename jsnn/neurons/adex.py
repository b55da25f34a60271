"""The adaptive exponential integrate-and-fire neuron."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jsnn._math import as_real, check_below, check_parameter, check_threshold, concrete, doubt
from jsnn._names import explained

Values = dict[str, Array]


@explained
class AdEx(eqx.Module):
    """Adaptive exponential integrate-and-fire (Brette and Gerstner 2005, J. Neurophysiol. 94:3637):

        c_m dv/dt = g_l (e_l - v) + g_l delta_t exp((v - v_th) / delta_t) - w + i + i_e
        tau_w dw/dt = a (v - e_l) - w

    with the spike where v reaches v_peak, at which v becomes v_reset and w rises by b, at the time
    of the spike within the step. v then stays at v_reset for the rest of the step and for t_ref, or
    goes on at once where t_ref is 0. A cell fires at most once a step; what would be its second
    spike falls into the next one. With delta_t = 0 there is no exponential, and v_th is where it
    fires: never, where v_th and v_peak are infinite.

    | parameter | meaning | unit | default |
    |---|---|---|---|
    | `c_m` | membrane capacitance | pF | 281 |
    | `g_l`, `e_l` | leak conductance and its reversal potential | nS, mV | 30, -70.6 |
    | `v_th` | threshold of the upstroke | mV | -50.4 |
    | `delta_t` | its sharpness | mV | 2 |
    | `v_peak` | potential of the spike | mV | 0 |
    | `v_reset` | reset potential | mV | -60 |
    | `t_ref` | refractory time, whole steps | ms | 0 |
    | `tau_w` | time constant of the adaptation | ms | 144 |
    | `a`, `b` | its coupling to the membrane, and its jump at a spike | nS, pA | 4, 80.5 |
    | `i_e` | constant current | pA | 0 |

    Defaults are those of NEST's aeif_cond_alpha. A parameter is a scalar, an array `[n]` or a
    distribution. States are `v` (mV) and the adaptation current `w` (pA); they start at e_l and 0
    unless the population says otherwise.

    A solver moves them in coordinates in which the upstroke is smooth, so that steps need not be
    short in it and the time of a spike is found within the step. With q = 1 - s and

        u = -delta_t log(1 + exp((v_th - v) / delta_t)),  s = 1 - exp(u / delta_t)

    which is about v - v_th below threshold and tends to 0 as v explodes, the membrane is

        c_m du/dt = s (g_l (e_l - v) - w + i + i_e) + q g_l delta_t,  v = v_th + u - delta_t log(s)

    Its slope is that of a line where the spike is. There the slope of w has the singularity of
    log(s), which is taken out by moving w - k (s log(s) - s), k = a delta_t c_m / (tau_w g_l).
    One substep of `RK4` does for 0.1 ms as long as currents move v by less than about delta_t in
    it; where they are stronger, give it more.
    """

    c_m: Array
    g_l: Array
    e_l: Array
    v_th: Array
    delta_t: Array
    v_peak: Array
    v_reset: Array
    t_ref: Array
    tau_w: Array
    a: Array
    b: Array
    i_e: Array

    def __init__(
        self,
        *,
        c_m: ArrayLike = 281.0,
        g_l: ArrayLike = 30.0,
        e_l: ArrayLike = -70.6,
        v_th: ArrayLike = -50.4,
        delta_t: ArrayLike = 2.0,
        v_peak: ArrayLike = 0.0,
        v_reset: ArrayLike = -60.0,
        t_ref: ArrayLike = 0.0,
        tau_w: ArrayLike = 144.0,
        a: ArrayLike = 4.0,
        b: ArrayLike = 80.5,
        i_e: ArrayLike = 0.0,
    ):
        for name, value in (("c_m", c_m), ("g_l", g_l), ("tau_w", tau_w)):
            check_parameter(name, value, low=0.0, strict=True)
        for name, value in (("delta_t", delta_t), ("t_ref", t_ref)):
            check_parameter(name, value, low=0.0)
        for name, value in (("e_l", e_l), ("a", a), ("b", b), ("i_e", i_e), ("v_reset", v_reset)):
            check_parameter(name, value)
        for name, value in (("v_th", v_th), ("v_peak", v_peak)):
            check_threshold(name, value)
        self.c_m, self.g_l, self.e_l = as_real(c_m), as_real(g_l), as_real(e_l)
        self.v_th, self.delta_t = as_real(v_th), as_real(delta_t)
        self.v_peak, self.v_reset = as_real(v_peak), as_real(v_reset)
        self.t_ref, self.tau_w = as_real(t_ref), as_real(tau_w)
        self.a, self.b, self.i_e = as_real(a), as_real(b), as_real(i_e)
        check_below("v_th", self.v_th, "v_peak", self.v_peak, strict=False)
        check_below("v_reset", self.v_reset, "v_peak", self.v_peak)
        # Where there is no upstroke it fires at v_th, and would at every step
        sharpness, threshold, peak = map(concrete, (self.delta_t, self.v_th, self.v_peak))
        if sharpness is None or peak is None:
            doubt(lambda d, p: (d > 0) & jnp.isinf(p), self.delta_t, self.v_peak)
        else:
            bent = np.where(sharpness > 0, peak, -np.inf)
            check_below("v_peak", bent, "infinity", np.inf, why=", as delta_t is not 0")
        if sharpness is None or threshold is None:
            flat = self.delta_t, self.v_reset, self.v_th
            doubt(lambda d, reset, threshold: (d == 0) & (reset >= threshold), *flat)
        else:
            flat = np.where(sharpness == 0, threshold, np.inf)
            check_below("v_reset", self.v_reset, "v_th", flat, why=", as delta_t is 0")

    @property
    def is_linear(self) -> bool:
        return False

    @property
    def is_stiff(self) -> bool:
        """Whether states may be much faster than a step: not in the coordinates of the solver."""
        return False

    @property
    def is_spiking(self) -> bool:
        return True

    @property
    def resets_within(self) -> bool:
        """Whether the reset takes place within a step, in the coordinates of the solver."""
        return True

    @property
    def frozen(self) -> tuple[str, ...]:
        """The states that stand still while the cell is refractory."""
        return ("v",)

    def initial(self) -> Values:
        return {"v": self.e_l, "w": 0.0 * self.e_l}

    def inner(self, values: Values) -> Values:
        """The coordinates that a solver moves: u as `v`, and w without its singularity."""
        u = self._u(values["v"])
        return {"v": u, "w": values["w"] - self._singular(self._upstroke(u))}

    def outer(self, inner: Values) -> Values:
        """The states at these coordinates, with v at most at its peak."""
        up, peak = self._upstroke(jnp.minimum(inner["v"], self._u_peak)), self.v_peak
        peak = jnp.where(self.delta_t > 0, peak, self.v_th)  # where s may be too small to tell
        v = jnp.where(inner["v"] >= self._u_peak, peak, jnp.minimum(up.v, peak))
        return {"v": v, "w": inner["w"] + self._singular(up)}

    def vector_field(
        self,
        inner: Values,
        current: Callable[[Array], Array],
        frozen: Array | bool,
        pace: Array | None = None,
    ) -> Values:
        """The slopes of the coordinates, under a current that is a function of v; of membranes that
        move at a part of their pace, with what w's coordinate has of their motion."""
        up = self._upstroke(inner["v"])
        w = inner["w"] + self._singular(up)
        rest = self.g_l * (self.e_l - up.v) - w + current(up.v) + self.i_e
        du = (up.s * rest + up.q * (self.g_l * self.delta_t)) * (1 / self.c_m)
        du = jnp.where(frozen, 0, du if pace is None else du * pace)
        dw = (self.a * (up.v - self.e_l) - w) * (1 / self.tau_w)
        return {"v": du, "w": dw + self._k * up.log_s * up.q * (1 / self._sharpness) * du}

    def overshoot(self, inner: Values) -> Array:
        """How far the coordinate u is beyond that of the spike; negative before it (mV)."""
        return inner["v"] - self._u_peak

    def reset_within(self, inner: Values) -> Values:
        """The coordinates after a spike, of those at its peak."""
        u = jnp.broadcast_to(self._u(self.v_reset), inner["v"].shape)
        at_peak = self._singular(self._upstroke(self._u_peak))
        w = inner["w"] + at_peak + self.b - self._singular(self._upstroke(self._u(self.v_reset)))
        return {"v": u, "w": w}

    def margin(self, before: Values, values: Values) -> Array:
        """What the cell fires at once it is not negative (mV, of the coordinate u)."""
        return self._u(values["v"]) - self._u_peak

    def reset(self, values: Values, fired: Array) -> Values:
        """The state after the spikes `fired` (1 or 0).

        Most spikes have been within the step, and have gradients by their times: beside them a
        pseudo-derivative would be wrong, and in bursts grow without bounds.
        """
        fired = lax.stop_gradient(fired)
        v = (1 - fired) * values["v"] + fired * self.v_reset
        return {"v": v, "w": values["w"] + fired * self.b}

    def outlasts(self, fired: Array) -> Array:
        """The part of an arrival before the reset that is left after it."""
        return 1 - lax.stop_gradient(fired)

    def receive(self, values: Values, amount: Array) -> Values:
        """The state after arrivals at a `Delta` receptor (mV)."""
        return {**values, "v": values["v"] + amount}

    @property
    def _sharpness(self) -> Array:
        """delta_t, and 1 where that is 0 and nothing depends on it."""
        return jnp.where(self.delta_t > 0, self.delta_t, 1)

    @property
    def _k(self) -> Array:
        return self.a * self.delta_t * self.c_m / (self.tau_w * self.g_l)

    @property
    def _origin(self) -> Array:
        """Where the coordinate u begins: v_th, and 0 where that is infinite."""
        return jnp.where(jnp.isinf(self.v_th), 0, self.v_th)

    @property
    def _u_peak(self) -> Array:
        never = jnp.where(jnp.isinf(self.v_th), jnp.inf, 0)
        return jnp.where(self.delta_t > 0, self._u(self.v_peak), never)

    def _u(self, v: Array) -> Array:
        bent = -self._sharpness * jax.nn.softplus((self._origin - v) / self._sharpness)
        return jnp.where(self.delta_t > 0, bent, v - self._origin)

    def _upstroke(self, u: Array) -> "_Upstroke":
        # Beyond the spike, where stages of a solver may be, the slope stays that at the spike: were
        # it to fall further, strong currents would pull u back, and the spike would be lost
        bent, d = self.delta_t > 0, self._sharpness
        s = jnp.where(bent, 1 - jnp.exp(jnp.minimum(u * (1 / d), 0.0)), 1)
        # What the logarithm is multiplied by vanishes with it
        log_s = jnp.log(jnp.maximum(s, jnp.finfo(s.dtype).tiny ** 0.4))
        return _Upstroke(self._origin + u - d * log_s, s, 1 - s, log_s)

    def _singular(self, up: "_Upstroke") -> Array:
        return self._k * (up.s * up.log_s - up.s)


class _Upstroke(NamedTuple):
    v: Array
    s: Array
    q: Array
    log_s: Array
