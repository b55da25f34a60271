"""Six parameters of an adaptive exponential neuron are recovered from a recording of NEST's."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import fit_adex as example  # noqa: E402


@pytest.mark.slow
def test_the_program_finds_the_truth(tmp_path):
    """From the first part of what NEST recorded, which is kept beside the tests."""
    steps, recording = 3000, example.load(str(example.STORED))
    short = recording._replace(
        current=recording.current[:steps],
        v=recording.v[:steps],
        spikes=recording.spikes[recording.spikes < steps],
    )
    np.savez(tmp_path / "short.npz", **short._asdict())
    wanted = {name: tmp_path / f"fit.{name}" for name in ("json", "png", "npz")}
    names = zip(("json", "plot", "save"), wanted.values(), strict=True)
    args = [part for name, path in names for part in (f"--{name}", str(path))]
    args += ["--starts", "2", "--seed", "3", "--frozen", str(tmp_path / "short.npz")]
    example.main(example.parser().parse_args(args))
    found = json.loads(wanted["json"].read_text())
    assert found["truth"] == example.TRUTH and len(found["truth"]) == 6
    assert found["starts_converged"] == found["n_starts"] == 2
    for name, true in example.TRUTH.items():
        for own in found["estimates"]:
            assert own[name] == pytest.approx(true, rel=0.05), name
        assert found["relative_error"][name] == pytest.approx(found["estimate"][name] / true - 1)
    assert max(abs(own / example.TRUTH[n] - 1) for n, own in found["guess"].items()) > 0.1
    assert found["free_rmse_mv"] < 1.0 and found["rates"]["all"] > 0
    assert wanted["png"].stat().st_size > 0
    with np.load(wanted["npz"]) as traces:
        assert traces["fit"].shape == traces["v"].shape == (steps,)


def test_the_stored_recording_is_that_of_nest():
    pytest.importorskip("nest")
    kept, own = example.load(str(example.STORED)), example.record(example.DURATION, example.SEED)
    np.testing.assert_array_equal(kept.spikes, own.spikes)
    np.testing.assert_allclose(kept.current, own.current, rtol=1e-12)
    np.testing.assert_allclose(kept.v, own.v, rtol=1e-9)


def test_the_model_with_the_true_parameters_is_the_recording():
    recording = example.load(str(example.STORED))
    v, spikes = example.free(recording, example.TRUTH)
    np.testing.assert_array_equal(spikes, recording.spikes)
    away = example.compared(recording) > 0
    np.testing.assert_allclose(v[away], recording.v[away], atol=0.02)


@pytest.mark.parametrize(
    "args", [["--scale", "2"], ["--duration", "100"], ["--starts", "0"]], ids=" ".join
)
def test_options_without_meaning(args):
    with pytest.raises(ValueError, match=args[0]):
        example.main(example.parser().parse_args(args))
