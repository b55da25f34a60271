"""Currents that are constant in pieces, given or random."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import (
    as_real,
    check_cells,
    check_number,
    known,
    plain,
    whole_steps,
    whole_steps_array,
)
from jsnn._random import cell_words, normal
from jsnn.inputs._common import (
    Cells,
    Prepared,
    Target,
    check_grid,
    put_on_grid,
    with_arrays,
    within,
)


class StepCurrent(eqx.Module):
    """A current that is piecewise constant in time.

    **Arguments:**

    - `target`: a population or slice.
    - `times`: ms, `[k]`, increasing whole numbers of steps: from `times[j]` on the current is
      `values[j]`, and 0 before `times[0]`.
    - `values`: pA, `[k]`, or `[k, n]` with one column for each target cell.
    - `delay`: ms, added to the times. NEST's generators have 1 ms by default.
    """

    times: np.ndarray | None  # until a network gives them its grid
    steps: Array | None
    values: Array
    target: str = eqx.field(static=True)
    delay: float = eqx.field(static=True)
    dt: float | None = eqx.field(static=True)  # of the steps

    def __init__(self, target: str, times: ArrayLike, values: ArrayLike, *, delay: float = 0.0):
        check_number("times", times, low=0.0)
        check_number("values", values)
        times, values = known("times", times).astype(np.float64), as_real(values)
        if times.size == 0:
            raise ValueError("times is empty; give at least one")
        if times.ndim != 1 or values.ndim not in (1, 2) or values.shape[0] != times.shape[0]:
            raise ValueError(
                f"times {times.shape} and values {values.shape}: give [k] times and [k] or [k, n] "
                "values"
            )
        if np.any(np.diff(times) <= 0):
            raise ValueError(f"times={times} must increase")
        self.times, self.steps, self.dt, self.values = times, None, None, values
        self.target, self.delay = target, plain(delay)

    def checked(self, dt: float, n: int) -> "StepCurrent":
        check_grid(self, dt)
        whole_steps("delay", self.delay, dt)
        self = with_arrays(self, "values")
        k = np.size(self.times if self.steps is None else self.steps)
        if self.values.shape not in ((k,), (k, n)):
            raise ValueError(f"values has shape {self.values.shape}; give ({k},) or ({k}, {n})")
        return self

    def on_grid(self, dt: float) -> "StepCurrent":
        """The same with its times as steps, in double precision: float32 would lose late ones."""
        if self.times is None:
            return self
        whole = whole_steps_array("times", self.times, dt)
        if np.any(np.diff(whole) <= 0):
            raise ValueError(f"times={self.times}: two of them fall on one step of dt={dt:g} ms")
        return put_on_grid(self, whole, dt)

    def prepare(self, dt: float, target: Target) -> Prepared:
        assert self.steps is not None, "a network puts its inputs on the grid"
        values = self.values if self.values.ndim == 2 else self.values[:, None]
        values = within(values, target)
        values = jnp.concatenate([jnp.zeros_like(values[:1]), values])
        return Prepared(values, self.steps + whole_steps("delay", self.delay, dt))

    def block(
        self, prepared: Prepared, key: Array, steps: Array, cells: Cells, target: Target, dt: float
    ) -> Array:
        return prepared.cells[jnp.searchsorted(prepared.shared, steps, side="right")]

    def overflow(self, prepared: Prepared, steps: Array, dt: float) -> Array:
        return jnp.zeros(steps.shape, bool)


class NoiseCurrent(eqx.Module):
    """Gaussian white noise in pieces: mean + std * N(0, 1), drawn anew for every cell and interval.

    **Arguments:**

    - `target`: a population or slice.
    - `mean`, `std`: pA; a scalar or one number for each target cell.
    - `interval`: ms for which a value is held; one step if left out. Halving it halves the
      variance of the membrane, as with NEST's noise_generator.
    - `start`, `stop`: ms.
    """

    mean: Array
    std: Array
    target: str = eqx.field(static=True)
    interval: float | None = eqx.field(static=True)
    start: float = eqx.field(static=True)
    stop: float | None = eqx.field(static=True)

    def __init__(
        self,
        target: str,
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
        *,
        interval: float | None = None,
        start: float = 0.0,
        stop: float | None = None,
    ):
        check_number("mean", mean)
        check_number("std", std, low=0.0)
        self.mean, self.std, self.target = as_real(mean), as_real(std), target
        self.interval, self.start, self.stop = plain(interval), plain(start), plain(stop)

    def checked(self, dt: float, n: int) -> "NoiseCurrent":
        self = with_arrays(self, "mean", "std")
        if self.interval is not None:
            whole_steps("interval", self.interval, dt, least=1)
        whole_steps("start", self.start, dt)
        if self.stop is not None:
            if whole_steps("stop", self.stop, dt) <= whole_steps("start", self.start, dt):
                raise ValueError(f"stop={self.stop} ms must be after start={self.start} ms")
        check_cells("mean", self.mean, n)
        check_cells("std", self.std, n)
        check_number("std", self.std, low=0.0)
        return self

    def on_grid(self, dt: float) -> "NoiseCurrent":
        return self

    def prepare(self, dt: float, target: Target) -> Prepared:
        return Prepared((within(self.mean, target), within(self.std, target)), ())

    def block(
        self, prepared: Prepared, key: Array, steps: Array, cells: Cells, target: Target, dt: float
    ) -> Array:
        mean, std = prepared.cells
        held = 1 if self.interval is None else whole_steps("interval", self.interval, dt)
        words = cell_words(key, steps // held, cells.first, cells.n)
        live = steps >= whole_steps("start", self.start, dt)
        if self.stop is not None:
            live &= steps < whole_steps("stop", self.stop, dt)
        noise = mean + std * normal(words, np.dtype(mean.dtype))
        return jnp.where(live[:, None], noise, 0)

    def overflow(self, prepared: Prepared, steps: Array, dt: float) -> Array:
        return jnp.zeros(steps.shape, bool)
