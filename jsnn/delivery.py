"""Spikes into the buffers of arrivals.

A projection owns a circular buffer `[slots, n]`: what arrives at each target cell in each of the
next steps. Slot of step s is s modulo the number of slots. With one weight for all edges the buffer
counts arrivals (under `EventDriven` in narrow integers), and the weight is applied where it is
read: whole numbers add up the same in any order. With a weight an edge, rows are added in the order
of (step, source), which is the same however a run is cut or spread over devices.

`SegmentSum` is the definition, one line. `EventDriven` gives the same numbers and costs in
proportion to the spikes.
"""

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap

from jsnn import spikes as spikes_
from jsnn.spikes import WORD


class Rows(NamedTuple):
    """The edges of a projection as the delivery reads them, sorted by source.

    `weight` is None where all edges have one; `delay` (steps) is a static number or `[n_edges]`.
    `post` counts from `offset` within the target population.
    """

    row_ptr: Array  # [n_pre + 1] int32
    post: Array  # [n_edges]
    weight: Array | None  # [n_edges]
    delay: Array | None  # [n_edges], narrow integers, or None for `fixed_delay`
    offset: int
    fixed_delay: int
    chunk: int  # how many edges of a row are handled at once
    max_row: int


class SegmentSum(eqx.Module):
    """Deliver by `segment_sum` over all edges, every step: the definition, and differentiable."""

    def __call__(
        self, buffer: Array, fired: Array, rows: Rows, first_pre: int, first_step: Array
    ) -> Array:
        """Add the spikes `[steps, n_pre_population]` (amplitudes) to the buffer."""
        for i in range(fired.shape[0]):
            buffer = segment_sum_step(buffer, fired[i], rows, first_pre, first_step + i)
        return buffer


class EventDriven(eqx.Module):
    """Deliver the rows of the cells that fired, and only those.

    A block's spikes are taken in rounds of `capacity` (chosen from the size of the block if left
    out); as many rounds run as there are spikes, so none is lost.
    """

    capacity: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.capacity is not None and (
            isinstance(self.capacity, bool) or not isinstance(self.capacity, (int, np.integer))
        ):
            raise TypeError(f"capacity={self.capacity!r} is not an integer; give 1 or more")
        if self.capacity is not None and self.capacity < 1:
            raise ValueError(f"capacity={self.capacity} must be at least 1")

    def __call__(
        self, buffer: Array, words: Array, rows: Rows, first_pre: int, first_step: Array
    ) -> Array:
        """Add the spikes, packed `[steps, n_pre_population / 32]`, to the buffer."""
        n_pre = rows.row_ptr.shape[0] - 1
        if rows.post.shape[0] == 0:
            return buffer
        capacity = self.capacity
        if capacity is None:  # room for 0.5 % of the cells in every step
            capacity = min(max(words.shape[0] * n_pre // 200, 64), 8192)
        capacity = min(capacity, words.shape[0] * n_pre)  # no more spikes than that
        capacity = max(min(capacity, (2**31 - 1) // max(rows.max_row, 1)), 1)  # int32 counts edges
        static = (
            rows.offset,
            rows.fixed_delay,
            rows.chunk,
            rows.max_row,
            first_pre,
            n_pre,
            capacity,
        )
        return _deliver(static)(
            buffer, words, first_step, rows.row_ptr, rows.post, rows.weight, rows.delay
        )


Delivery = SegmentSum | EventDriven


@jax.custom_vjp
def not_differentiable(populations):
    """The identity, which refuses to be differentiated: the counts in the buffers would cut the
    gradient through the spikes in silence."""
    return populations


def _refuse(populations):
    raise NotImplementedError(
        "EventDriven delivery is not differentiable; build the network with delivery=SegmentSum()"
    )


not_differentiable.defvjp(_refuse, _refuse)


def segment_sum_step(buffer: Array, fired: Array, rows: Rows, first_pre: int, step: Array) -> Array:
    """Add the spikes of one step, amplitudes `[n_pre_population]`, to the buffer."""
    slots, n = buffer.shape
    n_edges = rows.post.shape[0]
    lengths = jnp.diff(rows.row_ptr)
    pre = first_pre + jnp.repeat(jnp.arange(lengths.shape[0]), lengths, total_repeat_length=n_edges)
    weight = 1.0 if rows.weight is None else rows.weight
    delay = rows.fixed_delay if rows.delay is None else rows.delay.astype(jnp.int32)
    post = (step + delay) % slots * n + rows.offset + rows.post.astype(jnp.int32)
    real = jnp.arange(n_edges) < rows.row_ptr[-1]  # devices pad theirs to the same number
    arrivals = jax.ops.segment_sum(jnp.where(real, weight * fired[pre], 0), post, slots * n)
    return buffer + arrivals.reshape(slots, n).astype(buffer.dtype)


@functools.cache
def _deliver(static: tuple):
    """The event-driven delivery as a function of arrays, with its batching rule.

    Batched by JAX, a loop over spikes would run as often as the worst of the batch needs, and copy
    the buffers of all the others at every turn. One after the other costs the sum of the events.
    """
    deliver = custom_vmap(functools.partial(_deliver_one, static))

    @deliver.def_vmap
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
            return deliver(*jax.tree.unflatten(structure, mixed))

        return lax.map(one, mapped), True

    return deliver


def _deliver_one(static, buffer, words, first_step, row_ptr, post, weight, delay):
    offset, fixed_delay, chunk, max_row, first_pre, n_pre, capacity = static
    slots, n = buffer.shape
    low, high = first_pre // WORD, -(-(first_pre + n_pre) // WORD)
    words = words[:, low:high] & _edge_mask(first_pre - low * WORD, n_pre, high - low)
    found = spikes_.index(words.reshape(-1))
    # Of each word, once: a division for each spike costs more than finding it.
    row, column = jnp.divmod(jnp.arange(words.size, dtype=jnp.int32), high - low)
    step_of_word, cell_of_word = first_step + row, (low + column) * WORD - first_pre

    def round_(carry):
        done, buffer = carry
        word, bit = spikes_.compact(found, done, capacity)
        pre = jnp.clip(cell_of_word[word] + bit, 0, n_pre - 1)
        count = jnp.minimum(found.total - done, capacity)
        events = Events(step_of_word[word], pre, count)
        add = functools.partial(
            lax.platform_dependent,
            cpu=functools.partial(_add_by_loop, offset, fixed_delay, chunk, max_row, slots, n),
            default=functools.partial(_add_at_once, offset, fixed_delay, slots, n),
        )
        return done + capacity, add(buffer, events, row_ptr, post, weight, delay)

    # The buffer stays flat inside the loops: a row of it taken out and put back costs twice.
    carry = (jnp.zeros((), jnp.int32), buffer.reshape(-1))
    carry = lax.while_loop(lambda carry: carry[0] < found.total, round_, carry)
    return carry[1].reshape(slots, n)


class Events(NamedTuple):
    """Spikes of a round: their steps, the rows of their cells, and how many are real."""

    step: Array
    pre: Array
    count: Array


def _add_by_loop(
    offset, fixed_delay, chunk, max_row, slots, n, buffer, events, row_ptr, post, weight, delay
):
    """A few spikes after the other: on CPU a scatter is a loop anyway, and rows stay in the cache.

    1 to 2 ns an edge. One scatter for all rows of a round takes 3 ns; an inner loop over single
    edges 5.5. Rows are fetched from far away, each to its own place: several slices in one kernel
    wait for memory together, and share the cost of starting it (a tenth of the time).
    """
    n_edges = post.shape[0]
    size = min(chunk, n_edges)
    # XLA makes one kernel of up to 8 slices; their targets should fit in the first-level cache. It
    # also cuts a kernel of more operations than bytes, from some thousand lanes on, over the thread
    # pool, which takes longer than the kernel: as with the slots of own delays.
    most = 8192 if delay is None else 2048
    together = min(max(most // size, 1), 8) if max_row <= size else 1
    lanes = jnp.arange(size, dtype=jnp.uint32)
    # Unsigned indices spare the scatter the test for negative ones.
    base = ((events.step + fixed_delay) % slots * n + offset).astype(jnp.uint32)
    nowhere = jnp.uint32(2**32 - 1)  # skipped by the scatter, which compares all the same

    def piece(i, start=None):
        """Targets and weights of the edges of spike i, from `start` on."""
        pre = events.pre[i]
        start = row_ptr[pre] if start is None else start
        at = jnp.minimum(start, n_edges - size)  # as dynamic_slice does at the end of the array
        # One comparison for both ends: what is before the row becomes a large number.
        length = jnp.where(i < events.count, row_ptr[pre + 1] - start, 0).astype(jnp.uint32)
        inside = lanes + (at - start).astype(jnp.uint32) < length
        target = lax.dynamic_slice(post, (at,), (size,)).astype(jnp.uint32)
        if delay is None:
            target = target + base[i]
        else:
            slot = events.step[i] + lax.dynamic_slice(delay, (at,), (size,)).astype(jnp.int32)
            target = target + (slot % slots * n + offset).astype(jnp.uint32)
        amount = None if weight is None else lax.dynamic_slice(weight, (at,), (size,))
        return jnp.where(inside, target, nowhere), amount

    def add(pieces, buffer):
        targets, amounts = zip(*pieces, strict=True)
        amount = jnp.ones((), buffer.dtype) if weight is None else jnp.concatenate(amounts)
        return buffer.at[jnp.concatenate(targets)].add(amount, mode="drop")

    def add_rows(turn, buffer):
        rows = [turn * together + k for k in range(together)]
        return add([piece(i) for i in rows], buffer)

    def add_long_row(i, buffer):
        def more(carry):
            start, buffer = carry
            return start + size, add([piece(i, start)], buffer)

        pre = events.pre[i]
        row = (row_ptr[pre], buffer)
        return lax.while_loop(lambda carry: carry[0] < row_ptr[pre + 1], more, row)[1]

    if max_row > size:
        return lax.fori_loop(0, events.count, add_long_row, buffer)
    turns = (events.count + together - 1) // together
    return lax.fori_loop(0, turns, add_rows, buffer)


def _add_at_once(offset, fixed_delay, slots, n, buffer, events, row_ptr, post, weight, delay):
    """All edges of a round side by side: each finds its spike in the sum of the row lengths."""
    capacity = events.pre.shape[0]
    begin = row_ptr[events.pre]
    length = jnp.where(jnp.arange(capacity) < events.count, row_ptr[events.pre + 1] - begin, 0)
    upto = jnp.cumsum(length)
    before = upto - length
    n_edges = post.shape[0]
    size = min(2**18, max(n_edges, 1))

    def some(carry):
        done, buffer = carry
        number = done + jnp.arange(size, dtype=jnp.int32)
        spike = jnp.searchsorted(upto, number, side="right", method="scan_unrolled")
        inside = number < upto[-1]
        spike = jnp.minimum(spike, capacity - 1)
        edge = jnp.where(inside, begin[spike] + number - before[spike], 0)
        delays = fixed_delay if delay is None else delay[edge].astype(jnp.int32)
        slot = (events.step[spike] + delays) % slots
        target = jnp.where(inside, slot * n + offset + post[edge].astype(jnp.int32), slots * n)
        amount = jnp.ones(size, buffer.dtype) if weight is None else weight[edge]
        return done + size, buffer.at[target].add(amount, mode="drop")

    # Narrow numbers have no atomic addition on a GPU.
    wide = buffer.astype(jnp.int32) if jnp.issubdtype(buffer.dtype, jnp.integer) else buffer
    carry = (jnp.zeros((), jnp.int32), wide)
    return lax.while_loop(lambda carry: carry[0] < upto[-1], some, carry)[1].astype(buffer.dtype)


def _edge_mask(first: int, n: int, n_words: int) -> Array:
    """Words in which the bits first..first+n-1 are set."""
    bits = (jnp.arange(n_words * WORD) >= first) & (jnp.arange(n_words * WORD) < first + n)
    return spikes_.pack(bits[None])[0]
