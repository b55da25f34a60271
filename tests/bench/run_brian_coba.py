"""The COBA network on Brian 2, one run; the last line is JSON. `coba_stp.py` here calls it.

    python tests/bench/run_brian_coba.py --target cpp_standalone --seed 1

Brian 2 is not installed with the tests; give its environment's Python. With `cpp_standalone` the
run is what the compiled program takes by its own clock, and `compile_s` is all that is around it:
generating, compiling, writing. With `cython` compiling is part of the first run.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

START = time.perf_counter()
sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=["cpp_standalone", "cython"], default="cpp_standalone")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--delay", type=float, default=0.0, help="ms")
    args = parser.parse_args()

    import brian2 as b
    import numpy as np
    from brian_coba import N_EXC, N_INH, build

    if args.target == "cpp_standalone":
        b.set_device("cpp_standalone", directory=tempfile.mkdtemp())
    else:
        b.prefs.codegen.target = args.target
    cells, synapses = build(args.seed, args.delay)
    monitors = {"e": b.SpikeMonitor(cells[:N_EXC]), "i": b.SpikeMonitor(cells[N_EXC:])}
    network = b.Network(cells, *synapses.values(), *monitors.values())
    begin = time.perf_counter()
    network.run(1 * b.second)
    run_s = time.perf_counter() - begin
    if args.target == "cpp_standalone":
        run_s = b.device._last_run_time
    rates = {"exc": monitors["e"].num_spikes / N_EXC, "inh": monitors["i"].num_spikes / N_INH}
    all_s = time.perf_counter() - START
    numbers = {"run_s": run_s, "compile_s": all_s - run_s, "all_s": all_s, "rates": rates}
    print(json.dumps({k: v if k == "rates" else float(np.round(v, 3)) for k, v in numbers.items()}))


if __name__ == "__main__":
    main()
