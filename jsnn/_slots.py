"""Slots of circular buffers: what waits for a step is read, and then cleared in its place.

XLA changes a buffer in place only where it knows that whatever reads the old one comes before. What
a loop over steps reads is known once the loop is over. A loop of one step folds away, and what it
reads is fused into every kernel that wants it, beside the one that clears: XLA then copies the
whole buffer, more than once a step, and a long delay costs as much as all its slots. Hence a block
of one step takes its row out of the buffer, and clears it there, in one kernel. The same is true of
what is read only, and written later in the step (`peek`).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap

from jsnn._one_kernel import one_kernel


def take(buffer: Array, step: Array, known: Any = ()) -> tuple[Array, Array]:
    """What waits for a step in a buffer `[slots, n]`, as a buffer of this one slot, `[1, n]`, and
    the buffer without it; not before other arrays are known."""
    return _take(buffer, step % buffer.shape[0], known)


@custom_vmap
def _take(buffer: Array, slot: Array, known: Any) -> tuple[Array, Array]:
    """Buffers `[..., slots, n]` of batches that stand at the same step."""

    def read_and_clear(carried: Any, slot: Array) -> Any:
        row, buffer = carried
        row = row + lax.dynamic_slice_in_dim(buffer, slot, 1, -2)
        at = _index_after(slot, row)
        return row, lax.dynamic_update_slice_in_dim(buffer, jnp.zeros_like(row), at, -2)

    row = jnp.zeros((*buffer.shape[:-2], 1, buffer.shape[-1]), buffer.dtype)
    return one_kernel(read_and_clear, (row, buffer), _index_after(slot, known))


@_take.def_vmap
def _take_batch(axis_size: int, in_batched: Any, buffer: Array, slot: Array, known: Any) -> Any:
    buffer_batched, slot_batched, _ = in_batched
    if not buffer_batched:
        buffer = jnp.broadcast_to(buffer, (axis_size, *buffer.shape))
    if not slot_batched:
        return _take(buffer, slot, known), (True, True)

    return _of_each(_taken, buffer, _index_after(slot, known)[:, None]), (True, True)


@custom_vmap
def peek(buffer: Array, slots: Array) -> tuple[Array, Array]:
    """Rows `[k, n]` of a buffer, and the buffer, which may then be changed in its place; of
    batches, `[..., slots, n]`, the same slots `[k]`."""

    def read_one(i: Any, slots: Array, buffer: Array) -> tuple[Array, Array]:
        row = lax.dynamic_slice_in_dim(buffer, slots[i], 1, -2)
        # Written back, since the kernel would otherwise not hand the buffer on; and then read once
        # more, since two kernels that read a buffer beside its change would copy it
        buffer = lax.dynamic_update_slice_in_dim(buffer, row, _index_after(slots[i], row), -2)
        return lax.dynamic_slice_in_dim(buffer, slots[i], 1, -2), buffer

    def read(carried: Any, slots: Array) -> Any:
        def put(i: Any, carried: Any) -> Any:
            rows, buffer = carried
            row, buffer = read_one(i, slots, buffer)
            return lax.dynamic_update_slice_in_dim(rows, row, i, -2), buffer

        return lax.fori_loop(0, slots.shape[0], put, carried)

    if slots.shape[0] == 1:  # rows that one row fills would be an argument without a use
        return one_kernel(lambda buffer, slots: read_one(0, slots, buffer), buffer, slots)
    rows = jnp.zeros((*buffer.shape[:-2], slots.shape[0], buffer.shape[-1]), buffer.dtype)
    return one_kernel(read, (rows, buffer), slots)


@peek.def_vmap
def _peek_batch(axis_size: int, in_batched: Any, buffer: Array, slots: Array) -> Any:
    buffer_batched, slots_batched = in_batched
    if not buffer_batched:
        buffer = jnp.broadcast_to(buffer, (axis_size, *buffer.shape))
    if not slots_batched:
        return peek(buffer, slots), (True, True)
    return _of_each(_looked_at, buffer, slots), (True, True)


def _of_each(rows_of: Callable, buffer: Array, slots: Array) -> tuple[Array, Array]:
    """Of buffers `[batch, ..., slots, n]` the slots `[batch, k]` of each."""
    batch, *inner, size, n = buffer.shape
    first = np.arange(batch * math.prod(inner)).reshape(batch, *inner, 1) * size
    at = first + slots.reshape(batch, *[1] * len(inner), -1)
    rows, rest = rows_of(buffer.reshape(-1, n), at.reshape(-1))
    return rows.reshape(*at.shape, n), rest.reshape(buffer.shape)


def _in_turn(is_cleared: bool) -> Callable:
    """Rows `[k, n]` of all rows `[m, n]`, and these, which may be changed in their place: without
    those, or with."""

    @custom_vmap
    def rows_of(buffer: Array, at: Array) -> tuple[Array, Array]:
        def read(carried: Any, at: Array) -> Any:
            return lax.fori_loop(0, at.shape[0], lambda i, carried: put(i, at, carried), carried)

        def put(i: Any, at: Array, carried: Any) -> Any:
            rows, buffer = carried
            row = lax.dynamic_slice_in_dim(buffer, at[i], 1, 0)
            rows = lax.dynamic_update_slice_in_dim(rows, row, i, 0)
            row = lax.dynamic_slice_in_dim(rows, i, 1, 0)
            return rows, put_back(i, at, row, buffer)

        def put_back(i: Any, at: Array, row: Array, buffer: Array) -> Array:
            new = jnp.zeros_like(row) if is_cleared else row
            return lax.dynamic_update_slice_in_dim(buffer, new, _index_after(at[i], row), 0)

        def read_one(buffer: Array, at: Array) -> tuple[Array, Array]:
            row = lax.dynamic_slice_in_dim(buffer, at[0], 1, 0)
            return row, put_back(0, at, row, buffer)

        def on_cpu(buffer: Array, at: Array) -> tuple[Array, Array]:
            if at.shape[0] == 1:  # see `peek`
                return one_kernel(read_one, buffer, at)
            rows = jnp.zeros((at.shape[0], buffer.shape[1]), buffer.dtype)
            return one_kernel(read, (rows, buffer), at)

        def elsewhere(buffer: Array, at: Array) -> tuple[Array, Array]:
            left = buffer.at[at].set(0, mode="drop") if is_cleared else buffer
            return buffer[at], left

        return lax.platform_dependent(buffer, at, cpu=on_cpu, default=elsewhere)

    @rows_of.def_vmap
    def _of_batch(axis_size: int, in_batched: Any, buffer: Array, at: Array) -> Any:
        if not in_batched[0]:
            buffer = jnp.broadcast_to(buffer, (axis_size, *buffer.shape))
        if not in_batched[1]:
            at = jnp.broadcast_to(at, (axis_size, *at.shape))
        return _of_each(rows_of, buffer, at), (True, True)

    return rows_of


_taken, _looked_at = _in_turn(True), _in_turn(False)


def clear(buffer: Array, first_step: Array, length: int | Array) -> Array:
    """Set the slots of `length` steps to 0, in a buffer `[slots, n]`."""
    slots = buffer.shape[0]
    empty = jnp.zeros((1, buffer.shape[1]), buffer.dtype)

    def clear_one(i: Any, buffer: Array) -> Array:
        return lax.dynamic_update_slice_in_dim(buffer, empty, (first_step + i) % slots, 0)

    return lax.fori_loop(0, length, clear_one, buffer)


def _index_after(slot: Array, known: Any) -> Array:
    return not_before(slot.astype(jnp.uint32), known).astype(jnp.int32)


def not_before(words: Array, known: Any) -> Array:
    """The same words, but not before other arrays are known: with a bit of each that is always 0,
    which XLA cannot tell."""
    for leaf in jax.tree.leaves(known):
        if leaf.size:
            one = leaf.reshape(-1)[0]
            bits = lax.bitcast_convert_type(one, f"uint{8 * one.dtype.itemsize}")
            words = words | (lax.population_count(bits) >> 7).astype(words.dtype)
    return words
