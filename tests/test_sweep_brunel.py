"""Brunel's phase diagram: the measures, the names of states, and the program at a small size."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn import analysis
from jsnn.record import Spikes

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "examples")]
import common  # noqa: E402
import sweep_brunel as example  # noqa: E402


def test_synchrony():
    """Poisson spikes have none; a rate of 1 + cos has modulation sqrt(1/2) and lasts."""
    rng = np.random.default_rng(1)
    t = np.arange(20_000) * 1e-4
    for depth, hertz in ((0.0, 0.0), (1.0, 180.0)):
        rate = 20 * (1 + depth * np.cos(2 * np.pi * hertz * t))
        found = jax.jit(lambda x: example.synchrony(x, 0.1))(jnp.asarray(rng.poisson(rate)))
        assert found["modulation"] == pytest.approx(depth * np.sqrt(0.5), abs=0.03)
        if depth:
            assert found["rhythm"] == pytest.approx(1.0, abs=0.05)
            assert found["frequency"] == pytest.approx(hertz, abs=2.5)
        else:
            assert found["modulation"] < 0.06


def test_names():
    """The published networks, and one that is silent, with measures as they were found."""
    rows = {
        "SR": (330.0, 0.1, 1.6, 0.9, 657.0),
        "AR": (200.0, 0.37, 0.61, 0.17, 172.0),
        "AI": (42.0, 1.0, 0.9, 0.15, 92.0),
        "SI fast": (60.0, 1.36, 0.7, 0.3, 170.0),
        "SI slow": (15.0, 0.8, 1.5, 0.2, 40.0),
        "Q": (0.0, np.nan, 0.0, 0.0, 10.0),
    }
    names = ("rate", "cv", "modulation", "rhythm", "frequency")
    found = {what: np.array([[row[i]] for row in rows.values()]) for i, what in enumerate(names)}
    assert example.states(found)[:, 0].tolist() == list(rows)
    assert set(rows) == set(example.STATES)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two by two networks of 150 neurons for 60 ms, as a program."""
    folder = tmp_path_factory.mktemp("sweep")
    files = {name: folder / f"out.{name}" for name in ("png", "json", "npz")}
    arguments = ["--scale", 0.12, "--duration", 60, "--points", 2, "--devices", 1, "--singles", 2]
    with pytest.MonkeyPatch.context() as patch:
        for option, name in (("--plot", "png"), ("--json", "json"), ("--save", "npz")):
            arguments += [option, files[name]]
        patch.setattr(sys, "argv", ["sweep_brunel.py", *map(str, arguments)])
        common.run(example.main, example.parser())
    return files


@pytest.mark.slow
def test_command_line(swept):
    numbers = json.loads(swept["json"].read_text())
    assert numbers["n_neurons"] == 4 * 150 and numbers["g"] == [0.5, 8.0]
    assert {"build_s", "compile_s", "run_s", "single_run_s", "run_over_singles"} <= set(numbers)
    ratio = numbers["run_s"] / (4 * numbers["single_run_s"])
    assert numbers["run_over_singles"] == pytest.approx(ratio)
    assert numbers["states"][0][0] == "Q" and numbers["rate"][0][1] > 200
    assert swept["png"].read_bytes().startswith(b"\x89PNG")
    with np.load(swept["npz"]) as saved:
        np.testing.assert_allclose(saved["rate"], numbers["rate"], atol=1e-4)
        assert saved["states"].tolist() == numbers["states"]


@pytest.mark.slow
def test_measures_are_those_of_the_recorded_spikes(swept):
    """Rate and CV of a network of the sweep, from the spikes of a run of its own."""
    with np.load(swept["npz"]) as saved:
        rate, cv = saved["rate"][1, 1], saved["cv"][1, 1]
    net = example.build(30, 1)
    net = example.eqx.tree_at(
        lambda own: [own.synapses["inh"].weight, own.inputs["noise"].rate],
        net,
        [jnp.asarray(-8.0 * example.J), jnp.asarray(4.0 * example.threshold_rate())],
    )
    record = {"spikes": Spikes("cells")}
    solution = jsnn.run(
        net, example.WARM + 60.0, key=jax.random.key(1), record=record, progress=False
    )
    spikes = solution.records["spikes"]
    late = analysis.within(spikes.times, example.WARM, example.WARM + 60.0)
    times, index = spikes.times[late], spikes.index[late]
    assert rate == pytest.approx(analysis.mean_rate(index, 150, 60.0), rel=1e-5)
    assert cv == pytest.approx(np.nanmean(analysis.cv_isi(times, index, 150)), rel=1e-3)
    assert rate > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--points", 1), "give 2 or more"),
        (("--singles", 300), "no more than there are"),
        (("--duration", 1), "give 2 ms or more"),
        (("--batch", 3, "--devices", 2, "--scale", 0.1), "devices"),
    ],
)
def test_wrong_arguments(options, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sweep_brunel.py", *map(str, options)])
    monkeypatch.setattr(common.jax.config, "update", lambda *_: None)
    with pytest.raises(SystemExit):
        common.run(example.main, example.parser())
    assert message in capsys.readouterr().err
