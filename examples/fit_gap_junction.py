"""Fit a gap junction and two channels to noisy membranes, by gradient descent.

Two fast-spiking interneurons, joined by a gap junction, get steps of current and fire. Both
membranes are recorded with noise of 1 mV. From a guess that is up to 50 % off, Adam finds the
conductances of the junction, of sodium and of potassium (Kv3) with the gradient through the
simulation, first from the first spike of each cell, then from the whole recording. Over all of it
at once, spikes that are not yet near those of the data lead astray.

    python examples/fit_gap_junction.py --plot fit.png
"""

import argparse
import time
from typing import Any

import common
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jsnn
from jsnn import plot
from jsnn.connect import Pairs
from jsnn.coupling import GapJunction
from jsnn.inputs import StepCurrent
from jsnn.record import States

DT = 0.05  # ms
STEP_AT, CURRENTS = 1.0, (500.0, 150.0)  # ms, pA into each cell
NOISE = 1.0  # mV, of each sample
TRUTH = {"gap": 5.0, "g_na": 4500.0, "g_kv3": 9000.0}  # nS
GUESS = {"gap": 2.5, "g_na": 6300.0, "g_kv3": 5400.0}  # nS
FIRST = 6.0  # ms that the first stage sees
RATES = (0.05, 0.02)  # Adam's at the start of each stage, of logarithms
UPDATES = 100  # in each stage

Values = dict[str, Any]


def build() -> jsnn.Network:
    return jsnn.Network(
        {"cells": jsnn.nest.hh_psc_alpha_gap(2)},
        inputs={"step": StepCurrent("cells", np.array([STEP_AT]), np.array([CURRENTS]))},
        couplings={"gap": GapJunction("cells", "cells", Pairs([0], [1]), conductance=1.0)},
        dt=DT,
        key=jax.random.key(0),
    )


def with_parameters(network: jsnn.Network, values: Values) -> jsnn.Network:
    def parts(own: jsnn.Network) -> list[Any]:
        cell: Any = own.populations["cells"].neuron
        return [own.couplings["gap"].conductance, cell.channels["na"].g, cell.channels["kv3"].g]

    return eqx.tree_at(parts, network, [values[name] for name in ("gap", "g_na", "g_kv3")])


def membranes(network: jsnn.Network, values: Values, duration: float) -> jax.Array:
    """Both membranes (mV) after each step, `[steps, 2]`."""
    own = with_parameters(network, values)
    state = own.init(jax.random.key(0))
    record = {"v": States("cells", "v")}
    return jsnn.simulate(own, state, round(duration / DT), record).records["v"].values


@jax.jit
def fit(network: jsnn.Network, data: jax.Array, guess: Values) -> tuple[Values, jax.Array]:
    """The conductances after all stages, and the loss (mV^2) before each update
    `[stages, updates]`."""
    duration = data.shape[0] * DT
    times = DT * jnp.arange(1, data.shape[0] + 1)

    def loss(logs: Values, until: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = jax.tree.map(jnp.exp, logs)
        error = jnp.mean((membranes(network, values, duration) - data) ** 2, 1)
        found = jnp.mean(error, where=times <= until)
        # Its logarithm has slopes of one size, from spikes apart to the last parts of a percent
        return jnp.log(found), found

    def stage(logs: Values, given: tuple) -> tuple[Values, jax.Array]:
        rate, until = given
        adam = optax.adam(optax.cosine_decay_schedule(rate, UPDATES, alpha=0.02), b2=0.9)

        def update(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
            logs, state = carry
            # Forward, as three numbers are fitted; for many, jax.value_and_grad goes backward
            slope, value = jax.jacfwd(loss, has_aux=True)(logs, until)
            change, state = adam.update(slope, state)
            return (optax.apply_updates(logs, change), state), value

        (logs, _), losses = jax.lax.scan(update, (logs, adam.init(logs)), length=UPDATES)
        return logs, losses

    stages = jnp.asarray(RATES), jnp.asarray([FIRST + DT / 2, duration + DT / 2])
    logs, losses = jax.lax.scan(stage, jax.tree.map(jnp.log, guess), stages)
    return jax.tree.map(jnp.exp, logs), losses


def record(network: jsnn.Network, duration: float, seed: int) -> jax.Array:
    """What the experiment gives: the membranes with the true parameters, and noise."""
    true = membranes(network, TRUTH, duration)
    return true + NOISE * jax.random.normal(jax.random.key(seed), true.shape)


def rate(network: jsnn.Network, duration: float) -> float:
    """Of the spikes in what is recorded (Hz)."""
    own = with_parameters(network, jax.tree.map(jnp.asarray, TRUTH))
    solution = jsnn.simulate(own, own.init(jax.random.key(0)), round(duration / DT))
    return int(solution.stats["spikes"]["cells"]) / 2 / duration * 1000


def draw(traces: Values, losses: Any, errors: dict[str, float]) -> Any:
    """The membranes of both cells: recorded, from the guess, and fitted; and the loss."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 7.2), layout="constrained")
    upper, lower, loss = figure.subplots(3, 1, height_ratios=(3, 3, 2))
    times = DT * np.arange(1, len(traces["recorded"]) + 1)
    styles: dict[str, Any] = {
        "recorded": {"color": "0.65", "marker": ".", "markersize": 6, "linestyle": ""},
        "guess": {"color": "C1", "linestyle": "--", "linewidth": 1.2},
        "fit": {"color": "C0", "linewidth": 1.2},
    }
    for cell, axes in enumerate((upper, lower)):
        for name, style in styles.items():
            axes.plot(times, traces[name][:, cell], label=name, **style)
        axes.set(ylabel=f"v of cell {cell + 1} (mV)", xlim=(0, times[-1]))
    upper.set_xticklabels([])
    upper.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    lower.set_xlabel("Time (ms)")
    for i, (own, seen) in enumerate(zip(losses, (f"first {FIRST:g} ms", "all"), strict=True)):
        at = i * UPDATES + np.arange(UPDATES)
        loss.semilogy(at, own, color=f"C{i + 2}", label=seen)
    loss.axhline(NOISE**2, color="0.6", linestyle=":", label="noise")
    loss.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    loss.set(xlabel="Update", ylabel="Loss (mV$^2$)", xlim=(0, losses.size))
    names = {"gap": "gap", "g_na": "Na", "g_kv3": "Kv3"}
    title = ", ".join(f"{names[n]} {errors[n]:+.2%}" for n in names)
    upper.set_title(f"Error of the conductances: {title}", fontsize="medium")
    return figure


def parser() -> argparse.ArgumentParser:
    return common.parser("Fit of a gap junction and two channels", 20.0, DT, devices=1)


def check(args: argparse.Namespace) -> None:
    """Raise for the common options that have no meaning here."""
    if args.frozen is not None or args.scale != 1 or args.devices != 1:
        raise ValueError("--frozen, --scale and --devices: the two cells are the same each time")
    steps = args.duration / DT
    if args.duration < FIRST or abs(steps - round(steps)) > 1e-6:
        raise ValueError(
            f"--duration {args.duration:g}: give {FIRST:g} ms or more, whole steps of {DT:g} ms"
        )


def main(args: argparse.Namespace) -> None:
    check(args)
    start = time.perf_counter()
    network = build()
    data = record(network, args.duration, args.seed)
    build_s = time.perf_counter() - start
    guess = jax.tree.map(jnp.asarray, GUESS)
    start = time.perf_counter()
    compiled = fit.lower(network, data, guess).compile()
    compile_s = time.perf_counter() - start
    start = time.perf_counter()
    estimate, losses = jax.block_until_ready(compiled(network, data, guess))
    run_s = time.perf_counter() - start
    print("Fit of a gap junction and two channels")
    print(f"Updates           : {losses.size}")
    print(f"Loss              : {losses[0, 0]:.4g} -> {losses[-1, -1]:.4g} mV^2")
    found = common.recovered("Conductance (nS)", TRUTH, GUESS, estimate)
    print(f"Compile time      : {compile_s:.2f} s")
    print(f"Fit time          : {run_s:.2f} s")

    traces = {"recorded": np.asarray(data)}
    if args.plot or args.save:
        for name, values in (("guess", GUESS), ("fit", estimate)):
            traces[name] = np.asarray(membranes(network, values, args.duration))
    if args.plot:
        figure = draw(traces, np.asarray(losses), found["relative_error"])
        print(f"Figure            : {plot.save(figure, args.plot)}")
    if args.save:
        times = DT * np.arange(1, len(data) + 1)
        print(f"Traces            : {jsnn.export.save_npz(args.save, t=times, **traces)}")
    common.write_json(
        args.json,
        {
            **found,
            "guess": GUESS,
            "loss": np.asarray(losses).ravel().tolist(),
            "build_s": build_s,
            "compile_s": compile_s,
            "run_s": run_s,
            "n_neurons": 2,
            "n_synapses": 0,
            "rates": {"all": rate(network, args.duration)},
            "solver": f"Splitting, {jsnn.solvers.Splitting().substeps_of(DT)} substeps, "
            f"steps of {DT:g} ms",
            "peak_memory_mb": common.peak_memory_mb(),
            "devices": args.devices,
            "float64": args.float64,
        },
    )


if __name__ == "__main__":
    common.run(main, parser())
