"""The network of neurons and astrocytes: spike for spike with NEST, and as published within its
spread."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jsnn

pytest.importorskip("nest")
ROOT = Path(__file__).parent.parent
REFERENCE = Path(__file__).parent / "reference"
sys.path[:0] = [str(ROOT / "examples"), str(REFERENCE)]
import astrocyte_brunel as example  # noqa: E402
import astrocyte_nest  # noqa: E402

DURATION = 700.0
NEST = json.loads((REFERENCE / "astrocyte_nest.json").read_text())


def test_a_frozen_network_gives_every_spike_of_nest(x64, tmp_path):
    """400 neurons and 100 astrocytes, until slow inward currents flow: from a file, as the
    example's command line takes it, on two devices."""
    made = astrocyte_nest.draw(1, 320, 80, 100, 0.25, DURATION)
    theirs = astrocyte_nest.run_frozen(made, DURATION)
    np.savez(tmp_path / "frozen.npz", **made, **theirs)
    command = [sys.executable, str(ROOT / "examples" / "astrocyte_brunel.py"), "--float64"]
    command += ["--duration", str(DURATION), "--devices", "2"]
    command += ["--frozen", str(tmp_path / "frozen.npz"), "--save", str(tmp_path / "own.npz")]
    subprocess.run([*command, "--json", str(tmp_path / "own.json")], check=True, cwd=tmp_path)
    compared = json.loads((tmp_path / "own.json").read_text())["compared"]
    assert compared["same_step"] == compared["n_spikes"] == compared["n_own"] > 1000
    own = np.load(tmp_path / "own.npz")
    net = example.build_frozen(made)
    chosen = example.recorders(net, 1)
    for name in example.TRACES:
        wanted = theirs[name][:, list(chosen[name].index)]
        found = own[name][: wanted.shape[0]]
        np.testing.assert_allclose(own[f"{name}_t"][:3], [1.0, 2.0, 3.0])
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9, err_msg=name)
    assert theirs["I_SIC"][-1].mean() > 5 and np.all(theirs["I_SIC"][:500] == 0)


def over_seeds(rule, what, within=None):
    """The mean and the standard deviation of NEST's seeds; of time courses, at each time."""
    values = [run[what] if within is None else run[what][within] for run in NEST[rule].values()]
    return np.mean(values, 0), np.std(values, 0, ddof=1)


def published(rule, seed):
    """Rates, means over the run and time courses of 500 cells."""
    net = example.build(seed=seed, rule=rule)
    counts = {name: own.edges.n_edges for name, own in net.synapses.items()}
    counts["third_out"] = net.slow["I_SIC"].n_edges
    assert sum(counts.values()) == pytest.approx(over_seeds(rule, "connections")[0], rel=1e-3)
    assert counts["third_in"] == counts["third_out"] == pytest.approx(4_000_000, rel=2e-3)
    assert net.slow["I_SIC"].pre.size == 100_000  # a pool of ten for each neuron
    record = example.recorders(net, seed, 500)
    solution = jsnn.run(net, 1000.0, key=jax.random.key(seed), record=record)
    sizes = {"exc": 8000, "inh": 2000}
    found = {("rates", kind): solution.records[kind].index.size / n for kind, n in sizes.items()}
    every = slice(astrocyte_nest.EVERY - 1, None, astrocyte_nest.EVERY)
    for name in example.TRACES:
        values = solution.records[name].values[:-1]  # NEST's meters have none at the end
        found[name, "overall"] = values.mean()
        found[name, "mean"], found[name, "std"] = values.mean(1)[every], values.std(1)[every]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "seeds"), [("bernoulli", (1, 2, 3)), ("fixed_indegree", (1,))])
def test_published_network(rule, seeds):
    """Every seed within three standard deviations of NEST's seeds, and what they have on average
    within two and a half standard errors of the difference."""
    found = [published(rule, seed) for seed in seeds]
    error = np.sqrt(1 / len(seeds) + 1 / len(NEST[rule]))
    for what in found[0]:
        mean, std = over_seeds(rule, *what)
        # Before anything happens, and where the cells are many, seeds do not differ
        std = std + 2e-3 * np.max(mean)
        away = np.abs([own[what] - mean for own in found]) / std
        assert np.max(away) < 3.0, what
        away = np.abs(np.mean([own[what] for own in found], 0) - mean) / (std * error)
        assert np.max(away) < 2.5, what


@pytest.mark.slow
def test_command_line(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "astrocyte_brunel.py"), "--scale", "0.02"]
    command += ["--duration", "40", "--plot", "a.png", "--json", "a.json", "--save", "a.npz"]
    command += ["--rule", "fixed_indegree", "--seed", "100"]
    done = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
    stages = ("Creating nodes", "Connecting Poisson generator", "Connecting neurons and astrocytes")
    for stage in (*stages, "Connecting recorders", "Running simulation", "Plotting dynamics"):
        assert f"{stage} ..." in done.stdout
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert numbers["n_neurons"] == numbers["n_astrocytes"] == 200
    assert numbers["n_synapses_by_kind"]["exc"] == 200 * 16
    assert numbers["n_synapses"] == sum(numbers["n_synapses_by_kind"].values())
    assert set(numbers["rates"]) == {"exc", "inh"} and "RK4" in numbers["solver"]
    saved = np.load(tmp_path / "a.npz")
    assert saved["IP3"].shape == saved["I_SIC"].shape == (40, 50)
    assert (tmp_path / "a.png").exists() and (tmp_path / "a-2.png").exists()
    for more, message in (
        (["--scale", "0.0001"], "scale=0.0001 leaves no network"),
        (["--rule", "random"], "invalid choice: 'random'"),
        (["--duration", "0.05"], "no whole number of steps"),
    ):
        wrong = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True)
        assert wrong.returncode == 2 and message in wrong.stderr
