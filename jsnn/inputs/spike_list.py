"""Given spikes."""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jsnn._derivatives import backward_only, without_derivative
from jsnn._math import (
    as_real,
    check_cells,
    check_number,
    concrete,
    known,
    plain,
    whole_steps,
    whole_steps_array,
)
from jsnn.inputs._common import Cells, Prepared, Target, with_arrays

_FORWARD = (
    "weights of a SpikeList have first derivatives backward, as of jax.grad, and neither forward "
    "(jax.jvp, jax.jacfwd) nor second ones (jax.hessian); take them as known there"
)


class SpikeList(eqx.Module):
    """Given spikes: the k-th reaches target cell `cells[k]` at `times[k]` plus the delay.

    **Arguments:**

    - `target`, `receptor`: as in `Poisson`.
    - `times`: ms, `[n_spikes]`, whole numbers of steps; a spike stamped t belongs to the step that
      ends at t. At least one step.
    - `cells`: index of the target cell of each, `[n_spikes]`, counted from the target's first.
    - `weight`: a scalar, or `[n_spikes]`.
    - `delay`: ms.

    Of the weights there are gradients of first order, in reverse mode; others are a `TypeError`.
    """

    times: np.ndarray | None  # until a network gives them its grid
    steps: Array | None
    cells: Array
    weight: Array
    target: str = eqx.field(static=True)
    receptor: str | None = eqx.field(static=True)
    delay: float = eqx.field(static=True)

    def __init__(
        self,
        target: str,
        times: ArrayLike,
        cells: ArrayLike,
        weight: ArrayLike,
        receptor: str | None = None,
        *,
        delay: float = 0.0,
    ):
        check_number("times", times, low=0.0, strict=True)
        check_number("cells", cells)
        check_number("weight", weight)
        times, cells = known("times", times).astype(np.float64), known("cells", cells)
        if cells.size and not np.issubdtype(cells.dtype, np.integer):
            raise TypeError(f"cells has dtype {cells.dtype}; give integer indices of target cells")
        if times.ndim != 1 or times.shape != cells.shape:
            raise ValueError(f"times {times.shape} and cells {cells.shape}: give two equal lists")
        if np.any(np.abs(cells.astype(np.float64)) >= 2**31):  # they are kept as int32
            raise ValueError(f"cells holds {cells.min()}..{cells.max()}; give fewer than 2**31")
        weight = as_real(weight)
        check_cells("weight", weight, times.size)
        order = np.argsort(times, kind="stable")
        self.times, self.steps = times[order], None
        self.cells = jnp.asarray(cells[order], jnp.int32)
        self.weight = weight[order] if weight.ndim else weight
        self.target, self.receptor, self.delay = target, receptor, plain(delay)

    def checked(self, dt: float, n: int) -> "SpikeList":
        whole_steps("delay", self.delay, dt)
        self = with_arrays(self, "weight")
        check_cells("weight", self.weight, self.cells.shape[0])
        cells = concrete(self.cells)
        if cells is not None and cells.size and not (0 <= cells.min() and cells.max() < n):
            raise ValueError(f"cells holds {cells.min()}..{cells.max()}; give 0..{n - 1}")
        return self

    def on_grid(self, dt: float) -> "SpikeList":
        """The same with its times as steps, in double precision: float32 would lose late ones."""
        if self.times is None:
            return self
        steps = jnp.asarray(whole_steps_array("times", self.times, dt, least=1), jnp.int32)
        return eqx.tree_at(
            lambda s: (s.times, s.steps), self, (None, steps), is_leaf=lambda x: x is None
        )

    def prepare(self, dt: float, target: Target) -> Prepared:
        assert self.steps is not None, "a network puts its inputs on the grid"
        slots = self.steps - 1 + whole_steps("delay", self.delay, dt)
        weight = jnp.broadcast_to(self.weight, slots.shape)
        return Prepared((), (slots, self.cells + target.low, weight))

    def block(
        self, prepared: Prepared, key: Array, steps: Array, cells: Cells, target: Target, dt: float
    ) -> Array:
        slots, targets, weight = prepared.shared
        if not slots.size:
            return jnp.zeros((steps.shape[0], cells.n), weight.dtype)
        return _place(cells.n, backward_only(weight, _FORWARD), slots, targets - cells.first, steps)

    def overflow(self, prepared: Prepared, steps: Array, dt: float) -> Array:
        return jnp.zeros(steps.shape, bool)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _place(n: int, weight: Array, slots: Array, targets: Array, steps: Array) -> Array:
    """Weights at the step and the cell of their spikes, `[len(steps), n]`; 0 elsewhere.

    Linear in the weights. JAX does not turn a loop of unknown length round: `_take` is it, turned.
    """

    def add(out, begin, row, cell, here):
        amount = lax.dynamic_slice(weight, (begin,), row.shape)
        return out.at[jnp.where(here, row, steps.shape[0]), cell].add(amount, mode="drop")

    return _over_spikes(add, jnp.zeros((steps.shape[0], n), weight.dtype), n, slots, targets, steps)


def _take(n: int, kept: tuple[Array, Array, Array], slope: Array) -> tuple[Array, None, None, None]:
    slots, targets, steps = kept
    slope = without_derivative(slope, _FORWARD)

    def add(out, begin, row, cell, here):
        some = jnp.where(here, slope.at[row, cell].get(mode="clip"), 0)
        before = lax.dynamic_slice(out, (begin,), row.shape)
        return lax.dynamic_update_slice(out, before + some, (begin,))

    zero = jnp.zeros(slots.shape, slope.dtype)
    return _over_spikes(add, zero, n, slots, targets, steps), None, None, None


_place.defvjp(
    lambda n, weight, slots, targets, steps: (
        _place(n, backward_only(weight, _FORWARD), slots, targets, steps),
        (slots, targets, steps),
    ),
    _take,
)


def _over_spikes(
    add: Callable, out: Array, n: int, slots: Array, targets: Array, steps: Array
) -> Array:
    """Call `add(out, begin, row, cell, here)` with the spikes of the given steps, some at a time:
    of those from number `begin` on their row, their cell, and whether they are meant."""
    first, last = jnp.searchsorted(slots, jnp.stack([steps[0], steps[-1] + 1]))
    capacity = min(slots.shape[0], 256)  # at once: a block mostly holds few of a long list
    offsets = jnp.arange(capacity)

    def some(carry):
        start, out = carry
        begin = jnp.minimum(start, slots.shape[0] - capacity)
        slot, cell = (lax.dynamic_slice(x, (begin,), (capacity,)) for x in (slots, targets))
        here = (begin + offsets >= start) & (begin + offsets < last) & (cell >= 0) & (cell < n)
        return start + capacity, add(out, begin, slot - steps[0], cell, here)

    return lax.while_loop(lambda carry: carry[0] < last, some, (first, out))[1]
