"""Currents that are constant in pieces, given or random."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import (
    NEVER,
    as_real,
    check_cells,
    check_number,
    concrete,
    known,
    plain,
    whole_steps,
)
from jsnn._names import explained
from jsnn._random import cell_words, normal
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
    within,
)

_SHORTEST = 8  # pieces: what fewer than these are kept as


@explained
class StepCurrent(eqx.Module):
    """A current that is piecewise constant in time.

    **Arguments:**

    - `target`: a population or slice.
    - `times`: ms, `[k]`, increasing whole numbers of steps: from `times[j]` on the current is
      `values[j]`, and 0 before `times[0]`.
    - `values`: pA, `[k]`, or `[k, n]` with one column for each target cell.
    - `delay`: ms, added to the times. NEST's generators have 1 ms by default.
    - `as_nest`: a time of 0 counts as one step, as NEST's generators begin a step late then.

    `times` can be read back. Currents `[k]` of at most 8, 16, 32, ... pieces share a compiled
    program of `run` and `simulate`; `values` keep the shape that they are given in.
    """

    _times: np.ndarray | None  # until a network gives them its grid
    _steps: Array | None  # at their end, if there is one value at a time, is what never comes
    values: Array
    target: str = eqx.field(static=True)
    delay: float = eqx.field(static=True)
    dt: float | None = eqx.field(static=True)  # of the steps
    as_nest: bool = eqx.field(static=True)

    def __init__(
        self,
        target: str,
        times: ArrayLike,
        values: ArrayLike,
        *,
        delay: float = 0.0,
        as_nest: bool = False,
    ):
        check_number("times", times, low=0.0)
        check_number("values", values)
        times, values = known("times", times), as_real(values)
        times = times.astype(np.result_type(times, np.float32))
        if times.size == 0:
            raise ValueError("times is empty; give at least one")
        if times.ndim != 1 or values.ndim not in (1, 2) or values.shape[0] != times.shape[0]:
            raise ValueError(
                f"times {times.shape} and values {values.shape}: give [k] times and [k] or [k, n] "
                "values"
            )
        if np.any(np.diff(times) <= 0):
            raise ValueError(f"times={times} must increase")
        self._times, self._steps, self.values = times, None, values
        self.target, self.delay, self.dt = target, plain(delay), None
        self.as_nest = bool(as_nest)

    @property
    def times(self) -> np.ndarray:
        """ms, `[k]`."""
        return times_of(self._times, self._steps, self.dt)

    def checked(self, dt: float, n: int) -> "StepCurrent":
        self = self.on_grid(dt)
        whole_steps("delay", self.delay, dt)
        self = with_arrays(self, "values")
        assert self._steps is not None
        size, k = self._steps.size, n_before_never(self._steps)
        length, *columns = self.values.shape or (size + 1,)
        fits = length <= size if k is None else length in (k, size)
        if not fits or columns not in ([], [n]):
            k = size if k is None else k
            raise ValueError(f"values has shape {self.values.shape}; give ({k},) or ({k}, {n})")
        return self

    def lengthened(self) -> "StepCurrent":
        """The same with known values as many as times are kept."""
        if self._steps is None or self.values.ndim != 1 or concrete(self.values) is None:
            return self
        values = lengthened(self.values, self._steps.size, 0)
        return eqx.tree_at(lambda s: s.values, self, values)

    def on_grid(self, dt: float) -> "StepCurrent":
        """The same for a network of steps of dt."""
        check_grid(self.dt, dt)
        if self._times is None:
            return self
        steps, values = steps_of(self._times, self.delay, dt), self.values
        if np.any(np.diff(steps) <= 0):
            raise ValueError(f"times={self._times}: two of them fall on one step of dt={dt:g} ms")
        if self.as_nest:  # nothing begins at step 0, and what ends at 1 has never been
            over = int(steps.size > 1 and steps[1] <= 1)
            steps, values = np.maximum(steps, np.int32(1))[over:], values[over:]
        size = room(steps.size, _SHORTEST) if values.ndim == 1 else steps.size
        made = eqx.tree_at(
            lambda s: (s._times, s._steps, s.values),
            self,
            (None, lengthened(steps, size, NEVER), values),
            is_leaf=lambda x: x is None,
        )
        object.__setattr__(made, "dt", dt)
        return made

    def prepare(self, dt: float, target: Target) -> Prepared:
        assert self._steps is not None, "a network puts its inputs on the grid"
        steps = self._steps + whole_steps("delay", self.delay, dt)
        steps = jnp.where(self._steps == NEVER, NEVER, steps)
        # Of a traced list nobody can tell how many there should be; too few will be noticed
        values = lengthened(self.values, steps.size, jnp.nan)
        values = within(values if values.ndim == 2 else values[:, None], target)
        values = jnp.concatenate([jnp.zeros_like(values[:1]), values])
        return Prepared(values, steps)

    def block(
        self, prepared: Prepared, key: Array, steps: Array, cells: Cells, target: Target, dt: float
    ) -> Array:
        return prepared.cells[jnp.searchsorted(prepared.shared, steps, side="right")]

    def overflow(self, prepared: Prepared, steps: Array, dt: float) -> Array:
        return jnp.zeros(steps.shape, bool)


@explained
class NoiseCurrent(eqx.Module):
    """Gaussian white noise in pieces: mean + std * N(0, 1), drawn anew for every cell and interval.

    **Arguments:**

    - `target`: a population or slice.
    - `mean`, `std`: pA; a scalar or one number for each target cell.
    - `interval`: ms for which a value is held; one step if left out. Halving it halves the
      variance of the membrane. NEST's noise_generator holds a value for 1 ms unless told
      otherwise: `jsnn.nest.noise_generator` is it.
    - `start`, `stop`: ms.
    - `delay`: ms, added to both.
    - `as_nest`: as NEST's noise_generator, count the intervals from the start on, and begin a step
      late where that is 0. Intervals are counted from 0 ms on otherwise.
    """

    mean: Array
    std: Array
    target: str = eqx.field(static=True)
    interval: float | None = eqx.field(static=True)
    start: float = eqx.field(static=True)
    stop: float | None = eqx.field(static=True)
    delay: float = eqx.field(static=True)
    as_nest: bool = eqx.field(static=True)

    def __init__(
        self,
        target: str,
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
        *,
        interval: float | None = None,
        start: float = 0.0,
        stop: float | None = None,
        delay: float = 0.0,
        as_nest: bool = False,
    ):
        check_number("mean", mean)
        check_number("std", std, low=0.0)
        self.mean, self.std, self.target = as_real(mean), as_real(std), target
        self.interval, self.start, self.stop = plain(interval), plain(start), plain(stop)
        self.delay, self.as_nest = plain(delay), bool(as_nest)

    def checked(self, dt: float, n: int) -> "NoiseCurrent":
        self = with_arrays(self, "mean", "std")
        if self.interval is not None:
            whole_steps("interval", self.interval, dt, least=1)
        whole_steps("start", self.start, dt)
        whole_steps("delay", self.delay, dt)
        if self.stop is not None:
            if whole_steps("stop", self.stop, dt) <= whole_steps("start", self.start, dt):
                raise ValueError(f"stop={self.stop} ms must be after start={self.start} ms")
        check_cells("mean", self.mean, n)
        check_cells("std", self.std, n)
        check_number("std", self.std, low=0.0)
        return self

    def lengthened(self) -> "NoiseCurrent":
        return self

    def prepare(self, dt: float, target: Target) -> Prepared:
        return Prepared((within(self.mean, target), within(self.std, target)), ())

    def block(
        self, prepared: Prepared, key: Array, steps: Array, cells: Cells, target: Target, dt: float
    ) -> Array:
        mean, std = prepared.cells
        held = 1 if self.interval is None else whole_steps("interval", self.interval, dt)
        sent = steps - whole_steps("delay", self.delay, dt)
        start = max(whole_steps("start", self.start, dt), int(self.as_nest))
        since = sent - start if self.as_nest else sent
        words = cell_words(key, since // held, cells.first, cells.n)
        live = sent >= start
        if self.stop is not None:
            live &= sent < whole_steps("stop", self.stop, dt)
        noise = mean + std * normal(words, np.dtype(mean.dtype))
        return jnp.where(live[:, None], noise, 0)

    def overflow(self, prepared: Prepared, steps: Array, dt: float) -> Array:
        return jnp.zeros(steps.shape, bool)
