"""The published network with gap junctions on jsnn and on NEST, in turns, on the same machine.

    python tests/bench/gap_junctions.py --turns 3 --gap-weight 0.3

Every run is a process of its own; building, compiling and running are timed apart. NEST relaxes
waveforms as published. The sweep of three gap weights in one `vmap` is timed beside a single run.
"""

import argparse
import json
import os
import time

from in_turns import example, peer, ratio, show


def nest_here(gap_weight, seed):
    import gap_nest

    start = time.perf_counter()
    times, _, run_s = gap_nest.run_published(gap_weight, seed)
    rate = times.size / gap_nest.N / gap_nest.DURATION * 1000
    build_s = time.perf_counter() - start - run_s
    print(json.dumps({"build_s": build_s, "run_s": run_s, "rates": {"all": rate}}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gap-weight", type=float, default=0.3, metavar="NS")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--devices", type=int, default=1, help="of jsnn")
    parser.add_argument("--nest", type=int, metavar="SEED", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.nest is not None:
        nest_here(args.gap_weight, args.nest)
        return
    options = ("--gap-weight", args.gap_weight)
    single = (*options, "--devices", args.devices)
    turns = {"jsnn": [], "NEST": [], "relaxation": [], "sweep": []}
    for turn in range(args.turns):
        seed = turn + 1
        turns["jsnn"].append(example("gap_junctions", seed, *single))
        turns["NEST"].append(peer(__file__, *options, "--nest", seed))
        turns["relaxation"].append(
            example("gap_junctions", seed, *single, "--exchange", "relaxation")
        )
        turns["sweep"].append(example("gap_junctions", seed, "--sweep"))
        for name, own in turns.items():
            show(name, own[-1])
    print(f"NEST / jsnn       : {ratio('run_s', turns['NEST'], turns['jsnn'])}")
    print(f"sweep / single run: {ratio('run_s', turns['sweep'], turns['jsnn'])}")
    print(f"{os.cpu_count()} cores")


if __name__ == "__main__":
    main()
