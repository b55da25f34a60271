"""Spikes and currents from outside.

An input is prepared once: `prepare` gives coefficients whose last axis is that of all cells of
the target population (or 1), with no effect outside the part it is aimed at. `block` then gives
what arrives in each of the steps: amounts onto the receptor for spikes, pA for currents,
`[len(steps), cells.n]` or `[len(steps), 1]`.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jsnn._math import (
    NEVER,
    as_array,
    as_real,
    check_number,
    concrete,
    is_same_dt,
    known,
    whole_steps,
    whole_steps_array,
)
from jsnn._random import TILE


def with_arrays(source: Any, *names: str) -> Any:
    """An input with its parameters of these names as arrays, whatever was put in their place."""
    for name in names:
        check_number(name, getattr(source, name))
    values = [as_real(getattr(source, name)) for name in names]
    return eqx.tree_at(lambda s: [getattr(s, name) for name in names], source, values)


def room(n: int, least: int) -> int:
    """How long a list of n is kept, with what never comes at its end, so that lists of many lengths
    share a program: a power of two, and from 65,536 on one of four sizes up to the next."""
    size = max(n, least) - 1
    step = 1 << max(size.bit_length() - (0 if size < 2**16 else 3), 0)
    return -(-(size + 1) // step) * step


def lengthened(values: ArrayLike, size: int, fill: ArrayLike) -> Array:
    """The same along its first axis with `fill` at the end, unless it is long enough. What is known
    is made by NumPy: JAX compiles a program for every length."""
    missing = size - np.shape(values)[0]
    if missing <= 0:
        return values if isinstance(values, Array) else as_array(values)
    ends = [(0, missing), *[(0, 0)] * (np.ndim(values) - 1)]
    own = concrete(values)
    if own is None:
        return jnp.pad(jnp.asarray(values), ends, constant_values=fill)
    return as_array(np.pad(own, ends, constant_values=fill))


def steps_of(times: Any, delay: float, dt: float, *, least: int = 0) -> np.ndarray:
    """Times (ms) as steps, in double precision: float32 would lose late ones; raises for what the
    delay moves beyond int32."""
    if concrete(times) is None:
        raise TypeError(
            "times is traced; they are put on the grid of the network's steps on the host: give "
            "source.on_grid(dt) in the place of the source"
        )
    steps = whole_steps_array("times", times, dt, least=least)
    if steps.size and int(steps.max()) + whole_steps("delay", delay, dt) >= NEVER:
        raise ValueError(
            f"times up to {steps.max() * dt:g} ms and delay={delay:g} ms are together more than "
            f"{NEVER - 1} steps of dt={dt:g} ms, as far as steps are counted; give less"
        )
    return steps.astype(np.int32)


def check_grid(dt: float | None, other: float) -> None:
    """Raise where times that are steps of dt already are to be those of another."""
    if dt is not None and not is_same_dt(dt, other):
        raise ValueError(
            f"times are steps of dt={dt:g} ms already, as of a network's own inputs, and here "
            f"dt={other:g} ms; give an input made anew, of times in ms"
        )


def n_before_never(steps: Any) -> int | None:
    """How many steps of a lengthened list there are; None where it is traced."""
    own = concrete(steps)
    return None if own is None else int(np.count_nonzero(own != NEVER))


def times_of(times: Any, steps: Any, dt: float | None) -> np.ndarray:
    """The times (ms) of a list, before or after it was put on a grid."""
    if steps is None or dt is None:
        return known("times", times)
    own = known("times", steps)
    return np.round(own[own != NEVER].astype(np.float64) * dt, 9)


class Cells(NamedTuple):
    """Which cells of a population are meant: n of them from number `first` on.

    Both are multiples of the tile; on one device `first` is a plain integer.
    """

    first: Any
    n: int


class Target(NamedTuple):
    """Cells low..high-1 of a population of n."""

    n: int
    low: int
    high: int


class Prepared(NamedTuple):
    """Coefficients of an input: `cells` has the cells as last axis (or 1), `shared` has not."""

    cells: Any
    shared: Any


def embed(values: Array, target: Target) -> Array:
    """Values of the target cells, `[..., m]` or shared, placed among those of the population."""
    n, low, high = target
    if values.ndim == 0 or values.shape[-1] == 1 or high - low == n:
        return values
    return jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(low, n - high)])


def within(values: Array, target: Target) -> Array:
    """The same, with 0 for the cells that are no target."""
    n, low, high = target
    if high - low == n:
        return values
    cells = np.arange(n)
    return jnp.where((cells >= low) & (cells < high), embed(values, target), 0)


def local(values: Array, target: Target, cells: Cells) -> Array:
    """The columns of the given cells, which may reach into the padding."""
    if values.shape[-1] == 1:
        return values
    padded = jnp.pad(values, ((0, 0), (0, TILE * -(-target.n // TILE) + cells.n - target.n)))
    return lax.dynamic_slice_in_dim(padded, cells.first, cells.n, axis=1)
