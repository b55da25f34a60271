"""Spikes delivered one after the other: the way of a CPU."""

from typing import Any

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

    0.8 to 1 ns an edge (1.5 to 2 with delays of their own), and 0.1 us a spike. Listing the spikes
    first takes 40 kernels, 6 us a block, and a scatter for each row as long an edge.
    """
    released = {} if state is None else {**state.values, _LAST: state.last}

    def deliver(carried, words, first_step, edges, release):
        def one(carry):
            word, bits, buffer, released, waiting = carry
            pre, step = _where(layout, words, word, bits, first_step)
            amount = None
            if state is not None:
                released = _put_all(released, waiting)
                own = {name: _at(leaf, pre) for name, leaf in released.items()}
                last = own.pop(_LAST)
                parameters = release_.at(release, pre)
                after, amount = release_.spike(parameters, own, last, step, layout.dt)
                waiting = pre, {**after, _LAST: step}
            if edges.post.shape[0]:
                buffer = _add_row(layout, buffer, pre, step, edges, amount)
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


def _where(
    layout: Layout, words: Array, word: Array, bits: Array, first_step: Array
) -> tuple[Array, Array]:
    """Row and step of the lowest of the bits that are left of a word."""
    first_cell = layout.first_pre // WORD * WORD - layout.first_pre
    row, column = word // words.shape[1], word % words.shape[1]
    bit = lax.population_count((bits & -bits) - 1)
    return column * WORD + bit + jnp.uint32(first_cell % 2**32), first_step + row.astype(jnp.int32)


def _add_row(
    layout: Layout, buffer: Array, pre: Array, step: Array, edges: Edges, amount: Array | None
) -> Array:
    slots = layout.slots
    now = (step % slots).astype(jnp.uint32)
    begin = (step + layout.fixed_delay) % slots * layout.n + layout.offset

    def add(e, buffer):
        target = _at(edges.post, e).astype(jnp.uint32)
        if edges.delay is None:
            target = begin.astype(jnp.uint32) + target
        else:  # no delay is longer than the buffer
            slot = now + _at(edges.delay, e).astype(jnp.uint32)
            slot = jnp.where(slot >= slots, slot - slots, slot)
            target = slot * layout.n + layout.offset + target
        sent = jnp.ones((), buffer.dtype) if amount is None else amount
        sent = sent if edges.weight is None else _at(edges.weight, e) * sent
        return _put(buffer, _at(buffer, target) + sent, target)

    def several(carry):
        e, buffer = carry
        for k in range(_TOGETHER):
            buffer = add(e + k, buffer)
        return e + _TOGETHER, buffer

    e, end = _at(edges.row_ptr, pre).astype(jnp.uint32), _at(edges.row_ptr, pre + 1)
    end = end.astype(jnp.uint32)
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
