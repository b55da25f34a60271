"""A balanced network with conductances and short-term plasticity (Stimberg, Goodman, Brette and De
Pitta 2019, "Modeling neuron-glia interactions with the Brian 2 simulator").

3,200 excitatory and 800 inhibitory integrate-and-fire neurons, 1.28 million synapses that depress
and facilitate and act without delay, Euler steps of 0.1 ms: about 3.9 Hz.

    python examples/coba_stp.py --plot coba.png
"""

import argparse
import time
from typing import Any

import common
import jax
import numpy as np

import jsnn
from jsnn import analysis, plot
from jsnn.connect import Pairs, PairwiseBernoulli
from jsnn.distributions import Uniform
from jsnn.receptors import Exponential
from jsnn.record import Spikes, States, SynapseStates
from jsnn.release import TsodyksMarkram

N_EXC, N_INH = 3200, 800
DT = 0.1  # ms
E_L, V_TH, G_L, C_M = -60.0, -50.0, 9.99, 198.0  # mV, mV, nS, pF
E_EXC, E_INH, TAU_EXC, TAU_INH = 0.0, -80.0, 5.0, 10.0  # mV, ms
T_REF, I_EX = 5.0, 150.0  # ms, pA
W_EXC, W_INH = 0.05, 1.0  # nS, before release
P_EXC, P_INH = 0.05, 0.2  # connection probabilities
U_0, OMEGA_D, OMEGA_F = 0.6, 2.0, 3.33  # utilisation; recovery and facilitation, 1/s
TRACED = 50  # the neuron whose states are drawn
EDGES = ("pre_e", "post_e", "pre_i", "post_i", "v0", "ge0", "gi0", "dt")
RESULTS = ("spike_step", "spike_neuron", "v", "g_e", "g_i", "u", "x")


def neurons(n_exc: int, n_inh: int, v: Any, g_exc: Any, g_inh: Any, dt: float) -> jsnn.Population:
    law = jsnn.neurons.LIF(
        tau_m=C_M / G_L,
        c_m=C_M,
        e_l=E_L,
        v_th=V_TH,
        v_reset=E_L,
        # Brian 2 counts the step of the spike among those that its refractory time covers
        t_ref=T_REF - dt,
        i_e=I_EX,
    )
    return jsnn.Population(
        law,
        n_exc + n_inh,
        {"exc": Exponential(TAU_EXC, e_rev=E_EXC), "inh": Exponential(TAU_INH, e_rev=E_INH)},
        solver=jsnn.solvers.Euler(),
        slices={"exc": slice(0, n_exc), "inh": slice(n_exc, n_exc + n_inh)},
        initial={"v": v, "exc.g": g_exc, "inh.g": g_inh},
    )


def release() -> TsodyksMarkram:
    return TsodyksMarkram(U_0, tau_rec=1000 / OMEGA_D, tau_fac=1000 / OMEGA_F)


def projections(
    rules: dict[str, Any], delay: float, strength: float = 1.0
) -> dict[str, jsnn.Projection]:
    return {
        kind: jsnn.Projection(
            f"cells.{kind}",
            "cells",
            rules[kind],
            weight=weight * strength,
            delay=delay,
            receptor=kind,
            release=release(),
        )
        for kind, weight in (("exc", W_EXC), ("inh", W_INH))
    }


def build(
    scale: float = 1.0, *, seed: int = 1, delay: float = 0.0, delivery: Any = None
) -> jsnn.Network:
    """The network with `scale` times the cells. A cell then has so many times the inputs, each as
    much weaker."""
    n_exc, n_inh = round(N_EXC * scale), round(N_INH * scale)
    if n_inh < 1:
        raise ValueError(f"scale={scale} leaves no inhibitory cell; give {1 / N_INH} or more")
    return jsnn.Network(
        {
            "cells": neurons(
                n_exc,
                n_inh,
                Uniform(E_L, V_TH),
                Uniform(0.0, W_EXC / scale),
                Uniform(0.0, W_INH / scale),
                DT,
            )
        },
        projections(
            {"exc": PairwiseBernoulli(P_EXC), "inh": PairwiseBernoulli(P_INH)}, delay, 1 / scale
        ),
        dt=DT,
        key=jax.random.key(seed),
        delivery=delivery,
    )


def build_frozen(frozen: dict[str, Any], delay: float = 0.0, delivery: Any = None) -> jsnn.Network:
    """The network with the edges and initial values of another simulator: `pre_e`, `post_e`,
    `pre_i`, `post_i`, `v0` (mV), `ge0`, `gi0` (nS) and `dt` (ms)."""
    n = frozen["v0"].size
    n_exc = n * N_EXC // (N_EXC + N_INH)
    dt = float(frozen["dt"])
    rules = {
        kind: Pairs(frozen[f"pre_{k}"], frozen[f"post_{k}"])
        for kind, k in (("exc", "e"), ("inh", "i"))
    }
    initial = (frozen["v0"], frozen["ge0"], frozen["gi0"])
    return jsnn.Network(
        {"cells": neurons(n_exc, n - n_exc, *initial, dt)},
        projections(rules, delay),
        dt=dt,
        key=jax.random.key(0),
        delivery=delivery,
    )


def recorders(traced: int = TRACED) -> dict[str, Any]:
    """All spikes, and the states of one excitatory neuron and of its synapses."""
    return {
        "exc": Spikes("cells.exc"),
        "inh": Spikes("cells.inh"),
        "v": States("cells.exc", "v", index=traced),
        "g_e": States("cells.exc", "exc.g", index=traced),
        "g_i": States("cells.exc", "inh.g", index=traced),
        "u_S": SynapseStates("exc", "u", index=traced),
        "x_S": SynapseStates("exc", "x", index=traced),
        "r_spike": SynapseStates("exc", "r", index=traced, at_spikes=True),
    }


def compare(solution: jsnn.Solution, frozen: dict[str, Any]) -> dict[str, Any]:
    """How far a run is from what the other simulator recorded: spikes that only one of them has,
    and largest relative differences of the states of the traced neuron.

    Brian 2 gives step n the time n dt and records the state before it, so its sample n is here the
    one at the end of step n - 1; u and x it records as the spikes leave them.
    """
    records = solution.records
    first_inh = records["exc"].n
    mine = {
        (step, cell + first)
        for kind, first in (("exc", 0), ("inh", first_inh))
        for step, cell in zip(
            records[kind].steps.tolist(), records[kind].index.tolist(), strict=True
        )
    }
    steps = int(solution.state.step)
    theirs = zip(frozen["spike_step"].tolist(), frozen["spike_neuron"].tolist(), strict=True)
    theirs = {(step, cell) for step, cell in theirs if step < steps}
    n = min(steps, frozen["v"].size)
    found: dict[str, Any] = {"n_spikes": len(theirs), "different_spikes": len(mine ^ theirs)}
    pairs = {name: (records[name].values[: n - 1, 0], frozen[name][1:n]) for name in TRACES}
    at = records["r_spike"].steps
    for name in ("u", "x"):
        pairs[name] = records[f"{name}_S"].values[at, 0], frozen[name][at]
    for name, (own, other) in pairs.items():
        error = np.abs(own - other) / np.maximum(np.abs(other), 1e-300)
        found[f"relative_error_{name}"] = float(np.max(error, initial=0.0))
    return found


TRACES = ("v", "g_e", "g_i")


def draw_activity(spikes: dict[str, Any], duration: float) -> Any:
    """Raster of the first quarter of each population; below it the rate of all cells."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    dots, rate = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    shown = {kind: max(own.n // 4, 1) for kind, own in spikes.items()}
    times, index, first = [], [], 0
    for kind, own in spikes.items():
        few = own.index < shown[kind]
        times.append(own.times[few])
        index.append(own.index[few] + first)
        first += shown[kind]
    plot.raster(
        np.concatenate(times),
        np.concatenate(index),
        duration=duration,
        n=first,
        groups={"exc": slice(0, shown["exc"]), "inh": slice(shown["exc"], first)},
        histogram=False,
        ax=dots,
    )
    dots.set_xlabel("")
    everyone = np.concatenate([own.times for own in spikes.values()])
    n = sum(own.n for own in spikes.values())
    if duration >= 1:
        plot.population_rate(everyone, n, 1.0, 0.0, np.floor(duration), color="black", ax=rate)
    return figure


def draw_neuron(solution: jsnn.Solution, traced: int) -> Any:
    """Conductances, membrane and synaptic variables of one neuron, and what its spikes release."""
    from matplotlib.figure import Figure

    records, spikes = solution.records, solution.records["r_spike"]
    at = spikes.times
    figure = Figure(figsize=(6.4, 7.2), layout="constrained")
    conductance, membrane, synapse, released = figure.subplots(4, 1, sharex=True)
    times = records["v"].times
    g = np.hstack([records["g_e"].values, -records["g_i"].values])
    plot.traces(times, g, labels=["exc", "-inh"], ylabel="g (nS)", ax=conductance)
    conductance.axhline(0, color="grey", linestyle=":", linewidth=1)
    plot.traces(times, records["v"].values, ylabel="v (mV)", ax=membrane)
    membrane.lines[0].set_color("black")
    membrane.axhline(V_TH, color="C2", linestyle=":")
    membrane.vlines(at, V_TH, 0.0, color="black", linewidth=1)
    both = np.hstack([records["x_S"].values, records["u_S"].values])
    plot.traces(times, both, labels=["$x_S$", "$u_S$"], ylabel="synapse", ax=synapse)
    for line, color, values in zip(synapse.lines, ("C3", "C4"), both[spikes.steps].T, strict=True):
        line.set_color(color)
        synapse.plot(at, values, ".", color=color)
    synapse.legend(
        *(synapse.lines[:2], ["$x_S$", "$u_S$"]),
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    synapse.set_ylim(-0.05, 1.05)
    released.vlines(at, 0.0, spikes.values, color="C5", linewidth=2)
    released.set(ylim=(-0.01, 0.62), ylabel="$r_S$", xlabel="Time (ms)", xlim=(0, times[-1]))
    for axes in (conductance, membrane, synapse):
        axes.set_xlabel("")
    figure.suptitle(f"Excitatory neuron {traced}", fontsize="medium")
    return figure


def parser() -> argparse.ArgumentParser:
    # Without delay the cells talk to each other in every step: one device is faster than several
    made = common.parser("COBA network with short-term plasticity", 1000.0, DT, devices=1)
    made.add_argument(
        "--delay", type=common.finite, default=0.0, metavar="MS", help="of all synapses"
    )
    return made


def main(args: argparse.Namespace) -> None:
    if args.delay < 0 or not common.is_whole(args.delay, DT):
        raise ValueError(f"--delay {args.delay:g}: give 0 ms or more, whole steps of {DT:g} ms")
    print("Building network")
    start = time.perf_counter()
    frozen = None
    if args.frozen:
        frozen = common.load_frozen(args.frozen, EDGES, RESULTS)
        network = build_frozen(frozen, args.delay)
    else:
        network = build(args.scale, seed=args.seed, delay=args.delay)
    network = jax.block_until_ready(network.on(args.devices))
    build_s = time.perf_counter() - start

    low, high = network.part("cells.exc")[1:]
    traced = min(TRACED, high - low - 1)
    solution = jsnn.run(
        network, args.duration, key=jax.random.key(args.seed), record=recorders(traced)
    )
    spikes = {kind: solution.records[kind] for kind in ("exc", "inh")}
    rates, cv = {}, {}
    for kind, own in spikes.items():
        rates[kind] = analysis.mean_rate(own.index, own.n, args.duration)
        each = analysis.cv_isi(own.times, own.index, own.n)
        cv[kind] = float(np.nanmean(each)) if np.any(np.isfinite(each)) else None
    n_synapses = {kind: network.synapses[kind].edges.n_edges for kind in spikes}
    n, stats = network.populations["cells"].n, solution.stats
    compared = None
    if frozen is not None and all(name in frozen for name in RESULTS) and args.delay == 0:
        compared = compare(solution, frozen)

    print("COBA network with short-term plasticity")
    print(f"Number of neurons : {n}")
    print(f"Number of synapses: {sum(n_synapses.values())}")
    for kind, word in (("exc", "Excitatory"), ("inh", "Inhibitory")):
        irregular = "" if cv[kind] is None else f", CV of intervals {cv[kind]:.2f}"
        print(f"{word} rate   : {rates[kind]:.2f} Hz{irregular}")
    print(f"Building time     : {build_s:.2f} s")
    print(f"Compile time      : {stats['compile_s']:.2f} s")
    print(f"Simulation time   : {stats['run_s']:.2f} s")
    if compared is not None:
        print(
            f"Against the file  : {compared['different_spikes']} of {compared['n_spikes']} spikes "
            "differ; neuron 50, largest relative differences: "
            + ", ".join(f"{k} {compared[f'relative_error_{k}']:.1e}" for k in (*TRACES, "u", "x"))
        )

    if args.plot:
        figures = [draw_activity(spikes, args.duration), draw_neuron(solution, traced)]
        for figure, name in zip(figures, common.figure_names(args.plot, 2), strict=True):
            print(f"Figure            : {plot.save(figure, name)}")
    if args.save:
        arrays = {f"t_{kind}": own.times for kind, own in spikes.items()}
        arrays |= {f"i_{kind}": own.index for kind, own in spikes.items()}
        names = (*TRACES, "u_S", "x_S")
        arrays |= {"t": solution.records["v"].times}
        arrays |= {name: solution.records[name].values for name in names}
        released = solution.records["r_spike"]
        arrays |= {"t_spike": released.times, "r_S": released.values}
        print(f"Spikes and traces : {jsnn.export.save_npz(args.save, **arrays)}")
    common.write_json(
        args.json,
        {
            **common.numbers(args, stats, n, n_synapses, build_s),
            "rates": rates,
            "cv": cv,
            "solver": f"Euler, steps of {network.dt:g} ms",
            "delay": args.delay,
            "compared": compared,
        },
    )


if __name__ == "__main__":
    common.run(main, parser())
