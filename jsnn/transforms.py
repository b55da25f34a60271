"""Ranges of parameters, and the coordinates without bounds in which an optimizer moves them.

`to_free` takes a value to its coordinate and `to_value` takes it back, elementwise. They are the
`bounds` of `jsnn.fit`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import as_real, check_below, check_number, concrete
from jsnn._names import explained


@explained
class Free(eqx.Module):
    """Any value: y = x / scale.

    A step of an optimizer such as Adam is of one size in all coordinates, so `scale` is best of the
    size by which the parameter may be off: 10 (mV) of a reversal potential, say.
    """

    scale: Array

    def __init__(self, scale: ArrayLike = 1.0):
        check_number("scale", scale, low=0.0, strict=True)
        self.scale = as_real(scale)

    def check(self, name: str, value: ArrayLike) -> None:
        check_number(name, value)

    def to_free(self, value: Array) -> Array:
        return value / self.scale

    def to_value(self, free: Array) -> Array:
        return free * self.scale


@explained
class Positive(eqx.Module):
    """Values above 0: y = log(x). A step in it is a factor, whatever the unit."""

    def check(self, name: str, value: ArrayLike) -> None:
        check_number(name, value)
        known = concrete(value)
        if known is not None and np.any(known <= 0):
            raise ValueError(f"{name}={known} is not above 0, as Positive() wants")

    def to_free(self, value: Array) -> Array:
        return jnp.log(value)

    def to_value(self, free: Array) -> Array:
        return jnp.exp(free)


@explained
class Bounded(eqx.Module):
    """Values between `low` and `high`: y = log((x - low) / (high - x)), so that
    x = low + (high - low) / (1 + exp(-y)).

    Bounds are scalars, or arrays that broadcast to the parameter. Near a bound a step moves the
    value little: they should be wider than what is expected.
    """

    low: Array
    high: Array

    def __init__(self, low: ArrayLike, high: ArrayLike):
        check_number("low", low)
        check_number("high", high)
        check_below("low", low, "high", high)
        self.low, self.high = as_real(low), as_real(high)

    def check(self, name: str, value: ArrayLike) -> None:
        check_number(name, value)
        known, low, high = concrete(value), concrete(self.low), concrete(self.high)
        if known is None or low is None or high is None:
            return
        # As the coordinates see it
        rounded = known.astype(low.dtype)
        if np.any((rounded <= low) | (rounded >= high)):
            raise ValueError(f"{name}={known} is not between {low} and {high}, as Bounded() wants")

    def to_free(self, value: Array) -> Array:
        return jnp.log(value - self.low) - jnp.log(self.high - value)

    def to_value(self, free: Array) -> Array:
        # Of both ends a part, so that rounding does not lead beyond either
        return self.low * jax.nn.sigmoid(-free) + self.high * jax.nn.sigmoid(free)


Transform = Free | Positive | Bounded
