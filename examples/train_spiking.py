"""Train a recurrent spiking network to tell Yin from Yang, and handwritten digits.

Every value of a sample is one spike of an input cell, at a latency. Input cells project to hidden
ones, those to each other, and to read-out cells that never spike: leaky integrate-and-fire neurons
with exponential currents, all to all, of which the weight of every edge is trained. A sample is of
the class whose read-out has the largest mean membrane. Adam follows the gradient of the cross
entropy, backward through the spikes by a surrogate (Neftci, Mostafa and Zenke 2019, IEEE Signal
Process. Mag. 36).

    python examples/train_spiking.py --data yinyang --seeds 1 --plot yinyang.png

What is chosen here was chosen by the validation part; the test part is looked at once a seed, after
its last epoch.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import common
import draw_training
import equinox as eqx
import jax
import jax.numpy as jnp
import latency_data
import numpy as np
import optax
from latency_data import Samples

import jsnn
from jsnn import plot
from jsnn.adjoint import Backprop, Cut
from jsnn.connect import AllToAll
from jsnn.neurons import LIF
from jsnn.receptors import Exponential
from jsnn.record import Spikes, States
from jsnn.surrogate import Triangular

DT = 1.0  # ms
DURATION = 40.0  # ms of a sample
DELAY = 4.0  # ms; a longer one makes longer blocks without communication, which are faster
TAU_M, TAU_SYN = 10.0, 5.0  # ms
C_M = 5.0  # pF
V_TH = 10.0  # mV above rest
WIDTH = 3.0  # mV around threshold in which a spike has a slope
SOFT = 0.7  # mV that a read-out must be above another to be e times as likely
ADJOINT = Backprop(reset=Cut())

Weights = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What differs between the data sets."""

    n_hidden: int  # with inputs and read-outs a multiple of 128, which cells are padded to
    epochs: int
    batch: int
    rate: float  # Adam's at the start, of weights in pA; it falls to 0 as a cosine does
    inputs: tuple[float, float]  # mean and standard deviation of input weights at first, pA


SETTINGS = {
    "yinyang": Settings(120, 30, 50, 0.05, (5.0, 10.0)),
    "digits": Settings(182, 20, 40, 0.05, (0.5, 1.5)),
}
RECURRENT, READOUT = 1.0, 1.0  # standard deviations of the other weights at first, pA


def build(n_in: int, n_hidden: int, n_out: int, settings: Settings, seed: int) -> jsnn.Network:
    """All cells are one population, so that they share arrays and kernels: they differ in their
    threshold, which read-outs never reach, and in where they start."""
    parts = (n_in, n_hidden, n_out)
    ends = np.cumsum(parts)
    of_parts = lambda *values: np.repeat(np.asarray(values, float), parts)  # noqa: E731
    cells = jsnn.Population(
        LIF(tau_m=TAU_M, c_m=C_M, e_l=0.0, v_th=of_parts(V_TH, V_TH, 1e9), v_reset=0.0, t_ref=0.0),
        int(ends[-1]),
        {"syn": Exponential(TAU_SYN)},
        slices={
            "input": slice(0, ends[0]),
            "hidden": slice(ends[0], ends[1]),
            "readout": slice(ends[1], ends[2]),
        },
        initial={"v": of_parts(2 * V_TH, 0.0, 0.0)},  # an input fires as soon as it is let
        surrogate=Triangular(WIDTH),
    )
    rng = np.random.default_rng(seed)
    projection = lambda pre, post, mean, std, n: jsnn.Projection(  # noqa: E731
        f"cells.{pre}", f"cells.{post}", AllToAll(), weight=rng.normal(mean, std, n), delay=DELAY
    )
    return jsnn.Network(
        {"cells": cells},
        {
            "input": projection("input", "hidden", *settings.inputs, n_in * n_hidden),
            "recurrent": projection("hidden", "hidden", 0.0, RECURRENT, n_hidden**2),
            "readout": projection("hidden", "readout", 0.0, READOUT, n_hidden * n_out),
        },
        dt=DT,
        key=jax.random.key(seed),
    )


def weights_of(network: jsnn.Network) -> Weights:
    """What is trained: of every projection the weights of its edges (pA), source by source."""
    return {name: own.weight for name, own in network.synapses.items()}


def respond(
    network: jsnn.Network,
    weights: Weights,
    latencies: jax.Array,
    duration: float = DURATION,
    record: Mapping[str, Any] | None = None,
) -> jsnn.Solution:
    """The network's answer to one sample, of latencies `[n_inputs]` (ms); vmap makes a batch.

    An input cell starts above its threshold, and refractory for its latency, after which it fires.
    A latency between steps is not rounded away: the spike arrives at the end of its step with what
    would then be left of its current, which is exact for the receptor.
    """
    steps = round(duration / DT)
    wait = jnp.minimum(jnp.ceil(latencies / DT), steps)  # one that never comes outlasts the run
    left = jnp.exp(-jnp.maximum(wait * DT - latencies, 0) / TAU_SYN)
    own = {**weights, "input": (weights["input"].reshape(left.size, -1) * left[:, None]).ravel()}
    network = eqx.tree_at(
        lambda n: [n.synapses[name].weight for name in own], network, list(own.values())
    )
    state = network.init(jax.random.key(0))  # nothing is drawn
    state = eqx.tree_at(
        lambda s: s.populations["cells"].refractory,
        state,
        replace_fn=lambda own: own.at[: left.size].set(wait.astype(own.dtype)),
    )
    record = {"v": States("cells.readout", "v")} if record is None else record
    return jsnn.simulate(network, state, steps, record, adjoint=ADJOINT)


def scores(
    network: jsnn.Network, weights: Weights, latencies: jax.Array, duration: float = DURATION
) -> tuple[jax.Array, jax.Array]:
    """Of samples `[k, n_inputs]` the logarithms of the odds of each class `[k, n_classes]`, and how
    many spikes their hidden cells fired `[k]`."""

    def one(latencies: jax.Array) -> tuple[jax.Array, jax.Array]:
        solution = respond(network, weights, latencies, duration)
        own = jnp.sum(latencies < duration)  # of the inputs
        return jnp.mean(solution.records["v"].values, 0) / SOFT, (
            solution.stats["spikes"]["cells"] - own
        )

    return jax.vmap(one)(latencies)


def loss(
    weights: Weights,
    network: jsnn.Network,
    latencies: jax.Array,
    labels: jax.Array,
    duration: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean cross entropy of a batch, with its share of right answers and its spikes."""
    found, spikes = scores(network, weights, latencies, duration)
    entropy = optax.softmax_cross_entropy_with_integer_labels(found, labels).mean()
    right = jnp.mean(jnp.argmax(found, 1) == labels)
    return entropy, {"loss": entropy, "accuracy": right, "spikes": jnp.mean(spikes)}


class Trainer:
    """The two compiled programs: an epoch of updates, and the answers to a batch."""

    def __init__(
        self, network: jsnn.Network, settings: Settings, train: Samples, duration: float = DURATION
    ):
        self.settings, self.network, self.duration = settings, network, duration
        self.latencies, self.labels = jnp.asarray(train.latencies), jnp.asarray(train.labels)
        self.updates = len(train.labels) // settings.batch  # an epoch
        falling = optax.cosine_decay_schedule(settings.rate, self.updates * settings.epochs)
        self.adam = optax.adam(falling)
        jit: Callable = lambda f: jax.jit(f, compiler_options=jsnn.COMPILER_OPTIONS)  # noqa: E731
        start = time.perf_counter()
        weights = weights_of(network)
        order = jnp.zeros((self.updates, settings.batch), int)
        self.epoch = jit(self._epoch).lower(weights, self.adam.init(weights), order).compile()
        some = self.latencies[: settings.batch]
        self.scores = (
            jit(lambda w, x: scores(network, w, x, duration)).lower(weights, some).compile()
        )
        self.compile_s = time.perf_counter() - start

    def _epoch(self, weights: Weights, state: Any, order: jax.Array) -> tuple[Weights, Any, Any]:
        """An update for each row of samples; the metrics of each."""

        def update(carry: tuple, row: jax.Array) -> tuple[tuple, dict[str, jax.Array]]:
            weights, state = carry
            slope, metrics = jax.grad(loss, has_aux=True)(
                weights, self.network, self.latencies[row], self.labels[row], self.duration
            )
            change, state = self.adam.update(slope, state, weights)
            return (optax.apply_updates(weights, change), state), metrics

        (weights, state), metrics = jax.lax.scan(update, (weights, state), order)
        return weights, state, metrics

    def answers(self, weights: Weights, latencies: np.ndarray) -> np.ndarray:
        """The class `[n]` that each sample, of latencies `[n, n_inputs]`, is taken for."""
        k, n = self.settings.batch, len(latencies)
        rows = np.resize(np.arange(n), -(-n // k) * k).reshape(-1, k)  # the last is filled up
        found = [self.scores(weights, jnp.asarray(latencies[row]))[0] for row in rows]
        return np.argmax(np.concatenate(found)[:n], 1)

    def accuracy(self, weights: Weights, samples: Samples) -> float:
        return float(np.mean(self.answers(weights, samples.latencies) == samples.labels))


def train(
    trainer: Trainer, weights: Weights, validation: Samples, seed: int
) -> tuple[Weights, dict[str, list[float]]]:
    """The weights after the last epoch, and by epoch loss, accuracies and spikes of a sample."""
    rng, settings = np.random.default_rng([seed, 1]), trainer.settings
    state, history = trainer.adam.init(weights), {}
    for epoch in range(settings.epochs):
        order = rng.permutation(len(trainer.labels))[: trainer.updates * settings.batch]
        order = jnp.asarray(order.reshape(trainer.updates, settings.batch), jnp.int32)
        weights, state, metrics = trainer.epoch(weights, state, order)
        metrics = {name: float(jnp.mean(own)) for name, own in metrics.items()}
        metrics["validation"] = trainer.accuracy(weights, validation)
        for name, value in metrics.items():
            history.setdefault(name, []).append(value)
        print(
            f"Epoch {epoch + 1:3}/{settings.epochs:3}     : loss {metrics['loss']:.3f}, accuracy "
            f"{metrics['accuracy']:.4f}, on validation {metrics['validation']:.4f}",
            flush=True,
        )
    return weights, history


def run(
    name: str, seeds: list[int], args: argparse.Namespace
) -> tuple[dict[str, Any], dict[int, Weights], Trainer, dict[str, Samples]]:
    """Train with each of the seeds; what was measured, and the weights by seed."""
    settings = SETTINGS[name]
    if args.epochs is not None:
        settings = replace(settings, epochs=args.epochs)
    start = time.perf_counter()
    data = latency_data.DATA[name]()
    sizes = data["train"].latencies.shape[1], round(args.scale * settings.n_hidden)
    sizes = (*sizes, data["train"].n_classes)
    network = build(*sizes, settings, seeds[0])
    build_s = time.perf_counter() - start
    trainer = Trainer(network, settings, data["train"], args.duration)
    print(f"Data              : {name}, {len(data['train'].labels)} samples to train on")
    print(f"Number of neurons : {sum(sizes)}, of which {sizes[1]} hidden")
    print(f"Number of synapses: {network.n_synapses}, all trained")
    print(f"Compile time      : {trainer.compile_s:.2f} s")
    histories, weights, test, run_s = {}, {}, {}, {}
    for seed in seeds:
        print(f"Seed {seed}", flush=True)
        start = time.perf_counter()
        first = weights_of(build(*sizes, settings, seed))
        weights[seed], histories[seed] = train(trainer, first, data["validation"], seed)
        run_s[seed] = time.perf_counter() - start
        test[seed] = trainer.accuracy(weights[seed], data["test"])
        print(f"Test accuracy     : {test[seed]:.4f}, after {run_s[seed]:.1f} s")
    spikes = np.mean([own["spikes"][-1] for own in histories.values()])
    found = {
        "test_accuracy": {**test, **spread(test.values())},
        "validation_accuracy": {seed: own["validation"][-1] for seed, own in histories.items()},
        "history": histories,
        "n_neurons": sum(sizes),
        "n_synapses": network.n_synapses,
        "n_train": len(data["train"].labels),
        "settings": asdict(settings),
        "epochs": settings.epochs,
        "hidden_spikes": float(spikes),
        "rate": float(spikes) / sizes[1] / args.duration * 1000,
        "build_s": build_s,
        "compile_s": trainer.compile_s,
        "run_s": sum(run_s.values()),
        "run_s_by_seed": run_s,
    }
    return found, weights, trainer, data


def spread(values: Iterable[float]) -> dict[str, float]:
    """Mean and standard deviation, of one value 0."""
    own = list(values)
    return {"mean": float(np.mean(own)), "sd": float(np.std(own, ddof=1)) if own[1:] else 0.0}


def figure(
    name: str, found: dict[str, Any], weights: Weights, trainer: Trainer, data: dict[str, Samples]
) -> Any:
    """Of a data set, with the weights of one seed."""
    samples, network = data["test"].first(3), trainer.network
    parts = {own: network.part(f"cells.{own}")[1:] for own in ("input", "hidden")}
    record = {"spikes": Spikes("cells"), "v": States("cells.readout", "v")}
    shown = []
    for latencies, label in zip(samples.latencies, samples.labels, strict=True):
        made = respond(network, weights, jnp.asarray(latencies), trainer.duration, record).records
        shown.append((f"a sample of class {label}", made["spikes"].listed(), made["v"].values))

    def middle(axes: Any) -> None:
        if name == "yinyang":
            classify = lambda points: trainer.answers(  # noqa: E731
                weights, latency_data.point_latencies(points)
            )
            return draw_training.regions(axes, classify)
        draw_training.confusion(
            axes, data["test"].labels, trainer.answers(weights, data["test"].latencies)
        )

    accuracy = found["test_accuracy"]
    title = (
        f"{name}: {found['n_neurons']} neurons, test accuracy {accuracy['mean']:.2%} "
        f"± {accuracy['sd']:.2%} (seeds {', '.join(map(str, found['history']))})"
    )
    return draw_training.draw(found["history"], title, middle, shown, parts, trainer.duration)


def parser() -> argparse.ArgumentParser:
    made = common.parser("Training of a recurrent spiking network", DURATION, devices=1)
    made.add_argument("--data", choices=(*SETTINGS, "both"), default="both", help="to learn")
    made.add_argument("--epochs", type=int, help="over the training part (default: as chosen)")
    made.add_argument("--seeds", type=int, default=1, help="how many, from --seed on")
    return made


def check(args: argparse.Namespace) -> None:
    """Raise for what has no meaning here."""
    if args.frozen is not None or args.devices != 1:
        raise ValueError("--frozen and --devices: these networks draw their own, on one device")
    least = latency_data.WINDOW + 2 * DELAY
    if args.duration < least or args.duration % DT:
        raise ValueError(
            f"--duration {args.duration:g}: give {least:g} ms or more, whole steps of {DT:g} ms, "
            "so that the last spikes reach the read-outs"
        )
    if min(round(args.scale * own.n_hidden) for own in SETTINGS.values()) < 1:
        raise ValueError(f"--scale {args.scale:g}: this leaves no hidden cells; give more")
    for name in ("epochs", "seeds"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name} {getattr(args, name)}: give 1 or more")


def main(args: argparse.Namespace) -> None:
    check(args)
    names = list(SETTINGS) if args.data == "both" else [args.data]
    if "digits" in names:
        latency_data.digit_images()  # what is missing is told before anything takes long
    seeds = list(range(args.seed, args.seed + args.seeds))
    made = {name: run(name, seeds, args) for name in names}
    for (name, own), path in zip(
        made.items(), common.figure_names(args.plot or "", len(names)), strict=True
    ):
        found, weights, trainer, data = own
        accuracy = found["test_accuracy"]
        print(f"{name:18}: {accuracy['mean']:.4f} +- {accuracy['sd']:.4f} on test, {seeds=}")
        if args.plot:
            drawn = figure(name, found, weights[seeds[0]], trainer, data)
            print(f"Figure            : {plot.save(drawn, path)}")
    if args.save:
        arrays = {
            f"{name}_{seed}_{projection}": np.asarray(own)
            for name, (_, weights, _, _) in made.items()
            for seed, by_projection in weights.items()
            for projection, own in by_projection.items()
        }
        print(f"Weights           : {jsnn.export.save_npz(args.save, **arrays)}")
    by_data = {name: found for name, (found, *_) in made.items()}
    keys = list(next(iter(by_data.values())))
    common.write_json(
        args.json,
        {
            **{key: {name: found[key] for name, found in by_data.items()} for key in keys},
            **{
                key: sum(found[key] for found in by_data.values())
                for key in ("build_s", "compile_s", "run_s")
            },
            "seeds": seeds,
            "solver": f"Exact(), steps of {DT:g} ms",
            "peak_memory_mb": common.peak_memory_mb(),
            "devices": args.devices,
            "float64": args.float64,
        },
    )


if __name__ == "__main__":
    common.run(main, parser())
