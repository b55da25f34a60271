"""The COBA network on Brian 2, one run; the last line is JSON. `coba_stp.py` here calls it.

    python tests/bench/run_brian_coba.py --target cpp_standalone --seed 1 --plot coba.png

Brian 2 is not installed with the tests; give its environment's Python. With `cpp_standalone` the
run is what the compiled program takes by its own clock, and `compile_s` all that is around it:
generating, compiling, writing. With `cython` compiling is part of the first run. What it records
and draws is what `examples/coba_stp.py` does; `--spikes-only` leaves the traces out.
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
    parser.add_argument("--spikes-only", action="store_true", help="record no traces")
    parser.add_argument("--plot", metavar="FILE.png", help="draw figures, FILE.png and FILE-2.png")
    args = parser.parse_args()

    import brian2 as b
    import numpy as np
    from brian_coba import N_EXC, N_INH, TRACED, build

    if args.target == "cpp_standalone":
        b.set_device("cpp_standalone", directory=tempfile.mkdtemp())
    else:
        b.prefs.codegen.target = args.target
    cells, synapses = build(args.seed, args.delay)
    spikes = {"exc": b.SpikeMonitor(cells[:N_EXC]), "inh": b.SpikeMonitor(cells[N_EXC:])}
    traces = {}
    if not args.spikes_only:
        traces["cell"] = b.StateMonitor(cells[:N_EXC], ["v", "g_e", "g_i"], record=TRACED)
        # The published script records all synapses of a neuron, 5 % of 4,000. Which numbers they
        # have is not known before a standalone run: so many from where they will lie.
        traces["synapses"] = b.StateMonitor(
            synapses["e"],
            ["u_S", "x_S"],
            record=TRACED * 200 + np.arange(200),
            when="after_synapses",
        )
    network = b.Network(cells, *synapses.values(), *spikes.values(), *traces.values())
    begin = time.perf_counter()
    network.run(1 * b.second)
    run_s = time.perf_counter() - begin
    if args.target == "cpp_standalone":
        run_s = b.device._last_run_time
    if args.plot:
        draw(args.plot, spikes, traces)
    rates = {
        kind: own.num_spikes / n
        for (kind, own), n in zip(spikes.items(), (N_EXC, N_INH), strict=True)
    }
    all_s = time.perf_counter() - START
    numbers = {"run_s": run_s, "compile_s": all_s - run_s, "all_s": all_s, "rates": rates}
    print(json.dumps({k: v if k == "rates" else float(np.round(v, 3)) for k, v in numbers.items()}))


def draw(file, spikes, traces):
    import brian2 as b
    import matplotlib
    import numpy as np

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    raster, rate = figure.subplots(2, 1, sharex=True)
    first = 0
    for own in spikes.values():
        few = len(own.source) // 4
        t, i = np.asarray(own.t / b.ms), np.asarray(own.i)
        raster.plot(t[i < few], first + i[i < few], "|")
        first += few
    t = np.concatenate([np.asarray(own.t / b.ms) for own in spikes.values()])
    counts, edges = np.histogram(t, np.arange(0, 1001))
    rate.plot(edges[:-1], counts / sum(len(own.source) for own in spikes.values()) * 1000)
    figure.savefig(file, dpi=150)
    if traces:
        cell, synapses = traces["cell"], traces["synapses"]
        figure = Figure(layout="constrained")
        panels = figure.subplots(3, 1, sharex=True)
        t = np.asarray(cell.t / b.ms)
        panels[0].plot(t, np.asarray(cell.g_e[0] / b.nS), t, -np.asarray(cell.g_i[0] / b.nS))
        panels[1].plot(t, np.asarray(cell.v[0] / b.mV))
        panels[2].plot(t, synapses.u_S[0], t, synapses.x_S[0])
        figure.savefig(Path(file).with_stem(Path(file).stem + "-2"), dpi=150)


if __name__ == "__main__":
    main()
