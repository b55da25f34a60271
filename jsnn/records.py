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
        step, index = spikes_.listed(words, self.low, self.high)
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
    the spikes in the `every` ms up to its time, of which the first and the last may lie partly
    outside the run. Multiples are counted from the start of time, or from the start of the call
    where `simulate` cannot know its step (see there). `times` are `[..., n_samples]` of a batch
    whose members began at different steps.
    """

    values: Array | np.ndarray
    first_step: Array  # the `every` steps up to the first time begin with it
    every: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    @property
    def times(self) -> np.ndarray:
        first = concrete(self.first_step)
        if first is None:
            raise ValueError(
                "the times of a record are not known while its start is traced; take them of what "
                "comes back from jit, vmap or grad"
            )
        first = first.flat[0] if first.size and not np.ptp(first) else first[..., None]
        ends = first + (1 + np.arange(self.values.shape[-2])) * self.every
        return stamps(ends - 1, self.dt)


class SpikeValues(eqx.Module):
    """Values of synapses at the spikes of their sources, in a call of `simulate`.

    `values` `[steps, k]` is NaN in all other steps. Outside `jit`, `listed()` gives the spikes
    alone.
    """

    values: Array
    first_step: Array
    dt: float = eqx.field(static=True)

    def listed(self) -> "SpikeSamples":
        """The spikes and their values as lists, on the host."""
        values = np.asarray(self.values)
        if values.ndim != 2:
            raise ValueError(
                f"this record is batched, {values.shape}; take one of it: "
                "jax.tree.map(lambda leaf: leaf[i], record)"
            )
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
