"""Brunel's phase diagram: 256 networks in one call of `jsnn.sweep` (Brunel 2000, J. Comput.
Neurosci. 8, figures 2 and 8).

The sparse network of excitatory and inhibitory neurons at 16 strengths of inhibition, g, and 16 of
the external drive, eta, with his constants for these figures. Networks are of 1,250 neurons in
place of 12,500, with 200 excitatory and 50 inhibitory inputs each of 0.4 mV in place of 1,000, 250
and 0.1 mV: a fifth of the cells are inputs, not a tenth, which leaves fluctuations small enough for
his states, at the price of some more synchrony between cells that share inputs. All networks have
the same edges, the same external spikes where their rates agree, and the same start.

    python examples/sweep_brunel.py --plot diagram.png
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import brunel_delta as published
import common
import common_diagram
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jsnn
from jsnn import plot
from jsnn.connect import FixedIndegree
from jsnn.distributions import Uniform
from jsnn.inputs import Poisson
from jsnn.record import Spikes

ORDER = 250  # inhibitory neurons; there are four times as many excitatory ones
EPSILON, J = 0.2, 0.4  # connection probability, mV
V_RESET = 10.0  # mV
G, ETA = (0.5, 8.0), (0.25, 4.0)  # first and last values
POINTS = 16  # of each
WARM = 210.0  # ms before anything is counted
PART = 150  # steps between two looks at the spikes: whole blocks of the delay
BIN = 2  # steps, of the population's activity
LAGS = 1000  # bins of its autocorrelation
RHYTHM, FAST = 0.22, 60.0  # from which a network is called synchronous, and fast (Hz)
TRACE = 100.0  # ms of the activity that are kept, at the end
SINGLES = 16  # networks that are run one by one for comparison
FIGURE_8 = {"A": (3.0, 2.0), "B": (6.0, 4.0), "C": (5.0, 2.0), "D": (4.5, 0.9)}
STATES = {  # their colours
    "Q": "#e4e4e4",
    "SR": "#f2b5a0",
    "AR": "#f7dfa5",
    "AI": "#bcd7ee",
    "SI fast": "#b5dcb5",
    "SI slow": "#d3c1e5",
}

Measures = dict[str, Any]


def threshold_rate() -> float:
    """Hz: of all external spikes of a neuron, the rate at which their mean is at threshold."""
    return 1000 * published.V_TH / (J * published.TAU_M)


def build(order: int = ORDER, seed: int = 1) -> jsnn.Network:
    """The network of 5 * order neurons, whose g and eta are still to be set."""
    n_exc, n_inh = 4 * order, order
    law = jsnn.neurons.LIF(
        tau_m=published.TAU_M,
        c_m=1.0,
        e_l=0.0,
        v_th=published.V_TH,
        v_reset=V_RESET,
        t_ref=published.T_REF,
    )
    cells = jsnn.Population(
        law,
        n_exc + n_inh,
        {"delta": jsnn.receptors.Delta()},
        slices={"exc": slice(0, n_exc), "inh": slice(n_exc, n_exc + n_inh)},
        initial={"v": Uniform(0.0, published.V_TH)},
    )
    projections = {
        name: jsnn.Projection(
            f"cells.{name}", "cells", FixedIndegree(k), weight=weight, delay=published.DELAY
        )
        for name, k, weight in (
            ("exc", round(EPSILON * n_exc), J),
            ("inh", round(EPSILON * n_inh), -J),
        )
    }
    rate = threshold_rate()
    return jsnn.Network(
        {"cells": cells},
        projections,
        {"noise": Poisson("cells", rate, J, max_rate=ETA[1] * rate)},
        dt=published.DT,
        key=jax.random.key(seed),
    )


def measured(network: jsnn.Network, key: jax.Array, duration: float) -> Callable[..., Measures]:
    """What a sweep calls: the measures of the network at some g and eta over `duration` ms."""
    n, dt = network.populations["cells"].n, network.dt
    warm, steps = round(WARM / dt), round(duration / dt)
    parts = -(-(warm + steps) // PART)

    def one(g: jax.Array, eta: jax.Array) -> Measures:
        own = eqx.tree_at(
            lambda net: [net.synapses["inh"].weight, net.inputs["noise"].rate],
            network,
            [-g * J, eta * threshold_rate()],
        )

        def step(carry: Any, fired: jax.Array) -> Any:
            """The sums over intervals of each cell; what fired when is forgotten."""
            now, last, count, total, squares = carry
            fired &= (now >= 0) & (now < steps)
            ends = fired & (last >= 0)
            interval = jnp.where(ends, now - last, 0).astype(total.dtype)
            last = jnp.where(fired, now, last)
            sums = (count + ends, total + interval, squares + interval**2)
            return (now + 1, last, *sums), jnp.sum(fired)

        def part(carry: Any, _: None) -> Any:
            state, cells = carry
            made = jsnn.simulate(own, state, PART, {"spikes": Spikes("cells")})
            cells, activity = jax.lax.scan(step, cells, made.records["spikes"].raster)
            return (made.state, cells), activity

        none = jnp.zeros(n)
        cells = (jnp.asarray(-warm), jnp.full(n, -1), jnp.zeros(n, int), none, none)
        carry, activity = jax.lax.scan(part, (own.init(key), cells), None, parts)
        state, (_, _, count, total, squares) = carry
        activity = activity.reshape(-1)[warm : warm + steps]
        mean = total / jnp.maximum(count, 1)
        cv = jnp.sqrt(jnp.maximum(squares / jnp.maximum(count, 1) - mean**2, 0)) / mean
        spikes = jnp.sum(activity)
        last = activity[-round(TRACE / dt) :]
        return {
            "spikes": spikes,
            "rate": spikes / (n * duration) * 1000,
            "cv": jnp.nanmean(jnp.where(count >= 2, cv, jnp.nan)),
            **synchrony(activity, dt),
            "trace": last.reshape(-1, 5).sum(1) / (5 * dt * n) * 1000,
            "status": state.status,
        }

    return one


def synchrony(activity: jax.Array, dt: float) -> Measures:
    """Of the spikes of all cells in every step `[steps]`, in bins of 0.2 ms:

    - `modulation`: the standard deviation of the population's rate over its mean, without what
      independent Poisson spikes would make.
    - `rhythm`: its autocorrelation at the first maximum after it was negative, of 1 at lag 0 where
      that noise is left out: 0 without a rhythm, 1 for one that does not fade.
    - `frequency`: Hz, where its power spectrum is largest.
    """
    bins = activity[: activity.shape[0] // BIN * BIN].reshape(-1, BIN).sum(1).astype(float)
    m, mean = bins.shape[0], jnp.mean(bins)
    lags = min(LAGS, m // 2)
    power = jnp.abs(jnp.fft.rfft(bins - mean, 2 * m)) ** 2
    covariance = jnp.fft.irfft(power)[:lags] / (m - jnp.arange(lags))
    covariance = covariance.at[0].add(-mean)
    variance = jnp.maximum(covariance[0], 0)
    relative = covariance / jnp.maximum(variance, 1e-6 + 0.01 * mean)
    beyond = jnp.cumsum(relative < 0) > 0
    window = 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.arange(lags) / lags)
    smooth = jnp.fft.rfft(jnp.concatenate([window * covariance, jnp.zeros(lags)])).real
    hertz = jnp.fft.rfftfreq(2 * lags, BIN * dt / 1000)
    slowest = 2000 / (lags * BIN * dt)
    return {
        "modulation": jnp.sqrt(variance) / jnp.maximum(mean, 1e-9),
        "rhythm": jnp.clip(jnp.max(jnp.where(beyond, relative, 0)), 0, 1),
        "frequency": hertz[jnp.argmax(jnp.where(hertz >= slowest, smooth, -jnp.inf))],
    }


def states(found: Any) -> np.ndarray:
    """The names of the published states, `[g, eta]`, by these criteria:

    quiescent below 1 Hz; slow where the rate of the population is modulated by more than its mean,
    below 60 Hz; of the others regular where the CV of intervals is below 0.5, and synchronous where
    the rate is modulated by 0.3 of its mean with a rhythm of 0.22 (a second tells it to 0.05: the
    mean with the networks of the next smaller and larger eta is taken).
    """
    rate, modulation = found["rate"], found["modulation"]
    fires = rate >= 1.0
    sums = [np.pad(np.where(fires, own, 0.0), ((0, 0), (1, 1))) for own in (found["rhythm"], fires)]
    total, number = (own[:, :-2] + own[:, 1:-1] + own[:, 2:] for own in sums)
    rhythm = total / np.maximum(number, 1)
    regular = np.nan_to_num(found["cv"]) < 0.5
    synchronous = (modulation > 0.3) & (rhythm > RHYTHM)
    slow = (modulation > 1.0) & (found["frequency"] < FAST)
    names = np.where(synchronous, "SI fast", "AI")
    names = np.where(regular, np.where(synchronous, "SR", "AR"), names)
    names = np.where(slow, "SI slow", names)
    return np.where(fires, names, "Q")


def draw(found: jsnn.Swept) -> Any:
    """The states over g and eta, the measures that they are named by, and the population's rate in
    the four networks that are nearest to those of figure 8."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm
    from matplotlib.figure import Figure

    g, eta = found.axes["g"], found.axes["eta"]
    names = states(found)
    edges = [common_diagram.edges(g), common_diagram.edges(eta)]
    figure = Figure(figsize=(12.5, 8.4), layout="constrained")
    layout: Any = [
        ["map", "map", "rate", "cv"],
        ["map", "map", "rhythm", "frequency"],
        [*FIGURE_8],
    ]
    panels = figure.subplot_mosaic(layout, height_ratios=[1.15, 1.15, 0.8])

    codes = np.searchsorted(sorted(STATES), names)
    colours = ListedColormap([STATES[name] for name in sorted(STATES)])
    norm = BoundaryNorm(np.arange(len(STATES) + 1) - 0.5, len(STATES))
    panels["map"].pcolormesh(*edges, codes.T, cmap=colours, norm=norm)
    for name in STATES:
        common_diagram.name_region(panels["map"], name, names == name, g, eta)
    measures = {
        "rate": ("Firing rate (Hz)", "viridis", LogNorm(1.0, 500.0, clip=True)),
        "cv": ("CV of intervals", "cividis", (0.0, 1.8)),
        "rhythm": ("Rhythm (0: none, 1: lasting)", "magma", (0.0, 0.6)),
        "frequency": ("Frequency of the rhythm (Hz)", "plasma", LogNorm(10.0, 700.0, clip=True)),
    }
    for name, (title, palette, limits) in measures.items():
        shown = np.where(names == "Q", np.nan, found[name])
        scale = (
            {"norm": limits}
            if isinstance(limits, LogNorm)
            else dict(zip(("vmin", "vmax"), limits, strict=True))
        )
        mesh = panels[name].pcolormesh(*edges, shown.T, cmap=palette, **scale)
        figure.colorbar(mesh, ax=panels[name], pad=0.02)
        panels[name].set_title(title, fontsize="medium")
        panels[name].set_facecolor(STATES["Q"])
    for name in ("map", *measures):
        panel, main = panels[name], name == "map"
        shade = "0.35" if main else "white"
        panel.add_collection(
            LineCollection(common_diagram.borders(names, *edges), colors=shade, linewidths=1.0)
        )
        for letter, (x, y) in FIGURE_8.items():
            style = {"fc": "white", "ec": "0.2", "boxstyle": "circle,pad=0.2"}
            panel.text(
                *(x, y, letter),
                fontsize="medium" if main else "xx-small",
                fontweight="bold",
                ha="center",
                va="center",
                bbox=style,
            )
        panel.set(xlabel="g", ylabel="η", xlim=edges[0][[0, -1]], ylim=edges[1][[0, -1]])
    panels["map"].set_title(
        "S synchronous, A asynchronous; R regular, I irregular; Q quiescent\n"
        "A to D in circles: the networks of figure 8",
        fontsize="medium",
    )

    step = TRACE / found["trace"].shape[-1]
    for letter, (x, y) in FIGURE_8.items():
        at = (np.argmin(abs(g - x)), np.argmin(abs(eta - y)))
        rate = found["trace"][at]
        panel = panels[letter]
        panel.fill_between(step * np.arange(rate.size), rate, color="0.25", linewidth=0)
        panel.set_title(
            f"{letter}: g = {g[at[0]]:g}, η = {eta[at[1]]:g} ({names[at]})", fontsize="medium"
        )
        panel.set(xlabel="Time (ms)", xlim=(0, TRACE), ylim=(0, None))
    panels["A"].set_ylabel("Population's rate (Hz)")
    return figure


def time_singles(one: Callable[..., Measures], found: jsnn.Swept, n: int) -> float:
    """s, the mean over n networks of the grid, spread over it, that are run one by one: the same
    function without a batch, on one device, compiled and warm."""
    g, eta = found.axes["g"], found.axes["eta"]
    single = jax.jit(one, compiler_options=jsnn.COMPILER_OPTIONS)
    i = np.linspace(0, g.size * eta.size - 1, n).round().astype(int) if n > 1 else np.asarray([0])
    rows, columns = np.divmod(i, eta.size)
    # As many of every eta, though the grid is walked row by row
    points = [(g[a], eta[(b + 5 * a) % eta.size]) for a, b in zip(rows, columns, strict=True)]
    jax.block_until_ready(single(*points[0]))
    start = time.perf_counter()
    for point in points:
        jax.block_until_ready(single(*point))
    return (time.perf_counter() - start) / n


def parser() -> argparse.ArgumentParser:
    made = common.parser("Brunel's phase diagram, in one sweep", 1000.0, published.DT)
    made.add_argument("--points", type=int, default=POINTS, metavar="N", help="of g, and of eta")
    made.add_argument("--batch", type=int, metavar="N", help="networks at once")
    made.add_argument(
        *("--singles",), type=int, default=SINGLES, metavar="N", help="networks to time one by one"
    )
    return made


def main(args: argparse.Namespace) -> None:
    if args.frozen:
        raise ValueError(f"--frozen {args.frozen}: these networks are drawn; leave it out")
    if args.points < 2 or not 0 <= args.singles <= args.points**2:
        raise ValueError("--points: give 2 or more, and --singles no more than there are networks")
    if args.batch is not None and args.batch < 1:
        raise ValueError(f"--batch {args.batch}: give 1 or more")
    if round(args.duration / published.DT) < 10 * BIN:
        raise ValueError(f"--duration {args.duration}: give {10 * BIN * published.DT:g} ms or more")
    start = time.perf_counter()
    network = build(round(ORDER * args.scale), args.seed)
    build_s = time.perf_counter() - start
    one = measured(network, jax.random.key(args.seed), args.duration)
    n, n_networks = network.populations["cells"].n, args.points**2
    print(f"Sweep             : {n_networks} networks of {n} neurons", flush=True)
    found = jsnn.sweep(
        one,
        {"g": np.linspace(*G, args.points), "eta": np.linspace(*ETA, args.points)},
        batch=args.batch,
        devices=args.devices,
    )
    names = states(found)
    for name in STATES:
        if np.any(names == name):
            there = names == name
            rate = found["rate"][there].mean()
            print(f"{name:18}: {np.sum(there)} networks, {rate:.1f} Hz on average")
    stats = found.stats
    print(f"Building time     : {build_s:.2f} s")
    print(f"Compile time      : {stats['compile_s']:.2f} s")
    print(f"Simulation time   : {stats['run_s']:.2f} s, {stats['batch']} networks at once")
    single_run_s = time_singles(one, found, args.singles) if args.singles else None
    ratio = None
    if single_run_s is not None:
        ratio = stats["run_s"] / (n_networks * single_run_s)
        print(f"A single network  : {single_run_s:.3f} s; the sweep took {ratio:.2f} times as long")

    if args.plot:
        print(f"Figure            : {plot.save(draw(found), args.plot)}")
    measures = ("rate", "cv", "modulation", "rhythm", "frequency")
    kept = {name: found[name] for name in measures}
    edges = {name: n_networks * own.edges.n_edges for name, own in network.synapses.items()}
    spikes = {**stats, "spikes": {"cells": int(np.sum(found["spikes"], dtype=np.int64))}}
    common.write_json(
        args.json,
        {
            **common.numbers(args, spikes, n_networks * n, edges, build_s),
            "rates": {"all": float(np.mean(found["rate"]))},
            "solver": f"Exact, steps of {network.dt:g} ms",
            "duration": args.duration,
            "warm": WARM,
            "batch": stats["batch"],
            "batches": stats["batches"],
            "bytes_a_network": stats.get("bytes_a_point"),
            "single_run_s": single_run_s,
            "single_runs": args.singles,
            "run_over_singles": ratio,
            **{name: np.round(own, 4).tolist() for name, own in found.axes.items()},
            **{name: [_plain(row) for row in own] for name, own in kept.items()},
            "states": names.tolist(),
        },
    )
    if args.save:
        saved = jsnn.export.save_npz(args.save, **found.axes, **kept, states=names)
        print(f"Measures          : {saved}")


def _plain(row: np.ndarray) -> list[float | None]:
    """Numbers of JSON, which has no NaN."""
    return [round(float(own), 4) if np.isfinite(own) else None for own in row]


if __name__ == "__main__":
    common.run(main, parser())
