"""An inhibitory network of Hodgkin-Huxley neurons with gap junctions (Hahne, Helias, Kunkel,
Igarashi, Bolten, Frommer and Diesmann 2015, Front. Neuroinform. 9:22, test case 2).

500 fast-spiking interneurons with 50 inhibitory synapses and, on average, 60 gap junctions each,
driven by Poisson spikes. They fire asynchronously where gap junctions are weak (0.3 nS), switch
between asynchrony and synchrony at 0.54 nS, and synchronise at 0.7 nS.

    python examples/gap_junctions.py --gap-weight 0.3 --plot gap.png
    python examples/gap_junctions.py --sweep --plot regimes.png
"""

import argparse
import time
from typing import Any

import common
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jsnn
from jsnn import analysis, plot
from jsnn.connect import FixedIndegree, FixedTotalNumber, Pairs
from jsnn.coupling import GapJunction
from jsnn.distributions import Uniform
from jsnn.exchange import Exchange, Joint, WaveformRelaxation
from jsnn.inputs import Poisson, SpikeList
from jsnn.record import Spikes, States

N = 500
INDEGREE, GAPS = 50, 60  # of each neuron: inhibitory synapses, and gap junctions on average
DT, DELAY = 0.05, 1.0  # ms
J_EXC, J_INH, RATE = 300.0, -50.0, 500.0  # pA, pA, Hz
GAP_WEIGHT = 0.3  # nS
REGIMES = (0.3, 0.54, 0.7)  # nS
BIN = 5.0  # ms, in which spikes are counted for the Fano factor
EXCHANGES = {
    "joint": Joint(),
    "relaxation": WaveformRelaxation(),  # as in the published script
    "last-step": WaveformRelaxation(interval=None, max_iterations=0, order=0),  # NEST without it
}
FROZEN = ("pre", "post", "pair_a", "pair_b", "gap_weight", "v0", "dt")
INPUTS = ("poisson_step", "poisson_cell")
RESULTS = ("spike_step", "spike_cell")


def network(
    n: int,
    synapses: Any,
    gaps: Any,
    noise: Any,
    v_0: Any,
    gap_weight: Any,
    dt: float,
    seed: int,
    exchange: Exchange | None,
) -> jsnn.Network:
    return jsnn.Network(
        {"cells": jsnn.nest.hh_psc_alpha_gap(n, V_m=v_0)},
        {
            "inhibition": jsnn.Projection(
                "cells", "cells", synapses, weight=J_INH, delay=DELAY, receptor="in"
            )
        },
        {"noise": noise},
        couplings={"gaps": GapJunction("cells", "cells", gaps, conductance=gap_weight)},
        dt=dt,
        key=jax.random.key(seed),
        exchange=exchange,
    )


def build(
    scale: float = 1.0,
    *,
    seed: int = 1,
    gap_weight: Any = GAP_WEIGHT,
    exchange: Exchange | None = None,
) -> jsnn.Network:
    """The network with `scale` times the neurons, each with as many synapses and gap junctions."""
    n = round(N * scale)
    if n < 2:
        raise ValueError(f"scale={scale} leaves no network; give {2 / N:g} or more")
    return network(
        n,
        FixedIndegree(INDEGREE, autapses=False),
        FixedTotalNumber(n * GAPS // 2),
        Poisson("cells", RATE, J_EXC, "ex", delay=DELAY),
        Uniform(-80.0, -40.0),
        gap_weight,
        DT,
        seed,
        exchange,
    )


def build_frozen(frozen: dict[str, Any], exchange: Exchange | None = None) -> jsnn.Network:
    """The network with the edges, gap junctions, membranes at the start and external spikes of
    another simulator: the arrays `FROZEN` and `INPUTS`, steps counted from 0."""
    dt = float(frozen["dt"])
    weights = np.unique(frozen["gap_weight"])
    noise = SpikeList(
        "cells",
        (frozen["poisson_step"] + 1) * dt,
        frozen["poisson_cell"],
        J_EXC,
        "ex",
        delay=DELAY,
    )
    return network(
        frozen["v0"].size,
        Pairs(frozen["pre"], frozen["post"]),
        Pairs(frozen["pair_a"], frozen["pair_b"]),
        noise,
        frozen["v0"],
        weights[0] if weights.size == 1 else frozen["gap_weight"],
        dt,
        0,
        exchange,
    )


def recorders() -> dict[str, Any]:
    """All spikes, and the membranes of all cells every millisecond."""
    return {"all": Spikes("cells"), "v": States("cells", "v", every=1.0)}


def measures(spikes: Any, v: Any, duration: float) -> dict[str, Any]:
    """Rate (Hz), Fano factor of the population's spikes in bins of 5 ms, and chi of the membranes
    after the first 50 ms, in which the initial membranes are forgotten."""
    found: dict[str, Any] = {
        "rate": analysis.mean_rate(spikes.index, spikes.n, duration),
        "fano": None,
        "chi": None,
    }
    if duration >= 2 * BIN:
        found["fano"] = analysis.fano_factor(spikes.times, BIN, 0.0, duration // BIN * BIN)
    if duration >= 100:
        found["chi"] = analysis.synchrony_chi(np.asarray(v)[50:])
    return found


def compare(spikes: Any, frozen: dict[str, Any], steps: int) -> dict[str, Any]:
    """How far the spikes are those of the other simulator: how many are on its steps, and for how
    long each of either is on the same step as one of the other, or next to it."""
    mine = {(int(s), int(c)) for s, c in zip(spikes.steps, spikes.index, strict=True)}
    pairs = zip(frozen["spike_step"].tolist(), frozen["spike_cell"].tolist(), strict=True)
    theirs = {(s, c) for s, c in pairs if s < steps}
    alone = [
        s
        for own, other in ((mine, theirs), (theirs, mine))
        for s, c in own
        if not {(s - 1, c), (s, c), (s + 1, c)} & other
    ]
    dt = float(frozen["dt"])
    return {
        "n_spikes": len(theirs),
        "same_step": len(mine & theirs),
        "together_ms": (min(alone) if alone else steps) * dt,
        "first_other_step_ms": min([s for s, _ in mine ^ theirs], default=steps) * dt,
    }


def draw_spikes(spikes: Any, duration: float, rate: float) -> Any:
    """The published figure: every spike, with the average rate as title."""
    figure = plot.raster(
        spikes.times,
        spikes.index + 1,  # identities from 1, as published
        duration=duration,
        n=spikes.n,
        histogram=False,
        title=f"Average spike rate (Hz): {rate:.2f}",
    )
    figure.axes[0].set(xlabel="time (ms)", ylabel="neuron no")
    return figure


def draw_regimes(regimes: list[tuple[float, Any, dict[str, Any]]], duration: float) -> Any:
    """Spikes and population rate of each gap weight, side by side, with measures of synchrony."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(regimes), 4.8), layout="constrained")
    rows = figure.subplots(2, len(regimes), sharex=True, sharey="row", height_ratios=(3, 1))
    for (weight, spikes, found), (dots, rate) in zip(regimes, rows.T, strict=True):
        plot.raster(
            spikes.times, spikes.index, duration=duration, n=spikes.n, histogram=False, ax=dots
        )
        synchrony = "" if found["fano"] is None else f"\nFano factor {found['fano']:.1f}"
        synchrony += "" if found["chi"] is None else f", $\\chi$ = {found['chi']:.2f}"
        dots.set_title(f"{weight:g} nS: {found['rate']:.2f} Hz{synchrony}", fontsize="medium")
        dots.set_xlabel("")
        plot.population_rate(
            spikes.times, spikes.n, BIN, 0.0, duration // BIN * BIN, color="black", ax=rate
        )
        if dots is not rows[0, 0]:
            dots.set_ylabel("")
            rate.set_ylabel("")
    return figure


def sweep(net: jsnn.Network, weights: Any, state: jsnn.State, steps: int) -> jsnn.Solution:
    """The network at several gap weights side by side, from one state and under one drive: every
    leaf of the solution has the weights as first axis."""

    def one(weight: jax.Array) -> jsnn.Solution:
        own = eqx.tree_at(lambda n: n.couplings["gaps"].conductance, net, weight)
        return jsnn.simulate(own, state, steps, recorders())

    return jax.vmap(one)(jnp.asarray(weights))


def parser() -> argparse.ArgumentParser:
    made = common.parser("Inhibitory network with gap junctions", 501.0, DT, devices=1)
    made.add_argument(
        "--gap-weight",
        type=common.finite,
        default=argparse.SUPPRESS,
        metavar="NS",
        help=f"of each gap junction (default: {GAP_WEIGHT})",
    )
    made.add_argument(
        "--sweep", action="store_true", help=f"the regimes of {REGIMES} nS, side by side"
    )
    made.add_argument(
        "--exchange",
        choices=EXCHANGES,
        default="joint",
        help="how coupled cells see each other within a step",
    )
    return made


def run_sweep(args: argparse.Namespace, net: jsnn.Network) -> tuple[list, dict[str, Any]]:
    """The spikes and measures of each regime, and numbers about the run."""
    steps = round(args.duration / net.dt)
    state = net.init(jax.random.key(args.seed))
    start = time.perf_counter()
    run = jax.jit(lambda weights: sweep(net, weights, state, steps))
    compiled = run.lower(jnp.asarray(REGIMES)).compile()
    compile_s = time.perf_counter() - start
    start = time.perf_counter()
    made = jax.block_until_ready(compiled(jnp.asarray(REGIMES)))
    run_s = time.perf_counter() - start
    regimes = []
    for i, weight in enumerate(REGIMES):
        records = jax.tree.map(lambda leaf, i=i: leaf[i], made.records)
        spikes = records["all"].listed()
        found = measures(spikes, records["v"].values, args.duration)
        regimes.append((weight, spikes, found))
    if failed := [name for name, step in made.status.items() if np.min(step) < jsnn.NEVER]:
        raise FloatingPointError(f"{failed} failed at one of {REGIMES} nS; run that one by itself")
    stats = {name: int(np.sum(own)) for name, own in made.stats["spikes"].items()}
    stats = {"compile_s": compile_s, "run_s": run_s, "spikes": stats}
    if "relaxation" in made.stats:  # of all regimes together
        relaxed = made.stats["relaxation"]
        stats["relaxation"] = {
            "windows": int(np.sum(relaxed["windows"])),
            "iterations": float(np.mean(relaxed["iterations"])),
            "residual": float(np.max(relaxed["residual"])),
        }
    return regimes, stats


def main(args: argparse.Namespace) -> None:
    print("Building network")
    start = time.perf_counter()
    exchange, frozen = EXCHANGES[args.exchange], None
    weight = getattr(args, "gap_weight", None)
    if weight is not None and (args.sweep or args.frozen):
        other = "--sweep" if args.sweep else "--frozen"
        raise ValueError(
            f"--gap-weight {weight:g} beside {other}, which has its own; leave out one"
        )
    if args.frozen:
        frozen = common.load_frozen(args.frozen, (*FROZEN, *INPUTS), RESULTS)
        net = build_frozen(frozen, exchange)
    else:
        net = build(
            args.scale,
            seed=args.seed,
            gap_weight=GAP_WEIGHT if weight is None else weight,
            exchange=exchange,
        )
    net = jax.block_until_ready(net.on(args.devices))
    build_s = time.perf_counter() - start
    gaps = net.couplings["gaps"]
    n, n_synapses = net.populations["cells"].n, {"inh": net.synapses["inhibition"].edges.n_edges}
    print("Inhibitory network with gap junctions")
    print(f"Number of neurons : {n}")
    print(f"Number of synapses: {sum(n_synapses.values())}")
    print(f"Gap junctions     : {gaps.n_edges}, of which {gaps.n_self} join a cell to itself")

    compared = None
    if args.sweep:
        regimes, stats = run_sweep(args, net)
    else:
        solution = jsnn.run(net, args.duration, key=jax.random.key(args.seed), record=recorders())
        spikes, stats = solution.records["all"], solution.stats
        found = measures(spikes, solution.records["v"].values, args.duration)
        regimes = [(float(np.mean(gaps.conductance)), spikes, found)]
        if frozen is not None and all(name in frozen for name in RESULTS):
            compared = compare(spikes, frozen, int(solution.state.step))
    for weight, _, found in regimes:
        synchrony = "".join(
            f", {name} {found[key]:.2f}"
            for key, name in (("fano", "Fano factor"), ("chi", "chi"))
            if found[key] is not None
        )
        print(f"Rate at {weight:4g} nS   : {found['rate']:.2f} Hz{synchrony}")
    if "relaxation" in stats:
        relaxed = stats["relaxation"]
        print(
            f"Relaxation        : {relaxed['iterations']:.1f} iterations a window, residual "
            f"at most {relaxed['residual']:.1e} mV"
        )
    print(f"Building time     : {build_s:.2f} s")
    print(f"Compile time      : {stats['compile_s']:.2f} s")
    print(f"Simulation time   : {stats['run_s']:.2f} s")
    if compared is not None:
        print(
            f"Against the file  : {compared['same_step']} of {compared['n_spikes']} spikes on the "
            f"same step; each on the same or the next for {compared['together_ms']:g} ms"
        )

    if args.plot:
        if args.sweep:
            figure = draw_regimes(regimes, args.duration)
        else:
            figure = draw_spikes(regimes[0][1], args.duration, regimes[0][2]["rate"])
        print(f"Figure            : {plot.save(figure, args.plot)}")
    if args.save:
        names = [f"_{weight:g}" for weight in REGIMES] if args.sweep else [""]
        arrays = {}
        for name, (_, spikes, _) in zip(names, regimes, strict=True):
            arrays |= {f"t_all{name}": spikes.times, f"i_all{name}": spikes.index}
        print(f"Spikes            : {jsnn.export.save_npz(args.save, **arrays)}")
    common.write_json(
        args.json,
        {
            **common.numbers(args, stats, n, n_synapses, build_s),
            "rates": {"all": regimes[0][2]["rate"]},
            "gap_junctions": gaps.n_edges,
            "self_pairs": gaps.n_self,
            "regimes": [{"gap_weight": weight, **found} for weight, _, found in regimes],
            "exchange": args.exchange,
            "solver": f"Splitting, {net.populations['cells'].solver.substeps_of(net.dt)} substeps, "
            f"steps of {net.dt:g} ms",
            "relaxation": stats.get("relaxation"),
            "compared": compared,
        },
    )


if __name__ == "__main__":
    common.run(main, parser())
