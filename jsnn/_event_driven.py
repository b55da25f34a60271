"""The rows of the cells that fired into a buffer of arrivals, and only those.

A block's spikes are taken in rounds of a fixed capacity, in the order of (step, source). With
short-term plasticity each first gets the amount that it releases.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap

from jsnn import release as release_
from jsnn import spikes as spikes_
from jsnn._math import real_dtype
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
    """Spikes of a round: the rows of their cells; their steps, and where in the buffer the targets
    of their slots begin (for a fixed delay), one for all if there is but one step; the amounts
    released by source (None where every spike is 1, or releases by edge); how many are real."""

    pre: Array
    step: Array
    begin: Array
    amount: Array | None
    count: Array

    def step_of(self, i: Array) -> Array:
        return self.step[i] if self.step.ndim else self.step


@functools.cache
def deliver(layout: Layout):
    """The event-driven delivery as a function of arrays, with its batching rule.

    Batched by JAX, a loop over spikes would run as often as the worst of the batch needs, and copy
    the buffers of all the others at every turn. One after the other costs the sum of the events.
    """
    one_by_one = custom_vmap(functools.partial(_deliver, layout))

    @one_by_one.def_vmap
    def _(axis_size, in_batched, *arguments):
        leaves, structure = jax.tree.flatten(arguments)
        batched = jax.tree.leaves(in_batched)
        mapped = [leaf for leaf, is_batched in zip(leaves, batched, strict=True) if is_batched]

        def one(mapped):
            mapped = iter(mapped)
            mixed = [
                next(mapped) if is_batched else leaf
                for leaf, is_batched in zip(leaves, batched, strict=True)
            ]
            return one_by_one(*jax.tree.unflatten(structure, mixed))

        made = lax.map(one, mapped)
        return made, jax.tree.map(lambda _: True, made)

    return one_by_one


def _deliver(
    layout: Layout,
    buffer: Array,
    state: ReleaseState | None,
    words: Array,
    first_step: Array,
    edges: tuple,
    release: Any,
) -> tuple[Array, ReleaseState | None]:
    edges, first_pre, n_pre = Edges(*edges), layout.first_pre, layout.n_pre
    low, high = first_pre // WORD, -(-(first_pre + n_pre) // WORD)
    words = words[:, low:high] & _edge_mask(first_pre - low * WORD, n_pre, high - low)
    found = spikes_.index(words.reshape(-1))
    first_cell = low * WORD - first_pre
    distinct = words.shape[0] == 1  # no source twice in a step
    # Of each word, once: a division for each spike costs more than finding it.
    row, column = jnp.divmod(jnp.arange(words.size, dtype=jnp.int32), high - low)
    step_of_word, cell_of_word = first_step + row, first_cell + column * WORD

    def round_(carry):
        done, buffer, state = carry
        word, bit = spikes_.compact(found, done, layout.capacity)
        if distinct:
            step, cell = first_step, first_cell + word * WORD
        else:
            step, cell = step_of_word[word], cell_of_word[word]
        pre = jnp.clip(cell + bit, 0, n_pre - 1)
        count = jnp.minimum(found.total - done, layout.capacity)
        begin = (step + layout.fixed_delay) % layout.slots * layout.n + layout.offset
        events = Events(pre, step, begin.astype(jnp.uint32), None, count)
        if state is not None and layout.per_edge:
            buffer, state = lax.platform_dependent(
                *(buffer, state, events, edges, release),
                cpu=functools.partial(_release_by_loop, layout),
                default=functools.partial(_release_at_once, layout, distinct),
            )
            return done + layout.capacity, buffer, state
        if state is not None:
            state, amount = _release_of_sources(layout, distinct, release, state, events)
            events = events._replace(amount=amount)
        if edges.post.shape[0]:
            buffer = lax.platform_dependent(
                *(buffer, events, edges),
                cpu=functools.partial(_add_by_loop, layout),
                default=functools.partial(_add_at_once, layout),
            )
        return done + layout.capacity, buffer, state

    # The buffer stays flat inside the loops: a row of it taken out and put back costs twice.
    carry = (jnp.zeros((), jnp.int32), buffer.reshape(-1), state)
    _, buffer, state = lax.while_loop(lambda carry: carry[0] < found.total, round_, carry)
    return buffer.reshape(layout.slots, layout.n), state


def _release_of_sources(
    layout: Layout, distinct: bool, release: Any, state: ReleaseState, events: Events
) -> tuple[ReleaseState, Array]:
    """What each spike of a round releases, where a source's synapses share their state."""

    def some(mine, carry):
        state, amount = carry
        own = {name: values[events.pre] for name, values in state.values.items()}
        last, parameters = state.last[events.pre], release_.at(release, events.pre)
        after, r = release_.spike(parameters, own, last, events.step, layout.dt)
        at = jnp.where(mine, events.pre, layout.n_pre)
        values = {
            name: values.at[at].set(after[name], mode="drop")
            for name, values in state.values.items()
        }
        # The maximum is the step; it tells XLA that the old ones are no longer needed
        last = state.last.at[at].set(jnp.maximum(last, events.step), mode="drop")
        return ReleaseState(values, last, state.deviation), jnp.where(mine, r, amount)

    amount = jnp.zeros(layout.capacity, real_dtype())
    return _in_turn(layout, distinct, events, some, (state, amount))


def _in_turn(layout: Layout, distinct: bool, events: Events, some: Any, carry: Any) -> Any:
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
    length = jnp.where(i < events.count, end - start, 0).astype(jnp.uint32)
    lanes = jnp.arange(size, dtype=jnp.uint32)
    inside = lanes + (at - start).astype(jnp.uint32) < length
    # Unsigned indices spare the scatter the test for negative ones.
    target = lax.dynamic_slice(edges.post, (at,), (size,)).astype(jnp.uint32)
    if edges.delay is None:
        target = target + (events.begin[i] if events.begin.ndim else events.begin)
    else:
        slot = events.step_of(i) + lax.dynamic_slice(edges.delay, (at,), (size,)).astype(jnp.int32)
        target = target + (slot % layout.slots * layout.n + layout.offset).astype(jnp.uint32)
    weight = None if edges.weight is None else lax.dynamic_slice(edges.weight, (at,), (size,))
    return at, inside, jnp.where(inside, target, _NOWHERE), weight


def _add_by_loop(layout: Layout, buffer: Array, events: Events, edges: Edges) -> Array:
    """A few spikes after the other: on CPU a scatter is a loop anyway, and rows stay in the cache.

    1 to 2 ns an edge. One scatter for all rows of a round takes 3 ns; an inner loop over single
    edges 5.5. Rows are fetched from far away, each to its own place: several slices in one kernel
    wait for memory together, and share the cost of starting it (a tenth of the time).
    """
    size = min(layout.chunk, edges.post.shape[0])
    # XLA makes one kernel of up to 8 slices; their targets should fit in the first-level cache. It
    # also cuts a kernel of more operations than bytes, from some thousand lanes on, over the thread
    # pool, which takes longer than the kernel: as with the slots of own delays.
    most = 8192 if edges.delay is None else 2048
    together = min(max(most // size, 1), 8) if layout.max_row <= size else 1

    def piece(i, start):
        _, _, target, amount = _piece(layout, size, events, edges, i, start)
        if events.amount is not None:
            own = events.amount[i]
            amount = jnp.full(size, own) if amount is None else amount * own
        return target, amount

    def add(pieces, buffer):
        targets, amounts = zip(*pieces, strict=True)
        amount = jnp.ones((), buffer.dtype) if amounts[0] is None else jnp.concatenate(amounts)
        return buffer.at[jnp.concatenate(targets)].add(amount, mode="drop")

    def add_rows(turn, buffer):
        rows = [turn * together + k for k in range(together)]
        return add([piece(i, edges.row_ptr[events.pre[i]]) for i in rows], buffer)

    def add_long_row(i, buffer):
        def more(carry):
            start, buffer = carry
            return start + size, add([piece(i, start)], buffer)

        pre = events.pre[i]
        row = (edges.row_ptr[pre], buffer)
        return lax.while_loop(lambda carry: carry[0] < edges.row_ptr[pre + 1], more, row)[1]

    if layout.max_row > size:
        return lax.fori_loop(0, events.count, add_long_row, buffer)
    turns = (events.count + together - 1) // together
    return lax.fori_loop(0, turns, add_rows, buffer)


def _release_by_loop(
    layout: Layout, buffer: Array, state: ReleaseState, events: Events, edges: Edges, release: Any
) -> tuple[Array, ReleaseState]:
    """The same where each edge is in a state of its own: row after row, as a source may fire twice
    in a block."""
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


def _release_at_once(
    layout: Layout,
    distinct: bool,
    buffer: Array,
    state: ReleaseState,
    events: Events,
    edges: Edges,
    release: Any,
) -> tuple[Array, ReleaseState]:
    """The same for rows side by side, in turns in which no source fires twice."""

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

    return _in_turn(layout, distinct, events, some, (buffer, state))


def _add_at_once(layout: Layout, buffer: Array, events: Events, edges: Edges) -> Array:
    """All edges of a round side by side."""

    def amounts(state, spike, edge, inside):
        return state, None if events.amount is None else events.amount[spike]

    real = jnp.arange(layout.capacity) < events.count
    return _side_by_side(layout, real, buffer, events, edges, amounts, None)[0]


def _side_by_side(layout, mine, buffer, events, edges, amounts, state):
    """The edges of some spikes, of which each finds its spike in the sum of the row lengths.
    `amounts(state, spike, edge, inside)` tells what they release, or None for 1."""
    begin = edges.row_ptr[events.pre]
    length = jnp.where(mine, edges.row_ptr[events.pre + 1] - begin, 0)
    upto = jnp.cumsum(length)
    before = upto - length
    size = min(2**18, edges.post.shape[0])

    def some(carry):
        done, buffer, state = carry
        number = done + jnp.arange(size, dtype=jnp.int32)
        spike = jnp.searchsorted(upto, number, side="right", method="scan_unrolled")
        inside = number < upto[-1]
        spike = jnp.minimum(spike, layout.capacity - 1)
        edge = jnp.where(inside, begin[spike] + number - before[spike], 0)
        delay = layout.fixed_delay if edges.delay is None else edges.delay[edge].astype(jnp.int32)
        slot = (events.step_of(spike) + delay) % layout.slots
        target = slot * layout.n + layout.offset + edges.post[edge].astype(jnp.int32)
        target = jnp.where(inside, target, layout.slots * layout.n)
        state, amount = amounts(state, spike, edge, inside)
        amount = jnp.ones(size, buffer.dtype) if amount is None else amount
        amount = amount if edges.weight is None else edges.weight[edge] * amount
        return done + size, buffer.at[target].add(amount, mode="drop"), state

    # Narrow numbers have no atomic addition on a GPU.
    wide = buffer.astype(jnp.int32) if jnp.issubdtype(buffer.dtype, jnp.integer) else buffer
    carry = (jnp.zeros((), jnp.int32), wide, state)
    _, wide, state = lax.while_loop(lambda carry: carry[0] < upto[-1], some, carry)
    return wide.astype(buffer.dtype), state


def _edge_mask(first: int, n: int, n_words: int) -> Array:
    """Words in which the bits first..first+n-1 are set."""
    bits = (jnp.arange(n_words * WORD) >= first) & (jnp.arange(n_words * WORD) < first + n)
    return spikes_.pack(bits[None])[0]
