"""What recorders see of a block of steps, and how samples of it are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jsnn._math import real_dtype, shortened, whole_steps
from jsnn.delivery import Rows
from jsnn.records import SampleRecord
from jsnn.release import ReleaseState


class Sources(NamedTuple):
    """Of a projection with short-term plasticity: its edges, what they remembered before a block,
    and the spikes of the block, packed or (with `SegmentSum`) `[length, n]`."""

    rows: Rows
    release: ReleaseState
    sent: Array
    first_pre: int


class Block(NamedTuple):
    """What recorders see of a block of steps."""

    offset: Array  # steps since the start of the buffers
    steps: Array  # [length] absolute
    clock: Array  # [length] the same as samples count them: they are due at its multiples
    words: dict[str, Array]  # packed spikes, [length, n / 32]
    fired: dict[str, Array]  # [length, n] booleans
    samples: dict[str, Array]  # of recorder by name, [length, k]
    sources: dict[str, Sources]  # by projection
    device: Array | int


class Samples(NamedTuple):
    """k values at every multiple of `every` steps, or counts of the `every` steps before it."""

    k: int
    every: int
    dt: float
    is_count: bool = False

    @classmethod
    def of(cls, k: int, every: float | None, dt: float) -> "Samples":
        return cls(k, 1 if every is None else whole_steps("every", every, dt, least=1), dt)

    def begin(self, length: int, dtype: Any) -> Array:
        # One row more for what is not due
        return jnp.zeros((length // self.every + 2 * (self.every > 1), self.k), dtype)

    def write(self, buffer: Array, block: Block, values: Array) -> Array:
        """Keep those of the values `[length, k]` that are due."""
        if self.every == 1:
            return lax.dynamic_update_slice_in_dim(buffer, values, block.offset, 0)
        first = (block.clock[0] - block.offset) // self.every
        # Row by row: a scatter of all values, most of them to nowhere, took more time than all else
        # that 1,000 cells do in a step
        for k in range(-(-values.shape[0] // self.every)):
            at = (-block.clock[0] - 1) % self.every + k * self.every
            row = (block.clock[0] + at + 1) // self.every - 1 - first
            row = jnp.where(at < values.shape[0], row, buffer.shape[0] - 1)
            at = jnp.minimum(at, values.shape[0] - 1)
            value = lax.dynamic_slice_in_dim(values, at, 1)
            buffer = lax.dynamic_update_slice_in_dim(buffer, value, row, 0)
        return buffer

    def rows(self, phase: int, steps: int) -> int:
        """How many there are of so many steps, of which the first counts as step `phase`."""
        end = phase + steps
        last = -(-end // self.every) if self.is_count and steps else end // self.every
        return last - phase // self.every

    def end(self, buffer: Array, first_step: Array, phase: Array, room: int) -> SampleRecord:
        """The record of a buffer of `room` steps, with as many rows as any phase needs."""
        most = self.rows(self.every - 1, room)
        return SampleRecord(buffer[:most], first_step - phase % self.every, self.every, self.dt)

    def cut(self, made: SampleRecord, phase: int, steps: int) -> SampleRecord:
        return replace(made, values=first_rows(made.values, self.rows(phase, steps)))

    def gather(self, first: int, last: int) -> "GatheredRows":
        return GatheredRows(self, first, last)

    @property
    def bytes_a_step(self) -> float:
        return self.k * real_dtype().itemsize / self.every


def chosen(index: Sequence[int] | np.ndarray | slice | int | None) -> tuple[int, ...] | None:
    """Indices as given, in a form that can be static."""
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
            raise ValueError(f"index={index!r}: give at least one, in a flat list")
        return tuple(array.tolist())
    return None


def first_rows(values: Any, n: int) -> Any:
    """The first n rows; the same array if it has no more."""
    return values if values.shape[0] == n else values[:n]


class GatheredRows:
    """The samples of a run from step `first` to step `last`, put where they belong segment by
    segment: memory holds them and one segment, not the buffers of all."""

    def __init__(self, samples: Samples, first: int, last: int):
        self.samples, self.first, self.last = samples, first, last
        self.values = np.zeros((0, samples.k), np.int32 if samples.is_count else real_dtype())

    def add(self, begin: int, part: Mapping[str, np.ndarray]) -> None:
        """What was recorded of the segment that begins with a step."""
        new, samples = part["values"], self.samples
        if not self.values.size:
            n_rows = samples.rows(self.first, self.last - self.first)
            self.values = np.zeros((n_rows, samples.k), new.dtype)
        at = begin // samples.every - self.first // samples.every
        place = self.values[at : at + len(new)]
        # A count that two segments share is added up
        place[:] = place + new if samples.is_count else new

    def record(self) -> SampleRecord:
        first: Any = np.int64(self.first - self.first % self.samples.every)
        return SampleRecord(self.values, first, self.samples.every, self.samples.dt)


class GatheredLists:
    """The spikes of a run, segment by segment: arrays by name, all of one length."""

    def __init__(self, dtypes: Mapping[str, Any], make: Callable[..., Any]):
        self.dtypes, self.make = dict(dtypes), make
        self.pieces: dict[str, list[np.ndarray]] = {name: [] for name in dtypes}

    def add(self, begin: int, part: Mapping[str, np.ndarray]) -> None:
        for name, pieces in self.pieces.items():
            pieces.append(part[name])

    def record(self) -> Any:
        return self.make(**{name: self._joined(name) for name in self.dtypes})

    def _joined(self, name: str) -> np.ndarray:
        pieces, at = self.pieces[name][::-1], 0
        whole = np.empty(sum(map(len, pieces)), self.dtypes[name])
        self.pieces[name].clear()
        while pieces:  # each is let go once it is copied
            own = pieces.pop()
            whole[at : at + len(own)] = own
            at += len(own)
        return whole


def check_index(index: tuple[int, ...] | None, of: str, n: int, what: str) -> None:
    """Raise unless indices are among n things."""
    if index is not None and not 0 <= min(index) <= max(index) < n:
        raise ValueError(f"index holds {min(index)}..{max(index)}, but {of!r} has {n} {what}")
