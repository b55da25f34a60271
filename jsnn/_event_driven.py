"""The rows of the cells that fired into a buffer of arrivals, and only those.

A block's spikes are taken in the order of (step, source): on a CPU one by one, elsewhere, and where
each edge has a release of its own, in rounds of a fixed capacity. With short-term plasticity each
first gets the amount that it releases.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap

from jsnn import release as release_
from jsnn._math import real_dtype
from jsnn._one_by_one import one_by_one
from jsnn._rows import (
    Edges,
    Events,
    Layout,
    add_at_once,
    in_rounds,
    in_turn,
    own_words,
    release_at_once,
    release_by_loop,
)
from jsnn.release import ReleaseState


@functools.cache
def deliver(layout: Layout):
    """The event-driven delivery as a function of arrays, with its batching rule.

    Batched by JAX, a loop over spikes would run as often as the worst of the batch needs, and copy
    the buffers of all the others at every turn. One after the other costs the sum of the events.
    """
    alone = custom_vmap(functools.partial(_deliver, layout))
    lanes = custom_vmap(functools.partial(_deliver_lanes, layout))
    lanes.def_vmap(functools.partial(one_after_other, lanes))

    @alone.def_vmap
    def _(axis_size, in_batched, buffer, state, words, first_step, edges, release):
        sizes = (axis_size * layout.slots * layout.n, *(x.size for x in jax.tree.leaves(edges)))
        if state is not None or layout.per_edge or max(sizes) >= 2**31:  # places are 32 bits
            arguments = (buffer, state, words, first_step, edges, release)
            return one_after_other(alone, axis_size, in_batched, *arguments)
        buffer, words = (
            leaf if is_batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape))
            for leaf, is_batched in ((buffer, in_batched[0]), (words, in_batched[2]))
        )
        return (lanes(buffer, words, first_step, edges), None), (True, None)

    return alone


@functools.cache
def deliver_amounts(layout: Layout):
    """The same of spikes that carry amounts, `[steps, n_pre]`."""
    alone = custom_vmap(functools.partial(_deliver_amounts, layout))
    alone.def_vmap(functools.partial(one_after_other, alone))
    return alone


def _deliver_amounts(
    layout: Layout, buffer: Array, amounts: Array, words: Array, first_step: Array, edges: tuple
) -> Array:
    arguments = (buffer.reshape(-1), amounts, own_words(layout, words), first_step, Edges(*edges))

    def by(way):
        return lambda buffer, amounts, words, first_step, edges: way(
            layout, buffer, None, words, first_step, edges, None, amounts
        )[0]

    made = lax.platform_dependent(*arguments, cpu=by(one_by_one), default=by(_in_rounds))
    return made.reshape(layout.slots, layout.n)


def one_after_other(function: Any, axis_size: int, in_batched: Any, *arguments: Any) -> Any:
    """A batching rule: the members of the batch by themselves."""
    leaves, structure = jax.tree.flatten(arguments)
    batched = jax.tree.leaves(in_batched)
    mapped = [leaf for leaf, is_batched in zip(leaves, batched, strict=True) if is_batched]

    def one(mapped):
        mapped = iter(mapped)
        mixed = [
            next(mapped) if is_batched else leaf
            for leaf, is_batched in zip(leaves, batched, strict=True)
        ]
        return function(*jax.tree.unflatten(structure, mixed))

    made = lax.map(one, mapped)
    return made, jax.tree.map(lambda _: True, made)


def _deliver(
    layout: Layout,
    buffer: Array,
    state: ReleaseState | None,
    words: Array,
    first_step: Array,
    edges: tuple,
    release: Any,
) -> tuple[Array, ReleaseState | None]:
    # The buffer stays flat inside the loops: a row of it taken out and put back costs twice.
    words = own_words(layout, words)
    arguments = (buffer.reshape(-1), state, words, first_step, Edges(*edges), release)
    in_rounds = functools.partial(_in_rounds, layout)
    if layout.per_edge:
        made = in_rounds(*arguments)
    else:
        one = functools.partial(one_by_one, layout)
        made = lax.platform_dependent(*arguments, cpu=one, default=in_rounds)
    return made[0].reshape(layout.slots, layout.n), made[1]


def _deliver_lanes(
    layout: Layout, buffer: Array, words: Array, first_step: Array, edges: tuple
) -> Array:
    """Without releases, for a batch: buffers `[lanes, slots, n]`, words `[lanes, steps, m]`; step
    and edges with lanes or without."""
    rest = (own_words(layout, words), first_step, Edges(*edges))

    def on_cpu(buffer, words, first_step, edges):
        return one_by_one(layout, buffer.reshape(-1), None, words, first_step, edges, None)[0]

    def elsewhere(buffer, words, first_step, edges):
        def one(buffer, words, first_step, edges):
            return _in_rounds(layout, buffer.reshape(-1), None, words, first_step, edges, None)[0]

        in_batched = (True, True, first_step.ndim > 0, jax.tree.map(lambda x: x.ndim > 1, edges))
        arguments = (buffer, words, first_step, edges)
        return one_after_other(one, buffer.shape[0], in_batched, *arguments)[0].reshape(-1)

    made = lax.platform_dependent(buffer, *rest, cpu=on_cpu, default=elsewhere)
    return made.reshape(buffer.shape)


def _in_rounds(
    layout: Layout,
    buffer: Array,
    state: ReleaseState | None,
    words: Array,
    first_step: Array,
    edges: Edges,
    release: Any,
    amounts: Array | None = None,
) -> tuple[Array, ReleaseState | None]:
    """List as many spikes as a round holds, and deliver them together."""
    distinct = words.shape[0] == 1  # no source twice in a step

    def deliver(events, carry):
        buffer, state = carry
        if state is not None and layout.per_edge:
            return lax.platform_dependent(
                *(buffer, state, events, edges, release),
                cpu=functools.partial(release_by_loop, layout),
                default=functools.partial(release_at_once, layout, distinct),
            )
        if state is not None:
            state, amount = _release_of_sources(layout, distinct, release, state, events)
            events = events._replace(amount=amount)
        if amounts is not None:
            events = events._replace(amount=amounts[events.step - first_step, events.pre])
        if edges.post.shape[0]:
            buffer = add_at_once(layout, buffer, events, edges)
        return buffer, state

    return in_rounds(layout, words, first_step, deliver, (buffer, state))


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
    return in_turn(layout, distinct, events, some, (state, amount))
