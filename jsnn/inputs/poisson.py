"""Independent Poisson spike trains."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import (
    as_real,
    check_cells,
    check_dtype,
    check_number,
    check_scalar,
    concrete,
    plain,
    real_dtype,
    shortened,
    whole_steps,
)
from jsnn._names import explained
from jsnn._random import cell_words
from jsnn.inputs._common import Cells, Prepared, Target, embed, local, with_arrays, within
from jsnn.inputs._time import at_steps

_MOST_COUNTS = 1024  # comparisons a draw may take, each of them compiled


@explained
class Poisson(eqx.Module):
    """Independent Poisson spike trains, one for each target cell.

    The number of spikes in a step is drawn from the Poisson distribution itself, by inverting it
    at one uniform 32-bit number. Probabilities are right to 2^-32 in float64, and to 3e-7 in
    float32.

    Gradients reach the rate by reparametrisation: a count k of mean m is taken as m + sqrt(m) x
    with x held, so that dk/dm = (1 + k / m) / 2. Of functions of a count that are quadratic, the
    derivative of the expectation is so estimated without bias, for any mean; of smooth ones of a
    sum of many counts nearly so, by its mean and its variance.

    **Arguments:**

    - `target`: a population or slice, as `"cells"` or `"cells.exc"`.
    - `rate`: Hz; a scalar, an array with one number for each target cell, or a function of the
      time in ms (the start of the step) that returns either; one whose own numbers are to be
      differentiated is an `eqx.Module` that has them as fields. The time, and what is computed with
      it, are in double precision in every run, however late, and the rate is rounded to that of the
      run: of functions of arithmetic, elementary functions, comparisons, `jnp.where`,
      `jnp.piecewise`, sums, tables and loops. One that contains anything else, as random numbers or
      Bessel functions, gets a time of the run's own precision, whose numbers in float32 are 4 ms
      apart after 10 h, and a warning.
    - `weight`: of each spike, in the receptor's unit; a scalar or one number a cell.
    - `receptor`: the name of the target receptor; may be left out if there is only one.
    - `delay`: ms between the generator and its targets.
    - `start`, `stop`: ms; spikes are emitted in (start, stop], or, `as_nest`, a step later, as by
      NEST's poisson_generator.
    - `max_rate`: Hz; the highest rate the draws must hold. It is needed where the rate is a
      function, traced, or changed later, and sets how many comparisons a draw takes. A rate that
      the draws cannot hold (above it, negative, or not a number) sets the status.
    """

    rate: Any
    weight: Array
    target: str = eqx.field(static=True)
    receptor: str | None = eqx.field(static=True)
    delay: float = eqx.field(static=True)
    start: float = eqx.field(static=True)
    stop: float | None = eqx.field(static=True)
    as_nest: bool = eqx.field(static=True)
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
        as_nest: bool = False,
    ):
        self.target, self.receptor = target, receptor
        self.delay, self.start, self.stop = plain(delay), plain(start), plain(stop)
        self.as_nest = bool(as_nest)
        check_number("weight", weight)
        self.weight = as_real(weight)
        lowest, highest = 0.0, None
        if callable(rate):
            self.rate = rate
        else:
            check_number("rate", rate, low=0.0)
            self.rate = as_real(rate)
            known = concrete(rate)
            if known is not None:
                if not known.size:
                    raise ValueError("rate is empty; give a number, or one for each target cell")
                lowest, highest = float(known.min()), float(known.max())
        if max_rate is not None:
            check_scalar("max_rate", max_rate, low=0.0)
            if highest is not None and highest > max_rate:
                raise ValueError(f"max_rate={max_rate} is below rate={highest:g} Hz")
            lowest, highest = 0.0, float(max_rate)
        elif highest is None:
            raise ValueError(
                "max_rate is missing: give the highest rate (Hz) that a rate which is a function "
                "of time, or traced, may reach"
            )
        self.min_rate, self.max_rate = lowest, highest

    def checked(self, dt: float, n: int) -> "Poisson":
        """The same; raises for what does not fit a target of n cells and a step of dt."""
        self = with_arrays(self, "weight", *(() if callable(self.rate) else ("rate",)))
        whole_steps("delay", self.delay, dt)
        whole_steps("start", self.start, dt)
        if self.stop is not None:
            if whole_steps("stop", self.stop, dt) <= whole_steps("start", self.start, dt):
                raise ValueError(f"stop={self.stop} ms must be after start={self.start} ms")
        check_cells("weight", self.weight, n)
        if callable(self.rate):
            self._check_function(n)
        else:
            check_cells("rate", self.rate, n)
        least, most = self._counts(dt)
        if most - least > _MOST_COUNTS:
            name = "max_rate" if callable(self.rate) else "rate"
            a_step = self.max_rate * dt / 1000
            raise ValueError(
                f"{name}={self.max_rate:g} Hz makes {a_step:.4g} spikes a step of dt={dt:g} ms, "
                "more than a draw can hold; give a lower rate or a smaller dt"
            )
        return self

    def _check_function(self, n: int) -> None:
        try:
            made = jax.eval_shape(self.rate, jnp.zeros((), real_dtype()))
        except Exception as error:
            raise TypeError(
                f"rate={shortened(self.rate)} failed when it was traced with a time in ms: "
                f"{type(error).__name__}. Give a JAX function of one number, with jnp and "
                "jnp.where in place of np, float() and if"
            ) from error
        check_dtype(f"what rate={shortened(self.rate)} returns", made)
        if not isinstance(made, jax.ShapeDtypeStruct) or made.dtype.kind not in "iuf":
            raise TypeError(f"rate={shortened(self.rate)} returns {made}; return real numbers")
        if made.shape not in ((), (1,), (n,)):
            raise ValueError(
                f"rate is a function that returns shape {made.shape}; return a scalar or ({n},)"
            )

    def lengthened(self) -> "Poisson":
        return self

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
        weight = within(self.weight, target)  # 0 outside, so that scalar rates stay scalar
        if callable(self.rate):
            return Prepared((weight, None, None), ())
        mean = jnp.atleast_1d(embed(self.rate, target)) * (dt / 1000)
        return Prepared((weight, self._thresholds(mean, dt), mean), ())

    def _thresholds(self, mean: Array, dt: float) -> Array:
        """uint32 `[counts, n or 1]`: a number u makes low + (how many thresholds lie below u)."""
        least, most = self._counts(dt)
        below, above = _tails(jax.lax.stop_gradient(mean), jnp.arange(most), jnp)
        # Each threshold is 2^32 P(X <= k) - 1, from the tail that is small and hence precise.
        scale = 2.0**32
        low = jnp.maximum(jnp.rint(jnp.minimum(below, 0.5) * scale), 1).astype(jnp.uint32) - 1
        high = np.uint32(2**32 - 1) - jnp.rint(jnp.minimum(above, 0.5) * scale).astype(jnp.uint32)
        return jnp.where(below < above, low, high)[least:]

    def block(
        self, prepared: Prepared, key: Array, steps: Array, cells: Cells, target: Target, dt: float
    ) -> Array:
        weight, thresholds, mean = prepared.cells
        sent = steps - whole_steps("delay", self.delay, dt)
        live = self._is_live(sent, dt)
        least, most = self._counts(dt)
        if callable(self.rate):
            rate = local(embed(at_steps(self.rate, sent, dt), target), target, cells)
            mean = jnp.maximum(rate, 0) * (dt / 1000)
            thresholds = jnp.moveaxis(self._thresholds(mean, dt), 1, 0)
        else:
            thresholds = thresholds[None]
        words = cell_words(key, sent, cells.first, cells.n)
        counts = jnp.zeros(words.shape, weight.dtype)
        for k in range(most - least):
            counts += (words > thresholds[:, k]).astype(weight.dtype)
        if least:
            counts += least
        counts = _of_mean(counts, mean)
        return jnp.where(live[:, None], counts * weight, 0)

    def _is_live(self, sent: Array, dt: float) -> Array:
        """Whether spikes are emitted in each of the steps."""
        sent = sent - int(self.as_nest)
        live = sent >= whole_steps("start", self.start, dt)
        if self.stop is not None:
            live &= sent < whole_steps("stop", self.stop, dt)
        return live

    def overflow(self, prepared: Prepared, steps: Array, dt: float) -> Array:
        """At which of the steps a rate is not one that the draws can hold, `[len(steps)]`."""
        sent = steps - whole_steps("delay", self.delay, dt)
        rate = at_steps(self.rate, sent, dt) if callable(self.rate) else self.rate.reshape(1, -1)
        low = self.min_rate * (1 - 1e-5) if self._counts(dt)[0] else 0.0
        held = (rate >= low) & (rate <= self.max_rate * (1 + 1e-5))  # false for NaN as well
        return self._is_live(sent, dt) & ~jnp.all(held, axis=1)


@jax.custom_jvp
def _of_mean(counts: Array, mean: Array) -> Array:
    """Counts drawn with a mean, as a function of it."""
    return counts


@_of_mean.defjvp
def _of_mean_jvp(primals, tangents):
    counts, mean = primals
    slope = jnp.where(mean > 0, (1 + counts / jnp.where(mean > 0, mean, 1)) / 2, 1)
    return counts, slope * tangents[1]


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
    above = xp.flip(xp.cumsum(xp.flip(weights, 0), axis=0), 0)
    above = xp.concatenate([above[1:], xp.zeros_like(above[:1])])  # a difference would cancel
    return below, above
