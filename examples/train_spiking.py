"""Train a recurrent spiking network to tell Yin from Yang, and handwritten digits.

The weight of every edge is trained: Adam follows the gradient of the cross entropy, which goes
backward through the spikes by a surrogate (Neftci, Mostafa and Zenke 2019, IEEE Signal Process.
Mag. 36). The network is `latency_network.py`, the data are `latency_data.py`.

    python examples/train_spiking.py --data yinyang --plot yinyang.png

What is chosen here was chosen by the validation parts; the network sees the test part after its
last epoch.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import common
import draw_training
import jax
import jax.numpy as jnp
import latency_data
import latency_network
import numpy as np
import optax
from jax.sharding import PartitionSpec
from latency_data import Samples
from latency_network import DELAY, DT, DURATION, Weights, respond, weights_of

import jsnn
from jsnn import plot
from jsnn.record import Spikes, States


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


class Trainer:
    """Two compiled programs: an epoch of updates, and the answers to a batch. Several devices
    divide each batch among them."""

    def __init__(
        self,
        network: jsnn.Network,
        settings: Settings,
        samples: Samples,
        duration: float = DURATION,
        devices: int = 1,
    ):
        if settings.batch % devices:
            raise ValueError(f"--devices {devices}: batches of {settings.batch} do not divide so")
        self.network, self.settings, self.duration = network, settings, duration
        self.mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:devices]), ("samples",))
        self.latencies, self.labels = self.placed((samples.latencies, samples.labels))
        self.updates = len(samples.labels) // settings.batch  # an epoch
        updates = self.updates * settings.epochs
        self.adam = optax.adam(optax.cosine_decay_schedule(settings.rate, updates))
        start = time.perf_counter()
        jit: Callable = lambda f, *example: (  # noqa: E731
            jax.jit(f, compiler_options=jsnn.COMPILER_OPTIONS).lower(*example).compile()
        )
        weights, state = self.start(weights_of(network))
        order = self.placed(np.zeros((self.updates, settings.batch), np.int32))
        self.epoch = jit(self._epoch, weights, state, order)
        self.scores = jit(self._scores, weights, self.latencies[: settings.batch])
        self.compile_s = time.perf_counter() - start

    def placed(self, arrays: Any) -> Any:
        """The same on all devices."""
        arrays = jax.tree.map(jnp.asarray, arrays)
        return jax.device_put(arrays, jax.sharding.NamedSharding(self.mesh, PartitionSpec()))

    def start(self, weights: Weights) -> tuple[Weights, Any]:
        """Weights, and the optimizer's state, before the first update."""
        return self.placed((weights, self.adam.init(weights)))

    def _scores(self, weights: Weights, latencies: jax.Array) -> jax.Array:
        return latency_network.scores(self.network, weights, latencies, self.duration)[0]

    def _slope(self, weights: Weights, latencies: jax.Array, labels: jax.Array) -> tuple:
        """The gradient of a batch, and its metrics."""

        def of_part(weights: Weights, latencies: jax.Array, labels: jax.Array) -> tuple:
            given = (self.network, latencies, labels, self.duration)
            made = jax.grad(latency_network.loss, has_aux=True)(weights, *given)
            return jax.lax.pmean(made, "samples")

        same, part = PartitionSpec(), PartitionSpec("samples")
        divided = jax.shard_map(
            of_part, mesh=self.mesh, in_specs=(same, part, part), out_specs=same, check_vma=False
        )
        return divided(weights, latencies, labels)

    def _epoch(self, weights: Weights, state: Any, order: jax.Array) -> tuple[Weights, Any, Any]:
        """An update for each row of samples; the metrics of each."""

        def update(carry: tuple, row: jax.Array) -> tuple[tuple, dict[str, jax.Array]]:
            weights, state = carry
            slope, metrics = self._slope(weights, self.latencies[row], self.labels[row])
            change, state = self.adam.update(slope, state, weights)
            return (optax.apply_updates(weights, change), state), metrics

        (weights, state), metrics = jax.lax.scan(update, (weights, state), order)
        return weights, state, metrics

    def answers(self, weights: Weights, latencies: np.ndarray) -> np.ndarray:
        """The class `[n]` that each sample, of latencies `[n, n_inputs]`, is taken for."""
        k, n = self.settings.batch, len(latencies)
        rows = np.resize(np.arange(n), -(-n // k) * k).reshape(-1, k)  # the last is filled up
        found = [self.scores(weights, self.placed(latencies[row])) for row in rows]
        return np.argmax(np.concatenate(found)[:n], 1)

    def accuracy(self, weights: Weights, samples: Samples) -> float:
        return float(np.mean(self.answers(weights, samples.latencies) == samples.labels))


def train(
    trainer: Trainer, weights: Weights, validation: Samples, seed: int
) -> tuple[Weights, dict[str, list[float]]]:
    """The weights after the last epoch, and by epoch loss, accuracies, and spikes of hidden cells
    a sample."""
    rng, settings = np.random.default_rng([seed, 1]), trainer.settings
    (weights, state), history = trainer.start(weights), {}
    for epoch in range(settings.epochs):
        order = rng.permutation(len(trainer.labels))[: trainer.updates * settings.batch]
        order = trainer.placed(order.reshape(trainer.updates, -1).astype(np.int32))
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
    network = latency_network.build(*sizes, settings.inputs, seeds[0])
    build_s = time.perf_counter() - start
    trainer = Trainer(network, settings, data["train"], args.duration, args.devices)
    print(f"Data              : {name}, {len(data['train'].labels)} samples to train on")
    print(f"Number of neurons : {sum(sizes)}, of which {sizes[1]} hidden")
    print(f"Number of synapses: {network.n_synapses}, all trained")
    print(f"Compile time      : {trainer.compile_s:.2f} s")
    histories, weights, test, run_s = {}, {}, {}, {}
    for seed in seeds:
        print(f"Seed {seed}", flush=True)
        start = time.perf_counter()
        first = weights_of(latency_network.build(*sizes, settings.inputs, seed))
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
        "rates": {"hidden": float(spikes) / sizes[1] / args.duration * 1000},
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
    samples, network = data["test"], trainer.network
    parts = {own: network.part(f"cells.{own}")[1:] for own in ("input", "hidden")}
    record = {"spikes": Spikes("cells"), "v": States("cells.readout", "v")}
    shown = []
    for label in range(3):
        latencies = jnp.asarray(samples.latencies[np.argmax(samples.labels == label)])
        made = respond(network, weights, latencies, trainer.duration, record).records
        shown.append((f"A sample of class {label}", made["spikes"].listed(), made["v"].values))

    def middle(axes: Any) -> None:
        if name == "yinyang":
            classify = lambda points: trainer.answers(  # noqa: E731
                weights, latency_data.point_latencies(points)
            )
            return draw_training.regions(axes, classify)
        draw_training.confusion(axes, samples.labels, trainer.answers(weights, samples.latencies))

    accuracy = found["test_accuracy"]
    title = (
        f"{name}: {found['n_neurons']} neurons, test accuracy {accuracy['mean']:.2%} "
        f"± {accuracy['sd']:.2%} (seeds {', '.join(map(str, found['history']))})"
    )
    return draw_training.draw(found["history"], title, middle, shown, parts, trainer.duration)


def parser() -> argparse.ArgumentParser:
    made = common.parser("Training of a recurrent spiking network", DURATION, DT, devices=1)
    made.add_argument("--data", choices=(*SETTINGS, "both"), default="both", help="to learn")
    made.add_argument("--epochs", type=int, help="over the training part (default: as chosen)")
    made.add_argument("--seeds", type=int, default=1, help="how many, from --seed on")
    return made


def check(args: argparse.Namespace) -> None:
    """Raise for what has no meaning here."""
    if args.frozen is not None:
        raise ValueError(f"--frozen {args.frozen}: the data are known; leave it out")
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
