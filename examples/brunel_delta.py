"""Brunel's random balanced network with delta synapses (Brunel 2000, J. Comput. Neurosci. 8).

12,500 integrate-and-fire neurons with 1,250 inputs each, of which a fifth inhibit, driven by
Poisson spikes at twice the rate that would hold the membrane at threshold: the neurons fire
asynchronously at about 32 Hz.

    python examples/brunel_delta.py --plot brunel.png --save brunel.npz
"""

import argparse
import time
from typing import Any, NamedTuple

import common
import jax
import numpy as np

import jsnn
from jsnn import analysis, plot
from jsnn.connect import FixedIndegree, Pairs
from jsnn.inputs import Poisson, SpikeList
from jsnn.record import Spikes

ORDER = 2500  # inhibitory neurons; there are four times as many excitatory ones
DT = 0.1  # ms
DELAY = 1.5  # ms
G, ETA, EPSILON = 5.0, 2.0, 0.1  # inhibition, drive, connection probability
TAU_M, V_TH, T_REF = 20.0, 20.0, 2.0  # ms, mV, ms
J = 0.1  # mV, at ORDER
RECORDED = 50  # of each kind, as published


class Sizes(NamedTuple):
    n_exc: int
    n_inh: int
    indegree_exc: int
    indegree_inh: int
    j: float
    rate: float  # Hz, of the Poisson input of each neuron


def sizes(order: int, g: float = G, eta: float = ETA, j: float | None = None) -> Sizes:
    """The numbers that follow from the order. A smaller network has fewer and stronger inputs."""
    n_exc, n_inh = 4 * order, order
    indegree_exc, indegree_inh = int(EPSILON * n_exc), int(EPSILON * n_inh)
    if indegree_inh < 1:
        raise ValueError(f"order={order} leaves a cell without inhibitory inputs; give 10 or more")
    j = J * ORDER / order if j is None else j
    threshold_rate = V_TH / (j * indegree_exc * TAU_M)  # 1/ms, of each of the inputs
    rate = 1000 * eta * threshold_rate * indegree_exc
    return Sizes(n_exc, n_inh, indegree_exc, indegree_inh, j, rate)


def neurons(n_exc: int, n_inh: int) -> jsnn.Population:
    law = jsnn.neurons.LIF(tau_m=TAU_M, c_m=1.0, e_l=0.0, v_th=V_TH, v_reset=0.0, t_ref=T_REF)
    return jsnn.Population(
        law,
        n_exc + n_inh,
        {"delta": jsnn.receptors.Delta()},
        slices={"exc": slice(0, n_exc), "inh": slice(n_exc, n_exc + n_inh)},
    )


def build(
    order: int = ORDER,
    *,
    seed: int = 1,
    g: float = G,
    eta: float = ETA,
    j: float | None = None,
    indegree: int | None = None,
    delivery: Any = None,
) -> jsnn.Network:
    """The network of 5 * order neurons; `indegree` fixes the number of recurrent inputs."""
    size = sizes(order, g, eta, j)
    if indegree is not None:
        share = indegree // 5
        size = size._replace(indegree_exc=indegree - share, indegree_inh=share)
    return jsnn.Network(
        {"cells": neurons(size.n_exc, size.n_inh)},
        {
            "exc": jsnn.Projection(
                "cells.exc", "cells", FixedIndegree(size.indegree_exc), weight=size.j, delay=DELAY
            ),
            "inh": jsnn.Projection(
                "cells.inh",
                "cells",
                FixedIndegree(size.indegree_inh),
                weight=-g * size.j,
                delay=DELAY,
            ),
        },
        {"noise": Poisson("cells", size.rate, size.j, delay=DELAY)},
        dt=DT,
        key=jax.random.key(seed),
        delivery=delivery,
    )


def build_frozen(path: str) -> jsnn.Network:
    """The network with edges and input spikes from a file, as recorded from another simulator.

    It holds `pre`, `post`, `weight` (mV) of every edge, `in_step` and `in_neuron` of every input
    spike (stamps in steps), and `J`, `delay_steps` and `dt`.
    """
    wanted = ("pre", "post", "weight", "in_step", "in_neuron", "J", "delay_steps", "dt")
    frozen = common.load_frozen(path, wanted)
    pre, post, weight = frozen["pre"], frozen["post"], frozen["weight"]
    n = int(max(pre.max(), post.max())) + 1
    dt = float(frozen["dt"])
    delay = float(frozen["delay_steps"]) * dt
    n_exc = n * 4 // 5
    projections = {}
    for name, chosen, first in (("exc", pre < n_exc, 0), ("inh", pre >= n_exc, n_exc)):
        values = np.unique(weight[chosen])
        projections[name] = jsnn.Projection(
            f"cells.{name}",
            "cells",
            Pairs(pre[chosen] - first, post[chosen]),
            weight=values[0] if values.size == 1 else weight[chosen],
            delay=delay,
        )
    spikes = SpikeList(
        "cells", frozen["in_step"] * dt, frozen["in_neuron"], frozen["J"][()], delay=delay
    )
    return jsnn.Network(
        {"cells": neurons(n_exc, n - n_exc)},
        projections,
        {"noise": spikes},
        dt=dt,
        key=jax.random.key(0),
    )


def parser() -> argparse.ArgumentParser:
    made = common.parser("Brunel's random balanced network with delta synapses", 1000.0, DT)
    made.add_argument(
        "--g", type=common.finite, default=G, help="ratio of inhibition to excitation"
    )
    made.add_argument("--eta", type=common.finite, default=ETA, help="drive relative to threshold")
    made.add_argument("--checkpoint", metavar="FOLDER", help="keep the run there, or resume it")
    return made


def main(args: argparse.Namespace) -> None:
    if args.eta < 0:
        raise ValueError(f"--eta {args.eta:g}: give 0 or more")
    print("Building network")
    start = time.perf_counter()
    order = round(ORDER * args.scale)
    if args.frozen:
        network = build_frozen(args.frozen)
    else:
        network = build(order, seed=args.seed, g=args.g, eta=args.eta)
    network = jax.block_until_ready(network.on(args.devices))
    build_s = time.perf_counter() - start

    solution = jsnn.run(
        network,
        args.duration,
        key=jax.random.key(args.seed),
        record={"exc": Spikes("cells.exc"), "inh": Spikes("cells.inh")},
        checkpoint=args.checkpoint,
    )
    spikes = {kind: solution.records[kind] for kind in ("exc", "inh")}
    rates, recorded = {}, {}
    for kind, own in spikes.items():
        few = min(RECORDED, own.n)
        rates[kind] = analysis.mean_rate(own.index, own.n, args.duration)
        recorded[kind] = np.count_nonzero(own.index < few) / few / args.duration * 1000
    n_synapses = {kind: network.synapses[kind].edges.n_edges for kind in spikes}
    n = network.populations["cells"].n
    stats = solution.stats

    print("Brunel network simulation")
    print(f"Number of neurons : {n}")
    devices = "from the file" if args.frozen else f"and {n} from the Poisson input"
    print(f"Number of synapses: {sum(n_synapses.values())} ({devices})")
    print(f"       Excitatory : {n_synapses['exc']}")
    print(f"       Inhibitory : {n_synapses['inh']}")
    for kind, word in (("exc", "Excitatory"), ("inh", "Inhibitory")):
        few = min(RECORDED, spikes[kind].n)
        print(
            f"{word} rate   : {recorded[kind]:.2f} Hz (first {few} neurons), "
            f"{rates[kind]:.2f} Hz (all {spikes[kind].n})"
        )
    print(f"Building time     : {build_s:.2f} s")
    print(f"Compile time      : {stats['compile_s']:.2f} s")
    print(f"Simulation time   : {stats['run_s']:.2f} s")

    if args.plot:
        first = spikes["exc"].index < RECORDED
        figure = plot.raster(
            spikes["exc"].times[first],
            spikes["exc"].index[first] + 1,  # identities from 1, as published
            duration=args.duration,
            n=min(RECORDED, spikes["exc"].n),
            title=f"Brunel network: {min(RECORDED, spikes['exc'].n)} of {n} neurons",
        )
        print(f"Figure            : {plot.save(figure, args.plot)}")
    if args.save:
        arrays = {f"t_{kind}": own.times for kind, own in spikes.items()}
        arrays |= {f"i_{kind}": own.index for kind, own in spikes.items()}
        print(f"Spikes            : {jsnn.export.save_npz(args.save, **arrays)}")
    cv = {}
    for kind, own in spikes.items():
        each = analysis.cv_isi(own.times, own.index, own.n)
        cv[kind] = float(np.nanmean(each)) if np.any(np.isfinite(each)) else None
    common.write_json(
        args.json,
        {
            **common.numbers(args, stats, n, n_synapses, build_s),
            "rates": rates,
            "rates_recorded": recorded,
            "cv": cv,
            "solver": f"Exact, steps of {network.dt:g} ms",
        },
    )


if __name__ == "__main__":
    common.run(main, parser())
