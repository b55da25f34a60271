"""The COBA network on jsnn and on Brian 2, in turns, on the same machine.

    python tests/bench/coba_stp.py --brian ../brian/bin/python --turns 3

`--brian` is the Python of an environment with Brian 2 2.9 and a C++ compiler. Every run is a
process of its own: the run by itself, and all from the start of the process to its end. Both record
spikes and the traces of a cell and its synapses, and draw both figures. jsnn is run with a delay of
1.5 ms too, which is what the zero delay costs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_jsnn(seed, *options):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "numbers.json"
        command = [sys.executable, str(ROOT / "examples" / "coba_stp.py"), "--json", str(out)]
        command += ["--seed", str(seed), "--plot", str(Path(folder) / "coba.png"), *options]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return {**json.loads(out.read_text()), "all_s": time.perf_counter() - start}


def run_brian(python, seed, target):
    command = [python, str(Path(__file__).with_name("run_brian_coba.py")), "--target", target]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--seed", str(seed), "--plot", str(Path(folder) / "coba.png")]
        start = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        numbers = json.loads(done.stdout.splitlines()[-1])
        return {**numbers, "all_s": time.perf_counter() - start}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brian", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--target", choices=["cpp_standalone", "cython"], default="cpp_standalone")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    names = ("jsnn", "jsnn, 1.5 ms", "Brian 2")
    turns = {name: [] for name in names}
    for turn in range(args.turns):
        for name, numbers in zip(
            names,
            (
                run_jsnn(turn + 1),
                run_jsnn(turn + 1, "--delay", "1.5"),
                run_brian(args.brian, turn + 1, args.target),
            ),
            strict=True,
        ):
            turns[name].append(numbers)
            rates = " ".join(f"{k} {v:.2f} Hz" for k, v in numbers["rates"].items())
            print(
                f"{name:13} compile {numbers['compile_s']:6.2f} s  run {numbers['run_s']:.3f} s  "
                f"all {numbers['all_s']:6.2f} s  {rates}",
                flush=True,
            )
    for what in ("run_s", "all_s"):
        for name in names[:2]:
            ratios = [
                peer[what] / ours[what]
                for ours, peer in zip(turns[name], turns["Brian 2"], strict=True)
            ]
            listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"Brian 2 / {name:13} {what}: median {statistics.median(ratios):.2f}  ({listed})")


if __name__ == "__main__":
    main()
