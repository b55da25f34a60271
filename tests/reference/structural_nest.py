"""The published network with structural plasticity on NEST, as published.

    python tests/reference/structural_nest.py [--runs 1000 exp] [--seeds 1 2]

800 excitatory and 200 inhibitory neurons, no synapse at the start, 200 s in steps of 0.1 ms. A run
is named by its update interval in ms; "exp" is the one of 1000 ms with `iaf_psc_exp` and the
parameters that the published script declares and does not use. The script writes
`structural_nest.json` beside this file, a run at a time; runs that stand there are not made again.
Every run has, at every second (1, 2, ... 200)

- `ca_exc`, `ca_inh`: mean calcium;
- `connections_exc`, `connections_inh`: connected axonal elements, all cells together;

and over the whole run

- `rates`: Hz, of all excitatory (`exc`) and inhibitory (`inh`) neurons;
- `simulation_s`, `memory_mb`: with the one thread that NEST allows.
"""

import argparse
import json
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nest
import numpy as np

INTERVALS = {"1000": 1000.0, "10000": 10000.0, "100": 100.0, "exp": 1000.0}  # ms
SEEDS = {"1000": range(1, 12), "10000": range(1, 5), "100": range(1, 5), "exp": range(1, 3)}
N_EXC, N_INH = 800, 200
DT, DURATION, EVERY = 0.1, 200000.0, 1000.0  # ms
MEMBRANE = {
    **{"tau_m": 10.0, "tau_syn_ex": 0.5, "tau_syn_in": 0.5, "t_ref": 2.0, "C_m": 250.0},
    **{"E_L": -65.0, "V_th": -50.0, "V_reset": -65.0},
}


def _elements(rate, eps):
    return {
        **{"growth_curve": "gaussian", "growth_rate": rate, "continuous": False},
        **{"eta": 0.0, "eps": eps},
    }


def draw(seed, n_exc, n_inh, indegree, duration):
    """A network of this law as `run_frozen` takes it, with input for `duration` ms and synapses
    that are there from the start: `indegree` of each kind onto each neuron.

    - `n_exc`, `n_inh`; `pre_ex`, `post_ex`, `pre_in`, `post_in`: synapses, neurons counted with
      the excitatory ones first;
    - `poisson_step`, `poisson_neuron`: an entry for every external spike. One of step s is emitted
      at (s + 1) dt and arrives 1 ms later;
    - `ca`: calcium at the start; `dt`: ms.
    """
    rng = np.random.default_rng(seed)
    n = n_exc + n_inh
    post = np.tile(np.arange(n), indegree)
    counts = rng.poisson(10000.0 * DT / 1000, (round(duration / DT), n))
    step, neuron = counts.nonzero()
    times = counts[step, neuron]
    return {
        **{"n_exc": n_exc, "n_inh": n_inh, "dt": DT, "ca": rng.uniform(0.0, 0.1, n)},
        **{"pre_ex": rng.integers(0, n_exc, post.size), "post_ex": post},
        **{"pre_in": rng.integers(n_exc, n, post.size), "post_in": post},
        **{"poisson_step": np.repeat(step, times), "poisson_neuron": np.repeat(neuron, times)},
    }


def run_frozen(network, duration):
    """Run a given network, made as `draw` makes it, without the update at its end.

    Returns `spike_step` and `spike_neuron`, in that order: a spike of step s is stamped (s + 1) dt;
    and at the end `ca`, and by kind of element z and the number of connected ones, of the neurons
    that have it.
    """
    exc, inh = _cells("1000", 1, int(network["n_exc"]), int(network["n_inh"]))
    neurons = exc + inh
    first = neurons[0].global_id
    for kind in ("ex", "in"):
        synapse = {
            "synapse_model": f"synapse_{kind}",
            "pre_synaptic_element": f"Axon_{kind}",
            "post_synaptic_element": f"Den_{kind}",
        }
        ends = network[f"pre_{kind}"], network[f"post_{kind}"]
        for a, b in zip(*(own.tolist() for own in ends), strict=True):
            # NEST counts elements only where a rule connects
            nest.Connect(neurons[a], neurons[b], "one_to_one", synapse)
    neurons.Ca = network["ca"]
    order = np.lexsort((network["poisson_step"], network["poisson_neuron"]))
    ends = np.searchsorted(network["poisson_neuron"], np.arange(1, len(neurons)), sorter=order)
    stamps = np.round((np.asarray(network["poisson_step"])[order] + 1) * DT, 6)
    trains = [{"spike_times": own} for own in np.split(stamps, ends)]
    sources = nest.Create("spike_generator", len(neurons), trains)
    nest.Connect(sources, neurons, "one_to_one", {"weight": 6.2, "delay": 1.0})
    recorder = nest.Create("spike_recorder")
    nest.Connect(neurons, recorder)
    nest.EnableStructuralPlasticity()
    nest.Simulate(duration)
    events = recorder.events
    step = np.rint(events["times"] / DT).astype(np.int64) - 1
    order = np.lexsort((events["senders"], step))
    found = {"spike_step": step[order], "spike_neuron": events["senders"][order] - first}
    found["ca"] = np.asarray(neurons.Ca)
    for name in ("Axon_ex", "Axon_in", "Den_ex", "Den_in"):
        own = [elements[name] for elements in neurons.synaptic_elements if name in elements]
        found[name] = np.asarray([element["z"] for element in own])
        found[f"{name}.connected"] = np.asarray([element["z_connected"] for element in own])
    return found


def run(name, seed, duration=DURATION):
    """A run of the published network, as described above."""
    exc, inh = _cells(name, seed, N_EXC, N_INH)
    cells = {"exc": exc, "inh": inh}
    noise = nest.Create("poisson_generator", params={"rate": 10000.0})
    recorders = {name: nest.Create("spike_recorder") for name in cells}
    for name, own in cells.items():
        nest.Connect(noise, own, "all_to_all", {"weight": 6.2, "delay": 1.0})
        nest.Connect(own, recorders[name])
    nest.EnableStructuralPlasticity()
    return _courses(cells, recorders, duration)


def _cells(name, seed, n_exc, n_inh):
    """A fresh kernel with the neurons of the published network and its kinds of synapses."""
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.resolution = DT
    nest.rng_seed = seed
    nest.structural_plasticity_update_interval = INTERVALS[name]
    for kind, weight in (("ex", 585.0), ("in", -585.0)):
        nest.CopyModel("static_synapse", f"synapse_{kind}", {"weight": weight, "delay": 1.0})
    nest.structural_plasticity_synapses = {
        f"synapse_{kind}": {
            "synapse_model": f"synapse_{kind}",
            "pre_synaptic_element": f"Axon_{kind}",
            "post_synaptic_element": f"Den_{kind}",
        }
        for kind in ("ex", "in")
    }
    model, membrane = ("iaf_psc_exp", MEMBRANE) if name == "exp" else ("iaf_psc_alpha", {})
    slow, fast, inhibitory = _elements(1e-4, 0.05), _elements(4e-4, 0.2), _elements(1e-4, 0.2)
    exc = {"Den_ex": slow, "Den_in": slow, "Axon_ex": slow}
    inh = {"Den_ex": fast, "Den_in": inhibitory, "Axon_in": inhibitory}
    return [
        nest.Create(model, n, {**membrane, "synaptic_elements": elements})
        for n, elements in ((n_exc, exc), (n_inh, inh))
    ]


def _courses(cells, recorders, duration):
    found = {f"{what}_{name}": [] for what in ("ca", "connections") for name in cells}
    simulation_s = 0.0
    for _ in range(round(duration / EVERY)):
        start = time.perf_counter()
        nest.Simulate(EVERY)
        simulation_s += time.perf_counter() - start
        for (name, own), axon in zip(cells.items(), ("Axon_ex", "Axon_in"), strict=True):
            found[f"ca_{name}"].append(float(f"{np.mean(own.Ca):.6g}"))
            connected = sum(elements[axon]["z_connected"] for elements in own.synaptic_elements)
            found[f"connections_{name}"].append(int(connected))
    rates = {
        name: round(recorders[name].n_events / len(own) / duration * 1000, 4)
        for name, own in cells.items()
    }
    return found | {
        "rates": rates,
        "simulation_s": round(simulation_s, 2),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", nargs="+", choices=INTERVALS, default=list(INTERVALS))
    parser.add_argument("--seeds", nargs="+", type=int)
    args = parser.parse_args()
    path = Path(__file__).with_suffix(".json")
    runs = json.loads(path.read_text()) if path.exists() else {}
    for name in args.runs:
        for seed in args.seeds or SEEDS[name]:
            if str(seed) in runs.setdefault(name, {}):
                continue
            # A process of its own, since NEST does not give memory back
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                runs[name][str(seed)] = found = pool.submit(run, name, seed).result()
            last = {key: value[-1] for key, value in found.items() if isinstance(value, list)}
            print(name, seed, last, found["simulation_s"], flush=True)
            lines = [
                f' "{name}": {{\n' + ",\n".join(f'  "{s}": {json.dumps(r)}' for s, r in own.items())
                for name, own in runs.items()
            ]
            path.write_text("{\n" + "\n },\n".join(lines) + "\n }\n}\n")
