"""The fit of a Brunel network: its program at a small size, and the derivatives that it goes by."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import fit_brunel as example  # noqa: E402


@pytest.mark.slow
def test_the_program_goes_the_right_way(tmp_path, monkeypatch):
    """500 neurons, two updates from one start."""
    monkeypatch.setattr(example, "NETWORKS", 1)
    monkeypatch.setattr(example, "RUNS", 2)
    wanted = {name: tmp_path / f"fit.{name}" for name in ("json", "png", "npz")}
    names = zip(("json", "plot", "save"), wanted.values(), strict=True)
    args = [part for name, path in names for part in (f"--{name}", str(path))]
    args += ["--scale", "0.4", "--duration", "150", "--starts", "1", "--updates", "2"]
    example.main(example.parser().parse_args(args))
    found = json.loads(wanted["json"].read_text())
    assert found["truth"] == example.TRUTH == {"g": 5.0, "eta": 2.0}
    assert found["n_starts"] == 1 and found["starts_converged"] in (0, 1)
    assert found["skipped"] == [0] and found["n_neurons"] == 500
    # Too much inhibition at first; what a single run of 150 ms says of the loss is mostly noise
    assert 0 < found["relative_error"]["g"] < found["guess"]["g"] / example.TRUTH["g"] - 1.02
    assert np.shape(found["loss"]) == (1, 2) and np.all(np.isfinite(found["loss"]))
    for name, true in example.TRUTH.items():
        assert found["relative_error"][name] == pytest.approx(found["estimate"][name] / true - 1)
        assert abs(found["guess"][name] / true - 1) <= example.OFF
        assert found["estimates"][0][name] == found["estimate"][name]
    assert found["data"]["rate"] > 5 and 0.1 < found["data"]["cv"] < 1.5
    assert wanted["png"].read_bytes().startswith(b"\x89PNG")
    with np.load(wanted["npz"]) as paths:
        assert set(paths) == {"loss", "g", "eta", "rate", "cv"}
        assert paths["g"].shape == (1, 2)
        assert paths["g"][0, 0] == pytest.approx(found["guess"]["g"])
        # A step is no longer than its longest, and is one
        step = [np.log(paths[name][0, 1] / paths[name][0, 0]) for name in example.TRUTH]
        assert 0.001 < np.linalg.norm(step) < example.RATE * example.LONGEST * 1.001


def test_late():
    """Geometric means of the later half, without what is not a number."""
    own = np.array([[9.0, 9.0, 2.0, 8.0], [9.0, 9.0, np.nan, 3.0], [1.0, 1.0, np.nan, np.nan]])
    np.testing.assert_allclose(example.late(own), [4.0, 3.0, np.nan])


@pytest.mark.parametrize(
    "args",
    [
        ["--devices", "2"],
        ["--starts", "0"],
        ["--updates", "1"],
        ["--duration", "30"],
        ["--scale", "0.01"],
    ],
    ids=" ".join,
)
def test_options_without_meaning(args):
    with pytest.raises(ValueError, match="order" if args[0] == "--scale" else args[0]):
        example.main(example.parser().parse_args(args))
