"""The constructors of `jsnn.nest` against NEST itself, run beside them in float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells import (
    CELLS,
    DT,
    MEMBRANES,
    SYNAPSES,
    arrays,
    fresh_kernel,
    jsnn_cells,
    listed,
    nest_cells,
    nest_spikes,
    trains,
)

import jsnn
from jsnn import nest as models
from jsnn.connect import AllToAll, Pairs
from jsnn.distributions import Normal, Uniform
from jsnn.inputs import NoiseCurrent, Poisson, SpikeList
from jsnn.neurons import LIF
from jsnn.receptors import Exponential
from jsnn.record import Spikes, States
from jsnn.solvers import RK4, Exact, Splitting

nest = pytest.importorskip("nest")

NAMES = list(models.DEFAULTS)
GATES = {"m": "Act_m", "h": "Inact_h", "n": "Act_n", "p": "Inact_p"}


@pytest.fixture(autouse=True)
def kernel():
    fresh_kernel()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("model", "params", "rates", "weights"),
    [
        ("iaf_psc_delta", {}, {"ex": 1500.0, "in": 800.0}, (1.0, 1.0)),
        ("iaf_psc_exp", SYNAPSES, {"ex": 2000.0, "in": 1500.0}, (100.0, 80.0)),
        ("iaf_psc_alpha", SYNAPSES, {"ex": 2000.0, "in": 1500.0}, (60.0, 50.0)),
    ],
)
def test_psc_cells(x64, model, params, rates, weights):
    """Membrane and synaptic currents at every step of a second, and every spike."""
    params = {**CELLS, **MEMBRANES, **params}
    spikes = trains(6, 1000.0, rates, weights, seed=3)
    theirs, their_spikes = nest_cells(model, params, spikes, 1000.0)
    ours, our_spikes = jsnn_cells(getattr(models, model)(6, **arrays(params)), spikes, 1000.0)
    assert our_spikes == their_spikes
    assert {cell for _, cell in our_spikes} == set(range(6)) and len(our_spikes) > 300
    assert list(ours) == list(theirs)
    for name in theirs:
        # NEST hands out the last step before the end of the run's last millisecond
        assert np.all(np.isfinite(theirs[name][:-10]))
        error = np.nanmax(np.abs(ours[name] - theirs[name]))
        assert error < (1e-11 if name == "V_m" else 1e-9), f"{name}: {error}"  # pA by hundreds


def noisy_variance(interval, every, sigma=100.0, n=400, duration=1000.0):
    """The variance of the membrane of n cells without spikes, after 100 ms."""
    network = jsnn.Network(
        {"cells": models.iaf_psc_exp(n, V_th=1e4)},
        inputs={"noise": NoiseCurrent("cells", std=sigma, interval=interval)},
        dt=DT,
    )
    record = {"v": States("cells", "v", every=every)}
    steps = round(duration / DT)
    solution = jsnn.simulate(network, network.init(jax.random.key(5)), steps, record)
    return np.var(np.asarray(solution.records["v"].values)[round(100 / every) :])


@pytest.mark.parametrize("interval", [0.1, 1.0])
def test_variance_under_noise(interval):
    """At the end of an interval it is (R sigma)^2 (1 - a) / (1 + a), with a = exp(-interval / tau):
    a geometric series of independent pieces. 400 cells in 900 ms hold 18,000 independent values,
    so that one standard error is 0.75 %."""
    resistance, a = 10.0 / 250.0, np.exp(-interval / 10.0)
    expected = (resistance * 100.0) ** 2 * (1 - a) / (1 + a)
    assert noisy_variance(interval, every=1.0) == pytest.approx(expected, rel=0.03)


def test_variance_under_noise_as_in_nest():
    """NEST's noise_generator holds its values for 1 ms; here at all times within them."""
    cells = nest.Create("iaf_psc_exp", 400, {"V_th": 1e4})
    nest.Connect(nest.Create("noise_generator", params={"std": 100.0, "dt": 1.0}), cells)
    # Every 0.7 ms falls on each phase of the 1 ms intervals equally often
    meter = nest.Create("multimeter", params={"interval": 0.7, "start": 100.0})
    meter.record_from = ["V_m"]
    nest.Connect(meter, cells)
    nest.Simulate(1000.0)
    theirs = np.var(meter.events["V_m"])
    assert noisy_variance(1.0, every=0.7) == pytest.approx(theirs, rel=0.04)


N_EXC, N_CELLS = 160, 200


@pytest.fixture(scope="module")
def recurrent():
    """A network built and run by NEST: parameters, edges of each sign, and spikes of 500 ms."""
    fresh_kernel()
    nest.rng_seed = 7
    rng = np.random.default_rng(2)
    params = {
        "I_e": rng.uniform(350.0, 600.0, N_CELLS),
        "V_m": rng.uniform(-70.0, -56.0, N_CELLS),
        "tau_syn_ex": np.full(N_CELLS, 2.0),
        "tau_syn_in": np.full(N_CELLS, 4.0),
    }
    cells = nest.Create("iaf_psc_exp", N_CELLS, {k: v.tolist() for k, v in params.items()})
    for sources, low, high in ((cells[:N_EXC], 10.0, 60.0), (cells[N_EXC:], -200.0, -50.0)):
        nest.Connect(
            sources,
            cells,
            {"rule": "fixed_indegree", "indegree": 16},
            {
                "weight": nest.random.uniform(low, high),
                "delay": nest.random.uniform(0.5, 5.0),
            },
        )
    found = nest.GetConnections(cells, cells).get(["source", "target", "weight", "delay"])
    edges = {name: np.array(values) for name, values in found.items()}
    edges["source"] -= cells[0].global_id
    edges["target"] -= cells[0].global_id
    recorder = nest.Create("spike_recorder")
    nest.Connect(cells, recorder)
    nest.Simulate(500.0)
    return params, edges, nest_spikes(recorder, cells)


def same_network(recurrent, delivery=None, quantum=None):
    """The network in jsnn, and its spikes of 500 ms."""
    params, edges, _ = recurrent
    weights = edges["weight"] if quantum is None else np.round(edges["weight"] / quantum) * quantum
    projections = {}
    for receptor, chosen in (("ex", edges["weight"] > 0), ("in", edges["weight"] < 0)):
        projections[receptor] = jsnn.Projection(
            "cells",
            "cells",
            Pairs(edges["source"][chosen], edges["target"][chosen]),
            weight=weights[chosen],
            delay=edges["delay"][chosen],
            receptor=receptor,
        )
    network = jsnn.Network(
        {"cells": models.iaf_psc_exp(N_CELLS, **params)},
        projections,
        dt=DT,
        key=jax.random.key(1),
        delivery=delivery,
    )
    state = network.init(jax.random.key(2))
    solution = jsnn.simulate(network, state, 5000, {"spikes": Spikes("cells")})
    assert state.populations["cells"].cell["v"].dtype == jax.numpy.zeros(()).dtype
    return listed(solution.records["spikes"])


def test_recurrent_network(x64, recurrent):
    _, edges, theirs = recurrent
    assert len(np.unique(edges["delay"])) > 40 and len(theirs) > 1500
    assert same_network(recurrent) == theirs


def test_deliveries_agree_in_float32(recurrent):
    """Weights are multiples of 1/8 pA, whose sums are exact in any order."""
    event_driven = same_network(recurrent, jsnn.EventDriven(), quantum=0.125)
    assert event_driven == same_network(recurrent, jsnn.SegmentSum(), quantum=0.125)
    assert len(event_driven) > 1500


@pytest.mark.parametrize("model", NAMES)
def test_defaults(x64, model):
    """Each parameter that NEST's model takes is known, with the same default."""
    theirs = nest.GetDefaults(model)
    known = {**models.DEFAULTS[model], **models.UNSUPPORTED[model]}
    known |= {} if model.startswith("astrocyte") else models.CALCIUM
    for name, value in known.items():
        assert theirs[name] == value, name
    # NEST refuses to set what it only reports
    for name in set(theirs) - set(known):
        with pytest.raises(nest.NESTError):
            nest.Create(model, 1, {name: theirs[name]})


@pytest.mark.parametrize("model", NAMES)
def test_the_population_has_the_defaults(x64, model):
    theirs = nest.GetDefaults(model)
    population = getattr(models, model)(3)
    neuron, state = population.neuron, population.init(jax.random.key(0))
    if model == "astrocyte_lr_1994":
        starts = {"IP3": "ip3", "Ca_astro": "ca", "h_IP3R": "h"}
        for name in models.DEFAULTS[model]:
            values = state.cell[starts[name]] if name in starts else getattr(neuron, name.lower())
            assert np.unique(np.asarray(values)).tolist() == [theirs[name]], name
        assert list(population.receptors) == ["delta"]
        return
    fields = {"c_m": "C_m", "e_l": "E_L", "i_e": "I_e", "t_ref": "t_ref"}
    if "aeif" in model:
        names = ("g_L", "V_th", "V_reset", "V_peak", "Delta_T", "tau_w", "a", "b")
        fields |= {name.lower(): name for name in names}
        assert state.cell["w"].tolist() == [theirs["w"]] * 3
    elif "V_th" in theirs:
        tau_m = theirs["tau_m"] if "tau_m" in theirs else theirs["C_m"] / theirs["g_L"]
        assert float(neuron.tau_m) == pytest.approx(tau_m, rel=1e-15)
        fields |= {"v_th": "V_th", "v_reset": "V_reset"}
    else:
        fields |= {"g_l": "g_L"}
        conductances = {"na": "g_Na", "k": "g_K", "kv1": "g_Kv1", "kv3": "g_Kv3"}
        for own, channel in neuron.channels.items():
            assert float(channel.g) == theirs[conductances[own]]
            assert float(channel.e) == theirs["E_Na" if own == "na" else "E_K"]
        assert set(neuron.channels) == {k for k, v in conductances.items() if v in theirs}
        for own, name in GATES.items():
            assert (own in neuron.gates) == (name in theirs)
            if name in theirs:
                assert state.cell[own].tolist() == [theirs[name]] * 3
    for own, name in fields.items():
        assert float(getattr(neuron, own)) == theirs[name]
    assert state.cell["v"].tolist() == [theirs["V_m"]] * 3
    if model.endswith("psc_delta"):
        assert list(population.receptors) == ["delta"]
    else:
        assert list(population.receptors) == ["ex", "in"]
        for name, receptor in population.receptors.items():
            assert float(receptor.tau) == theirs[f"tau_syn_{name}"]
            if "cond" in model:
                assert float(receptor.e_rev) == theirs[f"E_{name}"]
    kind = Splitting if "hh" in model else RK4 if "cond" in model or "aeif" in model else Exact
    assert isinstance(population.solver, kind)


@pytest.mark.parametrize("model", NAMES)
def test_unsupported_parameters(model):
    make = getattr(models, model)
    make(2, **models.UNSUPPORTED[model])  # defaults are no harm
    for name, default in models.UNSUPPORTED[model].items():
        other = {"Axon": {}} if isinstance(default, dict) else not default or 12.5
        if default is False:
            other = True
        with pytest.raises(ValueError, match=f"{name}=.*{model}.*not supported"):
            make(2, **{name: other})


def test_errors_have_the_names_of_nest():
    with pytest.raises(ValueError, match="unknown parameter of iaf_psc_exp 'tau_syn'.*'tau_syn_"):
        models.iaf_psc_exp(2, tau_syn=2.0)
    with pytest.raises(ValueError, match="unknown parameter of iaf_psc_delta 'tau_syn_ex'"):
        models.iaf_psc_delta(2, tau_syn_ex=2.0)
    with pytest.raises(ValueError, match="did you mean 'V_th'"):
        models.iaf_cond_alpha(2, v_th=-50.0)
    with pytest.raises(ValueError, match=r"E_ex has shape \(3,\)"):
        models.iaf_cond_exp(2, E_ex=[0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="g_L=.*must be above 0"):
        models.iaf_cond_exp(2, g_L=0.0)
    with pytest.raises(ValueError, match="tau_syn_in=.*must be above 0"):
        models.iaf_psc_exp(2, tau_syn_in=[2.0, 0.0])
    with pytest.raises(ValueError, match="V_reset=.*must be below V_th"):
        models.iaf_psc_alpha(2, V_reset=-50.0)
    with pytest.raises(ValueError, match="unknown parameter of aeif_psc_delta 'tau_syn_ex'"):
        models.aeif_psc_delta(2, tau_syn_ex=2.0)
    with pytest.raises(ValueError, match="did you mean 'Delta_T'"):
        models.aeif_cond_alpha(2, delta_t=2.0)
    with pytest.raises(ValueError, match="tau_w=.*must be above 0"):
        models.aeif_cond_exp(2, tau_w=0.0)
    with pytest.raises(ValueError, match="Delta_T=.*must not be negative|Delta_T=.*at least 0"):
        models.aeif_psc_exp(2, Delta_T=-1.0)
    with pytest.raises(ValueError, match="gsl_error_tol=.*not supported"):
        models.aeif_cond_alpha_astro(2, gsl_error_tol=1e-9)
    with pytest.raises(ValueError, match="V_reset=.*must be below V_peak"):
        models.aeif_psc_alpha(2, V_reset=1.0)
    with pytest.raises(ValueError, match="unknown parameter of astrocyte_lr_1994 'tau_ip3'"):
        models.astrocyte_lr_1994(2, tau_ip3=1.0)
    with pytest.raises(ValueError, match="tau_IP3=.*must be above 0"):
        models.astrocyte_lr_1994(2, tau_IP3=0.0)
    with pytest.raises(TypeError, match="g_L=.*cannot be made of a distribution"):
        models.iaf_cond_exp(2, g_L=Uniform(10.0, 20.0))


CHAIN = Pairs([0, 1], [1, 2])
PSC = [name for name in NAMES if "psc" in name and "delta" not in name]


@pytest.mark.parametrize("receptor, wrong, right", [("ex", -7.0, "in"), ("in", 7.0, "ex")])
def test_weights_that_nest_would_hand_to_the_other_current(receptor, wrong, right):
    """NEST chooses the time constant of a current by the sign of the weight."""

    def build(weight, model="iaf_psc_exp", rule=CHAIN, **more):
        cells = getattr(models, model)(3)
        own = {"weight": weight, "delay": 1.0, "receptor": receptor, **more}
        projection = jsnn.Projection("cells", "cells", rule, **own)
        key = jax.random.key(1)
        return jsnn.Network({"cells": cells}, {"p": projection}, dt=0.1, key=key)

    refused = pytest.raises(
        ValueError, match=f"weight={wrong:g} onto the current '{receptor}'.*receptor='{right}'"
    )
    for model in PSC:
        with refused:
            build(wrong, model)
    with refused:
        build([-wrong, wrong])
    with pytest.raises(ValueError, match=f"projection 'p'.*weight=.*'{receptor}' must not be"):
        build(Normal(-wrong, 10.0), rule=AllToAll())
    with refused:  # put in their place later
        network = build(-wrong)
        put = eqx.tree_at(lambda n: n.synapses["p"].weight, network, jnp.asarray(wrong))
        put.step(network.init(jax.random.key(1)))
    for source in (
        Poisson("cells", 10.0, wrong, receptor),
        SpikeList("cells", [1.0, 2.0], [0, 1], [-wrong, wrong], receptor),
    ):
        with refused:
            jsnn.Network({"cells": models.iaf_psc_alpha(3)}, {}, {"s": source}, dt=0.1)
    # Receptors of one's own take both signs, and conductances positive weights onto either
    free = jsnn.Population(LIF(), 3, {receptor: Exponential(2.0)})
    jsnn.Network({"cells": free}, {}, {"s": Poisson("cells", 10.0, wrong, receptor)}, dt=0.1)
    cond = models.iaf_cond_exp(3)
    jsnn.Network({"cells": cond}, {}, {"s": Poisson("cells", 10.0, 7.0, receptor)}, dt=0.1)


def test_arrays_slices_solver_and_distributions():
    population = models.iaf_psc_alpha(
        4,
        tau_m=[10.0, 12.0, 14.0, 16.0],
        V_m=Uniform(-65.0, -60.0),
        slices={"exc": slice(0, 3), "inh": slice(3, 4)},
        solver=RK4(3),
    )
    v = np.asarray(population.init(jax.random.key(0)).cell["v"])
    assert population.part("inh") == (3, 4) and population.solver == RK4(3)
    assert len(set(v)) == 4 and np.all((v > -65) & (v < -60))
    assert population.neuron.tau_m.tolist() == [10.0, 12.0, 14.0, 16.0]
    assert models.iaf_cond_exp(2, g_L=[10.0, 25.0]).neuron.tau_m.tolist() == [25.0, 10.0]
