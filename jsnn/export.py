"""Spikes and records in files that other programs read."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jsnn._math import shortened
from jsnn._names import explained
from jsnn._spike_checks import as_path, spikes, whole

# Names of columns by which a header is known; NEST writes no file without one of them
_HEADER = {"sender", "time_ms", "time_step", "time_offset"}
_LONGEST_NAME = 200  # bytes: file systems allow 255, NumPy's ending among them
_WHOLE = {"sender", "time_step"}  # columns of whole numbers


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
def load_ascii(
    path: str | os.PathLike | Sequence[str | os.PathLike], *, first_id: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Times (ms) and cell indices of spikes from a file as `save_ascii` and NEST write it.

    NEST writes a file for each of its threads and processes: of a list of files the spikes of all
    are returned, in the order of their times. A file without a header, as NEST 2 writes it, holds
    sender and time.

    Raises `ValueError` for files of other recorders (`load_columns` reads those), of times in
    steps, and for lines that are no spike.
    """
    first_id = whole("first_id", first_id, 0)
    paths = _several(path)
    parts = [_spikes_of(own, first_id) for own in paths]
    times = np.concatenate([np.asarray(part[0], np.float64) for part in parts])
    index = np.concatenate([np.asarray(part[1], np.int64) for part in parts])
    if len(paths) > 1:
        order = np.lexsort((index, times))
        times, index = times[order], index[order]
    return times, index


@explained
def load_columns(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All columns, by the names in its header, of a file that any of NEST's recorders wrote.

    That of a multimeter has `sender`, `time_ms` and what was recorded, such as `V_m`, with a row
    for each cell at each time. `sender` (NEST's identity of the cell) and `time_step` are int64,
    all else is float64 in NEST's units.

    Raises `ValueError` for files without a header and for lines with other columns.
    """
    path = as_path(path)
    names: list[str] | None = None
    rows: list[list[float]] = []
    for number, line, header in _lines(path):
        try:
            if header is None:
                rows.append(_numbers(line, names))
            elif names not in (None, header):
                raise ValueError(f"has other columns than {names}, those above")
            elif len(set(header)) < len(header):
                raise ValueError("names a column twice")
            else:
                names = header
        except ValueError as error:
            raise _wrong(path, number, line, error) from None
    if names is None:
        raise ValueError(f"{path} has no header, which names the columns")
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return {
        name: np.asarray(column, np.int64 if name in _WHOLE else np.float64)
        for name, column in zip(names, columns, strict=True)
    }


@explained
def save_npz(path: str | os.PathLike, **arrays: Any) -> Path:
    """Write arrays to a compressed `.npz`, under the given name and no other.

    Raises `TypeError` for what is no array, and `ValueError` for names that are no names of files
    in an archive: those that would leave the folder into which it is unpacked ("../x", "/x"), hold
    control characters, or end in ".npy", which NumPy adds itself.
    """
    converted = {name: _storable(name, value) for name, value in arrays.items()}
    path = _parent(path)
    with open(path, "wb") as file:  # np.savez itself would append an ending
        np.savez_compressed(file, allow_pickle=False, **converted)
    return path


def _several(path: Any) -> list[Path]:
    """The files that are named by one path or by several, each once."""
    if isinstance(path, str | os.PathLike) or not isinstance(path, Sequence):
        return [as_path(path)]
    paths = [as_path(own, f"path[{i}]") for i, own in enumerate(path)]
    if not paths:
        raise ValueError(f"path is {path!r}; give the name of a file, or of several")
    for i, own in enumerate(paths):
        if own in paths[:i]:
            raise ValueError(f"path[{i}] is {str(own)!r} once more; give each file once")
    return paths


def _lines(path: Path) -> Iterator[tuple[int, str, list[str] | None]]:
    """The number and the text of each line but for comments, and its names if it is a header."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(
            f"path is {str(path)!r}, which holds no text; give a file that save_ascii or NEST wrote"
        ) from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split()
        yield number, line, fields if _HEADER & set(fields) else None


def _spikes_of(path: Path, first_id: int) -> tuple[list[float], list[int]]:
    times, index = [], []
    sender, time = 0, 1
    for number, line, header in _lines(path):
        try:
            if header is not None:
                _check_header(header)
                sender, time = header.index("sender"), header.index("time_ms")
            else:
                stamp, cell = _row(line, sender, time, first_id)
                times.append(stamp)
                index.append(cell)
        except ValueError as error:
            raise _wrong(path, number, line, error) from None
    return times, index


def _numbers(line: str, names: list[str] | None) -> list[float]:
    """The numbers of a line, one for each column."""
    if names is None:
        raise ValueError("stands before any header, which names the columns")
    fields = line.split("\t")
    if len(fields) != len(names):
        raise ValueError(f"has not one number for each of {names}")
    numbers = []
    for name, text in zip(names, fields, strict=True):
        try:
            numbers.append(int(text) if name in _WHOLE else float(text))
            if name in _WHOLE and abs(numbers[-1]) >= 2**63:
                raise ValueError
        except ValueError:
            raise ValueError(f"has no number for {name!r}") from None
    return numbers


def _wrong(path: Path, number: int, line: str, why: ValueError) -> ValueError:
    return ValueError(f"{path}, line {number}: {shortened(line)} {why}")


def _check_header(names: list[str]) -> None:
    """Raise unless the columns are those of spikes."""
    further = [name for name in names if name not in _HEADER]
    if further:
        raise ValueError(
            f"announces {', '.join(further)} beside senders and times: the file of a multimeter or "
            "another recorder, not of spikes; export.load_columns reads it"
        )
    if "time_ms" not in names:
        raise ValueError("announces no times in ms; let NEST record with time_in_steps=False")
    if sorted(names) != ["sender", "time_ms"]:
        raise ValueError("is not the header of spikes, 'sender<tab>time_ms'")


def _row(line: str, sender: int, time: int, first_id: int) -> tuple[float, int]:
    try:
        fields = line.split("\t")
        if len(fields) != 2:
            raise ValueError
        stamp, cell = float(fields[time]), int(fields[sender]) - first_id
    except ValueError:
        names = ("sender", "time") if sender < time else ("time", "sender")
        raise ValueError(f"is not '{names[0]}<tab>{names[1]}'") from None
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
    if wrong := _wrong_member(name):
        raise ValueError(f"array name {shortened(name)} {wrong}; give another, as 'v' or 'cells/v'")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # ragged lists, keys of JAX
        array = None
    if array is None or array.dtype.hasobject:
        raise TypeError(
            f"{name}={shortened(value)} is no array of numbers; give arrays, as {name}=record.times"
        )
    return array


def _wrong_member(name: str) -> str | None:
    """Why an array's name is no name in an archive, on any system that may unpack it."""
    parts = re.split(r"[/\\]", name)
    if any(part in ("", ".", "..") for part in parts) or re.match("[A-Za-z]:", name):
        return "is no name, or would leave the folder into which the file is unpacked"
    if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        return "holds characters that no file's name has"
    if name.endswith(".npy"):
        return "ends in '.npy', which NumPy adds itself and takes off again"
    if len(name.encode()) > _LONGEST_NAME:
        return f"has more than {_LONGEST_NAME} bytes"
    return None


def _parent(path: str | os.PathLike) -> Path:
    path = as_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
