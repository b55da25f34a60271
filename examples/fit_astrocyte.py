"""Fit an astrocyte to a noisy trace of its calcium, by gradient descent.

Spikes raise the IP3 of an astrocyte (Li and Rinzel 1994), whose calcium oscillates. It is sampled
ten times a second, with noise. From a guess that is 30 % off, Adam finds the rates of the three
fluxes, through IP3 receptors, of the leak and of the pump (SERCA), with the gradient through the
simulation.

    python examples/fit_astrocyte.py --plot fit.png
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import common
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jsnn
from jsnn import plot
from jsnn.inputs import SpikeList
from jsnn.record import States

DT = 10.0  # ms; calcium moves within a second
EVERY = 100.0  # ms, between samples
RATE, DELTA_IP3 = 1.0, 0.1  # Hz, uM: of the spikes, and the rise with each
NOISE = 0.01  # uM, of each sample
TRUTH = {"rate_serca": 0.0009, "rate_l": 0.00011, "rate_ip3r": 0.006}  # uM/ms, 1/ms, 1/ms
GUESS = {name: factor * TRUTH[name] for name, factor in zip(TRUTH, (1.3, 0.7, 0.7), strict=True)}
ADAM = 0.05  # its rate at the start, of logarithms
UPDATES, SHOWN_EVERY = 150, 25

Values = dict[str, Any]


def build(duration: float, seed: int, dt: float = DT) -> jsnn.Network:
    """The astrocyte, with spikes at random multiples of `DT`."""
    rng = np.random.default_rng(seed)
    steps = 1 + rng.choice(round(duration / DT) - 1, round(RATE * duration / 1000), replace=False)
    times = DT * np.sort(steps)
    return jsnn.Network(
        {"astrocyte": jsnn.nest.astrocyte_lr_1994(1, delta_IP3=DELTA_IP3)},
        inputs={"spikes": SpikeList("astrocyte", times, np.zeros(times.size, int), 1.0)},
        dt=dt,
    )


def with_parameters(network: jsnn.Network, values: Values) -> jsnn.Network:
    def parts(own: jsnn.Network) -> list[Any]:
        return [getattr(own.populations["astrocyte"].neuron, name) for name in TRUTH]

    return eqx.tree_at(parts, network, [values[name] for name in TRUTH])


def calcium(network: jsnn.Network, values: Values, n_samples: int) -> jax.Array:
    """Calcium (uM) at each sample, `[n_samples]`."""
    own = with_parameters(network, values)
    state, steps = own.init(jax.random.key(0)), round(n_samples * EVERY / network.dt)
    record = {"ca": States("astrocyte", "ca", every=EVERY)}
    return jsnn.simulate(own, state, steps, record).records["ca"].values[:, 0]


def optimizer() -> Any:
    return optax.adam(optax.cosine_decay_schedule(ADAM, UPDATES, alpha=0.02), b2=0.9)


@jax.jit
def update(
    network: jsnn.Network, data: jax.Array, logs: Values, state: Any
) -> tuple[Values, Any, jax.Array]:
    """`SHOWN_EVERY` updates of the logarithms, and the loss (uM^2) before each."""

    def loss(logs: Values) -> tuple[jax.Array, jax.Array]:
        values = jax.tree.map(jnp.exp, logs)
        found = jnp.mean((calcium(network, values, data.size) - data) ** 2)
        return jnp.log(found), found  # its logarithm has slopes of one size

    def one(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        logs, state = carry
        # Forward, as three numbers are fitted; for many, jax.value_and_grad goes backward
        slope, value = jax.jacfwd(loss, has_aux=True)(logs)
        change, state = optimizer().update(slope, state)
        return (optax.apply_updates(logs, change), state), value

    (logs, state), losses = jax.lax.scan(one, (logs, state), length=SHOWN_EVERY)
    return logs, state, losses


def fit(
    network: jsnn.Network,
    data: jax.Array,
    guess: Values,
    report: Callable[[int, float, Values], None] = lambda done, loss, values: None,
) -> tuple[Values, np.ndarray]:
    """The rates after all updates, and the loss (uM^2) before each; `report` is told in between."""
    logs = jax.tree.map(lambda value: jnp.log(jnp.asarray(value)), guess)
    state, losses = optimizer().init(logs), []
    for done in range(0, UPDATES, SHOWN_EVERY):
        logs, state, found = update(network, data, logs, state)
        losses.append(np.asarray(found))
        values = {name: float(jnp.exp(logs[name])) for name in TRUTH}
        report(done + SHOWN_EVERY, float(found[-1]), values)
    return jax.tree.map(jnp.exp, logs), np.concatenate(losses)


def record(network: jsnn.Network, duration: float, seed: int) -> jax.Array:
    """What the experiment gives: calcium with the true rates, and noise."""
    true = calcium(network, jax.tree.map(jnp.asarray, TRUTH), round(duration / EVERY))
    return true + NOISE * jax.random.normal(jax.random.key(seed), true.shape)


def draw(traces: Values, losses: np.ndarray, errors: dict[str, float]) -> Any:
    """Calcium: recorded, from the guess, and fitted; and the loss."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 2))
    times = EVERY / 1000 * np.arange(1, len(traces["recorded"]) + 1)
    styles: dict[str, Any] = {
        "recorded": {"color": "0.6", "marker": ".", "markersize": 4, "linestyle": ""},
        "guess": {"color": "C1", "linestyle": "--", "linewidth": 1.2},
        "fit": {"color": "C0", "linewidth": 1.4},
    }
    for name, style in styles.items():
        upper.plot(times, traces[name], label=name, **style)
    upper.set(xlabel="Time (s)", ylabel=r"Ca$^{2+}$ ($\mu$M)", xlim=(0, times[-1]))
    upper.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    lower.semilogy(np.arange(losses.size), losses, color="C2", label="loss")
    lower.axhline(NOISE**2, color="0.6", linestyle=":", label="noise")
    lower.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    lower.set(xlabel="Update", ylabel=r"Loss ($\mu$M$^2$)", xlim=(0, losses.size))
    names = {"rate_serca": "SERCA", "rate_l": "leak", "rate_ip3r": "IP3R"}
    title = ", ".join(f"{names[n]} {errors[n]:+.2%}" for n in names)
    upper.set_title(f"Error of the rates: {title}", fontsize="medium")
    return figure


def parser() -> argparse.ArgumentParser:
    return common.parser("Fit of the calcium of an astrocyte", 40_000.0, DT, devices=1)


def check(args: argparse.Namespace) -> None:
    """Raise for the common options that have no meaning here."""
    if args.frozen is not None or args.scale != 1 or args.devices != 1:
        raise ValueError("--frozen, --scale and --devices: there is one astrocyte")
    samples = args.duration / EVERY
    if args.duration < 5000 or abs(samples - round(samples)) > 1e-6:
        raise ValueError(
            f"--duration {args.duration:g}: give 5000 ms or more, whole samples of {EVERY:g} ms"
        )


def main(args: argparse.Namespace) -> None:
    check(args)
    start = time.perf_counter()
    network = build(args.duration, args.seed)
    data = record(network, args.duration, args.seed)
    build_s = time.perf_counter() - start
    print("Fit of the calcium of an astrocyte")
    print("Compiling ...")
    start = time.perf_counter()
    logs = jax.tree.map(lambda value: jnp.log(jnp.asarray(value)), GUESS)
    jax.block_until_ready(update(network, data, logs, optimizer().init(logs)))
    compile_s = time.perf_counter() - start
    n_updates = f"{UPDATES} updates"

    def report(done: int, loss: float, values: Values) -> None:
        rates = ", ".join(f"{name} {values[name]:.4g}" for name in TRUTH)
        print(f"{done:4} of {n_updates}: loss {loss:.3g} uM^2, {rates}")

    start = time.perf_counter()
    estimate, losses = fit(network, data, GUESS, report)
    run_s = time.perf_counter() - start
    print(f"Loss              : {losses[0]:.4g} -> {losses[-1]:.4g} uM^2")
    found = common.recovered("Rate", TRUTH, GUESS, estimate)
    print(f"Compile time      : {compile_s:.2f} s")
    print(f"Fit time          : {run_s:.2f} s")

    traces = {"recorded": np.asarray(data)}
    if args.plot or args.save:
        for name, values in (("guess", GUESS), ("fit", estimate)):
            own = jax.tree.map(jnp.asarray, values)
            traces[name] = np.asarray(calcium(network, own, data.size))
    if args.plot:
        figure = draw(traces, losses, found["relative_error"])
        print(f"Figure            : {plot.save(figure, args.plot)}")
    if args.save:
        times = EVERY * np.arange(1, data.size + 1)
        print(f"Traces            : {jsnn.export.save_npz(args.save, t=times, **traces)}")
    common.write_json(
        args.json,
        {
            **found,
            "guess": GUESS,
            "loss": losses.tolist(),
            "build_s": build_s,
            "compile_s": compile_s,
            "run_s": run_s,
            "n_neurons": 0,
            "n_astrocytes": 1,
            "n_synapses": 0,
            "solver": f"RK4, steps of {DT:g} ms",
            "peak_memory_mb": common.peak_memory_mb(),
            "devices": args.devices,
            "float64": args.float64,
        },
    )


if __name__ == "__main__":
    common.run(main, parser())
