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
    """`post` `[capacity]`, `row_ptr` `[n_pre + 1]`; `weight` and `delay` (steps) `[capacity]`, or
    None where all edges have one."""

    post: Array
    row_ptr: Array
    weight: Array | None
    delay: Array | None

    @property
    def capacity(self) -> int:
        return self.post.shape[-1]

    @property
    def n_edges(self) -> Array:
        return self.row_ptr[-1]

    @property
    def used(self) -> Array:
        return jnp.arange(self.capacity) < self.n_edges

    @property
    def pre(self) -> Array:
        """The source of every edge; the last one's in slots that are not in use."""
        n, lengths = self.row_ptr.shape[0] - 1, jnp.diff(self.row_ptr)
        return jnp.repeat(jnp.arange(n), lengths, total_repeat_length=self.capacity)

    def kept(self, keep: Array) -> "Store":
        """Of the edges in use, those to keep."""
        none = jnp.zeros(0, jnp.int32)
        return self.changed(keep, New(none, none, none > 0, None, None))

    def changed(self, keep: Array, new: New) -> "Store":
        """Of the edges in use those to keep, and new ones after those of their source. There has
        to be room for all."""
        n, size = self.row_ptr.shape[0] - 1, self.capacity
        pre, keep = self.pre, keep & self.used
        old = jnp.zeros(n, jnp.int32).at[pre].add(keep.astype(jnp.int32))
        added = jnp.zeros(n, jnp.int32).at[jnp.where(new.real, new.pre, n)].add(1, mode="drop")
        zero = jnp.zeros(1, jnp.int32)
        row_ptr = jnp.concatenate([zero, jnp.cumsum(old + added)])
        rank = jnp.cumsum(keep) - 1 - (jnp.cumsum(old) - old)[pre]
        to = jnp.where(keep, row_ptr[pre] + rank, size)
        order = jnp.argsort(jnp.where(new.real, new.pre, n), stable=True)
        source = new.pre[order]
        rank = jnp.arange(order.size) - (jnp.cumsum(added) - added)[source]
        place = row_ptr[source] + old[source] + rank
        place = jnp.where(new.real[order], place, size)

        def moved(leaf: Array, fresh: Array | int | None) -> Array:
            made = jnp.zeros_like(leaf).at[to].set(leaf, mode="drop")
            if fresh is None or not order.size:
                return made
            fresh = jnp.broadcast_to(jnp.asarray(fresh, leaf.dtype), order.shape)
            return made.at[place].set(fresh, mode="drop")

        return Store(
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
        post, weight, delay = jax.tree.map(
            lambda leaf: jnp.pad(leaf, room), (self.post, self.weight, self.delay)
        )
        return Store(post, self.row_ptr, weight, delay)


def store_of(edges: Edges, weight: Array | None, delay: Array | None, capacity: int) -> Store:
    """A store with the edges of a network at the start."""
    return Store(edges.post, edges.row_ptr, weight, delay).grown(capacity)


def n_bytes(capacity: int, n_post: int, own_weights: bool, own_delays: bool) -> float:
    """What a store takes, and once more while it changes."""
    own = np.dtype(narrow(n_post)).itemsize + own_weights * real_dtype().itemsize + 2 * own_delays
    return 2.0 * capacity * (own + 12)
