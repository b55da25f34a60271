"""The faults of `tests/mutations.py` can still be put in."""

import subprocess
import sys
from pathlib import Path

import mutations
import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jsnn"


@pytest.mark.parametrize("own", mutations.MUTATIONS, ids=lambda own: own.name)
def test_its_text_stands_there_once(own):
    text = (PACKAGE / own.file).read_text()
    assert text.count(own.old) == 1
    compile(text.replace(own.old, own.new), own.file, "exec")


def test_there_are_twenty_of_different_names():
    assert len({own.name for own in mutations.MUTATIONS}) == len(mutations.MUTATIONS) == 20


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="copies what git lists")
def test_what_nobody_catches_is_an_error():
    """A delay too short beside tests that have none."""
    command = [sys.executable, mutations.__file__, "clipped-delay", "--no-baseline"]
    done = subprocess.run(
        [*command, "--with", "tests/test_layers.py"], capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "0 of 1 caught" in done.stdout and "caught by nobody: clipped-delay" in done.stdout
