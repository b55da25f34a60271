"""Checkpoints of a long run: a folder with the state and the records of every segment so far.

Each file is written beside its place and then moved there, so that a run killed at any moment
leaves the last complete state. Files hold plain arrays and their digests; nothing is pickled.
"""

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnn._math import real_dtype

_FORMAT = 1
_STATE = "state.npz"


class Checkpoint:
    """A folder that one run writes to, and the same run can be resumed from.

    `fingerprint` tells the run apart from others, in what it `differs`: network, initial state and
    recorders. A fit is a run too, of updates.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        fingerprint: str,
        differs: str = "network, key, recorders or precision",
    ):
        if not isinstance(folder, (str, os.PathLike)) or not str(folder):
            raise TypeError(f"checkpoint={folder!r} is not a path; give a folder")
        self.folder = Path(folder)
        self.fingerprint, self.differs = fingerprint, differs
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise ValueError(f"checkpoint={str(self.folder)!r} is a file; give a folder")
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"checkpoint={str(self.folder)!r} cannot be made: {error}") from error
        self._segments: list[tuple[int, int, str]] = []  # first step, last step, digest

    def save(self, state: Any, first_step: int, last_step: int, records: Mapping[str, Any]) -> None:
        """Keep the records of a segment, and the state at its end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = _pack({name: value for name, value in records.items()})
        _write(self._segment_file(first_step), content)
        digest = hashlib.sha256(content).hexdigest()
        self._segments.append((first_step, last_step, digest))
        leaves = {f"leaf_{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(state))}
        header = {
            "format": np.asarray(_FORMAT),
            "fingerprint": np.asarray(self.fingerprint),
            "steps": np.asarray([s[:2] for s in self._segments], np.int64),
            "digests": np.asarray([s[2] for s in self._segments]),
        }
        arrays = {**header, **leaves}
        _write(self.folder / _STATE, _pack({**arrays, "digest": np.asarray(_digest(arrays))}))

    def load(self, like: Any) -> tuple[Any, list[tuple[int, int, dict[str, np.ndarray]]]] | None:
        """The state and the records of all segments, or None if there is no checkpoint yet.

        `like` is a state of the same structure. Raises `ValueError` for files that are damaged or
        belong to another run.
        """
        path = self.folder / _STATE
        if not path.exists():
            return None
        arrays = _unpack(path, path.read_bytes())
        try:
            digest = str(arrays.pop("digest"))
            if digest != _digest(arrays):
                raise _damaged(path)
            version, fingerprint = int(arrays["format"]), str(arrays["fingerprint"])
            steps, digests = arrays["steps"].tolist(), arrays["digests"].tolist()
        except (KeyError, ValueError, TypeError):
            raise _damaged(path) from None
        if version != _FORMAT:
            raise ValueError(f"checkpoint {path} has format {version}, this jsnn reads {_FORMAT}")
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"checkpoint {path} is of another run ({self.differs} differ); give another "
                "folder, or remove this one"
            )
        self._segments = [(*s, d) for s, d in zip(steps, digests, strict=True)]
        leaves, structure = jax.tree.flatten(like)
        edges = {id(leaf) for leaf in jax.tree.leaves(getattr(like, "edges", ()))}
        loaded = [arrays.get(f"leaf_{i}") for i in range(len(leaves))]
        for mine, other in zip(loaded, leaves, strict=True):
            if mine is None or mine.dtype != other.dtype:
                raise _damaged(path)
            # Room for edges may have been made since
            shape = (lambda x: x.ndim) if id(other) in edges else (lambda x: x.shape)
            if shape(mine) != shape(other):
                raise _damaged(path)
        segments = []
        for first, last, digest in self._segments:
            file = self._segment_file(first)
            if not file.exists():
                raise ValueError(f"checkpoint {file} is missing; remove the folder to start anew")
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise _damaged(file)
            segments.append((first, last, _unpack(file, content)))
        return jax.tree.unflatten(structure, [jnp.asarray(x) for x in loaded]), segments

    def _segment_file(self, first_step: int) -> Path:
        return self.folder / f"records-{first_step:010d}.npz"


def fingerprint(*trees: Any, functions: Sequence[Callable] = ()) -> str:
    """A digest of the arrays, the structure and the static parts of trees, and of what functions
    of one number compute, wherever in memory all these lie."""
    digest = hashlib.sha256()
    for tree in trees:
        leaves, structure = jax.tree.flatten(tree)
        digest.update(_without_addresses(structure))
        for leaf in leaves:
            if callable(leaf):
                digest.update(_without_addresses(leaf))
            else:
                _add(digest, leaf)
    for function in functions:
        made = jax.make_jaxpr(function)(jnp.zeros((), real_dtype()))
        digest.update(_without_addresses(made))
        for array in _constants(made):
            _add(digest, array)
    return digest.hexdigest()


def _without_addresses(value: Any) -> bytes:
    return re.sub("0x[0-9a-f]+", "", str(value)).encode()


def _add(digest: Any, leaf: Any) -> None:
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    digest.update(f"{array.dtype}{array.shape}".encode())
    digest.update(array.tobytes())


def _constants(jaxpr: Any) -> Iterator[Any]:
    """The arrays that a function closes over, also those of functions inside."""
    yield from getattr(jaxpr, "consts", ())
    is_jaxpr = lambda value: hasattr(value, "eqns")  # noqa: E731
    for equation in jaxpr.eqns:
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(inner):
                yield from _constants(inner)


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _damaged(path: Path) -> ValueError:
    return ValueError(f"checkpoint {path} is damaged; remove its folder to start anew")


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _unpack(path: Path, content: bytes) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, NotImplementedError):
        raise _damaged(path) from None


def _write(path: Path, content: bytes) -> None:
    """Put a file in its place whole or not at all, also if the machine stops."""
    beside = path.with_name(path.name + ".new")
    with open(beside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
