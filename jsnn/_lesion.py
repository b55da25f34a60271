"""Cells that die, and what becomes of their synapses."""

from collections.abc import Sequence
from dataclasses import replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from jsnn._math import NEVER, as_real, filled, shortened
from jsnn._names import explained
from jsnn._samples import check_index, chosen
from jsnn._status import check_state
from jsnn.growth import Values, connected
from jsnn.network import Network
from jsnn.projection import locate
from jsnn.state import State


@explained
def lesion(
    network: Network,
    state: State,
    cells: str,
    index: Sequence[int] | np.ndarray | slice | int | None = None,
) -> tuple[Network, State]:
    """The network and its state after some cells have died.

        network, state = jsnn.lesion(network, solution.state, "cells.centre")
        solution = jsnn.run(network, 1000.0, state=state)

    **Arguments:**

    - `state`: from `network.init(key)` or of a solution of this network.
    - `cells`: a population or slice of neurons, as `"cells"` or `"cells.centre"`.
    - `index`: which of these, counted from the first; all if left out.

    Dead cells never fire again, and their membranes stand still. They lose all synapses of growing
    projections that they send or receive; the elements of their partners are vacant again, and are
    paired anew at the next update. Their own elements are gone (`z` is 0) and do not grow again:
    `growth_rate`, which is `[n]` from then on, is 0 for them. Their calcium fades. Spikes that they
    have fired arrive still.

    Other synapses stay as they are, those from dead cells without a spike to carry; and through a
    gap junction a dead cell is still seen, as a membrane that stands still. It is the state that
    keeps cells silent: what `init` of the network returned makes lives, and has no elements there.

    Raises `ValueError` or `TypeError` for unknown addresses, an index that is out of range, cells
    that do not fire, and those with channels, whose membranes never stand still.
    """
    if not isinstance(network, Network):
        raise TypeError(f"network={shortened(network)} is no network")
    name, low, high = locate(network.populations, cells)
    population, among = network.populations[name], chosen(index)
    if not population.neuron.is_spiking:
        raise ValueError(f"cells: {cells!r} are no neurons; give cells that fire")
    if not population.neuron.frozen:
        raise ValueError(
            f"cells: {cells!r} are {type(population.neuron).__name__} cells, whose membranes never "
            "stand still; take their synapses and input away instead"
        )
    check_index(among, cells, high - low, "cells")
    state = check_state(network, state)
    dead = np.zeros(population.n, bool)
    dead[low + np.arange(high - low) if among is None else low + np.asarray(among)] = True

    growth = {other: own.growth for other, own in state.populations.items()}
    edges = dict(state.edges)
    for projection, own in network.synapses.items():
        if own.grown is not None:
            store = edges[projection]
            is_lost = _at(own.pre, store.pre, name, dead) | _at(own.post, store.post, name, dead)
            is_lost = is_lost & store.used
            edges[projection] = store.kept(~is_lost)
            rule = own.grown.rule
            growth = _without(growth, own.pre, rule.pre, store.pre, is_lost)
            growth = _without(growth, own.post, rule.post, store.post, is_lost)

    elements = population.growth.elements
    of_dead = dict(growth[name])
    for what, values in growth[name].items():
        if what.partition(".")[0] in elements:  # z, what its sum keeps, and the connected ones
            of_dead[what] = jnp.where(dead, jnp.zeros_like(values), values)
    growth[name] = of_dead
    populations = {
        other: replace(own, growth=growth[other]) for other, own in state.populations.items()
    }
    silent = jnp.where(dead, np.int32(NEVER), populations[name].refractory)
    populations[name] = replace(populations[name], refractory=silent)

    rates = [jnp.where(dead, 0, filled(own.growth_rate, dead.size)) for own in elements.values()]
    if rates:
        network = eqx.tree_at(
            lambda n: [n.populations[name].growth.elements[own].growth_rate for own in elements],
            network,
            [as_real(rate) for rate in rates],
        )
    return network, replace(state, populations=populations, edges=edges)


def _at(part: tuple[str, int, int], ends: Array, name: str, dead: np.ndarray) -> Array:
    """Which edges have a dead cell at their ends, counted from the first of a part."""
    population, low, high = part
    if population != name:
        return jnp.zeros(ends.shape, bool)
    return jnp.asarray(dead[low:high])[ends]


def _without(
    growth: dict[str, Values], part: tuple[str, int, int], element: str, ends: Array, is_lost: Array
) -> dict[str, Values]:
    """With fewer connected elements, as edges with these ends are lost."""
    population, low, high = part
    own, what = growth[population], connected(element)
    cell = jnp.where(is_lost, ends.astype(jnp.int32), high - low)
    n_lost = jnp.zeros(high - low, jnp.int32).at[cell].add(1, mode="drop")
    return growth | {population: {**own, what: own[what].at[low:high].add(-n_lost)}}
