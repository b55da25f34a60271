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

from jsnn._math import NEVER, as_real, check_number, is_same_dt, whole_steps
from jsnn._random import TILE


def with_arrays(source: Any, *names: str) -> Any:
    """An input with its parameters of these names as arrays, whatever was put in their place."""
    for name in names:
        check_number(name, getattr(source, name))
    values = [as_real(getattr(source, name)) for name in names]
    return eqx.tree_at(lambda s: [getattr(s, name) for name in names], source, values)


def check_grid(source: Any, dt: float) -> None:
    """Raise for an input that another network has put on the grid of its own steps."""
    if source.dt is not None and not is_same_dt(source.dt, dt):
        raise ValueError(
            f"times are steps of dt={source.dt:g} ms already, as of a network's own inputs, and "
            f"here dt={dt:g} ms; give an input made anew, of times in ms"
        )


def put_on_grid(source: Any, steps: np.ndarray, dt: float) -> Any:
    """An input with its times as steps of dt; raises for what its delay moves beyond int32."""
    delay = whole_steps("delay", source.delay, dt)
    if steps.size and int(steps.max()) + delay >= NEVER:
        raise ValueError(
            f"times up to {steps.max() * dt:g} ms and delay={source.delay:g} ms are together more "
            f"than {NEVER - 1} steps of dt={dt:g} ms, as far as steps are counted; give less"
        )
    made = eqx.tree_at(
        lambda s: (s.times, s.steps),
        source,
        (None, jnp.asarray(steps, jnp.int32)),
        is_leaf=lambda x: x is None,
    )
    object.__setattr__(made, "dt", dt)
    return made


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
