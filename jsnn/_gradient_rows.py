"""The rows of cells backward: what a change of a spike, or of a weight, would change.

With g the gradient with respect to the buffer of arrivals, that of the amount which a cell sends in
a step is the sum of weight times g over its row; it is wanted where the cell spiked or nearly did.
That of a weight is the sum of amount times g over the spikes of its cell.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap

from jsnn._event_driven import one_after_other
from jsnn._one_kernel import one_kernel
from jsnn._rows import Edges, Events, Layout, each_edge, in_rounds, own_words
from jsnn._spike_rows import SpikeRows, at, put


@functools.cache
def of_amounts(layout: Layout):
    """`((given [slots, n], words [steps, m]), first_step, edges) -> [steps, n_pre]`: the gradient
    of the amounts of the cells in the words, and 0 for the others."""

    def ways(lanes, lead, first_step, edges):
        given, words = lead
        shape = (*words.shape[:-1], layout.n_pre)
        if not edges[1].shape[-1]:
            return jnp.zeros(shape, given.dtype)
        lead = given, own_words(layout, words)
        ways = _amounts_one_by_one, _amounts_at_once
        return _by_platform(layout, lanes, ways, lead, first_step, edges).reshape(shape)

    return _batched(ways)


@functools.cache
def of_weights(layout: Layout):
    """`((total [n_edges], given [slots, n], words [steps, m], amounts), first_step, edges)`: the
    gradient of weights with that of the spikes in the words added, each of an amount of
    `[steps, n_pre]`, or of 1 where those are None."""

    def ways(lanes, lead, first_step, edges):
        total, given, words, amounts = lead
        if not edges[1].shape[-1]:
            return total
        lead = total, given, own_words(layout, words), amounts
        ways = _weights_one_by_one, _weights_at_once
        return _by_platform(layout, lanes, ways, lead, first_step, edges).reshape(total.shape)

    return _batched(ways)


def _batched(function: Any) -> Any:
    """With a batching rule: all lanes in one kernel where they lie in 32 bits, else one after the
    other. What leads has lanes then; step and edges have them or not."""
    alone = custom_vmap(functools.partial(function, None))
    lanes = custom_vmap(lambda lead, *rest: function(lead[0].shape[0], lead, *rest))
    lanes.def_vmap(functools.partial(one_after_other, lanes))

    @alone.def_vmap
    def _(axis_size, in_batched, lead, first_step, edges):
        leaves, structure = jax.tree.flatten(lead)
        lead = jax.tree.unflatten(
            structure,
            [
                leaf if is_batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape))
                for leaf, is_batched in zip(leaves, jax.tree.leaves(in_batched[0]), strict=True)
            ],
        )
        if max(leaf.size for leaf in jax.tree.leaves((lead, edges))) >= 2**31:
            in_batched = (jax.tree.map(lambda _: True, lead), *in_batched[1:])
            return one_after_other(alone, axis_size, in_batched, lead, first_step, edges)
        return lanes(lead, first_step, edges), True

    return alone


def _by_platform(
    layout: Layout, lanes: int | None, ways: Any, lead: tuple, first_step: Array, edges: tuple
) -> Array:
    one_by_one, at_once = (functools.partial(way, layout) for way in ways)

    def elsewhere(lead, first_step, edges):
        if lanes is None:
            return at_once(lead, first_step, edges)
        batched = jax.tree.map(lambda _: True, lead), first_step.ndim > 0
        batched = (*batched, jax.tree.map(lambda x: x.ndim > 1, edges))
        # Flat, as all lanes of the other are
        return one_after_other(at_once, lanes, batched, lead, first_step, edges)[0].reshape(-1)

    arguments = lead, first_step, Edges(*edges)
    return lax.platform_dependent(*arguments, cpu=one_by_one, default=elsewhere)


def _amounts_one_by_one(
    layout: Layout, lead: tuple[Array, Array], first_step: Array, edges: Edges
) -> Array:
    given, words = lead
    rows = SpikeRows.of(layout, words, edges)
    n_lanes = 1 if words.ndim == 2 else words.shape[0]
    edges = jax.tree.map(jnp.ravel, edges)

    def gather(sums, given, words, first_step, edges):
        def one(carry):
            word, bits, sums = carry
            lane, pre, step = rows.where(word, bits, first_step)
            target = rows.target(lane, step, edges)

            def several(e, count, total):
                parts = []
                for k in range(count):
                    part = at(given, target(e + k))
                    if edges.weight is not None:
                        part = rows.of_edge(edges, "weight", lane, e + k) * part
                    parts.append(part)
                while len(parts) > 1:  # in pairs: one sum would wait for the other
                    parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
                return total + parts[0]

            total = rows.fold(lane, pre, edges, several, jnp.zeros((), given.dtype))
            sums = put(sums, total, rows.place(lane, pre, step, first_step))
            return *rows.next(words, word, bits), sums

        carry = (*rows.first(words), sums)
        return lax.while_loop(lambda carry: carry[0] < words.size, one, carry)[2]

    none = jnp.zeros(n_lanes * rows.n_steps * layout.n_pre, given.dtype)
    return one_kernel(gather, none, given.reshape(-1), words, first_step, edges)


def _weights_one_by_one(
    layout: Layout, lead: tuple[Array, Array, Array, Array | None], first_step: Array, edges: Edges
) -> Array:
    total, given, words, amounts = lead
    rows = SpikeRows.of(layout, words, edges)
    n_edges = edges.post.shape[-1]
    # Not the weights themselves: that they lie beside their gradients would keep them
    edges = jax.tree.map(jnp.ravel, edges._replace(weight=None))
    amounts = None if amounts is None else amounts.reshape(-1)

    def weigh(total, given, words, first_step, edges, amounts):
        def one(carry):
            word, bits, total = carry
            lane, pre, step = rows.where(word, bits, first_step)
            target = rows.target(lane, step, edges)
            amount = None
            if amounts is not None:
                amount = at(amounts, rows.place(lane, pre, step, first_step))

            def several(e, count, total):
                for k in range(count):
                    own = e + k if lane is None else lane * n_edges + e + k
                    part = at(given, target(e + k))
                    part = part if amount is None else amount * part
                    total = put(total, at(total, own) + part, own)
                return total

            return *rows.next(words, word, bits), rows.fold(lane, pre, edges, several, total)

        carry = (*rows.first(words), total)
        return lax.while_loop(lambda carry: carry[0] < words.size, one, carry)[2]

    total = total.reshape(-1)
    return one_kernel(weigh, total, given.reshape(-1), words, first_step, edges, amounts)


def _amounts_at_once(
    layout: Layout, lead: tuple[Array, Array], first_step: Array, edges: Edges
) -> Array:
    given, words = lead[0].reshape(-1), lead[1]

    def round_(events: Events, sums: Array) -> Array:
        real = jnp.arange(layout.capacity) < events.count

        def visit(found, spike, edge, target, inside):
            part = given[jnp.where(inside, target, 0)]
            part = part if edges.weight is None else edges.weight[edge] * part
            return found.at[spike].add(jnp.where(inside, part, 0))

        found = each_edge(
            layout, real, events, edges, visit, jnp.zeros(layout.capacity, given.dtype)
        )
        place = (events.step - first_step) * layout.n_pre + events.pre
        return sums.at[jnp.where(real, place, sums.shape[0])].set(found, mode="drop")

    none = jnp.zeros(words.shape[0] * layout.n_pre, given.dtype)
    return in_rounds(layout, words, first_step, round_, none)


def _weights_at_once(
    layout: Layout, lead: tuple[Array, Array, Array, Array | None], first_step: Array, edges: Edges
) -> Array:
    total, given, words, amounts = lead
    given = given.reshape(-1)

    def round_(events: Events, total: Array) -> Array:
        real = jnp.arange(layout.capacity) < events.count

        def visit(total, spike, edge, target, inside):
            part = given[jnp.where(inside, target, 0)]
            if amounts is not None:
                step = events.step_of(spike) - first_step
                part = amounts[step, events.pre[spike]] * part
            return total.at[jnp.where(inside, edge, total.shape[0])].add(part, mode="drop")

        return each_edge(layout, real, events, edges, visit, total)

    return in_rounds(layout, words, first_step, round_, total)
