"""How a vector field advances one step: fixed cost, differentiable, no adaptive loops.

A solver sees a pytree `y` of states, a vector field `field(system, y, current)` whose parameters
are the leaves of `system`, and a current held constant over the step. `prepare` runs once before
the loop over steps, `step` in it. Every leaf of the coefficients has the cells as its last axis,
or is shared by all of them (a scalar, or a last axis of 1).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jsnn._math import exprel

Tree = Any
Field = Callable[[Any, Tree, Array], Tree]


class Exact(eqx.Module):
    """The exact solution of a linear system by its matrix exponential (Rotter and Diesmann 1999).

    Neuron and receptors make one matrix, so equal time constants need no special case. The
    propagator is computed from the Jacobian of the vector field: one law is written once.
    """

    @property
    def linear_only(self) -> bool:
        return True

    def prepare(self, field: Field, system: Any, y: Tree, dt: float) -> Array:
        """Rows [to, from] of the propagator `[k, k + 2, n or 1]`; the last two columns multiply
        the current and 1. `y` is an example of the state with scalar leaves."""
        zeros, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros_like(leaf), y))
        k = zeros.size

        def propagate(system: Any) -> Array:
            def flat(values: Array, current: Array) -> Array:
                return ravel_pytree(field(system, unravel(values), current))[0]

            current = jnp.zeros((), zeros.dtype)
            to_values, to_current = jax.jacfwd(flat, argnums=(0, 1))(zeros, current)
            constant = flat(zeros, current)
            # exp of the matrix with the inputs as states that stand still integrates them too
            matrix = jnp.zeros((k + 2, k + 2), zeros.dtype)
            matrix = matrix.at[:k, :k].set(to_values)
            matrix = matrix.at[:k, k].set(to_current).at[:k, k + 1].set(constant)
            return jax.scipy.linalg.expm(matrix * dt)[:k]

        axes = jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) else None, system)
        if all(jnp.ndim(leaf) == 0 for leaf in jax.tree.leaves(system)):
            return propagate(system)[..., None]
        return jnp.moveaxis(jax.vmap(propagate, in_axes=(axes,))(system), 0, -1)

    def step(
        self, coefficients: Array, field: Field, system: Any, y: Tree, current: Array, dt: float
    ) -> Tree:
        leaves, structure = jax.tree.flatten_with_path(y)
        values = [leaf for _, leaf in leaves]
        k = len(values)
        new = []
        for to, (path, _) in enumerate(leaves):
            own = [i for i, (other, _) in enumerate(leaves) if _drives(other, path)]
            total = sum(coefficients[to, i] * values[i] for i in own)
            if path[0].key == "cell":  # receptors see arrivals only
                total = total + coefficients[to, k] * current + coefficients[to, k + 1]
            new.append(total)
        return jax.tree.unflatten(structure, new)


def _drives(source: tuple, target: tuple) -> bool:
    """Whether a state can act on another: receptors act on the cell, and each on itself."""
    return target[0].key == "cell" or source[:2] == target[:2]


class Euler(eqx.Module):
    """y(t + dt) = y + dt f(y): first order, Brian 2's `euler`."""

    @property
    def linear_only(self) -> bool:
        return False

    def prepare(self, field: Field, system: Any, y: Tree, dt: float) -> None:
        return None

    def step(
        self, coefficients: None, field: Field, system: Any, y: Tree, current: Array, dt: float
    ) -> Tree:
        return _add(y, dt, field(system, y, current))


class ExponentialEuler(eqx.Module):
    """y(t + dt) = y + dt exprel(dt J) f(y), with J = df_i/dy_i of each state alone: first order.

    It is exact for a linear equation with constant input, and stable for stiff decays.
    """

    @property
    def linear_only(self) -> bool:
        return False

    def prepare(self, field: Field, system: Any, y: Tree, dt: float) -> None:
        return None

    def step(
        self, coefficients: None, field: Field, system: Any, y: Tree, current: Array, dt: float
    ) -> Tree:
        leaves, structure = jax.tree.flatten(y)
        slopes = jax.tree.leaves(field(system, y, current))
        new = []
        for i, (leaf, slope) in enumerate(zip(leaves, slopes, strict=True)):

            def alone(value: Array, i: int = i) -> Array:
                moved = jax.tree.unflatten(structure, [*leaves[:i], value, *leaves[i + 1 :]])
                return jax.tree.leaves(field(system, moved, current))[i]

            _, rate = jax.jvp(alone, (leaf,), (jnp.ones_like(leaf),))
            new.append(leaf + dt * exprel(dt * rate) * slope)
        return jax.tree.unflatten(structure, new)


class RK4(eqx.Module):
    """The classical Runge-Kutta method of fourth order, `substeps` times a step."""

    substeps: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if isinstance(self.substeps, bool) or not isinstance(self.substeps, (int, np.integer)):
            raise TypeError(f"substeps={self.substeps!r} is not an integer; give 1 or more")
        if self.substeps < 1:
            raise ValueError(f"substeps={self.substeps} must be at least 1")

    @property
    def linear_only(self) -> bool:
        return False

    def prepare(self, field: Field, system: Any, y: Tree, dt: float) -> None:
        return None

    def step(
        self, coefficients: None, field: Field, system: Any, y: Tree, current: Array, dt: float
    ) -> Tree:
        h = dt / self.substeps

        def substep(_: Any, y: Tree) -> Tree:
            a = field(system, y, current)
            b = field(system, _add(y, h / 2, a), current)
            c = field(system, _add(y, h / 2, b), current)
            d = field(system, _add(y, h, c), current)
            return jax.tree.map(
                lambda y, a, b, c, d: y + h / 6 * (a + 2 * b + 2 * c + d), y, a, b, c, d
            )

        # A loop, because XLA fuses unrolled substeps and computes their stages over and over: the
        # cost then grows with a power of the substeps (on CPU 30-fold for 4, 10 s to compile 8).
        return substep(0, y) if self.substeps == 1 else lax.fori_loop(0, self.substeps, substep, y)


Solver = Exact | Euler | ExponentialEuler | RK4


def _add(y: Tree, factor: float, slope: Tree) -> Tree:
    return jax.tree.map(lambda y, s: y + factor * s, y, slope)
