"""Fit a gap junction and two channels to noisy membranes, by gradient descent.

Two fast-spiking interneurons are joined by a gap junction. The first gets a step of current and
fires; the second only feels it. Both membranes are recorded with noise of 1 mV. From a wrong guess,
Adam on the logarithms finds the conductances of the junction, of sodium and of potassium (Kv3) with
the gradient through the simulation: first from the first spike only, then from the whole recording.
Over all of it at once, spikes that are not yet near those of the data would lead astray.

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
STEP_AT, CURRENT = 1.0, 400.0  # ms, pA into the first cell
NOISE = 1.0  # mV, of each sample
TRUTH = {"gap": 5.0, "g_na": 4500.0, "g_kv3": 9000.0}  # nS
GUESS = {"gap": 2.5, "g_na": 6300.0, "g_kv3": 5400.0}  # nS
FIRST = 6.0  # ms, of the first stage: one spike
# Duration as a part of the whole (None: `FIRST`), updates, and Adam's rate at the start
STAGES = ((FIRST, 120, 0.05), (None, 80, 0.01))

Values = dict[str, Any]


def build() -> jsnn.Network:
    return jsnn.Network(
        {"cells": jsnn.nest.hh_psc_alpha_gap(2)},
        inputs={"step": StepCurrent("cells", [STEP_AT], [[CURRENT, 0.0]])},
        couplings={"gap": GapJunction("cells", "cells", Pairs([0], [1]), conductance=1.0)},
        dt=DT,
        key=jax.random.key(0),
    )


def with_parameters(network: jsnn.Network, values: Values) -> jsnn.Network:
    def parts(own: jsnn.Network) -> list[Any]:
        channels = own.populations["cells"].neuron.channels
        return [own.couplings["gap"].conductance, channels["na"].g, channels["kv3"].g]

    return eqx.tree_at(parts, network, [values[name] for name in ("gap", "g_na", "g_kv3")])


def membranes(network: jsnn.Network, values: Values, duration: float) -> jax.Array:
    """Both membranes (mV) after each step, `[steps, 2]`."""
    own = with_parameters(network, {name: jnp.asarray(value) for name, value in values.items()})
    state = own.init(jax.random.key(0))
    record = {"v": States("cells", "v")}
    return jsnn.simulate(own, state, round(duration / DT), record).records["v"].values


def fit_stage(
    network: jsnn.Network, data: jax.Array, start: Values, updates: int, rate: float
) -> tuple[Values, jax.Array]:
    """The conductances after so many updates on these data, and the loss before each."""
    duration = data.shape[0] * DT
    adam = optax.adam(optax.cosine_decay_schedule(rate, updates, alpha=0.02))

    def loss(logs: Values) -> tuple[jax.Array, jax.Array]:
        values = jax.tree.map(jnp.exp, logs)
        found = jnp.mean((membranes(network, values, duration) - data) ** 2)
        return found, found

    def update(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        logs, state = carry
        # Of few parameters forward; of many, value_and_grad goes backward at the cost of one
        slope, value = jax.jacfwd(loss, has_aux=True)(logs)
        change, state = adam.update(slope, state)
        return (optax.apply_updates(logs, change), state), value

    logs = jax.tree.map(jnp.log, start)
    (logs, _), losses = jax.lax.scan(update, (logs, adam.init(logs)), length=updates)
    return jax.tree.map(jnp.exp, logs), losses


def fit(
    network: jsnn.Network, data: jax.Array, guess: Values = GUESS
) -> tuple[Values, list[jax.Array]]:
    """Through all stages: the conductances, and the losses of each stage (mV^2)."""
    values, losses = {name: jnp.asarray(value) for name, value in guess.items()}, []
    for duration, updates, rate in STAGES:
        seen = data if duration is None else data[: round(duration / DT)]
        values, own = jax.jit(fit_stage, static_argnums=(3, 4))(
            network, seen, values, updates, rate
        )
        losses.append(own)
    return values, losses


def record(network: jsnn.Network, duration: float, seed: int) -> jax.Array:
    """What the experiment gives: the membranes with the true parameters, and noise."""
    true = membranes(network, TRUTH, duration)
    return true + NOISE * jax.random.normal(jax.random.key(seed), true.shape)


def draw(
    data: Any, start: Any, fitted: Any, losses: list[Any], found: dict[str, dict[str, float]]
) -> Any:
    """The membranes of both cells: recorded, from the guess, and fitted; and the loss."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 7.2), layout="constrained")
    fires, feels, loss = figure.subplots(3, 1, height_ratios=(3, 3, 2))
    times = DT * np.arange(1, len(data) + 1)
    for cell, axes in enumerate((fires, feels)):
        axes.plot(times, data[:, cell], ".", color="0.6", markersize=3, label="recorded")
        axes.plot(times, start[:, cell], "--", color="C1", label="guess")
        axes.plot(times, fitted[:, cell], color="C0", label="fit")
        axes.set(ylabel=f"v of cell {cell + 1} (mV)", xlim=(0, times[-1]))
    fires.set_xticklabels([])
    fires.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    feels.set_xlabel("Time (ms)")
    first = 0
    for i, own in enumerate(losses):
        loss.semilogy(first + np.arange(len(own)), own, color=f"C{i + 2}")
        first += len(own)
    loss.axhline(NOISE**2, color="0.6", linestyle=":")
    loss.text(0, 1.15 * NOISE**2, "noise", color="0.4", fontsize="small")
    loss.set(xlabel="Update", ylabel="Loss (mV$^2$)", xlim=(0, first))
    names = {"gap": "gap", "g_na": "Na", "g_kv3": "Kv3"}
    title = ", ".join(f"{names[n]} {found['relative_error'][n]:+.2%}" for n in names)
    fires.set_title(f"Error of the conductances: {title}", fontsize="medium")
    return figure


def parser() -> argparse.ArgumentParser:
    return common.parser("Fit of a gap junction and two channels", 15.0, devices=1)


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
    start = time.perf_counter()
    estimate, losses = jax.block_until_ready(fit(network, data))
    fit_s = time.perf_counter() - start
    found = {
        "truth": TRUTH,
        "estimate": {name: float(estimate[name]) for name in TRUTH},
        "relative_error": {name: float(estimate[name]) / TRUTH[name] - 1 for name in TRUTH},
    }
    print("Fit of a gap junction and two channels")
    print(f"Updates           : {sum(len(own) for own in losses)}")
    print(f"Loss              : {losses[0][0]:.4g} -> {losses[-1][-1]:.4g} mV^2")
    print(f"{'Conductance (nS)':18}: {'truth':>8} {'guess':>8} {'estimate':>9} {'error':>8}")
    for name in TRUTH:
        print(
            f"{name:18}: {TRUTH[name]:8g} {GUESS[name]:8g} {found['estimate'][name]:9.5g} "
            f"{found['relative_error'][name]:+8.2%}"
        )
    print(f"Fit, with compiling: {fit_s:.2f} s")

    traces = {"recorded": np.asarray(data)}
    if args.plot or args.save:
        for name, values in (("guess", GUESS), ("fit", estimate)):
            traces[name] = np.asarray(membranes(network, values, args.duration))
    if args.plot:
        figure = draw(*traces.values(), [np.asarray(own) for own in losses], found)
        print(f"Figure            : {plot.save(figure, args.plot)}")
    if args.save:
        times = DT * np.arange(1, len(data) + 1)
        print(f"Traces            : {jsnn.export.save_npz(args.save, t=times, **traces)}")
    common.write_json(
        args.json,
        {
            **found,
            "guess": GUESS,
            "loss": [float(value) for own in losses for value in own],
            "build_s": build_s,
            "fit_s": fit_s,
            "peak_memory_mb": common.peak_memory_mb(),
            "devices": args.devices,
            "float64": args.float64,
        },
    )


if __name__ == "__main__":
    common.run(main, parser())
