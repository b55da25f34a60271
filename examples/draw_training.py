"""The figure of a training: its curves, what it makes of the data, and spikes of a few samples."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import latency_data
import numpy as np

from jsnn.records import SpikeTimes

COLOURS = ("#3b6fb6", "#d8803a", "#4d4d4d")  # of the halves and the dots


def draw(
    history: Mapping[int, Mapping[str, list[float]]],
    title: str,
    middle: Callable[[Any], None],
    shown: Sequence[tuple[str, SpikeTimes, np.ndarray]],
    parts: Mapping[str, tuple[int, int]],
    duration: float,
) -> Any:
    """Curves of `history`, by seed and name; a panel that `middle` draws into its axes; and of each
    sample `shown` a title, all spikes, and the membranes of the read-outs `[steps, n_classes]`.

    `parts` are first and last (exclusive) cell of inputs and hidden cells.
    """
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(10.5, 8.4), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(4, 5))
    loss, accuracy, panel = upper.subplots(1, 3)
    _curves(loss, accuracy, history)
    middle(panel)
    figure.suptitle(title)
    axes = lower.subplots(2, len(shown), sharex=True, sharey="row", height_ratios=(5, 3))
    for (name, spikes, membranes), (top, below) in zip(shown, axes.T, strict=True):
        for (part, (first, last)), colour in zip(parts.items(), ("C2", "0.15"), strict=True):
            own = (first <= spikes.index) & (spikes.index < last)
            top.scatter(spikes.times[own], spikes.index[own], s=7, color=colour, label=part, lw=0)
        top.set(title=name, xlim=(0, duration), ylim=(-1, max(last for _, last in parts.values())))
        times = duration / len(membranes) * (1 + np.arange(len(membranes)))
        of_class = COLOURS if membranes.shape[1] == 3 else [f"C{i}" for i in range(10)]
        for label, (own, colour) in enumerate(zip(membranes.T, of_class, strict=True)):
            below.plot(times, own, color=colour, label=str(label))
        below.set(xlabel="Time (ms)")
        below.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes[0, 0].set_ylabel("Cell")
    axes[1, 0].set_ylabel("Read-outs (mV)")
    axes[0, -1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), markerscale=2)
    axes[1, -1].legend(
        frameon=False, loc="upper left", bbox_to_anchor=(1, 1), title="class", fontsize="x-small"
    )
    return figure


def _curves(loss: Any, accuracy: Any, history: Mapping[int, Mapping[str, list[float]]]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

    for i, (seed, own) in enumerate(history.items()):
        epochs = 1 + np.arange(len(own["loss"]))
        loss.semilogy(epochs, own["loss"], color=f"C{i}", label=f"seed {seed}")
        accuracy.plot(epochs, 1 - np.asarray(own["accuracy"]), color=f"C{i}", lw=0.8, alpha=0.6)
        accuracy.plot(epochs, 1 - np.asarray(own["validation"]), color=f"C{i}")
    loss.set(xlabel="Epoch", ylabel="Cross entropy, training")
    loss.legend(frameon=False, fontsize="small")
    accuracy.set(xlabel="Epoch", ylabel="Errors on validation (thin: training)", yscale="log")
    accuracy.set_ylim(bottom=0.005)
    ticks = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    accuracy.yaxis.set_major_locator(FixedLocator(ticks))
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    accuracy.yaxis.set_minor_locator(NullLocator())


def regions(axes: Any, classify: Callable[[np.ndarray], np.ndarray], points: int = 96) -> None:
    """What a network takes every point of the disc for, from `[n, 2]` to `[n]`, beside the true
    borders."""
    grid = (0.5 + np.arange(points)) / points
    x, y = (own.ravel() for own in np.meshgrid(grid, grid))
    true = np.array([latency_data.yin_yang_class(*point) for point in zip(x, y, strict=True)])
    inside = true >= 0
    found = np.full(true.shape, np.nan)
    found[inside] = classify(np.column_stack([x, y])[inside])
    axes.contourf(
        *(grid, grid, np.where(inside, found, np.nan).reshape(points, points)),
        levels=(-0.5, 0.5, 1.5, 2.5),
        colors=COLOURS,
        alpha=0.75,
    )
    for label in (0, 1, 2):
        is_label = (true == label).reshape(points, points)
        axes.contour(grid, grid, is_label, levels=(0.5,), colors="black", linewidths=0.8)
    axes.set(aspect="equal", xlabel="x", ylabel="y", title="Regions (lines: true)")


def confusion(axes: Any, labels: np.ndarray, found: np.ndarray) -> None:
    """How many of each digit were taken for which."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, found), 1)
    axes.imshow(np.log1p(counts), cmap="Blues")
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if row == column else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    axes.set(
        xticks=range(10), yticks=range(10), xlabel="Taken for", ylabel="Digit", title="Test part"
    )
