"""A network that wires itself up: structural plasticity after Butz and van Ooyen (2013, PLoS
Comput. Biol. 9:e1003259), the example of NEST (Diaz-Pier et al. 2016, Front. Neuroanat. 10:57).

800 excitatory and 200 inhibitory neurons without a synapse grow axonal and dendritic elements as
long as their calcium is below a set point, and lose them above; every second vacant elements become
synapses. After 200 s each population has found its set point.

    python examples/structural_plasticity.py --plot structure.png
    python examples/structural_plasticity.py --update-interval 10000 --plot overshoot.eps
"""

import argparse
import time
from typing import Any

import common
import jax
import numpy as np

import jsnn
from jsnn import plot
from jsnn.connect import NoEdges, Pairs
from jsnn.inputs import Poisson, SpikeList
from jsnn.record import Counts, Spikes, States
from jsnn.rewire import Growing, Rewiring

N_EXC, N_INH = 800, 200
DT, DELAY = 0.1, 1.0  # ms
RATE = 10000.0  # Hz
J_EXC, J_INH, J_EXT = 585.0, -585.0, 6.2  # pA: 1, -1 and 0.11 mV at their peak
EPS_EXC, EPS_INH = 0.05, 0.2  # set points of calcium
UPDATE_INTERVAL = 1000.0  # ms
EVERY = 1000.0  # ms, of the records
# Elements / ms, of excitatory and of inhibitory neurons
GROWTH_RATES = {
    "Axon_ex": (1e-4, 0.0),
    "Axon_in": (0.0, 1e-4),
    "Den_ex": (1e-4, 4e-4),
    "Den_in": (1e-4, 1e-4),
}
MEMBRANES: dict[str, dict[str, float]] = {
    "iaf_psc_alpha": {},  # the published script creates it with its defaults,
    "iaf_psc_exp": {  # and declares this one, which it does not use
        **{"tau_m": 10.0, "tau_syn_ex": 0.5, "tau_syn_in": 0.5, "t_ref": 2.0, "C_m": 250.0},
        **{"E_L": -65.0, "V_th": -50.0, "V_reset": -65.0, "V_m": -65.0},
    },
}
FROZEN = ("n_exc", "n_inh", "pre_ex", "post_ex", "pre_in", "post_in", "dt")
INPUTS = ("poisson_step", "poisson_neuron")
PAIRED = (("pre_ex", "post_ex"), ("pre_in", "post_in"), INPUTS)


def network(
    sizes: tuple[int, int],
    edges: dict[str, Any],
    noise: Any,
    dt: float,
    seed: int,
    update_interval: float,
    neuron: str = "iaf_psc_alpha",
    ca: Any = 0.0,
    capacity: int | None = None,
) -> jsnn.Network:
    n_exc, n = sizes[0], sum(sizes)
    is_exc = np.arange(n) < n_exc

    def elements(of_exc: float, of_inh: float) -> dict[str, Any]:
        return {
            "growth_curve": "gaussian",
            "growth_rate": np.where(is_exc, of_exc, of_inh),
            "eta": 0.0,
            "eps": np.where(is_exc, EPS_EXC, EPS_INH),
            "continuous": False,
        }

    cells = getattr(jsnn.nest, neuron)(
        n,
        slices={"exc": slice(0, n_exc), "inh": slice(n_exc, n)},
        synaptic_elements={name: elements(*rates) for name, rates in GROWTH_RATES.items()},
        Ca=ca,
        **MEMBRANES[neuron],
    )
    return jsnn.Network(
        {"cells": cells},
        {
            f"synapse_{kind}": jsnn.Projection(
                source,
                "cells",
                edges[kind],
                weight=weight,
                delay=DELAY,
                receptor=kind,
                growing=Growing(f"Axon_{kind}", f"Den_{kind}", capacity=capacity),
            )
            for kind, source, weight in (("ex", "cells.exc", J_EXC), ("in", "cells.inh", J_INH))
        },
        {"noise": noise},
        dt=dt,
        key=jax.random.key(seed),
        rewiring=Rewiring(update_interval),
    )


def build(
    scale: float = 1.0,
    *,
    seed: int = 1,
    update_interval: float = UPDATE_INTERVAL,
    neuron: str = "iaf_psc_alpha",
    capacity: int | None = None,
) -> jsnn.Network:
    """The network with `scale` times the neurons, no synapses, and room for `capacity` of each
    kind at first."""
    n_exc, n_inh = round(N_EXC * scale), round(N_INH * scale)
    if min(n_exc, n_inh) < 1:
        raise ValueError(f"scale={scale} leaves no network; give {1 / N_INH:g} or more")
    return network(
        (n_exc, n_inh),
        {"ex": NoEdges(), "in": NoEdges()},
        Poisson("cells", RATE, J_EXT, "ex", delay=DELAY),
        DT,
        seed,
        update_interval,
        neuron,
        capacity=capacity,
    )


def build_frozen(
    frozen: dict[str, Any],
    update_interval: float = UPDATE_INTERVAL,
    neuron: str = "iaf_psc_alpha",
) -> jsnn.Network:
    """The network from the synapses (and calcium `ca`, if given) of another simulator, under its
    external spikes: the arrays `FROZEN` and `INPUTS`, neurons counted with the excitatory ones
    first and steps from 0."""
    dt, n_exc = float(frozen["dt"]), int(frozen["n_exc"])
    return network(
        (n_exc, int(frozen["n_inh"])),
        {
            "ex": Pairs(frozen["pre_ex"], frozen["post_ex"]),
            "in": Pairs(np.asarray(frozen["pre_in"]) - n_exc, frozen["post_in"]),
        },
        SpikeList(
            "cells",
            (frozen["poisson_step"] + 1) * dt,
            frozen["poisson_neuron"],
            J_EXT,
            "ex",
            delay=DELAY,
        ),
        dt,
        0,
        update_interval,
        neuron,
        frozen.get("ca", 0.0),
    )


def recorders() -> dict[str, Any]:
    """Calcium, connected axonal elements and numbers of spikes, each second."""
    return {
        "ca_exc": States("cells.exc", "ca", every=EVERY),
        "ca_inh": States("cells.inh", "ca", every=EVERY),
        "connections_exc": States("cells.exc", "Axon_ex.connected", every=EVERY),
        "connections_inh": States("cells.inh", "Axon_in.connected", every=EVERY),
        "counts_exc": Counts("cells.exc", every=EVERY),
        "counts_inh": Counts("cells.inh", every=EVERY),
    }


def courses(records: Any) -> dict[str, np.ndarray]:
    """Mean calcium and numbers of connections at each second."""
    found = {}
    for kind in ("exc", "inh"):
        found[f"ca_{kind}"] = np.asarray(records[f"ca_{kind}"].values, np.float64).mean(-1)
        connected = np.asarray(records[f"connections_{kind}"].values)
        found[f"connections_{kind}"] = connected.sum(-1).astype(np.int64)
    return found


def draw(times: np.ndarray, found: dict[str, np.ndarray]) -> Any:
    """The published figure: calcium on the left axis with its set points, connections on the
    right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    calcium = figure.subplots()
    connections = calcium.twinx()
    seconds = np.asarray(times) / 1000
    kinds = (
        ("exc", "Excitatory", EPS_EXC, "blue", "#9999FF", "magenta"),
        ("inh", "Inhibitory", EPS_INH, "red", "#FF9999", "black"),
    )
    for kind, name, eps, colour, pale, other in kinds:
        calcium.axhline(eps, linewidth=4.0, color=pale)
        calcium.plot(seconds, found[f"ca_{kind}"], color=colour, label=f"Calcium, {name.lower()}")
        connections.plot(
            seconds,
            found[f"connections_{kind}"],
            "--",
            color=other,
            label=f"{name} connections",
        )
    top = max(0.275, 1.1 * max(found["ca_exc"].max(), found["ca_inh"].max()))
    most = max(found["connections_exc"].max(), found["connections_inh"].max())
    calcium.set(ylim=(0, top), xlabel="Time (s)", ylabel="Calcium concentration")
    connections.set(ylim=(0, max(2500, 1.1 * most)), ylabel="Connections")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def parser(
    description: str = "Network with structural plasticity", devices: int | None = 1
) -> argparse.ArgumentParser:
    """By default on one device: 1,000 cells have less to do in a block than devices to tell each
    other."""
    made = common.parser(description, 200000.0, DT, devices)
    made.add_argument(
        "--update-interval",
        type=common.finite,
        default=UPDATE_INTERVAL,
        metavar="MS",
        help="between two updates of the connectivity",
    )
    made.add_argument(
        "--neuron",
        choices=MEMBRANES,
        default="iaf_psc_alpha",
        help="its model; iaf_psc_exp, with what the script declares, stays silent",
    )
    return made


def check(args: argparse.Namespace) -> None:
    """Raise for times with which this network cannot be."""
    if args.duration < EVERY:
        raise ValueError(
            f"--duration {args.duration:g} is less than {EVERY:g} ms, the first record"
        )
    interval = args.update_interval
    if interval <= 0:
        raise ValueError(f"--update-interval {interval:g}: give more than 0 ms")
    if not args.frozen and not common.is_whole(interval, DT):
        raise ValueError(
            f"--update-interval {interval:g} ms is no whole number of steps of dt={DT:g} ms"
        )


def main(args: argparse.Namespace) -> None:
    check(args)
    print("Preparing the network")
    start = time.perf_counter()
    chosen: dict[str, Any] = {"update_interval": args.update_interval, "neuron": args.neuron}
    if args.frozen:
        net = build_frozen(
            common.load_frozen(args.frozen, (*FROZEN, *INPUTS), ("ca",), PAIRED), **chosen
        )
    else:
        net = build(args.scale, seed=args.seed, **chosen)
    net = jax.block_until_ready(net.on(args.devices))
    build_s = time.perf_counter() - start
    n = {
        kind: high - low for kind in ("exc", "inh") for _, low, high in [net.part(f"cells.{kind}")]
    }
    print("Network with structural plasticity")
    print(f"Number of neurons : {n['exc']} excitatory, {n['inh']} inhibitory")
    print(f"Update interval   : {args.update_interval:g} ms")
    print("Starting simulation")
    record = recorders()
    if args.save:
        record |= {kind: Spikes(f"cells.{kind}") for kind in n}
    solution = jsnn.run(net, args.duration, key=jax.random.key(args.seed), record=record)
    records, stats = solution.records, solution.stats
    times, found = records["ca_exc"].times, courses(records)
    rates = {
        kind: float(np.sum(records[f"counts_{kind}"].values)) / n[kind] / args.duration * 1000
        for kind in n
    }
    last = {name: own[-1].item() for name, own in found.items()}
    print("Simulation finished successfully")
    print(f"Last record       : {times[-1] / 1000:g} s")
    for kind, name in (("exc", "Excitatory"), ("inh", "Inhibitory")):
        print(
            f"{name:18}: {rates[kind]:.2f} Hz, calcium {last[f'ca_{kind}']:.4f}, "
            f"{last[f'connections_{kind}']} connections"
        )
    print(f"Building time     : {build_s:.2f} s")
    print(f"Compile time      : {stats['compile_s']:.2f} s")
    print(f"Simulation time   : {stats['run_s']:.2f} s")

    if args.plot:
        print(f"Figure            : {plot.save(draw(times, found), args.plot)}")
    n_synapses = {kind: last[f"connections_{kind}"] for kind in n}
    common.write_json(
        args.json,
        {
            **common.numbers(args, stats, sum(n.values()), n_synapses, build_s),
            "rates": rates,
            "solver": "Exact()",
            "update_interval": args.update_interval,
            "neuron": args.neuron,
            **last,
        },
    )
    if args.save:
        spikes = {f"t_{kind}": records[kind].times for kind in n}
        spikes |= {f"i_{kind}": records[kind].index for kind in n}
        path = jsnn.export.save_npz(args.save, times=times, **found, **spikes)
        print(f"Courses, spikes   : {path}")


if __name__ == "__main__":
    common.run(main, parser())
