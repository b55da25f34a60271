"""Recover inhibition and drive of a Brunel network from its rate and irregularity alone.

Brunel's random balanced network (`brunel_delta`), here of 1,250 neurons, is known but for g, the
strength of inhibition relative to excitation, and eta, the external drive relative to threshold.
All that was measured are two numbers: the mean rate of its cells and the mean coefficient of
variation (CV) of their intervals, in networks with other edges and other external spikes than those
of the fit. From random starts that are up to 30 % off in both, all followed at once, both are found
by descent with surrogate gradients through the network, from new external spikes at every update.

What makes these gradients right, beside central differences over 40 seeds at the truth. With
respect to (log g, log eta) those are (-93, 42) Hz of the rate, and (0.58, 0.08) of the CV.

- The surrogate is a triangle of 2 mV on either side of threshold, damped to an area of 0.15 in
  place of 1: (-85, 40) Hz and (0.71, -0.03), the mean of eight. With 0.3 or more, derivatives
  explode: the network is chaotic.
- The path through the reset is kept, which is not the default. A membrane that is a little higher
  spikes, and is lower thereafter. Without that an area of 0.15 explodes, and 0.05 gives
  (0.17, 0.23) for the CV; 0.03 with 1 mV finds the truth as well, a little less closely.
- The path along the synapses is kept; without it the CV has (1.22, -0.39).

The rate tells one combination of g and eta and little of the other, which is left to the CV.
Steepest descent would cross that narrow valley to and fro, so each update is a step of Levenberg
and Marquardt with the derivatives of both numbers, by two passes backward. Its damping grows with
the misfit (Yamashita and Fukushima 2001, Computing Suppl. 15:239): far from the data, where cells
have few intervals, the CV is not to be trusted.

    python examples/fit_brunel.py --plot fit.png
"""

import argparse
import time
from typing import Any, NamedTuple

import brunel_delta as published
import common
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jsnn
from jsnn import losses, plot
from jsnn.adjoint import Backprop, Kept
from jsnn.inputs import Poisson
from jsnn.record import Counts
from jsnn.surrogate import Triangular
from jsnn.transforms import Positive

ORDER = 250  # inhibitory neurons; there are four times as many excitatory ones
TRUTH = {"g": published.G, "eta": published.ETA}
OFF = 0.3  # by which starts may be off, relative
RECOVERED = 0.05  # relative error of both parameters of a start that has converged
MOST_ETA = 6.0  # that the external spikes can hold
WARM = 90.0  # ms before anything is counted
DURATION, SHORTEST = 405.0, 60.0  # ms
SURROGATE = Triangular(2.0, damping=0.15)  # mV
ADJOINT = Backprop(reset=Kept())
UPDATES = 24
RATE, LONGEST = 0.5, 0.15  # of steps: factor at first, most in logarithms
DAMPING, FARTHER = 0.02, 0.3  # Levenberg's d where the data is met, and what |r|^2 adds to it
NETWORKS, RUNS = 4, 8  # that the data is measured on, and runs of each

Values = dict[str, Any]


class Measured(NamedTuple):
    """Mean rate of all cells (Hz) and mean CV of their intervals."""

    rate: Any
    cv: Any


def build(order: int = ORDER, seed: int = 1) -> jsnn.Network:
    """The network with the true parameters, whose drive can be changed."""
    network = published.build(order, seed=seed)
    size = published.sizes(order)
    most = MOST_ETA / published.ETA * size.rate
    noise = Poisson("cells", size.rate, size.j, delay=published.DELAY, max_rate=most)
    return eqx.tree_at(
        lambda n: [n.inputs["noise"], n.populations["cells"].surrogate], network, [noise, SURROGATE]
    )


def with_parameters(network: jsnn.Network, values: Values) -> jsnn.Network:
    source: Any = network.inputs["noise"]
    rate = 1000 * values["eta"] * published.V_TH / (source.weight * published.TAU_M)
    return eqx.tree_at(
        lambda n: [n.synapses["inh"].weight, n.inputs["noise"].rate],
        network,
        [-values["g"] * source.weight, rate],
    )


def measure(network: jsnn.Network, values: Values, key: jax.Array, duration: float) -> Measured:
    """What an experiment of `duration` ms sees. NaN where the run failed."""
    network = with_parameters(network, values)
    warm, steps = round(WARM / network.dt), round((WARM + duration) / network.dt)
    record = {"fired": Counts("cells", every=network.dt)}
    made = jsnn.simulate(network, network.init(key), steps, record, adjoint=ADJOINT)
    raster = made.records["fired"].values[warm:]
    fine = jnp.all(jnp.stack([own == jsnn.NEVER for own in jax.tree.leaves(made.state.status)]))
    rate, cv = jnp.mean(losses.rates(raster, duration)), losses.cv_isi(raster)
    return Measured(*(jnp.where(fine, own, jnp.nan) for own in (rate, cv)))


def record(order: int, duration: float, seed: int) -> Measured:
    """The two numbers of the experiment: means over networks with the true parameters, each with
    its own edges, and over runs of each."""
    seen = []
    for i in range(NETWORKS):
        other = (seed + 1000 * (i + 1)) % 2**32  # the fit has the edges of `seed`
        keys = jax.random.split(jax.random.key(other), RUNS)
        seen.append(_runs(build(order, other), keys, duration))
    found = Measured(*(float(np.mean(own)) for own in zip(*seen, strict=True)))
    if not np.all(np.isfinite(found)):
        raise ValueError(
            f"in {duration:g} ms no cell of {5 * order} had three spikes; give a longer --duration"
        )
    return found


@eqx.filter_jit
def _runs(network: jsnn.Network, keys: jax.Array, duration: float) -> Measured:
    one = lambda key: measure(network, TRUTH, key, duration)  # noqa: E731
    return jax.lax.map(one, keys)


def fit(
    network: jsnn.Network,
    data: Measured,
    starts: Values,
    updates: int,
    duration: float,
    key: jax.Array,
    progress: bool = True,
) -> jsnn.Fit:
    """All starts at once, in logarithms of both parameters.

    With r the logarithms of both numbers over the data and A their derivatives, an update takes a
    part of A'(A A' + d)^-1 r off. `jsnn.fit` gets that vector for the gradient of |r|^2 / 2.
    """

    def deviation(logs: jax.Array, network: jsnn.Network, key: jax.Array) -> tuple[jax.Array, Any]:
        values = dict(zip(TRUTH, jnp.exp(logs), strict=True))
        seen = measure(network, values, key, duration)
        return jnp.log(jnp.stack(seen) / jnp.stack(data)), seen

    def loss(parameters: Values, key: jax.Array) -> tuple[jax.Array, Values]:
        logs = jnp.log(jnp.stack([parameters[name] for name in TRUTH]))
        at = jax.lax.stop_gradient(logs)
        r, back, seen = jax.vjp(
            lambda x: deviation(x, parameters["network"], key), at, has_aux=True
        )
        slopes = jax.lax.map(lambda row: back(row)[0], jnp.eye(2, dtype=r.dtype))
        damping = DAMPING + FARTHER * r @ r
        step = slopes.T @ jnp.linalg.solve(slopes @ slopes.T + damping * jnp.eye(2), r)
        step *= jnp.minimum(1, LONGEST / jnp.linalg.norm(step))
        value = jax.lax.stop_gradient(r @ r / 2) + (logs - at) @ jax.lax.stop_gradient(step)
        own = {name: parameters[name] for name in TRUTH}
        return value, {**own, **seen._asdict()}

    rate = optax.cosine_decay_schedule(RATE, updates, alpha=0.1)
    return jsnn.fit(
        loss,
        {**starts, "network": network},
        optimizer=optax.sgd(rate),
        steps=updates,
        key=key,
        bounds={**dict.fromkeys(TRUTH, Positive()), "network": None},
        trainable={**dict.fromkeys(TRUTH, True), "network": False},
        starts=starts["g"].size,
        progress=progress,
    )


def late(own: np.ndarray) -> np.ndarray:
    """Geometric means over the later half of all updates, in which a start is where it will stay
    and only the noise of its runs moves it, `[starts]`. NaN for one that has stopped."""
    half = np.log(own[:, own.shape[1] // 2 :])
    fine = np.isfinite(half)
    return np.exp(np.sum(half, 1, where=fine) / np.where(fine.any(1), fine.sum(1), np.nan))


def draw(history: Values, estimates: Values, data: Measured) -> Any:
    """The paths of all starts to their estimates; the loss; both numbers along the fit."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(8.4, 6.8), layout="constrained")
    (plane, loss), (rate, cv) = figure.subplots(2, 2)
    g, eta = TRUTH["g"], TRUTH["eta"]
    low, width = ((1 - RECOVERED) * g, (1 - RECOVERED) * eta), 2 * RECOVERED
    box = Rectangle(low, width * g, width * eta, color="0.88", label=f"within {RECOVERED:.0%}")
    plane.add_patch(box)
    for i in range(len(history["g"])):
        own = {"color": f"C{i % 10}", "linewidth": 0.8}
        plane.plot(history["g"][i], history["eta"][i], alpha=0.6, **own)
        plane.plot(history["g"][i, 0], history["eta"][i, 0], "o", fillstyle="none", **own)
        loss.semilogy(history["loss"][i], **own)
        rate.plot(history["rate"][i], **own)
        cv.plot(history["cv"][i], **own)
    plane.plot([], [], "o", color="0.4", fillstyle="none", label="start")
    plane.plot(estimates["g"], estimates["eta"], "k.", markersize=7, label="estimate")
    plane.plot(g, eta, "r+", markersize=13, markeredgewidth=1.5, label="truth")
    plane.set(xlabel="g", ylabel="$\\eta$")
    plane.legend(frameon=False, fontsize="small")
    loss.set(xlabel="Update", ylabel="Loss")
    for axes, value, name in ((rate, data.rate, "Rate (Hz)"), (cv, data.cv, "CV of intervals")):
        axes.axhline(value, color="k", linestyle="--", linewidth=1.2, label="data")
        axes.set(xlabel="Update", ylabel=name)
        axes.legend(frameon=False, fontsize="small")
    return figure


def parser() -> argparse.ArgumentParser:
    made = common.parser(
        "Fit of inhibition and drive of a Brunel network", DURATION, published.DT, devices=1
    )
    made.add_argument("--starts", type=int, default=10, metavar="N", help="random starts")
    made.add_argument("--updates", type=int, default=UPDATES, metavar="N", help="of each start")
    return made


def check(args: argparse.Namespace) -> None:
    """Raise for what has no meaning here."""
    if args.frozen is not None or args.devices != 1:
        raise ValueError("--frozen and --devices: data is made anew, and all starts are one batch")
    for name, least in (("starts", 1), ("updates", 2)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name} {getattr(args, name)}: give {least} or more")
    if args.duration < SHORTEST:
        raise ValueError(f"--duration {args.duration:g}: give {SHORTEST:g} ms or more")


def main(args: argparse.Namespace) -> None:
    check(args)
    print("Fit of inhibition and drive of a Brunel network")
    order = round(ORDER * args.scale)
    began = time.perf_counter()
    network = build(order, args.seed)
    starts = jsnn.spread(TRUTH, jax.random.key(args.seed), args.starts, by=OFF)
    build_s = time.perf_counter() - began
    began = time.perf_counter()
    data = record(order, args.duration, args.seed)
    data_s = time.perf_counter() - began
    print(f"Data              : {data.rate:.2f} Hz, CV {data.cv:.3f}")
    found = fit(
        network,
        data,
        starts,
        args.updates,
        args.duration,
        jax.random.fold_in(jax.random.key(args.seed), 1),
    )
    history = found.history
    estimated = {name: late(history[name]) for name in (*TRUTH, *Measured._fields)}
    # Told apart by the data alone, and by many runs, where the lowest loss is that of a lucky one
    misfit = sum(np.log(estimated[name] / getattr(data, name)) ** 2 for name in Measured._fields)
    if not np.any(np.isfinite(misfit)):
        raise FloatingPointError("no start is left; give another --seed or a longer --duration")
    at = int(np.nanargmin(misfit))
    estimates = [{name: float(estimated[name][i]) for name in TRUTH} for i in range(args.starts)]
    errors = [{name: own[name] / TRUTH[name] - 1 for name in TRUTH} for own in estimates]
    converged = [max(map(abs, own.values())) <= RECOVERED for own in errors]
    guesses = [{name: float(starts[name][i]) for name in TRUTH} for i in range(args.starts)]
    table = common.recovered("Best start", TRUTH, guesses[at], estimates[at])
    apart = max(abs(own[name]) for own in errors for name in TRUTH)
    print(f"Starts recovered  : {sum(converged)} of {args.starts}, both within {RECOVERED:.0%}")
    print(f"Largest error     : {apart:.2%}, of all starts")
    print(f"Data time         : {data_s:.2f} s")
    print(f"Compile time      : {found.stats['compile_s']:.2f} s")
    print(f"Fit time          : {found.stats['run_s']:.2f} s, {args.updates} updates")
    if args.plot:
        print(f"Figure            : {plot.save(draw(history, estimated, data), args.plot)}")
    if args.save:
        print(f"Paths             : {jsnn.export.save_npz(args.save, **history)}")
    common.write_json(
        args.json,
        {
            **table,
            "guess": guesses[at],
            "guesses": guesses,
            "estimates": estimates,
            "relative_errors": errors,
            "starts_converged": sum(converged),
            "n_starts": args.starts,
            "updates": args.updates,
            "data": data._asdict(),
            "loss": history["loss"].tolist(),
            "skipped": found.skipped.tolist(),
            "build_s": build_s,
            "data_s": data_s,
            "compile_s": found.stats["compile_s"],
            "run_s": found.stats["run_s"],
            "n_neurons": network.populations["cells"].n,
            "n_synapses": sum(own.edges.n_edges for own in network.synapses.values()),
            "rates": {"all": float(estimated["rate"][at])},
            "cv": float(estimated["cv"][at]),
            "solver": f"Exact, steps of {network.dt:g} ms",
            "peak_memory_mb": common.peak_memory_mb(),
            "devices": args.devices,
            "float64": args.float64,
        },
    )


if __name__ == "__main__":
    common.run(main, parser())
