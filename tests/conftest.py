"""What several test files share."""

import jax
import pytest


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
