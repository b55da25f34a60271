"""The published Brunel network on jsnn and on NEST, in turns, on the same machine.

    python tests/bench/brunel_delta.py --turns 3

Every run is a process of its own. Building, compiling and running are timed apart, memory is the
peak of the process. The last lines give the ratios, turn by turn.
"""

import argparse
import os
from pathlib import Path

from in_turns import example, peer, ratio, show


def main():
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", type=float, default=1000.0, metavar="MS")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores, help="of NEST")
    parser.add_argument("--devices", type=int, default=min(cores, 4), help="of jsnn")
    args = parser.parse_args()
    size = ("--duration", args.duration, "--scale", args.scale)
    ours, theirs = [], []
    for turn in range(args.turns):
        ours.append(example("brunel_delta", turn + 1, *size, "--devices", args.devices))
        script = Path(__file__).with_name("nest_brunel.py")
        theirs.append(peer(script, *size, "--threads", args.threads, "--seed", turn + 1))
        show("jsnn", ours[-1])
        show("NEST", theirs[-1])
    for what in ("build_s", "run_s", "peak_memory_mb"):
        print(f"NEST / jsnn, {what:14}: {ratio(what, theirs, ours)}")
    print(f"NEST / jsnn, all together  : {ratio(('build_s', 'compile_s', 'run_s'), theirs, ours)}")


if __name__ == "__main__":
    main()
