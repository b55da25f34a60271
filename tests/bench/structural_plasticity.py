"""The published network with structural plasticity on jsnn and on NEST, in turns, on the same
machine; and its courses of calcium and connections over those of NEST's seeds.

    python tests/bench/structural_plasticity.py --turns 3
    python tests/bench/structural_plasticity.py --turns 0 --seeds 1 2 3 --courses courses.png

Every run is a process of its own; building, compiling and running are timed apart. NEST refuses
more than one thread. The sweep of eight growth rates in one `vmap` is timed beside a single run.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from in_turns import ROOT, example, peer, ratio, show

NAMES = ("ca_exc", "ca_inh", "connections_exc", "connections_inh")


def nest_here(name, seed):
    import structural_nest

    start = time.perf_counter()
    found = structural_nest.run(name, seed)
    run_s = found["simulation_s"]
    build_s = time.perf_counter() - start - run_s
    memory = found["memory_mb"]
    print(
        json.dumps(
            {"build_s": build_s, "run_s": run_s, "rates": found["rates"], "peak_memory_mb": memory}
        )
    )


def ours(seed, interval, devices):
    """The courses of a run of the example."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "courses.npz"
        options = ("--update-interval", interval, "--devices", devices, "--save", out)
        example("structural_plasticity", seed, *options)
        with np.load(out) as file:
            return {name: file[name] for name in NAMES}


def draw(seeds, devices, path):
    """Each interval a column: calcium above, connections below; lines of jsnn over NEST's bands."""
    from matplotlib.figure import Figure

    runs = json.loads((ROOT / "tests" / "reference" / "structural_nest.json").read_text())
    figure = Figure(figsize=(12, 6), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True)
    seconds = np.arange(1, 201)
    for column, interval in zip(panels.T, ("100", "1000", "10000"), strict=True):
        theirs = [run for run in runs[interval].values()]
        mine = [ours(seed, interval, devices) for seed in seeds]
        for name, colour in zip(NAMES, ("blue", "red", "magenta", "black"), strict=True):
            axes = column[0] if name.startswith("ca") else column[1]
            band = np.asarray([run[name] for run in theirs])
            axes.fill_between(seconds, band.min(0), band.max(0), color=colour, alpha=0.3, lw=0)
            for own in mine:
                axes.plot(seconds, own[name], color=colour, linewidth=0.6)
            print(
                f"{interval:>5} ms {name:15} NEST {band.mean(0)[-1]:9.4g} jsnn "
                f"{np.mean([own[name][-1] for own in mine]):9.4g}",
                flush=True,
            )
        column[0].set(title=f"Updates every {interval} ms", ylabel="Calcium")
        column[1].set(xlabel="Time (s)", ylabel="Connections")
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interval", default="1000", choices=("100", "1000", "10000"))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--devices", type=int, default=1, help="of a single run of jsnn")
    parser.add_argument("--courses", metavar="FILE.png", help="where to draw the courses")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the courses")
    parser.add_argument("--nest", type=int, metavar="SEED", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.nest is not None:
        nest_here(args.interval, args.nest)
        return
    options = ("--update-interval", args.interval)
    alone = (*options, "--devices", args.devices)
    turns = {"jsnn": [], "sweep": [], "NEST": []}
    for turn in range(args.turns):
        seed = turn + 1
        turns["jsnn"].append(example("structural_plasticity", seed, *alone))
        turns["sweep"].append(example("structural_sweep", seed, *options))
        turns["NEST"].append(peer(__file__, "--interval", args.interval, "--nest", seed))
        for name, own in turns.items():
            show(name, own[-1])
    if args.turns:
        print(f"NEST / jsnn       : {ratio('run_s', turns['NEST'], turns['jsnn'])}")
        print(f"sweep / single run: {ratio('run_s', turns['sweep'], turns['jsnn'])}")
        print(f"{os.cpu_count()} cores")
    if args.courses:
        draw(args.seeds, args.devices, args.courses)


if __name__ == "__main__":
    main()
