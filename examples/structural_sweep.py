"""The network with structural plasticity at eight growth rates at once, in one `vmap`.

Slow growth lags behind calcium's set points, fast growth overshoots them, and what inhibition
balances meanwhile stays: at twice the published rates there are twice as many excitatory synapses
after 200 s.

    python examples/structural_sweep.py --plot rates.png
"""

import argparse
import time
from typing import Any

import common
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import structural_plasticity as published

import jsnn
from jsnn import plot

FACTORS = (0.25, 0.4, 0.6, 0.8, 1.0, 1.25, 1.6, 2.0)  # times the published growth rates
ROOM = 5  # synapses of a kind a neuron at first; at twice the rates there come to be 4


def sweep(
    net: jsnn.Network, factors: Any, key: jax.Array, steps: int, devices: int = 1
) -> jsnn.Solution:
    """The network at several multiples of its growth rates, side by side, from nothing: every leaf
    of the solution has the factors as first axis. Devices each take as many of them."""
    record = {
        name: own for name, own in published.recorders().items() if not name.startswith("counts")
    }
    names = list(published.GROWTH_RATES)

    def one(factor: jax.Array) -> jsnn.Solution:
        rates = lambda n: [n.populations["cells"].growth.elements[x].growth_rate for x in names]  # noqa: E731
        own = eqx.tree_at(rates, net, [factor * rate for rate in rates(net)])
        return jsnn.simulate(own, own.init(key), steps, record)

    among = jax.devices()[:devices]
    part: Any = jax.sharding.PartitionSpec("factors")
    several = jax.shard_map(
        jax.vmap(one),
        mesh=jax.sharding.Mesh(np.asarray(among), ("factors",)),
        in_specs=part,
        out_specs=part,
        check_vma=False,
    )
    return several(jnp.asarray(factors))


def with_room(args: argparse.Namespace, room: int) -> jsnn.Network:
    n = args.scale * (published.N_EXC + published.N_INH)
    return published.build(
        args.scale,
        seed=args.seed,
        update_interval=args.update_interval,
        neuron=args.neuron,
        capacity=max(round(room * n), 1),
    )


def run(args: argparse.Namespace) -> tuple[jsnn.Solution, dict[str, Any]]:
    """The sweep, and what was measured. Within `vmap` no room can be made for synapses: a sweep
    that lacks some says so in its status, and starts again with more."""
    key, factors = jax.random.key(args.seed), jnp.asarray(FACTORS)
    steps, room = round(args.duration / published.DT), ROOM
    compile_s = run_s = 0.0
    while True:
        start = time.perf_counter()
        net = with_room(args, room)
        of_factors = jax.jit(
            lambda own, net=net: sweep(net, own, key, steps, args.devices),
            compiler_options=jsnn.COMPILER_OPTIONS,
        )
        compiled = of_factors.lower(factors).compile()
        compile_s += time.perf_counter() - start
        start = time.perf_counter()
        made = jax.block_until_ready(compiled(factors))
        run_s += time.perf_counter() - start
        failed = [name for name, step in made.status.items() if np.min(step) < jsnn.NEVER]
        if not failed:
            spikes = {name: int(np.sum(own)) for name, own in made.stats["spikes"].items()}
            return made, {"compile_s": compile_s, "run_s": run_s, "spikes": spikes}
        if any(not name.startswith("projection/") for name in failed):
            raise ValueError(f"{failed} failed at one of the growth rates; run that one by itself")
        room *= 4
        print(f"Starting again    : room for {room} synapses of a kind a neuron", flush=True)


def draw(times: np.ndarray, found: dict[str, np.ndarray]) -> Any:
    """Calcium and connections `[factor, time]` of both populations, a line for each factor."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, len(FACTORS)))
    for column, (kind, name, eps) in enumerate(
        (
            ("exc", "excitatory", published.EPS_EXC),
            ("inh", "inhibitory", published.EPS_INH),
        )
    ):
        top, below = panels[:, column]
        top.axhline(eps, linewidth=4.0, color="0.85")
        for i, (factor, colour) in enumerate(zip(FACTORS, colours, strict=True)):
            top.plot(times / 1000, found[f"ca_{kind}"][i], color=colour, label=f"{factor:g}")
            below.plot(times / 1000, found[f"connections_{kind}"][i], color=colour)
        top.set(title=f"{name.capitalize()} neurons", ylabel="Calcium concentration")
        below.set(xlabel="Time (s)", ylabel=f"{name.capitalize()} connections")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside right center", title="growth rates\n(published = 1)"
    )
    return figure


def main(args: argparse.Namespace) -> None:
    if args.frozen:
        raise ValueError(f"--frozen {args.frozen}: this network grows anew; leave it out")
    published.check(args)
    args.devices = max(n for n in range(1, args.devices + 1) if len(FACTORS) % n == 0)
    print(f"Sweep             : {', '.join(f'{own:g}' for own in FACTORS)} times the growth rates")
    print("Starting simulation", flush=True)
    made, stats = run(args)
    found = published.courses(made.records)
    times = (1 + np.arange(found["ca_exc"].shape[1])) * published.EVERY
    print("Simulation finished successfully")
    last = [{name: own[i, -1].item() for name, own in found.items()} for i in range(len(FACTORS))]
    for factor, own in zip(FACTORS, last, strict=True):
        print(
            f"Growth rates x {factor:<4g}: calcium {own['ca_exc']:.4f} / {own['ca_inh']:.4f}, "
            f"connections {own['connections_exc']} / {own['connections_inh']}"
        )
    print(f"Compile time      : {stats['compile_s']:.2f} s")
    print(f"Simulation time   : {stats['run_s']:.2f} s")

    if args.plot:
        print(f"Figure            : {plot.save(draw(times, found), args.plot)}")
    n_synapses = {kind: int(np.sum(found[f"connections_{kind}"][:, -1])) for kind in ("exc", "inh")}
    n = made.records["ca_exc"].values.shape[-1] + made.records["ca_inh"].values.shape[-1]
    common.write_json(
        args.json,
        {
            **common.numbers(args, stats, len(FACTORS) * n, n_synapses, 0.0),
            "rates": {"cells": stats["spikes"]["cells"] / (len(FACTORS) * n * args.duration) * 1e3},
            "solver": "Exact()",
            "update_interval": args.update_interval,
            "neuron": args.neuron,
            "growth_factors": FACTORS,
            "at_end": last,
        },
    )
    if args.save:
        print(f"Courses           : {jsnn.export.save_npz(args.save, times=times, **found)}")


if __name__ == "__main__":
    common.run(main, published.parser("Eight growth rates side by side", None))
