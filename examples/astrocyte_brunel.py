"""A random balanced network of neurons and astrocytes, after the example of NEST's documentation
(astrocyte_brunel_bernoulli.py; Li and Rinzel 1994, Nadkarni and Jung 2003).

8,000 excitatory and 2,000 inhibitory adaptive exponential neurons are connected at random by
synapses with short-term plasticity. Half of the excitatory synapses are paired with one of 10,000
astrocytes, out of a pool of ten of the target: their spikes raise its IP3, which moves its
calcium, which sends a slow inward current (SIC) to the target.

    python examples/astrocyte_brunel.py --plot astrocytes.png
    python examples/astrocyte_brunel.py --rule fixed_indegree --plot astrocytes.png
"""

import argparse
import random
import time
from collections.abc import Sequence
from typing import Any

import common
import common_astrocytes as glia
import jax
import numpy as np

import jsnn
from jsnn import analysis, plot
from jsnn.connect import FixedIndegree, Pairs, PairwiseBernoulli
from jsnn.coupling import SlowInwardCurrent
from jsnn.inputs import Poisson, SpikeList
from jsnn.record import Spikes, States
from jsnn.tripartite import Tripartite, tripartite

N_EXC, N_INH, N_ASTRO = 8000, 2000, 10000
P_PRIMARY, P_THIRD = 0.1, 0.5  # of a synapse, and of pairing an excitatory one with an astrocyte
POOL_SIZE = 10
RATE = 2000.0  # Hz, of the external spikes to each neuron
W_E, W_I, W_A2N = 1.0, 4.0, 0.05  # nS, nS, and without unit
D_E, D_I, D_A2N, D_EXT = 2.0, 1.0, 1.0, 1.0  # ms
TAU_EX, TAU_IN = 2.0, 4.0  # ms
IP3 = 0.4  # uM, at the start
DT = 0.1  # ms
N_REC_SPK, N_REC_MM = 100, 50  # neurons in the raster; neurons and astrocytes with recorded states
RULES = ("bernoulli", "fixed_indegree")
FROZEN = (
    *("n_exc", "n_inh", "n_astro", "pre_exc", "post_exc", "pre_inh", "post_inh"),
    *("pre_in", "post_in", "pre_out", "post_out", "poisson_step", "poisson_neuron", "dt"),
)
RESULTS = ("spike_step", "spike_neuron")
PAIRED = (
    *((f"pre_{kind}", f"post_{kind}") for kind in ("exc", "inh", "in", "out")),
    *(("poisson_step", "poisson_neuron"), RESULTS),
)


def network(
    sizes: tuple[int, int, int], edges: Sequence[Any], noise: Any, dt: float, seed: int
) -> jsnn.Network:
    (n_exc, n_inh, n_astro), (exc, inh, third_in, third_out) = sizes, edges
    neurons = jsnn.nest.aeif_cond_alpha_astro(
        n_exc + n_inh,
        tau_syn_ex=TAU_EX,
        tau_syn_in=TAU_IN,
        slices={"exc": slice(0, n_exc), "inh": slice(n_exc, n_exc + n_inh)},
    )
    astrocytes = jsnn.nest.astrocyte_lr_1994(n_astro, IP3=IP3)
    excites = jsnn.nest.tsodyks_synapse(tau_psc=TAU_EX)
    inhibits = jsnn.nest.tsodyks_synapse(tau_psc=TAU_IN)
    to_exc = {"weight": W_E, "delay": D_E, "release": excites}
    return jsnn.Network(
        {"neurons": neurons, "astrocytes": astrocytes},
        {
            "exc": jsnn.Projection("neurons.exc", "neurons", exc, receptor="ex", **to_exc),
            "inh": jsnn.Projection(
                *("neurons.inh", "neurons", inh),
                weight=W_I,
                delay=D_I,
                receptor="in",
                release=inhibits,
            ),
            "third_in": jsnn.Projection("neurons.exc", "astrocytes", third_in, **to_exc),
        },
        {"noise": noise},
        couplings={
            "I_SIC": SlowInwardCurrent(
                "astrocytes", "neurons", third_out, weight=W_A2N, delay=D_A2N
            )
        },
        dt=dt,
        key=jax.random.key(seed),
    )


def build(scale: float = 1.0, *, seed: int = 1, rule: str = "bernoulli") -> jsnn.Network:
    """The network with `scale` times the cells; each neuron has as many synapses as published
    where scale is at least 1, and is connected as probably where it is less."""
    print("Creating nodes ...")
    n_exc, n_inh, n_astro = (round(n * scale) for n in (N_EXC, N_INH, N_ASTRO))
    if n_inh < 1 or n_astro < POOL_SIZE:
        raise ValueError(f"scale={scale} leaves no network; give {POOL_SIZE / N_ASTRO:g} or more")
    p = P_PRIMARY / max(scale, 1.0)
    if rule == "bernoulli":
        excites = inhibits = PairwiseBernoulli(p)
    else:
        excites, inhibits = FixedIndegree(round(p * n_exc)), FixedIndegree(round(p * n_inh))
    print("Connecting Poisson generator ...")
    noise = Poisson("neurons", RATE, W_E, "ex", delay=D_EXT)
    print("Connecting neurons and astrocytes ...")
    drawn = tripartite(
        Tripartite(excites, P_THIRD, POOL_SIZE, "random"),
        jax.random.key(seed),
        *(n_exc, n_exc + n_inh, n_astro),
        pre_ids=np.arange(n_exc),
        post_ids=np.arange(n_exc + n_inh),
    )
    sizes = n_exc, n_inh, n_astro
    edges = drawn.primary, inhibits, drawn.third_in, drawn.third_out
    return network(sizes, edges, noise, DT, seed)


def build_frozen(frozen: dict[str, Any]) -> jsnn.Network:
    """The network with the edges and external spikes of another simulator: the arrays `FROZEN`,
    cells of each kind counted from 0, neurons with the excitatory ones first, steps from 0."""
    dt = float(frozen["dt"])
    noise = SpikeList(
        *("neurons", (frozen["poisson_step"] + 1) * dt, frozen["poisson_neuron"]),
        *(W_E, "ex"),
        delay=D_EXT,
    )
    ends = (("exc", 0), ("inh", int(frozen["n_exc"])), ("in", 0), ("out", 0))
    edges = [Pairs(frozen[f"pre_{kind}"] - first, frozen[f"post_{kind}"]) for kind, first in ends]
    n_exc, n_inh, n_astro = (int(frozen[f"n_{kind}"]) for kind in ("exc", "inh", "astro"))
    return network((n_exc, n_inh, n_astro), edges, noise, dt, 0)


def recorders(net: jsnn.Network, seed: int, n_sampled: int = N_REC_MM) -> dict[str, Any]:
    """All spikes; IP3 and calcium of some astrocytes and the slow inward current of some neurons,
    sampled at random, every millisecond."""
    rng = random.Random(seed)
    chosen = {}
    for name in ("neurons", "astrocytes"):
        n = net.populations[name].n
        chosen[name] = sorted(rng.sample(range(n), min(n, n_sampled)))
    sampled = {
        "I_SIC": States("neurons", "I_SIC", index=chosen["neurons"], every=1.0),
        "IP3": States("astrocytes", "ip3", index=chosen["astrocytes"], every=1.0),
        "Ca_astro": States("astrocytes", "ca", index=chosen["astrocytes"], every=1.0),
    }
    return {"exc": Spikes("neurons.exc"), "inh": Spikes("neurons.inh"), **sampled}


TRACES = {"IP3": "µM", "Ca_astro": "µM", "I_SIC": "pA"}


def draw_spikes(spikes: dict[str, Any], duration: float) -> Any:
    """The first neurons, identities from 1 as published, with the histogram of their rate."""
    times = np.concatenate([own.times for own in spikes.values()])
    index = np.concatenate([spikes["exc"].index, spikes["inh"].index + spikes["exc"].n])
    n = min(N_REC_SPK, spikes["exc"].n + spikes["inh"].n)
    few = index < n
    return plot.raster(
        times[few],
        index[few] + 1,
        duration=duration,
        n=n,
        title=f"Raster plot of neuron 1 to {n}",
    )


def parser() -> argparse.ArgumentParser:
    made = common.parser("Random balanced network of neurons and astrocytes", 1000.0, DT)
    made.add_argument(
        "--rule",
        choices=RULES,
        default=argparse.SUPPRESS,
        help=f"how neurons are connected (default: {RULES[0]})",
    )
    made.set_defaults(rule=None)
    return made


def main(args: argparse.Namespace) -> None:
    start, frozen = time.perf_counter(), None
    if args.frozen:
        if args.scale != 1 or args.rule is not None:
            raise ValueError("--frozen has its own cells and edges; leave out --scale and --rule")
        frozen = common.load_frozen(args.frozen, FROZEN, RESULTS, PAIRED)
        net = build_frozen(frozen)
    else:
        net = build(args.scale, seed=args.seed, rule=args.rule or RULES[0])
    net = jax.block_until_ready(net.on(args.devices))
    build_s = time.perf_counter() - start
    print("Connecting recorders ...")
    record = recorders(net, args.seed)
    print("Running simulation ...")
    solution = jsnn.run(net, args.duration, key=jax.random.key(args.seed), record=record)
    records, stats = solution.records, solution.stats
    spikes = {kind: records[kind] for kind in ("exc", "inh")}
    rates = {
        kind: analysis.mean_rate(own.index, own.n, args.duration) for kind, own in spikes.items()
    }
    means = glia.means(records, TRACES)
    n_synapses = glia.synapses(net)
    n = {name: own.n for name, own in net.populations.items()}
    compared = None
    if frozen is not None and all(name in frozen for name in RESULTS):
        both = (spikes["exc"], 0), (spikes["inh"], int(frozen["n_exc"]))
        compared = glia.compare(both, frozen, int(solution.state.step))

    print("Random balanced network of neurons and astrocytes")
    print(f"Number of neurons   : {n['neurons']}")
    print(f"Number of astrocytes: {n['astrocytes']}")
    glia.show(net, n_synapses["exc"] + n_synapses["inh"], means, TRACES)
    print(f"Excitatory rate     : {rates['exc']:.2f} Hz")
    print(f"Inhibitory rate     : {rates['inh']:.2f} Hz")
    print(f"Building time       : {build_s:.2f} s")
    print(f"Compile time        : {stats['compile_s']:.2f} s")
    print(f"Simulation time     : {stats['run_s']:.2f} s")
    glia.show_compared(compared)

    if args.plot:
        print("Plotting dynamics ...")
        figures = [glia.draw_dynamics(records, "neurons"), draw_spikes(spikes, args.duration)]
        for figure, name in zip(figures, common.figure_names(args.plot, 2), strict=True):
            print(f"Figure              : {plot.save(figure, name)}")
    if args.save:
        arrays = glia.arrays(records, spikes, TRACES)
        print(f"Spikes and traces   : {jsnn.export.save_npz(args.save, **arrays)}")
    common.write_json(
        args.json,
        {
            **common.numbers(args, stats, n["neurons"], n_synapses, build_s),
            "n_astrocytes": n["astrocytes"],
            "rates": rates,
            "means": means,
            "rule": None if args.frozen else args.rule or RULES[0],
            "solver": glia.solver(net, "neurons"),
            "compared": compared,
        },
    )


if __name__ == "__main__":
    common.run(main, parser())
