"""The sheet of neurons with a lesion, as a program, and the pieces that it is made of."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import structural_lesion as lesion  # noqa: E402


def run(*arguments):
    lesion.main(lesion.parser().parse_args([str(own) for own in arguments]))


def test_the_disc_is_one_slice():
    for scale in (0.1, 0.5, 1.0):
        sheet = lesion.Sheet.of(scale)
        n_inside = np.sum(sheet.away < sheet.radius)
        assert np.all(sheet.away[sheet.disc] < sheet.radius) and n_inside < sheet.n / 3
        assert n_inside == sheet.disc.stop - sheet.disc.start
        rings = np.array([sheet.zones[name] for name in lesion.RINGS])
        np.testing.assert_array_equal(rings.sum(0), np.arange(sheet.n) < sheet.side**2)
        # A picture has every cell at its place
        x, y = sheet.map(sheet.places[:, 0]), sheet.map(sheet.places[:, 1])
        along = np.arange(sheet.side) + 0.5
        np.testing.assert_array_equal(x, np.broadcast_to(along, x.shape))
        np.testing.assert_array_equal(y, x.T)


@pytest.mark.slow
def test_as_a_program(tmp_path, capsys):
    """A small sheet that has grown, and whose disc dies: every file that is written."""
    files = {"json": "json", "plot": "png", "save": "npz"}
    files = {name: tmp_path / f"a.{ending}" for name, ending in files.items()}
    names = [part for name, path in files.items() for part in (f"--{name}", path)]
    run("--scale", 0.2, "--duration", 47_000, "--lesion-at", 35_000, "--delete", *names)
    assert "Simulation time" in capsys.readouterr().out
    found = json.loads(files["json"].read_text())
    assert found["n_neurons"] == 80 and found["deleted"] and found["n_disc"] > 10
    assert found["n_synapses"] == sum(found["n_synapses_by_kind"].values()) > 100
    disc, border = found["calcium"]["disc"], found["calcium"]["border"]
    assert disc["before"] > 0.04 and disc["end"] < 0.12 * disc["before"]
    assert border["end"] > 0.04
    inward = found["synapses_into_zone"]
    assert found["zone"] == "border" and inward["from outside"]["end"] > 20
    assert inward["from the disc"]["before"] > 5 and inward["from the disc"]["end"] == 0
    assert 0 < found["reach"]["before"] < 5 and 0 < found["reach"]["end"] < 5
    assert files["plot"].stat().st_size > 10_000
    with np.load(files["save"]) as saved:
        n, disc = len(saved["places"]), lesion.Sheet.of(0.2).disc
        assert saved["t"].tolist() == [*range(5_000, 45_001, 5_000), 47_000]
        assert saved["ca"].shape == (10, n)
        for kind, count in found["n_synapses_by_kind"].items():
            ends = saved[f"{kind}_pre"], saved[f"{kind}_post"]
            assert ends[0].size == count
            assert not np.isin(ends, np.arange(n)[disc]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scale", 0.01), "leaves no sheet"),
        (("--lesion-at", 400_000), "--lesion-at 400000: give more than 0 ms, and less"),
        (("--lesion-at", 0), "--lesion-at 0"),
        (("--lesion-at", 1000.5), "is no whole number of steps"),
        (("--frozen", "a.npz"), "--frozen a.npz"),
    ],
)
def test_networks_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        run(*arguments)
