"""Spikes in rounds of so many, and the rows of a round into a flat buffer of arrivals: side by
side, or, on a CPU and with a state for each edge, one after the other."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jsnn import release as release_
from jsnn import spikes as spikes_
from jsnn.release import ReleaseState
from jsnn.spikes import WORD


class Layout(NamedTuple):
    """What is static about a projection's edges, its buffer and a round."""

    slots: int
    n: int
    offset: int
    fixed_delay: int
    chunk: int
    max_row: int
    first_pre: int
    n_pre: int
    capacity: int
    per_edge: bool
    dt: float


class Edges(NamedTuple):
    row_ptr: Array
    post: Array
    weight: Array | None
    delay: Array | None


class Events(NamedTuple):
    """Spikes of a round: the rows of their cells; their steps, one for all if there is but one; the
    amounts released by source (None where every spike is 1, or releases by edge); how many are
    real."""

    pre: Array
    step: Array
    amount: Array | None
    count: Array

    def step_of(self, i: Array) -> Array:
        return self.step[i] if self.step.ndim else self.step


def in_turn(layout: Layout, distinct: bool, events: Events, some: Any, carry: Any) -> Any:
    """`some(mine, carry)` for the first spike of every source in a round, then for the second
    ones of those that have one, and so on; once if they are `distinct`."""
    number = jnp.arange(layout.capacity)
    if distinct:
        return some(number < events.count, carry)

    def more(both):
        pending, carry = both
        at = jnp.where(pending, events.pre, layout.n_pre)
        first = jnp.full(layout.n_pre, layout.capacity).at[at].min(number, mode="drop")
        mine = pending & (first[events.pre] == number)
        return pending & ~mine, some(mine, carry)

    both = (number < events.count, carry)
    return lax.while_loop(lambda both: jnp.any(both[0]), more, both)[1]


_NOWHERE = np.uint32(2**32 - 1)  # skipped by the scatter, which compares all the same


def _piece(layout: Layout, size: int, events: Events, edges: Edges, i: Array, start: Array):
    """Of the row of spike i, `size` edges from `start` on: where they lie, which of them belong to
    the row, their places in the buffer (else nowhere) and their weights."""
    at = jnp.minimum(start, edges.post.shape[0] - size)  # as dynamic_slice does at the end
    # One comparison for both ends: what is before the row becomes a large number.
    end = edges.row_ptr[events.pre[i] + 1]
    length = (end - start).astype(jnp.uint32)
    lanes = jnp.arange(size, dtype=jnp.uint32)
    inside = lanes + (at - start).astype(jnp.uint32) < length
    # Unsigned indices spare the scatter the test for negative ones.
    target = lax.dynamic_slice(edges.post, (at,), (size,)).astype(jnp.uint32)
    delay = layout.fixed_delay
    if edges.delay is not None:
        delay = lax.dynamic_slice(edges.delay, (at,), (size,)).astype(jnp.int32)
    slot = (events.step_of(i) + delay) % layout.slots
    target = target + (slot * layout.n + layout.offset).astype(jnp.uint32)
    weight = None if edges.weight is None else lax.dynamic_slice(edges.weight, (at,), (size,))
    return at, inside, jnp.where(inside, target, _NOWHERE), weight


def release_by_loop(
    layout: Layout, buffer: Array, state: ReleaseState, events: Events, edges: Edges, release: Any
) -> tuple[Array, ReleaseState]:
    """Rows of edges that are each in a state of their own, one after the other, as a source may
    fire twice in a block: on a CPU, where a scatter is a loop anyway."""
    size = min(layout.chunk, edges.post.shape[0])

    def row(i, carry):
        def more(carry):
            start, buffer, values = carry
            at, inside, target, weight = _piece(layout, size, events, edges, i, start)
            cut = lambda leaf: lax.dynamic_slice(leaf, (at,), (size,)) if leaf.ndim else leaf  # noqa: E731
            own = {name: cut(leaf) for name, leaf in values.items()}
            parameters = jax.tree.map(cut, release)
            after, r = release_.spike(parameters, own, last[pre], events.step_of(i), layout.dt)
            values = {
                name: lax.dynamic_update_slice(
                    leaf, jnp.where(inside, after[name], own[name]), (at,)
                )
                for name, leaf in values.items()
            }
            r = jnp.broadcast_to(r, (size,))
            buffer = buffer.at[target].add(r if weight is None else weight * r, mode="drop")
            return start + size, buffer, values

        buffer, values, last = carry
        pre = events.pre[i]
        begin = (edges.row_ptr[pre], buffer, values)
        if layout.max_row > size:
            end = edges.row_ptr[pre + 1]
            _, buffer, values = lax.while_loop(lambda carry: carry[0] < end, more, begin)
        else:
            _, buffer, values = more(begin)
        return buffer, values, last.at[pre].set(events.step_of(i))

    carry = (buffer, state.values, state.last)
    buffer, values, last = lax.fori_loop(0, events.count, row, carry)
    return buffer, ReleaseState(values, last, state.deviation)


def add_at_once(layout: Layout, buffer: Array, events: Events, edges: Edges) -> Array:
    """All edges of a round side by side."""

    def amounts(state, spike, edge, inside):
        return state, None if events.amount is None else events.amount[spike]

    real = jnp.arange(layout.capacity) < events.count
    return _side_by_side(layout, real, buffer, events, edges, amounts, None)[0]


def release_at_once(
    layout: Layout,
    distinct: bool,
    buffer: Array,
    state: ReleaseState,
    events: Events,
    edges: Edges,
    release: Any,
) -> tuple[Array, ReleaseState]:
    """All edges of a round side by side, each in a state of its own: in turns in which no source
    fires twice."""

    def some(mine, carry):
        buffer, state = carry

        def amounts(state, spike, edge, inside):
            own = {name: values[edge] for name, values in state.values.items()}
            last = state.last[events.pre[spike]]
            parameters = release_.at(release, edge)
            after, r = release_.spike(parameters, own, last, events.step_of(spike), layout.dt)
            at = jnp.where(inside, edge, edges.post.shape[0])
            values = {
                name: values.at[at].set(after[name], mode="drop")
                for name, values in state.values.items()
            }
            return ReleaseState(values, state.last, state.deviation), r

        buffer, state = _side_by_side(layout, mine, buffer, events, edges, amounts, state)
        at = jnp.where(mine, events.pre, layout.n_pre)
        last = state.last.at[at].set(events.step, mode="drop")
        return buffer, ReleaseState(state.values, last, state.deviation)

    return in_turn(layout, distinct, events, some, (buffer, state))


def _side_by_side(layout, mine, buffer, events, edges, amounts, state):
    """The edges of some spikes into the buffer. `amounts(state, spike, edge, inside)` tells what
    they release, or None for 1."""

    def visit(carry, spike, edge, target, inside):
        buffer, state = carry
        state, amount = amounts(state, spike, edge, inside)
        amount = jnp.ones(edge.shape, buffer.dtype) if amount is None else amount
        amount = amount if edges.weight is None else edges.weight[edge] * amount
        return buffer.at[target].add(amount, mode="drop"), state

    # Narrow numbers have no atomic addition on a GPU.
    wide = buffer.astype(jnp.int32) if jnp.issubdtype(buffer.dtype, jnp.integer) else buffer
    wide, state = each_edge(layout, mine, events, edges, visit, (wide, state))
    return wide.astype(buffer.dtype), state


def each_edge(
    layout: Layout, mine: Array, events: Events, edges: Edges, visit: Any, carry: Any
) -> Any:
    """`carry = visit(carry, spike, edge, target, inside)` over the edges of those spikes of a round
    that are `mine`, many at a time. Each finds its spike in the sum of the row lengths; `target` is
    where it arrives in the flat buffer, beyond its end for what is not `inside`."""
    begin = edges.row_ptr[events.pre]
    length = jnp.where(mine, edges.row_ptr[events.pre + 1] - begin, 0)
    upto = jnp.cumsum(length)
    before = upto - length
    size = min(2**18, edges.post.shape[0])

    def some(both):
        done, carry = both
        number = done + jnp.arange(size, dtype=jnp.int32)
        spike = jnp.searchsorted(upto, number, side="right", method="scan_unrolled")
        inside = number < upto[-1]
        spike = jnp.minimum(spike, layout.capacity - 1)
        edge = jnp.where(inside, begin[spike] + number - before[spike], 0)
        delay = layout.fixed_delay if edges.delay is None else edges.delay[edge].astype(jnp.int32)
        slot = (events.step_of(spike) + delay) % layout.slots
        target = slot * layout.n + layout.offset + edges.post[edge].astype(jnp.int32)
        target = jnp.where(inside, target, layout.slots * layout.n)
        return done + size, visit(carry, spike, edge, target, inside)

    both = (jnp.zeros((), jnp.int32), carry)
    return lax.while_loop(lambda both: both[0] < upto[-1], some, both)[1]


def in_rounds(layout: Layout, words: Array, first_step: Array, visit: Any, carry: Any) -> Any:
    """`carry = visit(events, carry)` over the spikes of words `[steps, m]`, as many at a time as a
    round holds."""
    first_pre, n_pre = layout.first_pre, layout.n_pre
    low, high = first_pre // WORD, -(-(first_pre + n_pre) // WORD)
    found = spikes_.index(words.reshape(-1))
    first_cell = low * WORD - first_pre
    # Of each word, once: a division for each spike costs more than finding it.
    row, column = jnp.divmod(jnp.arange(words.size, dtype=jnp.int32), high - low)
    step_of_word, cell_of_word = first_step + row, first_cell + column * WORD

    def round_(both):
        done, carry = both
        word, bit = spikes_.compact(found, done, layout.capacity)
        if words.shape[0] == 1:
            step, cell = first_step, first_cell + word * WORD
        else:
            step, cell = step_of_word[word], cell_of_word[word]
        pre = jnp.clip(cell + bit, 0, n_pre - 1)
        count = jnp.minimum(found.total - done, layout.capacity)
        return done + layout.capacity, visit(Events(pre, step, None, count), carry)

    both = (jnp.zeros((), jnp.int32), carry)
    return lax.while_loop(lambda both: both[0] < found.total, round_, both)[1]


def own_words(layout: Layout, words: Array) -> Array:
    """Of packed spikes `[..., steps, m]` of a population those of a projection's sources."""
    first_pre, n_pre = layout.first_pre, layout.n_pre
    low, high = first_pre // WORD, -(-(first_pre + n_pre) // WORD)
    return words[..., low:high] & _edge_mask(first_pre - low * WORD, n_pre, high - low)


def _edge_mask(first: int, n: int, n_words: int) -> Array:
    """Words in which the bits first..first+n-1 are set."""
    bits = (jnp.arange(n_words * WORD) >= first) & (jnp.arange(n_words * WORD) < first + n)
    return spikes_.pack(bits[None])[0]
