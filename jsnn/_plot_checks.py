"""Checks of what `plot` is given beside spikes: figures, axes, samples, groups and the like."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsnn._math import shortened
from jsnn._spike_checks import number, real_array, window

_MOST_PIXELS = 2**29  # 2 GiB of memory
_MOST_BINS = 200_000  # take 2 seconds to draw, and a screen shows some thousand


def figure(fig: Any, *, sub: bool = False) -> None:
    """Raise unless this is a figure or, where it may be one, a part of a figure."""
    from matplotlib.figure import Figure, SubFigure

    if not isinstance(fig, (Figure, SubFigure) if sub else Figure):
        swapped = " Give the figure first and the path after it." if isinstance(fig, str) else ""
        raise TypeError(f"fig is {shortened(fig)}; it must be a figure of matplotlib.{swapped}")


def axes(ax: Any) -> None:
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(f"ax is {shortened(ax)}; it must be axes of matplotlib, as figure.axes[0].")


def flag(name: str, value: Any) -> None:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {shortened(value)}; it must be True or False.")


def limits(
    stamps: NDArray[np.floating], duration: Any, start: Any, stop: Any
) -> tuple[float, float] | None:
    """The window of a picture, None for everything."""
    if duration is None and start is None and stop is None:
        return None
    if duration is not None and stop is not None:
        raise ValueError(
            f"duration is {shortened(duration)} and stop is {shortened(stop)}; give one."
        )
    start = 0.0 if start is None else number("start", start)
    if duration is not None:
        stop = start + number("duration", duration, positive=True)
    elif stop is None:
        stop = float(stamps.max(initial=start))
    return window(start, stop)


def bins(bin_ms: float, span: float) -> None:
    """Raise if a picture cannot show that many bins."""
    if span / bin_ms > _MOST_BINS:
        raise ValueError(
            f"bin_ms is {bin_ms:g}, which makes {span / bin_ms:,.0f} bins; a picture shows at most "
            f"{_MOST_BINS:,}. Give wider ones, as bin_ms={span / 1000:.2g}, or histogram=False."
        )


def sample_times(times: Any) -> np.ndarray:
    stamps = real_array("times", times)
    if stamps.ndim != 1:
        raise ValueError(f"times has shape {stamps.shape}; it must be one-dimensional, [T].")
    return stamps


def lines(values: Any, n_samples: int) -> np.ndarray:
    """The samples of any number of cells, `[T, k]`."""
    states = real_array("values", values, "iufb")
    if states.ndim not in (1, 2) or len(states) != n_samples:
        raise ValueError(
            f"values has shape {states.shape}; it must be [T] or [T, k] with T = {n_samples}, the "
            "length of times."
        )
    return states.reshape(n_samples, -1) if n_samples else np.empty((0, 1))


def over_cells(name: str, values: Any, n_samples: int) -> np.ndarray:
    """The samples of at least one cell, whose mean is defined."""
    states = real_array(name, values, "iufb")
    if states.ndim != 2 or len(states) != n_samples or not states.shape[1]:
        raise ValueError(
            f"{name} has shape {states.shape}; it must be [T, k] with T = {n_samples}, the length "
            "of times, and k cells, at least 1."
        )
    return states


def names(labels: Any, n: int) -> list[Any]:
    try:
        listed = None if isinstance(labels, str) else list(labels)
    except TypeError:
        listed = None
    if listed is None or len(listed) != n:
        raise ValueError(
            f"labels is {shortened(labels)}; it must be a list of {n} names, one for a line."
        )
    return listed


def group_names(groups: Any) -> None:
    if groups is not None and not isinstance(groups, Mapping):
        raise TypeError(
            f"groups is {shortened(groups)}; it must be a mapping of names to cells, as "
            "{'exc': slice(0, 80)}."
        )


def members(name: str, group: Any, cells: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which of the cells (of a spike each) are of a group."""
    try:
        # Of a range only what fired is looked up: it may hold more numbers than fit in memory.
        if isinstance(group, slice):
            group = range(int(cells.max(initial=0)) + 1)[group]
        if isinstance(group, range):
            fired, of_spike = np.unique(cells, return_inverse=True)
            return np.array([cell in group for cell in fired.tolist()], bool)[of_spike]
        listed = np.asarray(group)
    except (TypeError, ValueError):  # slices of fractions, ragged lists
        listed = np.zeros(())
    if listed.ndim == 1 and listed.dtype == bool:
        return np.isin(cells, np.flatnonzero(listed))
    if listed.ndim == 1 and (listed.dtype.kind in "iu" or not listed.size):
        return np.isin(cells, listed.astype(np.int64))
    raise ValueError(
        f"groups[{name!r}] is {shortened(group)}; it must be a slice, a range, a mask over cells "
        "or an array of cell numbers."
    )


def resolution(dpi: Any, width: float, height: float) -> float:
    """Dots per inch of a picture of that size in inches, which must not exhaust the memory."""
    dpi = number("dpi", dpi, "dots per inch", positive=True)
    most = math.sqrt(_MOST_PIXELS / (width * height))
    if dpi > most:
        raise ValueError(
            f"dpi is {dpi:g}, which makes {width * dpi:,.0f} x {height * dpi:,.0f} pixels; it must "
            f"be at most {most:,.0f} for this figure."
        )
    return dpi
