"""Edges that come and go, in a fixed number of slots.

Those in use stand first, sorted by source, and by age within a source: rows as the delivery reads
them. What is in the other slots means nothing.
"""

from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jsnn._math import real_dtype
from jsnn._sorting import in_order
from jsnn.edges import Edges, narrow


class New(NamedTuple):
    """Edges to be added, `[room]`: their ends, counted from the first of each part, and which of
    them are real. Their weight and delay are of all."""

    pre: Array
    post: Array
    real: Array
    weight: Array | None
    delay: int | None


class Store(eqx.Module):
    """`pre`, `post` `[capacity]`, `row_ptr` `[n_pre + 1]`; `weight` and `delay` (steps)
    `[capacity]`, or None where all edges have one."""

    pre: Array
    post: Array
    row_ptr: Array
    weight: Array | None
    delay: Array | None

    @property
    def capacity(self) -> int:
        return self.post.shape[-1]

    @property
    def n_edges(self) -> Array:
        return self.row_ptr[..., -1]

    @property
    def used(self) -> Array:
        return jnp.arange(self.capacity) < self.n_edges

    @property
    def number(self) -> Array:
        """Of each edge, which of those of its source it is."""
        return jnp.arange(self.capacity, dtype=jnp.int32) - self.row_ptr[self.pre]

    def kept(self, keep: Array) -> "Store":
        """Of the edges in use, those to keep."""
        none = jnp.zeros(0, jnp.int32)
        return self.changed(keep, New(none, none, none > 0, None, None))

    def changed(self, keep: Array, new: New) -> "Store":
        """Of the edges in use those to keep, and new ones after those of their source. There has
        to be room for all."""
        n, size = self.row_ptr.shape[0] - 1, self.capacity
        keep = keep & self.used
        upto = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(keep, dtype=jnp.int32)])
        old = upto[self.row_ptr]  # where the edges of each source begin, of these alone
        source, order = in_order(jnp.where(new.real, new.pre, n), n)
        added = jnp.searchsorted(source, jnp.arange(n + 1), method="scan")
        row_ptr = old + added.astype(jnp.int32)
        to = upto[:-1] + added[self.pre]  # after new ones of the sources before
        to = jnp.where(keep, to, size)
        # Behind all of its own source that are kept
        place = old[jnp.minimum(source + 1, n)] + jnp.arange(order.size)
        place = jnp.where(source < n, place, size)

        def moved(leaf: Array, fresh: Array | int | None) -> Array:
            made = jnp.zeros_like(leaf).at[to].set(leaf, mode="drop")
            if fresh is None or not order.size:
                return made
            fresh = jnp.broadcast_to(jnp.asarray(fresh, leaf.dtype), order.shape)
            return made.at[place].set(fresh, mode="drop")

        return Store(
            moved(self.pre, source),
            moved(self.post, new.post[order]),
            row_ptr,
            None if self.weight is None else moved(self.weight, new.weight),
            None if self.delay is None else moved(self.delay, new.delay),
        )

    def onto(self, first: Array | int, n: int) -> "Store":
        """The edges onto n cells from the first on, and counted from there."""
        post = self.post.astype(jnp.int32) - first
        mine = replace(self, post=post).kept((post >= 0) & (post < n))
        return replace(mine, post=mine.post.astype(narrow(n)))

    def grown(self, capacity: int) -> "Store":
        """The same with room for more."""
        room = (0, capacity - self.capacity)
        leaves = (self.pre, self.post, self.weight, self.delay)
        pre, post, weight, delay = jax.tree.map(lambda leaf: jnp.pad(leaf, room), leaves)
        return Store(pre, post, self.row_ptr, weight, delay)


def store_of(edges: Edges, weight: Array | None, delay: Array | None, capacity: int) -> Store:
    """A store with the edges of a network at the start."""
    cells, degrees = jnp.arange(edges.n_pre, dtype=jnp.int32), jnp.diff(edges.row_ptr)
    pre = jnp.repeat(cells, degrees, total_repeat_length=edges.n_edges)
    row_ptr = jnp.array(edges.row_ptr)  # the network's stays its own, where a state is donated
    return Store(pre, edges.post, row_ptr, weight, delay).grown(capacity)


def n_bytes(capacity: int, n_post: int, own_weights: bool, own_delays: bool) -> float:
    """What a store takes, and once more while it changes."""
    own = np.dtype(narrow(n_post)).itemsize + own_weights * real_dtype().itemsize + 2 * own_delays
    return 2.0 * capacity * (own + 16)
