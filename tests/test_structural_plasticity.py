"""The network that wires itself up: spike for spike with NEST from given synapses, and as published
within the spread of its seeds."""

import json
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
import common  # noqa: E402
import structural_nest  # noqa: E402
import structural_plasticity as example  # noqa: E402
import structural_sweep  # noqa: E402

NEST = json.loads((REFERENCE / "structural_nest.json").read_text())
NAMES = ("ca_exc", "ca_inh", "connections_exc", "connections_inh")


def test_existing_synapses_give_every_spike_of_nest(x64):
    """100 neurons with synapses from the start, until before the second update: the first finds
    nothing to do, since z of each element is raised to what is connected."""
    duration = 990.0
    made = structural_nest.draw(1, 80, 20, 3, duration)
    theirs = structural_nest.run_frozen(made, duration)
    net = example.build_frozen(made)
    record = {"spikes": jsnn.record.Spikes("cells")}
    solution = jsnn.run(net, duration, key=jax.random.key(1), record=record, progress=False)
    spikes = solution.records["spikes"]
    order = np.lexsort((spikes.index, spikes.steps))
    np.testing.assert_array_equal(spikes.steps[order], theirs["spike_step"])
    np.testing.assert_array_equal(spikes.index[order], theirs["spike_neuron"])
    assert spikes.steps.size > 500
    growth = net.populations["cells"].growth.up_to_date(solution.state.populations["cells"].growth)
    np.testing.assert_allclose(growth["ca"], theirs["ca"], rtol=1e-9)
    parts = {"Axon_ex": slice(0, 80), "Axon_in": slice(80, 100)}
    for name in ("Axon_ex", "Axon_in", "Den_ex", "Den_in"):
        part = parts.get(name, slice(None))
        np.testing.assert_allclose(growth[name][part], theirs[name], rtol=1e-9)
        np.testing.assert_array_equal(
            growth[f"{name}.connected"][part], theirs[f"{name}.connected"]
        )
    edges = net.connections(solution.state)
    for kind in ("ex", "in"):
        own = edges[f"synapse_{kind}"]
        wanted = np.stack([made[f"pre_{kind}"], made[f"post_{kind}"]])
        wanted = wanted[:, np.lexsort(wanted[::-1])]
        np.testing.assert_array_equal(np.stack([own.pre, own.post]), wanted)


def courses(name, seed, seconds):
    interval, neuron = (1000.0, "iaf_psc_exp") if name == "exp" else (float(name), "iaf_psc_alpha")
    net = example.build(seed=seed, update_interval=interval, neuron=neuron)
    solution = jsnn.run(
        net, 1000.0 * seconds, key=jax.random.key(seed), record=example.recorders(), progress=False
    )
    return example.courses(solution.records), net, solution


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seconds"), [("1000", 200), ("10000", 60), ("100", 20), ("exp", 15)]
)
def test_published_network(name, seconds):
    """Calcium and connections at every second within four standard deviations of NEST's seeds,
    which tells networks with another rule for updates, or other elements, apart."""
    found, net, solution = courses(name, 1, seconds)
    for what in NAMES:
        theirs = np.asarray([run[what][:seconds] for run in NEST[name].values()])
        # Early on seeds hardly differ, and there are few
        least = 0.0015 if what.startswith("ca") else 6
        spread = np.maximum(theirs.std(0, ddof=1), np.maximum(0.02 * theirs.mean(0), least))
        off = np.abs(found[what] - theirs.mean(0)) / spread
        assert off.max() < 4, (what, off.argmax(), off.max())
    if name == "exp":  # it never fires, and without calcium nothing grows
        assert not np.any(list(found.values()))
    if name == "1000":
        assert found["ca_exc"][-1] == pytest.approx(example.EPS_EXC, rel=0.04)
        assert found["ca_inh"][-1] == pytest.approx(example.EPS_INH, rel=0.04)
    n = {kind: int(own.n_edges) for kind, own in solution.state.edges.items()}
    assert n == {
        "synapse_ex": found["connections_exc"][-1],
        "synapse_in": found["connections_inh"][-1],
    }


def run_example(*options, sweep=False):
    name = "structural_sweep" if sweep else "structural_plasticity"
    sys.argv = [f"{name}.py", *map(str, options), "--devices", "1"]
    if sweep:
        common.run(structural_sweep.main, example.parser("Sweep", None))
    else:
        common.run(example.main, example.parser())


@pytest.mark.slow
def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", sys.argv)
    files = {name: tmp_path / f"out.{name}" for name in ("eps", "json", "npz")}
    options = ("--scale", 0.05, "--duration", 16000, "--update-interval", 100)
    run_example(*options, "--plot", files["eps"], "--json", files["json"], "--save", files["npz"])
    assert "Simulation finished successfully" in capsys.readouterr().out
    assert files["eps"].read_bytes().startswith(b"%!PS-Adobe")
    numbers = json.loads(files["json"].read_text())
    assert numbers["n_neurons"] == 50 and numbers["update_interval"] == 100
    assert set(numbers["rates"]) == {"exc", "inh"}
    with np.load(files["npz"]) as saved:
        assert set(NAMES) <= set(saved.files)
        np.testing.assert_array_equal(saved["times"], 1000.0 * np.arange(1, 17))
        n_spikes = saved["t_exc"].size + saved["t_inh"].size
    assert n_spikes == numbers["n_spikes"] > 100

    # The same growth rate in a sweep gives the same, also when the sweep lacks room at first
    monkeypatch.setattr(structural_sweep, "ROOM", 0.5)
    wanted = ("--json", files["json"], "--save", files["npz"], "--plot", tmp_path / "rates.png")
    run_example(*options, *wanted, sweep=True)
    assert "Starting again    : room for 2.0 synapses" in capsys.readouterr().out
    swept = json.loads(files["json"].read_text())
    at = swept["growth_factors"].index(1.0)
    assert swept["at_end"][at]["connections_exc"] == numbers["connections_exc"]
    assert swept["at_end"][at]["ca_exc"] == pytest.approx(numbers["ca_exc"], rel=1e-5)
    assert numbers["connections_exc"] > 10
    grown = [own["connections_exc"] for own in swept["at_end"]]
    assert grown[0] < grown[at] < max(grown)
    with np.load(files["npz"]) as saved:
        np.testing.assert_array_equal(saved["connections_exc"][:, -1], grown)
    assert (tmp_path / "rates.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scale", 0.001), "leaves no network"),
        (("--update-interval", -5), "interval"),
        (("--update-interval", 0.15), "no whole number of steps"),
        (("--duration", 10), "less than 1000 ms"),
    ],
)
def test_wrong_arguments(options, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", sys.argv)
    with pytest.raises(SystemExit):
        run_example(*options)
    assert message in capsys.readouterr().err
