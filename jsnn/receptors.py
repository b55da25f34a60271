"""Linear filters from arriving spikes to a current or a conductance.

`weight_sign` of a receptor is the sign that weights onto it must have, and None where they may have
either.
"""

import math

import equinox as eqx
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import as_real, check_parameter
from jsnn._names import explained

Values = dict[str, Array]


@explained
class Delta(eqx.Module):
    """An arrival moves the membrane by its weight (mV), and is lost on a refractory cell; whether
    before or after the threshold of its step says `jsnn.order`. Of an astrocyte it raises IP3."""

    @property
    def is_conductance(self) -> bool:
        return False

    @property
    def weight_sign(self) -> int | None:
        return None

    @property
    def states(self) -> tuple[str, ...]:
        return ()

    def vector_field(self, values: Values) -> Values:
        return {}

    def after(self, values: Values, elapsed: ArrayLike) -> Values:
        return {}

    def receive(self, values: Values, amount: Array) -> Values:
        return {}

    def current(self, values: Values, v: Array) -> Array:
        return jnp.zeros((), v.dtype)


@explained
class Exponential(eqx.Module):
    """dy/dt = -y / tau; an arrival adds its weight to y.

    Without `e_rev` y is the current `i` (pA) and weights are pA; with it y is the conductance `g`
    (nS), weights are nS, and the current is g (e_rev - v).

    | parameter | meaning | unit |
    |---|---|---|
    | `tau` | time constant | ms |
    | `e_rev` | reversal potential, or None for a current | mV |

    `sign` refuses weights of the other sign: 1 or -1, for a model in which a current's time
    constant follows from the sign of the weight. Conductances take no negative weights anyway.
    """

    tau: Array
    e_rev: Array | None
    sign: int | None = eqx.field(static=True, default=None)

    def __init__(
        self, tau: ArrayLike = 2.0, e_rev: ArrayLike | None = None, *, sign: int | None = None
    ):
        self.tau, self.e_rev, self.sign = _parameters(tau, e_rev, sign)

    @property
    def is_conductance(self) -> bool:
        return self.e_rev is not None

    @property
    def weight_sign(self) -> int | None:
        return 1 if self.is_conductance else self.sign

    @property
    def states(self) -> tuple[str, ...]:
        return ("g" if self.is_conductance else "i",)

    def vector_field(self, values: Values) -> Values:
        (y,) = self.states
        return {y: -values[y] * (1 / self.tau)}

    def after(self, values: Values, elapsed: ArrayLike) -> Values:
        """The exact solution, so many ms later without arrivals."""
        (y,) = self.states
        return {y: values[y] * jnp.exp(-(elapsed / self.tau))}

    def receive(self, values: Values, amount: Array) -> Values:
        (y,) = self.states
        return {y: values[y] + amount}

    def current(self, values: Values, v: Array) -> Array:
        return _current(values[self.states[0]], self.e_rev, v)


@explained
class Alpha(eqx.Module):
    """dx/dt = -x / tau, dy/dt = x - y / tau; an arrival adds e / tau times its weight to x.

    The response to one arrival is weight * (t / tau) * exp(1 - t / tau), which peaks at the weight.
    Without `e_rev` y is the current `i` (pA) and x is `di` (pA/ms); with it they are the
    conductance `g` (nS) and `dg` (nS/ms), and the current is g (e_rev - v).

    | parameter | meaning | unit |
    |---|---|---|
    | `tau` | time constant | ms |
    | `e_rev` | reversal potential, or None for a current | mV |

    `sign` refuses weights of the other sign: 1 or -1, for a model in which a current's time
    constant follows from the sign of the weight. Conductances take no negative weights anyway.
    """

    tau: Array
    e_rev: Array | None
    sign: int | None = eqx.field(static=True, default=None)

    def __init__(
        self, tau: ArrayLike = 2.0, e_rev: ArrayLike | None = None, *, sign: int | None = None
    ):
        self.tau, self.e_rev, self.sign = _parameters(tau, e_rev, sign)

    @property
    def is_conductance(self) -> bool:
        return self.e_rev is not None

    @property
    def weight_sign(self) -> int | None:
        return 1 if self.is_conductance else self.sign

    @property
    def states(self) -> tuple[str, ...]:
        return ("dg", "g") if self.is_conductance else ("di", "i")

    def vector_field(self, values: Values) -> Values:
        x, y = self.states
        rate = 1 / self.tau
        return {x: -values[x] * rate, y: values[x] - values[y] * rate}

    def after(self, values: Values, elapsed: ArrayLike) -> Values:
        """The exact solution, so many ms later without arrivals."""
        x, y = self.states
        decay = jnp.exp(-(elapsed / self.tau))
        return {x: values[x] * decay, y: (values[y] + elapsed * values[x]) * decay}

    def receive(self, values: Values, amount: Array) -> Values:
        x, y = self.states
        return {x: values[x] + amount * (math.e / self.tau), y: values[y]}

    def current(self, values: Values, v: Array) -> Array:
        return _current(values[self.states[1]], self.e_rev, v)


Receptor = Delta | Exponential | Alpha


def _parameters(
    tau: ArrayLike, e_rev: ArrayLike | None, sign: int | None
) -> tuple[Array, Array | None, int | None]:
    check_parameter("tau", tau, low=0.0, strict=True)
    if sign not in (None, 1, -1):
        raise ValueError(f"sign={sign!r}; give 1, -1, or None for weights of either sign")
    if e_rev is not None and sign == -1:
        raise ValueError(f"sign=-1 with e_rev={e_rev}: weights onto a conductance are positive")
    if e_rev is not None:
        check_parameter("e_rev", e_rev)
        e_rev = as_real(e_rev)
    return as_real(tau), e_rev, sign


def _current(y: Array, e_rev: Array | None, v: Array) -> Array:
    return y if e_rev is None else y * (e_rev - v)
