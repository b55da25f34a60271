"""The small network of neurons and astrocytes on NEST and here; the fit of an astrocyte."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells import fresh_kernel, nest

import jsnn

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import astrocyte_small_network as small  # noqa: E402
import common_astrocytes as glia  # noqa: E402
import fit_astrocyte as fit  # noqa: E402

DURATION = 300.0


def published():
    """The published network on NEST: its edges and spikes, and means over cells."""
    fresh_kernel()
    given = {"tau_syn_ex": small.TAU_EX, "I_e": small.I_E}
    pre, post = (nest.Create("aeif_cond_alpha_astro", 10, given) for _ in range(2))
    params = {"IP3": small.IP3, "delta_IP3": small.DELTA_IP3}
    astro = nest.Create("astrocyte_lr_1994", 5, params)
    rule = {"rule": "third_factor_bernoulli_with_pool", "p": 1.0}
    nest.TripartiteConnect(
        *(pre, post, astro, {"rule": "pairwise_bernoulli", "p": 1.0}),
        {**rule, "pool_size": 1, "pool_type": "block"},
        {
            "primary": {"synapse_model": "tsodyks_synapse"},
            "third_in": {"synapse_model": "tsodyks_synapse"},
            "third_out": {"synapse_model": "sic_connection"},
        },
    )
    made = {"n_pre": 10, "n_post": 10, "n_astro": 5, "dt": small.DT}
    for name, source, target in (("", pre, post), ("_in", pre, astro), ("_out", astro, post)):
        ends = nest.GetConnections(source, target).get(["source", "target"])
        made[f"pre{name}"] = np.array(ends["source"]) - source[0].global_id
        made[f"post{name}"] = np.array(ends["target"]) - target[0].global_id
    recorder = nest.Create("spike_recorder")
    nest.Connect(pre + post, recorder)
    meters = {}
    for cells, names in ((post, ["I_SIC"]), (astro, ["IP3", "Ca_astro"])):
        meter = nest.Create("multimeter", params={"record_from": names})
        nest.Connect(meter, cells)
        meters |= dict.fromkeys(names, meter)
    nest.Simulate(DURATION + small.DT)
    steps = np.rint(recorder.events["times"] / small.DT).astype(int) - 1
    made["spike_step"], made["spike_neuron"] = steps, recorder.events["senders"] - 1
    means = {}
    for name, meter in meters.items():
        at = np.rint(meter.events["times"]).astype(int)
        means[name] = np.bincount(at, meter.events[name])[1:] / np.bincount(at)[1:]
    return made, means


@pytest.fixture(scope="module")
def theirs():
    return published()


def test_the_small_network_is_nests(x64, theirs):
    """Where every probability is 1 nothing is drawn: the same edges, spikes and currents."""
    frozen, means = theirs
    net = small.build()
    for name, kind in (("", "primary"), ("_in", "third_in"), ("_out", "third_out")):
        wanted = set(
            zip(*(frozen[f"{end}{name}"].tolist() for end in ("pre", "post")), strict=True)
        )
        assert set(zip(*(own.tolist() for own in small.edges(net)[kind]), strict=True)) == wanted
    assert net.slow["I_SIC"].n_edges == frozen["pre_out"].size == 100
    assert net.slow["I_SIC"].count.tolist() == [10] * 10
    solution = jsnn.run(net, DURATION, key=jax.random.key(0), record=small.recorders())
    both = (solution.records["pre"], 0), (solution.records["post"], 10)
    found = glia.compare(both, frozen, int(solution.state.step))
    assert found["n_spikes"] == found["n_own"] > 200
    assert found["same_step"] == found["n_spikes"]
    for name, wanted in means.items():
        own = np.asarray(solution.records[name].values)
        np.testing.assert_allclose(own.mean(1), wanted, rtol=1e-10, err_msg=name)
    assert means["I_SIC"][0] == 0 and means["I_SIC"][-1] > 50


def run_small(*arguments):
    small.main(small.parser().parse_args([str(own) for own in arguments]))


def test_the_small_network_as_a_program(x64, tmp_path, theirs, capsys):
    """Every file that it writes, with edges of NEST's, and with pools at random."""
    np.savez(tmp_path / "frozen.npz", **theirs[0])
    names = {name: tmp_path / f"a.{end}" for name, end in (("json", "json"), ("save", "npz"))}
    names["plot"] = tmp_path / "a.png"
    files = [part for name, path in names.items() for part in (f"--{name}", path)]
    run_small("--frozen", tmp_path / "frozen.npz", "--duration", DURATION, *files)
    found = json.loads(names["json"].read_text())
    assert found["compared"]["same_step"] == found["compared"]["n_spikes"] > 200
    assert found["n_synapses_by_kind"] == dict.fromkeys(small.ENDS, 100)
    assert found["n_neurons"] == 20 and found["n_astrocytes"] == 5 and found["rates"]["pre"] > 20
    with np.load(names["save"]) as saved:
        assert saved["t_pre"].size + saved["t_post"].size == found["n_spikes"]
        assert saved["I_SIC"].shape == (300, 10) and saved["third_out_pre"].size == 10
    for name in ("a.png", "a-2.png", "a-3.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    assert "spikes on the same step" in capsys.readouterr().out


def test_drawn_connections_are_those_of_the_network():
    """Pools at random: as many lines as there are pairs, each from a cell to a cell."""
    net = small.build(pool_type="random", pool_size=2, p_primary=0.5, p_third=0.4, seed=3)
    edges, n = small.edges(net), 100
    assert 30 < len(edges["primary"][0]) < 70
    n_third = len(edges["third_in"][0])
    assert 5 < n_third == net.slow["I_SIC"].n_edges < 40
    for target in range(10):
        assert len(set(edges["third_out"][0][edges["third_out"][1] == target])) <= 2
    axes = small.draw_connections(net).axes[0]
    lines = {own.get_label(): len(own.get_segments()) for own in axes.collections[:3]}
    for kind, label in (("primary", "neuron to neuron"), ("third_in", "neuron to astrocyte")):
        pairs = len(set(zip(*edges[kind], strict=True)))
        assert lines[f"{label}, {len(edges[kind][0])}"] == pairs <= n
    assert lines[f"astrocyte to neuron (SIC), {n_third}"] == len(edges["third_out"][0])
    marks = sorted(len(own.get_offsets()) for own in axes.collections[3:])
    assert marks == [5, 10, 10]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scale", 0.01), "leaves no astrocyte"),
        (("--pool-size", 3), "blocks of pool_size=3 do not fit"),
        (("--p-third", 1.5), "is no probability"),
    ],
)
def test_networks_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        run_small(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "factors"), [(4, (0.7, 1.3, 1.3)), (5, (1.3, 1.3, 0.7))], ids=["4", "5"]
)
def test_other_noise_and_guesses(seed, factors):
    """Another recording, of other spikes."""
    network = fit.build(20_000.0, seed)
    data = fit.record(network, 20_000.0, seed)
    guess = {name: f * true for f, (name, true) in zip(factors, fit.TRUTH.items(), strict=True)}
    told = []
    estimate, losses = fit.fit(network, data, guess, lambda done, *_: told.append(done))
    for name, true in fit.TRUTH.items():
        np.testing.assert_allclose(estimate[name], true, rtol=0.02, err_msg=name)
    assert losses[0] > 50 * losses[-1] and losses[-1] < 1.5 * fit.NOISE**2
    assert told == list(range(25, 151, 25))


@pytest.mark.slow
def test_the_fit_as_a_program(tmp_path, capsys):
    wanted = {name: tmp_path / f"fit.{name}" for name in ("json", "png", "npz")}
    names = zip(("json", "plot", "save"), wanted.values(), strict=True)
    args = [part for name, path in names for part in (f"--{name}", str(path))]
    fit.main(fit.parser().parse_args([*args, "--duration", "20000"]))
    assert "of 150 updates: loss" in capsys.readouterr().out
    found = json.loads(wanted["json"].read_text())
    assert found["truth"] == fit.TRUTH and found["n_astrocytes"] == 1
    for name, true in fit.TRUTH.items():
        error = found["estimate"][name] / true - 1
        assert abs(error) < 0.03, name
        assert found["relative_error"][name] == pytest.approx(error)
        assert abs(fit.GUESS[name] / true - 1) > 0.29, name
    assert len(found["loss"]) == fit.UPDATES
    assert wanted["png"].stat().st_size > 10_000
    with np.load(wanted["npz"]) as traces:
        assert set(traces) == {"t", "recorded", "guess", "fit"}
        assert traces["fit"].shape == traces["recorded"].shape == (200,)


@pytest.mark.slow
def test_steps_of_the_fit_are_short_enough(x64):
    """Calcium with the steps of the example against those of a tenth, far below the noise."""
    true = jax.tree.map(jnp.asarray, fit.TRUTH)
    coarse, fine = (
        np.asarray(fit.calcium(fit.build(10_000.0, 1, dt), true, 100))
        for dt in (fit.DT, fit.DT / 10)
    )
    assert np.ptp(fine) > 0.3 and np.abs(coarse - fine).max() < 1e-3 * fit.NOISE


@pytest.mark.parametrize(
    "args", [["--scale", "2"], ["--duration", "3000"], ["--duration", "10050"]], ids=" ".join
)
def test_options_without_meaning(args):
    with pytest.raises(ValueError, match=args[0]):
        fit.main(fit.parser().parse_args(args))
