"""Spikes and records in files that other programs read."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def save_ascii(
    path: str | os.PathLike, times: ArrayLike, index: ArrayLike, *, first_id: int = 1
) -> Path:
    """Write spikes as NEST's ASCII recorder does: a line with sender and time (ms) for each.

    `first_id` is the identity that cell 0 gets; NEST counts from 1.
    """
    times, index = np.asarray(times, np.float64), np.asarray(index)
    if times.ndim != 1 or times.shape != index.shape:
        raise ValueError(f"times {times.shape} and index {index.shape}: give two equal lists")
    lines = [
        "# jsnn: spikes",
        "# columns as in RecordingBackendASCII version: 2",
        "sender\ttime_ms",
    ]
    lines += [
        f"{i + first_id}\t{t:.3f}" for i, t in zip(index.tolist(), times.tolist(), strict=True)
    ]
    path = _parent(path)
    path.write_text("\n".join(lines) + "\n")
    return path


def load_ascii(path: str | os.PathLike, *, first_id: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Times (ms) and cell indices from a file as `save_ascii` and NEST write it."""
    rows = []
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        if not line or line.startswith("#") or line.startswith("sender"):
            continue
        try:
            sender, time = line.split("\t")[:2]
            rows.append((float(time), int(sender) - first_id))
        except ValueError:
            raise ValueError(f"{path}, line {number}: {line!r} is not 'sender<tab>time'") from None
    times, index = zip(*rows, strict=True) if rows else ((), ())
    return np.asarray(times, np.float64), np.asarray(index, np.int64)


def save_npz(path: str | os.PathLike, **arrays: Any) -> Path:
    """Write arrays to a compressed `.npz`, under the given name and no other."""
    path = _parent(path)
    with open(path, "wb") as file:  # np.savez itself would append an ending
        np.savez_compressed(
            file, allow_pickle=False, **{name: np.asarray(x) for name, x in arrays.items()}
        )
    return path


def _parent(path: str | os.PathLike) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
