"""Checkpoints of a long run: a folder with the state and the records of every segment so far.

    jsnn.lock               who uses the folder
    state.npz               the state at the end of the last segment, and what leads up to it
    state.old.npz           that of the segment before
    records-0000000000.npz  what was recorded in the segment that begins with this step

Each file is written beside its place and then moved there, so that a run killed at any moment
leaves a whole state, of which the records are whole. Files hold plain arrays and their digests;
nothing is pickled. What is damaged is set aside, and what is not of a run is left alone.
"""

import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnn import _files
from jsnn._content import digest
from jsnn._math import real_dtype

_FORMAT = 2
_STATE, _OLD = "state.npz", "state.old.npz"
_OURS = re.compile(
    r"jsnn\.lock|(state|state\.old|records-\d{10,})\.npz(\.[0-9a-f]*\.?new|\.damaged\d*)?"
)
_DIGEST = hashlib.sha256().digest_size
_MOST_NAMES = 5  # in a message

Part = tuple[int, int, dict[str, np.ndarray]]


class _Damaged(Exception):
    """A file does not hold what was written."""


class Checkpoint:
    """A folder that one run writes to, inside `with`, and the same run can be resumed from.

    `fingerprint` tells the run apart from others: digests or values by the names of what they are
    of. A fit is a run too, of updates.
    """

    def __init__(self, folder: str | os.PathLike, fingerprint: Mapping[str, str]):
        if not isinstance(folder, (str, os.PathLike)) or not str(folder):
            raise TypeError(f"checkpoint={folder!r} is not a path; give a folder")
        self.folder = Path(folder)
        self.fingerprint = dict(fingerprint)
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise ValueError(f"checkpoint={str(self.folder)!r} is a file; give a folder")
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"checkpoint={str(self.folder)!r} cannot be made: {error}") from error
        self._lock = _files.Lock(self.folder)
        self._segments: list[tuple[int, int, str]] = []  # first step, last step, digest
        self._is_whole = False  # the state that the next one follows

    def __enter__(self) -> "Checkpoint":
        try:
            self._lock.__enter__()
        except ValueError as error:
            raise ValueError(f"checkpoint={error}") from None
        except OSError as error:
            raise ValueError(
                f"checkpoint={str(self.folder)!r} cannot be written: {error}"
            ) from error
        try:
            self._look_around()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def _look_around(self) -> None:
        """Clear away what a killed process had begun to write, and tell of what is not a run's."""
        names = sorted(own.name for own in self.folder.iterdir())
        if folders := [n for n in names if _OURS.fullmatch(n) and (self.folder / n).is_dir()]:
            raise ValueError(
                f"checkpoint={str(self.folder)!r} holds {_listed(folders)}, a folder where a run "
                "keeps a file; remove it, or give another folder"
            )
        for name in names:
            if _OURS.fullmatch(name) and name.endswith(".new"):
                (self.folder / name).unlink(missing_ok=True)
        others = [n for n in names if not _OURS.fullmatch(n) and not n.startswith(".")]
        if others:
            warnings.warn(
                f"checkpoint={str(self.folder)!r} holds {_listed(others)} beside the files of a "
                "run; they are left alone",
                stacklevel=2,
            )

    def save(self, state: Any, first_step: int, last_step: int, records: Mapping[str, Any]) -> None:
        """Keep the records of a segment, and the state at its end.

        Raises `OSError`, with the path and the bytes that it takes, where these cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        content = _pack({"names": list(records)}, list(records.values()))
        _files.write(self._segment_file(first_step), content)
        segment = (first_step, last_step, hashlib.sha256(content).hexdigest())
        header = {"fingerprint": self.fingerprint, "segments": [*self._segments, segment]}
        content = _pack(header, jax.tree.leaves(state))
        old = self.folder / _OLD if self._is_whole else None
        _files.write(self.folder / _STATE, content, keep=old)
        self._segments.append(segment)
        self._is_whole = True

    def load(self, like: Any) -> tuple[Any, list[Part]] | None:
        """The last whole state with the records of all segments before it, or None if there is
        none. A warning tells of files that are damaged, which are set aside.

        `like` is a state of the same structure. Raises `ValueError` for files of another run.
        """
        wrong: dict[str, str] = {}  # by name of a file, what is wrong with it
        found = None
        for name in (_STATE, _OLD):
            if (self.folder / name).exists():
                try:
                    found = self._load(self.folder / name, like, wrong)
                except _Damaged:
                    wrong.setdefault(name, "damaged")
                if found is not None:
                    self._is_whole = name == _STATE
                    break
        if wrong:
            self._set_aside(wrong)
        return found

    def _load(self, path: Path, like: Any, wrong: dict[str, str]) -> tuple[Any, list[Part]] | None:
        header, arrays = _unpack(path.read_bytes())
        if header["format"] != _FORMAT:
            raise ValueError(
                f"checkpoint {path} has format {header['format']}, this jsnn reads {_FORMAT}; give "
                "another folder"
            )
        if differing := _differing(header["fingerprint"], self.fingerprint):
            raise ValueError(
                f"checkpoint {path} is of another run, which differs in {differing}; give another "
                "folder, or remove this one"
            )
        leaves, structure = jax.tree.flatten(like)
        edges = {id(leaf) for leaf in jax.tree.leaves(getattr(like, "edges", ()))}
        if len(arrays) != len(leaves):
            raise _Damaged
        for mine, other in zip(arrays, leaves, strict=True):
            # Room for edges may have been made since
            shape = (lambda x: x.ndim) if id(other) in edges else (lambda x: x.shape)
            if mine.dtype != other.dtype or shape(mine) != shape(other):
                raise _Damaged
        parts: list[Part] = []
        segments = [(int(first), int(last), str(own)) for first, last, own in header["segments"]]
        for first, last, own in segments:
            file = self._segment_file(first)
            content = file.read_bytes() if file.exists() else b""
            if hashlib.sha256(content).hexdigest() != own:
                wrong.setdefault(file.name, "damaged" if file.exists() else "missing")
                return None
            names, values = _unpack(content)
            parts.append((first, last, dict(zip(names["names"], values, strict=True))))
        self._segments = segments
        return jax.tree.unflatten(structure, [jnp.asarray(x) for x in arrays]), parts

    def _set_aside(self, wrong: Mapping[str, str]) -> None:
        """Move what is not used away, so that nothing is written over it."""
        used = {self._segment_file(first).name for first, *_ in self._segments}
        used |= {_STATE} if self._is_whole else {_OLD} if self._segments else set()
        for path in sorted(self.folder.iterdir()):
            if path.name.endswith(".npz") and _OURS.fullmatch(path.name) and path.name not in used:
                aside, n = path.with_name(f"{path.name}.damaged"), 1
                while aside.exists():
                    aside, n = path.with_name(f"{path.name}.damaged{n}"), n + 1
                os.replace(path, aside)
        told = _listed([f"{name} ({what})" for name, what in wrong.items()])
        onwards = "begins anew"
        if self._segments:
            onwards = f"goes on from step {self._segments[-1][1]}, the last that is whole"
        warnings.warn(
            f"checkpoint={str(self.folder)!r}: {told}; what is not used is set aside as .damaged, "
            f"and the run {onwards}",
            stacklevel=2,
        )

    def _segment_file(self, first_step: int) -> Path:
        return self.folder / f"records-{first_step:010d}.npz"


def surroundings(device: Any) -> dict[str, str]:
    """What the last digits of a run depend on beside the run itself."""
    config: Any = jax.config
    return {
        "version of jsnn": _version_of_jsnn(),
        "version of jax": jax.__version__,
        "version of jaxlib": importlib.metadata.version("jaxlib"),
        "precision": f"{real_dtype()}, products {config.jax_default_matmul_precision}",
        "random numbers": f"threefry_partitionable={config.jax_threefry_partitionable}",
        "platform": f"{device.platform}, {device.device_kind}, {platform.machine()}",
    }


def computed(function: Callable) -> str:
    """A digest of what a function of one number computes."""
    made = jax.make_jaxpr(function)(jnp.zeros((), real_dtype()))
    text = re.sub("0x[0-9a-f]+", "", str(made))
    return digest([text, *_constants(made)])


@cache
def _version_of_jsnn() -> str:
    """With a digest of its code: between releases the version stays and what it does does not."""
    try:
        version = importlib.metadata.version("jsnn")
    except importlib.metadata.PackageNotFoundError:
        version = "from source"
    content = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        content.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return f"{version} ({content.hexdigest()[:12]})"


def _constants(jaxpr: Any) -> Iterator[Any]:
    """The arrays that a function closes over, also those of functions inside."""
    yield from getattr(jaxpr, "consts", ())
    is_jaxpr = lambda value: hasattr(value, "eqns")  # noqa: E731
    for equation in jaxpr.eqns:
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(inner):
                yield from _constants(inner)


def _differing(theirs: Mapping[str, str], mine: Mapping[str, str]) -> str:
    """What two runs differ in; of short values, both."""
    names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
    one_sided = [name for name in names if name not in mine or name not in theirs]
    # A part says more than what it is in, unless only one of the two runs has that at all
    names = [n for n in names if not any(_is_in(n, other) for other in one_sided)]
    names = [n for n in names if not any(_is_in(other, n) for other in names)]
    names.sort(key=lambda name: "." in name or "[" in name)
    shown = {"dt", *surroundings(jax.devices()[0])}
    return _listed(
        [f"{n} ({theirs.get(n)} there, {mine.get(n)} here)" if n in shown else n for n in names]
    )


def _is_in(name: str, other: str) -> bool:
    return name.startswith((f"{other}.", f"{other}["))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _pack(header: Mapping[str, Any], arrays: list[Any]) -> bytes:
    """Arrays in the order of a list: as names, users' own might be none of an archive. The digest
    of all that is before it stands at the end."""
    text = json.dumps({"format": _FORMAT, **header}).encode()
    members = {f"array_{i}": np.asarray(own) for i, own in enumerate(arrays)}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, header=np.frombuffer(text, np.uint8), **members)
    return file.getvalue() + hashlib.sha256(file.getbuffer()).digest()


def _unpack(content: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The header and the arrays. Raises `_Damaged` unless these are what was packed."""
    try:
        is_whole = hashlib.sha256(content[:-_DIGEST]).digest() == content[-_DIGEST:]
        with np.load(io.BytesIO(content[:-_DIGEST] if is_whole else content)) as file:
            if not is_whole:
                return {"format": int(file["format"])}, []  # the first one, which had no header
            header = json.loads(file["header"].tobytes())
            return header, [file[f"array_{i}"] for i in range(len(file.files) - 1)]
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        raise _Damaged from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        raise _Damaged from None
