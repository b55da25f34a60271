"""Given spikes."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jsnn._math import (
    as_real,
    check_cells,
    check_number,
    concrete,
    known,
    whole_steps,
    whole_steps_array,
)
from jsnn.inputs._common import Cells, Prepared, Target


class SpikeList(eqx.Module):
    """Given spikes: the k-th reaches target cell `cells[k]` at `times[k]` plus the delay.

    **Arguments:**

    - `target`, `receptor`: as in `Poisson`.
    - `times`: ms, `[n_spikes]`, whole numbers of steps; a spike stamped t belongs to the step that
      ends at t. At least one step.
    - `cells`: index of the target cell of each, `[n_spikes]`, counted from the target's first.
    - `weight`: a scalar, or `[n_spikes]`.
    - `delay`: ms.
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
        check_cells("weight", weight, times.size)
        order = np.argsort(times, kind="stable")
        weight = as_real(weight)
        self.times, self.steps = times[order], None
        self.cells = jnp.asarray(cells[order], jnp.int32)
        self.weight = weight[order] if weight.ndim else weight
        self.target, self.receptor, self.delay = target, receptor, delay

    def check(self, dt: float, n: int) -> None:
        whole_steps("delay", self.delay, dt)
        cells = concrete(self.cells)
        if cells is not None and cells.size and not (0 <= cells.min() and cells.max() < n):
            raise ValueError(f"cells holds {cells.min()}..{cells.max()}; give 0..{n - 1}")

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
        out = jnp.zeros((steps.shape[0], cells.n), weight.dtype)
        if not slots.size:
            return out
        first, last = jnp.searchsorted(slots, jnp.stack([steps[0], steps[-1] + 1]))
        capacity = min(slots.shape[0], 256)  # at once: a block mostly holds few of a long list
        offsets = jnp.arange(capacity)

        def add(carry):
            start, out = carry
            begin = jnp.minimum(start, slots.shape[0] - capacity)
            some = [lax.dynamic_slice(x, (begin,), (capacity,)) for x in (slots, targets, weight)]
            here = (begin + offsets >= start) & (begin + offsets < last)
            cell = some[1] - cells.first
            here &= (cell >= 0) & (cell < cells.n)
            row = jnp.where(here, some[0] - steps[0], steps.shape[0])
            return start + capacity, out.at[row, cell].add(some[2], mode="drop")

        return lax.while_loop(lambda carry: carry[0] < last, add, (first, out))[1]

    def overflow(self, prepared: Prepared, steps: Array, dt: float) -> Array:
        return jnp.zeros(steps.shape, bool)
