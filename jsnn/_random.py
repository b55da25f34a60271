"""Random numbers as a function of a key, a step and a cell, and of nothing else.

Drawing by counter is what makes a run independent of how it is cut into blocks and segments,
batched, resumed, or spread over devices: every cell knows its own numbers.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

TILE = 128  # cells are padded to, and divided over devices by, tiles of so many

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def key_words(key: Array) -> Array:
    """Any JAX key as the two words `[2]` that the counters are encrypted with."""
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = jax.random.key_data(key) if is_typed else key
    if words.shape != (2,):  # not Threefry's
        return jax.random.bits(key, (2,), jnp.uint32)
    return jnp.asarray(words)


def threefry(key: Array, high: Array, low: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011, SC '11): two words for each counter.

    It is the cipher of `jax.random`, whose own lowering on CPU rolls the rounds into a loop and
    takes three times as long for the 187,500 draws of a block of the Brunel network.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = high + keys[0], low + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = (y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))
            y = y ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def threefry_by_loop(key: Array, high: Array, low: Array) -> tuple[Array, Array]:
    """The same words with the rounds rolled into a loop, which compiles in a fraction of the time:
    for what is not drawn at every step."""
    keys = jnp.stack([key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA)])
    groups = np.arange(5)
    added = keys[(groups + 1) % 3], (keys[(groups + 2) % 3].T + (groups + 1).astype(np.uint32)).T
    rotations = jnp.asarray(np.asarray(_ROTATIONS, np.uint32)[groups % 2])

    def four(words: tuple[Array, Array], group: tuple[Array, Array, Array]) -> Any:
        (x, y), (to_x, to_y, rotations) = words, group
        for i in range(4):
            x = x + y
            y = ((y << rotations[i]) | (y >> (np.uint32(32) - rotations[i]))) ^ x
        return (x + to_x, y + to_y), None

    high, low = jnp.broadcast_arrays(high, low)
    return lax.scan(four, (high + keys[0], low + keys[1]), (*added, rotations))[0]


def cell_words(key: Array, steps: Array, first_cell: Array | int, n: int) -> Array:
    """One uint32 for each step and cell, `[len(steps), n]`.

    `first_cell` and `n` are multiples of `TILE`. A counter is (step, half of a tile), and its two
    words go to the two halves.
    """
    draw = functools.partial(_cell_words, n=n)

    def by_itself(key: Array, steps: Array, first_cell: Array) -> Array:
        # Always true, which XLA cannot tell, and it melts no branch with what reads the words: the
        # cipher would otherwise run anew for every member of a batch that shares them.
        always = steps[0] > np.iinfo(np.int32).min
        empty = jnp.zeros((steps.shape[0], n), jnp.uint32)
        return lax.cond(always, draw, lambda *_: empty, key, steps, first_cell)

    first = jnp.asarray(first_cell, jnp.uint32)
    return lax.platform_dependent(key, steps, first, cpu=by_itself, default=draw)


def _cell_words(key: Array, steps: Array, first_cell: Array, n: int) -> Array:
    half = TILE // 2
    shape = (steps.shape[0], n // TILE, half)
    tiles = first_cell // TILE + lax.broadcasted_iota(jnp.uint32, shape, 1)
    low = tiles * half + lax.broadcasted_iota(jnp.uint32, shape, 2)
    high = jnp.broadcast_to(steps.astype(jnp.uint32)[:, None, None], shape)
    # Without the barrier XLA fuses the cipher into both halves of the stack and runs it twice.
    words = lax.optimization_barrier(threefry(key, high, low))
    return jnp.stack(words, axis=2).reshape(shape[0], n)


def normal(words: Array, dtype: np.dtype) -> Array:
    """Standard normal numbers from uint32 words, by the inverse distribution.

    The middle of each of 2^23 equal intervals is taken, so the largest is 5.3. With more of them
    float32 would round the last middle up to 1, where the inverse is infinite.
    """
    middle = (words >> 9).astype(dtype) + 0.5
    return np.sqrt(2.0).astype(dtype) * lax.erf_inv(middle * dtype.type(2.0**-22) - 1)
