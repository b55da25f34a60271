"""The step function with a chosen pseudo-derivative."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import as_real, check_scalar


@jax.custom_jvp
def _triangular(x: Array, width: Array) -> Array:
    return (x >= 0).astype(x.dtype)


@_triangular.defjvp
def _triangular_jvp(primals, tangents):
    x, width = primals
    slope = jnp.maximum(0, 1 - jnp.abs(x) / width) / width
    return _triangular(x, width), slope * tangents[0]


class Triangular(eqx.Module):
    """H(x) = 1 for x >= 0, else 0, with the pseudo-derivative max(0, 1 - |x| / width) / width.

    Its support is compact: cells further than `width` (mV) from threshold get no gradient through
    their spikes, so that the backward pass has to visit few of them. (Esser et al. 2016, PNAS 113.)
    """

    width: Array

    def __init__(self, width: ArrayLike = 5.0):
        check_scalar("width", width, low=0.0, strict=True)
        self.width = as_real(width)

    def __call__(self, x: Array) -> Array:
        """1 where x >= 0 and else 0, in the dtype of x."""
        return _triangular(jnp.asarray(x), self.width)

    def support(self, x: Array) -> Array:
        """Where the pseudo-derivative is not zero."""
        return jnp.abs(x) < self.width
