"""What numbers the examples take on their command lines: an error that names the option, in a line,
before anything is built."""

import argparse
import importlib
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import common  # noqa: E402

NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if "common.parser(" in path.read_text())
NO_NUMBERS = ["nan", "inf", "-inf", "1e400", "x", ""]
OUTSIDE = {
    "--duration": ["0", "-1", "1e300", "0.003"],
    "--scale": ["0", "-1", "1e300"],
    "--seed": ["-1", str(2**32), "1.5"],
    "--devices": ["0", "-1", "9999", "1.5"],
    "--starts": ["0", "-1"],
    "--updates": ["0", "-1"],
    "--epochs": ["0", "-1"],
    "--seeds": ["0", "-1"],
    "--points": ["0", "-1"],
    "--batch": ["0", "-1"],
    "--singles": ["-1"],
    "--delay": ["-1", "0.003"],
    "--update-interval": ["0", "-1", "0.003"],
    "--lesion-at": ["0", "-1", "1000.003"],
    "--pool-size": ["0", "-1"],
    "--p-primary": ["-1", "1.5"],
    "--p-third": ["-1", "1.5"],
    "--gap-weight": ["-1"],
    "--eta": ["-1"],
    "--g": [],  # of any sign
}
# What errors of the library, in which there are no options, call them
WORDS = {
    "--gap-weight": "conductance",
    "--pool-size": "pool_size",
    "--p-primary": "probability",
    "--p-third": "probability",
}


class Built(Exception):
    """A network was built, or NEST asked, in spite of what was given."""


def numeric(name):
    """The options of an example that take numbers."""
    for action in importlib.import_module(name).parser()._actions:
        if action.type is not None:
            yield action.option_strings[0]


CASES = [(name, option) for name in NAMES for option in numeric(name)]


@pytest.fixture
def nothing_is_built(monkeypatch):
    def built(*_, **__):
        raise Built

    monkeypatch.setattr("jsnn.Network", built)
    monkeypatch.setattr("jsnn.connect.connect", built)
    monkeypatch.setattr(common.jax.config, "update", lambda *_: None)


@pytest.mark.parametrize(("name", "option"), CASES, ids=lambda value: value)
def test_numbers_are_looked_at_first(name, option, monkeypatch, capsys, nothing_is_built):
    module = importlib.import_module(name)
    for value in NO_NUMBERS + OUTSIDE[option]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", f"{option}={value}"])
        with pytest.raises(SystemExit):
            common.run(module.main, module.parser())
        error = capsys.readouterr().err.strip().splitlines()[-1]
        word = WORDS.get(option, option.strip("-"))
        assert option in error or word in error, f"{option}={value}: {error}"


def test_all_numbers_are_finite():
    """No option takes what Python's own float does."""
    for name, option in CASES:
        actions = importlib.import_module(name).parser()._actions
        kinds = [own.type for own in actions if option in own.option_strings]
        assert kinds[0] in (int, common.finite), f"{name} {option}"


def test_a_number_passes_unchanged():
    made = common.parser("Any", 100.0, 0.1)
    assert isinstance(made, argparse.ArgumentParser)
    args = made.parse_args(["--duration", "12.5", "--scale", "0.1"])
    assert (args.duration, args.scale) == (12.5, 0.1)
