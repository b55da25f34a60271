"""How a vector field advances one step: fixed cost, differentiable, no adaptive loops.

A solver sees a pytree `y` of states, a vector field `field(system, y, current)` whose parameters
are the leaves of `system`, and `drive(at, y)`: the current when the part `at` (0 to 1) of the step
is over, which couplings make depend on the states. `prepare` runs once before the loop over steps,
`step` in it. Every leaf of the coefficients has the cells as its last axis, or is shared by all of
them (a scalar, or a last axis of 1).
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jsnn._math import expm, exprel
from jsnn._names import explained

Tree = Any
Field = Callable[[Any, Tree, Any], Tree]
Drive = Callable[[Any, Tree], Any]
Slope = Callable[[Any, Tree], Tree]  # when a part (0 to 1) of the substep is over


class Piece(NamedTuple):
    """A substep: the states at its end, and at any part (0 to 1) of it, of each cell its own."""

    end: Tree
    between: Callable[[Array], Tree]


@explained
class Exact(eqx.Module):
    """The exact solution of a linear system by its matrix exponential (Rotter and Diesmann 1999).

    Neuron and receptors make one matrix, so equal time constants need no special case. The
    propagator is computed from the Jacobian of the vector field: one law is written once.
    """

    @property
    def linear_only(self) -> bool:
        return True

    @property
    def knows_receptors(self) -> bool:
        """Whether receptors are taken in closed form, and not moved."""
        return False

    def prepare(
        self, field: Field, system: Any, y: Tree, dt: float, exponential: Callable = expm
    ) -> Array:
        """Rows [to, from] of the propagator `[k, k + 2, n or 1]`; the last two columns multiply
        the current and 1. `y` is an example of the state with scalar leaves. With `expm_less_one`
        for the `exponential`, `step` returns by how much the states change."""
        zeros, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros_like(leaf), y))
        k = zeros.size

        def propagate(system: Any) -> Array:
            def flat(values: Array, current: Array) -> Array:
                return ravel_pytree(field(system, unravel(values), current))[0]

            current = jnp.zeros((), zeros.dtype)
            to_values, to_current = jax.jacfwd(flat, argnums=(0, 1))(zeros, current)
            constant = flat(zeros, current)
            # exp of the matrix with the inputs as states that stand still integrates them too.
            # It is linear in their columns, which are made small so that they ask for no squarings.
            inputs = jnp.stack([to_current, constant], axis=1) * dt
            scale = lax.stop_gradient(jnp.maximum(4 * jnp.max(jnp.abs(inputs), axis=0), 1.0))
            moves = jnp.concatenate([to_values * dt, inputs / scale], axis=1)
            return exponential(jnp.pad(moves, ((0, 2), (0, 0))))[:k].at[:, k:].multiply(scale)

        axes = jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) else None, system)
        if all(jnp.ndim(leaf) == 0 for leaf in jax.tree.leaves(system)):
            return propagate(system)[..., None]
        return jnp.moveaxis(jax.vmap(propagate, in_axes=(axes,))(system), 0, -1)

    def step(
        self, coefficients: Array, field: Field, system: Any, y: Tree, drive: Drive, dt: float
    ) -> Tree:
        current = drive(0.0, y).held
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


@explained
class Euler(eqx.Module):
    """y(t + dt) = y + dt f(y): first order, Brian 2's `euler`."""

    @property
    def linear_only(self) -> bool:
        return False

    @property
    def knows_receptors(self) -> bool:
        return False

    @property
    def fastest(self) -> float:
        """The rate, times a piece, of a decay beyond which steps grow."""
        return 2.0

    @property
    def n_pieces(self) -> int:
        return 1

    def prepare(self, field: Field, system: Any, y: Tree, dt: float) -> None:
        return None

    def step(
        self, coefficients: None, field: Field, system: Any, y: Tree, drive: Drive, dt: float
    ) -> Tree:
        return self.piece(lambda at, y: field(system, y, drive(at, y)), y, dt).end

    def piece(self, slope: Slope, y: Tree, h: Any) -> Piece:
        first = slope(0.0, y)
        return Piece(_add(y, h, first), lambda part: _add(y, part * h, first))


@explained
class ExponentialEuler(eqx.Module):
    """y(t + dt) = y + dt exprel(dt J) f(y), with J = df_i/dy_i of each state alone: first order.

    It is exact for a linear equation with constant input, and stable for stiff decays.
    """

    @property
    def linear_only(self) -> bool:
        return False

    @property
    def knows_receptors(self) -> bool:
        return False

    @property
    def n_pieces(self) -> int:
        return 1

    def prepare(self, field: Field, system: Any, y: Tree, dt: float) -> None:
        return None

    def step(
        self, coefficients: None, field: Field, system: Any, y: Tree, drive: Drive, dt: float
    ) -> Tree:
        current = drive(0.0, y)
        return self.piece(lambda at, y: field(system, y, current), y, dt).end

    def piece(self, slope: Slope, y: Tree, h: Any) -> Piece:
        leaves, structure = jax.tree.flatten(y)
        slopes = jax.tree.leaves(slope(0.0, y))
        new = []
        for i, (leaf, own) in enumerate(zip(leaves, slopes, strict=True)):

            def alone(value: Array, i: int = i) -> Array:
                moved = jax.tree.unflatten(structure, [*leaves[:i], value, *leaves[i + 1 :]])
                return jax.tree.leaves(slope(0.0, moved))[i]

            _, rate = jax.jvp(alone, (leaf,), (jnp.ones_like(leaf),))
            new.append(leaf + h * exprel(h * rate) * own)
        end = jax.tree.unflatten(structure, new)
        line = lambda part: jax.tree.map(lambda a, b: a + part * (b - a), y, end)  # noqa: E731
        return Piece(end, line)


@explained
class RK4(eqx.Module):
    """The classical Runge-Kutta method of fourth order, `substeps` times a step, of the cells under
    synapses in closed form: their time constants may be as short as a step.

    With h the length of a substep and g all conductances of a cell, its leak too, the method itself
    is stable up to h g / c_m = 2.785 only. Beyond 1.6, where it takes three quarters of the way in
    a substep to the potential that the membrane is drawn to, its slope is reduced to what it is
    there: under any conductance of synapses the membrane stays between the reversal potentials and
    goes to the same place, up to two substeps late. A leak that is beyond 2.785 alone is refused.
    `Euler` has no such care, as in Brian 2; `ExponentialEuler` needs none."""

    substeps: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if isinstance(self.substeps, bool) or not isinstance(self.substeps, (int, np.integer)):
            raise TypeError(f"substeps={self.substeps!r} is not an integer; give 1 or more")
        if self.substeps < 1:
            raise ValueError(f"substeps={self.substeps} must be at least 1")

    @property
    def linear_only(self) -> bool:
        return False

    @property
    def knows_receptors(self) -> bool:
        return True

    @property
    def fastest(self) -> float:
        """The rate, times a piece, of a decay beyond which steps grow."""
        return 2.785

    @property
    def n_pieces(self) -> int:
        return self.substeps

    def prepare(self, field: Field, system: Any, y: Tree, dt: float) -> None:
        return None

    def step(
        self, coefficients: None, field: Field, system: Any, y: Tree, drive: Drive, dt: float
    ) -> Tree:
        k = self.n_pieces

        def substep(i: Any, y: Tree) -> Tree:
            def slope(part: float, y: Tree) -> Tree:
                return field(system, y, drive((i + part) / k, y))

            return self.piece(slope, y, dt / k).end

        return substep(0, y) if k == 1 else loop(0, k, substep, y)

    def piece(self, slope: Slope, y: Tree, h: Any) -> Piece:
        a = slope(0.0, y)
        b = slope(0.5, _add(y, h / 2, a))
        c = slope(0.5, _add(y, h / 2, b))
        d = slope(1.0, _add(y, h, c))
        end = jax.tree.map(lambda y, a, b, c, d: y + h / 6 * (a + 2 * b + 2 * c + d), y, a, b, c, d)

        def between(part: Array) -> Tree:
            """The polynomial of third order that agrees at the end (Hairer, Norsett and Wanner
            1993, II.6)."""
            square, cube = part * part, part * part * part * (2 / 3)
            first, middle, last = part - 1.5 * square + cube, square - cube, cube - square / 2
            return jax.tree.map(
                lambda y, a, b, c, d: y + h * (first * a + middle * (b + c) + last * d),
                *(y, a, b, c, d),
            )

        return Piece(end, between)


@explained
class Splitting(eqx.Module):
    """Every state in its turn, with the others held; extrapolated to fourth order.

    Where each equation is linear in its own state, as those of gates and of a membrane with
    channels are, one step of a state is the trapezoidal rule, y + h f / (1 - h J / 2) with
    J = df/dy, which is stable however fast a gate is. A substep of h takes gates and receptors over
    h/2, membranes over h, and gates and receptors in the opposite order over h/2 (Strang 1968,
    SIAM J. Numer. Anal. 5; Hines 1984, Int. J. Biomed. Comput. 15). It is symmetric in time, so
    that its error has even powers of h only, and two numbers of substeps cancel the second
    (Richardson 1911). Couplings are evaluated in the middle of each substep, at the mean of its
    membranes before and after, which are predicted with the current of the substep before; they
    have to be weak against a substep (h times the conductances of a cell well below c_m).

    **Arguments:**

    - `substeps`: one number for second order, or several, all even or all odd and increasing, for
      twice as many orders as numbers. Left out, it is two of substeps that are at most 1/120 ms:
      6 and 8 for steps of 0.05 ms.
    """

    substeps: tuple[int, ...] | None = eqx.field(static=True, default=None)

    def __init__(self, substeps: int | Sequence[int] | None = None):
        if substeps is None:
            self.substeps = None
            return
        given = list(np.atleast_1d(np.asarray(substeps, object)))
        for n in given:
            if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
                raise TypeError(f"substeps={substeps!r} are no integers; give 1 or more, as (4, 6)")
        if not given or min(given) < 1:
            raise ValueError(f"substeps={substeps!r} must be at least 1")
        self.substeps = tuple(map(int, given))
        if any(b <= a for a, b in zip(self.substeps, self.substeps[1:], strict=False)):
            raise ValueError(f"substeps={substeps!r} must increase, as (4, 6)")
        if len({n % 2 for n in self.substeps}) > 1:
            # A gate of infinite speed changes its sign with each substep: mixed, signs add up
            raise ValueError(f"substeps={substeps!r} must be all even or all odd, as (4, 6)")

    @property
    def linear_only(self) -> bool:
        return False

    @property
    def knows_receptors(self) -> bool:
        return False

    def prepare(self, field: Field, system: Any, y: Tree, dt: float) -> None:
        return None

    def substeps_of(self, dt: float) -> tuple[int, ...]:
        """The numbers of substeps in a step of dt (ms)."""
        if self.substeps is not None:
            return self.substeps
        coarse = math.ceil(dt / _LONGEST_SUBSTEP - 1e-9)
        return coarse, coarse + 2

    def step(
        self, coefficients: None, field: Field, system: Any, y: Tree, drive: Drive, dt: float
    ) -> Tree:
        counts = self.substeps_of(dt)
        leaves, structure = jax.tree.flatten_with_path(y)
        membranes, *others = _turns([path for path, _ in leaves])
        start = [leaf for _, leaf in leaves]
        unflatten = lambda leaves: jax.tree.unflatten(structure, leaves)  # noqa: E731
        # One function for each state, traced once and called in every place
        slopes = [_alone(field, unflatten, i) for i in range(len(start))]
        # What is fused with what follows, XLA computes again in each kernel that wants it
        apart = lax.optimization_barrier

        def move(h: Any, turns: list[list[int]], leaves: list, current: Any) -> list:
            for turn in turns:
                new = list(leaves)
                for i in turn:  # the trapezoidal rule, with all others held
                    slope, rate = slopes[i](system, leaves, current)
                    new[i] = leaves[i] + h * slope / (1 - h / 2 * rate)
                leaves = new
            return leaves

        def substep(i: Any, ways: list, first: int) -> list:
            """One more substep with each number of substeps from `first` on."""
            # All of them side by side: a coupling reads its conductances once for them
            h = [dt / n for n in counts[first:]]
            ahead = [move(own, [membranes], *way) for own, way in zip(h, ways, strict=True)]
            mean = lambda way, new: [(a + b) / 2 for a, b in zip(way[0], new, strict=True)]  # noqa: E731
            middles = [apart(unflatten(mean(*both))) for both in zip(ways, ahead, strict=True)]
            at = jnp.stack([(i + 0.5) / n for n in counts[first:]]).astype(start[0].dtype)
            found = jax.vmap(drive)(at, jax.tree.map(lambda *own: jnp.stack(own), *middles))
            made = []
            for k, (leaves, _) in enumerate(ways):
                current = jax.tree.map(lambda own, k=k: own[k], found)
                leaves = apart(move(h[k], [membranes], leaves, current))
                leaves = move(h[k] / 2, others[::-1], leaves, current)
                # At the membranes of the end, and so the rates, of this substep: the next begins
                going_on = jnp.where(i + 1 < counts[first + k], h[k] / 2, 0.0)
                going_on = going_on.astype(start[0].dtype)
                made.append((apart(move(going_on, others, leaves, current)), current))
            return made

        now = drive(0.0, y)
        ways = [(apart(move(dt / n / 2, others, start, now)), now) for n in counts]
        done, ends = 0, []
        for first, n in enumerate(counts):
            ways = loop(done, n, partial(substep, first=first), ways)
            ends.append(ways[0][0])
            done, ways = n, ways[1:]
        weights = _extrapolation(counts)
        pairs = zip(*ends, strict=True)
        return unflatten([sum(w * x for w, x in zip(weights, own, strict=True)) for own in pairs])


def loop(first: int, end: int, substep: Callable[[Any, Tree], Tree], y: Tree) -> Tree:
    """Substeps in a loop, and in reverse each computed once more from its beginning.

    XLA fuses unrolled substeps and computes their stages over and over: the cost then grows with a
    power of the substeps (on CPU 30-fold for 4 of `RK4`, 10 s to compile 8). Kept for the reverse
    pass, the stages of cells with channels take 66 times the memory with `RK4(8)` and 7 times with
    `Splitting((2, 4))`, and nearly twice as long to compile.
    """
    return lax.fori_loop(first, end, jax.checkpoint(substep, prevent_cse=False), y)


_LONGEST_SUBSTEP = 1 / 120  # ms; the upstroke of a spike changes rates e-fold in 0.03 ms


def _turns(paths: list[tuple]) -> list[list[int]]:
    """Which leaves move together: membranes, then what receptors hand on first, then the rest."""
    turns: list[list[int]] = [[], [], []]
    order: dict[tuple, int] = {}
    depth = min(map(len, paths))  # of cells' states; those of receptors have a name more
    for i, path in enumerate(paths):
        if len(path) == depth:
            turns[0 if path[-1].key == "v" else 2].append(i)
        else:  # of an `Alpha` receptor the slope, which drives the current and stands before it
            first = order.setdefault(path[:-1], i) == i
            turns[1 if first else 2].append(i)
    return turns


def _alone(field: Field, unflatten: Callable[[list], Tree], i: int) -> Callable:
    """Of the leaf i, the slope and its derivative with respect to the leaf itself."""

    @jax.jit
    def slope_and_rate(system: Any, leaves: list, current: Any) -> tuple[Array, Array]:
        def alone(value: Array) -> Array:
            moved = unflatten([*leaves[:i], value, *leaves[i + 1 :]])
            return jax.tree.leaves(field(system, moved, current))[i]

        return jax.jvp(alone, (leaves[i],), (jnp.ones_like(leaves[i]),))

    return slope_and_rate


def _extrapolation(counts: tuple[int, ...]) -> list[float]:
    """Weights of the results with so many substeps that cancel even powers of the substep."""
    weights = []
    for n in counts:
        others = [Fraction(n * n, n * n - m * m) for m in counts if m != n]
        weights.append(float(math.prod(others)))
    return weights


Piecewise = Euler | ExponentialEuler | RK4
Solver = Exact | Splitting | Piecewise


def _add(y: Tree, factor: float, slope: Tree) -> Tree:
    return jax.tree.map(lambda y, s: y + factor * s, y, slope)
