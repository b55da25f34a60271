"""Other parameters, weights and edges for a network, in arrays of the same shapes: whatever was
compiled for it serves.

Edges change by exchanging sources with each other, and targets with those of the same half: rows
and columns keep their lengths, on two devices too.
"""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np

import jsnn
from jsnn._divide import padded
from jsnn._math import as_array, as_real
from jsnn._slow import SlowCurrents
from jsnn._sums import Way
from jsnn.connect import Edges
from jsnn.coupling import Junctions
from jsnn.delays import Interpolated
from jsnn.inputs import NoiseCurrent, Poisson, SpikeList

DEVICES = 2


def vary(network: jsnn.Network, rng: np.random.Generator) -> jsnn.Network:
    """The network with other numbers."""
    populations = {name: _population(own, rng) for name, own in network.populations.items()}
    synapses = {
        name: _synapses(own, network.populations[own.post[0]].n, rng)
        for name, own in network.synapses.items()
    }
    inputs = {name: _input(own, rng) for name, own in network.inputs.items()}
    couplings = {name: _junctions(own, network, rng) for name, own in network.couplings.items()}
    slow = {name: _slow(own, network, rng) for name, own in network.slow.items()}
    return eqx.tree_at(
        lambda n: (n.populations, n.synapses, n.inputs, n.couplings, n.slow),
        network,
        (populations, synapses, inputs, couplings, slow),
    )


def _scaled(value: Any, rng: np.random.Generator, by: float) -> Any:
    """A real array times numbers within `by` of 1."""
    value = np.asarray(value)
    return as_real(value * rng.uniform(1 - by, 1 + by, value.shape))


def _population(own: Any, rng: np.random.Generator) -> Any:
    def other(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if not eqx.is_inexact_array(leaf) or name == "t_ref":
            return leaf
        return _scaled(leaf, rng, 0.01)

    neuron = jax.tree_util.tree_map_with_path(other, own.neuron)
    if own.neuron.is_spiking and np.ndim(own.neuron.t_ref):
        shuffled = rng.permutation(np.asarray(own.neuron.t_ref))
        neuron = eqx.tree_at(lambda n: n.t_ref, neuron, as_real(shuffled))
    receptors = {
        name: jax.tree.map(lambda leaf: _scaled(leaf, rng, 0.05), filter_)
        for name, filter_ in own.receptors.items()
    }
    return eqx.tree_at(lambda p: (p.neuron, p.receptors), own, (neuron, receptors))


def _exchanged(n: int, parts: list[tuple[int, int]], rng: np.random.Generator) -> np.ndarray:
    """For each of n cells another, of the same part."""
    other = np.arange(n)
    for low, high in parts:
        low, high = min(max(low, 0), n), min(max(high, 0), n)
        other[low:high] = low + rng.permutation(high - low)
    return other


def _halves(n: int, first: int) -> list[tuple[int, int]]:
    """The cells of each device, counted from the first."""
    local = padded(n, DEVICES)
    return [(k * local - first, (k + 1) * local - first) for k in range(DEVICES)]


def _synapses(own: Any, n_target: int, rng: np.random.Generator) -> Any:
    edges = own.edges
    sources = _exchanged(edges.n_pre, [(0, edges.n_pre)], rng)
    targets = _exchanged(edges.n_post, _halves(n_target, own.post[1]), rng)
    pre, post = sources[edges.pre], targets[np.asarray(edges.post)]
    order = np.lexsort((post, pre))
    row_ptr = np.zeros(edges.n_pre + 1, np.int32)
    np.cumsum(np.bincount(pre, minlength=edges.n_pre), out=row_ptr[1:])
    post = post[order].astype(np.asarray(edges.post).dtype)
    edges = Edges(as_array(post), as_array(row_ptr), edges.n_pre, edges.n_post)
    delay = own.delay
    if isinstance(delay, Interpolated):
        where = np.asarray(delay.delay)
        moved = np.clip(where * rng.uniform(0.9, 1.1, where.shape), delay.min, delay.max)
        delay = eqx.tree_at(lambda d: d.delay, delay, as_real(moved))
    elif delay is not None:
        delay = as_array(rng.permutation(np.asarray(delay)))
    parameters = {
        name: _scaled(value, rng, 0.1)
        for name, value in vars(own.release).items()
        if name in ("U", "tau_rec", "tau_fac", "tau_psc")
    }
    release = own.release
    for name, value in parameters.items():
        release = eqx.tree_at(lambda r, name=name: getattr(r, name), release, value)
    return eqx.tree_at(
        lambda s: (s.edges, s.weight, s.delay, s.release),
        own,
        (edges, _scaled(own.weight, rng, 0.2), delay, release),
        is_leaf=lambda x: x is None,
    )


def _input(own: Any, rng: np.random.Generator) -> Any:
    if isinstance(own, SpikeList):
        own = eqx.tree_at(lambda s: s.weight, own, _scaled(own.weight, rng, 0.2))
        return eqx.tree_at(lambda s: s._cells, own, as_array(rng.permutation(own._cells)))
    if isinstance(own, Poisson):
        own = eqx.tree_at(lambda s: s.weight, own, _scaled(own.weight, rng, 0.2))
        if callable(own.rate):
            return own
        return eqx.tree_at(lambda s: s.rate, own, as_real(np.asarray(own.rate) * rng.uniform(0.8)))
    if isinstance(own, NoiseCurrent):
        new = _scaled(own.mean, rng, 0.2), _scaled(own.std, rng, 0.2)
        return eqx.tree_at(lambda s: (s.mean, s.std), own, new)
    return eqx.tree_at(lambda s: s.values, own, _scaled(own.values, rng, 0.2))


def _renamed(way: Way, ends: dict[str, np.ndarray], edge: np.ndarray) -> Way:
    """A way between cells of other names; `edge` tells where each edge has come to be."""
    source, target = ends[way.pre][np.asarray(way.source)], ends[way.post][np.asarray(way.target)]
    order = np.argsort(target, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    made = {
        "source": source[order],
        "target": target[order],
        "edge": edge[np.asarray(way.edge)][order],
    }
    made = {name: as_array(value.astype(np.int32)) for name, value in made.items()}
    count = None if way.count is None else as_array(np.asarray(way.count)[order])
    table = None
    if way.table is not None:
        longest, n_post = way.table.shape
        table = np.full((longest, n_post), order.size, np.int32)
        counts = np.bincount(target, minlength=n_post)
        row = np.arange(order.size) - np.repeat(np.cumsum(counts) - counts, counts)
        table[row, target[order]] = np.arange(order.size)
        table = as_array(table)
    return replace(way, **made, count=count, table=table)


def _ends(parts: Any, network: jsnn.Network, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Other names for the cells of each population within what a coupling joins, and one for both
    ends where they are of one population: a cell joined to itself stays so."""
    ends = {}
    for name, _, _ in parts:
        n, local = network.populations[name].n, padded(network.populations[name].n, DEVICES)
        marks = {0, n, *(min(k * local, n) for k in range(DEVICES))}
        for other, low, high in parts:
            marks |= {low, high} if other == name else set()
        cuts = sorted(marks)
        ends.setdefault(name, _exchanged(n, list(zip(cuts, cuts[1:], strict=False)), rng))
    return ends


def _junctions(own: Junctions, network: jsnn.Network, rng: np.random.Generator) -> Junctions:
    ends, same = _ends(own.parts, network, rng), np.arange(own.n_edges)
    (source, *_), (target, *_) = own.parts
    return replace(
        own,
        pre=as_array(ends[source][np.asarray(own.pre)].astype(np.asarray(own.pre).dtype)),
        post=as_array(ends[target][np.asarray(own.post)].astype(np.asarray(own.post).dtype)),
        conductance=_scaled(own.conductance, rng, 0.2),
        ways=tuple(_renamed(way, ends, same) for way in own.ways),
    )


def _slow(own: SlowCurrents, network: jsnn.Network, rng: np.random.Generator) -> SlowCurrents:
    ends = _ends(own.parts, network, rng)
    same = np.arange(np.asarray(own.pre).size)
    (source, *_), (target, *_) = own.parts
    return replace(
        own,
        pre=as_array(ends[source][np.asarray(own.pre)].astype(np.int32)),
        post=as_array(ends[target][np.asarray(own.post)].astype(np.int32)),
        weight=_scaled(own.weight, rng, 0.2),
        ways=tuple(_renamed(way, ends, same) for way in own.ways),
    )
