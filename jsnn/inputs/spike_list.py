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
    NEVER,
    as_array,
    as_real,
    check_cells,
    check_number,
    concrete,
    doubt,
    known,
    plain,
    whole_steps,
)
from jsnn._names import explained
from jsnn.inputs._common import (
    Cells,
    Prepared,
    Target,
    check_grid,
    lengthened,
    n_before_never,
    room,
    steps_of,
    times_of,
    with_arrays,
)

_AT_ONCE = 256  # spikes: a block mostly holds few of a long list

_FORWARD = (
    "weights of a SpikeList have first derivatives backward, as of jax.grad, and neither forward "
    "(jax.jvp, jax.jacfwd) nor second ones (jax.hessian); take them as known there"
)


@explained
class SpikeList(eqx.Module):
    """Given spikes: the k-th reaches target cell `cells[k]` at `times[k]` plus the delay.

    **Arguments:**

    - `target`, `receptor`: as in `Poisson`.
    - `times`: ms, `[n_spikes]`, whole numbers of steps; a spike stamped t belongs to the step that
      ends at t. At least one step.
    - `cells`: index of the target cell of each, `[n_spikes]`, counted from the target's first.
    - `weight`: a scalar, or `[n_spikes]`.
    - `delay`: ms.
    - `capacity`: for how many spikes there is room, at least as many as there are. If left out, the
      least of 256, 512, 1,024, ... that is enough (beyond 65,536 steps are a quarter of that).

    `times` and `cells` can be read back, and are in the order of time. Lists with room for as many
    spikes share a compiled program, of `run`, `simulate` and whatever else takes the network. To
    replace one in a network, give another to `equinox.tree_at`; inside `jit` or `vmap`, or to stack
    several, `source.on_grid(dt)`:

        trials = [SpikeList("cells", *spikes, 1.0, capacity=4096).on_grid(dt) for spikes in data]
        stacked = jax.tree.map(lambda *own: jnp.stack(own), *trials)

    Of the weights there are gradients of first order, in reverse mode; others are a `TypeError`.
    Weights of each spike keep the length that they are given in; with a `capacity` they are
    `[capacity]` from the network on, and 0 where there is no spike. Without one, a `jit` of your
    own compiles anew for another length of theirs, as `run` and `simulate` do not.
    """

    _times: np.ndarray | None  # until a network gives them its grid
    _steps: Array | None  # at their end, and that of `_cells`, is what never comes
    _cells: Array
    weight: Array
    target: str = eqx.field(static=True)
    receptor: str | None = eqx.field(static=True)
    delay: float = eqx.field(static=True)
    capacity: int | None = eqx.field(static=True)
    dt: float | None = eqx.field(static=True)  # of the steps

    def __init__(
        self,
        target: str,
        times: ArrayLike,
        cells: ArrayLike,
        weight: ArrayLike,
        receptor: str | None = None,
        *,
        delay: float = 0.0,
        capacity: int | None = None,
    ):
        check_number("times", times, low=0.0, strict=True)
        check_number("cells", cells)
        check_number("weight", weight)
        times, cells = known("times", times), known("cells", cells)
        times = times.astype(np.result_type(times, np.float32))
        if cells.size and not np.issubdtype(cells.dtype, np.integer):
            raise TypeError(f"cells has dtype {cells.dtype}; give integer indices of target cells")
        if times.ndim != 1 or times.shape != cells.shape:
            raise ValueError(f"times {times.shape} and cells {cells.shape}: give two equal lists")
        if np.any(np.abs(cells.astype(np.float64)) >= 2**31):  # they are kept as int32
            raise ValueError(f"cells holds {cells.min()}..{cells.max()}; give fewer than 2**31")
        if capacity is not None:
            if isinstance(capacity, bool) or not isinstance(capacity, (int, np.integer)):
                raise TypeError(f"capacity={capacity!r} is not an integer; give room for spikes")
            if capacity < max(times.size, 1):
                raise ValueError(
                    f"capacity={capacity} has no room for {times.size} spikes; give at least "
                    f"{max(times.size, 1)}"
                )
            capacity = int(capacity)
        check_cells("weight", weight, times.size)
        order = np.argsort(times, kind="stable")
        self._times, self._steps = times[order], None
        self._cells = as_array(cells[order].astype(np.int32))
        if np.ndim(weight):
            own = concrete(weight)
            weight = as_real(weight)[order] if own is None else own[order]
        self.weight = as_real(weight)
        self.target, self.receptor, self.delay = target, receptor, plain(delay)
        self.capacity, self.dt = capacity, None

    @property
    def times(self) -> np.ndarray:
        """ms, `[n_spikes]`, in increasing order."""
        return times_of(self._times, self._steps, self.dt)

    @property
    def cells(self) -> np.ndarray:
        """The target cell of each spike, `[n_spikes]`, in the order of `times`."""
        return known("cells", self._cells)[: self.times.size]

    def checked(self, dt: float, n: int) -> "SpikeList":
        self = self.on_grid(dt)
        whole_steps("delay", self.delay, dt)
        self = with_arrays(self, "weight")
        size, n_spikes = self._cells.shape[0], n_before_never(self._steps)
        if n_spikes is None and self.weight.ndim == 1:
            n_spikes = min(self.weight.size, size)  # nobody can tell
        if self.weight.shape != (size,):
            check_cells("weight", self.weight, size if n_spikes is None else n_spikes)
        cells = concrete(self._cells)
        if cells is None:
            doubt(lambda cells: (cells < 0) | (cells >= n), self._cells)
        elif not (0 <= cells.min() and cells.max() < n):
            raise ValueError(f"cells holds {cells.min()}..{cells.max()}; give 0..{n - 1}")
        return self

    def lengthened(self) -> "SpikeList":
        """The same with known weights of each spike as long as the list is kept."""
        if not self.weight.ndim or concrete(self.weight) is None:
            return self
        weight = lengthened(self.weight, self._cells.shape[0], 0)
        return eqx.tree_at(lambda s: s.weight, self, weight)

    def on_grid(self, dt: float) -> "SpikeList":
        """The same for a network of steps of dt."""
        check_grid(self.dt, dt)
        if self._times is None:
            return self
        steps = steps_of(self._times, self.delay, dt, least=1)
        size = room(steps.size, _AT_ONCE) if self.capacity is None else self.capacity
        made = eqx.tree_at(
            lambda s: (s._times, s._steps, s._cells),
            self,
            (None, lengthened(steps, size, NEVER), lengthened(self._cells, size, 0)),
            is_leaf=lambda x: x is None,
        )
        object.__setattr__(made, "dt", dt)
        return made if self.capacity is None else made.lengthened()

    def prepare(self, dt: float, target: Target) -> Prepared:
        assert self._steps is not None, "a network puts its inputs on the grid"
        slots = self._steps - 1 + whole_steps("delay", self.delay, dt)
        slots = jnp.where(self._steps == NEVER, NEVER, slots)
        # Of a traced list nobody can tell how many there should be; too few will be noticed
        weight = lengthened(self.weight, slots.size, jnp.nan) if self.weight.ndim else self.weight
        weight = jnp.broadcast_to(weight, slots.shape)
        return Prepared((), (slots, self._cells + target.low, weight))

    def block(
        self, prepared: Prepared, key: Array, steps: Array, cells: Cells, target: Target, dt: float
    ) -> Array:
        slots, targets, weight = prepared.shared
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
    capacity = min(slots.shape[0], _AT_ONCE)
    offsets = jnp.arange(capacity)

    def some(carry):
        start, out = carry
        begin = jnp.minimum(start, slots.shape[0] - capacity)
        slot, cell = (lax.dynamic_slice(x, (begin,), (capacity,)) for x in (slots, targets))
        here = (begin + offsets >= start) & (begin + offsets < last) & (cell >= 0) & (cell < n)
        return start + capacity, add(out, begin, slot - steps[0], cell, here)

    return lax.while_loop(lambda carry: carry[0] < last, some, (first, out))[1]
