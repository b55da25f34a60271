"""The published inhibitory network with gap junctions on NEST: frozen, and as published.

    python tests/reference/gap_nest.py [--gap-weights 0.3 0.7] [--seeds 1 2]

500 cells of Hodgkin and Huxley inhibit each other and are joined by 15,000 random pairs of gap
junctions. The script writes `gap_nest.json` beside this file, a run at a time; runs that stand
there are not made again. Every run has

- `rate`: Hz, all spikes over 500 cells and the 501 ms;
- `fano`: variance over mean of the population's spike count in the 100 bins of 5 ms of (0, 500].
  A bin is (a, b] as in `jsnn.analysis`: a spike stamped on an edge belongs to the earlier bin;
- `simulation_s`: seconds that `nest.Simulate` took with 2 threads.
"""

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nest
import numpy as np

from jsnn import analysis

GAP_WEIGHTS, SEEDS = (0.0, 0.3, 0.54, 0.7), range(1, 9)  # nS
N, N_PAIRS, INDEGREE, DURATION = 500, 15_000, 50, 501.0
DT, DELAY = 0.05, 1.0  # ms
RATE, J_EXC, J_INH = 500.0, 300.0, -50.0  # Hz, pA, pA
V_LOW, V_HIGH = -80.0, -40.0  # mV
N_TRACED = 10
INHIBITION = {"weight": J_INH, "delay": DELAY}
DRIVE = {"weight": J_EXC, "delay": DELAY}


def draw(seed, gap_weight, duration):
    """A network of this law as `run_frozen` takes it, with input for `duration` ms.

    - `pre`, `post`: the inhibitory edges, 50 into every cell, none from itself, some repeated;
    - `pair_a`, `pair_b`: the gap junctions, some repeated, some of a cell with itself;
    - `gap_weight`: nS, of each of them;
    - `v0`: mV; the gates start at NEST's defaults, which do not depend on it;
    - `poisson_step`, `poisson_cell`: an entry for every external spike, by step. One of step s
      is emitted at (s + 1) dt, the time that `jsnn.inputs.SpikeList` takes, and arrives
      1 ms later;
    - `dt`: ms.
    """
    rng = np.random.default_rng(seed)
    post = np.repeat(np.arange(N), INDEGREE)
    pre = rng.integers(0, N - 1, post.size)
    pre += pre >= post
    pair_a, pair_b = rng.integers(0, N, (2, N_PAIRS))
    v0 = rng.uniform(V_LOW, V_HIGH, N)
    counts = rng.poisson(RATE * DT / 1000, (round(duration / DT), N))
    step, cell = counts.nonzero()
    times = counts[step, cell]
    return {
        "pre": pre,
        "post": post,
        "pair_a": pair_a,
        "pair_b": pair_b,
        "gap_weight": np.full(N_PAIRS, float(gap_weight)),
        "v0": v0,
        "poisson_step": np.repeat(step, times),
        "poisson_cell": np.repeat(cell, times),
        "dt": DT,
    }


def run_frozen(network, duration, threads=2, use_wfr=True):
    """Run a given network, made as `draw` makes it, for whole milliseconds.

    Without waveform relaxation the cells exchange their potentials once a step. Returns
    `spike_step` and `spike_cell`, in that order: a spike of step s is stamped (s + 1) dt; and `v`
    (mV) of the first 10 cells after every step, `[steps, 10]`.
    """
    dt = float(network["dt"])
    n_steps = round(duration / dt)
    _fresh_kernel(dt, threads, use_wfr)
    cells = nest.Create("hh_psc_alpha_gap", len(network["v0"]))
    first = cells[0].global_id
    cells.V_m = np.asarray(network["v0"]).tolist()
    pre, post = (np.asarray(network[name]) + first for name in ("pre", "post"))
    edges = {name: np.full(pre.size, value) for name, value in INHIBITION.items()}
    nest.Connect(pre, post, "one_to_one", edges)
    order = np.lexsort((network["poisson_step"], network["poisson_cell"]))
    ends = np.searchsorted(network["poisson_cell"], np.arange(1, len(cells)), sorter=order)
    stamps = np.round((np.asarray(network["poisson_step"])[order] + 1) * dt, 6)
    trains = [{"spike_times": own} for own in np.split(stamps, ends)]
    sources = nest.Create("spike_generator", len(cells), trains)
    nest.Connect(sources, cells, "one_to_one", DRIVE)
    _connect_gaps(cells, network["pair_a"], network["pair_b"], network["gap_weight"])
    recorder = nest.Create("spike_recorder")
    nest.Connect(cells, recorder)
    meter = nest.Create("multimeter", params={"interval": dt, "record_from": ["V_m"]})
    nest.Connect(meter, cells[:N_TRACED])
    nest.Simulate(duration + DELAY)  # a meter gets its last samples in the next exchange

    def on_grid(events):
        step = np.rint(events["times"] / dt).astype(np.int64) - 1
        kept = step < n_steps
        return kept, step[kept], events["senders"][kept] - first

    _, step, cell = on_grid(recorder.events)
    order = np.lexsort((cell, step))
    samples = meter.events
    kept, at, of = on_grid(samples)
    v = np.full((n_steps, N_TRACED), np.nan)
    v[at, of] = samples["V_m"][kept]
    return {"spike_step": step[order], "spike_cell": cell[order], "v": v}


def run_published(gap_weight, seed, duration=DURATION):
    """Spikes (stamps in ms, cells) under NEST's own randomness, and the seconds of simulation."""
    _fresh_kernel(DT, 2, True, seed)
    cells = nest.Create("hh_psc_alpha_gap", N)
    noise = nest.Create("poisson_generator", params={"rate": RATE})
    recorder = nest.Create("spike_recorder")
    rule = {"rule": "fixed_indegree", "indegree": INDEGREE}
    rule |= {"allow_autapses": False, "allow_multapses": True}
    nest.Connect(cells, cells, rule, INHIBITION)
    nest.Connect(noise, cells, syn_spec=DRIVE)
    nest.Connect(cells, recorder)
    cells.V_m = nest.random.uniform(min=V_LOW, max=V_HIGH)
    pairs = np.random.default_rng(seed).integers(0, N, (2, N_PAIRS))
    _connect_gaps(cells, *pairs, gap_weight)
    start = time.perf_counter()
    nest.Simulate(duration)
    seconds = time.perf_counter() - start
    events = recorder.events
    return events["times"], events["senders"] - cells[0].global_id, seconds


def _fresh_kernel(dt, threads, use_wfr, seed=1):
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.resolution = dt
    nest.local_num_threads = threads
    nest.rng_seed = seed
    nest.use_wfr = use_wfr
    if use_wfr:
        nest.wfr_comm_interval = 1.0
        nest.wfr_tol = 1e-4
        nest.wfr_max_iterations = 15
        nest.wfr_interpolation_order = 3


def _connect_gaps(cells, pair_a, pair_b, weight):
    """Each pair both ways, as often as it occurs.

    Of two arrays NEST connects one way only, and says nothing, even if `make_symmetric` is given.
    """
    ids = np.asarray(cells.tolist())
    weight = np.broadcast_to(np.asarray(weight, float), np.shape(pair_a))
    pre, post = np.concatenate([pair_a, pair_b]), np.concatenate([pair_b, pair_a])
    junctions = {"synapse_model": "gap_junction", "weight": np.concatenate([weight, weight])}
    nest.Connect(ids[pre], ids[post], "one_to_one", junctions)


def statistics(gap_weight, seed):
    times, index, seconds = run_published(gap_weight, seed)
    return {
        "gap_weight": gap_weight,
        "seed": seed,
        "rate": analysis.mean_rate(index, N, DURATION),
        "fano": analysis.fano_factor(times, 5.0, 0.0, 500.0),
        "simulation_s": round(seconds, 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gap-weights", type=float, nargs="+", default=GAP_WEIGHTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options = parser.parse_args()
    path = Path(__file__).with_suffix(".json")
    made = json.loads(path.read_text()) if path.exists() else {"nest": nest.__version__, "runs": []}
    if made["nest"] != nest.__version__:
        raise SystemExit(f"{path} was made with NEST {made['nest']}; remove it to begin anew")
    key = lambda run: (run["gap_weight"], run["seed"])
    done = {key(run) for run in made["runs"]}
    # NEST does not forget all of a run: each has a process of its own.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as pool:
        for seed in options.seeds:  # one of every weight first
            for gap_weight in options.gap_weights:
                if (gap_weight, seed) in done:
                    continue
                made["runs"].append(pool.submit(statistics, gap_weight, seed).result())
                made["runs"].sort(key=key)
                partial = path.with_suffix(".partial")
                partial.write_text(json.dumps(made, indent=1) + "\n")
                partial.replace(path)


if __name__ == "__main__":
    main()
