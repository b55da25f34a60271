"""What several test files share."""

import os

import jax
import pytest

# Tests run a process a core, each of which computes on one thread; those that they start decide
# for themselves
_given = os.environ.get("PJRT_NPROC")
os.environ["PJRT_NPROC"] = _given or "1"
jax.devices()  # reads it
if _given is None:
    del os.environ["PJRT_NPROC"]


@pytest.fixture
def x64():
    """Everything that holds arrays has to be built inside, and the run too."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def _forget_what_was_compiled():
    """Each compiled program holds some ten memory maps; a process may have 65,530 on Linux."""
    yield
    jax.clear_caches()
