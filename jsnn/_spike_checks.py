"""Checks of numbers, windows and spikes on the host, which analysis, pictures and files share.

Each returns what it checked in one form, or raises an error that names the argument, its value
(shortened) and what would be right.
"""

import math
import operator
import os
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jsnn._math import plain, shortened

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


def number(name: str, value: Any, unit: str = "ms", *, positive: bool = False) -> float:
    """One finite number; an array without dimensions counts as one."""
    right = f"it must be a {'positive' if positive else 'finite'} number of {unit}."
    scalar = plain(value) if getattr(value, "shape", None) == () else value
    if isinstance(scalar, bool) or not isinstance(scalar, Real):
        raise TypeError(f"{name} is {shortened(value)}; {right}")
    try:
        real = float(scalar)
    except OverflowError:  # an integer beyond the range of floats
        real = math.inf
    if not math.isfinite(real) or (positive and real <= 0):
        raise ValueError(f"{name} is {shortened(scalar)}; {right}")
    return real


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        count = least - 1
    if isinstance(value, bool) or count < least or (most is not None and count > most):
        bound = "" if most is None else f" and at most {most:,}"
        raise ValueError(
            f"{name} is {shortened(value)}; it must be a whole number, at least {least}{bound}."
        )
    return count


def window(start: Any, stop: Any) -> tuple[float, float]:
    start, stop = number("start", start), number("stop", stop)
    if not 0 < stop - start < math.inf:
        raise ValueError(
            f"the window reaches from start = {start} to stop = {stop} ms; stop must be later than "
            "start."
        )
    return start, stop


def real_array(name: str, value: Any, kinds: str = "iuf") -> np.ndarray:
    """An array of real numbers, of the type that it came in; `kinds` are NumPy's letters."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # ragged lists, and values that JAX traces
        array = None
    if array is None or (array.size and array.dtype.kind not in kinds):
        of = type(value)
        # Records have times, and the columns that belong to them.
        is_record = hasattr(of, "times") and hasattr(of, name)
        hint = f" Give record.{name} of the {of.__name__}." if is_record else ""
        raise TypeError(f"{name} is {shortened(value)}; it must be an array of real numbers.{hint}")
    return array


def stamps(times: Any) -> Floats:
    """Time stamps (ms) in their own floating type, whose rounding some callers allow for."""
    array = real_array("times", times)
    if array.ndim != 1:
        raise ValueError(f"times has shape {array.shape}; it must be one-dimensional, [n_spikes].")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        raise ValueError(
            f"times[{wrong[0]}] is {array[wrong[0]]}; time stamps must be finite, in ms."
        )
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def cells(index: Any) -> Ints:
    array = real_array("index", index)
    if array.ndim != 1:
        raise ValueError(f"index has shape {array.shape}; it must be one-dimensional, [n_spikes].")
    if array.size and array.dtype.kind == "f":
        raise ValueError(f"index has dtype {array.dtype}; cell numbers must be integers.")
    return array.astype(np.int64)


def spikes(times: ArrayLike, index: ArrayLike) -> tuple[Floats, Ints]:
    own, numbers = stamps(times), cells(index)
    if own.size != numbers.size:
        raise ValueError(
            f"times has {own.size} entries and index {numbers.size}; they must have one for every "
            "spike."
        )
    return own, numbers


def as_path(path: Any, name: str = "path") -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} is {shortened(path)}; it must be the name of a file.")
    if not str(path) or "\0" in str(path):
        raise ValueError(f"{name} is {shortened(path)}; it must be the name of a file.")
    return Path(path)
