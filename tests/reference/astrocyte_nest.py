"""The published network of neurons and astrocytes on NEST: frozen, and as published.

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
EXCITATORY = {"synapse_model": "tsodyks_synapse", "weight": 1.0, "tau_psc": 2.0, "delay": 2.0}
INHIBITORY = {"synapse_model": "tsodyks_synapse", "weight": -4.0, "tau_psc": 4.0, "delay": 1.0}
SLOW = {"synapse_model": "sic_connection", "weight": 0.05}


def draw(seed, n_exc, n_inh, n_astro, p, duration):
    """A network of this law as `run_frozen` takes it, with input for `duration` ms: neurons are
    connected with probability p, and half of the excitatory synapses paired.

    - `n_exc`, `n_inh`, `n_astro`; `pre_exc`, `post_exc`, `pre_inh`, `post_inh`: synapses, neurons
      counted with the excitatory ones first; `pre_in`, `post_in`: from neurons to astrocytes;
      `pre_out`, `post_out`: slow currents, some repeated;
    - `poisson_step`, `poisson_neuron`: an entry for every external spike. One of step s is emitted
      at (s + 1) dt and arrives 1 ms later;
    - `dt`: ms.
    """
    rng = np.random.default_rng(seed)
    n = n_exc + n_inh
    pre_exc, post_exc = (rng.random((n_exc, n)) < p).nonzero()
    pre_inh, post_inh = (rng.random((n_inh, n)) < p).nonzero()
    paired = rng.random(pre_exc.size) < 0.5
    pools = np.stack([rng.choice(n_astro, 10, replace=False) for _ in range(n)])
    third = pools[post_exc[paired], rng.integers(0, 10, np.count_nonzero(paired))]
    counts = rng.poisson(2000.0 * DT / 1000, (round(duration / DT), n))
    step, neuron = counts.nonzero()
    times = counts[step, neuron]
    return {
        **{"n_exc": n_exc, "n_inh": n_inh, "n_astro": n_astro, "dt": DT},
        **{"pre_exc": pre_exc, "post_exc": post_exc},
        **{"pre_inh": pre_inh + n_exc, "post_inh": post_inh},
        **{"pre_in": pre_exc[paired], "post_in": third},
        **{"pre_out": third, "post_out": post_exc[paired]},
        **{"poisson_step": np.repeat(step, times), "poisson_neuron": np.repeat(neuron, times)},
    }


def run_frozen(network, duration):
    """Run a given network, made as `draw` makes it, for whole milliseconds.

    Returns `spike_step` and `spike_neuron`, in that order: a spike of step s is stamped (s + 1) dt;
    and at every ms (1, 2, ...) but the last `IP3` and `Ca_astro` of all astrocytes and `I_SIC` of
    all neurons, time first.
    """
    exc, inh, astrocytes = _cells(*(int(network[f"n_{kind}"]) for kind in ("exc", "inh", "astro")))
    neurons = exc + inh
    first = {"neurons": neurons[0].global_id, "astro": astrocytes[0].global_id}

    def connect(kind, pre, post, synapse):
        ends = network[f"pre_{kind}"] + first[pre], network[f"post_{kind}"] + first[post]
        synapse = {
            name: np.full(ends[0].size, value) if isinstance(value, float) else value
            for name, value in synapse.items()
        }
        nest.Connect(*ends, "one_to_one", synapse)

    connect("exc", "neurons", "neurons", EXCITATORY)
    connect("inh", "neurons", "neurons", INHIBITORY)
    connect("in", "neurons", "astro", EXCITATORY)
    connect("out", "astro", "neurons", {**SLOW, "delay": 1.0})
    order = np.lexsort((network["poisson_step"], network["poisson_neuron"]))
    ends = np.searchsorted(network["poisson_neuron"], np.arange(1, len(neurons)), sorter=order)
    stamps = np.round((np.asarray(network["poisson_step"])[order] + 1) * DT, 6)
    trains = [{"spike_times": own} for own in np.split(stamps, ends)]
    sources = nest.Create("spike_generator", len(neurons), trains)
    nest.Connect(sources, neurons, "one_to_one", {"weight": 1.0, "delay": 1.0})
    recorder = nest.Create("spike_recorder")
    nest.Connect(neurons, recorder)
    meters = _meters(neurons, astrocytes)
    nest.Simulate(duration)
    events = recorder.events
    step = np.rint(events["times"] / DT).astype(np.int64) - 1
    neuron = events["senders"] - first["neurons"]
    order = np.lexsort((neuron, step))
    found = {"spike_step": step[order], "spike_neuron": neuron[order]}
    return found | {name: _values(meter, name) for name, meter in meters.items()}


def _cells(n_exc, n_inh, n_astro, seed=1):
    """A fresh kernel with the cells of the published network."""
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.local_num_threads = 2
    nest.resolution = DT
    nest.rng_seed = seed
    params = {"tau_syn_ex": 2.0, "tau_syn_in": 4.0}
    exc, inh = (nest.Create("aeif_cond_alpha_astro", n, params) for n in (n_exc, n_inh))
    return exc, inh, nest.Create("astrocyte_lr_1994", n_astro, {"IP3": 0.4})


def _meters(neurons, astrocytes):
    """By quantity, what records it every millisecond."""
    meters = {}
    for cells, names in ((neurons, ["I_SIC"]), (astrocytes, ["IP3", "Ca_astro"])):
        meter = nest.Create("multimeter", params={"record_from": names})
        nest.Connect(meter, cells)
        meters |= {name: meter for name in names}
    return meters


def _values(meter, name):
    """What was recorded `[n_samples, n_cells]`, at 1, 2, ... ms."""
    events = meter.events
    order = np.lexsort((events["senders"], events["times"]))
    return events[name][order].reshape(np.unique(events["times"]).size, -1)


def run(rule, seed, duration=DURATION):
    """A run of the published network, as described above."""
    start = time.perf_counter()
    exc, inh, astrocytes = _cells(N_EXC, N_INH, N_ASTRO, seed)
    noise = nest.Create("poisson_generator", params={"rate": 2000.0})
    nest.Connect(noise, exc + inh, syn_spec={"weight": 1.0})
    excitatory, inhibitory = RULES[rule]
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
            "primary": dict(EXCITATORY),
            "third_in": dict(EXCITATORY),
            "third_out": SLOW,
        },
    )
    nest.Connect(inh, exc + inh, inhibitory, dict(INHIBITORY))
    connections = nest.num_connections - N_EXC - N_INH  # without those of the generator
    recorders = {name: nest.Create("spike_recorder") for name in ("exc", "inh")}
    for name, cells in (("exc", exc), ("inh", inh)):
        nest.Connect(cells, recorders[name])
    rng = np.random.default_rng(seed)
    sampled = [
        cells[np.sort(rng.choice(len(cells), N_SAMPLED, replace=False)).tolist()]
        for cells in (exc + inh, astrocytes)
    ]
    meters = _meters(*sampled)
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
        values = _values(meter, name)
        assert values.shape == (round(duration) - 1, N_SAMPLED)  # without the end
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
