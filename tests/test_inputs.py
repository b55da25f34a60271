"""Inputs: their distributions, their independence, and the exact steps they act in.

Seeds are fixed, so every statistical test is deterministic; each asks for p > 1e-3.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compilations
from scipy import stats

import jsnn
from jsnn._random import cell_words, key_words, normal
from jsnn._status import raise_if_failed
from jsnn.inputs import Cells, NoiseCurrent, Poisson, SpikeList, StepCurrent, Target
from jsnn.neurons import LIF
from jsnn.receptors import Delta

DT = 0.1
N = 256  # cells: two tiles, so that nothing has to be padded
KEY = key_words(jax.random.key(11))


def sent(source, steps, low=0, high=N, key=KEY):
    """What an input sends in the given steps, `[steps, N]`."""
    target = Target(N, low, high)
    source = source.checked(DT, high - low)

    @eqx.filter_jit
    def block(source, steps):
        made = source.block(source.prepare(DT, target), key, steps, Cells(0, N), target, DT)
        return jnp.broadcast_to(made, (steps.shape[0], N))

    return np.asarray(block(source, jnp.asarray(steps, jnp.int32)))


def hz(mean):
    """The rate that makes so many spikes a step."""
    return mean * 1000 / DT


def p_value(counts, mean):
    """Of a chi-square test against the Poisson distribution, with at least 5 in each class."""
    low, high = stats.poisson.ppf([5 / counts.size, 1 - 5 / counts.size], mean).astype(int)
    high = max(high, low + 1)
    classes = np.arange(low, high + 1)
    found = np.bincount(np.clip(counts, low, high).astype(int), minlength=high + 1)[low:]
    p = stats.poisson.pmf(classes, mean)
    p[0], p[-1] = stats.poisson.cdf(low, mean), stats.poisson.sf(high - 1, mean)
    return stats.chisquare(found, counts.size * p).pvalue


@pytest.mark.parametrize("mean", [0.01, 2.0, 50.0])
def test_counts_are_poisson(mean):
    counts = sent(Poisson("a", hz(mean), 1.0), np.arange(400))
    assert p_value(counts.ravel(), mean) > 1e-3


@pytest.mark.parametrize("low", [0, 40])
def test_counts_of_each_cell_have_its_rate(low):
    """Cells with means of 0, 0.01, 2 and 50 side by side, aimed at all cells or at a slice."""
    means = np.resize([0.0, 0.01, 2.0, 50.0], N - low)
    counts = sent(Poisson("a", hz(means), 1.0), np.arange(400), low)
    assert not counts[:, :low].any()
    for mean in (0.01, 2.0, 50.0):
        assert p_value(counts[:, low:][:, means == mean].ravel(), mean) > 1e-3
    assert not counts[:, low:][:, means == 0].any()


def test_rate_is_that_of_the_start_of_the_step():
    """A rate that jumps, with a delay between the generator and the cells."""
    rate = lambda t: jnp.where(t < 9.95, hz(0.01), hz(2.0))
    counts = sent(Poisson("a", rate, 1.0, max_rate=hz(2.0), delay=5.0), np.arange(300))
    assert p_value(counts[50:150].ravel(), 0.01) > 1e-3
    assert p_value(counts[150:].ravel(), 2.0) > 1e-3
    assert not counts[:50].any()


def test_rate_function_with_a_number_for_each_target():
    rate = lambda t: jnp.linspace(0.0, hz(4.0), N - 56) * (t < 10)
    counts = sent(Poisson("a", rate, 1.0, max_rate=hz(4.0)), np.arange(200), 0, N - 56)
    assert not counts[100:].any() and not counts[:, 0].any() and not counts[:, N - 56 :].any()
    mean = counts[:100].mean(axis=0)
    assert abs(mean[150:200].mean() - np.linspace(0, 4, 200)[150:].mean()) < 0.1


@pytest.mark.parametrize("mean", [1e-6, 1e-4, 0.02, 2.0, 50.0])
def test_thresholds_are_as_precise_as_32_bits_or_float32_allow(mean):
    source = Poisson("a", hz(mean), 1.0)
    found = np.asarray(source._thresholds(jnp.float32([mean]), DT))[:, 0].astype(float) + 1
    k = source._counts(DT)[0] + np.arange(found.size)
    for p, wanted in (
        (found / 2**32, stats.poisson.cdf(k, mean)),
        (1 - found / 2**32, stats.poisson.sf(k, mean)),
    ):
        some = wanted < 0.5
        np.testing.assert_allclose(p[some], wanted[some], rtol=1e-5, atol=1.5 / 2**32)


def test_rate_0_gives_none():
    assert not sent(Poisson("a", 0.0, 1.0), np.arange(4000)).any()


def test_weights_of_cells_multiply():
    weight = np.linspace(-1, 3, N)
    one = sent(Poisson("a", hz(2.0), 1.0), np.arange(50))
    np.testing.assert_allclose(
        sent(Poisson("a", hz(2.0), weight), np.arange(50)), one * weight, rtol=1e-6
    )


def test_start_and_stop():
    counts = sent(Poisson("a", hz(50.0), 1.0, start=1.0, stop=2.0, delay=0.5), np.arange(40))
    np.testing.assert_array_equal(np.flatnonzero(counts.any(axis=1)), np.arange(15, 25))


@pytest.mark.parametrize("name", ["Poisson", "NoiseCurrent"])
def test_draws_are_independent(name):
    """Between cells (the halves of a tile share a counter), between steps, and between keys."""
    source = Poisson("a", hz(2.0), 1.0) if name == "Poisson" else NoiseCurrent("a")
    steps = np.arange(4000)
    x = sent(source, steps)
    assert len(np.unique(x[:100], axis=0)) == 100
    x = (x - x.mean()) / x.std()
    between = x.T @ x / len(x)
    off = between[~np.eye(N, dtype=bool)]
    assert abs(off).max() < 5.5 / np.sqrt(len(x)) and abs(off.mean()) < 1e-3
    for lag in (1, 2, 64):
        own = np.mean(x[lag:] * x[:-lag], axis=0)
        assert abs(own).max() < 5 / np.sqrt(len(x)) and abs(own.mean()) < 5 / np.sqrt(x.size)
    other = sent(source, steps, key=key_words(jax.random.key(12)))
    assert abs(np.mean(x * (other - other.mean()) / other.std())) < 5 / np.sqrt(x.size)


@pytest.mark.parametrize(
    "source", [Poisson("a", hz(2.0), 1.0, delay=0.3), NoiseCurrent("a", interval=0.7)]
)
def test_any_part_of_a_run_and_of_the_cells_has_the_same_numbers(source):
    whole = sent(source, np.arange(100))
    np.testing.assert_array_equal(
        whole, np.concatenate([sent(source, np.arange(37)), sent(source, np.arange(37, 100))])
    )
    prepared, target = source.prepare(DT, Target(N, 0, N)), Target(N, 0, N)
    second = source.block(prepared, KEY, jnp.arange(100), Cells(jnp.asarray(128), 128), target, DT)
    np.testing.assert_array_equal(second, whole[:, 128:])


def test_words_are_uniform():
    words = np.asarray(cell_words(KEY, jnp.arange(400), 0, N))
    for shift in (0, 8, 16, 24):
        found = np.bincount((words >> shift & 255).ravel(), minlength=256)
        assert stats.chisquare(found).pvalue > 1e-3


def test_noise_has_its_mean_and_standard_deviation():
    mean, std = np.linspace(-5, 5, N - 6), np.linspace(0, 10, N - 6)
    x = sent(NoiseCurrent("a", mean, std), np.arange(4000), 6)
    assert not x[:, :6].any()
    np.testing.assert_array_equal(x[:, 6], np.float32(-5))
    z = (x[:, 7:] - mean[1:]) / std[1:]
    assert np.all(abs(z.mean(axis=0)) < 4.5 / np.sqrt(4000))
    assert np.all(abs(z.std(axis=0) - 1) < 4.5 / np.sqrt(8000))
    assert stats.kstest(z.ravel()[::20], "norm").pvalue > 1e-3


def test_noise_is_held_for_its_interval():
    x = sent(NoiseCurrent("a", interval=0.7, start=1.0, stop=3.0), np.arange(50))
    changes = np.flatnonzero(np.diff(x[:, 3])) + 1
    assert changes.tolist() == [10, 14, 21, 28, 30]
    assert not x[:10].any() and not x[30:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_numbers_are_finite_at_both_ends(dtype):
    with jax.enable_x64(dtype == np.float64):
        words = jnp.asarray([0, 1, 2**31, 2**32 - 2, 2**32 - 1], jnp.uint32)
        x = np.asarray(normal(words, np.dtype(dtype)))
    assert np.all(np.isfinite(x)) and np.all(abs(x) < 6)
    np.testing.assert_allclose(x[[0, -1]], [x[0], -x[0]], rtol=1e-5)


def reference(times, cells, weight, delay, n_steps, low=0):
    """A spike stamped t belongs to the step that ends at t."""
    out = np.zeros((n_steps, N))
    steps = np.rint((np.asarray(times) + delay) / DT).astype(int) - 1
    np.add.at(out, (steps, low + np.asarray(cells)), weight)
    return out


def test_spike_list_puts_every_spike_in_its_step():
    times, cells = [0.5, 0.1, 0.5, 0.5, 2.0, 0.3], [3, 0, 3, 3, 199, 7]
    found = sent(SpikeList("a", times, cells, 1.5, delay=0.4), np.arange(30), 20, 220)
    np.testing.assert_array_equal(found, reference(times, cells, 1.5, 0.4, 30, 20))
    assert found[8, 23] == 4.5  # three at once


def test_spike_list_with_many_spikes_in_a_block_in_any_order():
    rng = np.random.default_rng(1)
    times = rng.integers(1, 41, 3000) * DT
    cells, weights = rng.integers(0, N, 3000), rng.integers(-8, 9, 3000) / 8
    source = SpikeList("a", times, cells, weights)
    wanted = reference(times, cells, weights, 0, 40)
    for blocks in ([range(40)], [range(7), range(7, 8), range(8, 40)]):
        np.testing.assert_array_equal(np.concatenate([sent(source, b) for b in blocks]), wanted)


def test_empty_spike_list():
    assert not sent(SpikeList("a", [], np.empty(0, int), 1.0), np.arange(5)).any()


def trains(n, seed):
    """Of one trial: times (ms), cells and weights of so many spikes, in order of time."""
    rng = np.random.default_rng(seed)
    times, cells = rng.integers(1, 101, n) * DT, rng.integers(0, 3, n)
    order = np.argsort(times, kind="stable")
    return times[order].round(9), cells[order], rng.integers(1, 9, n) / 8


def adding_up(source):
    """Three membranes that add up what arrives, without leak and threshold."""
    cells = jsnn.Population(LIF(tau_m=1e9, e_l=0.0, v_reset=-1.0, v_th=1e9), 3, {"x": Delta()})
    return jsnn.Network({"a": cells}, inputs={"s": source}, dt=DT)


def added_up(source, steps=100):
    """What `SpikeList` makes of them, and what a `StepCurrent` of pA does (mV)."""
    net = adding_up(source)
    return jsnn.simulate(net, net.init(jax.random.key(0)), steps).state.populations["a"].cell["v"]


def sums(times, cells, weight=1.0):
    return np.bincount(cells, weight * np.ones(cells.size), 3)


def run_up(source):
    """The same by `run`."""
    solution = jsnn.run(adding_up(source), 10.0, key=jax.random.key(0), progress=False)
    return solution.state.populations["a"].cell["v"]


@pytest.mark.parametrize(("way", "each"), [(added_up, True), (run_up, False)])
def test_trials_with_their_own_spikes_share_a_program(way, each):
    """Of few spikes and many, of none and of one, with one weight or one for each spike."""
    lists = {n: trains(n, n) for n in (100, 0, 1, 37, 99, 256)}
    given = {n: own if each else (*own[:2], 1.5) for n, own in lists.items()}
    found = {100: way(SpikeList("a", *given[100]))}
    with compilations() as compiled:
        for n in list(given)[1:]:
            found[n] = way(SpikeList("a", *given[n]))
    assert not compiled
    for n, own in found.items():
        np.testing.assert_allclose(own, sums(*given[n]), rtol=1e-5)


def test_lists_of_spikes_under_jit_and_vmap():
    """In the place of others, and stacked: each is what it is alone, and so are the slopes."""
    net = adding_up(SpikeList("a", [0.1], [0], 1.0, capacity=300))
    data = [trains(n, n) for n in (3, 290, 0)]
    lists = [SpikeList("a", *own, capacity=300).on_grid(DT) for own in data]

    @jax.jit
    def slopes(source):
        def last(weight):
            own = eqx.tree_at(lambda n: n.inputs["s"], net, source)
            own = eqx.tree_at(lambda n: n.inputs["s"].weight, own, weight)
            solution = jsnn.simulate(own, own.init(jax.random.key(0)), 100)
            v = solution.state.populations["a"].cell["v"]
            return v @ jnp.asarray([1.0, 10.0, 100.0]), v

        return jax.grad(last, has_aux=True)(source.weight)

    alone = [slopes(own) for own in lists]
    assert slopes._cache_size() == 1
    stacked = jax.tree.map(lambda *own: jnp.stack(own), *lists)
    together = jax.jit(jax.vmap(slopes))(stacked)
    for i, (times, cells, weight) in enumerate(data):
        for slope, v in (alone[i], [own[i] for own in together]):
            np.testing.assert_allclose(v, sums(times, cells, weight), rtol=1e-5)
            assert slope.shape == (300,)
            np.testing.assert_allclose(slope[: cells.size], 10.0**cells, rtol=1e-5)
            assert not np.any(slope[cells.size :])


def test_a_list_of_spikes_is_read_back_as_it_was_given():
    times, cells, weight = trains(37, 0)
    mixed = np.random.default_rng(0).permutation(37)
    source = adding_up(SpikeList("a", times[mixed], cells[mixed], weight[mixed])).inputs["s"]
    order = mixed[np.argsort(times[mixed], kind="stable")]
    np.testing.assert_array_equal(source.times, times)
    np.testing.assert_array_equal(source.cells, cells[order])
    np.testing.assert_array_equal(source.weight, weight[order])
    current = adding_up(StepCurrent("a", [1.0, 2.5, 4.0], [3.0, 2.0, 0.0])).inputs["s"]
    np.testing.assert_array_equal(current.times, [1.0, 2.5, 4.0])
    assert current.values.shape == (3,)


def test_a_list_in_the_place_of_another_needs_no_other_call():
    """And one whose times are steps of another dt is refused, not read in other steps."""
    data = trains(40, 1)
    net = eqx.tree_at(
        lambda n: n.inputs["s"], adding_up(SpikeList("a", [0.1], [0], 1.0)), SpikeList("a", *data)
    )
    v = jsnn.simulate(net, net.init(jax.random.key(0)), 100).state.populations["a"].cell["v"]
    np.testing.assert_allclose(v, sums(*data), rtol=1e-5)
    for source in (SpikeList("a", *data), StepCurrent("a", [1.0], [1.0])):
        on_grid = adding_up(source).inputs["s"]
        with pytest.raises(ValueError, match="input 's': times are steps of dt=0.1 ms already"):
            jsnn.Network({"a": net.populations["a"]}, inputs={"s": on_grid}, dt=0.05)
    with pytest.raises(TypeError, match=r"'s': times is traced.*on_grid\(dt\)"):
        jax.jit(lambda own: added_up(eqx.tree_at(lambda s: s._times, SpikeList("a", *data), own)))(
            data[0]
        )
    with pytest.raises(ValueError, match="capacity=39 has no room for 40 spikes; give at least 40"):
        SpikeList("a", *data, capacity=39)


def test_weights_of_a_traced_list_that_are_too_few_are_noticed():
    """Nobody can count them before; where there are enough, they are those of the spikes."""
    data = trains(40, 1)
    net = adding_up(SpikeList("a", *data))

    @jax.jit
    def last(net, weight):
        own = eqx.tree_at(lambda n: n.inputs["s"].weight, net, weight)
        solution = jsnn.simulate(own, own.init(jax.random.key(0)), 100)
        return solution.state.populations["a"].cell["v"], solution.status["a"]

    v, status = last(net, 2 * data[2])
    np.testing.assert_allclose(v, 2 * sums(*data), rtol=1e-5)
    assert status == jsnn.NEVER
    assert last(net, data[2][:30])[1] < jsnn.NEVER


def test_currents_of_some_pieces_share_a_program():
    """Against the integral of the pieces: v grows by i / c_m."""
    given = {
        3: ([1.0, 2.5, 4.0], [250.0, -500.0, 0.0]),
        1: ([9.0], [250.0]),
        8: (np.arange(8) + 0.5, np.arange(8) * 100.0),
    }
    found, compiled_for = {}, []
    for n, (times, values) in given.items():
        with compilations() as compiled:
            found[n] = added_up(StepCurrent("a", times, values))
        compiled_for.append(len(compiled))
    assert compiled_for[0] and compiled_for[1:] == [0, 0]
    for n, (times, values) in given.items():
        wanted = np.sum(np.diff([*times, 10.0]) * values) / 250
        np.testing.assert_allclose(found[n], wanted, rtol=1e-4)


@pytest.mark.parametrize("time", [5000.3, 20000.7, 100000.1])
def test_late_times_are_on_the_grid(time):
    """float32 holds 5000.3 ms to 0.005 of a step, which says nothing about what the user gave."""
    step = round(time / DT)
    found = sent(SpikeList("a", [time], [2], 1.0), np.arange(step - 3, step + 3))
    assert np.argwhere(found).tolist() == [[2, 2]]
    found = sent(StepCurrent("a", [time], [1.0]), np.arange(step - 3, step + 3))
    assert found[:, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_step_current_holds_each_value_from_its_time_on():
    found = sent(StepCurrent("a", [0.3, 0.9, 1.5], [5.0, -2.0, 0.0], delay=0.1), np.arange(20))
    wanted = np.repeat([0, 5, -2, 0], [4, 6, 6, 4])
    np.testing.assert_array_equal(found, np.broadcast_to(wanted[:, None], (20, N)))


def test_step_current_with_a_column_for_each_target():
    values = np.arange(2 * 100).reshape(2, 100) + 1.0
    found = sent(StepCurrent("a", [0.0, 1.0], values), np.arange(20), 50, 150)
    np.testing.assert_array_equal(found[:10, 50:150], np.tile(values[0], (10, 1)))
    np.testing.assert_array_equal(found[10:, 50:150], np.tile(values[1], (10, 1)))
    assert not found[:, :50].any() and not found[:, 150:].any()


@pytest.mark.parametrize(
    "bad", [lambda t: 100.0 + 2000.0 * (t > 1.0), lambda t: jnp.sqrt(0.55 - t)]
)
def test_a_rate_that_the_draws_cannot_hold_sets_the_status(bad):
    """Too high, or no number at all: from the step of 1.1 or 0.6 ms on."""
    cells = jsnn.Population(LIF(), 3, {"x": Delta()})
    net = jsnn.Network({"a": cells}, inputs={"p": Poisson("a", bad, 1.0, max_rate=500.0)}, dt=DT)
    solution = jsnn.simulate(net, net.init(jax.random.key(0)), 3)
    assert solution.status == {"a": jsnn.NEVER, "input/p": jsnn.NEVER}
    solution = jsnn.simulate(net, solution.state, 17)
    assert solution.status["a"] == jsnn.NEVER
    assert solution.status["input/p"] < 20
    with pytest.raises(ValueError, match="input 'p'.*rate.*max_rate"):
        raise_if_failed(net, solution.state)


@pytest.mark.parametrize(("given", "changed"), [(hz(50.0), hz(1.0)), (hz(1.0), hz(2.0))])
def test_a_rate_changed_beyond_what_was_given_sets_the_status(given, changed):
    """The draws are laid out for the rate that was given; `max_rate` makes room for others."""

    def status(**more):
        source = Poisson("a", given, 1.0, **more)
        cells = jsnn.Population(LIF(), 3, {"x": Delta()})
        net = jsnn.Network({"a": cells}, inputs={"p": source}, dt=DT)
        net = eqx.tree_at(lambda n: n.inputs["p"].rate, net, jnp.float32(changed))
        return jsnn.simulate(net, net.init(jax.random.key(0)), 3).status["input/p"]

    assert status() == 0
    assert status(max_rate=hz(60.0)) == jsnn.NEVER


CASES = [
    (lambda: Poisson("a", -1.0, 1.0), "rate.*-1.*at least 0"),
    (lambda: Poisson("a", np.nan, 1.0), "rate.*nan.*finite"),
    (lambda: Poisson("a", 1.0, np.inf), "weight.*inf.*finite"),
    (lambda: Poisson("a", lambda t: t, 1.0), "max_rate is missing"),
    (lambda: Poisson("a", 10.0, 1.0, max_rate=5.0), "max_rate=5.*rate=10"),
    (lambda: SpikeList("a", [0.1, 0.2], [1], 1.0), "times.*cells.*equal"),
    (lambda: SpikeList("a", [0.0], [1], 1.0), "times.*above 0"),
    (lambda: SpikeList("a", [0.1], [1], [1.0, 2.0]), "weight.*shape"),
    (lambda: StepCurrent("a", [1.0, 1.0], [1.0, 2.0]), "times.*increase"),
    (lambda: StepCurrent("a", [1.0], [1.0, 2.0]), "times.*values"),
    (lambda: NoiseCurrent("a", 0.0, -1.0), "std.*-1"),
]


@pytest.mark.parametrize("make, message", CASES)
def test_bad_values_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


CHECKED = [
    (Poisson("a", [1.0, 2.0], 1.0), r"rate has shape \(2,\).*\(3,\)"),
    (Poisson("a", 1.0, [1.0, 2.0]), r"weight has shape \(2,\).*\(3,\)"),
    (Poisson("a", 1.0, 1.0, delay=0.05), "delay=0.05.*0 and 0.1"),
    (Poisson("a", 1.0, 1.0, start=0.25), "start=0.25.*0.2 and 0.3"),
    (Poisson("a", 1.0, 1.0, stop=-1.0), "stop=-1.*at least 0"),
    (Poisson("a", 1e12, 1.0), r"rate=1e\+12.*lower"),
    (Poisson("a", lambda t: jnp.ones(2), 1.0, max_rate=5.0), "rate.*shape"),
    (SpikeList("a", [0.1], [3], 1.0), r"cells.*0\.\.2"),
    (SpikeList("a", [0.1], [-1], 1.0), r"cells.*0\.\.2"),
    (SpikeList("a", [0.15], [1], 1.0), "times=0.15.*0.1 and 0.2"),
    (StepCurrent("a", [0.15], [1.0]), "times=0.15.*0.1 and 0.2"),
    (StepCurrent("a", [0.1], [[1.0, 2.0]]), r"values has shape \(1, 2\).*3"),
    (NoiseCurrent("a", interval=0.25), "interval=0.25.*0.2 and 0.3"),
    (NoiseCurrent("a", interval=0.0), "interval=0.*at least 0.1"),
    (NoiseCurrent("a", [1.0, 2.0]), r"mean has shape \(2,\)"),
]


@pytest.mark.parametrize("source, message", CHECKED)
def test_what_does_not_fit_the_target_is_named_before_compiling(source, message):
    cells = jsnn.Population(LIF(), 3, {"x": Delta()})
    with pytest.raises(ValueError, match=f"input 'p'.*{message}"):
        jsnn.Network({"a": cells}, inputs={"p": source}, dt=DT)


def test_cells_of_a_spike_list_are_integers():
    with pytest.raises(TypeError, match="cells.*float64.*integer"):
        SpikeList("a", [0.1], [1.0], 1.0)
