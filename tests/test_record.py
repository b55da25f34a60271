"""Records against the reference, one step at a time: values, times, every k, parts, odd cuts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn.connect import FixedIndegree
from jsnn.inputs import Poisson
from jsnn.neurons import LIF
from jsnn.receptors import Delta, Exponential
from jsnn.record import Counts, Spikes, States

pytestmark = pytest.mark.fast

DT, STEPS, N = 0.1, 61, 40

RECORD = {
    "spikes": Spikes("a"),
    "part": Spikes("a.part"),
    "counts": Counts("a", 0.7),
    "counts of part": Counts("a.part", 0.5),
    "v": States("a", "v"),
    "v every 7": States("a", "v", every=0.7),
    "some": States("a", "v", index=[30, 2, 2, 17], every=0.3),
    "range": States("a.part", "e.i", index=slice(3, 8)),
    "part of filter": States("a.part", "e.i", every=1.0),
    "refractory": States("a", "refractory", index=5),
}


@pytest.fixture(scope="module")
def net():
    cells = jsnn.Population(
        LIF(i_e=350.0, t_ref=0.4),
        N,
        {"e": Exponential(2.0), "d": Delta()},
        slices={"part": slice(11, 33)},
        initial={"v": jsnn.distributions.Uniform(-70.0, -55.0)},
    )
    rule = FixedIndegree(5)
    return jsnn.Network(
        {"a": cells},
        {"p": jsnn.Projection("a", "a", rule, weight=20.0, delay=0.4, receptor="e")},
        {"i": Poisson("a", 3000.0, 2.0, "d")},
        dt=DT,
        key=jax.random.key(1),
    )


@pytest.fixture(scope="module")
def reference(net):
    """By step: spikes, membranes, currents, and steps left of refractoriness."""
    state, rows = net.init(jax.random.key(2)), []
    step = eqx.filter_jit(lambda net, state: net.step(state))
    for _ in range(STEPS):
        state, fired = step(net, state)
        own = state.populations["a"]
        rows.append((fired["a"] > 0, own.cell["v"], own.receptors["e"]["i"], own.refractory))
    return [np.stack(column) for column in zip(*rows, strict=True)]


def cuts(net, *lengths):
    """Solutions of consecutive runs."""
    state = net.init(jax.random.key(2))
    for length in lengths:
        solution = jsnn.simulate(net, state, length, RECORD)
        yield solution
        state = solution.state


@pytest.fixture(scope="module", params=[(61,), (9, 1, 1, 9, 9, 9, 9, 9, 5)], ids=["whole", "cut"])
def parts(net, request):
    """The records of each part of a run; blocks are of 4 steps, so these cuts are all odd."""
    return [solution.records for solution in cuts(net, *request.param)]


def joined(parts, name):
    values = np.concatenate([np.asarray(part[name].values) for part in parts])
    return values, np.concatenate([part[name].times for part in parts])


def stamps(steps):
    return np.round((steps + 1) * DT, 9)


def test_something_happens(reference):
    spikes = reference[0]
    assert spikes.sum() > 40 and spikes[:, 11:33].sum() > 20


@pytest.mark.parametrize("name, low, high", [("spikes", 0, N), ("part", 11, 33)])
def test_spikes(parts, reference, name, low, high):
    spikes = reference[0][:, low:high]
    raster = np.concatenate([np.asarray(part[name].raster) for part in parts])
    np.testing.assert_array_equal(raster, spikes)
    step, index = np.nonzero(spikes)
    np.testing.assert_array_equal(np.concatenate([p[name].times for p in parts]), stamps(step))
    np.testing.assert_array_equal(np.concatenate([p[name].index for p in parts]), index)
    assert parts[0][name].n == high - low


def test_times_are_rounded_to_what_the_user_would_write(parts):
    assert 0.3 in parts[0]["v"].times  # and not 0.30000000000000004


@pytest.mark.parametrize(
    "name, column, cells, every",
    [
        ("v", 1, np.arange(N), 1),
        ("v every 7", 1, np.arange(N), 7),
        ("some", 1, [30, 2, 2, 17], 3),
        ("range", 2, np.arange(14, 19), 1),
        ("part of filter", 2, np.arange(11, 33), 10),
        ("refractory", 3, [5], 1),
    ],
)
def test_states_are_sampled_at_multiples_of_every(parts, reference, name, column, cells, every):
    steps = np.arange(every - 1, STEPS, every)
    values, times = joined(parts, name)
    np.testing.assert_array_equal(times, stamps(steps))
    # JAX 0.12 rounds the two programs otherwise
    digits = 0 if jax.__version_info__ < (0, 11) else 1e-6
    np.testing.assert_allclose(values, reference[column][steps][:, cells], rtol=digits)


@pytest.mark.parametrize(
    "name, low, high, every", [("counts", 0, N, 7), ("counts of part", 11, 33, 5)]
)
def test_counts_are_of_the_interval_up_to_their_time(parts, reference, name, low, high, every):
    """A cut inside an interval divides its count; nothing is lost."""
    spikes = reference[0][:, low:high]
    values, times = joined(parts, name)
    bins = np.rint(times / DT).astype(int) // every - 1
    found = np.zeros((-(-STEPS // every), high - low), int)
    np.add.at(found, bins, values)
    wanted = np.zeros_like(found)
    np.add.at(wanted, np.arange(STEPS) // every, spikes)
    np.testing.assert_array_equal(found, wanted)


def test_no_steps(net):
    state = net.init(jax.random.key(2))
    solution = jsnn.simulate(net, state, 0, RECORD)
    assert int(solution.state.step) == 0
    assert solution.records["spikes"].times.size == solution.records["v"].times.size == 0
    assert solution.records["v"].values.shape == (0, N)


def test_batched_records_have_a_raster_and_say_how_to_take_one(net):
    keys = jax.random.split(jax.random.key(3), 2)
    batch = jax.tree.map(lambda *x: jnp.stack(x), *map(net.init, keys))
    record = {"s": Spikes("a.part"), "v": States("a", "v", every=0.5)}
    records = jax.vmap(lambda s: jsnn.simulate(net, s, 16, record).records)(batch)
    assert records["s"].raster.shape == (2, 16, 22)
    assert records["v"].values.shape == (2, 3, N) and records["v"].times.tolist() == [0.5, 1.0, 1.5]
    with pytest.raises(ValueError, match="batched.*tree.map"):
        _ = records["s"].times


@pytest.mark.parametrize(
    "recorder, error, message",
    [
        (Spikes("b"), ValueError, "unknown population 'b'.*'a'"),
        (Spikes("a.prt"), ValueError, "unknown slice 'prt': did you mean 'part'"),
        (Counts("a", 0.25), ValueError, "every=0.25.*0.2 and 0.3"),
        (Counts("a", 0.0), ValueError, "every=0 ms must be at least 0.1"),
        (States("a", "u"), ValueError, "unknown state.*'u'.*'v'"),
        (States("a", "e.g"), ValueError, "unknown state.*'e.g'.*'e.i'"),
        (States("a", "v", every=-0.1), ValueError, "every=-0.1"),
        (States("a", "v", index=[40]), ValueError, "index.*40.*40 cells"),
        (States("a.part", "v", index=[22]), ValueError, "index.*22.*22 cells"),
        (States("a", "v", index=[-1]), ValueError, "index.*-1"),
        ("a", TypeError, r"record\['r'\].*Spikes"),
    ],
)
def test_recorders_that_do_not_fit(net, recorder, error, message):
    with pytest.raises(error, match=message):
        jsnn.simulate(net, net.init(jax.random.key(0)), 1, {"r": recorder})


@pytest.mark.parametrize(
    "index, error", [([], ValueError), ([0.5], TypeError), ([[1]], ValueError)]
)
def test_bad_index(index, error):
    with pytest.raises(error, match="index="):
        States("a", "v", index=index)


@pytest.mark.parametrize("steps, error", [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_bad_number_of_steps(net, steps, error):
    with pytest.raises(error, match=f"steps={steps}"):
        jsnn.simulate(net, net.init(jax.random.key(0)), steps)


def test_counts_have_gradients_without_synapses():
    """Of one step from v: slope of the surrogate times dv/di = (1 - exp(-dt / tau)) tau / c."""
    law = LIF(tau_m=10.0, c_m=100.0, e_l=-70.0)
    cells = jsnn.Population(law, 3, initial={"v": [-56.0, -54.0, -60.0]})
    net = jsnn.Network({"cells": cells}, dt=1.0)

    def count(i_e):
        own = eqx.tree_at(lambda n: n.populations["cells"].neuron.i_e, net, i_e)
        start, record = own.init(jax.random.key(0)), {"n": Counts("cells", every=1.0)}
        return jnp.sum(jsnn.simulate(own, start, 1, record).records["n"].values)

    kept = np.exp(-0.1)
    v = -70.0 + kept * np.array([14.0, 16.0, 10.0])
    wanted = np.maximum(0, 1 - np.abs(v + 55.0) / 5) / 5 * (1 - kept) * 10.0 / 100.0
    assert wanted[0] > 0 and wanted[2] == 0
    np.testing.assert_allclose(jax.grad(count)(jnp.zeros(3)), wanted, rtol=1e-4)
