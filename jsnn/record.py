"""What to keep of a run.

A recorder is given to `simulate` or `run` under a name; the record of that name is what comes back.
During the run it fills a buffer, block by block; `end` makes the record of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jsnn._math import plain, real_dtype, unknown, whole_steps
from jsnn._names import explained
from jsnn._samples import (
    Block,
    GatheredLists,
    GatheredRows,
    Samples,
    check_index,
    chosen,
    first_rows,
)
from jsnn._synapse_states import SynapseStates as SynapseStates
from jsnn.network import Network
from jsnn.population import PopulationState
from jsnn.records import SampleRecord as SampleRecord
from jsnn.records import SpikeRecord as SpikeRecord
from jsnn.records import SpikeSamples as SpikeSamples
from jsnn.records import SpikeTimes as SpikeTimes
from jsnn.records import SpikeValues as SpikeValues
from jsnn.spikes import WORD


@explained
class Spikes(eqx.Module):
    """Every spike of the given cells, `"cells"` or `"cells.exc"`. Costs a bit a cell and step."""

    cells: str = eqx.field(static=True)

    def check(self, network: Network) -> None:
        _check_spiking(network, self.cells)

    def begin(self, network: Network, length: int, n: dict[str, int]) -> Array:
        return jnp.zeros((length, n[network.part(self.cells)[0]] // WORD), jnp.uint32)

    def sample(self, network: Network, populations: dict[str, PopulationState], first: Any) -> Any:
        return None

    def write(self, network: Network, name: str, buffer: Array, block: Block) -> Array:
        words = block.words[network.part(self.cells)[0]]
        return lax.dynamic_update_slice_in_dim(buffer, words, block.offset, 0)

    def end(
        self, network: Network, buffer: Array, first_step: Array, phase: Array, room: int
    ) -> SpikeRecord:
        _, low, high = network.part(self.cells)
        words = buffer[:room]
        if low >= WORD:  # of a buffer that others share, what is its own
            words = words[:, low // WORD : -(-high // WORD)]
            low, high = low % WORD, high - low // WORD * WORD
        return SpikeRecord(words, first_step, low, high, network.dt)

    def cut(self, network: Network, made: SpikeRecord, phase: int, steps: int) -> SpikeRecord:
        return replace(made, words=first_rows(made.words, steps))

    def to_host(self, made: SpikeRecord) -> dict[str, np.ndarray]:
        spikes = made.listed()
        return {"steps": spikes.steps.astype(np.int64), "index": spikes.index.astype(np.int32)}

    def gather(self, network: Network, first: int, last: int) -> GatheredLists:
        _, low, high = network.part(self.cells)
        make = partial(SpikeTimes, n=high - low, dt=network.dt)
        return GatheredLists({"steps": np.int64, "index": np.int32}, make)

    @property
    def before_delivery(self) -> bool:
        """Whether it has to see a block before its spikes are delivered."""
        return False

    @property
    def is_divided(self) -> bool:
        """Whether devices hold different cells of the buffer, or the same."""
        return True

    def bytes_a_step(self, network: Network) -> float:
        return network.populations[network.part(self.cells)[0]].n / 8


@explained
class Counts(eqx.Module):
    """The number of spikes of each of the given cells in every `every` ms, `[n_samples, n]`.

    Inside `simulate` they are real numbers, through which gradients pass.
    """

    cells: str = eqx.field(static=True)
    every: float = eqx.field(static=True, converter=plain)

    def check(self, network: Network) -> None:
        _check_spiking(network, self.cells)
        whole_steps("every", self.every, network.dt, least=1)

    def _samples(self, network: Network) -> Samples:
        _, low, high = network.part(self.cells)
        every = whole_steps("every", self.every, network.dt)
        return Samples(high - low, every, network.dt, is_count=True)

    def begin(self, network: Network, length: int, n: dict[str, int]) -> Array:
        every = whole_steps("every", self.every, network.dt)
        return jnp.zeros((length // every + 2, n[network.part(self.cells)[0]]), real_dtype())

    def sample(self, network: Network, populations: dict[str, PopulationState], first: Any) -> Any:
        return None

    def write(self, network: Network, name: str, buffer: Array, block: Block) -> Array:
        every = whole_steps("every", self.every, network.dt)
        first = (block.clock[0] - block.offset) // every
        fired = block.fired[network.part(self.cells)[0]].astype(buffer.dtype)
        row = block.clock // every - first
        several = (fired.shape[0] - 1) // every + 2
        if every == 1:
            return lax.dynamic_update_slice_in_dim(buffer, fired, row[0], 0)
        if several > 4:
            return buffer.at[row].add(fired)
        for k in range(several):  # of a few rows each a sum: a scatter adds number by number
            at = jnp.minimum(row[0] + k, buffer.shape[0] - 1)
            own = jnp.sum(jnp.where((row == row[0] + k)[:, None], fired, 0), axis=0)
            before = lax.dynamic_slice_in_dim(buffer, at, 1)
            buffer = lax.dynamic_update_slice_in_dim(buffer, before + own, at, 0)
        return buffer

    def end(
        self, network: Network, buffer: Array, first_step: Array, phase: Array, room: int
    ) -> SampleRecord:
        _, low, high = network.part(self.cells)
        return self._samples(network).end(buffer[:, low:high], first_step, phase, room)

    def cut(self, network: Network, made: SampleRecord, phase: int, steps: int) -> SampleRecord:
        return self._samples(network).cut(made, phase, steps)

    def to_host(self, made: SampleRecord) -> dict[str, np.ndarray]:
        return {"values": np.asarray(made.values).astype(np.int32)}

    def gather(self, network: Network, first: int, last: int) -> GatheredRows:
        return self._samples(network).gather(first, last)

    @property
    def before_delivery(self) -> bool:
        return False

    @property
    def is_divided(self) -> bool:
        return True

    def bytes_a_step(self, network: Network) -> float:
        every = whole_steps("every", self.every, network.dt)
        return 4 * network.populations[network.part(self.cells)[0]].n / every


@explained
class States(eqx.Module):
    """A state of some cells at every multiple of `every` ms, `[n_samples, k]`.

    **Arguments:**

    - `cells`: `"cells"` or `"cells.exc"`.
    - `state`: its name: `"v"`, or of a receptor `"exc.g"`; or that of a slow current, for the
      current that drives the next step (pA); `"ca"`, or that of a kind of synaptic elements, for
      their number, or with `.connected` for that of the connected ones.
    - `index`: which of the cells, counted from the first; all if left out.
    - `every`: ms, whole steps; every step if left out.
    """

    cells: str = eqx.field(static=True)
    state: str = eqx.field(static=True)
    index: tuple[int, ...] | None = eqx.field(static=True)
    every: float | None = eqx.field(static=True)

    def __init__(
        self,
        cells: str,
        state: str,
        *,
        index: Sequence[int] | np.ndarray | slice | int | None = None,
        every: float | None = None,
    ):
        self.cells, self.state, self.every = cells, state, plain(every)
        self.index = chosen(index)

    def check(self, network: Network) -> None:
        name, low, high = network.part(self.cells)
        slow = [c for c, own in network.slow.items() if own.parts[1][0] == name]
        counts = network.populations[name].growth.counts
        states = [*network.populations[name].states, *slow, *counts, "refractory"]
        if not isinstance(self.state, str) or self.state not in states:
            raise unknown(f"state of {name!r}", self.state, states)
        self._samples(network)
        check_index(self.index, self.cells, high - low, "cells")

    def _samples(self, network: Network) -> Samples:
        return Samples.of(self._cells(network).size, self.every, network.dt)

    def _cells(self, network: Network) -> np.ndarray:
        _, low, high = network.part(self.cells)
        return np.arange(low, high) if self.index is None else low + np.asarray(self.index)

    def begin(self, network: Network, length: int, n: dict[str, int]) -> Array:
        counts = network.populations[network.part(self.cells)[0]].growth.counts
        is_whole = self.state in (*counts, "refractory")
        return self._samples(network).begin(length, jnp.int32 if is_whole else real_dtype())

    def sample(
        self, network: Network, populations: dict[str, PopulationState], first: Any
    ) -> Array:
        """The values of the wanted cells after a step; 0 for those on other devices."""
        name = network.part(self.cells)[0]
        values = _values(populations[name], self.state)
        cells = self._cells(network)
        if network.mesh is None:
            if np.all(np.diff(cells) == 1):
                return values[cells[0] : cells[-1] + 1]
            return values[cells]
        local = cells - first[name]
        here = (local >= 0) & (local < values.shape[0])
        return jnp.where(here, values[jnp.clip(local, 0, values.shape[0] - 1)], 0)

    def write(self, network: Network, name: str, buffer: Array, block: Block) -> Array:
        return self._samples(network).write(buffer, block, block.samples[name])

    def end(
        self, network: Network, buffer: Array, first_step: Array, phase: Array, room: int
    ) -> SampleRecord:
        return self._samples(network).end(buffer, first_step, phase, room)

    def cut(self, network: Network, made: SampleRecord, phase: int, steps: int) -> SampleRecord:
        return self._samples(network).cut(made, phase, steps)

    def to_host(self, made: SampleRecord) -> dict[str, np.ndarray]:
        return {"values": np.asarray(made.values)}

    def gather(self, network: Network, first: int, last: int) -> GatheredRows:
        return self._samples(network).gather(first, last)

    @property
    def before_delivery(self) -> bool:
        return False

    @property
    def is_divided(self) -> bool:
        return False

    def bytes_a_step(self, network: Network) -> float:
        return self._samples(network).bytes_a_step


Recorder = Spikes | Counts | States | SynapseStates
Record = SpikeRecord | SpikeTimes | SampleRecord | SpikeValues | SpikeSamples


def buffer_of(network: Network, record: Mapping[str, Recorder]) -> dict[str, str]:
    """For every recorder the name of the one whose buffer it is made of: its own, but all `Spikes`
    of a population share the words of the first."""
    first: dict[str, str] = {}
    return {
        name: first.setdefault(network.part(own.cells)[0], name)
        if isinstance(own, Spikes)
        else name
        for name, own in record.items()
    }


def sees_growth(network: Network, recorder: Recorder) -> bool:
    """Whether it takes samples of calcium or of elements."""
    if not isinstance(recorder, States):
        return False
    growth = network.populations[network.part(recorder.cells)[0]].growth
    return recorder.state in (*growth.states, *growth.counts)


def _check_spiking(network: Network, cells: str) -> None:
    name = network.part(cells)[0]
    if not network.populations[name].neuron.is_spiking:
        states = network.populations[name].states
        raise ValueError(f"{cells!r} are astrocytes, which do not spike; give States of {states}")


def _values(state: PopulationState, name: str) -> Array:
    if name == "refractory":
        return state.refractory
    if name in state.growth:
        return state.growth[name]
    receptor, _, own = name.rpartition(".")
    if receptor:
        return state.receptors[receptor][own]
    return state.slow[own] if own in state.slow else state.cell[own]
