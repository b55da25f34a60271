"""What comes back of a run: spikes, counts and states over time."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from jsnn import spikes as spikes_
from jsnn._math import concrete


class SpikeRecord(eqx.Module):
    """Spikes of a call of `simulate`, in the order of time and cell.

    `times` (ms) and `index` (counted from the first recorded cell), each `[n_spikes]`, are NumPy
    arrays. Inside `jit`, and under `vmap`, use `raster`: booleans `[..., steps, n]`.
    """

    words: Array  # [..., steps, m], in which bits low..high-1 of a row are the recorded cells
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
    `values` keeps rows of zeros at its end for what did not fit: two at most, and those of a block
    (none if `every` is one step).
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


class SpikeValues(eqx.Module):
    """Values of synapses at the spikes of their sources, in a call of `simulate`.

    `values` `[steps, k]` is NaN in all other steps. Outside `jit`, `listed()` gives the spikes
    alone.
    """

    values: Array
    first_step: Array
    length: Array
    dt: float = eqx.field(static=True)

    def listed(self) -> "SpikeSamples":
        """The spikes and their values as lists, on the host."""
        values = np.asarray(self.values)
        if values.ndim != 2:
            raise ValueError(
                f"this record is batched, {values.shape}; take one of it: "
                "jax.tree.map(lambda leaf: leaf[i], record)"
            )
        values = values[: int(self.length)]
        step, index = np.nonzero(~np.isnan(values))
        step_of_run = step + int(self.first_step)
        return SpikeSamples(step_of_run, index, values[step, index], values.shape[1], self.dt)


class SpikeSamples(NamedTuple):
    """Values at spikes, on the host, in the order of time and index: `steps`, `index` and `values`,
    `[n_spikes]`. `index` counts the n recorded sources or synapses."""

    steps: np.ndarray
    index: np.ndarray
    values: np.ndarray
    n: int
    dt: float

    @property
    def times(self) -> np.ndarray:
        """ms, `[n_spikes]`."""
        return stamps(self.steps, self.dt)


def stamps(steps: np.ndarray, dt: float) -> np.ndarray:
    """The time (ms) at which steps end, rounded so that 3 steps of 0.1 are 0.3."""
    return np.round((np.asarray(steps, np.float64) + 1) * dt, 9)
