"""Orders by keys that are integers, faster than XLA sorts several arrays together.

A CPU sorts one array in a sixth of the time that it takes for two, of which the second only goes
along. So a key and the place where it stood are sorted as one number, if one has room for both.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

_HALF = np.uint32(2**16)


def in_order(values: Array, most: int) -> tuple[Array, Array]:
    """Values `[n]` from 0 to `most`, sorted, and which each was; equal ones keep their order."""
    size = values.shape[0]
    if (most + 1) * max(size, 1) > 2**32:
        order = jnp.argsort(values, stable=True)
        return values[order], order
    both = values.astype(jnp.uint32) * np.uint32(size) + jnp.arange(size, dtype=jnp.uint32)
    values, order = jnp.divmod(jnp.sort(both), np.uint32(max(size, 1)))
    return values.astype(jnp.int32), order.astype(jnp.int32)


def order_of(words: Array) -> Array:
    """Where the words `[n]` of 32 bits stood, from the least on; equal ones keep their order."""
    if words.shape[0] > _HALF:
        return jnp.argsort(words, stable=True)
    order = in_order(words % _HALF, int(_HALF) - 1)[1]  # by their lower half, and then the upper
    return order[in_order((words // _HALF)[order], int(_HALF) - 1)[1]]
