"""The published network of neurons and astrocytes on NEST, under its own randomness.

    python tests/reference/astrocyte_nest.py [--rules bernoulli fixed_indegree] [--seeds 1 2]

8,000 excitatory and 2,000 inhibitory neurons, 10,000 astrocytes, 1 s in steps of 0.1 ms. The script
writes `astrocyte_nest.json` beside this file, a run at a time; runs that stand there are not made
again. Every run has

- `rates`: Hz, of all excitatory (`exc`) and inhibitory (`inh`) neurons over the whole run;
- `IP3`, `Ca_astro` (uM) and `I_SIC` (pA): `mean` and `std` over 500 astrocytes, or 500 neurons,
  at every 10 ms, and `overall`, the mean over cells and the samples of every millisecond;
- `connections`: all that NEST counts, without those of recorders;
- `build_s`, `simulation_s`, `memory_mb`: with 2 threads.
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

RULES = {
    "bernoulli": (
        {"rule": "pairwise_bernoulli", "p": 0.1},
        {"rule": "pairwise_bernoulli", "p": 0.1},
    ),
    "fixed_indegree": (
        {"rule": "fixed_indegree", "indegree": 800},
        {"rule": "fixed_indegree", "indegree": 200},
    ),
}
SEEDS = {"bernoulli": range(1, 7), "fixed_indegree": range(1, 4)}
N_EXC, N_INH, N_ASTRO = 8000, 2000, 10000
N_SAMPLED = 500
DT, DURATION = 0.1, 1000.0  # ms
EVERY = 10  # ms, of the time courses


def run(rule, seed, duration=DURATION):
    """A run of the published network, as described above."""
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.local_num_threads = 2
    nest.resolution = DT
    nest.rng_seed = seed
    start = time.perf_counter()
    params = {"tau_syn_ex": 2.0, "tau_syn_in": 4.0}
    exc = nest.Create("aeif_cond_alpha_astro", N_EXC, params)
    inh = nest.Create("aeif_cond_alpha_astro", N_INH, params)
    astrocytes = nest.Create("astrocyte_lr_1994", N_ASTRO, {"IP3": 0.4})
    noise = nest.Create("poisson_generator", params={"rate": 2000.0})
    nest.Connect(noise, exc + inh, syn_spec={"weight": 1.0})
    excitatory, inhibitory = RULES[rule]
    synapse = {"synapse_model": "tsodyks_synapse", "weight": 1.0, "tau_psc": 2.0, "delay": 2.0}
    nest.TripartiteConnect(
        exc,
        exc + inh,
        astrocytes,
        excitatory,
        {
            "rule": "third_factor_bernoulli_with_pool",
            "p": 0.5,
            "pool_size": 10,
            "pool_type": "random",
        },
        {
            "primary": dict(synapse),
            "third_in": dict(synapse),
            "third_out": {"synapse_model": "sic_connection", "weight": 0.05},
        },
    )
    nest.Connect(
        *(inh, exc + inh, inhibitory),
        {"synapse_model": "tsodyks_synapse", "weight": -4.0, "tau_psc": 4.0, "delay": 1.0},
    )
    connections = nest.num_connections - N_EXC - N_INH  # without those of the generator
    recorders = {name: nest.Create("spike_recorder") for name in ("exc", "inh")}
    for name, cells in (("exc", exc), ("inh", inh)):
        nest.Connect(cells, recorders[name])
    rng = np.random.default_rng(seed)
    meters = {}
    for cells, names in (((exc + inh), ["I_SIC"]), (astrocytes, ["IP3", "Ca_astro"])):
        meter = nest.Create("multimeter", params={"record_from": names})
        chosen = np.sort(rng.choice(len(cells), N_SAMPLED, replace=False))
        nest.Connect(meter, cells[chosen.tolist()])
        meters |= {name: meter for name in names}
    nest.Prepare()
    build_s = time.perf_counter() - start
    start = time.perf_counter()
    nest.Run(duration)
    simulation_s = time.perf_counter() - start
    nest.Cleanup()
    found = {
        "rates": {
            name: recorders[name].n_events / n / duration * 1000
            for name, n in (("exc", N_EXC), ("inh", N_INH))
        },
        "connections": int(connections),
        "build_s": round(build_s, 2),
        "simulation_s": round(simulation_s, 2),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    for name, meter in meters.items():
        events = meter.events
        order = np.lexsort((events["senders"], events["times"]))
        values = events[name][order].reshape(-1, N_SAMPLED)
        assert values.shape[0] == round(duration) - 1  # at 1, 2, ... ms, without the end
        every = slice(EVERY - 1, None, EVERY)
        found[name] = {
            "overall": float(values.mean()),
            "mean": [float(f"{x:.6g}") for x in values.mean(1)[every]],
            "std": [float(f"{x:.4g}") for x in values.std(1)[every]],
        }
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--seeds", nargs="+", type=int)
    args = parser.parse_args()
    path = Path(__file__).with_suffix(".json")
    runs = json.loads(path.read_text()) if path.exists() else {}
    for rule in args.rules:
        for seed in args.seeds or SEEDS[rule]:
            if str(seed) in runs.setdefault(rule, {}):
                continue
            # A process of its own, since NEST does not give memory back
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                runs[rule][str(seed)] = found = pool.submit(run, rule, seed).result()
            print(rule, seed, found["rates"], found["I_SIC"]["overall"], flush=True)
            lines = [
                f' "{rule}": {{\n' + ",\n".join(f'  "{s}": {json.dumps(r)}' for s, r in own.items())
                for rule, own in runs.items()
            ]
            path.write_text("{\n" + "\n },\n".join(lines) + "\n }\n}\n")
