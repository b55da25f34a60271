"""A small network of neurons and astrocytes, after the example of NEST's documentation
(astrocyte_small_network.py; Li and Rinzel 1994, Nadkarni and Jung 2003).

Ten presynaptic neurons, which a constant current makes fire, are connected to ten postsynaptic ones
by synapses with short-term plasticity. Each synapse is paired with one of five astrocytes, out of
the pool of its target: spikes raise its IP3, which moves its calcium, which sends a slow inward
current (SIC) to the target. Pools are blocks, so that two neurons in a row share an astrocyte, or
random.

    python examples/astrocyte_small_network.py --plot small.png
    python examples/astrocyte_small_network.py --pool-type random --pool-size 2 --p-third 0.5
"""

import argparse
import time
from typing import Any

import common
import common_astrocytes as glia
import jax
import numpy as np

import jsnn
from jsnn import analysis, plot
from jsnn.connect import Pairs, PairwiseBernoulli
from jsnn.coupling import SlowInwardCurrent
from jsnn.record import Spikes, States
from jsnn.tripartite import Tripartite, tripartite

N_NEURONS, N_ASTRO = 10, 5  # before and after the synapses each; astrocytes
P_PRIMARY, P_THIRD = 1.0, 1.0  # of a synapse, and of pairing it with an astrocyte
POOL_TYPE, POOL_SIZE = "block", 1
I_E = 1000.0  # pA, into every neuron
TAU_EX = 2.0  # ms
IP3, DELTA_IP3 = 0.4, 0.2  # uM, at the start, and with every arrival
W, W_A2N = 1.0, 1.0  # nS (without unit onto astrocytes), and without unit
D = 1.0  # ms, of everything
DT = 0.1  # ms
EVERY = 1.0  # ms, of what is recorded
FROZEN = (
    *("n_pre", "n_post", "n_astro", "pre", "post", "pre_in", "post_in", "pre_out", "post_out"),
    "dt",
)
RESULTS = ("spike_step", "spike_neuron")
PAIRED = (("pre", "post"), ("pre_in", "post_in"), ("pre_out", "post_out"), RESULTS)
ENDS = {"primary": ("pre", "post"), "third_in": ("pre", "astro"), "third_out": ("astro", "post")}


def network(
    sizes: tuple[int, int, int], primary: Any, third_in: Any, third_out: Any, dt: float, seed: int
) -> jsnn.Network:
    n_pre, n_post, n_astro = sizes
    neurons = jsnn.nest.aeif_cond_alpha_astro
    given: dict[str, Any] = {"tau_syn_ex": TAU_EX, "I_e": I_E}
    synapse: dict[str, Any] = {"weight": W, "delay": D, "release": jsnn.nest.tsodyks_synapse()}
    return jsnn.Network(
        {
            "pre": neurons(n_pre, **given),
            "post": neurons(n_post, **given),
            "astro": jsnn.nest.astrocyte_lr_1994(n_astro, IP3=IP3, delta_IP3=DELTA_IP3),
        },
        {
            "primary": jsnn.Projection("pre", "post", primary, receptor="ex", **synapse),
            "third_in": jsnn.Projection("pre", "astro", third_in, **synapse),
        },
        couplings={"I_SIC": SlowInwardCurrent("astro", "post", third_out, weight=W_A2N, delay=D)},
        dt=dt,
        key=jax.random.key(seed),
    )


def build(
    scale: float = 1.0,
    *,
    seed: int = 1,
    pool_type: str = POOL_TYPE,
    pool_size: int = POOL_SIZE,
    p_primary: float = P_PRIMARY,
    p_third: float = P_THIRD,
) -> jsnn.Network:
    """The network with `scale` times the cells."""
    print("Creating and connecting neurons and astrocytes ...")
    n_astro = round(N_ASTRO * scale)
    n_neurons = n_astro * N_NEURONS // N_ASTRO  # so that blocks fit
    if n_astro < 1:
        raise ValueError(f"scale={scale} leaves no astrocyte; give {1 / N_ASTRO:g} or more")
    drawn = tripartite(
        Tripartite(PairwiseBernoulli(p_primary), p_third, pool_size, pool_type),
        *(jax.random.key(seed), n_neurons, n_neurons, n_astro),
    )
    return network((n_neurons, n_neurons, n_astro), *drawn, DT, seed)


def build_frozen(frozen: dict[str, Any]) -> jsnn.Network:
    """The network with the edges of another simulator: the arrays `FROZEN`, cells of each kind
    counted from 0."""
    sizes = int(frozen["n_pre"]), int(frozen["n_post"]), int(frozen["n_astro"])
    primary, third_in, third_out = (
        Pairs(frozen[f"pre{end}"], frozen[f"post{end}"]) for end in ("", "_in", "_out")
    )
    return network(sizes, primary, third_in, third_out, float(frozen["dt"]), 0)


def recorders() -> dict[str, Any]:
    """All spikes; all membranes, IP3, calcium and slow inward currents every millisecond."""
    return {
        "pre": Spikes("pre"),
        "post": Spikes("post"),
        "V_m_pre": States("pre", "v", every=EVERY),
        "V_m_post": States("post", "v", every=EVERY),
        "IP3": States("astro", "ip3", every=EVERY),
        "Ca_astro": States("astro", "ca", every=EVERY),
        "I_SIC": States("post", "I_SIC", every=EVERY),
    }


TRACES = {"V_m_pre": "mV", "V_m_post": "mV", "IP3": "µM", "Ca_astro": "µM", "I_SIC": "pA"}


def edges(net: jsnn.Network) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The two ends of each kind of edge; slow currents of one pair are merged."""
    found = net.connections()
    names = {"primary": "primary", "third_in": "third_in", "third_out": "I_SIC"}
    return {kind: (found[name].pre, found[name].post) for kind, name in names.items()}


def draw_connections(net: jsnn.Network) -> Any:
    """Which neuron and astrocyte connects to which, in three rows; astrocytes in the middle."""
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    heights = {"pre": 2.0, "astro": 1.0, "post": 0.0}
    cells: dict[str, dict[str, Any]] = {
        "pre": {"marker": "^", "color": "0.5", "label": "presynaptic neurons"},
        "astro": {"marker": "o", "color": "tab:green", "label": "astrocytes"},
        "post": {"marker": "^", "color": "black", "label": "postsynaptic neurons"},
    }
    styles: dict[str, dict[str, Any]] = {
        "primary": {"color": "tab:blue", "linestyle": ":", "linewidth": 1.5, "alpha": 0.35},
        "third_in": {"color": "tab:orange", "linewidth": 1.5, "alpha": 0.5},
        "third_out": {"color": "tab:green", "linewidth": 3.0},
    }
    labels = {
        "primary": "neuron to neuron",
        "third_in": "neuron to astrocyte",
        "third_out": "astrocyte to neuron (SIC)",
    }
    figure = Figure(figsize=(8.0, 6.0), layout="constrained")
    axes = figure.subplots()
    widest = max(own.n for own in net.populations.values())
    places = {}
    for name in heights:
        # Every row is as wide as the widest, so that blocks lie above their neurons
        n = net.populations[name].n
        places[name] = (np.arange(n) + 0.5) * widest / n
    for kind, (pre, post) in edges(net).items():
        source, target = ENDS[kind]
        pairs = np.unique(np.stack([pre, post], 1), axis=0)
        ends = np.full((len(pairs), 2, 2), [[0, heights[source]], [0, heights[target]]])
        ends[:, 0, 0], ends[:, 1, 0] = places[source][pairs[:, 0]], places[target][pairs[:, 1]]
        n = net.slow["I_SIC"].n_edges if kind == "third_out" else len(pre)  # before merging
        label = f"{labels[kind]}, {n}"
        axes.add_collection(LineCollection(list(ends), label=label, zorder=1, **styles[kind]))
    size = float(np.clip(300 * 10 / widest, 20, 300))
    for name, style in cells.items():
        height = np.full(places[name].size, heights[name])
        axes.scatter(places[name], height, size, zorder=2, **style)
    axes.set(xlim=(0, widest), ylim=(-0.2, 2.2))
    axes.set_axis_off()
    handles, names = axes.get_legend_handles_labels()
    order = [3, 4, 5, 0, 1, 2]  # columns: cells, then edges
    figure.legend(
        *([own[i] for i in order] for own in (handles, names)),
        loc="outside upper center",
        ncols=2,
        frameon=False,
        markerscale=0.6,
        labelspacing=0.7,
    )
    return figure


def draw_membranes(records: Any) -> Any:
    """Membranes before and after the synapses."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    rows = figure.subplots(2, 1, sharex=True)
    for axes, kind in zip(rows, ("pre", "post"), strict=True):
        own = records[f"V_m_{kind}"]
        plot.dynamics(
            *(own.times, own.values),
            label=r"$V_m$ (mV)",
            title=f"Membrane potential of {kind}synaptic neurons (n={own.values.shape[1]})",
            ax=axes,
        )
    rows[0].set_xlabel("")
    return figure


def parser() -> argparse.ArgumentParser:
    made = common.parser("Small network of neurons and astrocytes", 1000.0, DT, devices=1)
    made.add_argument(
        "--pool-type", choices=("block", "random"), default=POOL_TYPE, help="of astrocytes"
    )
    made.add_argument(
        "--pool-size", type=int, default=POOL_SIZE, metavar="K", help="astrocytes for each target"
    )
    made.add_argument(
        "--p-primary",
        type=common.finite,
        default=P_PRIMARY,
        metavar="P",
        help="that there is a synapse",
    )
    made.add_argument(
        "--p-third",
        type=common.finite,
        default=P_THIRD,
        metavar="P",
        help="that it has an astrocyte",
    )
    return made


def main(args: argparse.Namespace) -> None:
    start, frozen = time.perf_counter(), None
    chosen = {name: getattr(args, name) for name in ("pool_type", "pool_size")}
    chosen |= {name: getattr(args, name) for name in ("p_primary", "p_third")}
    if args.frozen:
        frozen = common.load_frozen(args.frozen, FROZEN, RESULTS, PAIRED)
        net = build_frozen(frozen)
    else:
        net = build(args.scale, seed=args.seed, **chosen)
    net = jax.block_until_ready(net.on(args.devices))
    build_s = time.perf_counter() - start
    print("Running simulation ...")
    solution = jsnn.run(net, args.duration, key=jax.random.key(args.seed), record=recorders())
    records, stats = solution.records, solution.stats
    spikes = {kind: records[kind] for kind in ("pre", "post")}
    rates = {
        kind: analysis.mean_rate(own.index, own.n, args.duration) for kind, own in spikes.items()
    }
    means = glia.means(records, TRACES)
    n_synapses = glia.synapses(net)
    n = {name: own.n for name, own in net.populations.items()}
    compared = None
    if frozen is not None and all(name in frozen for name in RESULTS):
        both = (spikes["pre"], 0), (spikes["post"], int(frozen["n_pre"]))
        compared = glia.compare(both, frozen, int(solution.state.step))

    print("Small network of neurons and astrocytes")
    print(f"Number of neurons   : {n['pre']} presynaptic, {n['post']} postsynaptic")
    print(f"Number of astrocytes: {n['astro']}")
    glia.show(net, n_synapses["primary"], means, TRACES)
    print(f"Presynaptic rate    : {rates['pre']:.2f} Hz")
    print(f"Postsynaptic rate   : {rates['post']:.2f} Hz")
    print(f"Building time       : {build_s:.2f} s")
    print(f"Compile time        : {stats['compile_s']:.2f} s")
    print(f"Simulation time     : {stats['run_s']:.2f} s")
    glia.show_compared(compared)

    if args.plot:
        print("Plotting connections, membranes and dynamics ...")
        dynamics = glia.draw_dynamics(records, "postsynaptic neurons")
        figures = [draw_connections(net), draw_membranes(records), dynamics]
        for figure, name in zip(figures, common.figure_names(args.plot, 3), strict=True):
            print(f"Figure              : {plot.save(figure, name)}")
    if args.save:
        arrays = glia.arrays(records, spikes, TRACES)
        for kind, (pre, post) in edges(net).items():
            arrays |= {f"{kind}_pre": pre, f"{kind}_post": post}
        print(f"Spikes and traces   : {jsnn.export.save_npz(args.save, **arrays)}")
    common.write_json(
        args.json,
        {
            **common.numbers(args, stats, n["pre"] + n["post"], n_synapses, build_s),
            "n_astrocytes": n["astro"],
            "rates": rates,
            "means": means,
            **({} if frozen else chosen),
            "solver": glia.solver(net, "pre"),
            "compared": compared,
        },
    )


if __name__ == "__main__":
    common.run(main, parser())
