"""Resets at the time of the spike within a step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jsnn.solvers import Piece, Piecewise, Tree, loop

_ITERATIONS = 2  # of Newton's; the coordinates of a law are nearly straight where it spikes


class Spikes(NamedTuple):
    """What happened within a step: whether each cell has spiked, and how far it went beyond its
    spike, or is from it."""

    fired: Array
    margin: Array


class Law(NamedTuple):
    """What a step with resets has to know, of coordinates y: the slope in parts of the step (`at`,
    y, which cells stand still); how far beyond its spike a cell is (mV); the states after it."""

    slope: Callable[[Any, Tree, Array], Tree]
    overshoot: Callable[[Tree], Array]
    reset: Callable[[Tree], Tree]


def step(
    solver: Piecewise, law: Law, y: Tree, frozen: Array, stays: Array, dt: float
) -> tuple[Tree, Spikes]:
    """One step of dt of cells, of which the `frozen` stand still, and those that `stays` do so
    after a spike.

    A spike is found on the solver's own polynomial; what is left of the substep is the midpoint
    rule, from the reset on. A cell spikes once at most: if it would again, it waits at its peak for
    the next step. The time of the spike carries the gradient of what follows.
    """
    k = solver.n_pieces
    none = Spikes(jnp.zeros_like(frozen), jnp.full_like(law.overshoot(y), -jnp.inf))

    def substep(i: Any, carry: tuple[Tree, Spikes]) -> tuple[Tree, Spikes]:
        y, before = carry
        still = frozen | (before.fired & stays)
        piece = solver.piece(lambda part, y: law.slope((i + part) / k, y, still), y, dt / k)
        margin = law.overshoot(piece.end)
        fired = (margin >= 0) & ~still & ~before.fired
        part = _time_of_spike(piece, law.overshoot, law.overshoot(y), margin, fired)
        start, h = law.reset(piece.between(part)), (1 - part) * (dt / k)
        after, half = still | stays, (1 + part) / 2
        middle = _moved(start, h / 2, law.slope((i + part) / k, start, after))
        end = _moved(start, h, law.slope((i + half) / k, middle, after))
        # What the receptors do is not touched by a spike
        cell = jax.tree.map(
            lambda own, other: jnp.where(fired, own, other), end["cell"], piece.end["cell"]
        )
        y = {**piece.end, "cell": cell}
        seen = jnp.where(before.fired, before.margin, margin)
        return y, Spikes(before.fired | fired, seen)

    return substep(0, (y, none)) if k == 1 else loop(0, k, substep, (y, none))


def _time_of_spike(
    piece: Piece, overshoot: Callable[[Tree], Array], first: Array, last: Array, fired: Array
) -> Array:
    """The part of a substep that is over when each cell reaches its peak; 1 for those that do
    not."""
    at = lambda part: overshoot(piece.between(part))  # noqa: E731
    change = last - first
    part = jnp.clip(-first / jnp.where(change > 0, change, 1), 0, 1)
    for _ in range(_ITERATIONS):
        # With the part and the slope held, the last of these has the derivative of the root
        part = lax.stop_gradient(part)
        value, slope = jax.jvp(at, (part,), (jnp.ones_like(part),))
        slope = lax.stop_gradient(jnp.where(fired & (slope > 0), slope, 1))
        part = jnp.clip(part - jnp.where(fired, value, 0) / slope, 0, 1)
    return jnp.where(fired, part, 1)


def _moved(y: Tree, h: Array, slope: Tree) -> Tree:
    return jax.tree.map(lambda y, s: y + h * s, y, slope)
