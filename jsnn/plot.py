"""Pictures of a simulation: raster with rate histogram, traces, means over cells, rates.

Every function takes arrays and returns the `matplotlib.figure.Figure` that holds the picture.
None touches pyplot's state, so they work without a display and leave open figures alone; in a
notebook, `%matplotlib inline` shows what a cell returns. matplotlib is imported when the first
picture is drawn. Bad input raises `ValueError` or `TypeError`.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jsnn import _plot_checks as checks
from jsnn import analysis
from jsnn._names import explained
from jsnn._spike_checks import as_path, number, spikes, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.typing import ColorType

_TIME, _CELL, _RATE = "Time (ms)", "Neuron ID", "Rate (Hz)"
_HEIGHTS = (0.6, 0.17)  # of raster and histogram, as in NEST's picture
_UNGROUPED = "0.6"
_MOST_BARS = 2000  # each is a patch of its own; so many take a second to draw
_ENDINGS = (".png", ".pdf", ".svg", ".eps")

Cells = slice | range | ArrayLike


@explained
def raster(
    times: ArrayLike,
    index: ArrayLike,
    *,
    duration: float | None = None,
    start: float | None = None,
    stop: float | None = None,
    histogram: bool = True,
    bin_ms: float = 5.0,
    n: int | None = None,
    groups: Mapping[str, Cells] | None = None,
    title: str | None = None,
    color: "ColorType | None" = None,
    marker_size: float | None = None,
    max_points: int | None = None,
    fig: "Figure | SubFigure | None" = None,
    ax: "Axes | None" = None,
) -> "Figure":
    """A dot for every spike, and below it the firing rate of all cells in bins of `bin_ms`.

    **Arguments:**

    - `times` (ms) and `index` (integers), `[n_spikes]`: the spikes, in any order.
    - `start`, `stop` or `duration` (ms): show the spikes of (start, stop]. `start` is 0 and `stop`
      is `start + duration`, or the last spike, where they are not given. With none of the three
      everything is shown, with matplotlib's margins.
    - `histogram`: whether to draw the rates.
    - `n`: number of cells. Rates are then the mean over n cells, and the raster shows cells 0 to
      n - 1 (unless `index` counts otherwise).
    - `groups`: a name and the cells of each group (slice, range, mask over cells, or array of cell
      numbers), each drawn in a colour of its own; cells of no group are grey.
    - `color`: of dots and bars, without groups.
    - `marker_size`: of the dots, in points; by default, the more spikes the smaller.
    - `max_points`: draw this many spikes, chosen evenly at random, and say so in the picture. The
      histogram always has all of them.
    - `fig` or `ax`: draw into this figure, or in the place of these axes.

    The rate of bin k is 1000 · count_k / (cells · bin_ms) Hz. As in `nest.raster_plot`, `cells`
    is the number of those that fired unless `n` is given, and without a window the bins start at
    the first spike, [t_0 + k·bin_ms, t_0 + (k+1)·bin_ms), the last one holding whatever is left:
    the same spikes give the same heights and limits as there. (NEST draws each bar half a bin too
    early; here it covers its bin.) In a window, bins are those of `jsnn.analysis`, and a last one
    that the window cuts short is normalised by its own width.
    """
    from matplotlib.ticker import MaxNLocator

    stamps, cells = spikes(times, index)
    window = checks.limits(stamps, duration, start, stop)
    bin_ms = number("bin_ms", bin_ms, positive=True)
    n = None if n is None else whole("n", n, 1)
    max_points = None if max_points is None else whole("max_points", max_points, 1)
    if marker_size is not None:
        marker_size = number("marker_size", marker_size, "points", positive=True)
    checks.flag("histogram", histogram)
    checks.group_names(groups)
    if window is not None:
        shown = analysis.within(stamps, *window)
        stamps, cells = stamps[shown], cells[shown]
    color = "C0" if color is None else color
    rates = _rates(stamps, cells, bin_ms, window, n) if histogram else None

    drawn = np.arange(stamps.size)
    if max_points is not None and stamps.size > max_points:
        # A fixed stride would pick out single cells or phases of a rhythm; a draw does not.
        drawn = np.random.default_rng(0).choice(stamps.size, max_points, replace=False)
    parts = _coloured(groups, cells[drawn], color)
    if marker_size is None:
        marker_size = float(np.clip(6.0 * (300 / max(drawn.size, 1)) ** 0.4, 0.7, 6.0))

    figure, dots, bars = _panels(fig, ax, histogram)
    if drawn.size < stamps.size:
        note = f"{drawn.size:,} of {stamps.size:,} spikes drawn"
        dots.set_title(note, loc="right", fontsize="x-small", color="0.4")
    for label, members, shade in parts:
        chosen = drawn[members]
        dots.plot(
            stamps[chosen],
            cells[chosen],
            ".",
            color=shade,
            markersize=marker_size,
            markeredgewidth=0,
            rasterized=True,
            label=label,
        )
    # The limits are those of all spikes, not of the drawn ones.
    _set_limits(dots, stamps, cells, window, n)
    dots.set_ylabel(_CELL)
    dots.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    if groups:
        dots.legend(
            loc="upper left",
            bbox_to_anchor=(1, 1),
            frameon=False,
            handletextpad=0.1,
            markerscale=8 / marker_size,
        )
    if title is not None:
        dots.set_title(title)
    (dots if bars is None else bars).set_xlabel(_TIME)
    if bars is not None and rates is not None:
        limits = dots.get_xlim()
        _draw_rates(bars, *rates, _UNGROUPED if groups else color)
        bars.set_xlim(limits)
    return figure


@explained
def traces(
    times: ArrayLike,
    values: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
    ylabel: str = "Membrane potential (mV)",
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Figure":
    """States over time: a line for each of k cells.

    **Arguments:** `times` (ms) is `[T]`, `values` is `[T]` or `[T, k]`, `labels` names the k lines
    in a legend, `ax` are axes to draw into.
    """
    stamps = checks.sample_times(times)
    states = checks.lines(values, stamps.size)
    names = None if labels is None else checks.names(labels, states.shape[1])
    figure, axes = _single(ax, title)
    lines = axes.plot(stamps, states, linewidth=1.0)
    axes.set_xmargin(0)
    axes.set(xlabel=_TIME, ylabel=ylabel)
    if names is not None:
        axes.legend(lines, names, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@explained
def dynamics(
    times: ArrayLike,
    values: ArrayLike,
    *,
    right: ArrayLike | None = None,
    label: str | None = None,
    right_label: str | None = None,
    color: "ColorType" = "tab:blue",
    right_color: "ColorType" = "tab:green",
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Figure":
    """The mean over cells as a line, and the standard deviation over cells as a band around it.

    **Arguments:** `times` (ms) is `[T]`, `values` is `[T, k]` for k cells, and `right` a second
    quantity, `[T, m]`, with its own axis at the right. `label` and `right_label` are what these
    axes say, in the colours of their lines, and `ax` are axes to draw into. The band is mean ±
    √(Σ (value - mean)² / k); where a cell is not finite, it and the line have a gap.
    """
    stamps = checks.sample_times(times)
    states = checks.over_cells("values", values, stamps.size)
    others = None if right is None else checks.over_cells("right", right, stamps.size)
    figure, axes = _single(ax, title)
    _draw_mean(axes, stamps, states, color, label)
    axes.set_xlabel(_TIME)
    if others is not None:
        _draw_mean(axes.twinx(), stamps, others, right_color, right_label)
    return figure


@explained
def population_rate(
    times: ArrayLike,
    n: int,
    bin_ms: float,
    start: float,
    stop: float,
    *,
    label: str | None = None,
    color: "ColorType | None" = None,
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Figure":
    """The rate of a population of `n` cells (`jsnn.analysis.population_rate`) as a stepped line.

    **Arguments:** as there, all times in ms. Pass the `ax` of an earlier picture
    (`figure.axes[0]`) to compare several populations, and a `label` for each.
    """
    edges, rate = analysis.population_rate(times, n, bin_ms, start, stop)
    figure, axes = _single(ax, title)
    heights = np.append(rate, rate[-1])
    axes.step(edges, heights, where="post", label=label, color=color, linewidth=1.0)
    axes.set_xmargin(0)
    axes.set(xlabel=_TIME, ylabel=_RATE)
    # auto: the next population in these axes may need more room.
    axes.set_ylim(bottom=0, auto=True)
    if label is not None:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@explained
def save(fig: "Figure", path: "str | pathlib.Path", *, dpi: float = 150.0) -> pathlib.Path:
    """Write a figure as png, pdf, svg or eps, whichever the ending of `path` says.

    Creates the parent folder where there is none, and returns the path. `dpi` is the resolution of
    a png, and of the dots of a raster in the others. The figure stays open.
    """
    checks.figure(fig)
    path, dpi = check_name(path), checks.resolution(dpi, *fig.get_size_inches())
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=dpi)
    return path


def check_name(path: "str | pathlib.Path") -> pathlib.Path:
    """Raise unless `save` can write a picture of that name."""
    path = as_path(path)
    if path.suffix.lower() not in _ENDINGS:
        raise ValueError(
            f"path is {str(path)!r}, with the ending {path.suffix!r}; a picture's name must end in "
            f"one of {', '.join(_ENDINGS)}."
        )
    return path


def _rates(
    stamps: NDArray[np.floating],
    cells: NDArray[np.integer],
    bin_ms: float,
    window: tuple[float, float] | None,
    n: int | None,
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Edges and heights (Hz) of the bars."""
    n_cells = n if n is not None else max(np.unique(cells).size, 1)
    if window is not None:
        start, stop = window
        checks.bins(bin_ms, stop - start)
        n_bins = math.ceil((stop - start) / bin_ms - 1e-6)
        edges, counts = analysis.population_histogram(
            stamps, bin_ms, start, start + n_bins * bin_ms
        )
        edges[-1] = stop
        return edges, 1000.0 * counts / (n_cells * np.diff(edges))
    if not stamps.size:
        return np.zeros(1), np.zeros(0)
    first, last = stamps.min(), stamps.max()
    checks.bins(bin_ms, float(last) - float(first))
    left = np.arange(first, last, bin_ms) if last > first else np.array([first])
    below = np.append(np.searchsorted(np.sort(stamps), left), stamps.size)
    return np.append(left, left[-1] + bin_ms), 1000.0 * np.diff(below) / (bin_ms * n_cells)


def _draw_rates(
    axes: "Axes",
    edges: NDArray[np.floating],
    heights: NDArray[np.floating],
    color: "ColorType",
) -> None:
    if heights.size <= _MOST_BARS:
        axes.bar(
            edges[:-1],
            heights,
            width=np.diff(edges),
            align="edge",
            color=color,
            edgecolor="white",
            linewidth=min(0.5, 25 / max(heights.size, 1)),
        )
    else:
        steps = np.append(heights, heights[-1])
        axes.fill_between(edges, steps, step="post", color=color, linewidth=0, rasterized=True)
    axes.set_ylabel(_RATE)
    peak = heights.max(initial=0.0)
    # NEST's limit, whose 5 Hz of headroom would flatten a quiet network.
    axes.set_ylim(0, int(1.1 * peak) + 5 if peak >= 5 else (1.2 * peak or 1.0))


def _draw_mean(
    axes: "Axes", stamps: np.ndarray, states: np.ndarray, color: "ColorType", label: str | None
) -> None:
    with np.errstate(invalid="ignore"):  # of infinite values
        mean, sd = states.mean(1, np.float64), states.std(1, np.float64)
    axes.fill_between(stamps, mean - sd, mean + sd, color=color, alpha=0.3, linewidth=0)
    axes.plot(stamps, mean, color=color, linewidth=1.5)
    axes.set_xmargin(0)
    axes.tick_params(axis="y", labelcolor=color)
    if label is not None:
        axes.set_ylabel(label, color=color)


def _coloured(
    groups: Mapping[str, Cells] | None, cells: NDArray[np.integer], color: "ColorType"
) -> list[tuple[str, NDArray[np.bool_], "ColorType"]]:
    """Name, mask over the spikes, and colour of everything that is drawn in one colour."""
    if not groups:
        return [("", np.ones(cells.size, bool), color)]
    parts: list[tuple[str, NDArray[np.bool_], ColorType]] = []
    rest = np.ones(cells.size, bool)
    for place, (name, members) in enumerate(groups.items()):
        chosen = checks.members(name, members, cells)
        if (chosen & ~rest).any():
            raise ValueError(f"groups[{name!r}] shares cells with an earlier group.")
        rest &= ~chosen
        parts.append((name, chosen, f"C{place}"))
    if rest.any():
        parts.append(("other", rest, _UNGROUPED))
    return parts


def _set_limits(
    axes: "Axes",
    stamps: NDArray[np.floating],
    cells: NDArray[np.integer],
    window: tuple[float, float] | None,
    n: int | None,
) -> None:
    if stamps.size:
        axes.update_datalim(np.array([[stamps.min(), cells.min()], [stamps.max(), cells.max()]]))
        axes.autoscale_view()
    if window is not None:
        axes.set_xlim(window)
    if n is not None and (not cells.size or (cells.min() >= 0 and cells.max() < n)):
        margin = 0.05 * (n - 1) if n > 1 else 0.5
        axes.set_ylim(-margin, n - 1 + margin)


def _panels(
    fig: "Figure | SubFigure | None", ax: "Axes | None", histogram: bool
) -> tuple["Figure", "Axes", "Axes | None"]:
    """The figure, the raster's axes, and the histogram's."""
    from matplotlib.figure import Figure

    if ax is not None:
        if fig is not None:
            raise ValueError("fig and ax are both given; give one of them.")
        checks.axes(ax)
        dots, bars = ax, None
        if histogram:
            bars = _below(ax)
    else:
        fig = Figure(layout="constrained") if fig is None else fig
        checks.figure(fig, sub=True)
        if histogram:
            dots, bars = fig.subplots(2, 1, sharex=True, height_ratios=_HEIGHTS)
        else:
            dots, bars = fig.subplots(), None
    if bars is not None:
        dots.tick_params(axis="x", bottom=False, labelbottom=False)
    return cast(Figure, dots.get_figure(root=True)), dots, bars


def _below(ax: "Axes") -> "Axes":
    """Axes for the histogram, in the lower part of the place of `ax`."""
    spec = ax.get_subplotspec()
    if spec is not None:
        upper, lower = spec.subgridspec(2, 1, height_ratios=_HEIGHTS)
        ax.set_subplotspec(upper)
        return ax.figure.add_subplot(lower, sharex=ax)
    left, bottom, width, height = ax.get_position().bounds
    unit = height / (sum(_HEIGHTS) + 0.03)
    raised = height - unit * _HEIGHTS[0]
    ax.set_position((left, bottom + raised, width, height - raised))
    return ax.figure.add_axes((left, bottom, width, unit * _HEIGHTS[1]), sharex=ax)


def _single(ax: "Axes | None", title: str | None) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    if ax is None:
        ax = Figure(figsize=(6.4, 3.2), layout="constrained").subplots()
    checks.axes(ax)
    if title is not None:
        ax.set_title(title)
    return cast(Figure, ax.get_figure(root=True)), ax
