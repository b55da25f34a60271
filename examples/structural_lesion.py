"""Synapses that grow into a deprived part of a sheet of neurons, after a model of the cortex with a
focal retinal lesion (Butz and van Ooyen 2013, PLoS Comput. Biol. 9:e1003259).

400 excitatory and 100 inhibitory neurons on a sheet, which closes on itself, are driven by Poisson
spikes. Synapses grow between near neurons until each fires as often as its elements want. Then a
disc in the middle loses a fifth of its input and falls silent. Its dendrites grow, its axons
retract, and neurons around it send synapses inward until it is as active as before, its rim before
its core. With `--delete` the cells of the disc die instead, and those around it have to find other
partners.

    python examples/structural_lesion.py --plot lesion.png
    python examples/structural_lesion.py --delete --plot deleted.png
"""

import argparse
import time
from typing import Any, NamedTuple

import common
import jax
import numpy as np

import jsnn
from jsnn import plot
from jsnn.connect import NoEdges
from jsnn.growth import Calcium, Gaussian, SynapticElements
from jsnn.inputs import Poisson
from jsnn.rewire import ByDistance, Growing, Rewiring

SIDE = 20  # excitatory neurons along the sheet; their distance is the unit of length
SIGMA = 2.0  # of the distances that new synapses bridge
DT, DELAY = 0.2, 1.0  # ms
DURATION, LESION = 300_000.0, 0.4  # ms, and the part of it that comes before the lesion
INTERVAL, EVERY, SOON = 1000.0, 5000.0, 10_000.0  # ms: updates, samples, "soon after"
J, J_EXT, RATE = 75.0, 6.2, 10_000.0  # pA, pA, Hz
DEPRIVED = 8000.0  # Hz, what is left of the input: alone it makes hardly a spike
CALCIUM = Calcium(tau_ca=5000.0, beta_ca=0.002)  # 0.01 for each Hz
EPS_EXC, EPS_INH = 0.1, 0.2  # calcium that excitatory and inhibitory cells want: 10 and 20 Hz
NU = 5e-4  # elements / ms, so fast that tens of seconds suffice
# Calcium below which elements retract, in parts of what the cell wants. Axons need activity, so
# that a silent disc is not wired to itself. Excitatory dendrites do not: they have to grow in
# silent cells, and with 0 they would do nothing there. Inhibitory ones retract.
ETA_AXON, ETA_EXC, ETA_INH = 0.3, -0.2, 0.3
RINGS = ("core", "rim", "border", "surround")  # of the sheet, the first two of them the disc
KINDS = {"ex": "exc", "in": "inh"}  # of synapses: their sources


class Sheet(NamedTuple):
    """Where the cells are. The excitatory ones come first, those far from the middle before near
    ones, and inhibitory ones the other way round: the cells of the disc are one slice."""

    side: int
    places: np.ndarray  # [n, 2]
    n_exc: int

    @classmethod
    def of(cls, scale: float) -> "Sheet":
        side = 2 * round(SIDE / 2 * np.sqrt(scale))
        if side < 6:
            raise ValueError(f"scale={scale} leaves no sheet; give {(6 / SIDE) ** 2:g} or more")
        grids = []
        for n, order in ((side, -1), (side // 2, 1)):
            along = (np.arange(n) + 0.5) * side / n
            grid = np.stack(np.meshgrid(along, along), -1).reshape(-1, 2)
            away = np.hypot(*(grid - side / 2).T)
            grids.append(grid[np.argsort(order * away, kind="stable")])
        return cls(side, np.concatenate(grids), side**2)

    @property
    def n(self) -> int:
        return len(self.places)

    @property
    def away(self) -> np.ndarray:
        """`[n]`: how far from the middle."""
        return np.hypot(*(self.places - self.side / 2).T)

    @property
    def radius(self) -> float:
        """Of the disc."""
        return self.side / 4

    @property
    def disc(self) -> slice:
        inside = np.flatnonzero(self.away < self.radius)
        return slice(int(inside[0]), int(inside[-1]) + 1)

    @property
    def zones(self) -> dict[str, np.ndarray]:
        """The excitatory neurons in rings around the middle, and in the disc, `[n]` masks."""
        limits = np.array([0.0, 0.6, 1.0, 1.6, np.inf]) * self.radius
        excitatory = np.arange(self.n) < self.n_exc
        return {
            name: excitatory & (self.away >= low) & (self.away < high)
            for name, low, high in zip(RINGS, limits[:-1], limits[1:], strict=True)
        } | {"disc": excitatory & (self.away < self.radius)}

    def map(self, values: np.ndarray) -> np.ndarray:
        """Values of the excitatory neurons as a picture, `[side, side]`."""
        picture = np.zeros((self.side, self.side))
        column, row = self.places[: self.n_exc].astype(int).T
        picture[row, column] = values[: self.n_exc]
        return picture


def build(scale: float = 1.0, *, seed: int = 1, lesion_at: float = LESION * DURATION) -> Any:
    """The network, with `scale` times the cells, and its sheet; the input of the disc falls at
    `lesion_at` ms."""
    sheet = Sheet.of(scale)
    n, is_exc = sheet.n, np.arange(sheet.n) < sheet.n_exc
    base = jsnn.nest.iaf_psc_alpha(n)
    eps = np.where(is_exc, EPS_EXC, EPS_INH)

    def elements(rate: Any, eta: float) -> SynapticElements:
        # One rate a cell: cells that die change numbers then, and no shape
        rates = np.broadcast_to(rate, n)
        return SynapticElements(Gaussian(eta * eps, eps), rates, continuous=False)

    cells = jsnn.Population(
        base.neuron,
        n,
        base.receptors,
        initial=base.initial,
        slices={
            "exc": slice(0, sheet.n_exc),
            "inh": slice(sheet.n_exc, n),
            "disc": sheet.disc,
        },
        calcium=CALCIUM,
        elements={
            "axon_ex": elements(np.where(is_exc, NU, 0), ETA_AXON),
            "axon_in": elements(np.where(is_exc, 0, NU), ETA_AXON),
            "dendrite_ex": elements(np.where(is_exc, NU, 2 * NU), ETA_EXC),
            "dendrite_in": elements(NU, ETA_INH),
        },
    )
    projections = {}
    for kind, weight in (("ex", J), ("in", -J)):
        low, high = cells.part(KINDS[kind])
        near = ByDistance(SIGMA, sheet.places[low:high], sheet.places, period=sheet.side)
        projections[kind] = jsnn.Projection(
            *(f"cells.{KINDS[kind]}", "cells", NoEdges()),
            weight=weight,
            delay=DELAY,
            receptor=kind,
            growing=Growing(
                *(f"axon_{kind}", f"dendrite_{kind}"),
                capacity=30 * n,
                autapses=False,
                pairing=near,
            ),
        )
    # Two Poisson processes are together one of both their rates
    kept = np.where(sheet.away < sheet.radius, DEPRIVED, RATE)
    given: dict[str, Any] = {"weight": J_EXT, "receptor": "ex", "delay": DELAY}
    net = jsnn.Network(
        {"cells": cells},
        projections,
        {
            "input": Poisson("cells", kept, **given),
            "lost": Poisson("cells.disc", RATE - DEPRIVED, stop=lesion_at, **given),
        },
        dt=DT,
        key=jax.random.key(seed),
        rewiring=Rewiring(INTERVAL),
    )
    return net, sheet


class Course(NamedTuple):
    """What a run did: at the times `[T]` (ms) the calcium of all cells, `[T, n]`, and the synapses
    onto the excitatory neurons of a zone, by where they come from; the sources of the excitatory
    ones at the lesion and at the end, with how far they reach."""

    zone: str
    times: np.ndarray
    calcium: np.ndarray
    synapses: dict[str, np.ndarray]
    sources: tuple[np.ndarray, np.ndarray]
    reach: tuple[float, float]


def inputs_of(
    net: jsnn.Network, state: jsnn.State, sheet: Sheet, zone: str
) -> dict[str, np.ndarray]:
    """The sources of synapses onto excitatory neurons of a zone, by kind; and `reach`, the
    distances that the excitatory ones bridge."""
    targets = np.flatnonzero(sheet.zones[zone])
    edges, found = net.connections(state), {}
    for kind in KINDS:
        own = edges[kind]
        inward = np.isin(own.post, targets)
        found[kind] = own.pre[inward]
        if kind == "ex":
            apart = sheet.places[own.pre[inward]] - sheet.places[own.post[inward]]
            apart -= sheet.side * np.round(apart / sheet.side)
            found["reach"] = np.hypot(*apart.T)
    return found


def simulate(
    net: jsnn.Network, sheet: Sheet, duration: float, lesion_at: float, seed: int, delete: bool
) -> tuple[jsnn.Network, jsnn.State, Course, dict[str, Any]]:
    """The network and state at the end, what it did, and numbers about the run."""
    stops = np.arange(EVERY, duration, EVERY)
    stops = np.unique([*stops[np.abs(stops - lesion_at) > 1], lesion_at, duration])
    state = net.init(jax.random.key(seed))
    zone = "border" if delete else "disc"  # nothing grows onto dead cells
    calcium, counts, ends = [], [], []
    stats: dict[str, Any] = {"compile_s": 0.0, "run_s": 0.0, "spikes": {"cells": 0}}
    now = 0.0
    for stop in stops:
        solution = jsnn.run(net, stop - now, state=state, progress=False)
        now, state = stop, solution.state
        for name in ("compile_s", "run_s"):
            stats[name] += solution.stats[name]
        stats["spikes"]["cells"] += solution.stats["spikes"]["cells"]
        found = inputs_of(net, state, sheet, zone)
        inside = sheet.away[found["ex"]] < sheet.radius
        calcium.append(np.asarray(state.populations["cells"].growth["ca"]))
        counts.append([inside.sum(), np.sum(~inside), found["in"].size])
        if stop in (lesion_at, duration):
            ends.append(found)
        if stop == lesion_at and delete:
            net, state = jsnn.lesion(net, state, "cells.disc")
        if np.floor(10 * stop / duration) > np.floor(10 * (stop - EVERY) / duration):
            means = (f"{name} {calcium[-1][sheet.zones[name]].mean():.3f}" for name in RINGS)
            print(f"{stop / 1000:6g} s, calcium  : {', '.join(means)}")
    names = ("from the disc", "from outside", "inhibitory")
    reach = [float(own["reach"].mean()) if own["reach"].size else float("nan") for own in ends]
    course = Course(
        zone,
        stops,
        np.stack(calcium),
        dict(zip(names, np.array(counts).T, strict=True)),
        (ends[0]["ex"], ends[1]["ex"]),
        (reach[0], reach[1]),
    )
    return net, state, course, stats


def measures(course: Course, sheet: Sheet, lesion_at: float) -> dict[str, Any]:
    """Calcium of each zone before the lesion, at its lowest after it, and at the end, and which
    part of the loss was made good; synapses onto one of them, and how far they reach."""
    before = int(np.searchsorted(course.times, lesion_at))
    calcium = {}
    for name, own in sheet.zones.items():
        mean = course.calcium[:, own].mean(1)
        start, least, end = mean[before], mean[before:].min(), mean[-1]
        calcium[name] = {
            "before": float(start),
            "lowest": float(least),
            "end": float(end),
            "recovered": float((end - least) / (start - least)) if least < start else None,
        }
    number = lambda value: None if np.isnan(value) else value  # noqa: E731
    return {
        "calcium": calcium,
        "zone": course.zone,
        "synapses_into_zone": {
            name: {"before": int(own[before]), "end": int(own[-1])}
            for name, own in course.synapses.items()
        },
        "reach": {"before": number(course.reach[0]), "end": number(course.reach[1])},
    }


def draw(course: Course, sheet: Sheet, lesion_at: float, delete: bool) -> Any:
    """Maps of calcium before the lesion, soon after it and at the end; calcium and synapses over
    time; where the synapses onto the disc, or around it, come from."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    figure = Figure(figsize=(11.0, 6.6), layout="constrained")
    maps, rows = figure.subplots(2, 3)
    before = int(np.searchsorted(course.times, lesion_at))
    soon = min(int(np.searchsorted(course.times, lesion_at + SOON)), course.times.size - 1)
    picture = None
    for axes, place, when in zip(
        maps, (before, soon, -1), ("before the lesion", "soon after", "at the end"), strict=True
    ):
        picture = axes.imshow(
            sheet.map(course.calcium[place]),
            origin="lower",
            extent=(0, sheet.side, 0, sheet.side),
            vmin=0,
            vmax=2 * EPS_EXC,
            cmap="viridis",
        )
        middle = (sheet.side / 2, sheet.side / 2)
        axes.add_patch(Circle(middle, sheet.radius, fill=False, color="white", linestyle="--"))
        axes.set_title(f"{when}, {course.times[place] / 1000:g} s")
        axes.set_xlabel("x (cells)")
        axes.set(xticks=np.linspace(0, sheet.side, 3), yticks=np.linspace(0, sheet.side, 3))
    maps[0].set_ylabel("y (cells)")
    assert picture is not None
    bar = figure.colorbar(picture, ax=maps, shrink=0.9, extend="max")
    bar.set_label("Calcium of excitatory neurons")

    seconds, at = course.times / 1000, lesion_at / 1000
    left, middle, right = rows
    for name, color in zip(RINGS, ("C3", "C1", "C2", "C0"), strict=True):
        mean = course.calcium[:, sheet.zones[name]].mean(1)
        left.plot(seconds, mean, color=color, label=name)
    left.axhline(EPS_EXC, color="0.5", linestyle=":", label="wanted")
    left.set(ylabel="Mean calcium")
    n_targets = np.sum(sheet.zones[course.zone])
    for (name, own), color in zip(course.synapses.items(), ("C3", "C0", "0.4"), strict=True):
        label = name if name == "inhibitory" else f"excitatory, {name}"
        middle.plot(seconds, own / n_targets, color=color, label=label)
    middle.set(ylabel=f"Synapses onto a neuron of the {course.zone}")
    for axes in (left, middle):
        axes.axvline(at, color="black", linewidth=0.8, linestyle="--")
        axes.set(
            xlabel="Time (s)", xlim=(0, seconds[-1]), ylim=(0, max(1.35 * axes.dataLim.y1, 0.01))
        )
    look: dict[str, Any] = {"fontsize": "small", "loc": "upper left", "edgecolor": "none"}
    left.legend(ncols=2, **look)
    middle.legend(framealpha=1, **look)
    edges = np.linspace(0, 2 * sheet.radius, 17)
    styles: tuple[dict[str, Any], ...] = (
        {"histtype": "stepfilled", "color": "C0", "alpha": 0.6, "label": "at the end"},
        {"histtype": "step", "color": "black", "label": "before"},
    )
    for own, style in zip(course.sources[::-1], styles, strict=True):
        right.hist(sheet.away[own], edges, weights=np.full(own.size, 1 / n_targets), **style)
    right.set_ylim(0, max(1.25 * right.dataLim.y1, 0.1))
    right.axvline(sheet.radius, color="black", linewidth=0.8, linestyle=":")
    right.annotate(
        *("edge of the disc", (sheet.radius, 1)),
        xytext=(3, -3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        fontsize="small",
    )
    right.set(
        xlabel="Distance of the source from the middle (cells)",
        ylabel=f"Excitatory synapses\nonto a neuron of the {course.zone}",
        xlim=(0, edges[-1]),
    )
    right.legend(framealpha=0, **look)
    what = "the disc dies" if delete else f"the input of the disc falls to {DEPRIVED / RATE:.0%}"
    figure.suptitle(f"At {at:g} s {what}")
    return figure


def parser() -> argparse.ArgumentParser:
    made = common.parser("Growth of synapses into a deprived sheet", DURATION, DT, devices=1)
    made.add_argument(
        "--lesion-at",
        type=common.finite,
        metavar="MS",
        default=argparse.SUPPRESS,
        help=f"when the disc loses its input (default: {LESION:g} of the duration)",
    )
    made.add_argument("--delete", action="store_true", help="let the cells of the disc die instead")
    return made


def main(args: argparse.Namespace) -> None:
    if args.frozen:
        raise ValueError(f"--frozen {args.frozen}: this network grows anew; leave it out")
    lesion_at = getattr(args, "lesion_at", None)
    if lesion_at is None:
        lesion_at = max(round(LESION * args.duration / INTERVAL), 1) * INTERVAL
    if not 0 < lesion_at < args.duration:
        raise ValueError(
            f"--lesion-at {lesion_at:g}: give more than 0 ms, and less than --duration "
            f"{args.duration:g}"
        )
    if not common.is_whole(lesion_at, DT):
        raise ValueError(f"--lesion-at {lesion_at:g} ms is no whole number of steps of {DT:g} ms")
    print("Building network")
    start = time.perf_counter()
    net, sheet = build(args.scale, seed=args.seed, lesion_at=lesion_at)
    net = jax.block_until_ready(net.on(args.devices))
    build_s = time.perf_counter() - start
    print("Sheet of neurons with growing synapses")
    print(
        f"Number of neurons  : {sheet.n}, of which {sheet.disc.stop - sheet.disc.start} in the disc"
    )
    what = "death of the disc" if args.delete else f"input of the disc to {DEPRIVED / RATE:.0%}"
    print(f"Lesion             : {what} at {lesion_at / 1000:g} s")
    net, state, course, stats = simulate(
        net, sheet, args.duration, lesion_at, args.seed, args.delete
    )
    n_synapses = {kind: int(own.n_edges) for kind, own in state.edges.items()}
    found = measures(course, sheet, lesion_at)
    disc, synapses = found["calcium"]["disc"], found["synapses_into_zone"]
    print(f"Number of synapses : {sum(n_synapses.values())}")
    print(
        f"Calcium of the disc: {disc['before']:.3f} before, {disc['lowest']:.3f} at its lowest, "
        f"{disc['end']:.3f} at the end"
    )
    for name, own in synapses.items():
        into = f"Into {course.zone}, {name}"
        print(f"{into:27}: {own['before']} before, {own['end']} at the end")
    print(f"Building time      : {build_s:.2f} s")
    print(f"Compile time       : {stats['compile_s']:.2f} s")
    print(f"Simulation time    : {stats['run_s']:.2f} s")

    if args.plot:
        figure = draw(course, sheet, lesion_at, args.delete)
        print(f"Figure             : {plot.save(figure, args.plot)}")
    if args.save:
        arrays = {"t": course.times, "ca": course.calcium, "places": sheet.places}
        for kind, own in net.connections(state).items():
            arrays |= {f"{kind}_pre": own.pre, f"{kind}_post": own.post}
        print(f"Calcium and edges  : {jsnn.export.save_npz(args.save, **arrays)}")
    common.write_json(
        args.json,
        {
            **common.numbers(args, stats, sheet.n, n_synapses, build_s),
            "rates": {"cells": 1000 * stats["spikes"]["cells"] / (sheet.n * args.duration)},
            "n_disc": sheet.disc.stop - sheet.disc.start,
            "lesion_at": lesion_at,
            "deleted": args.delete,
            **found,
        },
    )


if __name__ == "__main__":
    common.run(main, parser())
