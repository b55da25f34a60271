"""Delays that lie between steps, and can be trained."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import check_number, check_scalar, concrete, plain, real_dtype, whole_steps
from jsnn._names import explained
from jsnn.distributions import Distribution, is_distribution

_WHOLE = 1e-4  # of a step, to which a delay is whole


@explained
class Interpolated(eqx.Module):
    """A delay that need not be a whole number of steps: a spike arrives in the two steps around it,
    in parts that are linear in the delay, and sum to its weight.

    A gradient with respect to the delay passes so; at a whole number of steps it is the one towards
    longer delays. What a filtered receptor makes of the two parts differs by the square of the step
    from what it would make of a spike in between.

    **Arguments:**

    - `delay`: ms; a scalar, a distribution, or `[n_edges]`, as a projection's delay is.
    - `min`, `max`: ms, whole steps, at least one and apart. They set the shape of the buffers, and
      are what the delay is held in where training would move it out, under `jit`; there its
      gradient ends. (Where numbers are known, one beyond them is an error.)
    """

    delay: Any
    min: float = eqx.field(static=True)
    max: float = eqx.field(static=True)

    def __init__(self, delay: ArrayLike | Distribution, min: float, max: float):
        check_scalar("min", min, low=0.0, strict=True)
        check_scalar("max", max, low=0.0, strict=True)
        self.min, self.max = plain(min), plain(max)
        if self.max <= self.min:
            raise ValueError(f"max={self.max:g} ms must be above min={self.min:g} ms")
        if not is_distribution(delay):
            known = concrete(delay)
            check_number("delay", delay, low=None if known is None else 0.0)
            delay = jnp.asarray(delay, real_dtype())
            if known is not None and np.any((known < self.min - 1e-6) | (known > self.max + 1e-6)):
                raise ValueError(
                    f"delay={known.min():g} to {known.max():g} ms is not between min={self.min:g} "
                    f"and max={self.max:g} ms"
                )
        self.delay = delay

    def of(self, delay: ArrayLike) -> "Interpolated":
        """The same with other delays, as drawn."""
        return Interpolated(delay, self.min, self.max)

    def bounds(self, dt: float) -> tuple[int, int]:
        """The least and the largest delay, in steps."""
        return whole_steps("min", self.min, dt, least=1), whole_steps("max", self.max, dt, least=1)

    def parts(self, delay: Array, dt: float) -> tuple[Array, Array]:
        """Of delays (ms) the step before each, as a number of steps, and the part of a spike that
        arrives in the one after it."""
        low, high = self.bounds(dt)
        steps = delay / dt
        # Not `clip`, which halves the gradient at both ends, and those to rounding
        steps = jnp.where(steps < low - _WHOLE, low, jnp.where(steps > high + _WHOLE, high, steps))
        # What is whole to rounding stays whole
        nearest = jnp.rint(steps)
        before = jnp.where(jnp.abs(steps - nearest) < _WHOLE, nearest, jnp.floor(steps))
        before = jnp.minimum(before, high - 1)
        return before.astype(jnp.int32), steps - before
