"""Statistics of recorded spikes and potentials: arrays in, arrays out.

Of cells: `rates`, `mean_rate`, `cv_isi`. Of pairs: `spike_counts`, `correlations`,
`mean_correlation`. Of the population: `population_histogram`, `population_rate`, `power_spectrum`.
Of synchrony: `fano_factor`, `spectrum_peak`, and `synchrony_chi`, which takes potentials.

Spikes are two arrays of equal length, in any order:

| symbol | meaning | unit, shape |
|---|---|---|
| `times` | time stamps | ms, `[n_spikes]` |
| `index` | cell numbers, 0 to n - 1 | integers, `[n_spikes]` |

**Bins.** A step n of a simulation covers (n·dt, (n+1)·dt] and stamps its spikes (n+1)·dt, so bin
k of a window covers (start + k·bin_ms, start + (k+1)·bin_ms]: a spike stamped 1.0 ms belongs to
(0, 1], and one stamped exactly `start` lies before the window. Stamps are rounded decimals
(3·0.1 is 0.30000000000000004), so a stamp that exceeds an edge by no more than 1e-6 of a bin, or
by the rounding error of its own floating type where that is larger (float32), counts as standing
on the edge. A window that is no whole number of bins is an error, which names the nearest stops.

Variances divide by the number of samples, as `numpy.var` does. Bad input raises `ValueError` or
`TypeError`.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jsnn import _spike_checks as checks
from jsnn._names import explained
from jsnn._spike_checks import Floats, Ints, number

_LONGEST = 2**27  # bins, or cells: some seconds, and 1 GiB for each array
_LARGEST = 2**30  # entries of a matrix: 8 GiB


@explained
def rates(index: ArrayLike, n: int, duration: float) -> Floats:
    """Firing rate of every cell, in Hz, `[n]`: its number of spikes over `duration` (ms)."""
    n = _count(n)
    duration = number("duration", duration, positive=True)
    return np.bincount(_cells(index, n), minlength=n) * (1000.0 / duration)


@explained
def mean_rate(index: ArrayLike, n: int, duration: float) -> float:
    """Mean firing rate in Hz over all `n` cells, the silent ones included; `duration` in ms."""
    return float(rates(index, n, duration).mean())


@explained
def cv_isi(times: ArrayLike, index: ArrayLike, n: int, min_spikes: int = 3) -> Floats:
    """Coefficient of variation of the inter-spike intervals of every cell, `[n]`.

    CV = sqrt(<(I - <I>)²>) / <I> over a cell's intervals I: 0 for a regular train, 1 for a long
    Poisson train. NaN for cells with fewer than `min_spikes` (at least 2) spikes, and for cells
    all of whose spikes are simultaneous.
    """
    n = _count(n)
    min_spikes = checks.whole("min_spikes", min_spikes, 2)
    stamps, cells = _spikes(times, index, n)
    order = np.lexsort((stamps, cells))
    stamps, cells = stamps[order], cells[order]
    within = cells[1:] == cells[:-1]
    intervals, owner = np.diff(stamps)[within], cells[1:][within]
    count = np.bincount(owner, minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(owner, intervals, minlength=n) / count
        # Two passes: <I²> - <I>² would lose a regular train's CV of 0 to cancellation.
        variance = np.bincount(owner, (intervals - mean[owner]) ** 2, minlength=n) / count
        cv = np.sqrt(variance) / mean
    return np.where(count + 1 >= min_spikes, cv, np.nan)


def within(times: ArrayLike, start: float, stop: float) -> NDArray[np.bool_]:
    """Which spikes lie in (start, stop], a mask `[n_spikes]`; all times in ms.

    Stamps on the edges are judged as for bins, with a tolerance of 1e-6 ms. Discards a transient:
    `late = within(times, 100.0, 1000.0)`, then `rates(index[late], n, 900.0)`.
    """
    stamps = _stamps(times)
    start, stop = checks.window(start, stop)
    tolerance = max(1e-6, _rounding(times, start, stop))
    return (stamps > start + tolerance) & (stamps <= stop + tolerance)


@explained
def spike_counts(
    times: ArrayLike, index: ArrayLike, n: int, bin_ms: float, start: float, stop: float
) -> Ints:
    """Spikes of every cell in every bin of (start, stop], `[n_bins, n]`. All times in ms.

    The result is dense: 8 bytes for every bin of every cell.
    """
    n = _count(n)
    stamps, cells = _spikes(times, index, n)
    bins, edges = _bins(times, bin_ms, start, stop)
    n_bins = edges.size - 1
    _check_size(f"the counts of {n:,} cells in {n_bins:,} bins", n_bins * n)
    inside = bins >= 0
    flat = bins[inside] * n + cells[inside]
    return np.bincount(flat, minlength=n_bins * n).reshape(n_bins, n)


@explained
def correlations(
    times: ArrayLike, index: ArrayLike, n: int, bin_ms: float, start: float, stop: float
) -> Floats:
    """Pearson correlation coefficients of the binned spike counts of all pairs of cells, `[n, n]`.

    C_ij = cov(c_i, c_j) / sqrt(var(c_i) var(c_j)) over the bins of (start, stop], times in ms.
    Rows and columns of cells whose count never changes (silent ones above all) are NaN.
    """
    n = _count(n)
    _check_size(f"the correlations of {n:,} cells", n * n)
    counts = spike_counts(times, index, n, bin_ms, start, stop)
    varies = (counts != counts[0]).any(axis=0)
    deviation = counts - counts.mean(axis=0)
    norm = np.where(varies, np.sqrt((deviation**2).sum(axis=0)), np.nan)
    unit = deviation / norm
    matrix = np.clip(unit.T @ unit, -1.0, 1.0)
    np.fill_diagonal(matrix, np.where(varies, 1.0, np.nan))
    return matrix


@explained
def mean_correlation(matrix: ArrayLike) -> float:
    """Mean off-diagonal entry of a matrix of `correlations`, `[n, n]`, leaving out NaN.

    NaN where no pair is left.
    """
    matrix = checks.real_array("matrix", matrix).astype(np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix has shape {matrix.shape}; it must be square, [n, n].")
    # Of the difference of two infinities there is no need to warn: they are beyond 1.
    with np.errstate(invalid="ignore"):
        wrong = np.argwhere((np.abs(matrix) > 1 + 1e-6) | (np.abs(matrix - matrix.T) > 1e-6))
    if wrong.size:
        i, j = wrong[0]
        raise ValueError(
            f"matrix[{i}, {j}] is {matrix[i, j]:g} and matrix[{j}, {i}] is {matrix[j, i]:g}; "
            "correlations lie in -1 to 1, the same for a pair either way."
        )
    pairs = matrix[~np.eye(len(matrix), dtype=bool)]
    pairs = pairs[~np.isnan(pairs)]
    return float(pairs.mean()) if pairs.size else math.nan


@explained
def population_histogram(
    times: ArrayLike, bin_ms: float, start: float, stop: float
) -> tuple[Floats, Ints]:
    """Spikes of the whole population in every bin of (start, stop]: `(edges, counts)`.

    `edges` (ms) is `[n_bins + 1]`, `counts` is `[n_bins]`.
    """
    bins, edges = _bins(times, bin_ms, start, stop)
    return edges, np.bincount(bins[bins >= 0], minlength=edges.size - 1)


@explained
def population_rate(
    times: ArrayLike, n: int, bin_ms: float, start: float, stop: float
) -> tuple[Floats, Floats]:
    """Firing rate of the population in every bin of (start, stop]: `(edges, rate)`.

    rate_k = 1000 · count_k / (n · bin_ms), in Hz, the mean over all `n` cells, `[n_bins]`; `edges`
    (ms) is `[n_bins + 1]`.
    """
    n, bin_ms = _count(n), number("bin_ms", bin_ms, positive=True)
    edges, counts = population_histogram(times, bin_ms, start, stop)
    return edges, counts * (1000.0 / (n * bin_ms))


@explained
def power_spectrum(
    times: ArrayLike,
    n: int,
    bin_ms: float,
    start: float,
    stop: float,
    segment_ms: float | None = None,
) -> tuple[Floats, Floats]:
    """One-sided power spectral density of the population rate r_k: `(frequencies, power)`.

    With N bins of Δ = bin_ms / 1000 seconds and R_j = Σ_k w_k (r_k - <r>) exp(-2πi·jk/N),

        P_j = 2 Δ |R_j|² / Σ_k w_k²      at f_j = j / (N·Δ), j = 0 ... N // 2

    (without the factor 2 at j = 0 and at the Nyquist frequency), in Hz² per Hz. Parseval: with
    w = 1, Σ_j P_j / (N·Δ) is the variance of r. Independent Poisson cells of rate ν have a flat
    P = 2ν/n.

    **Arguments:** `n` is the number of cells, all times are in ms. Without `segment_ms` the whole
    window is one segment with w = 1. With it, P is the mean over segments of that length that
    overlap by half, each freed of its own mean and weighted by a periodic Hann window (Welch
    1967); bins after the last whole segment are left out.
    """
    n, bin_ms = _count(n), number("bin_ms", bin_ms, positive=True)
    # Of the counts, because their mean is exact: no power is left of counts that never change.
    edges, counts = population_histogram(times, bin_ms, start, stop)
    if segment_ms is None:
        length = counts.size
        window = np.ones(length)
    else:
        segment_ms = number("segment_ms", segment_ms, positive=True)
        length = _whole_bins("segment_ms", segment_ms, bin_ms, 0.0)
        if not 2 <= length <= counts.size:
            raise ValueError(
                f"segment_ms is {segment_ms:g}; it must hold at least 2 bins of {bin_ms:g} ms and "
                f"be no longer than the window of {edges[-1] - edges[0]:g} ms."
            )
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    hop = length - length // 2
    segments = np.lib.stride_tricks.sliding_window_view(counts, length)[::hop]
    segments = (segments - segments.mean(axis=1, keepdims=True)) * window
    spacing = bin_ms / 1000.0
    power = (np.abs(np.fft.rfft(segments, axis=1)) ** 2).mean(axis=0)
    power /= (n**2 * spacing) * (window**2).sum()
    # Every frequency but zero and (for even lengths) Nyquist stands for its negative twin too.
    power[1 : (length + 1) // 2] *= 2
    return np.fft.rfftfreq(length, spacing), power


class SpectrumPeak(NamedTuple):
    """A peak at `frequency` (Hz); `power` is a multiple of the mean over the band (no unit)."""

    frequency: float
    power: float


@explained
def spectrum_peak(
    times: ArrayLike,
    n: int,
    bin_ms: float,
    start: float,
    stop: float,
    low: float = 2.0,
    high: float = 500.0,
    segment_ms: float | None = None,
) -> SpectrumPeak:
    """The largest value of the `power_spectrum` from `low` to `high` (Hz), both included.

    Of equal values (spikes in lockstep have harmonics as high as the first) the lowest frequency
    is taken. NaN where the band has no power: without spikes, or where counts never change.

    **Arguments:** those of `power_spectrum`, and the band. A band reaches no higher than
    500 / `bin_ms` Hz and holds at least two frequencies of the spectrum, which lie
    1000 / `segment_ms` Hz apart (1000 / (`stop` - `start`) without segments). One segment is noisy:
    its peak over a flat spectrum grows as the logarithm of the number of frequencies, and comes
    close to 1 only over many segments.
    """
    low = number("low", low, "Hz", positive=True)
    high = number("high", high, "Hz", positive=True)
    if low >= high:
        raise ValueError(
            f"the band reaches from low = {low:g} to high = {high:g} Hz; high must be above low."
        )
    bin_ms = number("bin_ms", bin_ms, positive=True)
    edge = 1 + 1e-9  # frequencies are rounded
    if high > 500.0 / bin_ms * edge:
        raise ValueError(
            f"high is {high:g}; it must be at most {500.0 / bin_ms:g} Hz, the highest frequency "
            f"in bins of {bin_ms:g} ms: lower it or give narrower bins."
        )
    frequencies, power = power_spectrum(times, n, bin_ms, start, stop, segment_ms)
    band = (frequencies >= low / edge) & (frequencies <= high * edge)
    if band.sum() < 2:
        raise ValueError(
            f"the band from low = {low:g} to high = {high:g} Hz holds {band.sum()} of the "
            "frequencies of the spectrum; it must hold at least 2: widen it, or give a longer "
            "window or segment_ms."
        )
    frequencies, inside = frequencies[band], power[band]
    # Below this there is nothing but the rounding error of the transform.
    if inside.max() <= 1e-20 * power.max():
        return SpectrumPeak(math.nan, math.nan)
    first = np.flatnonzero(inside >= inside.max() * (1 - 1e-6))[0]
    return SpectrumPeak(float(frequencies[first]), float(inside[first] / inside.mean()))


@explained
def fano_factor(times: ArrayLike, bin_ms: float, start: float, stop: float) -> float:
    """Fano factor of the population's spike count: var(c) / <c> over the bins of (start, stop].

    c_k is the number of spikes of all cells together in bin k. 1 for independent Poisson cells,
    less for regular ones, more under synchrony or a drifting rate. NaN where there is no spike.
    Times in ms.
    """
    _, counts = population_histogram(times, bin_ms, start, stop)
    mean = counts.mean()
    return float(counts.var() / mean) if mean > 0 else math.nan


@explained
def synchrony_chi(v: ArrayLike) -> float:
    """Synchrony χ of the membrane potentials `v` (mV), `[time, n]`: 0 to 1, without unit.

    χ² = var_t(<v>) / <var_t(v_i)>, the variance over time of the mean potential of all n cells
    over the mean of the cells' own variances (Golomb and Rinzel 1993; Golomb 2007). 1 where all
    cells are the same, about 1/sqrt(n) where they are independent. NaN where no cell varies.
    """
    potentials: Floats = checks.real_array("v", v).astype(np.float64)
    if potentials.ndim != 2 or potentials.shape[0] < 2 or potentials.shape[1] < 1:
        raise ValueError(
            f"v has shape {potentials.shape}; it must be [time, n], at least 2 times of at least "
            "1 cell."
        )
    wrong = np.argwhere(~np.isfinite(potentials))
    if wrong.size:
        i, j = wrong[0]
        raise ValueError(f"v[{i}, {j}] is {potentials[i, j]}; potentials must be finite, in mV.")
    # From the first sample on, so that cells which never change have a variance of exactly 0.
    change = potentials - potentials[0]
    own = change.var(axis=0).mean()
    return min(math.sqrt(change.mean(axis=1).var() / own), 1.0) if own > 0 else math.nan


def _bins(times: ArrayLike, bin_ms: float, start: float, stop: float) -> tuple[Ints, Floats]:
    """The bin of every spike (-1 outside the window), and the edges of the bins."""
    stamps = _stamps(times)
    start, stop = checks.window(start, stop)
    bin_ms = number("bin_ms", bin_ms, positive=True)
    n_bins = _whole_bins("stop", stop - start, bin_ms, start)
    edges = start + bin_ms * np.arange(n_bins + 1)
    edges[-1] = stop
    # Beyond half a bin the stamps no longer tell the bins apart: then the nearest edge is taken.
    tolerance = min(max(1e-6, _rounding(times, start, stop) / bin_ms), 0.5)
    position = np.ceil((stamps - start) / bin_ms - tolerance) - 1
    inside = (position >= 0) & (position < n_bins)
    return np.where(inside, position, -1).astype(np.int64), edges


def _rounding(times: ArrayLike, start: float, stop: float) -> float:
    """How far (ms) rounding in the type of `times` may move a stamp of the window."""
    dtype = np.asarray(times).dtype
    epsilon = np.finfo(dtype if dtype.kind == "f" else np.float64).eps
    return 2 * float(epsilon) * max(abs(start), abs(stop))


def _whole_bins(name: str, span: float, bin_ms: float, origin: float) -> int:
    """How many bins of `bin_ms` make `span`; `name` is the argument that is `origin + span`."""
    ratio = span / bin_ms
    if ratio > _LONGEST:
        raise ValueError(
            f"{name} is {origin + span:g}, {ratio:g} bins of {bin_ms:g} ms; it must be at most "
            f"{_LONGEST:,} of them: give wider bins or a shorter time."
        )
    count = round(ratio)
    if count < 1 or abs(ratio - count) > 1e-6:
        below = max(math.floor(ratio), 1)
        raise ValueError(
            f"{name} is {origin + span:g}, {ratio:g} bins of {bin_ms:g} ms; it must be a whole "
            f"number of bins: the nearest are {origin + below * bin_ms:g} and "
            f"{origin + (below + 1) * bin_ms:g}."
        )
    return count


def _check_size(what: str, entries: int) -> None:
    if entries > _LARGEST:
        raise ValueError(
            f"{what} would take {entries / 2**27:,.0f} GiB, above {_LARGEST / 2**27:g}; give fewer "
            "cells, wider bins or a shorter window."
        )


def _stamps(times: ArrayLike) -> Floats:
    return checks.stamps(times).astype(np.float64)


def _count(n: int) -> int:
    return checks.whole("n", n, 1, _LONGEST)


def _cells(index: ArrayLike, n: int) -> Ints:
    cells = checks.cells(index)
    wrong = np.flatnonzero((cells < 0) | (cells >= n))
    if wrong.size:
        raise ValueError(
            f"index[{wrong[0]}] is {cells[wrong[0]]}; cell numbers must lie in 0 to {n - 1} for "
            f"n = {n} cells (NEST counts its senders from the first identifier: subtract it)."
        )
    return cells


def _spikes(times: ArrayLike, index: ArrayLike, n: int) -> tuple[Floats, Ints]:
    stamps, cells = checks.spikes(times, _cells(index, n))
    return stamps.astype(np.float64), cells
