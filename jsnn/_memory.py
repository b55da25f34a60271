"""What a network and its records need of memory, against what the machine has."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jsnn._divide import padded
from jsnn._math import real_dtype
from jsnn._store import n_bytes
from jsnn.coupling import Coupling, GapJunction
from jsnn.delays import Interpolated
from jsnn.distributions import is_distribution
from jsnn.edges import Edges, narrow
from jsnn.population import Population
from jsnn.projection import Projection, locate
from jsnn.rewire import capacity_of


def check_plan(
    populations: Mapping[str, Population],
    projections: Mapping[str, Projection],
    couplings: Mapping[str, Coupling],
    dt: float,
) -> None:
    """Raise before drawing what cannot be held."""
    real = real_dtype().itemsize
    needs = {
        # A step reads one state and writes another, on padded cells
        f"population {name!r}: {p.n} cells": 3.0 * real * padded(p.n) * (len(p.states) + 1)
        for name, p in populations.items()
    }
    making = {}
    for name, projection in projections.items():
        what, kept, making[what] = _of_edges(name, projection, populations)
        needs[what] = kept
        delay = projection.delay
        delay = delay.max if isinstance(delay, Interpolated) else delay
        if is_distribution(delay):  # the network checks it once it is drawn
            continue
        cells = {address.partition(".")[0] for address in projection.post}
        slots = float(np.max(delay, initial=0)) / dt
        needs[f"projection {name!r}: the buffer of arrivals"] = sum(
            real * slots * padded(populations[cell].n) for cell in cells
        )
    for name, coupling in couplings.items():
        ends = [locate(populations, a, f"coupling {name!r}") for a in (coupling.pre, coupling.post)]
        rule, n = coupling.rule, [high - low for _, low, high in ends]
        n_edges = float(rule.n_edges if isinstance(rule, Edges) else rule.expected(*n))
        if isinstance(coupling, GapJunction):
            # Two ends, and for each way source, target, edge and place; more while they are sorted
            needs[f"coupling {name!r}: {n_edges:.3g} gap junctions"] = n_edges * (8 + 2 * 5 * 12)
        else:  # while repeated pairs are merged, by one delay
            needs[f"coupling {name!r}: {n_edges:.3g} slow currents"] = n_edges * 32
    if making:  # one after the other, so that only the largest counts
        largest = max(making, key=lambda what: making[what])
        needs[largest] += making[largest]
    check_memory(needs)


def _of_edges(
    name: str, projection: Projection, populations: Mapping[str, Population]
) -> tuple[str, float, float]:
    """A name, the bytes that the edges of a projection take, and those more while they are made:
    measured, at the peak 12 an edge in all, and for each with its own weight 12 and with its own
    delay 40."""
    sizes = []
    for addresses in (projection.pre, projection.post):
        parts = [locate(populations, address, f"projection {name!r}") for address in addresses]
        sizes.append(sum(high - low for _, low, high in parts))
    rule = projection.rule
    if projection.growing is not None:
        n = float(rule.n_edges if isinstance(rule, Edges) else rule.expected(*sizes))
        room = capacity_of(projection.growing, int(min(n, 2**40)), *sizes)
        what = f"projection {name!r}: room for {room:.3g} synapses"
        return what, n_bytes(room, sizes[1], True, True), 0.0
    n_edges = float(rule.n_edges if isinstance(rule, Edges) else rule.expected(*sizes))
    kept, peak = np.dtype(narrow(sizes[1])).itemsize, 12
    for value, own, making in (
        (projection.weight, real_dtype().itemsize, 12),
        (getattr(projection.delay, "delay", projection.delay), 2, 40),
    ):
        if is_distribution(value) or np.ndim(value):
            kept, peak = kept + own, peak + making
    of_edges = [v for v in vars(projection.release).values() if _by_edge(v, n_edges, sizes[0])]
    if of_edges:  # parameters, and states before and after a step
        kept += real_dtype().itemsize * (len(of_edges) + 2 * len(projection.release.states))
        peak += 12 * len(of_edges)
    what = f"projection {name!r}: {n_edges:.3g} synapses"
    return what, n_edges * kept, n_edges * (peak - kept)


def _by_edge(value: Any, n_edges: float, n_pre: int) -> bool:
    return is_distribution(value) or (np.ndim(value) > 0 and np.size(value) == n_edges != n_pre)


def check_memory(needs: Mapping[str, float]) -> None:
    """Raise `ValueError` if these things, by name in bytes, need more than the machine has."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not known on this system
        return
    total = sum(needs.values())
    if total <= machine:
        return
    most = max(needs, key=lambda name: needs[name])
    others = f", of {total / 1e9:.3g} GB in all" if len(needs) > 1 else ""
    raise ValueError(
        f"{most} needs about {needs[most] / 1e9:.3g} GB{others}, but this machine has "
        f"{machine / 1e9:.3g} GB; give fewer cells or synapses, shorter delays, or record less"
    )


def check_buffers(
    network: Any,
    projections: Mapping[str, tuple[int, str]],
    couplings: Mapping[str, tuple[int, str]],
    populations: Mapping[str, Population],
) -> None:
    """Raise for buffers of delays, by (steps, population), that cannot be held or counted."""
    buffers = {}
    for kind, kept in (("projection", projections), ("coupling", couplings)):
        for name, (slots, population) in kept.items():
            numbers = slots * padded(populations[population].n)
            if numbers >= 2**31:
                raise ValueError(
                    f"{kind} {name!r}: delays of {slots} steps make a buffer of {numbers} numbers; "
                    "give shorter delays or split the population"
                )
            what = f"{kind} {name!r}: the buffer of delays"
            buffers[what] = float(real_dtype().itemsize * numbers)
    check_memory({"the network": size(network), **buffers})


def size(tree: Any) -> float:
    """The bytes of all arrays of a pytree."""
    return float(
        sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree) if hasattr(x, "dtype"))
    )
