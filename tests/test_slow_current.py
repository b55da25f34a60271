"""Slow inward currents: what reaches each cell and when, however a run is made."""

import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn.astrocytes import LiRinzel
from jsnn.connect import AllToAll, FixedTotalNumber, Pairs, connect
from jsnn.coupling import GapJunction, SlowInwardCurrent
from jsnn.distributions import Normal, Uniform
from jsnn.exchange import WaveformRelaxation
from jsnn.inputs import NoiseCurrent
from jsnn.neurons import LIF
from jsnn.receptors import Delta
from jsnn.record import Spikes, States
from jsnn.tripartite import Tripartite, tripartite

if __name__ == "__main__":  # before the first array
    jax.config.update("jax_num_cpu_devices", 2)
DT, STEPS = 0.5, 61
KEY = jax.random.key(7)
N_ASTRO, N_WIDE, N_FEW = 140, 150, 8
# Of the sums of a step: the populations, and the edges between them, some of them repeated
RULES = {
    "dense": ("astro", "few", FixedTotalNumber(600)),
    "table": ("astro.low", "wide", Pairs(np.arange(200) % 70, np.arange(200) % 150)),
    "edges": ("astro", "wide.high", Pairs(np.r_[:100, 5, 5], np.r_[[3] * 100, 9, 9])),
}


def network(couplings=None, delivery=None):
    """Astrocytes of unlike parameters with calcium on both sides of the threshold, which noise
    moves, and neurons, which slow currents make fire."""
    low = np.linspace(0.1, 0.3, N_ASTRO)
    law = LiRinzel(
        sic_th=low[::-1], sic_scale=np.linspace(1, 2, N_ASTRO), ca_tot=np.linspace(1, 2, N_ASTRO)
    )
    start = {"ca": Uniform(0.1, 0.5)}
    parts = {"low": slice(0, 70), "high": slice(70, N_ASTRO)}
    neurons = LIF(i_e=320.0, t_ref=DT)
    populations = {
        "astro": jsnn.Population(law, N_ASTRO, {"x": Delta()}, slices=parts, initial=start),
        "wide": jsnn.Population(neurons, N_WIDE, slices={"high": slice(50, N_WIDE)}),
        "few": jsnn.Population(neurons, N_FEW),
    }
    one = Pairs([0], [0])
    projections = {"p": jsnn.Projection("few", "astro", one, weight=300.0, delay=1.5)}
    if couplings is not None:
        return jsnn.Network(populations, projections, dt=DT, key=KEY, couplings=couplings)
    delay = Uniform(1.5, 2.2)
    couplings = {
        name: SlowInwardCurrent(
            *own, weight=3.0 if name == "dense" else Uniform(-5.0, 25.0), delay=delay
        )
        for name, own in RULES.items()
    }
    inputs = {"noise": NoiseCurrent("astro", 0.0, 0.003, interval=DT)}
    return jsnn.Network(
        *(populations, projections, inputs),
        dt=DT,
        key=KEY,
        delivery=delivery,
        couplings=couplings,
    )


def recorders():
    return {
        "ca": States("astro", "ca"),
        "dense": States("few", "dense"),
        "table": States("wide", "table"),
        "edges": States("wide.high", "edges"),
        "few": Spikes("few"),
        "wide": Spikes("wide"),
        "v": States("wide", "v"),
    }


def arrays(solution):
    found = solution.records.items()
    return {
        name: np.asarray(own.raster if hasattr(own, "raster") else own.values)
        for name, own in found
    }


def assert_near(one, other, *, rtol=1e-5, atol=1e-3):
    """Spikes exactly; numbers but for the rounding of sums."""
    for name, own in one.items():
        if own.dtype == bool:
            np.testing.assert_array_equal(own, other[name], err_msg=name)
        else:
            np.testing.assert_allclose(own, other[name], rtol, atol, err_msg=name)


@pytest.fixture(scope="module")
def net():
    return network()


@pytest.fixture(scope="module")
def whole(net):
    return jsnn.simulate(net, net.init(KEY), STEPS, recorders())


def test_every_form_of_sums_is_there(net):
    for name, own in net.slow.items():
        assert own.delays == (3, 4), name
        assert {way.dense for way in own.ways} == {name == "dense"}, name
    assert all(way.table is not None for way in net.slow["table"].ways)
    assert all(way.table is None for way in net.slow["edges"].ways)
    assert net.block == 3


def test_currents_are_sums_over_delayed_calcium(net, whole):
    """What NumPy makes of calcium, by edge: that after step n drives step n + d + 1."""
    found = arrays(whole)
    law = net.populations["astro"].neuron
    sent = np.asarray(jax.vmap(lambda ca: law.slow_current({"ca": ca}))(found["ca"]))
    assert 0.2 < np.mean(sent > 0) < 0.8
    for name, own in net.connections().items():
        if name not in net.slow:
            continue
        population = net.slow[name].parts[1][0]
        wanted = np.zeros((STEPS, net.populations[population].n))
        for pre, post, weight, delay, _ in zip(*own, strict=True):
            d = round(delay / DT)
            wanted[d:, post] += weight * sent[: STEPS - d, pre]
        if name == "edges":
            wanted = wanted[:, 50:]
        assert np.abs(wanted[-1]).max() > 30, name
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=2e-3, err_msg=name)
    assert found["few"].sum() > 20 and found["wide"].sum() > 20


def weighted(net, factor):
    """All weights, scalar and of pairs, times a factor."""
    weights = lambda n: [n.slow[name].weight for name in RULES]  # noqa: E731
    return eqx.tree_at(weights, net, [factor * weight for weight in weights(net)])


def test_currents_move_membranes(net, whole):
    none = weighted(net, 0.0)
    alone = arrays(jsnn.simulate(none, none.init(KEY), STEPS, recorders()))
    assert not any(alone[name].any() for name in RULES)
    assert np.abs(alone["v"] - arrays(whole)["v"]).max() > 1.0
    assert alone["few"].sum() < arrays(whole)["few"].sum()


def test_single_steps_equal_blocks(net, whole):
    state, found = net.init(KEY), {name: [] for name in ("dense", "table", "ca", "few")}
    step = jax.jit(lambda state: net.step(state))
    for _ in range(STEPS):
        state, fired = step(state)
        populations = state.populations
        found["few"].append(np.asarray(fired["few"]) > 0)
        found["dense"].append(np.asarray(populations["few"].slow["dense"]))
        found["table"].append(np.asarray(populations["wide"].slow["table"]))
        found["ca"].append(np.asarray(populations["astro"].cell["ca"]))
    assert_near({name: np.stack(own) for name, own in found.items()}, arrays(whole))
    for name, ring in whole.state.signals.items():
        np.testing.assert_allclose(state.signals[name], ring, rtol=1e-4, atol=1e-4)


SAMPLED = {"dense": States("few", "dense"), "edges": States("wide.high", "edges")}
SAMPLED |= {"ca": States("astro", "ca")}


def test_a_run_can_be_cut(net, whole):
    """Within delays and within blocks, whose length does not divide that of the parts."""
    state, parts = net.init(KEY), []
    for _ in range(8):
        solution = jsnn.simulate(net, state, 7, SAMPLED)
        state = solution.state
        parts.append({name: np.asarray(own.values) for name, own in solution.records.items()})
    joined = {name: np.concatenate([own[name] for own in parts]) for name in SAMPLED}
    assert_near(joined, {name: arrays(whole)[name][:56] for name in SAMPLED})


def test_a_run_goes_on_from_its_checkpoint(net, whole, tmp_path):
    given = {"record": SAMPLED, "checkpoint": tmp_path / "run", "segment": 10 * DT}
    for length in (20, STEPS):
        solution = jsnn.run(net, length * DT, state=net.init(KEY), **given)
    assert_near(
        {name: np.asarray(solution.records[name].values) for name in SAMPLED}, arrays(whole)
    )


def test_weights_side_by_side(whole):
    """Equal single runs, of a scalar and of weights of pairs; with the other delivery."""
    net = network(delivery=jsnn.SegmentSum())

    def one(factor):
        own = weighted(net, factor)
        made = jsnn.simulate(own, own.init(KEY), STEPS, SAMPLED).records
        return {name: record.values for name, record in made.items()}

    factors = jnp.asarray([1.0, 0.0, -2.0])
    found = jax.jit(jax.vmap(one))(factors)
    assert_near({name: np.asarray(own[0]) for name, own in found.items()}, arrays(whole))
    for name in ("dense", "edges"):
        assert not found[name][1].any()
        np.testing.assert_allclose(found[name][2][:5], -2 * found[name][0][:5], rtol=1e-5)


PAIRS = [(0, 1, 2.0, 1.0), (3, 1, 1.0, 1.0), (0, 1, -5.0, 1.0), (0, 1, 7.0, 2.5), (3, 0, 4.0, 1.0)]
PAIRS += [(0, 1, 0.5, 2.5), (3, 1, 1.5, 1.0)]


@pytest.mark.parametrize("scalar", [True, False])
@pytest.mark.parametrize("one_delay", [True, False])
def test_repeated_pairs_are_merged(scalar, one_delay):
    """Weights are added; pairs of other delays are kept apart."""
    pre, post, weight, delay = (np.array(own) for own in zip(*PAIRS, strict=True))
    weight = np.full(pre.size, 3.0) if scalar else weight
    delay = np.full(pre.size, 1.5) if one_delay else delay
    given = {"weight": 3.0 if scalar else weight, "delay": 1.5 if one_delay else delay}
    net = network({"sic": SlowInwardCurrent("astro", "few", Pairs(pre, post), **given)})
    wanted = {}
    for edge in zip(pre, post, delay, weight, strict=True):
        total, count = wanted.get(edge[:3], (0.0, 0))
        wanted[edge[:3]] = total + edge[3], count + 1
    own = net.connections()["sic"]
    assert len(wanted) == own.pre.size == (3 if one_delay else 4) < net.slow["sic"].n_edges == 7
    for a, b, w, d, count in zip(*own, strict=True):
        assert (w, count) == wanted[a, b, d]
    assert net.slow["sic"].weight.shape == (() if scalar else own.pre.shape)
    assert net.slow["sic"].delays == ((3,) if one_delay else (2, 5))


def test_edges_of_astrocytes():
    """As `jsnn.tripartite` makes them, with as many edges as synapses that have an astrocyte."""
    rule = Tripartite(FixedTotalNumber(500), 1.0, 2, "random")
    drawn = tripartite(rule, 1, N_FEW, N_WIDE, N_ASTRO)
    net = network({"sic": SlowInwardCurrent("astro", "wide", drawn.third_out)})
    own = net.connections()["sic"]
    assert net.slow["sic"].n_edges == own.count.sum() == own.weight.sum() == 500 > own.pre.size
    everyone = set(zip(own.pre.tolist(), own.post.tolist(), strict=True))
    wanted = connect_ends(drawn.third_out)
    assert everyone == set(wanted)


def connect_ends(edges):
    return list(zip(np.asarray(edges.pre).tolist(), np.asarray(edges.post).tolist(), strict=True))


def test_one_delay_and_blocks_of_one_step():
    """A block then reads a single row of the signals, and so does a batch of one."""
    astro = jsnn.Population(LiRinzel(), N_FEW, {"x": Delta()}, initial={"ca": Uniform(0.1, 0.5)})
    net = jsnn.Network(
        {"astro": astro, "few": jsnn.Population(LIF(i_e=320.0), N_FEW)},
        {"p": jsnn.Projection("few", "astro", AllToAll(), weight=0.1, delay=DT)},
        couplings={"sic": SlowInwardCurrent("astro", "few", AllToAll(), weight=5.0, delay=2.0)},
        dt=DT,
        key=KEY,
    )
    state, record = net.init(KEY), {"v": States("few", "v"), "sic": States("few", "sic")}
    whole = jsnn.simulate(net, state, 40, record)
    batch = jax.tree.map(lambda leaf: leaf[None], state)
    batched = jax.vmap(lambda own: jsnn.simulate(net, own, 40, record))(batch)
    step, shown = jax.jit(lambda state: net.step(state)), []
    for _ in range(40):
        state, _ = step(state)
        shown.append(state.populations["few"].cell["v"])
    assert np.ptp(whole.records["sic"].values) > 1
    np.testing.assert_allclose(whole.records["v"].values, np.stack(shown), 1e-6)
    np.testing.assert_allclose(batched.records["v"].values[0], whole.records["v"].values, 1e-6)


def test_no_edges():
    net = network({"sic": SlowInwardCurrent("astro", "few", Pairs([], []))})
    record = {"sic": States("few", "sic")}
    found = jsnn.simulate(net, net.init(KEY), 5, record).records["sic"].values
    assert found.shape == (5, N_FEW) and not found.any()


def slow(pre="astro", post="few", rule=None, **given):
    """A network with one slow current, called "s"."""
    name = given.pop("name", "s")
    rule = Pairs([0, 1], [0, 1]) if rule is None else rule
    return network({name: SlowInwardCurrent(pre, post, rule, **given)})


def put(weight):
    net = slow()
    return eqx.tree_at(lambda n: n.slow["s"].weight, net, jnp.asarray(weight)).checked()


def other_state(**given):
    net = slow()
    return jsnn.simulate(net, slow(**given).init(KEY), 2)


WRONG = {
    "a state of 'few' has this name": lambda: slow(name="v"),
    "has this name, as.*'refractory'": lambda: slow(name="refractory"),
    "'e.i': give a word without dots": lambda: slow(name="e.i"),
    r"\['p'\] are names of projections and": lambda: slow(name="p"),
    "delay=0.0 must be above 0": lambda: slow(delay=0.0),
    r"delay=\[1. 0.\] must be above 0": lambda: slow(delay=[1.0, 0.0]),
    "'s': delay=0.7 ms is no whole number": lambda: slow(delay=0.7),
    "'s': a delay of .* was drawn, which": lambda: slow(delay=Normal(0.0, 0.001)),
    r"'s': delay has shape \(3,\)": lambda: slow(delay=[1.0, 1.0, 1.0]),
    r"'s': weight has shape \(3,\)": lambda: slow(weight=[1.0, 1.0, 1.0]),
    "weight=nan is not finite": lambda: slow(weight=float("nan")),
    "'s': population 'wide' is of LIF, which sends no": lambda: slow(pre="wide"),
    "'s': population 'astro' is of astrocytes": lambda: slow(post="astro"),
    "unknown population 'nobody'": lambda: slow(pre="nobody"),
    "coupling 's': delays of 200000000 steps make a buffer of": lambda: slow(delay=1e8),
    "edges are of 2 sources and 2 targets, but pre": lambda: slow(
        rule=connect(AllToAll(), 1, 2, 2)
    ),
    r"'s': weight has shape \(5,\); give a scalar or \(2,\)": lambda: put(np.ones(5)),
    "'s': weight=inf is not finite": lambda: put(np.inf),
    "its slow currents are": lambda: other_state(name="z"),
    "slow currents onto population 'wide' are": lambda: other_state(post="wide"),
    "signals of 's' is": lambda: other_state(delay=5.0),
    "unknown state of 'wide' 's'": lambda: jsnn.simulate(
        *(slow(), slow().init(KEY), 1, {"r": States("wide", "s")})
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_told(message):
    with pytest.raises(ValueError, match=message):
        WRONG[message]()


def test_what_is_no_rule_or_address():
    with pytest.raises(TypeError, match="rule='all' is no connection rule"):
        slow(rule="all")
    with pytest.raises(TypeError, match="pre=3 is no address"):
        slow(pre=3)


def test_relaxed_waveforms_know_of_no_slow_currents():
    """Cells that are joined take them all the same, with the membranes of each stage."""
    given = {
        "populations": {
            "a": jsnn.nest.astrocyte_lr_1994(2, Ca_astro=0.5),
            "n": jsnn.nest.hh_psc_alpha_gap(2),
        },
        "couplings": {
            "gap": GapJunction("n", "n", Pairs([0], [1]), conductance=1.0),
            "sic": SlowInwardCurrent("a", "n", Pairs([0], [1]), weight=5.0, delay=0.05),
        },
        "dt": 0.05,
        "key": KEY,
    }
    with pytest.raises(ValueError, match="'n'.* take slow currents.*exchange=Joint"):
        jsnn.Network(**given, exchange=WaveformRelaxation(interval=None))
    net = jsnn.Network(**given)
    v = jsnn.simulate(net, net.init(KEY), 30, {"v": States("n", "v")}).records["v"].values
    assert v[-1, 1] > v[-1, 0] + 0.1 > v[0, 0] + 0.1  # the other through the gap junction


def main(path):
    """A run on two devices."""
    net = network().on(2)
    np.savez(path, **arrays(jsnn.simulate(net, net.init(KEY), STEPS, recorders())))


@pytest.mark.slow
def test_two_devices(tmp_path, whole):
    path = tmp_path / "runs.npz"
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(path) as runs:
        assert_near(arrays(whole), dict(runs))


if __name__ == "__main__":
    main(sys.argv[1])
