"""Which surrogate gradients point the right way.

The yardstick is the derivative of the expected rate, CV of intervals and synchrony of a Brunel
network of 1,250 neurons with respect to the logarithms of J, g, eta and the external rate: central
differences over many seeds, each with the same random numbers on both sides. Beside it stand the
surrogate gradients of several choices, by seed, with their means, spread, signs and cosine.

    python tests/bench/yardstick.py --json notebooks/yardstick.json

With `--beside` it takes the differences, and choices that are not named, from an earlier file.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import brunel_delta  # noqa: E402

import jsnn  # noqa: E402
from jsnn.adjoint import Backprop, Clipped, Cut, Fading, Kept, Scaled, Truncated  # noqa: E402
from jsnn.inputs import Poisson  # noqa: E402
from jsnn.losses import cv_isi  # noqa: E402
from jsnn.record import Counts  # noqa: E402
from jsnn.surrogate import Arctan, Boxcar, Sigmoid, SuperSpike, Triangular  # noqa: E402

ORDER, DT = 250, brunel_delta.DT
WARM, BIN = 100.0, 3.0  # ms
NAMES = ("J", "g", "eta", "nu_ext")
MEASURES = ("rate", "cv", "synchrony")
SIZES = brunel_delta.sizes(ORDER)
POINT = {"J": SIZES.j, "g": brunel_delta.G, "eta": brunel_delta.ETA, "nu_ext": 1.0}
STEP = 0.1  # of a logarithm, to either side
MORE = {"J": 5}  # times the seeds: synchrony hardly depends on it

ALL_KEPT = Backprop(reset=Kept())
CHOICES = {
    "as it comes: width 5, reset cut": (Triangular(), Backprop()),
    "width 5, all kept": (Triangular(), ALL_KEPT),
    "width 1, all kept": (Triangular(1.0), ALL_KEPT),
    "width 1, all kept, clipped": (
        Triangular(1.0),
        Backprop(reset=Kept(), between=Clipped(1.0)),
    ),
    "width 1, reset cut": (Triangular(1.0), Backprop(reset=Cut())),
    "width 1, reset cut, synapses cut": (
        Triangular(1.0),
        Backprop(reset=Cut(), synapses=Cut()),
    ),
    "width 20, synapses cut": (Triangular(20.0), Backprop(reset=Kept(), synapses=Cut())),
    "width 1, reset cut, synapses x 0.03": (
        Triangular(1.0),
        Backprop(reset=Cut(), synapses=Scaled(0.03)),
    ),
    "width 1, damping 0.1, reset cut": (Triangular(1.0, damping=0.1), Backprop(reset=Cut())),
    "width 1, damping 0.1, reset cut, fading 20 ms": (
        Triangular(1.0, damping=0.1),
        Backprop(reset=Cut(), between=Fading(20.0)),
    ),
    "width 1, damping 0.1, reset cut, truncated 20 ms": (
        Triangular(1.0, damping=0.1),
        Backprop(reset=Cut(), between=Truncated(20.0)),
    ),
    "width 5, damping 0.15, all kept": (Triangular(5.0, damping=0.15), ALL_KEPT),
    "width 2, damping 0.15, all kept": (Triangular(2.0, damping=0.15), ALL_KEPT),
    "width 2, damping 0.1, all kept": (Triangular(2.0, damping=0.1), ALL_KEPT),
    "width 1, damping 0.1, all kept": (Triangular(1.0, damping=0.1), ALL_KEPT),
    "width 1, damping 0.03, reset cut": (Triangular(1.0, damping=0.03), Backprop(reset=Cut())),
    "width 0.3, damping 0.03, reset cut": (Triangular(0.3, damping=0.03), Backprop(reset=Cut())),
    "width 3, damping 0.03, reset cut": (Triangular(3.0, damping=0.03), Backprop(reset=Cut())),
    "Boxcar 0.6, damping 0.03, reset cut": (Boxcar(0.6, damping=0.03), Backprop(reset=Cut())),
    "SuperSpike 0.5, damping 0.03, reset cut": (
        SuperSpike(0.5, damping=0.03, reach=10.0),
        Backprop(reset=Cut()),
    ),
    "Arctan 0.4, damping 0.03, reset cut": (
        Arctan(0.4, damping=0.03, reach=10.0),
        Backprop(reset=Cut()),
    ),
    "Sigmoid 0.3, damping 0.03, reset cut": (
        Sigmoid(0.3, damping=0.03, reach=10.0),
        Backprop(reset=Cut()),
    ),
}


def build() -> jsnn.Network:
    net = brunel_delta.build(ORDER, seed=1)
    noise = Poisson("cells", SIZES.rate, SIZES.j, delay=brunel_delta.DELAY, max_rate=4 * SIZES.rate)
    return eqx.tree_at(lambda n: n.inputs["noise"], net, noise)


def measures(logs, net, key, duration, adjoint):
    """Rate (Hz), CV and synchrony, the coefficient of variation of the population's count."""
    p = {name: jnp.exp(own) for name, own in logs.items()}
    # As published, eta is in units of what holds the membrane at threshold, which J is in
    rate = 1000 * p["nu_ext"] * p["eta"] * brunel_delta.V_TH / (p["J"] * brunel_delta.TAU_M)
    where = lambda n: [  # noqa: E731
        *(n.synapses[name].weight for name in ("exc", "inh")),
        *(n.inputs["noise"].weight, n.inputs["noise"].rate),
    ]
    net = eqx.tree_at(where, net, [p["J"], -p["g"] * p["J"], p["J"], rate])
    steps, warm, width = (round(own / DT) for own in (duration, WARM, BIN))
    record = {"spikes": Counts("cells", every=DT)}
    made = jsnn.simulate(net, net.init(key), steps, record, adjoint=adjoint)
    raster = made.records["spikes"].values[warm:]
    binned = raster[: raster.shape[0] // width * width].reshape(-1, width, raster.shape[1])
    counts = jnp.sum(binned, (1, 2))
    return {
        "rate": jnp.mean(raster) / DT * 1000,
        "cv": cv_isi(raster),
        "synchrony": jnp.std(counts) / jnp.mean(counts),
    }


def table(found: np.ndarray, truth: np.ndarray) -> dict:
    """Of gradients `[seeds, parameters]`: mean, spread, cosine with the truth and equal signs."""
    mean = found.mean(0)
    length = np.linalg.norm(mean) * np.linalg.norm(truth)
    return {
        "mean": mean.tolist(),
        "std": found.std(0, ddof=1).tolist(),
        "cosine": float(mean @ truth / length) if np.all(np.isfinite(mean)) else None,
        "signs": (np.sign(mean) == np.sign(truth)).tolist(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=400, help="of the central differences")
    parser.add_argument("--gradients", type=int, default=8, help="seeds of the surrogates")
    parser.add_argument("--duration", type=float, default=600.0, metavar="MS")
    parser.add_argument("--choices", nargs="*", default=list(CHOICES))
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--beside", metavar="FILE", help="an earlier file, to measure choices anew")
    args = parser.parse_args()
    net = build()
    logs = {name: jnp.log(jnp.asarray(value, jnp.float32)) for name, value in POINT.items()}
    if args.beside:
        found = json.loads(Path(args.beside).read_text())
        if (found["point"], found["duration"]) != (POINT, args.duration):
            raise SystemExit(f"{args.beside} is of another point or duration")
        if found["gradients"] != args.gradients and set(found["choices"]) - set(args.choices):
            raise SystemExit(f"{args.beside} has gradients of {found['gradients']} seeds")
    else:
        found = differences(args, net, logs)
    truth = {what: np.array(own) for what, own in found["truth"].items()}
    choices = found["choices"]
    for label in args.choices:
        choices[label] = gradients(args, net, logs, label, truth)
    order = [*CHOICES, *(label for label in choices if label not in CHOICES)]
    found["choices"] = {label: choices[label] for label in order if label in choices}
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n")


OPTIONS = {"compiler_options": jsnn.COMPILER_OPTIONS}


def differences(args, net, logs) -> dict:
    """The derivatives of expectations, by central differences."""
    run = jax.jit(lambda logs, key: measures(logs, net, key, args.duration, None), **OPTIONS)
    truth, error, values = ({name: [] for name in MEASURES} for _ in range(3))
    start = time.perf_counter()
    for name in NAMES[:-1]:
        sides = [
            [run({**logs, name: logs[name] + h}, jax.random.key(1000 + i)) for h in (STEP, -STEP)]
            for i in range(args.seeds * MORE.get(name, 1))
        ]
        for what in MEASURES:
            high, low = np.array([[float(own[what]) for own in both] for both in sides]).T
            slopes = (high - low) / (2 * STEP)
            truth[what].append(slopes.mean())
            error[what].append(slopes.std(ddof=1) / len(slopes) ** 0.5)
            values[what].append((high + low).mean() / 2)
    for own in (truth, error):  # eta and the external rate are factors of one product
        own.update({what: np.array([*own[what], own[what][-1]]) for what in MEASURES})
    found = {
        "point": POINT,
        "seeds": {name: args.seeds * MORE.get(name, 1) for name in NAMES},
        "gradients": args.gradients,
        "duration": args.duration,
        "values": {what: float(np.mean(own)) for what, own in values.items()},
        "truth": {what: own.tolist() for what, own in truth.items()},
        "error": {what: own.tolist() for what, own in error.items()},
        "choices": {},
    }
    print(f"{args.seeds} seeds and more, {time.perf_counter() - start:.0f} s")
    for what in MEASURES:
        print(
            f"{what:10}",
            *(f"{t:8.3f} +- {e:.3f}" for t, e in zip(truth[what], error[what], strict=True)),
        )
    return found


def gradients(args, net, logs, label: str, truth: dict) -> dict:
    """Of a choice, the table of each measure."""
    surrogate, adjoint = CHOICES[label]
    net = eqx.tree_at(lambda n: n.populations["cells"].surrogate, net, surrogate)

    def all_three(logs, key):
        of = lambda logs: measures(logs, net, key, args.duration, adjoint)  # noqa: E731
        made, pull = jax.vjp(of, logs)
        zero = jax.tree.map(jnp.zeros_like, made)
        return {w: pull({**zero, w: jnp.ones_like(made[w])})[0] for w in MEASURES}

    gradient = jax.jit(all_three, **OPTIONS)
    start = time.perf_counter()
    made = [gradient(logs, jax.random.key(7000 + i)) for i in range(args.gradients)]
    by_measure = {}
    for what in MEASURES:
        each = np.array([[float(g[what][name]) for name in NAMES] for g in made])
        with np.errstate(all="ignore"):
            by_measure[what] = table(each, truth[what])
        row = by_measure[what]
        cosine = "     " if row["cosine"] is None else f"{row['cosine']:5.2f}"
        signs = "".join("+" if right else "-" for right in row["signs"])
        means = " ".join(f"{m:10.3g}" for m in row["mean"])
        print(f"{label:48} {what:10} {means}  cosine {cosine}  signs {signs}", flush=True)
    print(f"{'':48} {time.perf_counter() - start:.0f} s")
    return by_measure


if __name__ == "__main__":
    main()
