"""Spikes and records in files that other programs read."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jsnn._math import shortened
from jsnn._names import explained
from jsnn._spike_checks import as_path, spikes, whole


@explained
def save_ascii(
    path: str | os.PathLike, times: ArrayLike, index: ArrayLike, *, first_id: int = 1
) -> Path:
    """Write spikes as NEST's ASCII recorder does: a line with sender and time (ms) for each.

    `first_id` is the identity that cell 0 gets; NEST counts from 1. Times have three decimals as
    NEST's, or as many more as they need.
    """
    stamps, cells = spikes(times, index)
    first_id = whole("first_id", first_id, 0)
    for name, values in (("times", stamps), ("index", cells)):
        wrong = np.flatnonzero(values < 0)
        if wrong.size:
            raise ValueError(f"{name}[{wrong[0]}] is {values[wrong[0]]}; it must be at least 0.")
    decimals = _decimals(stamps)
    lines = [
        "# jsnn: spikes",
        "# columns as in RecordingBackendASCII version: 2",
        "sender\ttime_ms",
    ]
    lines += [
        f"{i + first_id}\t{t:.{decimals}f}"
        for i, t in zip(cells.tolist(), stamps.tolist(), strict=True)
    ]
    path = _parent(path)
    path.write_text("\n".join(lines) + "\n")
    return path


@explained
def load_ascii(path: str | os.PathLike, *, first_id: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Times (ms) and cell indices from a file as `save_ascii` and NEST write it."""
    path, first_id = as_path(path), whole("first_id", first_id, 0)
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise ValueError(
            f"path is {str(path)!r}, which holds no text; give a file that save_ascii or NEST wrote"
        ) from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        try:
            if line.startswith("sender"):
                _check_header(line)
            else:
                rows.append(_row(line, first_id))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {shortened(line)} {error}") from None
    times, index = zip(*rows, strict=True) if rows else ((), ())
    return np.asarray(times, np.float64), np.asarray(index, np.int64)


@explained
def save_npz(path: str | os.PathLike, **arrays: Any) -> Path:
    """Write arrays to a compressed `.npz`, under the given name and no other."""
    converted = {name: _storable(name, value) for name, value in arrays.items()}
    path = _parent(path)
    with open(path, "wb") as file:  # np.savez itself would append an ending
        np.savez_compressed(file, allow_pickle=False, **converted)
    return path


def _check_header(line: str) -> None:
    if line.split()[:2] != ["sender", "time_ms"]:
        raise ValueError("announces no times in ms; let NEST record with time_in_steps=False")


def _row(line: str, first_id: int) -> tuple[float, int]:
    try:
        sender, time = line.split("\t")[:2]
        stamp, cell = float(time), int(sender) - first_id
    except ValueError:
        raise ValueError("is not 'sender<tab>time'") from None
    if not 0 <= stamp < math.inf:
        raise ValueError("has no time that is finite and at least 0 ms")
    if not 0 <= cell < 2**63:
        raise ValueError(f"has no sender from first_id={first_id}, the identity of cell 0, on")
    return stamp, cell


def _decimals(stamps: NDArray[np.floating]) -> int:
    """The fewest decimals, three or more, that tell the stamps but for rounding of their type."""
    exact = stamps.astype(np.float64)
    rounding = 2 * float(np.finfo(stamps.dtype).eps) * exact
    with np.errstate(over="ignore"):  # beyond 1e300 ms all decimals are zeros
        for decimals in range(3, 17):
            if np.all(np.abs(np.round(exact, decimals) - exact) <= rounding):
                return decimals
    return 17


def _storable(name: str, value: Any) -> np.ndarray:
    if name in ("file", "allow_pickle"):
        raise ValueError(
            f"{name}={shortened(value)}: NumPy keeps this name to itself; give another"
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # ragged lists, keys of JAX
        array = None
    if array is None or array.dtype.hasobject:
        raise TypeError(
            f"{name}={shortened(value)} is no array of numbers; give arrays, as {name}=record.times"
        )
    return array


def _parent(path: str | os.PathLike) -> Path:
    path = as_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
