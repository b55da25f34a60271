"""What to keep of a run.

A recorder is given to `simulate` or `run` under a name; the record of that name is what comes back.
During the run it fills a buffer, block by block; `end` makes the record of it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jsnn import spikes as spikes_
from jsnn._math import concrete, plain, real_dtype, shortened, unknown, whole_steps
from jsnn.network import Network
from jsnn.population import PopulationState
from jsnn.spikes import WORD


class Block(NamedTuple):
    """What recorders see of a block of steps."""

    offset: Array  # steps since the start of the buffers
    steps: Array  # [length] absolute
    words: dict[str, Array]  # packed spikes, [length, n / 32]
    fired: dict[str, Array]  # [length, n] booleans
    samples: dict[str, Array]  # of recorder by name, [length, k]


class SpikeRecord(eqx.Module):
    """Spikes of a call of `simulate`, in the order of time and cell.

    `times` (ms) and `index` (counted from the first recorded cell), each `[n_spikes]`, are NumPy
    arrays. Inside `jit`, and under `vmap`, use `raster`: booleans `[..., steps, n]`.
    """

    words: Array
    first_step: Array
    length: Array
    low: int = eqx.field(static=True)
    high: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    @property
    def n(self) -> int:
        return self.high - self.low

    @property
    def raster(self) -> Array:
        return spikes_.unpack(jnp.asarray(self.words), self.high)[..., self.low :]

    def listed(self) -> "SpikeTimes":
        """The spikes as lists, on the host."""
        words = np.asarray(self.words)
        if words.ndim != 2:
            raise ValueError(
                f"this record is batched, {words.shape}; take one of it: "
                "jax.tree.map(lambda leaf: leaf[i], record)"
            )
        step, index = spikes_.listed(words[: int(self.length)], self.low, self.high)
        return SpikeTimes(step + int(self.first_step), index, self.n, self.dt)

    @property
    def times(self) -> np.ndarray:
        return self.listed().times

    @property
    def index(self) -> np.ndarray:
        return self.listed().index


class SpikeTimes(NamedTuple):
    """Spikes on the host, in the order of time and cell: `steps` and `index`, `[n_spikes]`.

    A spike of step s is stamped (s + 1) * dt; `index` counts from the first of the n recorded
    cells.
    """

    steps: np.ndarray
    index: np.ndarray
    n: int
    dt: float

    @property
    def times(self) -> np.ndarray:
        """ms, `[n_spikes]`."""
        return stamps(self.steps, self.dt)


class SampleRecord(eqx.Module):
    """States or counts over time: `values` `[n_samples, k]` at `times` (ms) `[n_samples]`.

    A state is sampled at the end of each step that ends at a multiple of `every`; a count is of
    the spikes in the `every` ms up to its time. Inside `jit` the start of the run is not known and
    `values` keeps rows of zeros, at most two, for what did not fit (none if `every` is one step).
    """

    buffer: Array | np.ndarray
    first_step: Array | int
    length: Array | int
    every: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    is_count: bool = eqx.field(static=True)

    @property
    def values(self) -> Array | np.ndarray:
        n_samples = self.n_samples
        return self.buffer if n_samples is None else self.buffer[..., :n_samples, :]

    @property
    def n_samples(self) -> int | None:
        """How many samples fell into the run; None where that is not known."""
        first, length = concrete(self.first_step), concrete(self.length)
        if first is None or length is None or np.ptp(first) or np.ptp(length):
            return None
        begin, end = int(first.flat[0]), int(first.flat[0] + length.flat[0])
        last = -(-end // self.every) if self.is_count else end // self.every
        return max(last - begin // self.every, 0)

    @property
    def times(self) -> np.ndarray:
        n_samples = self.n_samples
        if n_samples is None:
            raise ValueError("the times of a traced or unevenly batched record are not known")
        first = int(np.asarray(self.first_step).flat[0]) // self.every
        return stamps((first + 1 + np.arange(n_samples)) * self.every - 1, self.dt)


Part = tuple[int, int, dict[str, np.ndarray]]  # a segment: its steps and what was recorded


class Spikes(eqx.Module):
    """Every spike of the given cells, `"cells"` or `"cells.exc"`. Costs a bit a cell and step."""

    cells: str = eqx.field(static=True)

    def check(self, network: Network) -> None:
        network.part(self.cells)

    def begin(self, network: Network, length: int, n: dict[str, int]) -> Array:
        return jnp.zeros((length, n[network.part(self.cells)[0]] // WORD), jnp.uint32)

    def sample(self, network: Network, populations: dict[str, PopulationState], first: Any) -> Any:
        return None

    def write(self, network: Network, name: str, buffer: Array, block: Block) -> Array:
        words = block.words[network.part(self.cells)[0]]
        return lax.dynamic_update_slice_in_dim(buffer, words, block.offset, 0)

    def end(
        self, network: Network, buffer: Array, first_step: Array, length: Any, room: int
    ) -> SpikeRecord:
        _, low, high = network.part(self.cells)
        length = jnp.asarray(length, jnp.int32)
        return SpikeRecord(buffer[:room], first_step, length, low, high, network.dt)

    def to_host(self, made: SpikeRecord) -> dict[str, np.ndarray]:
        spikes = made.listed()
        return {"steps": spikes.steps.astype(np.int64), "index": spikes.index.astype(np.int32)}

    def join(self, network: Network, parts: list[Part]) -> SpikeTimes:
        """The segments of a run as one."""
        _, low, high = network.part(self.cells)
        steps = np.concatenate([np.empty(0, np.int64), *(p["steps"] for _, _, p in parts)])
        index = np.concatenate([np.empty(0, np.int32), *(p["index"] for _, _, p in parts)])
        return SpikeTimes(steps, index, high - low, network.dt)

    @property
    def is_divided(self) -> bool:
        """Whether devices hold different cells of the buffer, or the same."""
        return True

    def bytes_a_step(self, network: Network) -> float:
        return network.populations[network.part(self.cells)[0]].n / 8


class Counts(eqx.Module):
    """The number of spikes of each of the given cells in every `every` ms, `[n_samples, n]`."""

    cells: str = eqx.field(static=True)
    every: float = eqx.field(static=True)

    def check(self, network: Network) -> None:
        network.part(self.cells)
        whole_steps("every", self.every, network.dt, least=1)

    def begin(self, network: Network, length: int, n: dict[str, int]) -> Array:
        every = whole_steps("every", self.every, network.dt)
        return jnp.zeros((length // every + 2, n[network.part(self.cells)[0]]), jnp.int32)

    def sample(self, network: Network, populations: dict[str, PopulationState], first: Any) -> Any:
        return None

    def write(self, network: Network, name: str, buffer: Array, block: Block) -> Array:
        every = whole_steps("every", self.every, network.dt)
        first = (block.steps[0] - block.offset) // every
        fired = block.fired[network.part(self.cells)[0]].astype(jnp.int32)
        return buffer.at[block.steps // every - first].add(fired)

    def end(
        self, network: Network, buffer: Array, first_step: Array, length: Any, room: int
    ) -> SampleRecord:
        every = whole_steps("every", self.every, network.dt)
        _, low, high = network.part(self.cells)
        length = jnp.asarray(length, jnp.int32)
        return SampleRecord(buffer[:, low:high], first_step, length, every, network.dt, True)

    def to_host(self, made: SampleRecord) -> dict[str, np.ndarray]:
        return {"values": np.asarray(made.values)}

    def join(self, network: Network, parts: list[Part]) -> SampleRecord:
        """The segments of a run as one; a count that two of them share is added up."""
        every = whole_steps("every", self.every, network.dt)
        _, low, high = network.part(self.cells)
        first, last = (parts[0][0], parts[-1][1]) if parts else (0, 0)
        total = np.zeros((-(-last // every) - first // every, high - low), np.int32)
        for begin, _, part in parts:
            at = begin // every - first // every
            total[at : at + part["values"].shape[0]] += part["values"]
        return SampleRecord(total, first, last - first, every, network.dt, True)

    @property
    def is_divided(self) -> bool:
        return True

    def bytes_a_step(self, network: Network) -> float:
        every = whole_steps("every", self.every, network.dt)
        return 4 * network.populations[network.part(self.cells)[0]].n / every


class States(eqx.Module):
    """A state of some cells at every multiple of `every` ms, `[n_samples, k]`.

    **Arguments:**

    - `cells`: `"cells"` or `"cells.exc"`.
    - `state`: its name: `"v"`, or of a receptor `"exc.g"`.
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
        if isinstance(index, slice):
            ends = (index.start or 0, index.stop, index.step or 1)
            if not all(isinstance(end, (int, np.integer)) and end >= 0 for end in ends):
                raise ValueError(f"index={index}: give slice(first, last), counted from 0")
            index = range(*index.indices(index.stop))
        if index is not None:
            try:
                array = np.atleast_1d(np.asarray(index))
            except (TypeError, ValueError):
                raise TypeError(f"index={shortened(index)} must be a list of integers") from None
            if array.size and not np.issubdtype(array.dtype, np.integer):
                raise TypeError(f"index={index!r} must be integers")
            if array.ndim != 1 or not array.size:
                raise ValueError(f"index={index!r}: give at least one cell, in a flat list")
            index = tuple(array.tolist())
        self.cells, self.state, self.index, self.every = cells, state, index, plain(every)

    def check(self, network: Network) -> None:
        name, low, high = network.part(self.cells)
        states = [*network.populations[name].states, "refractory"]
        if not isinstance(self.state, str) or self.state not in states:
            raise unknown(f"state of {name!r}", self.state, states)
        if self.every is not None:
            whole_steps("every", self.every, network.dt, least=1)
        if self.index is not None and not 0 <= min(self.index) <= max(self.index) < high - low:
            raise ValueError(
                f"index holds {min(self.index)}..{max(self.index)}, but {self.cells!r} has "
                f"{high - low} cells"
            )

    def _steps(self, network: Network) -> int:
        return 1 if self.every is None else whole_steps("every", self.every, network.dt)

    def _cells(self, network: Network) -> np.ndarray:
        _, low, high = network.part(self.cells)
        return np.arange(low, high) if self.index is None else low + np.asarray(self.index)

    def begin(self, network: Network, length: int, n: dict[str, int]) -> Array:
        k = self._cells(network).size
        dtype = jnp.int32 if self.state == "refractory" else real_dtype()
        every = self._steps(network)
        return jnp.zeros((length // every + (every > 1), k), dtype)

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
        every = self._steps(network)
        if every == 1:
            return lax.dynamic_update_slice_in_dim(buffer, block.samples[name], block.offset, 0)
        first = (block.steps[0] - block.offset) // every
        sampled = (block.steps + 1) % every == 0
        row = jnp.where(sampled, (block.steps + 1) // every - 1 - first, buffer.shape[0])
        return buffer.at[row].set(block.samples[name], mode="drop")

    def end(
        self, network: Network, buffer: Array, first_step: Array, length: Any, room: int
    ) -> SampleRecord:
        every = self._steps(network)
        length = jnp.asarray(length, jnp.int32)
        buffer = buffer[:room] if every == 1 else buffer
        return SampleRecord(buffer, first_step, length, every, network.dt, False)

    def to_host(self, made: SampleRecord) -> dict[str, np.ndarray]:
        return {"values": np.asarray(made.values)}

    def join(self, network: Network, parts: list[Part]) -> SampleRecord:
        """The segments of a run as one."""
        first, last = (parts[0][0], parts[-1][1]) if parts else (0, 0)
        none = np.zeros((0, self._cells(network).size), real_dtype())
        values = np.concatenate([p["values"] for _, _, p in parts] or [none])
        every = self._steps(network)
        return SampleRecord(values, first, last - first, every, network.dt, False)

    @property
    def is_divided(self) -> bool:
        return False

    def bytes_a_step(self, network: Network) -> float:
        return self._cells(network).size * real_dtype().itemsize / self._steps(network)


Recorder = Spikes | Counts | States
Record = SpikeRecord | SpikeTimes | SampleRecord


def _values(state: PopulationState, name: str) -> Array:
    if name == "refractory":
        return state.refractory
    receptor, _, own = name.rpartition(".")
    return state.receptors[receptor][own] if receptor else state.cell[own]


def stamps(steps: np.ndarray, dt: float) -> np.ndarray:
    """The time (ms) at which steps end, rounded so that 3 steps of 0.1 are 0.3."""
    return np.round((np.asarray(steps, np.float64) + 1) * dt, 9)
