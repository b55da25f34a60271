"""What recorders see of a block of steps, and how samples of it are kept."""

from collections.abc import Sequence
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
    words: dict[str, Array]  # packed spikes, [length, n / 32]
    fired: dict[str, Array]  # [length, n] booleans
    samples: dict[str, Array]  # of recorder by name, [length, k]
    sources: dict[str, Sources]  # by projection
    device: Array | int


Part = tuple[int, int, dict[str, np.ndarray]]  # a segment: its steps and what was recorded


class Samples(NamedTuple):
    """k values at every multiple of `every` steps."""

    k: int
    every: int
    dt: float

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
        first = (block.steps[0] - block.offset) // self.every
        # Row by row: a scatter of all values, most of them to nowhere, took more time than all else
        # that 1,000 cells do in a step
        for k in range(-(-values.shape[0] // self.every)):
            at = (-block.steps[0] - 1) % self.every + k * self.every
            row = (block.steps[0] + at + 1) // self.every - 1 - first
            row = jnp.where(at < values.shape[0], row, buffer.shape[0] - 1)
            at = jnp.minimum(at, values.shape[0] - 1)
            value = lax.dynamic_slice_in_dim(values, at, 1)
            buffer = lax.dynamic_update_slice_in_dim(buffer, value, row, 0)
        return buffer

    def end(self, buffer: Array, first_step: Array, length: Any, room: int) -> SampleRecord:
        length = jnp.asarray(length, jnp.int32)
        buffer = buffer[:room] if self.every == 1 else buffer[:-1]
        return SampleRecord(buffer, first_step, length, self.every, self.dt, False)

    def join(self, parts: list[Part]) -> SampleRecord:
        """The segments of a run as one."""
        first, last = (parts[0][0], parts[-1][1]) if parts else (0, 0)
        none = np.zeros((0, self.k), real_dtype())
        values = np.concatenate([p["values"] for _, _, p in parts] or [none])
        return SampleRecord(values, first, last - first, self.every, self.dt, False)

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


def values_on_host(made: SampleRecord) -> dict[str, np.ndarray]:
    """The samples of a segment. Moved as they are and cut here: JAX would compile the cut."""
    return {"values": np.asarray(replace(made, buffer=np.asarray(made.buffer)).values)}


def check_index(index: tuple[int, ...] | None, of: str, n: int, what: str) -> None:
    """Raise unless indices are among n things."""
    if index is not None and not 0 <= min(index) <= max(index) < n:
        raise ValueError(f"index holds {min(index)}..{max(index)}, but {of!r} has {n} {what}")
