"""Compiled programs are kept from run to run of the tests, in a folder of this machine.

XLA's programs for a CPU are machine code for its features, so that the folder is named after them
and after the version of jaxlib; JAX keys what is in it by the program and the options. Another
folder is taken from JSNN_TEST_CACHE, none if that is empty. To remove the folder is safe at any
time, since what is not there is compiled.
"""

import contextlib
import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

MOST_BYTES = 2**30
DIGITS = 16  # of the name of a folder of one machine's


def machine() -> str:
    """All that machine code for a CPU depends on."""
    told = [version("jaxlib"), platform.system(), platform.machine(), platform.processor()]
    features = Path("/proc/cpuinfo")
    if features.exists():
        kinds = ("flags", "Features", "model name")
        lines = features.read_text().splitlines()
        told += sorted({line for line in lines if line.startswith(kinds)})
    return "\n".join(told)


def folder() -> Path | None:
    """Where the programs are kept, if they are."""
    given = os.environ.get("JSNN_TEST_CACHE")
    if given == "":
        return None
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        root = Path(given or Path(cache) / "jsnn-tests").expanduser().absolute()
    except RuntimeError:  # where there is no home
        return None
    return root / hashlib.sha256(machine().encode()).hexdigest()[:DIGITS]


def keep_programs() -> None:
    """In this process, before it imports JAX, and in those that it starts."""
    path = folder()
    if path is None or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:  # as where nothing may be written
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(path)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def prune(most_bytes: int = MOST_BYTES) -> None:
    """Remove programs of whatever machine above a size, those first that were not used for longest,
    and empty files: they were being written when a process ended."""
    path = folder()
    if path is None or not path.parent.is_dir():
        return
    files = []
    for own in path.parent.glob(f"{'[0-9a-f]' * DIGITS}/*-cache"):  # nothing that is not ours
        try:
            about = own.stat()
        except OSError:  # removed meanwhile
            continue
        if own.is_file():
            files.append((max(about.st_mtime, about.st_atime), about.st_size, own))
    total = 0
    for _, size, own in sorted(files, key=lambda file: file[0], reverse=True):
        total += size
        if total > most_bytes or not size:
            with contextlib.suppress(OSError):  # removed meanwhile, or where nothing may be
                own.unlink()
