"""The published network of neurons and astrocytes on jsnn and on NEST, in turns.

    python tests/bench/astrocyte_brunel.py --turns 3
    python tests/bench/astrocyte_brunel.py --turns 0 --courses courses.png

Every run is a process of its own; building, compiling and running are timed apart. `--courses`
draws IP3, calcium and slow inward current of three seeds over those of NEST's seeds, which stand in
`tests/reference/astrocyte_nest.json`.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
from in_turns import ROOT, example, peer, ratio, show


def nest_here(rule, seed):
    import astrocyte_nest

    found = astrocyte_nest.run(rule, seed)
    made = {"run_s": found.pop("simulation_s"), "peak_memory_mb": found.pop("memory_mb")}
    print(json.dumps({**found, **made}))


def draw_courses(rule, path, seeds=(1, 2, 3)):
    from matplotlib.figure import Figure

    peers = json.loads((ROOT / "tests" / "reference" / "astrocyte_nest.json").read_text())[rule]
    figure = Figure(figsize=(6.4, 7.0), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    labels = {"IP3": r"IP$_3$ ($\mu$M)", "Ca_astro": r"Ca$^{2+}$ ($\mu$M)", "I_SIC": "SIC (pA)"}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "own.npz"
            example("astrocyte_brunel", seed, "--rule", rule, "--save", out)
            with np.load(out) as own:
                for axes, name in zip(panels, labels, strict=True):
                    label = "jsnn, mean of 50 cells" if seed == seeds[0] else None
                    axes.plot(own[f"{name}_t"], own[name].mean(1), color="C1", label=label)
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        for i, run in enumerate(peers.values()):
            mean, std = (np.asarray(run[name][what]) for what in ("mean", "std"))
            times = 10.0 * np.arange(1, mean.size + 1)
            own = f"NEST, mean of 500 ({len(peers)} seeds)" if i == 0 else None
            axes.plot(times, mean, color="C0", linewidth=0.8, label=own)
            spread = "spread over cells" if i == 0 else None
            axes.fill_between(
                *(times, mean - std, mean + std),
                color="C0",
                alpha=0.25 / len(peers),
                linewidth=0,
                label=spread,
            )
        axes.set_ylabel(label)
    panels[0].legend(frameon=False, fontsize="small")
    panels[-1].set_xlabel("Time (ms)")
    figure.savefig(path, dpi=150)


def main():
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rule", choices=["bernoulli", "fixed_indegree"], default="bernoulli")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--devices", type=int, default=min(cores, 4), help="of jsnn")
    parser.add_argument("--courses", metavar="FILE", help="where to draw time courses")
    parser.add_argument("--nest", type=int, metavar="SEED", help=argparse.SUPPRESS)
    args = parser.parse_args()
    rule = ("--rule", args.rule)
    if args.nest is not None:
        nest_here(args.rule, args.nest)
        return
    ours, theirs = [], []
    for turn in range(args.turns):
        ours.append(example("astrocyte_brunel", turn + 1, *rule, "--devices", args.devices))
        theirs.append(peer(__file__, *rule, "--nest", turn + 1))
        show("jsnn", ours[-1])
        show("NEST", theirs[-1])
    if args.turns:
        for what in ("build_s", "run_s", "peak_memory_mb"):
            print(f"NEST / jsnn, {what:14}: {ratio(what, theirs, ours)}")
        print(f"{cores} cores")
    if args.courses:
        draw_courses(args.rule, args.courses)


if __name__ == "__main__":
    main()
