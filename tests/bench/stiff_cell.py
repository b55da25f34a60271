"""Accuracy against cost of solvers for cells with stiff gates: fast-spiking interneurons.

python tests/bench/stiff_cell.py --plot stiff_cell.png

Errors are those of 20 cells under random spikes for 200 ms in float64, against SciPy's DOP853 at
1e-12: the largest, and the largest away from upstrokes, beside which a shift of a spike by 1 us
can be 0.3 mV. Times are those of 500 cells in float32, the best of some turns.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jsnn
from jsnn import nest, plot
from jsnn._simulate import advance_from_host
from jsnn.inputs import SpikeList
from jsnn.record import States
from jsnn.solvers import RK4, ExponentialEuler, Solver, Splitting

sys.path.insert(0, str(Path(__file__).parents[1]))

from channels import away, integrate

MODEL = "hh_psc_alpha_gap"
DT, DURATION, N = 0.05, 200.0, 20
RATE, WEIGHTS = 500.0, {"ex": 300.0, "in": -50.0}  # Hz, pA
N_TIMED, STEPS_TIMED = 500, 2000


class Case(NamedTuple):
    """A solver, the steps that it makes of one of DT, and its name in the picture."""

    solver: Solver
    cut: int
    label: str


FAMILIES = {
    "ExponentialEuler, shorter steps": [
        Case(ExponentialEuler(), k, f"{k} steps") for k in (4, 16, 64)
    ],
    "RK4": [Case(RK4(k), 1, str(k)) for k in (8, 12, 16)],
    "Splitting, one number": [Case(Splitting(k), 1, str(k)) for k in (4, 8, 16)],
    "Splitting, two numbers": [
        Case(Splitting(own), 1, str(own)) for own in ((2, 4), (4, 6), (5, 7), (6, 8), (8, 12))
    ],
    "Splitting, three numbers": [Case(Splitting((4, 6, 8)), 1, "(4, 6, 8)")],
}


def drive() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Membranes at the start, and what arrives by receptor, `[steps, n]` (pA)."""
    rng = np.random.default_rng(1)
    shape = round(DURATION / DT), N
    spikes = {name: rng.poisson(RATE * DT / 1000, shape) for name in WEIGHTS}
    return rng.uniform(-80.0, -40.0, N), {name: WEIGHTS[name] * spikes[name] for name in spikes}


def membranes(case: Case, v_0: np.ndarray, arrivals: dict[str, np.ndarray]) -> np.ndarray:
    """The membranes after each DT, `[steps, n]`."""
    inputs = {}
    for name, own in arrivals.items():
        step, cell = own.nonzero()
        inputs[name] = SpikeList("cells", (step + 1) * DT, cell, own[step, cell], name)
    network = jsnn.Network(
        {"cells": nest.hh_psc_alpha_gap(N, V_m=v_0, solver=case.solver)},
        inputs=inputs,
        dt=DT / case.cut,
    )
    record: dict[str, Any] = {"v": States("cells", "v", every=DT)}
    steps = round(DURATION / DT) * case.cut
    solution = jsnn.simulate(network, network.init(jax.random.key(1)), steps, record)
    return np.asarray(solution.records["v"].values)


def microseconds(case: Case, turns: int) -> float:
    """Of a DT of 500 cells that fire."""
    v_0 = np.random.default_rng(2).uniform(-80.0, -40.0, N_TIMED)
    cells = nest.hh_psc_alpha_gap(N_TIMED, V_m=v_0, I_e=100.0, solver=case.solver)
    network = jsnn.Network({"cells": cells}, dt=DT / case.cut)
    state = network.init(jax.random.key(1))
    best = float("inf")
    for turn in range(turns + 1):
        start = time.perf_counter()
        jax.block_until_ready(advance_from_host(network, state, STEPS_TIMED, STEPS_TIMED, {}))
        if turn:  # the first compiles
            best = min(best, time.perf_counter() - start)
    return best / STEPS_TIMED * case.cut * 1e6


def measured(turns: int) -> Iterator[tuple[str, Case, float, float, float]]:
    """Of each solver its family, the microseconds, and both errors (mV)."""
    with jax.enable_x64(True):
        v_0, arrivals = drive()
        p = {**nest.DEFAULTS[MODEL], "V_m": v_0}
        exact = integrate(MODEL, p, arrivals, np.zeros(round(DURATION / DT)), DT)
    far = away(exact, v_0, DT)
    for family, cases in FAMILIES.items():
        for case in cases:
            with jax.enable_x64(True):
                error = np.abs(membranes(case, v_0, arrivals) - exact)
            # A solver that is unstable leaves no number
            largest = np.where(np.isnan(error), np.inf, error)
            cost = microseconds(case, turns)
            yield family, case, cost, float(largest.max()), float(largest[far].max())


def is_default(case: Case) -> bool:
    usual = Splitting()
    return isinstance(case.solver, Splitting) and case.solver.substeps == usual.substeps_of(DT)


def draw(rows: list[tuple[str, Case, float, float, float]], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    titles = "Away from upstrokes", "Everywhere"
    for axes, title, column in zip(panels, titles, (4, 3), strict=True):
        for place, family in enumerate(FAMILIES):
            own = [row for row in rows if row[0] == family and np.isfinite(row[column])]
            cost, error = [row[2] for row in own], [row[column] for row in own]
            axes.plot(cost, error, f"{'osD^v'[place]}-", color=f"C{place}", label=family)
            for row in own:
                # Its neighbour's label is to the right
                axes.annotate(
                    row[1].label,
                    (row[2], row[column]),
                    xytext=(-36, -10) if "three" in family and column == 3 else (5, 4),
                    textcoords="offset points",
                    fontsize="x-small",
                    color=f"C{place}",
                )
        for row in rows:
            if is_default(row[1]):
                ring = {"markersize": 15, "fillstyle": "none", "color": "black"}
                axes.plot(row[2], row[column], "o", label="the default", **ring)
        axes.set(xscale="log", yscale="log", title=title, xlabel=f"Time (µs a step of {DT} ms)")
        axes.margins(x=0.2, y=0.08)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("Largest error (mV)")
    panels[0].axhline(0.01, color="0.4", linestyle=":")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    plot.save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", metavar="FILE", help="where to draw the figure")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    print(f"{'solver':45} {'us a step':>10} {'largest mV':>11} {'away mV':>10}")
    rows = []
    for row in measured(args.turns):
        family, case, cost, largest, far = row
        name = f"{family}: {case.label}{', the default' * is_default(case)}"
        print(f"{name:45} {cost:10.1f} {largest:11.2g} {far:10.2g}", flush=True)
        rows.append(row)
    if args.plot:
        draw(rows, args.plot)


if __name__ == "__main__":
    main()
