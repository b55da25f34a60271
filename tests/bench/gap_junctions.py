"""The published network with gap junctions on jsnn and on NEST, in turns, on the same machine.

    python tests/bench/gap_junctions.py --turns 3 --gap-weight 0.3

Every run is a process of its own; building, compiling and running are timed apart. NEST relaxes
waveforms as published. The sweep of three gap weights in one `vmap` is timed beside a single run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_jsnn(seed, *more):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "numbers.json"
        command = [sys.executable, str(ROOT / "examples" / "gap_junctions.py"), "--json", str(out)]
        command += ["--seed", str(seed), *more]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.loads(out.read_text())


def run_nest(args, seed):
    command = [sys.executable, __file__, "--gap-weight", str(args.gap_weight), "--nest", str(seed)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def nest_here(gap_weight, seed):
    sys.path.insert(0, str(ROOT / "tests" / "reference"))
    import gap_nest

    start = time.perf_counter()
    times, _, run_s = gap_nest.run_published(gap_weight, seed)
    rate = times.size / gap_nest.N / gap_nest.DURATION * 1000
    build_s = time.perf_counter() - start - run_s
    print(json.dumps({"build_s": build_s, "run_s": run_s, "rates": {"all": rate}}))


def show(name, numbers):
    print(
        f"{name:5} build {numbers['build_s']:6.2f} s  compile {numbers.get('compile_s', 0):5.2f} s "
        f" run {numbers['run_s']:6.2f} s  {numbers['rates']['all']:.2f} Hz",
        flush=True,
    )


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
    ratios, sweeps = [], []
    for turn in range(args.turns):
        seed = turn + 1
        single = ["--gap-weight", str(args.gap_weight), "--devices", str(args.devices)]
        ours = run_jsnn(seed, *single)
        peer = run_nest(args, seed)
        relaxed = run_jsnn(seed, *single, "--exchange", "relaxation")
        swept = run_jsnn(seed, "--sweep")
        for name, numbers in (("jsnn", ours), ("NEST", peer), ("wfr", relaxed), ("sweep", swept)):
            show(name, numbers)
        ratios.append(peer["run_s"] / ours["run_s"])
        sweeps.append(swept["run_s"] / ours["run_s"])
    for what, found in (("NEST / jsnn", ratios), ("sweep / single run", sweeps)):
        listed = ", ".join(f"{own:.2f}" for own in found)
        print(f"{what:18}: median {statistics.median(found):.2f}  ({listed})")
    print(f"{os.cpu_count()} cores")


if __name__ == "__main__":
    main()
