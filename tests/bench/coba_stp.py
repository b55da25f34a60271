"""The COBA network on jsnn and on Brian 2, in turns, on the same machine.

    python tests/bench/coba_stp.py --brian ../brian/bin/python --turns 3

`--brian` is the Python of an environment with Brian 2 2.9 and a C++ compiler. Every run is a
process of its own: the run by itself, and all from the start of the process to its end. Both record
spikes and the traces of a cell and its synapses, and draw both figures. jsnn is run with a delay of
1.5 ms too, which is what the zero delay costs.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from in_turns import example, peer, ratio, show


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brian", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--target", choices=["cpp_standalone", "cython"], default="cpp_standalone")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    script = Path(__file__).with_name("run_brian_coba.py")
    turns = {"jsnn": [], "jsnn, 1.5 ms": [], "Brian 2": []}
    for turn in range(args.turns):
        with tempfile.TemporaryDirectory() as folder:
            options = ("--plot", Path(folder) / "coba.png")
            brian = ("--target", args.target, "--seed", turn + 1)
            turns["jsnn"].append(example("coba_stp", turn + 1, *options))
            turns["jsnn, 1.5 ms"].append(example("coba_stp", turn + 1, *options, "--delay", 1.5))
            turns["Brian 2"].append(peer(script, *brian, *options, python=args.brian))
        for name, own in turns.items():
            show(name, own[-1])
    for what in ("run_s", "all_s"):
        for name in ("jsnn", "jsnn, 1.5 ms"):
            print(f"Brian 2 / {name:13} {what}: {ratio(what, turns['Brian 2'], turns[name])}")


if __name__ == "__main__":
    main()
