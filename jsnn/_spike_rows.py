"""Loops over the spikes of packed words, and over the rows of their cells, one number at a time:
what a kernel on a CPU is made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jsnn._rows import Edges, Layout
from jsnn.spikes import WORD

_TOGETHER = 8  # edges in a turn of the loop over a row, which costs as much as three of them


class SpikeRows(NamedTuple):
    """Where the spikes of words and the rows of edges lie, flat. A lane's own begin at the lane
    times a stride; what all lanes share has none."""

    layout: Layout
    columns: int  # words of a step
    n_steps: int
    per_lane: int | None  # words of a lane; None without lanes
    strides: dict[str, int]

    @classmethod
    def of(cls, layout: Layout, words: Array, edges: Edges) -> "SpikeRows":
        per_lane = words.shape[1] * words.shape[2] if words.ndim == 3 else None
        given = {name: leaf for name, leaf in edges._asdict().items() if leaf is not None}
        strides = {name: leaf.shape[1] for name, leaf in given.items() if leaf.ndim == 2}
        return cls(layout, words.shape[-1], words.shape[-2], per_lane, strides)

    def first(self, words: Array) -> tuple[Array, Array]:
        """The first word that has spikes, and its bits."""
        word = _next(words, jnp.uint32(0))
        return word, at(words.reshape(-1), word)

    def next(self, words: Array, word: Array, bits: Array) -> tuple[Array, Array]:
        """The word and the bits that are left once the lowest of them is done."""
        bits = bits & (bits - 1)
        word = jnp.where(bits == 0, _next(words, word + 1), word)
        return word, jnp.where(bits == 0, at(words.reshape(-1), word), bits)

    def where(
        self, word: Array, bits: Array, first_step: Array
    ) -> tuple[Array | None, Array, Array]:
        """Lane, row and step of the lowest of the bits that are left of a word."""
        first_cell, lane = self.layout.first_pre // WORD * WORD - self.layout.first_pre, None
        if self.per_lane is not None:
            lane, word = word // self.per_lane, word % self.per_lane
            first_step = first_step if first_step.ndim == 0 else at(first_step, lane)
        row, column = word // self.columns, word % self.columns
        bit = lax.population_count((bits & -bits) - 1)
        pre = column * WORD + bit + jnp.uint32(first_cell % 2**32)
        return lane, pre, first_step + row.astype(jnp.int32)

    def place(self, lane: Array | None, pre: Array, step: Array, first_step: Array) -> Array:
        """Where a spike lies in flat `[steps, n_pre]`, of lanes one after the other."""
        if lane is not None and first_step.ndim:
            first_step = at(first_step, lane)
        row = (step - first_step).astype(jnp.uint32)
        row = row if lane is None else row + lane * self.n_steps
        return row * self.layout.n_pre + pre

    def of_edge(self, edges: Edges, name: str, lane: Array | None, i: Array) -> Array:
        if lane is not None and name in self.strides:
            i = i + lane * self.strides[name]
        return at(getattr(edges, name), i)

    def target(self, lane: Array | None, step: Array, edges: Edges) -> Callable[[Array], Array]:
        """Where in the flat buffer a spike of a step arrives along an edge."""
        layout = self.layout
        slots = layout.slots
        now = (step % slots).astype(jnp.uint32)
        begin = (step + layout.fixed_delay) % slots * layout.n + layout.offset
        begin, offset = begin.astype(jnp.uint32), jnp.uint32(layout.offset)
        if lane is not None:
            lane_begins = lane * (slots * layout.n)
            begin, offset = begin + lane_begins, offset + lane_begins

        def place(e: Array) -> Array:
            target = self.of_edge(edges, "post", lane, e).astype(jnp.uint32)
            if edges.delay is None:
                return begin + target
            # No delay is longer than the buffer
            slot = now + self.of_edge(edges, "delay", lane, e).astype(jnp.uint32)
            slot = jnp.where(slot >= slots, slot - slots, slot)
            return slot * layout.n + offset + target

        return place

    def fold(
        self,
        lane: Array | None,
        pre: Array,
        edges: Edges,
        several: Callable[[Array, int, Any], Any],
        carry: Any,
    ) -> Any:
        """`carry = several(e, count, carry)` over the row of a source, for the `count` edges from e
        on at a time."""
        e, end = (self.of_edge(edges, "row_ptr", lane, pre + k) for k in (0, 1))
        e, end = e.astype(jnp.uint32), end.astype(jnp.uint32)

        def together(both):
            e, carry = both
            return e + _TOGETHER, several(e, _TOGETHER, carry)

        e, carry = lax.while_loop(lambda both: both[0] + _TOGETHER <= end, together, (e, carry))
        return lax.fori_loop(e, end, lambda e, carry: several(e, 1, carry), carry)

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
        target = self.target(lane, step, edges)
        sent = jnp.ones((), buffer.dtype) if amount is None else amount

        def several(e, count, buffer):
            for k in range(count):
                place, weighed = target(e + k), sent
                if edges.weight is not None:
                    weighed = self.of_edge(edges, "weight", lane, e + k) * sent
                buffer = put(buffer, at(buffer, place) + weighed, place)
            return buffer

        return self.fold(lane, pre, edges, several, buffer)


def at(values: Array, i: Array) -> Array:
    """values[i] for an unsigned i; others are first tested for being negative."""
    return lax.dynamic_index_in_dim(values, i, 0, keepdims=False)


def put(values: Array, new: Array, i: Array) -> Array:
    """values with a new one at an unsigned i."""
    return lax.dynamic_update_index_in_dim(values, new.astype(values.dtype), i, 0)


def _next(words: Array, word: Array) -> Array:
    """The first word from this one on that is not 0."""
    flat = words.reshape(-1)
    return lax.while_loop(lambda i: (i < flat.size) & (at(flat, i) == 0), lambda i: i + 1, word)
