"""What a sweep gives: arrays over the points, with names and values for their first axes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jsnn._math import shortened, unknown
from jsnn._points import Points

_CLOSE = 1e-5  # relative, of values that were given in double precision and kept in single


@dataclass(frozen=True)
class Swept:
    """The results of `jsnn.sweep`.

    - `values`: what the function returned, every leaf a NumPy array with the points' axes first:
      `[len(g), len(eta), ...]` for a product, `[n_points, ...]` without. `found["rate"]` is
      `found.values["rate"]`.
    - `axes`: the values of each name, in order; NumPy arrays, or what was given (keys, states).
    - `failed`: booleans over the points: whose status says that they failed.
    - `stats`: `compile_s`, `run_s`, `batch` (points at once), `batches`, and `bytes_a_point`, what
      the compiled program keeps for each.
    """

    values: Any
    axes: dict[str, Any]
    failed: np.ndarray
    stats: dict[str, Any]
    points: Points

    def __getitem__(self, name: str) -> Any:
        if not isinstance(self.values, Mapping):
            kind = type(self.values).__name__
            raise TypeError(f"the function returned a {kind} without names; take found.values")
        if name not in self.values:
            raise unknown("result", name, self.values)
        return self.values[name]

    def at(self, **chosen: Any) -> Any:
        """The results at some values: `found.at(g=5.0, eta=2.0)["rate"]`. The axes of a product
        that are chosen are gone, those of other names stay, in order.

        Numbers are chosen by value (to 1e-5 of it), keys, states and other arrays by their
        position. Without product, one point must have all the values. Raises `ValueError` where
        there is none, with the nearest value.
        """
        for name in chosen:
            if name not in self.points.columns:
                raise unknown("axis", name, self.points.columns)
        if not self.points.product:
            return self._point(chosen)
        names = list(self.points.columns)
        where = [
            self._places(name, chosen[name])[0] if name in chosen else slice(None) for name in names
        ]
        return jax.tree.map(lambda leaf: leaf[tuple(where)], self.values)

    def _point(self, chosen: Mapping[str, Any]) -> Any:
        here = np.ones(self.points.n, bool)
        for name, value in chosen.items():
            here &= np.isin(np.arange(self.points.n), self._places(name, value))
        if np.sum(here) != 1:
            raise ValueError(f"{int(np.sum(here))} points have {chosen}; choose one")
        return jax.tree.map(lambda leaf: leaf[np.flatnonzero(here)[0]], self.values)

    def _places(self, name: str, value: Any) -> np.ndarray:
        """Where along its axis a name has a value."""
        column = self.points.columns[name]
        if np.ndim(value) or isinstance(value, (str, slice)):
            raise TypeError(f"{name}={shortened(value)}; give one value, or a position")
        if column.numbers is None:
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"{name}={shortened(value)}: these are no numbers; give a position")
            if not 0 <= value < column.n:
                raise ValueError(f"{name}={value}: there are positions 0 to {column.n - 1}")
            return np.asarray([value])
        numbers = column.numbers.astype(float)
        found = np.flatnonzero(np.isclose(numbers, value, rtol=_CLOSE, atol=0.0))
        if not found.size:
            nearest = numbers[np.argmin(np.abs(numbers - value))]
            raise ValueError(f"{name}={value} is not among the values; the nearest is {nearest:g}")
        return found
