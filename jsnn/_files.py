"""Folders that one process at a time writes to, and files that are whole or not there."""

import contextlib
import errno
import json
import os
import secrets
import socket
import sys
import time
import warnings
import weakref
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME = "jsnn.lock"
_FAR = 2**30  # Windows locks bytes, and nobody else could read them: one beyond all text
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class Lock:
    """Of a folder, held by one thread of one process at a time, inside `with`.

    The system lets it go when the process ends, however that is, so that there are no stale ones.
    The file `jsnn.lock` says who has it, and stays. Processes of one machine see each other's on
    any file system that has locks; those of several machines where it is shared with its locks, as
    NFS is unless it is mounted with `nolock` or `local_lock`. Where there are none, a warning says
    so.

    Raises `ValueError` with the holder's name where another one has it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._file: int | None = None

    def __enter__(self) -> "Lock":
        path = self.folder / NAME
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file)
        except OSError as error:
            if error.errno in _TAKEN:
                holder = _holder(file)
                os.close(file)
                raise ValueError(
                    f"{str(self.folder)!r} is in use by {holder}; wait until that ends, or give "
                    "another folder"
                ) from None
            warnings.warn(
                f"the file system of {str(self.folder)!r} has no locks ({error.strerror}): see to "
                "it that one process at a time uses the folder",
                stacklevel=2,
            )
        except BaseException:
            os.close(file)
            raise
        self._file = file
        _HELD.add(self)
        me = {"pid": os.getpid(), "host": socket.gethostname()}
        me["since"] = time.strftime("%Y-%m-%d %H:%M:%S %z")
        with contextlib.suppress(OSError):  # on a full disk it has no name
            os.ftruncate(file, 0)
            os.write(file, json.dumps(me).encode())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


_HELD: "weakref.WeakSet[Lock]" = weakref.WeakSet()


def _let_go() -> None:
    for own in list(_HELD):
        own.close()


if hasattr(os, "register_at_fork"):  # a child would hold what its parent does, and outlive it
    os.register_at_fork(after_in_child=_let_go)


def _lock(file: int) -> None:
    if sys.platform == "win32":
        os.lseek(file, _FAR, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(file: int) -> str:
    try:
        os.lseek(file, 0, os.SEEK_SET)
        found = json.loads(os.read(file, 4096))
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has not written its name yet
        return "another process"


def write(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Put a file in its place whole or not at all, also if the machine stops. What was there goes
    to `keep`, if that is given.

    Raises `OSError` with the path and the bytes that it takes.
    """
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(beside, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {path}, {len(content):,} bytes: {error.strerror}; what was there before "
            "is whole, and the same call goes on from it",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # which has no such thing
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
