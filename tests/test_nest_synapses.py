"""NEST's tsodyks synapses, live: the same postsynaptic traces."""

import jax
import numpy as np
import pytest
from cells import fresh_kernel

import jsnn
from jsnn.connect import AllToAll
from jsnn.inputs import SpikeList
from jsnn.neurons import LIF
from jsnn.receptors import Delta
from jsnn.record import States

nest = pytest.importorskip("nest")

DT = 0.1
DURATION = 500.0
N_PRE, N_POST = 6, 2
TRAINS = [
    lambda rng: np.arange(rng.uniform(5.0, 30.0), 500.0, 50.0),  # regular
    lambda rng: np.unique(np.round(rng.uniform(1.0, 500.0, 30), 1)),  # Poisson
    lambda rng: np.add.outer(np.arange(5) * 3.1, rng.uniform(1.0, 480.0, 4)).T.ravel(),  # bursts
]
POST = {
    "iaf_psc_exp": ("I_syn_ex", "ex.i", 1e-12),
    "iaf_psc_alpha": ("I_syn_ex", "ex.i", 1e-12),
    # With NEST's tau_syn_ex of 0.2 ms its own integration is up to 7e-4 off
    "iaf_cond_exp": ("g_ex", "ex.g", 1e-7),
    "iaf_cond_alpha": ("g_ex", "ex.g", 1e-7),
}


def parameters(model, rng, n):
    """One number for each source or edge, and None for the default, where n is 1."""
    made = {
        "U": rng.uniform(0.1, 0.9, n),
        "tau_rec": rng.uniform(50.0, 900.0, n),
        "tau_fac": rng.uniform(0.0, 900.0, n),
        "u": rng.uniform(0.0, 0.9, n),
        "x": rng.uniform(0.3, 0.7, n),
    }
    made["tau_fac"][0] = 0.0
    if model == "tsodyks_synapse":
        made |= {"tau_psc": rng.uniform(1.0, 10.0, n), "y": rng.uniform(0.0, 0.3, n)}
    return made


@pytest.mark.parametrize("post", POST)
@pytest.mark.parametrize("model", ["tsodyks_synapse", "tsodyks2_synapse"])
@pytest.mark.parametrize("per_edge", [False, True])
def test_nest(x64, model, post, per_edge):
    """Postsynaptic traces of NEST's synapses, at the end of every step.

    Sources fire regularly, as a Poisson process, and in bursts."""
    rng = np.random.default_rng([list(POST).index(post), per_edge])
    given = parameters(model, rng, N_PRE * N_POST if per_edge else N_PRE)
    times = [np.unique(np.round(TRAINS[i % 3](rng), 1)) for i in range(N_PRE)]
    theirs, ours, tolerance = POST[post]
    weight = 20.0 if "psc" in post else 4.0

    fresh_kernel()
    sources = nest.Create("parrot_neuron", N_PRE)
    neuron = {"V_th": 1e6, "tau_syn_ex": 3.0}
    targets = nest.Create(post, N_POST, neuron)
    for source, own in zip(sources, times, strict=True):
        generator = nest.Create("spike_generator", params={"spike_times": own})
        nest.Connect(generator, source, syn_spec={"delay": 1.0})
    for i, source in enumerate(sources):
        for j, target in enumerate(targets):
            k = i * N_POST + j if per_edge else i
            own = {name: value[k] for name, value in given.items()}
            spec = {"synapse_model": model, "weight": weight, "delay": 1.5, **own}
            nest.Connect(source, target, syn_spec=spec)
    meter = nest.Create("multimeter", params={"interval": DT, "record_from": ["V_m", theirs]})
    nest.Connect(meter, targets)
    nest.Simulate(DURATION)
    events = meter.events
    at = np.rint(events["times"] / DT).astype(int) - 1, events["senders"] - targets[0].global_id
    steps = round(DURATION / DT)
    wanted = {name: np.full((steps, N_POST), np.nan) for name in ("V_m", theirs)}
    for name, own in wanted.items():
        own[at] = events[name]

    cells = np.repeat(np.arange(N_PRE), [own.size for own in times])
    net = jsnn.Network(
        {
            "pre": jsnn.Population(LIF(t_ref=0.0), N_PRE, {"x": Delta()}),
            "post": getattr(jsnn.nest, post)(N_POST, **neuron),
        },
        {
            "p": jsnn.Projection(
                "pre",
                "post",
                AllToAll(),
                weight=weight,
                delay=1.5,
                receptor="ex",
                release=getattr(jsnn.nest, model)(**given),
            )
        },
        {"s": SpikeList("pre", np.concatenate(times), cells, 50.0, delay=1.0)},
        dt=DT,
        key=jax.random.key(1),
    )
    assert net.synapses["p"].per_edge is per_edge
    record = {"V_m": States("post", "v"), theirs: States("post", ours)}
    found = jsnn.simulate(net, net.init(jax.random.key(0)), steps, record).records
    for name, own in wanted.items():
        there = np.isfinite(own[:, 0])
        assert there.sum() > steps - 20
        values = np.asarray(found[name].values)[there]
        assert np.ptp(values) > 0.1
        np.testing.assert_allclose(
            values, own[there], rtol=tolerance, atol=tolerance * 1e-3 * np.max(np.abs(values))
        )


@pytest.mark.parametrize("model", jsnn.nest.SYNAPSE_DEFAULTS)
def test_defaults(model):
    theirs, made = nest.GetDefaults(model), vars(getattr(jsnn.nest, model)())
    for name, value in jsnn.nest.SYNAPSE_DEFAULTS[model].items():
        assert theirs[name] == value, name
        np.testing.assert_allclose(made[name], value, rtol=1e-6, err_msg=name)
