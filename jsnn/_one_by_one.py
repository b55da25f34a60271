"""Spikes delivered one after the other: the way of a CPU."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jsnn import release as release_
from jsnn._one_kernel import one_kernel
from jsnn._rows import Edges, Layout
from jsnn.release import ReleaseState
from jsnn.spikes import WORD

_TOGETHER = 8  # edges in a turn of the loop over a row, which costs as much as three of them
_LAST = "last spike"  # among the states of a release


def one_by_one(
    layout: Layout,
    buffer: Array,
    state: ReleaseState | None,
    words: Array,
    first_step: Array,
    edges: Edges,
    release: Any,
) -> tuple[Array, ReleaseState | None]:
    """Add the rows of the spikes in words `[steps, m]` to a flat buffer, with the states of sources
    in `state`.

    Without such states also for a batch: words `[lanes, steps, m]`, the flat buffers one after the
    other, and edges and `first_step` with lanes or without. Taken apart for one lane at a time,
    buffers and edges would be copied for each.

    0.8 to 1 ns an edge (1.5 to 2 with delays of their own), and 0.1 us a spike. Listing the spikes
    first takes 40 kernels, 6 us a block, and a scatter for each row as long an edge.
    """
    released = {} if state is None else {**state.values, _LAST: state.last}
    rows = _Rows.of(layout, words, edges)
    edges = jax.tree.map(jnp.ravel, edges)

    def deliver(carried, words, first_step, edges, release):
        def one(carry):
            word, bits, buffer, released, waiting = carry
            lane, pre, step = rows.where(word, bits, first_step)
            amount = None
            if state is not None:
                released = _put_all(released, waiting)
                own = {name: _at(leaf, pre) for name, leaf in released.items()}
                last = own.pop(_LAST)
                parameters = release_.at(release, pre)
                after, amount = release_.spike(parameters, own, last, step, layout.dt)
                waiting = pre, {**after, _LAST: step}
            if edges.post.shape[0]:
                buffer = rows.add(buffer, lane, pre, step, edges, amount)
            bits = bits & (bits - 1)
            word = jnp.where(bits == 0, _next(words, word + 1), word)
            bits = jnp.where(bits == 0, _at(words.reshape(-1), word), bits)
            return word, bits, buffer, released, waiting

        buffer, released = carried
        # What a spike leaves behind is put in its place in the next turn: put at once, each value
        # would be computed in place from the old ones, of which XLA would first copy all.
        waiting = jnp.uint32(0), {name: leaf[0] for name, leaf in released.items()}
        word = _next(words, jnp.uint32(0))
        carry = (word, _at(words.reshape(-1), word), buffer, released, waiting)
        carry = lax.while_loop(lambda carry: carry[0] < words.size, one, carry)
        _, _, buffer, released, waiting = carry
        return buffer, _put_all(released, waiting)

    carried = one_kernel(deliver, (buffer, released), words, first_step, edges, release)
    buffer, released = carried
    if state is not None:
        last = released.pop(_LAST)
        state = ReleaseState(released, last, state.deviation)
    return buffer, state


def _next(words: Array, word: Array) -> Array:
    """The first word from this one on that is not 0."""
    flat = words.reshape(-1)
    return lax.while_loop(lambda i: (i < flat.size) & (_at(flat, i) == 0), lambda i: i + 1, word)


class _Rows(NamedTuple):
    """Where the spikes of words and the rows of edges lie, flat. A lane's own begin at the lane
    times a stride; what all lanes share has none."""

    layout: Layout
    columns: int  # words of a step
    per_lane: int | None  # words of a lane; None without lanes
    strides: dict[str, int]

    @classmethod
    def of(cls, layout: Layout, words: Array, edges: Edges) -> "_Rows":
        per_lane = words.shape[1] * words.shape[2] if words.ndim == 3 else None
        given = {name: leaf for name, leaf in edges._asdict().items() if leaf is not None}
        strides = {name: leaf.shape[1] for name, leaf in given.items() if leaf.ndim == 2}
        return cls(layout, words.shape[-1], per_lane, strides)

    def where(
        self, word: Array, bits: Array, first_step: Array
    ) -> tuple[Array | None, Array, Array]:
        """Lane, row and step of the lowest of the bits that are left of a word."""
        first_cell, lane = self.layout.first_pre // WORD * WORD - self.layout.first_pre, None
        if self.per_lane is not None:
            lane, word = word // self.per_lane, word % self.per_lane
            first_step = first_step if first_step.ndim == 0 else _at(first_step, lane)
        row, column = word // self.columns, word % self.columns
        bit = lax.population_count((bits & -bits) - 1)
        pre = column * WORD + bit + jnp.uint32(first_cell % 2**32)
        return lane, pre, first_step + row.astype(jnp.int32)

    def add(
        self,
        buffer: Array,
        lane: Array | None,
        pre: Array,
        step: Array,
        edges: Edges,
        amount: Array | None,
    ) -> Array:
        """The row of a source, of a spike in a step, added."""
        layout = self.layout
        slots = layout.slots
        now = (step % slots).astype(jnp.uint32)
        begin = (step + layout.fixed_delay) % slots * layout.n + layout.offset
        begin, offset = begin.astype(jnp.uint32), jnp.uint32(layout.offset)
        if lane is not None:
            lane_begins = lane * (slots * layout.n)
            begin, offset = begin + lane_begins, offset + lane_begins

        def of(name: str, i: Array) -> Array:
            if lane is not None and name in self.strides:
                i = i + lane * self.strides[name]
            return _at(getattr(edges, name), i)

        def add(e, buffer):
            target = of("post", e).astype(jnp.uint32)
            if edges.delay is None:
                target = begin + target
            else:  # no delay is longer than the buffer
                slot = now + of("delay", e).astype(jnp.uint32)
                slot = jnp.where(slot >= slots, slot - slots, slot)
                target = slot * layout.n + offset + target
            sent = jnp.ones((), buffer.dtype) if amount is None else amount
            if edges.weight is not None:
                sent = of("weight", e) * sent
            return _put(buffer, _at(buffer, target) + sent, target)

        def several(carry):
            e, buffer = carry
            for k in range(_TOGETHER):
                buffer = add(e + k, buffer)
            return e + _TOGETHER, buffer

        e, end = (of("row_ptr", pre + k) for k in (0, 1))
        e, end = e.astype(jnp.uint32), end.astype(jnp.uint32)
        e, buffer = lax.while_loop(lambda carry: carry[0] + _TOGETHER <= end, several, (e, buffer))
        return lax.fori_loop(e, end, add, buffer)


def _at(values: Array, i: Array) -> Array:
    """values[i] for an unsigned i; others are first tested for being negative."""
    return lax.dynamic_index_in_dim(values, i, 0, keepdims=False)


def _put(values: Array, new: Array, i: Array) -> Array:
    return lax.dynamic_update_index_in_dim(values, new.astype(values.dtype), i, 0)


def _put_all(values: dict[str, Array], waiting: tuple[Array, dict[str, Array]]) -> dict[str, Array]:
    i, new = waiting
    return {name: _put(leaf, new[name], i) for name, leaf in values.items()}
