"""The fit of a gap junction and two channels finds what made the recording."""

import json
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import fit_gap_junction as example  # noqa: E402


def test_another_noise_and_guess():
    factors = (0.5, 0.65, 0.6)
    network = example.build()
    data = example.record(network, 20.0, seed=3)
    guess = {
        name: jnp.asarray(factor * true)
        for factor, (name, true) in zip(factors, example.TRUTH.items(), strict=True)
    }
    estimate, losses = example.fit(network, data, guess)
    for name, true in example.TRUTH.items():
        np.testing.assert_allclose(estimate[name], true, rtol=0.01, err_msg=name)
    assert losses[0, 0] > 100 and losses[-1, -1] < 1.2 * example.NOISE**2


def test_the_program_finds_the_truth(tmp_path):
    wanted = {name: tmp_path / f"fit.{name}" for name in ("json", "png", "npz")}
    names = zip(("json", "plot", "save"), wanted.values(), strict=True)
    args = [part for name, path in names for part in (f"--{name}", str(path))]
    example.main(example.parser().parse_args(args))
    found = json.loads(wanted["json"].read_text())
    assert found["truth"] == example.TRUTH
    for name, true in example.TRUTH.items():
        error = found["estimate"][name] / true - 1
        assert abs(error) < 0.01, name
        assert found["relative_error"][name] == pytest.approx(error)
        assert abs(example.GUESS[name] / true - 1) > 0.3, name
    assert len(found["loss"]) == len(example.RATES) * example.UPDATES
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
