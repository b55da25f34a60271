"""The published Brunel network on jsnn and on NEST, in turns, on the same machine.

    python tests/bench/brunel_delta.py --turns 3

Every run is a process of its own. Building, compiling and running are timed apart, memory is the
peak of the process. The last lines give the ratios, turn by turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_jsnn(args, seed):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "numbers.json"
        command = [sys.executable, str(ROOT / "examples" / "brunel_delta.py"), "--json", str(out)]
        command += ["--duration", str(args.duration), "--scale", str(args.scale)]
        command += ["--seed", str(seed), "--devices", str(args.devices)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.loads(out.read_text())


def run_nest(args, seed):
    command = [sys.executable, str(Path(__file__).with_name("nest_brunel.py"))]
    command += ["--duration", str(args.duration), "--scale", str(args.scale)]
    command += ["--threads", str(args.threads), "--seed", str(seed)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(name, numbers):
    rates = " ".join(f"{k} {v:.2f} Hz" for k, v in numbers["rates"].items())
    print(
        f"{name:5} build {numbers['build_s']:6.2f} s  compile {numbers['compile_s']:5.2f} s  "
        f"run {numbers['run_s']:6.2f} s  memory {numbers['peak_memory_mb']:6.0f} MB  {rates}",
        flush=True,
    )


def main():
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", type=float, default=1000.0, metavar="MS")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores, help="of NEST")
    parser.add_argument("--devices", type=int, default=min(cores, 4), help="of jsnn")
    args = parser.parse_args()
    turns = []
    for turn in range(args.turns):
        ours, peer = run_jsnn(args, turn + 1), run_nest(args, turn + 1)
        show("jsnn", ours)
        show("NEST", peer)
        turns.append((ours, peer))
    for what in ("build_s", "run_s", "peak_memory_mb"):
        ratios = [peer[what] / ours[what] for ours, peer in turns]
        listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"NEST / jsnn, {what:14}: median {statistics.median(ratios):.2f}  ({listed})")
    whole = [
        sum(peer[k] for k in ("build_s", "run_s"))
        / sum(ours[k] for k in ("build_s", "compile_s", "run_s"))
        for ours, peer in turns
    ]
    print(f"NEST / jsnn, all together  : median {statistics.median(whole):.2f}")


if __name__ == "__main__":
    main()
