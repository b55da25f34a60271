"""What several test files share."""

import jax
import pytest


@pytest.fixture
def x64():
    """Everything that holds arrays has to be built inside, and the run too."""
    with jax.enable_x64(True):
        yield
