"""Infinite thresholds, NEST's idiom for a membrane that never fires: values and gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn.inputs import SpikeList
from jsnn.neurons import LIF, AdEx, HodgkinHuxley
from jsnn.receptors import Delta, Exponential
from jsnn.record import Spikes, States
from jsnn.surrogate import Arctan, Boxcar, Sigmoid, SuperSpike, Triangular

INF, KEY, STEPS = np.inf, jax.random.key(1), 200
SURROGATES = [Triangular(), Boxcar(), SuperSpike(), Arctan(), Sigmoid(), Sigmoid(reach=5.0)]
RECORD = {"s": Spikes("c"), "v": States("c", "v")}
# Without an upstroke it is linear: that of the adaptation is taken out
FLAT = {
    "delta_t": 0.0,
    "a": 0.0,
    "b": 0.0,
    "c_m": 250.0,
    "g_l": 25.0,
    "e_l": -70.0,
    "v_reset": -70.0,
}


def network(neuron, n=1, surrogate=None, receptors=None):
    cells = jsnn.Population(neuron, n, receptors or {"d": Delta()}, surrogate=surrogate)
    return jsnn.Network({"c": cells}, dt=0.1, delivery=jsnn.SegmentSum())


def approach(t, tau_m=10.0, c_m=250.0, i_e=500.0):
    """The membrane without a threshold, from rest: to R I, exponentially."""
    return -70.0 + i_e * tau_m / c_m * (1 - np.exp(-t / tau_m))


@pytest.mark.parametrize(
    "neuron",
    [
        LIF(v_th=[INF, -55.0, INF], i_e=500.0),
        AdEx(v_th=[INF, -55.0, INF], v_peak=[INF, 0.0, INF], i_e=500.0, t_ref=2.0, **FLAT),
    ],
)
def test_it_never_fires_and_follows_the_closed_form(x64, neuron):
    """-50 mV, 5 above the threshold of the cell between, which fires as it does alone."""
    found = jsnn.run(network(neuron, 3), 100.0, key=KEY, record=RECORD, progress=False)
    v = found.records["v"]
    for cell in (0, 2):
        np.testing.assert_allclose(v.values[:, cell], approach(v.times), atol=1e-4)
    assert set(found.records["s"].index.tolist()) == {1}
    alone = jax.tree.map(lambda leaf: leaf[1] if leaf.ndim else leaf, neuron)
    alone = jsnn.run(network(alone), 100.0, key=KEY, record=RECORD, progress=False)
    assert found.records["s"].steps.tolist() == alone.records["s"].steps.tolist()
    np.testing.assert_allclose(v.values[:, 1], alone.records["v"].values[:, 0], atol=1e-9)
    assert alone.records["s"].steps.size == 6  # 13.9 ms to threshold, and 2 ms refractory


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda own: type(own).__name__)
def test_gradients_are_those_of_the_closed_form(x64, surrogate):
    def last(neuron):
        net = network(neuron, surrogate=surrogate)
        found = jsnn.simulate(net, net.init(KEY), STEPS, {"v": States("c", "v")})
        return found.records["v"].values[-1, 0]

    slopes = eqx.filter_grad(last)(LIF(v_th=INF, i_e=500.0))
    t, h = STEPS * 0.1, 1e-4
    for name, value in (("tau_m", 10.0), ("c_m", 250.0), ("i_e", 500.0)):
        ends = [approach(t, **{name: value + own}) for own in (h, -h)]
        np.testing.assert_allclose(getattr(slopes, name), (ends[0] - ends[1]) / (2 * h), rtol=1e-5)
    assert (slopes.v_th, slopes.v_reset, slopes.t_ref) == (0, 0, 0)


@pytest.mark.slow
def test_gradients_of_an_adaptive_membrane(x64):
    """Beside a cell that has a threshold; finite differences of the current."""

    @eqx.filter_jit
    def last(neuron):
        net = network(neuron, 2)
        found = jsnn.simulate(net, net.init(KEY), STEPS, {"v": States("c", "v")})
        return found.records["v"].values[-1, 0]

    changed = {**FLAT, "a": 4.0, "tau_w": 30.0, "e_l": -65.0}

    def of(i_e):
        thresholds = {"v_th": [INF, -50.0], "v_peak": [INF, 0.0]}
        return AdEx(i_e=i_e, **thresholds, **{**changed, "delta_t": [0.0, 2.0]})

    slopes = eqx.filter_jit(eqx.filter_grad(last))(of(500.0))
    assert all(np.all(np.isfinite(own)) for own in jax.tree.leaves(slopes))
    difference = (last(of(500.01)) - last(of(499.99))) / 0.02
    np.testing.assert_allclose(slopes.i_e, difference, rtol=1e-6)
    assert not np.any(slopes.v_th) and not np.any(slopes.v_peak) and abs(slopes.i_e) > 0.01


def test_float32_and_channels():
    """Found and recorded in single precision, too; the squid's axon has maxima, and no spike."""
    net = network(LIF(v_th=INF, i_e=500.0), receptors={"e": Exponential(2.0)})
    values = jsnn.run(net, 100.0, key=KEY, record=RECORD, progress=False).records["v"].values
    np.testing.assert_allclose(values[-1], -50.0, atol=1e-2)
    squid = HodgkinHuxley.squid(i_e=1000.0)
    counts = [
        jsnn.run(network(own), 50.0, key=KEY, progress=False).stats["spikes"]["c"]
        for own in (squid, eqx.tree_at(lambda s: s.v_th, squid, jnp.asarray(INF)))
    ]
    assert counts[0] > 1 and counts[1] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(v_th=-INF), "v_th=-inf"),
        (lambda: LIF(v_th=np.nan), "v_th=nan is not finite"),
        (lambda: LIF(v_reset=INF), "v_reset=inf is not finite"),
        (lambda: HodgkinHuxley.squid(i_e=INF), "i_e=inf is not finite"),
        (lambda: AdEx(v_peak=INF), "v_peak=inf must be below infinity.*delta_t is not 0"),
        (lambda: AdEx(v_th=INF, delta_t=0.0), "v_th=inf must be at most v_peak=0"),
        (lambda: jsnn.nest.iaf_psc_exp(1, V_th=-INF), "V_th=-inf"),
        (lambda: jsnn.nest.iaf_psc_exp(1, V_th=[INF, np.nan]), "V_th=.*nan.* is not finite"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("iaf_psc_delta", {}),
        ("iaf_psc_exp", {}),
        ("iaf_psc_alpha", {}),
        ("iaf_cond_exp", {}),
        ("iaf_cond_alpha", {}),
        ("aeif_cond_alpha", {"V_peak": INF, "Delta_T": 0.0}),
    ],
)
def test_the_membrane_is_nests(x64, model, params):
    """Driven far above what its threshold would be."""
    nest = pytest.importorskip("nest")
    nest.ResetKernel()
    params = {"V_th": INF, "I_e": 900.0, **params}
    weight = 5.0 if "cond" in model or "delta" in model else 500.0
    cell = nest.Create(model, 1, params)
    source = nest.Create("spike_generator", 1, {"spike_times": [20.0]})
    nest.Connect(source, cell, syn_spec={"weight": weight, "delay": 1.0})
    meter = nest.Create("multimeter", 1, {"record_from": ["V_m"], "interval": 0.1})
    nest.Connect(meter, cell)
    nest.Simulate(60.0)
    population = getattr(jsnn.nest, model)(1, **params)
    receptor = "ex" if "ex" in population.receptors else "delta"
    spikes = SpikeList("c", [20.0], [0], weight, receptor, delay=1.0)
    net = jsnn.Network({"c": population}, inputs={"s": spikes}, dt=0.1)
    found = jsnn.run(net, 60.0, key=KEY, record=RECORD, progress=False)
    theirs = meter.events["V_m"]
    assert found.stats["spikes"]["c"] == 0 and theirs.max() > -45
    ours = found.records["v"].values[: theirs.size, 0]
    np.testing.assert_allclose(ours, theirs, atol=5e-3 if "cond" in model else 1e-9)
