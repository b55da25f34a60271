"""What losses are made of: statistics and distances of rasters and traces, with derivatives.

All are pure functions of JAX arrays with time first, for `jit`, `vmap` and `grad`; `jsnn.analysis`
has their like for lists of spikes, in NumPy.

A raster is `[steps, n]`, 1 where a cell fires in a step and 0 elsewhere, as real numbers: the
values of `Counts(cells, every=dt)`. Counts are the same over longer bins, `[bins, n]`. What is
computed of them is smooth in each entry, and equal to its usual definition where the entries are
whole numbers.

Where a function gives a number for each cell, `reduce` makes one of these: their mean by default
(of those that are not NaN), any function of `[n]`, or None for all of them.

Silent cells, and silent networks, have finite losses with finite derivatives, so that a fit may
start from them; what they have no value for, they do not count in, and where no cell has one, the
value and its derivative are 0. Only `reduce=None`, and a `reduce` of your own, see their NaN.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jsnn._math import as_real, check_dtype, check_number, concrete, real_dtype, shortened
from jsnn._names import explained
from jsnn._spike_checks import whole

Reduce = Callable[[Array], Array] | None


@explained
def rates(counts: ArrayLike, duration: float) -> Array:
    """Firing rate of each cell (Hz), `[n]`: the sum of its counts, `[bins, n]`, over `duration`
    (ms)."""
    counts = _over_time("counts", counts)
    check_number("duration", duration, low=0.0, strict=True)
    return jnp.sum(counts, 0) * (1000.0 / duration)


def mean_known(values: ArrayLike) -> Array:
    """The mean of the values that are not NaN, as `jnp.nanmean`; 0, with derivatives of 0, where
    all are."""
    values = _real(values)
    known = ~jnp.isnan(values)
    n = jnp.sum(known, dtype=values.dtype)
    return jnp.sum(jnp.where(known, values, 0)) / jnp.where(n > 0, n, 1)


@explained
def cv_isi(raster: ArrayLike, *, min_spikes: int = 3, reduce: Reduce = mean_known) -> Array:
    """Coefficient of variation of the intervals between the spikes of each cell.

    CV = sqrt(<(I - <I>)²>) / <I> over the intervals I of a cell, as `jsnn.analysis.cv_isi`; NaN for
    one with fewer than `min_spikes` (at least 2), which the default mean leaves out: it is 0, with
    derivatives of 0, where all cells have too few. With entries f between 0 and 1 an interval that
    ends in a step has the weight f times that of an earlier spike, and its length begins anew with
    the spike: a' = (1 - f)(a + 1), seen' = seen + (1 - seen) f. Beside its input it takes twice its
    memory.
    """
    raster = _over_time("raster", raster)
    min_spikes = whole("min_spikes", min_spikes, 2)

    def step(carry: tuple[Array, Array], fired: Array):
        age, seen = carry
        age = age + 1
        made = fired * seen, age
        return ((1 - fired) * age, seen + (1 - seen) * fired), made

    zero = jnp.zeros(raster.shape[1], raster.dtype)
    _, (weight, length) = lax.scan(step, (zero, zero), raster)
    n = jnp.sum(weight, 0)
    # Of too few intervals, and of ones all alike, neither root nor quotient has a derivative
    enough = n + 1 >= min_spikes - 0.5
    some = jnp.where(enough, n, 1)
    mean = jnp.sum(weight * length, 0) / some
    variance = jnp.sum(weight * (length - mean) ** 2, 0) / some
    varies = variance > 0
    root = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 0)
    cv = root / jnp.where(enough, mean, 1)
    return _reduced(jnp.where(enough, cv, jnp.nan), reduce)


@explained
def van_rossum(
    raster: ArrayLike,
    target: ArrayLike,
    *,
    tau: ArrayLike,
    dt: float,
    reduce: Reduce = jnp.mean,
) -> Array:
    """Squared distance of van Rossum (2001, Neural Comput. 13:751) between the trains of each cell.

    D² = 1/tau ∫ (f - g)² dt over all time, where each spike at s adds exp(-(t - s) / tau) to f, or
    to g. One spike more is 1/2, two that are far apart are 1, and spikes closer than `tau` (ms)
    nearly cancel. Both rasters are `[steps, n]` in steps of `dt` (ms). The traces obey
    x' = exp(-dt / tau) x + spikes, so D² is a sum over steps, without error.
    """
    raster, target = _alike("raster", raster, "target", target)
    check_number("tau", tau, low=0.0, strict=True)
    check_number("dt", dt, low=0.0, strict=True)
    decay = jnp.exp(-dt / as_real(tau))
    apart = _filtered(raster - target, decay)
    # After the last step to infinity
    squares = (1 - decay**2) * jnp.sum(apart[:-1] ** 2, 0) + apart[-1] ** 2
    return _reduced(squares / 2, reduce)


def filtered(raster: ArrayLike, *, tau: ArrayLike, dt: float) -> Array:
    """A raster or trace with an exponential kernel, `[steps, n]`: x' = exp(-dt / tau) x + y, times
    in ms."""
    check_number("tau", tau, low=0.0, strict=True)
    check_number("dt", dt, low=0.0, strict=True)
    return _filtered(_over_time("raster", raster), jnp.exp(-dt / as_real(tau)))


@explained
def mean_squared(
    values: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None
) -> Array:
    """Mean squared difference of two traces (voltage, calcium) or of any two arrays of one shape,
    in the square of their unit: Σ w (x - y)² / Σ w.

    `weights`, at least 0 or booleans, broadcast to their shape; where they are 0, `target` may be
    NaN. Traced ones that are all 0 make it 0.
    """
    values, target = _alike("values", values, "target", target)
    if weights is None:
        return jnp.mean((values - target) ** 2)
    weights = jnp.asarray(weights)
    known = concrete(weights)
    if known is not None and not np.all(known >= 0):
        raise ValueError(f"weights={shortened(known)} must be at least 0")
    try:
        weights = jnp.broadcast_to(weights, values.shape).astype(values.dtype)
    except ValueError:
        raise ValueError(
            f"weights has shape {weights.shape}, which does not fit values, {values.shape}"
        ) from None
    if known is not None and not np.any(known):
        raise ValueError("weights are all 0; let some samples count")
    apart = jnp.where(weights > 0, values - target, 0)
    total = jnp.sum(weights)
    return jnp.sum(weights * apart**2) / jnp.where(total > 0, total, 1)


@explained
def fano_factor(counts: ArrayLike) -> Array:
    """Fano factor of the spikes of all cells together: var(c) / <c> over bins, of counts
    `[bins, n]`. 1 for independent Poisson cells, more under synchrony; 0 without a spike."""
    total = jnp.sum(_over_time("counts", counts), 1)
    mean = jnp.mean(total)
    some = mean > 0
    return jnp.where(some, jnp.var(total) / jnp.where(some, mean, 1), 0)


@explained
def synchrony_chi(v: ArrayLike) -> Array:
    """Synchrony χ of the membrane potentials `[steps, n]` (mV), 0 to 1: χ² = var_t(<v>) /
    <var_t(v_i)> (Golomb and Rinzel 1993; Golomb 2007). 0 where no cell varies."""
    v = _over_time("v", v)
    v = v - lax.stop_gradient(v[0])  # variances of what is far from 0 lose digits
    own, common = jnp.mean(jnp.var(v, 0)), jnp.var(jnp.mean(v, 1))
    some = (own > 0) & (common > 0)
    return jnp.where(some, jnp.sqrt(jnp.where(some, common, 1) / jnp.where(some, own, 1)), 0)


def _filtered(values: Array, decay: Array) -> Array:
    def step(trace: Array, value: Array) -> tuple[Array, Array]:
        trace = decay * trace + value
        return trace, trace

    return lax.scan(step, jnp.zeros_like(values[0]), values)[1]


def _over_time(name: str, values: ArrayLike) -> Array:
    """Real numbers `[time, n]`."""
    check_dtype(name, values)
    array = jnp.asarray(values)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"{name} has shape {array.shape}; give [time, n], time first, at least one of each "
            "(a batch goes through vmap)"
        )
    return _real(array)


def _real(values: ArrayLike) -> Array:
    array = jnp.asarray(values)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(real_dtype())


def _alike(name: str, values: ArrayLike, other: str, target: ArrayLike) -> tuple[Array, Array]:
    check_dtype(name, values)
    check_dtype(other, target)
    a, b = jnp.asarray(values), jnp.asarray(target)
    if a.shape != b.shape or not a.size:
        raise ValueError(f"{name} has shape {a.shape} and {other} {b.shape}; give two of one shape")
    real = jnp.result_type(a, b)
    real = real if jnp.issubdtype(real, jnp.floating) else real_dtype()
    return a.astype(real), b.astype(real)


def _reduced(values: Array, reduce: Reduce) -> Array:
    if reduce is not None and not callable(reduce):
        raise TypeError(f"reduce={shortened(reduce)}; give a function, as jnp.mean, or None")
    return values if reduce is None else reduce(values)
