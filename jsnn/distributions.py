"""Distributions that weights, delays and initial states are drawn from."""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import as_real, check_scalar, concrete, real_dtype
from jsnn._names import explained


@runtime_checkable
class Distribution(Protocol):
    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Independent values of the given shape."""
        ...


def is_distribution(value: Any) -> bool:
    """Whether a value is to be drawn; the class itself is not yet a distribution."""
    return isinstance(value, Distribution) and not isinstance(value, type)


@explained
class Uniform(eqx.Module):
    """Uniform between `low` and `high`."""

    low: Array
    high: Array

    def __init__(self, low: ArrayLike, high: ArrayLike):
        check_scalar("low", low)
        check_scalar("high", high)
        lower, upper = concrete(low), concrete(high)
        if lower is not None and upper is not None and not lower <= upper:
            raise ValueError(f"low={low} must not be above high={high}")
        self.low, self.high = as_real(low), as_real(high)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, real_dtype(), self.low, self.high)


@explained
class Normal(eqx.Module):
    """Normal with `mean` and `std`, cut to `low`..`high` (what lies outside is never drawn)."""

    mean: Array
    std: Array
    low: Array
    high: Array

    def __init__(
        self,
        mean: ArrayLike,
        std: ArrayLike,
        low: ArrayLike = -jnp.inf,
        high: ArrayLike = jnp.inf,
    ):
        check_scalar("mean", mean)
        check_scalar("std", std, low=0.0)
        check_scalar("low", low, finite=False)
        check_scalar("high", high, finite=False)
        lower, upper = concrete(low), concrete(high)
        if lower is not None and upper is not None and not lower < upper:
            raise ValueError(f"low={low} must be below high={high}")
        centre, width = concrete(mean), concrete(std)
        if centre is not None and width is not None and lower is not None and upper is not None:
            # Beyond, the inverse distribution that is drawn with runs out of digits
            if not (lower <= centre + 4 * width and upper >= centre - 4 * width):
                raise ValueError(
                    f"low={low} and high={high} leave only what is more than 4 standard "
                    f"deviations from mean={mean}, std={std}"
                )
        self.mean, self.std = as_real(mean), as_real(std)
        self.low, self.high = as_real(low), as_real(high)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        std = jnp.where(self.std > 0, self.std, 1)
        low, high = (self.low - self.mean) / std, (self.high - self.mean) / std
        drawn = jax.random.truncated_normal(key, low, high, shape, real_dtype())
        return jnp.where(self.std > 0, self.mean + self.std * drawn, self.mean)


@explained
class LogNormal(eqx.Module):
    """exp of a normal number with mean `mu` and standard deviation `sigma`."""

    mu: Array
    sigma: Array

    def __init__(self, mu: ArrayLike, sigma: ArrayLike):
        check_scalar("mu", mu)
        check_scalar("sigma", sigma, low=0.0)
        self.mu, self.sigma = as_real(mu), as_real(sigma)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jnp.exp(self.mu + self.sigma * jax.random.normal(key, shape, real_dtype()))
