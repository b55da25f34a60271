"""The published Brunel network on NEST: builds, runs, and prints what it took as one line of JSON.

python tests/bench/nest_brunel.py --threads 2
"""

import argparse
import json
import os
import resource
import time

import nest


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", type=float, default=1000.0, metavar="MS")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--indegree", type=int, help="keep this number of inputs, whatever the scale"
    )
    args = parser.parse_args()
    nest.set_verbosity("M_ERROR")
    nest.resolution, nest.local_num_threads, nest.rng_seed = 0.1, args.threads, args.seed
    start = time.perf_counter()
    order = round(2500 * args.scale)
    inputs = 5 * order // 10 if args.indegree is None else args.indegree
    law = dict(C_m=1.0, tau_m=20.0, t_ref=2.0, E_L=0.0, V_reset=0.0, V_m=0.0, V_th=20.0)
    exc, inh = (nest.Create("iaf_psc_delta", n, params=law) for n in (4 * order, order))
    j = 0.1 * 1250 / inputs
    noise = nest.Create("poisson_generator", params={"rate": 1000.0 * 2.0 * 20.0 / (j * 20.0)})
    recorders = nest.Create("spike_recorder"), nest.Create("spike_recorder")
    nest.Connect(noise, exc + inh, syn_spec={"weight": j, "delay": 1.5})
    nest.Connect(exc, recorders[0])
    nest.Connect(inh, recorders[1])
    inhibitory = inputs // 5
    for pre, indegree, weight in ((exc, inputs - inhibitory, j), (inh, inhibitory, -5 * j)):
        rule = {"rule": "fixed_indegree", "indegree": indegree}
        nest.Connect(pre, exc + inh, rule, {"weight": weight, "delay": 1.5})
    nest.Prepare()
    built = time.perf_counter()
    nest.Run(args.duration)
    done = time.perf_counter()
    spikes = [recorder.n_events for recorder in recorders]
    cells = (4 * order, order)
    rates = [n / m / args.duration * 1000 for n, m in zip(spikes, cells, strict=True)]
    made = dict(
        n=5 * order,
        n_synapses=5 * order * inputs,
        n_spikes=sum(spikes),
        rates=dict(zip(("exc", "inh"), rates, strict=True)),
        build_s=built - start,
        compile_s=0.0,
        run_s=done - built,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    )
    print(json.dumps(made))


if __name__ == "__main__":
    main()
