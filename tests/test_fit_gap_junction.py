"""The fit of a gap junction and two channels finds what made the recording."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import fit_gap_junction as example  # noqa: E402


@pytest.mark.slow
def test_the_program_finds_the_truth(tmp_path):
    """With another noise than the one of its picture."""
    wanted = {name: tmp_path / f"fit.{name}" for name in ("json", "png", "npz")}
    names = zip(("json", "plot", "save"), wanted.values(), strict=True)
    args = [part for name, path in names for part in (f"--{name}", str(path))]
    example.main(example.parser().parse_args(["--seed", "3", *args]))
    found = json.loads(wanted["json"].read_text())
    assert found["truth"] == example.TRUTH
    for name, true in example.TRUTH.items():
        error = found["estimate"][name] / true - 1
        assert abs(error) < 0.01, name
        assert found["relative_error"][name] == pytest.approx(error)
        assert abs(example.GUESS[name] / true - 1) > 0.3, name
    assert len(found["loss"]) == len(example.RATES) * example.UPDATES
    assert found["loss"][0] > 100 and found["loss"][-1] < 1.2 * example.NOISE**2
    assert wanted["png"].stat().st_size > 0
    with np.load(wanted["npz"]) as traces:
        assert set(traces) == {"t", "recorded", "guess", "fit"}
        assert traces["fit"].shape == traces["recorded"].shape == (400, 2)


@pytest.mark.parametrize(
    "args", [["--scale", "2"], ["--duration", "3"], ["--duration", "10.01"]], ids=" ".join
)
def test_options_without_meaning(args):
    with pytest.raises(ValueError, match=args[0]):
        example.main(example.parser().parse_args(args))
