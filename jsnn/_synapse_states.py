"""The states of synapses with short-term plasticity, over time or at spikes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jsnn import release as release_
from jsnn import spikes as spikes_
from jsnn._math import plain, real_dtype, unknown
from jsnn._names import explained
from jsnn._samples import (
    Block,
    GatheredLists,
    GatheredRows,
    Samples,
    Sources,
    check_index,
    chosen,
    first_rows,
)
from jsnn._synapses import Synapses
from jsnn.network import Network
from jsnn.population import PopulationState
from jsnn.records import SampleRecord, SpikeSamples, SpikeValues
from jsnn.release import ReleaseState


@explained
class SynapseStates(eqx.Module):
    """A state of the synapses of a projection with short-term plasticity, `[n_samples, k]`.

    **Arguments:**

    - `projection`: its name.
    - `state`: of its release, as `"u"` or `"x"`; or `"r"`, what is released.
    - `index`: which sources, counted from the first of the projection's, or, where the release has
      parameters of each edge, which edges, in the order of `network.connections()`; all if left
      out.
    - `every`: ms, whole steps; every step if left out.
    - `at_spikes`: instead, only at the spikes of the sources.

    A sample is what the closed form gives at the end of a step; after its spike, if there is one. r
    is that of the step's spike, or 0. `at_spikes` gives a `SpikeSamples` from `run`, and from
    `simulate` a `SpikeValues`: u and x just after each spike, and r of it. There and in the
    columns of the samples, sources or edges are counted as they stand in `index`.
    """

    projection: str = eqx.field(static=True)
    state: str = eqx.field(static=True)
    index: tuple[int, ...] | None = eqx.field(static=True)
    every: float | None = eqx.field(static=True)
    at_spikes: bool = eqx.field(static=True)

    def __init__(
        self,
        projection: str,
        state: str,
        *,
        index: Sequence[int] | np.ndarray | slice | int | None = None,
        every: float | None = None,
        at_spikes: bool = False,
    ):
        if not isinstance(at_spikes, (bool, np.bool_)):
            raise TypeError(f"at_spikes={at_spikes!r}; give True or False")
        if at_spikes and every is not None:
            raise ValueError(f"every={every} and at_spikes=True exclude each other; give one")
        self.projection, self.state, self.every = projection, state, plain(every)
        self.index, self.at_spikes = chosen(index), bool(at_spikes)

    def check(self, network: Network) -> None:
        if not isinstance(self.projection, str) or self.projection not in network.synapses:
            raise unknown("projection", self.projection, network.synapses)
        synapses = network.synapses[self.projection]
        if synapses.is_constant:
            raise ValueError(f"projection {self.projection!r} has no short-term plasticity")
        states = [*synapses.release.states, "r"]
        if not isinstance(self.state, str) or self.state not in states:
            raise unknown(f"state of {self.projection!r}", self.state, states)
        what = "synapses" if synapses.per_edge else "sources"
        check_index(self.index, self.projection, synapses.n_releases, what)
        self._samples(network)

    def _chosen(self, synapses: Synapses) -> np.ndarray:
        return np.arange(synapses.n_releases) if self.index is None else np.asarray(self.index)

    def _samples(self, network: Network) -> Samples:
        k = self._chosen(network.synapses[self.projection]).size
        return Samples.of(k, self.every, network.dt)

    def begin(self, network: Network, length: int, n: dict[str, int]) -> Array:
        return self._samples(network).begin(length, real_dtype())

    def sample(self, network: Network, populations: dict[str, PopulationState], first: Any) -> Any:
        return None

    def write(self, network: Network, name: str, buffer: Array, block: Block) -> Array:
        """The chosen synapses are taken once more through the spikes of the block: it delivers
        them at its end, and many at once."""
        synapses, sources = network.synapses[self.projection], block.sources[self.projection]
        which = jnp.asarray(self._chosen(synapses))
        here = jnp.asarray(block.device == 0)  # all devices have all sources
        if synapses.per_edge:
            which, pre, here = _local(sources, which)
        else:
            pre = which
        fired = _spikes_of(sources, sources.first_pre + pre)
        parameters = release_.at(sources.rows.release, which)
        values, deviation = (
            {name: own[which] for name, own in tree.items()}
            for tree in (sources.release.values, sources.release.deviation)
        )
        start = (values, sources.release.last[pre], deviation)

        def one(carry, at):
            values, last, deviation = carry
            step, fired = at
            before = ReleaseState(values, last, deviation)
            values, deviation, r = release_.step(parameters, before, last, fired, step, network.dt)
            last = jnp.where(fired > 0, step, last)
            if self.state == "r":
                made = r
            elif self.at_spikes:
                made = values[self.state]
            else:
                first, elapsed = release_.since(last, step, network.dt)
                made = parameters.relax(values, elapsed, first)[self.state]
                made = made + deviation.get(self.state, 0)
            made = jnp.where(fired > 0, made, jnp.nan) if self.at_spikes else made
            return (values, last, deviation), jnp.where(here, made, 0)

        _, made = lax.scan(one, start, (block.steps, fired))
        return self._samples(network).write(buffer, block, made)

    def end(
        self, network: Network, buffer: Array, first_step: Array, phase: Array, room: int
    ) -> SampleRecord | SpikeValues:
        if self.at_spikes:
            return SpikeValues(buffer[:room], first_step, network.dt)
        return self._samples(network).end(buffer, first_step, phase, room)

    def cut(
        self, network: Network, made: SampleRecord | SpikeValues, phase: int, steps: int
    ) -> SampleRecord | SpikeValues:
        if isinstance(made, SpikeValues):
            return replace(made, values=first_rows(made.values, steps))
        return self._samples(network).cut(made, phase, steps)

    def to_host(self, made: SampleRecord | SpikeValues) -> dict[str, np.ndarray]:
        if isinstance(made, SampleRecord):
            return {"values": np.asarray(made.values)}
        listed = made.listed()
        return {"steps": listed.steps, "index": listed.index, "values": listed.values}

    def gather(self, network: Network, first: int, last: int) -> GatheredRows | GatheredLists:
        samples = self._samples(network)
        if not self.at_spikes:
            return samples.gather(first, last)
        make = partial(SpikeSamples, n=samples.k, dt=network.dt)
        dtypes = {"steps": np.int64, "index": np.int64, "values": real_dtype()}
        return GatheredLists(dtypes, make)

    @property
    def before_delivery(self) -> bool:
        return True

    @property
    def is_divided(self) -> bool:
        return False

    def bytes_a_step(self, network: Network) -> float:
        return self._samples(network).bytes_a_step


def _local(sources: Sources, edges: Array) -> tuple[Array, Array, Array]:
    """Where edges stand among a device's own, their sources, and whether they are there."""
    rows = sources.rows
    row_ptr = rows.row_ptr // rows.copies
    place, here = edges, jnp.ones(edges.shape, bool)
    if rows.edge is not None:
        n = rows.edge.shape[0]
        own = jnp.where(jnp.arange(n) < row_ptr[-1], rows.edge, 2**31 - 1)  # else padding
        place = jnp.minimum(jnp.searchsorted(own, edges), n - 1)
        here = own[place] == edges
    return place, jnp.searchsorted(row_ptr, place, side="right") - 1, here


def _spikes_of(sources: Sources, cells: Array) -> Array:
    """The spikes of some cells, 1 or 0, `[length, k]`."""
    sent = sources.sent
    if sent.dtype != jnp.uint32:
        return sent[:, cells]
    bits = sent[:, cells // spikes_.WORD] >> (cells % spikes_.WORD).astype(jnp.uint32)
    return (bits & 1).astype(real_dtype())
