"""What several test files share, and how a run of them is kept short."""

import json
import os
from pathlib import Path

import program_cache
import pytest

program_cache.keep_programs()

import jax  # noqa: E402

# Tests run a process a core, each of which computes on one thread; those that they start decide
# for themselves
_given = os.environ.get("PJRT_NPROC")
os.environ["PJRT_NPROC"] = _given or "1"
jax.devices()  # reads it
if _given is None:
    del os.environ["PJRT_NPROC"]

MAPS = Path("/proc/self/maps")
MOST_MAPS = 20_000  # of the 65,530 that Linux lets a process have; and 2 GB of memory


@pytest.fixture
def x64():
    """Everything that holds arrays has to be built inside, and the run too."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs():
    """A compiled program holds memory maps, ten to eighty of them."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # files come as they are ordered below
    named = any("::" in arg for arg in config.args)
    if named and config.option.markexpr == "not slow":
        config.option.markexpr = ""  # a slow test that is asked for by its name is run


def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):
        program_cache.prune()


@pytest.hookimpl(tryfirst=True)  # before what -m asks for is chosen
def pytest_collection_modifyitems(items):
    """What is slow for some parameters is marked, by parts of their names.

    Files that take long come first, so that no worker is left alone with one at the end; those
    that were never measured before them. `suite_profile.py --profile-keep` measures."""
    for item in items:
        for mark in item.iter_markers("slow_for"):
            if not hasattr(item, "callspec"):
                raise pytest.UsageError(f"{item.nodeid}: slow_for, and it has no parameters")
            if any(part in item.callspec.id for part in mark.args):
                item.add_marker("slow")
    seconds = json.loads(Path(__file__).with_name("file_seconds.json").read_text())
    items.sort(key=lambda item: -seconds.get(item.path.name, 1e9))
