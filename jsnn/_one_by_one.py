"""Spikes delivered one after the other: the way of a CPU."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jsnn import release as release_
from jsnn._one_kernel import one_kernel
from jsnn._rows import Edges, Layout
from jsnn._spike_rows import SpikeRows, at, put
from jsnn.release import ReleaseState

_LAST = "last spike"  # among the states of a release


def one_by_one(
    layout: Layout,
    buffer: Array,
    state: ReleaseState | None,
    words: Array,
    first_step: Array,
    edges: Edges,
    release: Any,
    amounts: Array | None = None,
) -> tuple[Array, ReleaseState | None]:
    """Add the rows of the spikes in words `[steps, m]` to a flat buffer, with the states of sources
    in `state`, or the amounts `[steps, n_pre]` that they send.

    Without such states also for a batch: words `[lanes, steps, m]`, the flat buffers one after the
    other, and edges and `first_step` with lanes or without. Taken apart for one lane at a time,
    buffers and edges would be copied for each.

    0.8 to 1 ns an edge (1.5 to 2 with delays of their own), and 0.1 us a spike. Listing the spikes
    first takes 40 kernels, 6 us a block, and a scatter for each row as long an edge.
    """
    released = {} if state is None else {**state.values, _LAST: state.last}
    rows = SpikeRows.of(layout, words, edges)
    edges = jax.tree.map(jnp.ravel, edges)

    def deliver(carried, words, first_step, edges, release, amounts):
        def one(carry):
            word, bits, buffer, released, waiting = carry
            lane, pre, step = rows.where(word, bits, first_step)
            amount = None
            if amounts is not None:
                amount = at(amounts, rows.place(lane, pre, step, first_step))
            if state is not None:
                released = _put_all(released, waiting)
                own = {name: at(leaf, pre) for name, leaf in released.items()}
                last = own.pop(_LAST)
                parameters = release_.at(release, pre)
                after, amount = release_.spike(parameters, own, last, step, layout.dt)
                waiting = pre, {**after, _LAST: step}
            if edges.post.shape[0]:
                buffer = rows.add(buffer, lane, pre, step, edges, amount)
            return *rows.next(words, word, bits), buffer, released, waiting

        buffer, released = carried
        # What a spike leaves behind is put in its place in the next turn: put at once, each value
        # would be computed in place from the old ones, of which XLA would first copy all.
        waiting = jnp.uint32(0), {name: leaf[0] for name, leaf in released.items()}
        carry = (*rows.first(words), buffer, released, waiting)
        carry = lax.while_loop(lambda carry: carry[0] < words.size, one, carry)
        _, _, buffer, released, waiting = carry
        return buffer, _put_all(released, waiting)

    amounts = None if amounts is None else amounts.reshape(-1)
    carried = (buffer, released)
    carried = one_kernel(deliver, carried, words, first_step, edges, release, amounts)
    buffer, released = carried
    if state is not None:
        last = released.pop(_LAST)
        state = ReleaseState(released, last, state.deviation)
    return buffer, state


def _put_all(values: dict[str, Array], waiting: tuple[Array, dict[str, Array]]) -> dict[str, Array]:
    i, new = waiting
    return {name: put(leaf, new[name], i) for name, leaf in values.items()}
