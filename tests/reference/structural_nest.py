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
SEEDS = {"1000": range(1, 6), "10000": range(1, 5), "100": range(1, 5), "exp": range(1, 3)}
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


def run(name, seed, duration=DURATION):
    """A run of the published network, as described above."""
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
    cells = {
        name: nest.Create(model, n, {**membrane, "synaptic_elements": elements})
        for name, n, elements in (("exc", N_EXC, exc), ("inh", N_INH, inh))
    }
    noise = nest.Create("poisson_generator", params={"rate": 10000.0})
    recorders = {name: nest.Create("spike_recorder") for name in cells}
    for name, own in cells.items():
        nest.Connect(noise, own, "all_to_all", {"weight": 6.2, "delay": 1.0})
        nest.Connect(own, recorders[name])
    nest.EnableStructuralPlasticity()
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
