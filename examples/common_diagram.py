"""Diagrams of named states over two parameters: the cells of the map, their borders and names."""

from typing import Any

import numpy as np


def edges(values: np.ndarray) -> np.ndarray:
    """Where the cells of evenly spaced values begin and end."""
    width = values[1] - values[0] if values.size > 1 else 1.0
    return np.append(values, values[-1] + width) - width / 2


def borders(names: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[Any]:
    """Lines between cells of the map that are in different states."""
    lines = [
        ((x[i + 1], y[j]), (x[i + 1], y[j + 1])) for i, j in np.argwhere(names[1:] != names[:-1])
    ]
    upper = np.argwhere(names[:, 1:] != names[:, :-1])
    return lines + [((x[i], y[j + 1]), (x[i + 1], y[j + 1])) for i, j in upper]


def name_region(panel: Any, name: str, here: np.ndarray, g: np.ndarray, eta: np.ndarray) -> None:
    """The name of a state amid its cells, where they are enough."""
    if np.sum(here) < max(3, here.size // 64):
        return
    cells = np.argwhere(here)
    i, j = cells[np.argmin(np.sum(abs(cells - np.median(cells, axis=0)), axis=1))]
    narrow = np.ptp(cells[:, 0]) < 2
    panel.text(
        *(g[i], eta[j], name),
        ha="center",
        va="center",
        color="0.15",
        fontsize="medium" if narrow else "x-large",
        rotation=90 if narrow else 0,
    )
