"""Calcium and synaptic elements of cells that make no synapses, against NEST and SciPy; their
gradients, and what is said about wrong ones."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import quad_vec

import jsnn
from jsnn.astrocytes import LiRinzel
from jsnn.distributions import Uniform
from jsnn.growth import Calcium, Gaussian, Linear, Sigmoid, SynapticElements
from jsnn.inputs import SpikeList
from jsnn.neurons import LIF
from jsnn.receptors import Delta, Exponential
from jsnn.record import Spikes, States
from jsnn.rewire import Rewiring

DT = 0.1
DURATION, EVERY = 20_000.0, 1000.0  # ms
KICK = 20.0  # mV: every spike that arrives makes a cell fire
KEY = jax.random.key(0)
CURVES = {"linear": Linear, "gaussian": Gaussian, "sigmoid": Sigmoid}

# One is silent, some fire regularly at up to 250 Hz, the last four fire when spikes arrive
CURRENTS = np.array([0.0, 376.0, 400.0, 500.0, 900.0, 2000.0, 0.0, 0.0, 0.0, 0.0])  # pA
N = CURRENTS.size
TAU = np.array([1e4, 1e4, 1e4, 5e3, 1e4, 1e4, 1e4, 3e3, 2e3, 1e4])
BETA = np.array([1e-3, 1e-3, 2e-3, 1e-3, 1e-3, 1e-3, 1e-2, 5e-3, 1e-2, 2e-3])


def spread(low, high):
    """A parameter that differs from cell to cell."""
    return np.geomspace(low, high, N)


# With NEST's defaults thousands grow; some few, and slowly; and some are lost for a while. No z
# comes near a whole number at an update, where rounding would tell how many are vacant.
ELEMENTS = {
    "linear": {},
    "linear_slow": {"eps": spread(0.02, 2.0), "growth_rate": 1e-4, "z": 3.37},
    "linear_falling": {"eps": 0.2, "growth_rate": 1e-3, "z": 0.4, "tau_vacant": 0.9},
    "gaussian": {},
    "gaussian_slow": {"eta": 0.0, "eps": spread(0.05, 3.0), "growth_rate": 1e-4, "z": 3.37},
    "gaussian_falling": {"eta": 0.1, "eps": 0.3, "growth_rate": 1e-3, "z": 0.2, "tau_vacant": 0.3},
    "sigmoid": {},
    "sigmoid_slow": {"eps": 0.5, "psi": spread(0.01, 1.0), "growth_rate": 1e-4, "z": 3.37},
    "sigmoid_falling": {"eps": 0.2, "psi": 0.05, "growth_rate": spread(5e-4, 2e-3)},
}


def kind(name):
    return name.split("_")[0]


def trains():
    """Times of the spikes to each of four cells: few; many, then none; many, then few, twice; more
    and more. No two of a cell fall into one refractory time."""
    rng = np.random.default_rng(4)
    t = np.arange(0.0, DURATION - 10.0, 3.0)
    part = t / DURATION
    rates = (
        np.full(t.size, 5.0),
        60.0 * (part < 0.3),
        np.where((part < 0.25) | ((part > 0.6) & (part < 0.75)), 60.0, 3.0),
        80.0 * part,
    )  # Hz
    return [np.round(t[rng.random(t.size) < rate * 3e-3] + 0.7, 1) for rate in rates]


def network(calcium, elements, spikes, *, i_e: Any = 0.0, ca: Any = 0.0, rewiring=None):
    """As many cells as there are lists of spike times."""
    made, initial = {}, {"ca": ca}
    for name, given in elements.items():
        own = dict(given)
        initial[name] = own.pop("z", 0.0)
        parts = {key: own.pop(key) for key in ("eta", "eps", "psi") if key in own}
        made[name] = SynapticElements(CURVES[kind(name)](**parts), **own)
    n = len(spikes)
    population = jsnn.Population(
        LIF(i_e=i_e), n, {"x": Delta()}, calcium=calcium, elements=made, initial=initial
    )
    cells = np.repeat(np.arange(n), [len(own) for own in spikes])
    inputs = {"s": SpikeList("cells", np.concatenate(spikes), cells, KICK, delay=1.0)}
    return jsnn.Network({"cells": population}, inputs=inputs, dt=DT, rewiring=rewiring)


def run(net, every):
    """Samples `[time, n]` by name, and (step, cell) of the spikes."""
    states = net.populations["cells"].growth.states
    record = {name: States("cells", name, every=every) for name in states}
    every_one = record | {"spikes": Spikes("cells")}
    records = jsnn.simulate(net, net.init(KEY), round(DURATION / DT), every_one).records
    values = {name: np.asarray(records[name].values) for name in states}
    found = records["spikes"].listed()
    return values, list(zip(found.steps.tolist(), found.index.tolist(), strict=True))


@pytest.fixture(scope="module")
def as_nest():
    """By whether there are updates: samples and spikes."""
    made = {}
    with jax.enable_x64(True):
        calcium, spikes = Calcium(TAU, BETA, as_nest=True), [[]] * (N - 4) + trains()
        for rewiring, every in ((None, 100.0), (Rewiring(EVERY), EVERY)):
            net = network(calcium, ELEMENTS, spikes, i_e=CURRENTS, rewiring=rewiring)
            made[rewiring is not None] = run(net, every)
    return made


def on_nest(durations, updates=False):
    """What is there after each of consecutive runs, `[runs, n]` by name, and the spikes."""
    cells = pytest.importorskip("cells")
    nest = cells.nest
    cells.fresh_kernel()
    if updates:
        # Between elements that no cell has: none of them is ever paired
        none = {"synapse_model": "static_synapse"}
        none |= {"pre_synaptic_element": "none", "post_synaptic_element": "none either"}
        nest.structural_plasticity_synapses = {"none": none}
        nest.structural_plasticity_update_interval = EVERY
        nest.EnableStructuralPlasticity()
    params = {"I_e": CURRENTS, "tau_Ca": TAU, "beta_Ca": BETA}
    neurons = nest.Create("iaf_psc_delta", N, params)
    for i, neuron in enumerate(neurons):
        own = {}
        for name, given in ELEMENTS.items():
            values = {key: float(np.broadcast_to(x, N)[i]) for key, x in given.items()}
            own[name] = {"growth_curve": kind(name), **values}
        neuron.synaptic_elements = own
    for neuron, times in zip(neurons[N - 4 :], trains(), strict=True):
        source = nest.Create("spike_generator", params={"spike_times": times})
        nest.Connect(source, neuron, syn_spec={"weight": KICK, "delay": 1.0})
    recorder = nest.Create("spike_recorder")
    nest.Connect(neurons, recorder)
    found = {name: [] for name in ("ca", *ELEMENTS)}
    for duration in durations:
        nest.Simulate(duration)
        found["ca"].append(neurons.Ca)
        for name in ELEMENTS:
            found[name].append([own[name]["z"] for own in neurons.synaptic_elements])
    values = {name: np.array(own) for name, own in found.items()}
    return values, cells.nest_spikes(recorder, neurons)


def assert_nests(ours, theirs):
    """NEST's z is not negative at the end of its runs. Calcium goes up and down: what z is known to
    is a part of all that grew meanwhile; of defaults, 1 element / ms."""
    for name, wanted in theirs.items():
        found = np.maximum(ours[name], 0)
        most = DURATION * np.max(ELEMENTS.get(name, {}).get("growth_rate", 1.0))
        atol = 1e-15 if name == "ca" else 1e-10 * most
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=atol, err_msg=name)


@pytest.mark.parametrize("duration", [100.0, 2700.0, DURATION])
def test_one_run_of_nest(as_nest, duration):
    """Which looks at its elements at spikes and at the end only."""
    theirs, spikes = on_nest([duration])
    ours, own_spikes = as_nest[False]
    assert spikes == [own for own in own_spikes if own[0] < round(duration / DT)]
    sample = round(duration / 100.0) - 1
    assert_nests({name: own[[sample]] for name, own in ours.items()}, theirs)
    if duration == DURATION:
        rates = np.bincount([cell for _, cell in spikes], minlength=N) / DURATION * 1000
        assert rates[0] == 0 and rates.max() > 200 and len(set(rates)) == N


def test_every_second_between_updates(as_nest):
    """An update takes vacant elements; NEST's is at the start of the next run, as here."""
    theirs, spikes = on_nest([EVERY] * round(DURATION / EVERY), updates=True)
    ours, own_spikes = as_nest[True]
    assert spikes == own_spikes
    assert_nests(ours, theirs)
    for name in ("linear_falling", "gaussian_falling", "sigmoid_falling"):
        gone = theirs[name] == 0
        assert np.any(gone[:-1] & ~gone[1:]), name  # and grown anew
    assert np.any(theirs["gaussian_slow"] < as_nest[False][0]["gaussian_slow"][9::10] - 0.1)


SHAPES = {
    "linear": lambda ca, eps: 1 - ca / eps,
    "gaussian": lambda ca, eps, eta: (
        2 * np.exp(-(((ca - (eta + eps) / 2) * 2 * np.sqrt(np.log(2)) / (eta - eps)) ** 2)) - 1
    ),
    "sigmoid": lambda ca, eps, psi: 2 / (1 + np.exp((ca - eps) / psi)) - 1,
}


def by_quadrature(name, given, spikes, tau, beta, ca, start=0.0):
    """Calcium at the end, and what has grown from `start` on, of a cell with spikes at such times
    (ms): calcium is known in between, and SciPy integrates the curve of it."""
    edges = np.concatenate([[0.0], spikes, [DURATION]])
    at = np.empty(edges.size - 1)  # after each spike
    for i, length in enumerate(np.diff(edges)):
        at[i] = ca if i == 0 else ca + beta
        ca = at[i] * np.exp(-length / tau)
    first = np.searchsorted(edges, start, "right") - 1
    begin, at, end = edges[first:-1].copy(), at[first:].copy(), edges[first + 1 :]
    at[0] *= np.exp(-(max(start, begin[0]) - begin[0]) / tau)
    begin[0] = max(start, begin[0])
    own = {key: x for key, x in given.items() if key in ("eta", "eps", "psi")}
    length, shape = end - begin, SHAPES[kind(name)]
    slope = lambda u: length * shape(at * np.exp(-u * length / tau), **own)  # noqa: E731
    grown, _ = quad_vec(slope, 0.0, 1.0, epsabs=1e-13, epsrel=1e-13, norm="max")
    return ca, given["growth_rate"] * np.sum(grown)


def cell_of(given, i, n):
    return {key: np.broadcast_to(x, n)[i] for key, x in given.items()}


def times_of(spikes, cell):
    return DT * (1 + np.array([step for step, own in spikes if own == cell]))


def test_what_is_nests_own_is_little(as_nest):
    """Under `Linear`, which NEST solves, nothing. Under the others its steps take the curve at
    their ends, which counts wherever a spike moves it: half a step for each of them."""
    values, spikes = as_nest[False]
    for name in ("linear_slow", "gaussian_slow", "sigmoid_slow"):
        errors = []
        for i in range(1, N):
            given = cell_of(ELEMENTS[name], i, N)
            if values[name][:, i].min() <= 0.1:  # it may have been kept from being negative
                continue
            ca, grown = by_quadrature(name, given, times_of(spikes, i), TAU[i], BETA[i], 0.0)
            assert values["ca"][-1, i] == pytest.approx(ca, rel=1e-12)
            errors.append(abs(values[name][-1, i] - given["z"] - grown))
        assert len(errors) >= 4
        if name == "linear_slow":
            assert max(errors) < 1e-10
        else:
            assert 1e-6 < max(errors) < 1e-4


# Of cells that fire every 16 ms, and as the trains have it; the first starts in its steady state,
# near which there is the set point of its elements
REGULAR = np.arange(16.0, DURATION - 10.0, 16.0)
STEADY = 1e-3 / -np.expm1(-16.0 / 5e3)
LASTING = {"tau": np.array([5e3, 1e4, 4e3, 3e3, 1e4]), "beta": np.array([1, 5, 2, 4, 2]) * 1e-3}
FIRST = np.array([STEADY, 0.0, 0.5, 0.1, 1.0])
LEVEL = np.array([1.01 * 5.0 / 16, 0.2, 0.3, 0.3, 0.5])
FREE = {
    "linear": {"eps": LEVEL},
    "gaussian": {"eps": LEVEL, "eta": 0.05},
    "sigmoid": {"eps": LEVEL, "psi": 0.1},
}
FREE = {name: {**own, "growth_rate": 1e-4, "z": 10.0} for name, own in FREE.items()}
LOST = {f"{name}_lost": {**own, "growth_rate": 1e-3, "z": 0.4} for name, own in FREE.items()}


@pytest.fixture(scope="module")
def exact():
    """By precision, samples of every step and spikes."""
    made = {}
    for wide in (True, False):
        with jax.enable_x64(wide):
            calcium = Calcium(LASTING["tau"], LASTING["beta"])
            net = network(calcium, FREE | LOST, [REGULAR, *trains()], ca=FIRST)
            made[wide] = run(net, None)
    return made


@pytest.mark.parametrize("name", list(FREE))
def test_quadrature(exact, name):
    values, spikes = exact[True]
    for i in range(5):
        given, mine = cell_of(FREE[name], i, 5), times_of(spikes, i)
        tau, beta = (LASTING[key][i] for key in ("tau", "beta"))
        ca, grown = by_quadrature(name, given, mine, tau, beta, FIRST[i])
        assert values["ca"][-1, i] == pytest.approx(ca, rel=1e-12)
        assert values[name][-1, i] == pytest.approx(given["z"] + grown, rel=1e-10)


@pytest.mark.parametrize("name", list(FREE))
def test_all_lost_and_grown_anew(exact, name):
    """After the last spike calcium falls, and elements grow from when it is at the set point."""
    (values, spikes), i = exact[True], 2
    z, ca, given = values[f"{name}_lost"][:, i], values["ca"][:, i], cell_of(FREE[name], i, 5)
    assert z.min() == 0
    last = times_of(spikes, i)[-1]
    step = round(last / DT) - 1
    start = last + LASTING["tau"][i] * np.log(ca[step] / given["eps"])
    assert z[round(start / DT) - 2] == 0
    given["growth_rate"] = 1e-3
    tau, beta = (LASTING[key][i] for key in ("tau", "beta"))
    mine = times_of(spikes, i)
    _, grown = by_quadrature(name, given, mine, tau, beta, FIRST[i], start)
    assert grown > 0.1 and z[-1] == pytest.approx(grown, rel=1e-8)


def test_single_precision(exact):
    """What a step adds is less than half of the last digit of z, and still it counts."""
    (wide, spikes), (narrow, same) = exact[True], exact[False]
    assert spikes == same
    for name, own in narrow.items():
        assert own.dtype == np.float32
        np.testing.assert_allclose(own[-1], wide[name][-1], rtol=1e-5, atol=1e-6, err_msg=name)
    for name in FREE:
        changes = np.diff(wide[name][:, 0])
        assert np.abs(changes).max() < np.spacing(np.float32(10.0)) / 2
        plain = np.cumsum(np.array([10.0, *changes]), dtype=np.float32)[-1]
        error = np.abs(np.array([plain, narrow[name][-1, 0]], float) - wide[name][-1, 0])
        assert error[0] > 1e-2 and error[1] < 1e-4


def small(*, as_nest=False, rewiring=None, delivery=None, more=None, **initial):
    """Four cells, of which some lose all elements."""
    population = jsnn.Population(
        LIF(i_e=np.array([0.0, 450.0, 800.0, 1500.0])),
        4,
        slices={"some": slice(1, 3)},
        calcium=Calcium(np.array([50.0, 40.0, 60.0, 50.0]), 0.1, as_nest),
        elements={
            "axon": SynapticElements(Gaussian(0.1, 0.7), np.array([0.05, 0.04, 0.1, 0.03])),
            "spine": SynapticElements(Sigmoid(0.5, np.array([0.1, 0.2, 0.3, 0.4])), 0.05, 0.5),
            "bead": SynapticElements(Linear(np.array([0.3, 0.4, 0.5, 0.6])), 0.04, 0.2),
        },
        initial={"axon": 2.3, "spine": 0.6, **initial},
    )
    more = {} if more is None else more
    return jsnn.Network({"cells": population, **more}, dt=DT, rewiring=rewiring, delivery=delivery)


def growth_of(net):
    return net.populations["cells"].growth


@pytest.mark.slow
@pytest.mark.parametrize("as_nest", [False, True])
def test_gradients(x64, as_nest):
    """Of the means of calcium and of all elements, against central differences; once with updates,
    which take a part of what is vacant."""
    rewiring = Rewiring(30.0) if as_nest else None
    net = small(
        as_nest=as_nest,
        rewiring=rewiring,
        delivery=jsnn.SegmentSum(),
        **{"ca": np.linspace(0.1, 0.4, 4), "bead": 1.7},
    )
    own = growth_of(net)
    parts = (own, net.populations["cells"].initial)
    wanted, static = eqx.partition(parts, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(wanted)
    record = {name: States("cells", name) for name in own.states}
    rng = np.random.default_rng(0)
    weights = {name: rng.uniform(0.5, 1.5, 4) for name in own.states}

    def loss(flat):
        growth, initial = eqx.combine(unravel(flat), static)
        where = lambda net: (net.populations["cells"].growth, net.populations["cells"].initial)
        changed = eqx.tree_at(where, net, (growth, initial))
        records = jsnn.simulate(changed, changed.init(KEY), 1000, record).records
        return sum(jnp.mean(records[name].values, 0) @ weights[name] for name in own.states)

    h = 1e-6
    steps = h * jnp.eye(flat.size)
    at = jnp.concatenate([flat[None], flat + steps, flat - steps])
    # All in one program, which takes longer to compile than to run
    losses, slopes = jax.jit(jax.vmap(jax.value_and_grad(loss)))(at)
    slopes, (above, below) = slopes[0], jnp.split(losses[1:], 2)
    differences = (above - below) / (2 * h)
    np.testing.assert_allclose(slopes, differences, rtol=1e-6, atol=1e-8)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(unravel(slopes))]
    for name, leaf in zip(names, jax.tree.leaves(unravel(slopes)), strict=True):
        no_part = "tau_vacant" in name and not as_nest  # it is of updates alone
        assert np.any(np.abs(leaf) > 1e-5) != no_part, name


def test_values_at_the_start():
    drawn = small(axon=Uniform(2.0, 3.0), ca=np.arange(4.0), spine=1.5)
    values = drawn.init(KEY).populations["cells"].growth
    axon = np.asarray(values["axon"])
    assert np.all((axon >= 2) & (axon < 3)) and np.unique(axon).size == 4
    assert np.any(axon != drawn.init(jax.random.key(1)).populations["cells"].growth["axon"])
    np.testing.assert_array_equal(values["ca"], np.arange(4.0))
    np.testing.assert_array_equal(values["spine"], np.full(4, 1.5))
    np.testing.assert_array_equal(values["bead"], np.zeros(4))


def test_elements_imply_calcium():
    elements = {"axon": SynapticElements()}
    assert jsnn.Population(LIF(), 2, elements=elements).states == ["v", "ca", "axon"]
    assert jsnn.Population(LIF(), 2, calcium=Calcium()).states == ["v", "ca"]
    assert jsnn.Population(LIF(), 2).states == ["v"]
    own = elements["axon"]
    assert isinstance(own.curve, Linear) and own.continuous is True
    assert (float(own.growth_rate), float(own.curve.eps)) == (1.0, pytest.approx(0.7))
    assert float(own.tau_vacant) == pytest.approx(0.1)


def test_a_bell_has_no_first_and_last(x64):
    """It does not matter which of its levels is called eta."""
    ca = jnp.linspace(0.0, 2.0, 9)
    one, other = (Gaussian(*levels).prepare()(ca) for levels in ((0.2, 1.1), (1.1, 0.2)))
    np.testing.assert_allclose(one, other, rtol=1e-14)
    np.testing.assert_allclose(Gaussian(0.5, 1.0).prepare()(ca)[jnp.array([2, 4])], 0, atol=1e-15)


def test_a_sigmoid_does_not_overflow():
    curve = Sigmoid(0.5, 1e-4).prepare()
    np.testing.assert_array_equal(curve(jnp.array([0.0, 0.5, 1e6])), [1.0, 0.0, -1.0])
    assert np.isfinite(jax.grad(lambda ca: curve(ca))(1e6))


def test_recorders_and_runs_that_are_cut():
    """Between updates and at one. No element is connected where nothing is."""
    net = small(as_nest=True, rewiring=Rewiring(5.0))
    record = {name: States("cells", name) for name in ("ca", "axon", "axon.connected")}
    record |= {"some": States("cells.some", "axon", every=1.0)}
    every_one = record | {"spikes": Spikes("cells")}
    whole = jsnn.simulate(net, net.init(KEY), 300, every_one)
    found, state = [], net.init(KEY)
    for _ in range(4):
        part = jsnn.simulate(net, state, 75, every_one)
        state = part.state
        found.append({name: np.asarray(part.records[name].values) for name in record})
    values = {name: np.asarray(whole.records[name].values) for name in record}
    for name, own in values.items():
        joined = np.concatenate([part[name] for part in found])
        np.testing.assert_array_equal(own, joined, err_msg=name)
    for name, own in whole.state.populations["cells"].growth.items():
        np.testing.assert_array_equal(own, state.populations["cells"].growth[name], err_msg=name)

    np.testing.assert_array_equal(values["some"], values["axon"][9::10, 1:3])
    connected = values["axon.connected"]
    assert connected.dtype == np.int32 and connected.shape == (300, 4) and not np.any(connected)
    raster = np.asarray(whole.records["spikes"].raster)
    assert np.all(raster.any(0) == [False, True, True, True])
    tau, ca = np.array([50.0, 40.0, 60.0, 50.0]), np.zeros(4)
    for step, own in enumerate(values["ca"]):
        ca = ca * np.exp(-DT / tau) + 0.1 * raster[step]
        np.testing.assert_allclose(own, ca, rtol=1e-5)


def test_many_growth_rates_at_once(x64):
    net = small()
    rates = jnp.array([0.0, 0.02, -0.03, 0.2])

    def ends(rate):
        where = lambda net: growth_of(net).elements["axon"].growth_rate
        changed = eqx.tree_at(where, net, rate)
        return jsnn.simulate(changed, net.init(KEY), 500).state.populations["cells"].growth

    together = jax.jit(jax.vmap(ends))(rates)
    single = jax.jit(ends)
    for i, rate in enumerate(rates):
        for name, own in single(rate).items():
            np.testing.assert_allclose(together[name][i], own, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(together["axon"][0], np.full(4, 2.3))
    assert np.ptp(np.asarray(together["axon"]), 0).min() > 0.1


def main(path):
    """Runs on one device and on two, as arrays by name."""
    made, net = {}, small(as_nest=True, rewiring=Rewiring(10.0))
    for count in (1, 2):
        state = jsnn.simulate(net.on(count), net.init(jax.random.key(0)), 400).state
        growth = state.populations["cells"].growth
        made |= {f"{count} {name}": np.asarray(own) for name, own in growth.items()}
    np.savez(path, **made)


def test_two_devices(tmp_path):
    path = tmp_path / "runs.npz"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    # By a flag: what this file is made of starts JAX before it could be told
    environment |= {"JAX_PLATFORMS": "cpu"}
    environment |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    made = dict(np.load(path))
    assert len(made) == 2 * 12
    for name, own in made.items():
        np.testing.assert_array_equal(own, made[f"1{name[1:]}"], err_msg=name)


def making(kind: Any, *values, **named):
    """A call whose arguments may be of any type."""
    return lambda: kind(*values, **named)


def elements(what: Any):
    return lambda: jsnn.Population(LIF(), 4, {"x": Exponential(2.0)}, elements=what)


def named(name):
    return elements({name: SynapticElements()})


def starting(**initial):
    return lambda: jsnn.Population(LIF(), 4, elements={"axon": SynapticElements()}, initial=initial)


def growing(**parameters):
    return lambda: elements({"axon": SynapticElements(**parameters)})()


def replaced(where, value):
    """A run of a network one of whose parameters was replaced."""

    def simulated():
        net = eqx.tree_at(lambda net: where(growth_of(net)), small(), value)
        jsnn.simulate(net, small().init(KEY), 10)

    return simulated


def of_other(net):
    return lambda: jsnn.simulate(small(), net().init(KEY), 10)


def plain():
    return jsnn.Network({"cells": jsnn.Population(LIF(), 4)}, dt=DT)


WRONG = {
    "eps": (making(Linear, -0.1), ValueError, "eps=-0.1 must be above 0"),
    "eps 0": (making(Linear, 0.0), ValueError, "eps=0.0 must be above 0"),
    "eps word": (making(Linear, "a"), TypeError, "eps='a' is not a number"),
    "levels": (making(Gaussian, 0.3, 0.3), ValueError, "eta=0.3 and eps=0.3 are equal"),
    "a level": (
        making(Gaussian, np.array([0.1, 0.7])),
        ValueError,
        "eta=array.* and eps=0.7 are equal",
    ),
    "eta": (making(Gaussian, np.nan), ValueError, "eta=nan is not finite"),
    "infinite": (making(Gaussian, 0.1, np.inf), ValueError, "eps=inf is not finite"),
    "psi": (making(Sigmoid, psi=0.0), ValueError, "psi=0.0 must be above 0"),
    "sigmoid": (making(Sigmoid, eps=np.nan), ValueError, "eps=nan is not finite"),
    "curve": (making(SynapticElements, 0.7), TypeError, "curve=0.7 is no growth curve"),
    "class": (making(SynapticElements, Linear), TypeError, "curve=.*Linear.* is no growth curve"),
    "growth_rate": (growing(growth_rate=np.nan), ValueError, "growth_rate=nan is not finite"),
    "tau_vacant": (growing(tau_vacant=1.5), ValueError, "tau_vacant=1.5 must be at most 1"),
    "negative": (growing(tau_vacant=-0.1), ValueError, "tau_vacant=-0.1 must be at least 0"),
    "continuous": (growing(continuous=1), TypeError, "continuous=1; give True or False"),
    "tau_ca": (making(Calcium, 0.0), ValueError, "tau_ca=0.0 must be above 0"),
    "beta_ca": (making(Calcium, beta_ca=-1.0), ValueError, "beta_ca=-1.0 must be above 0"),
    "as_nest": (making(Calcium, as_nest="yes"), TypeError, "as_nest='yes'; give True or False"),
    "calcium": (
        making(jsnn.Population, LIF(), 4, calcium=0.1),
        TypeError,
        "calcium=0.1 is no trace; give one, as Calcium",
    ),
    "list": (elements([SynapticElements()]), TypeError, "elements=(?s:.*) is not a dictionary"),
    "element": (elements({"axon": Linear()}), TypeError, "element 'axon' is .*SynapticElements"),
    "number": (elements({3: SynapticElements()}), ValueError, "element name 3: give a word"),
    "dots": (named("a.b"), ValueError, "element name 'a.b': give a word without dots"),
    "empty": (named(""), ValueError, "element name '': give a word"),
    "cell": (named("v"), ValueError, "element 'v': a state or receptor has this name"),
    "receptor": (named("x"), ValueError, "element 'x': a state or receptor has this name"),
    "called ca": (named("ca"), ValueError, "element 'ca': a state or receptor has this name"),
    "counter": (named("refractory"), ValueError, "element 'refractory': a state or receptor"),
    "receptor ca": (
        lambda: jsnn.Population(LIF(), 4, {"ca": Delta()}, calcium=Calcium()),
        ValueError,
        "receptor 'ca': calcium has this name",
    ),
    "astrocytes": (
        lambda: jsnn.Population(LiRinzel(), 4, calcium=Calcium()),
        ValueError,
        "LiRinzel fires no spikes that would leave calcium",
    ),
    "of astrocytes": (
        lambda: jsnn.Population(LiRinzel(), 4, elements={"axon": SynapticElements()}),
        ValueError,
        "LiRinzel fires no spikes that would leave calcium",
    ),
    "shape": (growing(growth_rate=np.ones(5)), ValueError, r"growth_rate has shape \(5,\).*\(4,\)"),
    "of curve": (growing(curve=Linear(np.ones(5))), ValueError, r"axon.*eps has shape \(5,\)"),
    "of calcium": (
        lambda: jsnn.Population(LIF(), 4, calcium=Calcium(np.ones(5))),
        ValueError,
        r"calcium.tau_ca has shape \(5,\)",
    ),
    "unknown": (starting(axn=1.0), ValueError, "unknown state 'axn': did you mean 'axon'"),
    "z": (starting(axon=-0.5), ValueError, r"initial\['axon'\]=-0.5 must be at least 0"),
    "ca": (starting(ca=-0.5), ValueError, r"initial\['ca'\]=-0.5 must be at least 0"),
    "counts": (starting(**{"axon.connected": 1}), ValueError, "unknown state 'axon.connected'"),
    "first": (starting(axon=np.ones(5)), ValueError, r"initial\['axon'\] has shape \(5,\)"),
    "no calcium": (
        lambda: jsnn.simulate(plain(), plain().init(KEY), 10, {"r": States("cells", "ca")}),
        ValueError,
        "record 'r': unknown state of 'cells' 'ca'",
    ),
    "other state": (of_other(plain), ValueError, "state is of another network.*'axon'"),
    # What was put in the place of others
    "new growth_rate": (
        replaced(lambda g: g.elements["axon"].growth_rate, np.nan),
        ValueError,
        "'cells': element 'axon': growth_rate=nan is not finite",
    ),
    "new tau_vacant": (
        replaced(lambda g: g.elements["bead"].tau_vacant, 2.0),
        ValueError,
        "element 'bead': tau_vacant=2.0 must be at most 1",
    ),
    "new psi": (
        replaced(lambda g: g.elements["spine"].curve.psi, -1.0),
        ValueError,
        "element 'spine': curve: psi=-1.0 must be above 0",
    ),
    "new levels": (
        replaced(lambda g: g.elements["axon"].curve.eps, np.float32(0.1)),
        ValueError,
        "element 'axon': curve: eta=.* are equal",
    ),
    "new curve": (
        replaced(lambda g: g.elements["axon"].curve, "gaussian"),
        TypeError,
        "element 'axon': curve='gaussian' is no growth curve",
    ),
    "new tau_ca": (
        replaced(lambda g: g.calcium.tau_ca, -5.0),
        ValueError,
        "'cells': calcium: tau_ca=-5.0 must be above 0",
    ),
    "short tau_ca": (
        replaced(lambda g: g.calcium.tau_ca, 1e-6),
        ValueError,
        "tau_ca=1e-06 ms is too short for steps of dt=0.1 ms",
    ),
    "new shape": (
        replaced(lambda g: g.elements["axon"].growth_rate, np.ones(5)),
        ValueError,
        r"'cells': .*growth_rate has shape \(5,\)",
    ),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_what_is_wrong_is_said(case):
    attempt, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        attempt()


if __name__ == "__main__":
    main(sys.argv[1])
