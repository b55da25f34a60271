"""The leaky integrate-and-fire neuron."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import as_real, check_below, check_parameter, check_threshold
from jsnn._names import explained

Values = dict[str, Array]


@explained
class LIF(eqx.Module):
    """Leaky integrate-and-fire (Lapicque 1907; Tuckwell 1988):

        dv/dt = -(v - e_l) / tau_m + (i + i_e) / c_m

    with the spike at v >= v_th, after which v is v_reset for t_ref.

    | parameter | meaning | unit | default |
    |---|---|---|---|
    | `tau_m` | membrane time constant | ms | 10 |
    | `c_m` | membrane capacitance | pF | 250 |
    | `e_l` | resting potential | mV | -70 |
    | `v_th` | threshold; none, where it is infinite | mV | -55 |
    | `v_reset` | reset potential | mV | -70 |
    | `t_ref` | refractory time, whole steps | ms | 2 |
    | `i_e` | constant current | pA | 0 |

    Defaults are those of NEST's iaf_psc_alpha. A parameter is a scalar, an array `[n]` or a
    distribution. The state is `v` (mV); it starts at e_l unless the population says otherwise.
    """

    tau_m: Array
    c_m: Array
    e_l: Array
    v_th: Array
    v_reset: Array
    t_ref: Array
    i_e: Array

    def __init__(
        self,
        *,
        tau_m: ArrayLike = 10.0,
        c_m: ArrayLike = 250.0,
        e_l: ArrayLike = -70.0,
        v_th: ArrayLike = -55.0,
        v_reset: ArrayLike = -70.0,
        t_ref: ArrayLike = 2.0,
        i_e: ArrayLike = 0.0,
    ):
        check_parameter("tau_m", tau_m, low=0.0, strict=True)
        check_parameter("c_m", c_m, low=0.0, strict=True)
        check_parameter("t_ref", t_ref, low=0.0)
        for name, value in (("e_l", e_l), ("v_reset", v_reset), ("i_e", i_e)):
            check_parameter(name, value)
        check_threshold("v_th", v_th)
        check_below("v_reset", v_reset, "v_th", v_th, why=", or the cell fires at every step")
        self.tau_m, self.c_m, self.e_l = as_real(tau_m), as_real(c_m), as_real(e_l)
        self.v_th, self.v_reset = as_real(v_th), as_real(v_reset)
        self.t_ref, self.i_e = as_real(t_ref), as_real(i_e)

    @property
    def is_linear(self) -> bool:
        return True

    @property
    def is_stiff(self) -> bool:
        """Whether states may be much faster than a step."""
        return False

    @property
    def is_spiking(self) -> bool:
        return True

    @property
    def resets_within(self) -> bool:
        """Whether the reset takes place within a step, in the coordinates of the solver."""
        return False

    @property
    def frozen(self) -> tuple[str, ...]:
        """The states that stand still while the cell is refractory."""
        return ("v",)

    def initial(self) -> Values:
        return {"v": self.e_l}

    def vector_field(
        self, values: Values, current: Callable[[Array], Array], frozen: Array | bool
    ) -> Values:
        """The slopes of the states, under a current that is a function of v."""
        # One division by cell: it is the slowest operation here, and what is shared is done once
        leak = self.c_m / self.tau_m * (self.e_l - values["v"])
        slope = (leak + current(values["v"]) + self.i_e) / self.c_m
        return {"v": jnp.where(frozen, 0, slope)}

    def margin(self, before: Values, values: Values) -> Array:
        """What the cell fires at once it is not negative (mV)."""
        return values["v"] - self.v_th

    def reset(self, values: Values, fired: Array) -> Values:
        """The state after the spikes `fired` (1 or 0)."""
        # Exact for 0 and 1, and differentiable in `fired`, which a `where` is not.
        return {**values, "v": (1 - fired) * values["v"] + fired * self.v_reset}

    def outlasts(self, fired: Array) -> Array:
        """The part of an arrival before the reset that is left after it."""
        return 1 - fired

    def receive(self, values: Values, amount: Array) -> Values:
        """The state after arrivals at a `Delta` receptor (mV)."""
        return {**values, "v": values["v"] + amount}
