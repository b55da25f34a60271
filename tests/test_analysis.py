import time

import jax.numpy as jnp
import numpy as np
import pytest

from jsnn import analysis

pytestmark = pytest.mark.fast


def poisson(n=20, rate=40.0, duration=10_000.0, seed=1):
    """Independent Poisson trains off any grid: times (ms) and index, unsorted."""
    rng = np.random.default_rng(seed)
    size = rng.poisson(n * rate * duration / 1000)
    return rng.uniform(0, duration, size), rng.integers(0, n, size)


def test_rates_count_silent_cells():
    index = np.array([0, 2, 2, 2])
    np.testing.assert_allclose(analysis.rates(index, 4, 500.0), [2.0, 0.0, 6.0, 0.0])
    assert analysis.mean_rate(index, 4, 500.0) == 2.0
    np.testing.assert_array_equal(analysis.rates([], 3, 10.0), np.zeros(3))


def test_cv_equals_the_loop():
    times, index = poisson(n=50, rate=2.0)
    index[index == 7] = 8
    expected = np.full(50, np.nan)
    for cell in range(50):
        train = np.sort(times[index == cell])
        if len(train) >= 20:
            intervals = np.diff(train)
            expected[cell] = intervals.std() / intervals.mean()
    assert 1 < np.isnan(expected).sum() < 49
    np.testing.assert_allclose(analysis.cv_isi(times, index, 50, min_spikes=20), expected)


def test_cv_of_poisson_and_regular_trains():
    assert np.mean(analysis.cv_isi(*poisson(), 20)) == pytest.approx(1.0, abs=0.03)
    regular = np.arange(1, 2001) * 0.1 + 1e5
    np.testing.assert_allclose(
        analysis.cv_isi(regular, np.zeros(2000, int), 2), [0.0, np.nan], atol=1e-8
    )


def test_cv_needs_min_spikes_and_some_time():
    times, index = [1.0, 2.0, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0], [0, 0, 1, 1, 1, 2, 2, 2]
    np.testing.assert_allclose(analysis.cv_isi(times, index, 4), [np.nan, 1 / 3, np.nan, np.nan])
    np.testing.assert_allclose(analysis.cv_isi(times, index, 4, 2)[:2], [0.0, 1 / 3])


def test_cv_of_a_large_network_is_quick():
    rng = np.random.default_rng(0)
    times, index = rng.uniform(0, 1000, 400_000), rng.integers(0, 12_500, 400_000)
    began = time.perf_counter()
    cv = analysis.cv_isi(times, index, 12_500)
    # A loop over cells that selects each one's spikes takes several seconds.
    assert time.perf_counter() - began < 1.0
    assert cv.shape == (12_500,)


@pytest.mark.parametrize("steps_per_bin", [1, 3, 10, 50])
@pytest.mark.parametrize("start_steps", [0, 7, 1000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_stamps_on_the_grid_fall_in_the_bin_that_they_close(steps_per_bin, start_steps, dtype):
    n_bins = 200
    first, last = start_steps, start_steps + n_bins * steps_per_bin
    # One spike for every step around the window; its cell says which bin is right.
    steps = np.arange(first - 3, last + 4)
    times = (steps * 0.1).astype(dtype)
    bins = -(-(steps - first) // steps_per_bin) - 1
    cells = np.clip(bins, 0, n_bins - 1)
    counts = analysis.spike_counts(
        times, cells, n_bins, steps_per_bin * 0.1, start_steps * 0.1, last * 0.1
    )
    np.testing.assert_array_equal(counts, steps_per_bin * np.eye(n_bins, dtype=int))


def test_edges_belong_to_the_bin_below():
    times = [0.0, 0.1 * 3, 1.0, 1.0 + 1e-9, 1.1, 2.0, 2.1]
    edges, counts = analysis.population_histogram(times, 1.0, 0.0, 2.0)
    np.testing.assert_array_equal(edges, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(counts, [3, 2])
    _, counts = analysis.population_histogram([0.1 * 3], 0.1, 0.0, 0.5)
    np.testing.assert_array_equal(counts, [0, 0, 1, 0, 0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_within_is_open_below_and_closed_above(dtype):
    times = (np.arange(20) * 0.1).astype(dtype)
    for first in range(10):
        mask = analysis.within(times, first * 0.1, (first + 7) * 0.1)
        np.testing.assert_array_equal(np.flatnonzero(mask), np.arange(first + 1, first + 8))


def test_counts_equal_the_histogram():
    times, index = poisson()
    counts = analysis.spike_counts(times, index, 20, 25.0, 1000.0, 9000.0)
    expected, _, _ = np.histogram2d(
        times, index, bins=(np.arange(1000, 9001, 25.0), np.arange(21) - 0.5)
    )
    np.testing.assert_array_equal(counts, expected)
    _, population = analysis.population_histogram(times, 25.0, 1000.0, 9000.0)
    np.testing.assert_array_equal(population, expected.sum(axis=1))


def test_population_rate_is_per_cell():
    edges, rate = analysis.population_rate([1.0, 2.0, 7.0], 4, 5.0, 0.0, 10.0)
    np.testing.assert_allclose(edges, [0, 5, 10])
    np.testing.assert_allclose(rate, [100.0, 50.0])
    times, _ = poisson()
    _, rate = analysis.population_rate(times, 20, 5.0, 0.0, 10_000.0)
    assert rate.mean() == pytest.approx(40.0, rel=0.02)


def test_correlations_equal_numpy():
    times, index = poisson(n=12)
    # Cells 0 and 1 share half of their spikes; 10 is silent; 11 fires once in every bin.
    shared = times[index == 0][::2]
    constant = np.arange(500) * 20.0 + 10.0
    keep = index < 10
    times = np.concatenate([times[keep], shared, constant])
    index = np.concatenate([index[keep], np.full(len(shared), 1), np.full(500, 11)])
    matrix = analysis.correlations(times, index, 12, 20.0, 0.0, 10_000.0)
    counts = analysis.spike_counts(times, index, 12, 20.0, 0.0, 10_000.0)
    expected = np.corrcoef(counts[:, :10].T)
    np.testing.assert_allclose(matrix[:10, :10], expected, atol=1e-12)
    # Half of the variance of 0 is shared, and 1 has half as much again: 0.5 / sqrt(1.5).
    assert matrix[0, 1] == pytest.approx(0.41, abs=0.1)
    assert np.isnan(matrix[10:]).all() and np.isnan(matrix[:, 10:]).all()
    off = np.asarray(expected)[np.triu_indices(10, 1)]
    assert analysis.mean_correlation(matrix) == pytest.approx(off.mean())
    assert np.isnan(analysis.mean_correlation([[1.0]]))


@pytest.mark.parametrize("n_bins", [1000, 1001, 1, 2])
def test_spectrum_keeps_the_variance(n_bins):
    times, _ = poisson(duration=5000.0)
    frequencies, power = analysis.power_spectrum(times, 20, 2.0, 0.0, 2.0 * n_bins)
    _, rate = analysis.population_rate(times, 20, 2.0, 0.0, 2.0 * n_bins)
    resolution = 1000 / (2.0 * n_bins)
    assert (power * resolution).sum() == pytest.approx(rate.var(), abs=1e-12)
    np.testing.assert_allclose(frequencies, resolution * np.arange(n_bins // 2 + 1))


@pytest.mark.parametrize("segment", [None, 200.0, 201.0, 10_000.0])
def test_spectrum_equals_scipy(segment):
    signal = pytest.importorskip("scipy.signal")
    times, _ = poisson()
    _, rate = analysis.population_rate(times, 20, 1.0, 0.0, 10_000.0)
    length = 10_000 if segment is None else int(segment)
    expected = signal.welch(
        rate, fs=1000.0, nperseg=length, window="boxcar" if segment is None else "hann"
    )
    found = analysis.power_spectrum(times, 20, 1.0, 0.0, 10_000.0, segment)
    np.testing.assert_allclose(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-12)


def test_spectrum_of_poisson_cells_is_flat_and_of_a_rhythm_peaks():
    times, _ = poisson(duration=50_000.0)
    frequencies, power = analysis.power_spectrum(times, 20, 1.0, 0.0, 50_000.0, 500.0)
    assert power[1:].mean() == pytest.approx(2 * 40.0 / 20, rel=0.05)
    rng = np.random.default_rng(4)
    rhythm = times[rng.uniform(size=times.size) < 0.5 + 0.5 * np.sin(2 * np.pi * 0.03 * times)]
    frequencies, power = analysis.power_spectrum(rhythm, 20, 1.0, 0.0, 50_000.0, 500.0)
    assert frequencies[power.argmax()] == 30.0


def test_fano_factor():
    times, _ = poisson(duration=50_000.0)
    assert analysis.fano_factor(times, 10.0, 0.0, 50_000.0) == pytest.approx(1.0, abs=0.05)
    # Every spike five-fold: the variance grows by 25, the mean by 5.
    assert analysis.fano_factor(np.repeat(times, 5), 10.0, 0.0, 50_000.0) == pytest.approx(
        5 * analysis.fano_factor(times, 10.0, 0.0, 50_000.0)
    )
    assert analysis.fano_factor(np.arange(1, 101) * 1.0, 10.0, 0.0, 100.0) == 0.0
    assert np.isnan(analysis.fano_factor([], 10.0, 0.0, 100.0))
    assert analysis.fano_factor([1.0, 2.0, 3.0], 10.0, 0.0, 20.0) == pytest.approx(1.5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_fano_factor_of_stamps_on_the_grid(dtype):
    # As many spikes in every bin, 50 steps of 0.1 ms: one stamp in the wrong bin would show.
    steps = np.repeat(np.arange(1, 10_001), 3)
    assert analysis.fano_factor((steps * 0.1).astype(dtype), 5.0, 0.0, 1000.0) == 0.0


def volleys(frequency, n=20, duration=10_000.0, seed=2):
    """Times of n Poisson cells, each of 20 Hz, modulated in full by one sinusoid."""
    times, _ = poisson(n, 40.0, duration, seed)
    chance = 0.5 + 0.5 * np.sin(2 * np.pi * frequency * times / 1000)
    return times[np.random.default_rng(seed).uniform(size=times.size) < chance]


@pytest.mark.parametrize("frequency", [4.0, 30.0, 222.0])
@pytest.mark.parametrize("segment", [None, 500.0])
def test_peak_is_at_the_frequency_of_the_rhythm(frequency, segment):
    peak = analysis.spectrum_peak(volleys(frequency), 20, 1.0, 0.0, 10_000.0, segment_ms=segment)
    assert peak.frequency == frequency
    assert peak.power > (100 if segment is None else 10)


def test_peak_of_independent_cells_is_low():
    times, _ = poisson(duration=100_000.0)
    # Averaged over 399 segments: their scatter is about 0.06 of the mean, the largest of 249 of
    # them some 3 times that.
    peak = analysis.spectrum_peak(times, 20, 1.0, 0.0, 100_000.0, segment_ms=500.0)
    assert 1.0 < peak.power < 1.4


def test_peak_of_a_known_spectrum():
    # Two spikes in one of 8 bins and one in the next: |R_j|² = 5 + 4 cos(2πj/8), at 0, 125, ... Hz.
    times = [1.0, 1.0, 2.0]
    heights = np.array([5 + 4 * np.cos(np.pi / 4), 5.0, 5 - 4 * np.cos(np.pi / 4)])
    for low, high, expected in [(100, 400, heights), (250, 375, heights[1:])]:
        peak = analysis.spectrum_peak(times, 3, 1.0, 0.0, 8.0, low, high)
        assert peak.frequency == (125.0 if low == 100 else 250.0)
        assert peak.power == pytest.approx(expected[0] / expected.mean())
    # At the Nyquist frequency, half of 5 - 4: never the peak, but part of the mean.
    peak = analysis.spectrum_peak(times, 3, 1.0, 0.0, 8.0, 100.0)
    assert peak.power == pytest.approx(heights[0] / np.mean([*heights, 0.5]))


@pytest.mark.parametrize("period", [7.0, 20.0, 50.0])
def test_peak_of_lockstep_is_its_first_harmonic(period):
    times = np.repeat(np.arange(1, 101) * period, 20)
    found = analysis.spectrum_peak(times, 20, 1.0, 0.0, 100 * period)
    assert found.frequency == pytest.approx(1000 / period)
    # All power is in the harmonics, which are equal: the band holds 50 `period` frequencies, of
    # which it takes those from 2 Hz on.
    spectrum, _ = analysis.power_spectrum(times, 20, 1.0, 0.0, 100 * period)
    held = (spectrum >= 2.0 - 1e-9).sum()
    harmonics = period // 2
    # An even period has a harmonic at the Nyquist frequency, which counts half.
    weight = harmonics - 0.5 * (period % 2 == 0)
    assert found.power == pytest.approx(held / weight)


def test_peak_keeps_to_its_band():
    slow, fast = volleys(8.0), volleys(40.0)
    both = np.concatenate([np.repeat(slow, 2), fast])
    call = lambda **band: analysis.spectrum_peak(both, 20, 1.0, 0.0, 10_000.0, **band).frequency
    assert call() == 8.0
    assert call(low=8.0, high=40.0) == 8.0
    assert call(low=9.0) == 40.0
    assert call(low=9.0, high=40.0) == 40.0
    assert call(low=9.0, high=39.0) not in (8.0, 40.0)


def test_peak_on_the_edge_of_a_band_is_found_in_spite_of_rounding():
    bin_ms = 3 * 0.1
    times = np.arange(1, 31) * 10.0
    spectrum, _ = analysis.power_spectrum(times, 1, bin_ms, 0.0, 300.0)
    assert spectrum[30] < 100.0 and spectrum[-1] < 5000 / 3
    assert analysis.spectrum_peak(times, 1, bin_ms, 0.0, 300.0, 100.0, 5000 / 3).frequency == (
        pytest.approx(100.0)
    )


@pytest.mark.parametrize("segment", [None, 99.0])
@pytest.mark.parametrize(
    "times", [[], np.arange(1, 1000) * 1.0, np.arange(1, 334) * 3.0], ids=["none", "three", "one"]
)
def test_counts_that_never_change_have_no_peak(times, segment):
    # None, three and one in every bin of 3 ms; 1/7 of a rate would leave rounding errors.
    found = analysis.spectrum_peak(times, 7, 3.0, 0.0, 999.0, 2.0, 160.0, segment)
    assert np.isnan(found).all()


@pytest.mark.parametrize("segment", [None, 100.0])
def test_no_peak_where_all_power_is_elsewhere(segment):
    # Every second bin of 1 ms: all power is at 500 Hz.
    times = np.arange(1, 501) * 2.0
    assert np.isnan(analysis.spectrum_peak(times, 7, 1.0, 0.0, 1000.0, 2.0, 400.0, segment)).all()
    assert analysis.spectrum_peak(times, 7, 1.0, 0.0, 1000.0, segment_ms=segment).frequency == 500.0


def test_chi_of_equal_and_of_independent_cells():
    rng = np.random.default_rng(5)
    common, own = rng.normal(-65.0, 3.0, (20_000, 1)), rng.normal(-65.0, 3.0, (20_000, 50))
    assert analysis.synchrony_chi(np.tile(common, 50)) == pytest.approx(1.0)
    assert analysis.synchrony_chi(common) == pytest.approx(1.0)
    assert analysis.synchrony_chi(own) == pytest.approx(50**-0.5, rel=0.03)
    # Half of the variance is shared: χ² = (1 + 1/n) / 2.
    assert analysis.synchrony_chi(common + own) == pytest.approx((0.5 * 1.02) ** 0.5, rel=0.01)


def test_chi_equals_the_loop():
    # Cells of unlike means and variances, one of which never changes.
    rng = np.random.default_rng(6)
    v = rng.normal(-60.0, 1.0, (40, 5)) * np.array([1.0, 2.0, 0.5, 0.0, 1.5]) - [[3, 9, 0, 70, 1]]
    mean = [sum(row) / 5 for row in v]
    top = sum((m - sum(mean) / 40) ** 2 for m in mean) / 40
    bottom = sum(sum((x - sum(cell) / 40) ** 2 for x in cell) / 40 for cell in v.T) / 5
    assert analysis.synchrony_chi(v) == pytest.approx((top / bottom) ** 0.5)
    kept = v.copy()
    analysis.synchrony_chi(v)
    np.testing.assert_array_equal(v, kept)
    assert analysis.synchrony_chi(jnp.asarray(v)) == pytest.approx((top / bottom) ** 0.5, rel=1e-3)
    assert analysis.synchrony_chi(v.tolist()) == pytest.approx((top / bottom) ** 0.5)


def test_chi_of_opposite_cells_and_of_cells_at_rest():
    wave = np.sin(np.arange(100))
    assert analysis.synchrony_chi(np.stack([wave, -wave], axis=1)) == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(analysis.synchrony_chi(np.full((1000, 3), -65.3)))
    assert np.isnan(analysis.synchrony_chi(np.tile([-65.3, -70.1, 0.1], (1000, 1))))
    # One of four moves: (1/16) / (1/4).
    still = np.stack([wave, 0 * wave, 0 * wave, 0 * wave], axis=1) - 65.3
    assert analysis.synchrony_chi(still) == pytest.approx(0.5)


def short_peak(times=(), n=1, bin_ms=1.0, **rest):
    return analysis.spectrum_peak(times, n, bin_ms, 0.0, 100.0, **rest)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: analysis.rates([0], 1, -5.0), r"duration is -5.0; .* positive"),
        (lambda: analysis.rates([0], 1, float("inf")), r"duration is inf"),
        (lambda: analysis.rates([0, 3], 3, 1.0), r"index\[1\] is 3; .* 0 to 2"),
        (lambda: analysis.rates([-1], 3, 1.0), r"index\[0\] is -1; .* 0 to 2"),
        (lambda: analysis.rates([0.5], 3, 1.0), r"index has dtype float64; .* integers"),
        (lambda: analysis.rates([[0]], 3, 1.0), r"index has shape \(1, 1\)"),
        (lambda: analysis.rates([], 0, 1.0), r"n is 0; .* at least 1"),
        (lambda: analysis.rates([], 2.5, 1.0), r"n is 2.5; .* whole"),  # pyright: ignore
        (lambda: analysis.cv_isi([1.0], [0], 1, 1), r"min_spikes is 1; .* at least 2"),
        (lambda: analysis.cv_isi([1.0, 2.0], [0], 1), r"times has 2 entries and index 1"),
        (lambda: analysis.cv_isi([1.0, np.nan], [0, 0], 1), r"times\[1\] is nan; .* finite"),
        (lambda: analysis.cv_isi([[1.0]], [0], 1), r"times has shape \(1, 1\)"),
        (lambda: analysis.fano_factor([], 0.0, 0.0, 1.0), r"bin_ms is 0.0; .* positive"),
        (
            lambda: analysis.fano_factor([], 1.0, 2.0, 2.0),
            r"start = 2.0 to stop = 2.0 ms; .* later",
        ),
        (lambda: analysis.fano_factor([], 1.0, 0.0, np.nan), r"stop is nan; .* finite"),
        (
            lambda: analysis.fano_factor([], 3.0, 10.0, 20.0),
            r"stop is 20, 3.33333 bins of 3 ms; .* nearest are 19 and 22",
        ),
        (lambda: analysis.fano_factor([], 3.0, 10.0, 11.0), r"nearest are 13 and 16"),
        (
            lambda: analysis.power_spectrum([], 1, 1.0, 0.0, 10.0, 12.0),
            r"segment_ms is 12; .* window of 10 ms",
        ),
        (lambda: analysis.power_spectrum([], 1, 1.0, 0.0, 10.0, 1.0), r"at least 2 bins"),
        (
            lambda: analysis.power_spectrum([], 1, 1.0, 0.0, 10.0, 2.5),
            r"segment_ms is 2.5.* nearest are 2 and 3",
        ),
        (lambda: analysis.mean_correlation([1.0]), r"matrix has shape \(1,\)"),
        (lambda: short_peak(low=0.0), r"low is 0.0; .* positive number of Hz"),
        (lambda: short_peak(high=np.inf), r"high is inf; .* positive number of Hz"),
        (lambda: short_peak(low=50.0, high=50.0), r"low = 50 to high = 50 Hz; high must be above"),
        (
            lambda: short_peak(bin_ms=2.0),
            r"high is 500; it must be at most 250 Hz, .* bins of 2 ms",
        ),
        (lambda: short_peak(bin_ms=-1.0), r"bin_ms is -1.0; .* positive"),
        (
            lambda: short_peak(bin_ms=0.7),
            r"stop is 100, 142.857 bins .* nearest are 99.4 and 100.1",
        ),
        (lambda: short_peak(bin_ms=200.0, high=2.4), r"stop is 100, 0.5 bins of 200 ms"),
        (
            lambda: short_peak(low=11.0, high=29.0),
            r"low = 11 to high = 29 Hz holds 1 .* at least 2",
        ),
        (lambda: short_peak(segment_ms=2.0), r"low = 2 to high = 500 Hz holds 1 .* at least 2"),
        (lambda: short_peak(n=0), r"n is 0; .* at least 1"),
        (lambda: short_peak(times=[np.nan]), r"times\[0\] is nan; .* finite"),
        (lambda: analysis.synchrony_chi([1.0, 2.0]), r"v has shape \(2,\); .* \[time, n\]"),
        (lambda: analysis.synchrony_chi([[1.0, 2.0]]), r"v has shape \(1, 2\); .* 2 times"),
        (lambda: analysis.synchrony_chi([]), r"v has shape \(0,\)"),
        (lambda: analysis.synchrony_chi(np.ones((5, 0))), r"v has shape \(5, 0\); .* 1 cell"),
        (lambda: analysis.synchrony_chi(np.ones((3, 2, 2))), r"v has shape \(3, 2, 2\)"),
        (lambda: analysis.synchrony_chi([[1.0, 2.0], [3.0, np.nan]]), r"v\[1, 1\] is nan; .* mV"),
        (lambda: analysis.synchrony_chi([[1.0], [-np.inf]]), r"v\[1, 0\] is -inf"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


class Record:
    """As the records of spikes, which are not arrays."""

    times = index = None


# Calls of everything with one argument that can be replaced.
TAKE_NUMBERS = {
    "rates duration": lambda x: analysis.rates([0], 1, x),
    "spike_counts bin_ms": lambda x: analysis.spike_counts([1.0], [0], 1, x, 0.0, 10.0),
    "population_rate bin_ms": lambda x: analysis.population_rate([1.0], 1, x, 0.0, 10.0),
    "fano_factor start": lambda x: analysis.fano_factor([1.0], 1.0, x, 10.0),
    "within stop": lambda x: analysis.within([1.0], 0.0, x),
    "power_spectrum segment_ms": lambda x: analysis.power_spectrum([1.0], 1, 1.0, 0.0, 10.0, x),
    "spectrum_peak bin_ms": lambda x: analysis.spectrum_peak([1.0], 1, x, 0.0, 100.0, 2.0, 50.0),
    "spectrum_peak low": lambda x: analysis.spectrum_peak([1.0], 1, 1.0, 0.0, 100.0, low=x),
    "spectrum_peak high": lambda x: analysis.spectrum_peak([1.0], 1, 0.5, 0.0, 500.0, high=x),
}


@pytest.mark.parametrize("value", [None, "10", [10.0], np.ones(2), True, np.True_, 1j])
@pytest.mark.parametrize("call", TAKE_NUMBERS)
def test_numbers_are_numbers(call, value):
    if value is None and "segment_ms" in call:
        pytest.skip("None is the whole window")
    with pytest.raises(TypeError, match=rf"{call.split()[1]} is .*; it must be a .* of (ms|Hz)"):
        TAKE_NUMBERS[call](value)


@pytest.mark.parametrize("value", [10, np.float32(10), np.array(10.0), jnp.array(10.0)])
@pytest.mark.parametrize("call", TAKE_NUMBERS)
def test_numbers_come_in_many_forms(call, value):
    if "start" not in call:
        TAKE_NUMBERS[call](value)


@pytest.mark.parametrize("value", [10**400, np.inf, np.nan])
@pytest.mark.parametrize("call", TAKE_NUMBERS)
def test_numbers_are_finite(call, value):
    with pytest.raises(ValueError, match=rf"{call.split()[1]} is .*; it must be a .* of (ms|Hz)"):
        TAKE_NUMBERS[call](value)


@pytest.mark.parametrize(
    "value", [None, {}, "spikes", ["1", "2"], [1.0, None], [[1], [1, 2]], [True], [1j], Record()]
)
@pytest.mark.parametrize(
    "name, call",
    [
        ("times", lambda x: analysis.within(x, 0.0, 10.0)),
        ("times", lambda x: analysis.cv_isi(x, [0], 1)),
        ("index", lambda x: analysis.rates(x, 1, 10.0)),
        ("times", lambda x: analysis.spectrum_peak(x, 1, 1.0, 0.0, 100.0)),
        ("matrix", analysis.mean_correlation),
        ("v", analysis.synchrony_chi),
    ],
)
def test_arrays_hold_numbers(name, call, value):
    hint = (
        rf".* Give record\.{name} of" if isinstance(value, Record) and hasattr(value, name) else ""
    )
    with pytest.raises(TypeError, match=f"{name} is .*; it must be an array of .* numbers.{hint}"):
        call(value)


@pytest.mark.parametrize("matrix", [[[1, 2], [3, 4]], [[1, 0.5], [0.2, 1]], [[1, np.inf]] * 2])
def test_correlations_are_correlations(matrix):
    with pytest.raises(ValueError, match=r"matrix\[\d, \d\] is .*; correlations lie in -1 to 1"):
        analysis.mean_correlation(matrix)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: analysis.rates([], 10**12, 1.0), r"n is 10+; .* at most 134,217,728"),
        (lambda: analysis.rates([], True, 1.0), r"n is True; .* whole"),
        (lambda: analysis.fano_factor([], 1.0, 0.0, 1e9), r"stop is 1e\+09, 1e\+09 bins of 1 ms"),
        (lambda: analysis.fano_factor([], 1e-300, 0.0, 1e300), r"stop is 1e\+300, inf bins"),
        (
            lambda: analysis.spike_counts([], [], 10**6, 0.1, 0.0, 1e4),
            r"counts of 1,000,000 cells in 100,000 bins would take 745 GiB",
        ),
        (
            lambda: analysis.correlations([], [], 10**6, 1.0, 0.0, 1.0),
            r"correlations of 1,000,000 cells would take 7,451 GiB",
        ),
        (
            lambda: analysis.power_spectrum([], 1, 1.0, 0.0, 10.0, 1e8),
            r"segment_ms is 1e\+08; .* window of 10 ms",
        ),
    ],
)
def test_what_would_not_fit_is_refused_at_once(call, words):
    began = time.perf_counter()
    with pytest.raises(ValueError, match=words):
        call()
    assert time.perf_counter() - began < 1.0
