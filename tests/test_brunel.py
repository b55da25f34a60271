"""The Brunel network: spike for spike with NEST, and as published within NEST's own spread."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nest
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "brunel_delta.py"
REFERENCE = Path(__file__).parent / "reference"
sys.path.insert(0, str(REFERENCE))


def run_example(*arguments):
    return subprocess.run(
        [sys.executable, str(EXAMPLE), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "Agg"},
    )


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A network of 1,250 neurons on NEST, with its edges, input spikes and output spikes."""
    nest.ResetKernel()
    nest.resolution, nest.rng_seed = 0.1, 5
    order, delay = 250, 1.5
    n_exc, n = 4 * order, 5 * order
    j = 0.1 * 2500 / order
    law = dict(C_m=1.0, tau_m=20.0, t_ref=2.0, E_L=0.0, V_reset=0.0, V_m=0.0, V_th=20.0)
    cells = nest.Create("iaf_psc_delta", n, params=law)
    relays = nest.Create("parrot_neuron", n)
    noise = nest.Create("poisson_generator", params={"rate": 2000.0 * 20.0 / (j * 20.0)})
    nest.Connect(noise, relays, syn_spec={"delay": 0.1})
    nest.Connect(relays, cells, "one_to_one", {"weight": j, "delay": delay})
    for pre, indegree, weight in (
        (cells[:n_exc], n_exc // 10, j),
        (cells[n_exc:], order // 10, -5 * j),
    ):
        rule = {"rule": "fixed_indegree", "indegree": indegree}
        nest.Connect(pre, cells, rule, {"weight": weight, "delay": delay})
    out, sent = nest.Create("spike_recorder"), nest.Create("spike_recorder")
    nest.Connect(cells, out)
    nest.Connect(relays, sent)
    nest.Simulate(1000.0)
    edges = nest.GetConnections(cells, cells)
    steps = lambda times: np.rint(np.asarray(times) / 0.1).astype(np.int64)
    file = tmp_path_factory.mktemp("frozen") / "frozen.npz"
    spikes = set(
        zip(steps(out.events["times"]).tolist(), (out.events["senders"] - 1).tolist(), strict=True)
    )
    np.savez(
        file,
        pre=np.asarray(list(edges.sources())) - 1,
        post=np.asarray(list(edges.targets())) - 1,
        weight=np.asarray(edges.get("weight")),
        in_step=steps(sent.events["times"]),
        in_neuron=sent.events["senders"] - relays[0].global_id,
        J=j,
        delay_steps=15,
        dt=0.1,
    )
    return file, spikes, n_exc


@pytest.mark.parametrize("devices", [1, 2])
def test_every_spike_is_that_of_nest(frozen, tmp_path, devices):
    file, expected, n_exc = frozen
    save = tmp_path / "spikes.npz"
    done = run_example("--frozen", file, "--float64", "--save", save, "--devices", devices)
    assert done.returncode == 0, done.stderr
    with np.load(save) as ours:
        times = np.concatenate([ours["t_exc"], ours["t_inh"]])
        index = np.concatenate([ours["i_exc"], ours["i_inh"] + n_exc])
    found = set(zip(np.rint(times / 0.1).astype(int).tolist(), index.tolist(), strict=True))
    assert len(expected) > 45_000
    assert found == expected


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Three seeds of the published network: the numbers and the spikes of each."""
    folder = tmp_path_factory.mktemp("published")
    runs = []
    for seed in (1, 2, 3):
        save, numbers, plot = (folder / f"{seed}.{end}" for end in ("npz", "json", "png"))
        done = run_example("--seed", seed, "--save", save, "--json", numbers, "--plot", plot)
        assert done.returncode == 0, done.stderr
        with np.load(save) as file:
            spikes = {name: file[name] for name in file.files}
        runs.append((done.stdout, json.loads(numbers.read_text()), spikes, plot))
    return runs


@pytest.mark.slow
def test_published_network_is_within_the_spread_of_nest(published):
    from brunel_nest import N_EXC, statistics

    reference = json.loads((REFERENCE / "brunel_nest.json").read_text())["runs"]
    ours = []
    for _, _, spikes, _ in published:
        times = np.concatenate([spikes["t_exc"], spikes["t_inh"]])
        index = np.concatenate([spikes["i_exc"], spikes["i_inh"] + N_EXC])
        order = np.argsort(times, kind="stable")
        ours.append(statistics(times[order], index[order]))
    for what in ("rate_exc", "rate_inh"):
        mean = np.mean([run[what] for run in reference])
        for run in ours:
            assert abs(run[what] / mean - 1) < 0.01, what
    for what in ("cv", "correlation", "fano"):
        theirs = np.array([run[what] for run in reference])
        mine = np.array([run[what] for run in ours])
        # The means differ by no more than seeds do, and no value of ours is unlike all of theirs
        spread = np.sqrt((theirs.var(ddof=1) + mine.var(ddof=1)) / 2)
        means = 3 * spread * np.sqrt(1 / theirs.size + 1 / mine.size)
        assert abs(mine.mean() - theirs.mean()) < means, (what, mine, theirs)
        assert np.all(abs(mine - theirs.mean()) < 4 * spread), (what, mine, theirs)


@pytest.mark.slow
def test_published_script_is_reproduced(published):
    printed, numbers, spikes, plot = published[0]
    assert "Number of neurons : 12500" in printed
    assert "Number of synapses: 15625000 " in printed
    assert "Excitatory : 12500000" in printed
    assert "Inhibitory : 3125000" in printed
    assert "Excitatory rate   :" in printed and "Inhibitory rate   :" in printed
    assert "Building time     :" in printed and "Simulation time   :" in printed
    assert numbers["n_neurons"] == 12_500 and numbers["n_synapses"] == 15_625_000
    wanted = {"build_s", "compile_s", "run_s", "peak_memory_mb", "rates", "solver"}
    assert wanted <= numbers.keys()
    assert numbers["peak_memory_mb"] < 1200
    for kind, n in (("exc", 10_000), ("inh", 2_500)):
        assert numbers["rates"][kind] == pytest.approx(spikes[f"t_{kind}"].size / n)
        few = np.count_nonzero(spikes[f"i_{kind}"] < 50) / 50
        assert numbers["rates_recorded"][kind] == pytest.approx(few)
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_seeds_differ_and_repeat(tmp_path):
    spikes = []
    for seed in (1, 1, 2):
        save = tmp_path / "spikes.npz"
        done = run_example("--seed", seed, "--scale", 0.05, "--duration", 100, "--save", save)
        assert done.returncode == 0, done.stderr
        with np.load(save) as file:
            spikes.append(file["t_exc"].tolist())
    assert spikes[0] == spikes[1] != spikes[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--duration", "0.05"], "duration=0.05 ms is no whole number of steps"),
        (["--duration", "-1"], "give more than 0 ms"),
        (["--scale", "0"], "give a number above 0"),
        (["--scale", "0.0001"], "give 10 or more"),
        (["--frozen", "nowhere.npz"], "there is no such file"),
        (["--save", "spikes.txt"], "ends in .npz"),
        (["--plot", "figure.xyz", "--scale", "0.02", "--duration", "1"], "png"),
        (["--devices", "0"], "give 1 or more"),
        (["--devices", "9999"], "give at most"),
        (["--wrong"], "unrecognized arguments"),
    ],
)
def test_bad_command_line(arguments, message):
    done = run_example(*arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
