"""Statistics of the published Brunel network on NEST, for several seeds.

    python tests/reference/brunel_nest.py

writes them to `brunel_nest.json` beside this file. Rates are over all neurons and the whole second.
The coefficient of variation and the correlations leave out the first 100 ms, in which the network
starts.
"""

import json
from pathlib import Path

import nest
import numpy as np

from jsnn import analysis

SEEDS = range(1, 13)
N_EXC, N_INH, DURATION, TRANSIENT = 10_000, 2_500, 1000.0, 100.0


def simulate(seed):
    nest.ResetKernel()
    nest.set_verbosity("M_ERROR")
    nest.resolution = 0.1
    nest.rng_seed = seed
    nest.local_num_threads = 2
    law = dict(C_m=1.0, tau_m=20.0, t_ref=2.0, E_L=0.0, V_reset=0.0, V_m=0.0, V_th=20.0)
    cells = nest.Create("iaf_psc_delta", N_EXC + N_INH, params=law)
    exc, inh = cells[:N_EXC], cells[N_EXC:]
    noise = nest.Create("poisson_generator", params={"rate": 20_000.0})
    recorder = nest.Create("spike_recorder")
    nest.Connect(noise, cells, syn_spec={"weight": 0.1, "delay": 1.5})
    nest.Connect(cells, recorder)
    for pre, indegree, weight in ((exc, 1000, 0.1), (inh, 250, -0.5)):
        rule = {"rule": "fixed_indegree", "indegree": indegree}
        nest.Connect(pre, cells, rule, {"weight": weight, "delay": 1.5})
    nest.Simulate(DURATION)
    events = recorder.events
    return np.asarray(events["times"]), np.asarray(events["senders"]) - 1


def statistics(times, index):
    """Rates (Hz), mean CV of intervals, mean pairwise correlation of 100 cells in 5 ms bins, and
    the Fano factor of the population count in 5 ms bins."""
    late = times > TRANSIENT
    few = late & (index < 100)
    window = dict(start=TRANSIENT, stop=DURATION)
    matrix = analysis.correlations(times[few], index[few], 100, 5.0, **window)
    return {
        "rate_exc": analysis.mean_rate(index[index < N_EXC], N_EXC, DURATION),
        "rate_inh": analysis.mean_rate(index[index >= N_EXC] - N_EXC, N_INH, DURATION),
        "cv": float(np.nanmean(analysis.cv_isi(times[late], index[late], N_EXC + N_INH))),
        "correlation": float(analysis.mean_correlation(matrix)),
        "fano": float(analysis.fano_factor(times[late], 5.0, **window)),
    }


if __name__ == "__main__":
    runs = [statistics(*simulate(seed)) for seed in SEEDS]
    reference = {"nest": nest.__version__, "seeds": list(SEEDS), "runs": runs}
    Path(__file__).with_suffix(".json").write_text(json.dumps(reference, indent=1) + "\n")
