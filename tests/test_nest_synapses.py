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
STEPS = round(DURATION / DT)
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


def nest_traces(model, post, neuron, given, weight, times):
    """The recorded values of the targets, rows of steps; nan where NEST hands out none."""
    per_edge = given["U"].size > N_PRE
    fresh_kernel()
    sources = nest.Create("parrot_neuron", N_PRE)
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
    wanted = {name: np.full((STEPS, N_POST), np.nan) for name in ("V_m", POST[post][0])}
    meter = nest.Create("multimeter", params={"interval": DT, "record_from": list(wanted)})
    nest.Connect(meter, targets)
    nest.Simulate(DURATION)
    events = meter.events
    at = np.rint(events["times"] / DT).astype(int) - 1, events["senders"] - targets[0].global_id
    for name, own in wanted.items():
        own[at] = events[name]
    return wanted


@pytest.mark.parametrize("model", ["tsodyks_synapse", "tsodyks2_synapse"])
def test_nest(x64, model):
    """Postsynaptic traces of NEST's synapses, at the end of every step, onto each neuron, with
    parameters of each source and of each edge.

    Sources fire regularly, as a Poisson process, and in bursts."""
    rng = np.random.default_rng(5)
    times = [np.unique(np.round(TRAINS[i % 3](rng), 1)) for i in range(N_PRE)]
    cells = np.repeat(np.arange(N_PRE), [own.size for own in times])
    neuron = {"V_th": 1e6, "tau_syn_ex": 3.0}
    populations = {"pre": jsnn.Population(LIF(t_ref=0.0), N_PRE, {"x": Delta()})}
    projections, record, wanted = {}, {}, {}
    for post, (theirs, ours, _) in POST.items():
        for n in (N_PRE, N_PRE * N_POST):
            given, weight = parameters(model, rng, n), 20.0 if "psc" in post else 4.0
            name = f"{post} {n}"
            made = nest_traces(model, post, neuron, given, weight, times)
            wanted |= {(name, what): values for what, values in made.items()}
            populations[name] = getattr(jsnn.nest, post)(N_POST, **neuron)
            projections[name] = jsnn.Projection(
                "pre",
                name,
                AllToAll(),
                weight=weight,
                delay=1.5,
                receptor="ex",
                release=getattr(jsnn.nest, model)(**given),
            )
            record |= {f"{name} V_m": States(name, "v"), f"{name} {theirs}": States(name, ours)}
    net = jsnn.Network(
        populations,
        projections,
        {"s": SpikeList("pre", np.concatenate(times), cells, 50.0, delay=1.0)},
        dt=DT,
        key=jax.random.key(1),
    )
    assert {own.per_edge for own in net.synapses.values()} == {False, True}
    found = jsnn.simulate(net, net.init(jax.random.key(0)), STEPS, record).records
    for (name, what), own in wanted.items():
        tolerance = POST[name.split()[0]][2]
        there = np.isfinite(own[:, 0])
        assert there.sum() > STEPS - 20
        values = np.asarray(found[f"{name} {what}"].values)[there]
        assert np.ptp(values) > 0.1
        atol = tolerance * 1e-3 * np.max(np.abs(values))
        np.testing.assert_allclose(values, own[there], tolerance, atol, err_msg=f"{name} {what}")


@pytest.mark.parametrize("model", jsnn.nest.SYNAPSE_DEFAULTS)
def test_defaults(model):
    theirs, made = nest.GetDefaults(model), vars(getattr(jsnn.nest, model)())
    for name, value in jsnn.nest.SYNAPSE_DEFAULTS[model].items():
        assert theirs[name] == value, name
        np.testing.assert_allclose(made[name], value, rtol=1e-6, err_msg=name)
