"""Some of the random networks of `tests/at_random`, each run in every way that must agree."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = str(Path(__file__).with_name("at_random"))
WAYS = "cut,resumed,two devices,SegmentSum,Network.step,a batch"
# Structures that compile soon, several a process; more features, and gradients, are in what is slow
FEW = [(45, 58, 39, 44, 46), (41, 51, 56)]
MORE = [(47, 21), (43, 11)]
DRAWS = 6


def command(*arguments):
    arguments = map(str, (sys.executable, COMMAND, *arguments))
    return subprocess.run(list(arguments), capture_output=True, text=True)


def agree(path, numbers, draws, *arguments):
    """No violation, and enough spikes that say so."""
    told = ("--jobs", 1, "--batch", len(numbers), "--draws", draws, "--json", path)
    done = command("--structures", ",".join(map(str, numbers)), *told, *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(path.read_text())
    wanted = [(number, draw) for number in numbers for draw in range(draws)]
    assert [(own["structure"], own["draw"]) for own in found] == wanted
    for own in found:
        assert own["delivered"] >= 50 and not own["found"]
        assert (own["programs"] == 0) == (own["draw"] > 0)


@pytest.mark.parametrize("numbers", FEW, ids=str)
def test_every_way_gives_the_same(tmp_path, numbers):
    agree(tmp_path / "found.json", numbers, DRAWS, "--only", WAYS)


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [*FEW, *MORE], ids=str)
def test_gradients_are_those_of_sums(tmp_path, numbers):
    agree(tmp_path / "found.json", numbers, DRAWS, "--only", "gradient")


@pytest.mark.slow
@pytest.mark.parametrize("numbers", MORE, ids=str)
def test_every_way_of_more_gives_the_same(tmp_path, numbers):
    agree(tmp_path / "found.json", numbers, DRAWS, "--only", WAYS)


def test_a_structure_is_drawn_from_its_number():
    first, again, other = (command("--show", number).stdout for number in (17, 17, 18))
    assert first == again != other and "Population(" in first


def test_shrinking_leaves_what_fails(monkeypatch):
    monkeypatch.syspath_prepend(COMMAND)
    from shrink import shrunk
    from structure import structure

    def fails(own):
        return any("release=Tsodyks" in str(call) for call in own.projections.values())

    number = next(number for number in range(60) if fails(structure(number)))
    left = shrunk(structure(number), fails)
    assert fails(left) and list(left.projections.values())[0].options.keys() == {"release"}
    assert len(left.projections) == 1 and not (left.inputs or left.record or left.couplings)


def test_the_table_counts_pairs(monkeypatch):
    monkeypatch.syspath_prepend(COMMAND)
    from table import table

    draw = {"structure": 1, "counts": True, "features": ["a", "b"]}
    silent = {"structure": 3, "counts": False, "features": ["a", "c"]}
    found = table([draw, draw, {**draw, "structure": 2, "features": ["b", "c"]}, silent])
    rows = {line.split()[0]: line.split()[1:] for line in found.splitlines()[1:-1]}
    assert rows == {"a": ["1", "2", "1"], "b": ["2", "3", "2"], "c": ["1", "1", "1"]}
    assert "3 features, 2 of 3 pairs" in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--structures", "three"), "--structures"),
        (("--only", "sideways"), "--only"),
        (("--draws", "0"), "--draws"),
        (("--structures", "-1"), "--structures"),
        (("--draw", "-1"), "--draw"),
        (("--jobs", "0"), "--jobs"),
        (("--shrink",), "--shrink"),
    ],
    ids=str,
)
def test_arguments_without_meaning(arguments, message):
    done = command(*arguments)
    assert done.returncode == 2 and message in done.stderr
