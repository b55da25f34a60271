"""Slow currents: what astrocytes send, delayed, to the neurons of each block of steps."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jsnn._math import as_array, as_real, check_number, filled
from jsnn._slots import peek
from jsnn._sums import Conductances, Part, Way, way_of
from jsnn.coupling import Devices
from jsnn.population import Coefficients, Population, PopulationState


class SlowCurrents(eqx.Module):
    """A `SlowInwardCurrent` as built: pairs of cells `pre` and `post` within their populations,
    each of one delay, which `count` edges have been merged to.

    `weight` is the scalar of every edge, or `[n_pairs]`, the sum over the edges of a pair; it may
    be trained. `ways` are the pairs of each of the `delays` (steps).
    """

    pre: Array
    post: Array
    count: Array
    delay: Array
    weight: Array
    ways: tuple[Way, ...]
    delays: tuple[int, ...] = eqx.field(static=True)
    parts: tuple[Part, Part] = eqx.field(static=True)
    n_edges: int = eqx.field(static=True)

    @property
    def slots(self) -> int:
        """The steps for which signals are kept."""
        return max(self.delays, default=1)

    def checked(self) -> "SlowCurrents":
        check_number("weight", self.weight)
        if np.shape(self.weight) not in ((), self.pre.shape):
            raise ValueError(
                f"weight has shape {np.shape(self.weight)}; give a scalar or {self.pre.shape}, one "
                "for each pair"
            )
        return eqx.tree_at(lambda own: own.weight, self, as_real(self.weight))

    def connections(self, dt: float) -> "SlowConnections":
        weight, count = np.asarray(filled(self.weight, self.pre.size)), np.asarray(self.count)
        total = weight * count if self.weight.ndim == 0 else weight
        pre, post = np.asarray(self.pre), np.asarray(self.post)
        return SlowConnections(pre, post, total, np.asarray(self.delay) * dt, count)

    def prepare(self) -> list[Conductances]:
        """The weights of each way in the form that a step wants."""
        return [way.prepare(self.weight) for way in self.ways]


class SlowConnections(NamedTuple):
    """The merged edges of a slow current: cells within their populations, the sum of their weights,
    their delay (ms), and how many they are."""

    pre: np.ndarray
    post: np.ndarray
    weight: np.ndarray
    delay: np.ndarray
    count: np.ndarray


def merged(
    pre: np.ndarray,
    post: np.ndarray,
    weight: Any,
    delay: np.ndarray,
    parts: tuple[Part, Part],
    sizes: Mapping[str, int],
) -> SlowCurrents:
    """The currents of edges in storage order; `delay` is in steps, a scalar or of each."""
    n_edges, per_edge = pre.size, np.ndim(weight) > 0
    order = np.lexsort((post, pre, delay)) if np.ndim(delay) else np.arange(n_edges)
    columns = pre[order], post[order], np.broadcast_to(delay, n_edges)[order]
    new = np.ones(n_edges, bool)
    new[1:] = np.any([own[1:] != own[:-1] for own in columns], 0)
    first = np.flatnonzero(new)
    count = np.diff(first, append=n_edges)
    pre, post, delay = (own[first] for own in columns)
    if per_edge:
        sums = np.add.reduceat(np.asarray(weight)[order], first) if first.size else weight
        weight = as_real(sums)
    delays = tuple(int(d) for d in np.unique(delay))
    ways = []
    for own in delays:
        mine = np.flatnonzero(delay == own).astype(np.int32)
        ends = pre[mine], post[mine], mine, parts[0][0], parts[1][0]
        ways.append(way_of(*ends, sizes, count=count[mine]))
    pre_, post_, count_, delay_ = (
        as_array(own.astype(np.int32)) for own in (pre, post, count, delay)
    )
    return SlowCurrents(pre_, post_, count_, delay_, weight, tuple(ways), delays, parts, n_edges)


class Parts(Protocol):
    """What slow currents need of a network."""

    @property
    def populations(self) -> dict[str, Population]: ...
    @property
    def slow(self) -> dict[str, SlowCurrents]: ...


def heard(
    net: Parts,
    signals: Mapping[str, Array],
    first_step: Array,
    length: int,
    *,
    in_place: bool = False,
) -> tuple[dict[str, list[Array]], dict[str, Array]]:
    """By coupling, for each of its delays, the signals `[length, n_pre]` that reach the targets in
    some steps, at most the least delay of them; and all signals, which are then ready to be changed
    `in_place` (that has no derivative)."""
    found, kept = {}, dict(signals)
    steps = first_step + jnp.arange(length, dtype=jnp.int32)
    for name, built in net.slow.items():
        slots = (steps - jnp.asarray(built.delays, jnp.int32)[:, None]) % built.slots
        if in_place:
            rows, kept[name] = peek(signals[name], slots.reshape(-1))
            found[name] = list(rows.reshape(*slots.shape, -1))
        else:
            found[name] = [signals[name][row] for row in slots]
    return found, kept


def currents(
    net: Parts,
    weights: Mapping[str, list[Conductances]],
    heard: Mapping[str, list[Array]],
    length: int,
    cells: Mapping[str, int],
    devices: Devices,
) -> dict[str, dict[str, Array]]:
    """By population and coupling, the currents `[length, n]` of some steps, of what their targets
    have heard in them: each drives the step after."""
    made: dict[str, dict[str, Array]] = {name: {} for name in net.populations}
    for name, built in net.slow.items():
        (_, _, _), (post, _, _) = built.parts
        n = cells[post]
        total = jnp.zeros((length, n), built.weight.dtype)
        for sent, way in zip(heard[name], weights[name], strict=True):
            found = way.from_sources(sent, devices.first[post], n, n * devices.count)
            total += way.scale * found
        made[post][name] = total
    return made


def holding(
    populations: Mapping[str, PopulationState], slow: Mapping[str, Mapping[str, Array]]
) -> dict[str, PopulationState]:
    """The states with the currents `[n]` of the next step."""
    return {
        name: eqx.tree_at(lambda p: p.slow, own, dict(slow[name])) if slow[name] else own
        for name, own in populations.items()
    }


def sent(
    net: Parts,
    coefficients: Mapping[str, Coefficients],
    populations: Mapping[str, PopulationState],
) -> dict[str, Array]:
    """By coupling, what all cells of its source population send after a step."""
    found, made = {}, {}
    for name, built in net.slow.items():
        source = built.parts[0][0]
        if source not in found:
            law = coefficients[source].system.neuron  # of the cells that are here
            found[source] = law.slow_current(populations[source].cell)
        made[name] = found[source]
    return made


def remembered(
    net: Parts,
    signals: Mapping[str, Array],
    sent: Mapping[str, Array],
    first_step: Array,
    length: int | Array,
) -> dict[str, Array]:
    """The signals with what was sent in the first `length` of some steps, `[steps, n]`."""
    new = {}
    for name, ring in signals.items():

        def put(i: Array, ring: Array, name: str = name) -> Array:
            row = lax.dynamic_slice_in_dim(sent[name], i, 1, 0)
            slot = (first_step + i) % net.slow[name].slots
            return lax.dynamic_update_slice_in_dim(ring, row, slot, 0)

        new[name] = lax.fori_loop(0, length, put, ring)
    return new
