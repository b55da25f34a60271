"""The COBA network against Brian 2: the same spikes, and the same statistics."""

import json
import sys
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

import jsnn
from jsnn import analysis

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS.parent / "examples"))
import coba_stp  # noqa: E402
import common  # noqa: E402

REFERENCE = TESTS / "reference" / "brian_coba.npz"


@pytest.fixture(scope="module")
def frozen():
    return common.load_frozen(str(REFERENCE), coba_stp.EDGES, coba_stp.RESULTS)


def test_every_spike_of_brian(frozen):
    """Edges and start of Brian 2, float64: all spikes of the second, and the traces of a cell."""
    with jax.enable_x64(True):
        solution = jsnn.run(
            coba_stp.build_frozen(frozen),
            1000.0,
            key=jax.random.key(1),
            record=coba_stp.recorders(),
            progress=False,
        )
        found = coba_stp.compare(solution, frozen)
    assert found["different_spikes"] == 0
    assert found["n_spikes"] == 15408
    for name in (*coba_stp.TRACES, "u", "x"):
        assert found[f"relative_error_{name}"] < 1e-12, name
    assert solution.records["r_spike"].values.size >= 1


@pytest.mark.slow
def test_rates_and_irregularity_are_brians(frozen):
    """Five seeds of its own lie within the spread of Brian 2's twelve."""
    theirs = json.loads(REFERENCE.with_suffix(".json").read_text())["seeds"].values()
    found = {(kind, what): [] for kind in ("exc", "inh") for what in ("rate", "cv")}
    for seed in range(1, 6):
        network = coba_stp.build(seed=seed)
        record = {kind: jsnn.record.Spikes(f"cells.{kind}") for kind in ("exc", "inh")}
        solution = jsnn.run(
            network, 1000.0, key=jax.random.key(seed), record=record, progress=False
        )
        for kind, own in solution.records.items():
            found[kind, "rate"].append(analysis.mean_rate(own.index, own.n, 1000.0))
            cv = np.nanmean(analysis.cv_isi(own.times, own.index, own.n))
            found[kind, "cv"].append(float(cv))
    for (kind, what), values in found.items():
        reference = [own[kind][what] for own in theirs]
        mean, std = np.mean(reference), np.std(reference, ddof=1)
        # The mean of five, and each of them
        assert abs(np.mean(values) - mean) < 3 * std * np.sqrt(1 / 5 + 1 / 12), (kind, what)
        assert np.all(np.abs(values - mean) < 3 * std), (kind, what)


def test_blocks_equal_steps(frozen):
    """`Network.step`, the definition, on the network as Brian 2 made it."""
    with jax.enable_x64(True):
        network = coba_stp.build_frozen(frozen)
        start = network.init(jax.random.key(1))
        coefficients = network.prepare()
        step = eqx.filter_jit(lambda n, state, coefficients: n.step(state, coefficients))
        state, spikes = start, []
        for _ in range(60):
            state, fired = step(network, state, coefficients)
            spikes.append(np.asarray(fired["cells"]) > 0)
        solution = jsnn.simulate(network, start, 60, {"s": jsnn.record.Spikes("cells")})
    raster = np.asarray(solution.records["s"].raster)
    assert raster.sum() > 50
    np.testing.assert_array_equal(raster, np.stack(spikes))
    for leaf, other in zip(jax.tree.leaves(solution.state), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-12, atol=1e-14)


def run_example(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["coba_stp.py", *map(str, arguments)])
    common.run(coba_stp.main, coba_stp.parser())


@pytest.mark.parametrize("delay", [0.0, 1.5])
def test_example_at_a_small_size(monkeypatch, tmp_path, capsys, delay):
    files = {
        name: tmp_path / f"c{ending}" for name, ending in (("json", ".json"), ("save", ".npz"))
    }
    figure = tmp_path / "c.png"
    run_example(
        monkeypatch,
        *("--scale", 0.1, "--duration", 100, "--delay", delay, "--plot", figure),
        *("--json", files["json"], "--save", files["save"]),
    )
    told = json.loads(files["json"].read_text())
    assert told["n_neurons"] == 400 and set(told["rates"]) == {"exc", "inh"}
    assert told["solver"] == "Euler, steps of 0.1 ms" and told["delay"] == delay
    assert figure.stat().st_size > 10_000 and (tmp_path / "c-2.png").stat().st_size > 10_000
    saved = np.load(files["save"])
    assert saved["t_exc"].shape == saved["i_exc"].shape
    assert saved["v"].shape == saved["x_S"].shape == (1000, 1)
    assert "Excitatory rate" in capsys.readouterr().out


def test_example_tells_how_a_frozen_run_compares(monkeypatch, tmp_path, capsys):
    told = tmp_path / "c.json"
    run_example(monkeypatch, "--frozen", REFERENCE, "--duration", 20, "--json", told)
    compared = json.loads(told.read_text())["compared"]
    assert compared["n_spikes"] > 100 and "spikes differ" in capsys.readouterr().out


def test_example_names_what_a_file_lacks(monkeypatch, tmp_path, capsys):
    np.savez(tmp_path / "f.npz", pre_e=np.zeros(1))
    with pytest.raises(SystemExit):
        run_example(monkeypatch, "--frozen", tmp_path / "f.npz")
    assert "lacks ['post_e'" in capsys.readouterr().err
