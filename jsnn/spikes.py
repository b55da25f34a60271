"""Spikes as bits: 32 cells a word, and lists of those that are set.

A block of steps is packed to words `[steps, n / 32]`. They are what recorders keep, what devices
exchange, and what the delivery finds spikes in, or a list of them (step, cell): 1/8 byte a cell
and step, so no capacity can be exceeded and nothing can be lost.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

WORD = 32


def pack(fired: Array) -> Array:
    """Booleans `[steps, n]`, n a multiple of 32, as words `[steps, n / 32]`, low bits first."""
    steps, n = fired.shape
    # Four bytes of 0 or 1 are gathered to four bits by one multiplication, whose carries do not
    # meet: twice as fast on CPU as shifting every bit by itself.
    bytes_ = fired.astype(jnp.uint8).reshape(steps, n // 4, 4)
    four = (lax.bitcast_convert_type(bytes_, jnp.uint32) * jnp.uint32(0x10204080)) >> 28
    eight = four.reshape(steps, n // WORD, 8) << (4 * jnp.arange(8, dtype=jnp.uint32))
    return jnp.sum(eight, axis=-1, dtype=jnp.uint32)


def unpack(words: Array, n: int) -> Array:
    """The inverse of `pack`: booleans `[..., n]`."""
    bits = (words[..., None] >> jnp.arange(WORD, dtype=jnp.uint32)) & 1
    return bits.reshape(*words.shape[:-1], -1)[..., :n].astype(bool)


def listed(words: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Step and cell of every spike of cells low..high-1, in that order, on the host."""
    first = low // WORD
    words = np.ascontiguousarray(words[:, first : -(-high // WORD)])
    # Flat arrays of booleans, which NumPy searches five times as fast as those of more dimensions.
    which = np.flatnonzero((words != 0).reshape(-1))
    bytes_ = words.reshape(-1)[which].astype("<u4").view(np.uint8)
    found = np.flatnonzero(np.unpackbits(bytes_, bitorder="little").view(bool))
    row, column = np.divmod(which[found // WORD], max(words.shape[1], 1))
    cell = (first + column) * WORD + found % WORD
    if low % WORD or high % WORD:  # the first and the last word reach beyond
        kept = (cell >= low) & (cell < high)
        row, cell = row[kept], cell[kept]
    return row, cell - low


class Index(NamedTuple):
    """What `compact` needs to find spike number s: words, and the spikes before each."""

    words: Array  # [m]
    before: Array  # [m] int32
    total: Array  # int32


def index(words: Array) -> Index:
    """Prepare flat words `[m]` for `compact`."""
    counts = lax.population_count(words).astype(jnp.int32)
    upto = _cumsum(counts)
    return Index(words, upto - counts, upto[-1])


def compact(spikes: Index, first: Array, capacity: int) -> tuple[Array, Array]:
    """Words and bits of the set bits number first..first+capacity-1, int32 `[capacity]` each.

    Beyond `spikes.total` they mean nothing, but the words exist.
    """
    words, before, _ = spikes
    slots = jnp.arange(capacity, dtype=jnp.int32)
    counts = lax.population_count(words).astype(jnp.int32)
    # Every word with spikes writes its number at the slot of its first one; a running maximum
    # then tells each slot its word.
    wanted = (before + counts > first) & (counts > 0)
    slot = jnp.where(wanted, jnp.maximum(before - first, 0), capacity)
    numbers = jnp.arange(words.shape[0], dtype=jnp.int32)
    word = lax.cummax(jnp.zeros(capacity, jnp.int32).at[slot].set(numbers, mode="drop"))
    rank = first + slots - before[word]
    return word, _select(words[word], rank.astype(jnp.uint32))


def _select(word: Array, rank: Array) -> Array:
    """The position of the set bit with `rank` set bits below it, by halving."""
    position = jnp.zeros_like(word)
    for width in (16, 8, 4, 2, 1):
        count = lax.population_count((word >> position) & jnp.uint32((1 << width) - 1))
        above = rank >= count
        rank = jnp.where(above, rank - count, rank)
        position = jnp.where(above, position + width, position)
    return position.astype(jnp.int32)


def _cumsum(counts: Array) -> Array:
    """Cumulative sum of counts `[m]`, at most 32 each.

    As products with triangular matrices, a row of 32 at a time and then over the rows: exact in
    float32 below 2^24, and a fifth of the time of `jnp.cumsum` on CPU, whatever m.
    """
    if not 256 <= counts.shape[0] < 2**24 // WORD:
        return jnp.cumsum(counts)
    return _cumsum_exact(counts.astype(jnp.float32)).astype(jnp.int32)


def _cumsum_exact(values: Array) -> Array:
    m, width = values.shape[0], 32
    rows = -(-m // width)
    table = jnp.pad(values, (0, rows * width - m)).reshape(rows, width)
    triangle = np.tri(width, dtype=np.float32)
    within = jnp.matmul(table, triangle.T, precision=lax.Precision.HIGHEST)
    if rows > 1:
        totals = within[:, -1]
        within += (_cumsum_exact(totals) - totals)[:, None]
    return within.reshape(-1)[:m]
