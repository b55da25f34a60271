"""Spikes and currents from outside.

An input is prepared once: `prepare` gives coefficients whose last axis is that of all cells of
the target population (or 1), with no effect outside the part it is aimed at. `block` then gives
what arrives in each of the steps: amounts onto the receptor for spikes, pA for currents,
`[len(steps), cells.n]` or `[len(steps), 1]`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jsnn._math import (
    as_real,
    check_cells,
    check_number,
    concrete,
    real_dtype,
    whole_steps,
    whole_steps_array,
)
from jsnn._random import TILE, cell_words, normal

_MOST_COUNTS = 4096  # comparisons a draw may take


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


class Poisson(eqx.Module):
    """Independent Poisson spike trains, one for each target cell.

    The number of spikes in a step is drawn from the Poisson distribution itself, by inverting it
    at one uniform 32-bit number: probabilities are right to 2^-32.

    **Arguments:**

    - `target`: a population or slice, as `"cells"` or `"cells.exc"`.
    - `rate`: Hz; a scalar, an array with one number for each target cell, or a function of the
      time in ms (the start of the step) that returns either.
    - `weight`: of each spike, in the receptor's unit; a scalar or one number a cell.
    - `receptor`: the name of the target receptor; may be left out if there is only one.
    - `delay`: ms between the generator and its targets.
    - `start`, `stop`: ms; spikes are emitted in (start, stop].
    - `max_rate`: Hz; the highest rate the draws must hold. It is needed where the rate is a
      function or traced, and sets how many comparisons a draw takes. A rate above it sets the
      status.
    """

    rate: Any
    weight: Array
    target: str = eqx.field(static=True)
    receptor: str | None = eqx.field(static=True)
    delay: float = eqx.field(static=True)
    start: float = eqx.field(static=True)
    stop: float | None = eqx.field(static=True)
    min_rate: float = eqx.field(static=True)
    max_rate: float = eqx.field(static=True)

    def __init__(
        self,
        target: str,
        rate: ArrayLike | Callable[[Array], ArrayLike],
        weight: ArrayLike,
        receptor: str | None = None,
        *,
        delay: float = 0.0,
        start: float = 0.0,
        stop: float | None = None,
        max_rate: float | None = None,
    ):
        self.target, self.receptor = target, receptor
        self.delay, self.start, self.stop = delay, start, stop
        check_number("weight", weight)
        self.weight = as_real(weight)
        known = None
        if callable(rate):
            self.rate = rate
        else:
            check_number("rate", rate, low=0.0)
            self.rate = as_real(rate)
            known = concrete(rate)
        if max_rate is not None:
            check_number("max_rate", max_rate, low=0.0)
            if known is not None and np.max(known) > max_rate:
                raise ValueError(f"max_rate={max_rate} is below rate={np.max(known):g} Hz")
        elif known is None:
            raise ValueError(
                "max_rate is missing: give the highest rate (Hz) that a rate which is a function "
                "of time, or traced, may reach"
            )
        self.max_rate = float(np.max(known) if max_rate is None else max_rate)
        self.min_rate = float(np.min(known)) if known is not None and max_rate is None else 0.0

    @property
    def is_current(self) -> bool:
        return False

    def check(self, dt: float, n: int) -> None:
        """Raise for what does not fit a target of n cells and a step of dt."""
        whole_steps("delay", self.delay, dt)
        whole_steps("start", self.start, dt)
        if self.stop is not None:
            whole_steps("stop", self.stop, dt)
        check_cells("weight", self.weight, n)
        if not callable(self.rate):
            check_cells("rate", self.rate, n)
        least, most = self._counts(dt)
        if most - least > _MOST_COUNTS:
            raise ValueError(
                f"rate={self.max_rate:g} Hz makes {self.max_rate * dt / 1000:.4g} spikes a step of "
                f"dt={dt:g} ms, more than a draw can hold; give a lower rate or a smaller dt"
            )

    def _counts(self, dt: float) -> tuple[int, int]:
        """The least and largest number of spikes that 32 random bits can give in a step."""
        low, high = self.min_rate * dt / 1000, self.max_rate * dt / 1000
        # 40 standard deviations bound what the search below has to look at
        if high > 1e6:
            return 0, int(high)
        k = np.arange(int(high + 40 * np.sqrt(high) + 40))
        above, below = _tails(np.float64(high), k, np)[1], _tails(np.float64(low), k, np)[0]
        return int(np.sum(below < 2.0**-32)), int(np.sum(above > 2.0**-32)) + 1

    def prepare(self, dt: float, target: Target) -> Prepared:
        weight = _within(self.weight, target)  # 0 outside, so that scalar rates stay scalar
        if callable(self.rate):
            return Prepared((weight, None), ())
        mean = jnp.atleast_1d(_embed(self.rate, target)) * (dt / 1000)
        return Prepared((weight, self._thresholds(mean, dt)), ())

    def _thresholds(self, mean: Array, dt: float) -> Array:
        """uint32 `[counts, n or 1]`: a number u makes low + (how many thresholds lie below u)."""
        least, most = self._counts(dt)
        below, above = _tails(mean, jnp.arange(most), jnp)
        # Each threshold is 2^32 P(X <= k) - 1, from the tail that is small and hence precise.
        scale = 2.0**32
        low = jnp.maximum(jnp.rint(jnp.minimum(below, 0.5) * scale), 1).astype(jnp.uint32) - 1
        high = np.uint32(2**32 - 1) - jnp.rint(jnp.minimum(above, 0.5) * scale).astype(jnp.uint32)
        return jnp.where(below < above, low, high)[least:]

    def block(
        self, prepared: Prepared, key: Array, steps: Array, cells: Cells, target: Target, dt: float
    ) -> Array:
        weight, thresholds = prepared.cells
        sent = steps - whole_steps("delay", self.delay, dt)
        live = sent >= whole_steps("start", self.start, dt)
        if self.stop is not None:
            live &= sent < whole_steps("stop", self.stop, dt)
        least, most = self._counts(dt)
        if callable(self.rate):
            rate = _local(_embed(_at_times(self.rate, sent * dt), target), target, cells)
            thresholds = self._thresholds(jnp.maximum(rate, 0) * (dt / 1000), dt)
            thresholds = jnp.moveaxis(thresholds, 1, 0)
        else:
            thresholds = thresholds[None]
        words = cell_words(key, sent, cells.first, cells.n)
        counts = jnp.zeros(words.shape, weight.dtype)
        for k in range(most - least):
            counts += (words > thresholds[:, k]).astype(weight.dtype)
        if least:
            counts += least
        return jnp.where(live[:, None], counts * weight, 0)

    def overflow(self, prepared: Prepared, steps: Array, dt: float) -> Array:
        """At which of the steps a rate exceeds what the draws can hold, `[len(steps)]`."""
        limit = self.max_rate * (1 + 1e-5)
        if callable(self.rate):
            sent = steps - whole_steps("delay", self.delay, dt)
            return jnp.any(_at_times(self.rate, sent * dt) > limit, axis=1) & (sent >= 0)
        return jnp.broadcast_to(jnp.any(self.rate > limit), steps.shape)


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

    times: Array
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
        times, cells = np.asarray(times, np.float64), np.asarray(cells)
        check_number("times", times, low=0.0, strict=True)
        check_number("weight", weight)
        if cells.size and not np.issubdtype(cells.dtype, np.integer):
            raise TypeError(f"cells has dtype {cells.dtype}; give integer indices of target cells")
        if times.ndim != 1 or times.shape != cells.shape:
            raise ValueError(f"times {times.shape} and cells {cells.shape}: give two equal lists")
        check_cells("weight", weight, times.size)
        order = np.argsort(times, kind="stable")
        weight = as_real(weight)
        self.times, self.cells = as_real(times[order]), jnp.asarray(cells[order], jnp.int32)
        self.weight = weight[order] if weight.ndim else weight
        self.target, self.receptor, self.delay = target, receptor, delay

    @property
    def is_current(self) -> bool:
        return False

    def check(self, dt: float, n: int) -> None:
        whole_steps("delay", self.delay, dt)
        times, cells = concrete(self.times), concrete(self.cells)
        if times is not None:
            whole_steps_array("times", times, dt, least=1)
        if cells is not None and cells.size and not (0 <= cells.min() and cells.max() < n):
            raise ValueError(f"cells holds {cells.min()}..{cells.max()}; give 0..{n - 1}")

    def prepare(self, dt: float, target: Target) -> Prepared:
        slots = (
            jnp.rint(self.times / dt).astype(jnp.int32) - 1 + whole_steps("delay", self.delay, dt)
        )
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


class StepCurrent(eqx.Module):
    """A current that is piecewise constant in time.

    **Arguments:**

    - `target`: a population or slice.
    - `times`: ms, `[k]`, increasing whole numbers of steps: from `times[j]` on the current is
      `values[j]`, and 0 before `times[0]`.
    - `values`: pA, `[k]`, or `[k, n]` with one column for each target cell.
    - `delay`: ms, added to the times. NEST's generators have 1 ms by default.
    """

    times: Array
    values: Array
    target: str = eqx.field(static=True)
    delay: float = eqx.field(static=True)

    def __init__(self, target: str, times: ArrayLike, values: ArrayLike, *, delay: float = 0.0):
        check_number("times", times, low=0.0)
        check_number("values", values)
        times, values = as_real(times), as_real(values)
        if times.ndim != 1 or values.ndim not in (1, 2) or values.shape[0] != times.shape[0]:
            raise ValueError(
                f"times {times.shape} and values {values.shape}: give [k] times and [k] or [k, n] "
                "values"
            )
        known = concrete(times)
        if known is not None and np.any(np.diff(known) <= 0):
            raise ValueError(f"times={known} must increase")
        self.times, self.values, self.target, self.delay = times, values, target, delay

    @property
    def is_current(self) -> bool:
        return True

    def check(self, dt: float, n: int) -> None:
        whole_steps("delay", self.delay, dt)
        times = concrete(self.times)
        if times is not None:
            whole_steps_array("times", times, dt)
        if self.values.ndim == 2 and self.values.shape[1] != n:
            raise ValueError(f"values has shape {self.values.shape}; give [k] or [k, {n}]")

    def prepare(self, dt: float, target: Target) -> Prepared:
        values = self.values if self.values.ndim == 2 else self.values[:, None]
        values = _within(values, target)
        values = jnp.concatenate([jnp.zeros_like(values[:1]), values])
        steps = jnp.rint(self.times / dt).astype(jnp.int32) + whole_steps("delay", self.delay, dt)
        return Prepared(values, steps)

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
        self.interval, self.start, self.stop = interval, start, stop

    @property
    def is_current(self) -> bool:
        return True

    def check(self, dt: float, n: int) -> None:
        if self.interval is not None:
            whole_steps("interval", self.interval, dt, least=1)
        whole_steps("start", self.start, dt)
        if self.stop is not None:
            whole_steps("stop", self.stop, dt)
        check_cells("mean", self.mean, n)
        check_cells("std", self.std, n)

    def prepare(self, dt: float, target: Target) -> Prepared:
        return Prepared((_within(self.mean, target), _within(self.std, target)), ())

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


Input = Poisson | SpikeList | StepCurrent | NoiseCurrent


def _embed(values: Array, target: Target) -> Array:
    """Values of the target cells, `[..., m]` or shared, placed among those of the population."""
    n, low, high = target
    if values.ndim == 0 or values.shape[-1] == 1 or high - low == n:
        return values
    return jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(low, n - high)])


def _within(values: Array, target: Target) -> Array:
    """The same, with 0 for the cells that are no target."""
    n, low, high = target
    if high - low == n:
        return values
    cells = np.arange(n)
    return jnp.where((cells >= low) & (cells < high), _embed(values, target), 0)


def _local(values: Array, target: Target, cells: Cells) -> Array:
    """The columns of the given cells, which may reach into the padding."""
    if values.shape[-1] == 1:
        return values
    padded = jnp.pad(values, ((0, 0), (0, TILE * -(-target.n // TILE) + cells.n - target.n)))
    return lax.dynamic_slice_in_dim(padded, cells.first, cells.n, axis=1)


def _at_times(rate: Callable[[Array], ArrayLike], times: Array) -> Array:
    """A rate function at each of the times, `[len(times), n or 1]`."""
    values = jax.vmap(lambda t: jnp.atleast_1d(as_real(rate(t))))(times.astype(real_dtype()))
    return values


def _tails(mean: Any, k: Any, xp: Any) -> tuple[Any, Any]:
    """P(X <= k) and P(X > k) for a Poisson number of the given mean, `[len(k), *mean.shape]`.

    The ratios of successive probabilities are summed as logarithms and normalised at the end,
    which is precise to 1e-6 in float32 also where exp(-mean) would vanish.
    """
    mean = xp.asarray(mean)
    k = k.reshape(-1, *([1] * mean.ndim)).astype(mean.dtype)
    ratios = xp.where(k > 0, xp.log(xp.maximum(mean, 1e-30)) - xp.log(xp.maximum(k, 1)), 0.0)
    logs = xp.cumsum(ratios, axis=0)
    weights = xp.exp(logs - logs.max(axis=0))
    weights = xp.where((mean > 0) | (k == 0), weights, 0.0)
    weights = weights / weights.sum(axis=0)
    below = xp.cumsum(weights, axis=0)
    above = xp.flip(xp.cumsum(xp.flip(weights, 0), axis=0), 0) - weights
    return below, above
