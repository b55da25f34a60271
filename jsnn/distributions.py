"""Distributions that weights, delays, parameters of cells and initial states are drawn from."""

import functools
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.extend.random import define_prng_impl
from jax.typing import ArrayLike

from jsnn._math import as_array, as_real, check_dtype, check_scalar, concrete, real_dtype
from jsnn._math import is_distribution as is_distribution
from jsnn._names import explained
from jsnn._random import key_words, threefry_by_loop

_AT_ONCE = 2**15  # numbers: a millisecond's work
_FEW = 16  # numbers: XLA takes the exponential of fewer by other instructions, to other last bits


@runtime_checkable
class Distribution(Protocol):
    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Independent values of the given shape."""
        ...


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


def drawn(distribution: Distribution, key: Array, n: int) -> np.ndarray | Array:
    """The numbers of `distribution.draw(key, (n,))`, to the last bit, on the host unless they are
    traced. Those of this module are drawn so many at a time: one program serves every n.

    Raises `TypeError` for a distribution that draws numbers of half precision."""
    values = _drawn(distribution, key, n)
    check_dtype(f"what {type(distribution).__name__} draws", values)
    return values


def _drawn(distribution: Distribution, key: Array, n: int) -> np.ndarray | Array:
    if isinstance(key, Tracer) or isinstance(jnp.zeros(()), Tracer):
        return distribution.draw(key, (n,))
    few = _FEW if isinstance(distribution, LogNormal) else 0
    is_ours = isinstance(distribution, (Uniform, Normal, LogNormal))
    if not is_ours or n < few or not _is_by_place(key):
        values = distribution.draw(key, (n,))
        return values if concrete(values) is None else np.asarray(values)
    words, made = np.asarray(key_words(key)), []
    for first in range(0, n, _AT_ONCE):
        start = np.array([*words, first >> 32, first & (2**32 - 1)], np.uint32)
        own = jax.random.wrap_key_data(as_array(start), impl=_threefry_from())
        some = distribution.draw(own, (_AT_ONCE,))
        if concrete(some) is None:  # a parameter is traced
            return distribution.draw(key, (n,))
        made.append(np.asarray(some))
    return np.concatenate(made)[:n] if made else np.empty(0, real_dtype())


def _is_by_place(key: Array) -> bool:
    """Whether each number that JAX draws with a key is a function of the key and of its place."""
    if not getattr(jax.config, "jax_threefry_partitionable", False):
        return False
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return str(jax.random.key_impl(key)) == "threefry2x32" if is_typed else key.shape == (2,)


@functools.cache
def _threefry_from() -> Any:
    """JAX's Threefry from some place on: its keys are two words, and the place in two more."""

    def bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
        (n,), dtype = shape, np.dtype(f"uint{width}")
        low = key[3] + jnp.arange(n, dtype=jnp.uint32)
        high = key[2] + (low < key[3]).astype(jnp.uint32)  # where the sum went round
        first, second = threefry_by_loop(key[:2], high, low)
        if width == 32:
            return first ^ second
        return (first.astype(dtype) << dtype.type(32)) | second.astype(dtype)

    def none(*_: Any) -> Array:
        raise NotImplementedError("such a key is drawn with once")

    return define_prng_impl(
        key_shape=(4,), seed=none, split=none, random_bits=bits, fold_in=none, name="threefry_from"
    )
