"""NEST's stimulating devices as `jsnn.nest` makes them, against NEST's, live."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells import fresh_kernel

import jsnn
from jsnn import nest as models
from jsnn.record import Spikes, States

nest = pytest.importorskip("nest")

N = 3
LEAKY = {"V_th": 1e9}
# Whose membrane is the sum of all that it was sent
SUM = {"tau_m": 1e12, "C_m": 1.0, "E_L": 0.0, "V_m": 0.0, "V_th": 1e12, "V_reset": -1.0}


@pytest.fixture(autouse=True)
def kernel():
    fresh_kernel()


STEPS = {"amplitude_times": [0.2, 1.0, 2.0, 4.0], "amplitude_values": [50.0, -300.0, 200.0, 10.0]}
TRAIN = {"spike_times": [0.2, 1.0, 2.0, 2.6, 4.0]}
FACTORS = {"spike_weights": [1.0, 2.0, 0.5, 3.0, 1.0], "spike_multiplicities": [1, 2, 1, 3, 1]}
WINDOWS = [{}, {"start": 0.2}, {"start": 1.0, "stop": 2.0}, {"start": 0.4, "stop": 3.0}]
WINDOWS += [{"origin": 1.0}, {"origin": 0.6, "start": 0.4, "stop": 2.0}, {"stop": 2.0}]
WINDOWS += [{"stop": 0.2}]  # two steps or one, of which no current comes to the first
N_CELLS = N * len(WINDOWS)


def theirs(device, params, cells, *, weight, delay, duration, dt, model="iaf_psc_exp"):
    """Membranes of NEST's cells after each step, N for each window, `[steps, N_CELLS]`."""
    fresh_kernel()
    nest.resolution = dt
    neurons = nest.Create(model, N_CELLS, cells)
    for i, window in enumerate(WINDOWS):
        source = nest.Create(device, params={**params, **window})
        nest.Connect(
            source, neurons[N * i : N * i + N], syn_spec={"weight": weight, "delay": delay}
        )
    meter = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": dt})
    nest.Connect(meter, neurons)
    nest.Simulate(duration + 1.0)  # the last steps are handed out after the run
    events = meter.events
    values = np.asarray([events["V_m"][events["senders"] == i.global_id] for i in neurons])
    return values.T[: round(duration / dt)]


def ours(device, params, cells, *, duration, dt, model="iaf_psc_exp", **given):
    """The same of ours."""
    slices = {f"w{i}": slice(N * i, N * i + N) for i in range(len(WINDOWS))}
    population = getattr(models, model)(N_CELLS, slices=slices, **cells)
    more = (range(N),) if device == "spike_generator" else ()
    sources = {
        name: getattr(models, device)(f"cells.{name}", *more, **given, **params, **window)
        for name, window in zip(slices, WINDOWS, strict=True)
    }
    return membranes(population, sources, duration, dt)


def membranes(population, sources, duration, dt):
    network = jsnn.Network({"cells": population}, inputs=sources, dt=dt)
    record = {"v": States("cells", "v")}
    made = jsnn.simulate(network, network.init(jax.random.key(1)), round(duration / dt), record)
    return np.asarray(made.records["v"].values)


@pytest.mark.parametrize(
    ("device", "params", "more"),
    [
        ("dc_generator", {"amplitude": 400.0}, {}),
        ("step_current_generator", STEPS, {}),
        ("spike_generator", TRAIN, {"receptor": "ex"}),
        ("spike_generator", {**TRAIN, **FACTORS}, {"receptor": "ex"}),
    ],
)
def test_devices_without_chance(x64, device, params, more):
    """Membranes at every step, of leaky cells."""
    for delay, dt, weight in ((1.0, 0.1, 15.0), (0.2, 0.2, 40.0)):
        given = {"weight": weight, "delay": delay, "duration": 8.0, "dt": dt}
        expected = theirs(device, params, LEAKY, **given)
        found = ours(device, params, LEAKY, **given, **more)
        assert np.all(np.ptp(expected, axis=0)[:-N] > 0.01)
        np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0)


def sent(v, dt):
    """What cells that sum were sent in each step, over dt; 0 where that is rounding."""
    steps = np.diff(np.concatenate([np.zeros((1, v.shape[1])), v]), axis=0) / dt
    return np.where(np.abs(steps) < 1e-6, 0.0, steps)


def changes(current):
    """After which steps a current changes."""
    moves = np.abs(np.diff(np.concatenate([[0.0], current])))
    return np.flatnonzero(moves > 1e-6).tolist()


def test_noise_is_held_and_begins_and_ends_as_in_nest(x64):
    """A cell that sums shows the pieces: when they begin, each with a value of each cell."""
    for params, delay in (({}, 1.0), ({"dt": 0.4}, 0.2)):
        given = {"duration": 6.0, "dt": 0.1, "weight": 2.0, "delay": delay}
        params = {"mean": 100.0, "std": 30.0, **params}
        expected = sent(theirs("noise_generator", params, SUM, **given), 0.1)
        found = sent(ours("noise_generator", params, SUM, **given), 0.1)
        for one, other in zip(found.T, expected.T, strict=True):
            assert changes(one) == changes(other) and len(changes(one)) > 1
        drawn = np.concatenate([one[changes(one)] for one in found.T])
        drawn = np.round(drawn[drawn != 0], 6)
        assert len(np.unique(drawn)) == drawn.size > 60


def test_poisson_begins_and_ends_as_in_nest(x64):
    """At so high a rate no step goes without spikes."""
    given = {"duration": 6.0, "dt": 0.1, "model": "iaf_psc_delta", "weight": 0.5, "delay": 0.6}
    expected = sent(theirs("poisson_generator", {"rate": 3e5}, SUM, **given), 1.0)
    found = sent(ours("poisson_generator", {"rate": 3e5}, SUM, **given), 1.0)
    assert np.array_equal(found > 0, expected > 0) and np.all(np.any(found > 0, axis=0))
    assert np.all(np.any(found == 0, axis=0))
    for steps in (found, expected):
        assert np.mean(steps[steps > 0]) == pytest.approx(15.0, rel=0.1)


def test_values_of_noise(x64):
    """Their mean, their spread, and nothing between one and the next, of 1 ms unless told."""
    source = models.noise_generator("cells", mean=100.0, std=30.0, weight=-2.0)
    v = membranes(models.iaf_psc_exp(N, **SUM), {"s": source}, 2000.0, 0.5)
    current = sent(v, 0.5)
    at = changes(current[:, 0])
    drawn = current[at]
    assert np.all(np.diff(at) == 2)
    assert np.mean(drawn) == pytest.approx(-200.0, abs=4 * 60 / np.sqrt(drawn.size))
    assert np.std(drawn) == pytest.approx(60.0, rel=4 / np.sqrt(2 * drawn.size))
    left = drawn - drawn.mean()
    assert abs(np.mean(left[1:] * left[:-1])) < 4 * 3600 / np.sqrt(drawn.size)


def test_rate_under_noise():
    """What a rate depends on is for how long a value is held: at 0.1 ms the membrane has a third of
    the spread of 1 ms. Rates are over 300 cells and 2 s; their standard errors are 0.2 Hz."""
    n, given = 300, {"mean": 300.0, "std": 400.0}
    cells = nest.Create("iaf_psc_exp", n)
    nest.Connect(nest.Create("noise_generator", params=given), cells)
    recorder = nest.Create("spike_recorder")
    nest.Connect(cells, recorder)
    nest.Simulate(2000.0)
    expected = recorder.n_events / n / 2.0

    def rate(**more):
        source = models.noise_generator("cells", **given, **more)
        cells = {"cells": models.iaf_psc_exp(n)}
        network = jsnn.Network(cells, inputs={"noise": source}, dt=0.1)
        record = {"s": Spikes("cells")}
        made = jsnn.run(network, 2000.0, key=jax.random.key(1), record=record, progress=False)
        return made.records["s"].times.size / (n * 2.0)

    assert rate() == pytest.approx(expected, abs=1.0)
    assert abs(rate(dt=0.1) - expected) > 5


def test_one_number_for_each_cell(x64):
    times = {"amplitude_times": [0.1], "amplitude_values": [100.0]}
    sources = {
        "a": models.dc_generator("cells.a", amplitude=[100.0, 200.0, 300.0]),
        "b": models.dc_generator("cells.b", amplitude=100.0, weight=[1.0, 2.0, 3.0]),
        "c": models.step_current_generator("cells.c", weight=[1.0, 2.0, 3.0], **times),
        "d": models.noise_generator("cells.d", mean=100.0, weight=[1.0, 2.0, 3.0]),
    }
    slices = {name: slice(N * i, N * i + N) for i, name in enumerate(sources)}
    population = models.iaf_psc_exp(N * len(sources), slices=slices)
    v = membranes(population, sources, 4.0, 0.1)[-1] + 70.0
    # 29 steps lie in (0.1, 4 - 1] ms
    rise = 100 * 10 / 250 * (1 - np.exp(-2.9 / 10.0))
    np.testing.assert_allclose(v, np.tile(rise * np.arange(1, 4), 4), rtol=1e-9)


def test_gradient_of_an_amplitude(x64):
    def last(amplitude):
        source = models.dc_generator("cells", amplitude=amplitude, stop=3.0)
        network = jsnn.Network({"cells": models.iaf_psc_exp(N)}, inputs={"s": source}, dt=0.1)
        made = jsnn.simulate(network, network.init(jax.random.key(1)), 40)
        return jnp.sum(made.state.populations["cells"].cell["v"])

    slope = N * 10 / 250 * (1 - np.exp(-2.9 / 10.0))
    assert float(jax.grad(last)(100.0)) == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize("device", models.DEVICE_DEFAULTS)
def test_names_and_defaults_are_those_of_nest(device):
    found = nest.GetDefaults(device)
    for name, value in {
        **models.DEVICE_DEFAULTS[device],
        **models.UNSUPPORTED_OF_DEVICES[device],
    }.items():
        assert np.array_equal(found[name], value), name


def make(device, **params):
    more = ([0],) if device == "spike_generator" else ()
    return getattr(models, device)("cells", *more, **params)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make("dc_generator", amplitud=1.0), "dc_generator 'amplitud': .*'amplitude'"),
        (lambda: make("dc_generator", amplitude=np.nan), "amplitude=nan is not finite"),
        (lambda: make("dc_generator", start=2.0, stop=1.0), "stop=1.0 ms must be after start=2.0"),
        (lambda: make("noise_generator", std=-1.0), "std=-1.0 must be at least 0"),
        (lambda: make("noise_generator", std_mod=1.0), "std_mod=1.0: noise_generator .*not supp"),
        (lambda: make("step_current_generator"), "amplitude_times has shape .*at least one"),
        (
            lambda: make(
                "step_current_generator", amplitude_times=[2.0, 1.0], amplitude_values=[1.0, 1.0]
            ),
            "amplitude_times=.*must increase",
        ),
        (
            lambda: make("spike_generator", spike_times=[1.0], spike_weights=[1.0, 2.0]),
            "spike_weights has 2 numbers and spike_times 1",
        ),
        (lambda: make("spike_generator", precise_times=True), "precise_times=True.*not supported"),
        (lambda: make("poisson_generator", rate=-1.0), "rate=-1.0 must be at least 0"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
