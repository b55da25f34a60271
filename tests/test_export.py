import jax
import numpy as np
import pytest

from jsnn import export

HEADER = "# NEST version: 3.10.0\n# RecordingBackendASCII version: 2\n"


class Record:
    times = index = None


def test_ascii_there_and_back(tmp_path):
    times, index = np.arange(1, 5001) * 0.1, np.arange(5000) % 7
    path = export.save_ascii(tmp_path / "new" / "a.dat", times, index)
    lines = path.read_text().splitlines()
    assert lines[2:5] == ["sender\ttime_ms", "1\t0.100", "2\t0.200"]
    stamps, cells = export.load_ascii(path)
    np.testing.assert_allclose(stamps, times, rtol=1e-15)
    np.testing.assert_array_equal(cells, index)
    path = export.save_ascii(path, [], [], first_id=0)
    assert [column.size for column in export.load_ascii(path, first_id=0)] == [0, 0]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "dt, decimals", [(0.1, 3), (0.125, 3), (0.001, 3), (1e-4, 4), (0.03125, 5)]
)
def test_stamps_get_the_decimals_that_they_need(tmp_path, dt, decimals, dtype):
    times = (np.arange(1, 3000) * dt).astype(dtype)
    path = export.save_ascii(tmp_path / "a.dat", times, np.zeros(2999, int))
    written = [line.split(".")[1] for line in path.read_text().splitlines()[3:]]
    assert {len(text) for text in written} == {decimals}
    stamps, _ = export.load_ascii(path)
    np.testing.assert_array_equal(stamps.astype(dtype), np.round(times, decimals))
    assert np.unique(stamps).size == 2999


def test_stamps_off_any_grid_keep_their_digits(tmp_path):
    times = np.append(np.random.default_rng(1).uniform(0, 1e5, 1000), 1e306)
    path = export.save_ascii(tmp_path / "a.dat", times, np.zeros(1001, int))
    np.testing.assert_allclose(export.load_ascii(path)[0], times, rtol=1e-15)


@pytest.mark.parametrize(
    "times, index, first_id, words",
    [
        ([np.nan], [0], 1, r"times\[0\] is nan; .* finite"),
        ([1.0, -5.0], [0, 0], 1, r"times\[1\] is -5.0; .* at least 0"),
        (["x"], [0], 1, r"times is \['x'\]; .* array of real numbers"),
        (Record(), [0], 1, r"times is .* Give record.times of the Record"),
        ([1.0], Record(), 1, r"index is .* Give record.index of the Record"),
        ([1.0], [1.5], 1, r"index has dtype float64; .* integers"),
        ([1.0], [-1], 1, r"index\[0\] is -1; .* at least 0"),
        ([1.0], [0, 1], 1, r"times has 1 entries and index 2"),
        ([1.0], [0], np.nan, r"first_id is nan; .* whole number"),
        ([1.0], [0], True, r"first_id is True; .* whole number"),
        ([1.0], [0], "1", r"first_id is '1'; .* whole number"),
        ([1.0], [0], -1, r"first_id is -1; .* at least 0"),
    ],
)
def test_what_save_ascii_refuses(tmp_path, times, index, first_id, words):
    path = tmp_path / "new" / "a.dat"
    with pytest.raises((TypeError, ValueError), match=words):
        export.save_ascii(path, times, index, first_id=first_id)
    assert not path.parent.exists()


@pytest.mark.parametrize(
    "text, words",
    [
        ("sender\ttime_step\ttime_offset\n2\t28\t0.000\n", r"line 3: .*time_in_steps=False"),
        ("sender\ttime_ms\n0\t1.000\n", r"line 4: '0\\t1.000' has no sender from first_id=1"),
        ("1" * 20 + "\t1.0\n", r"line 3: .* has no sender"),
        ("1\tnan\n", r"line 3: '1\\tnan' has no time that is finite"),
        ("1\t-1.0\n", r"line 3: '1\\t-1.0' has no time that is finite and at least 0"),
        ("1 1.0\n", r"line 3: '1 1.0' is not 'sender<tab>time'"),
        ("1\n", r"line 3: '1' is not 'sender<tab>time'"),
    ],
)
def test_what_load_ascii_refuses(tmp_path, text, words):
    path = tmp_path / "a.dat"
    path.write_text(HEADER + text)
    with pytest.raises(ValueError, match=words):
        export.load_ascii(path)


def test_load_ascii_refuses_what_is_no_text(tmp_path):
    path = export.save_npz(tmp_path / "a.npz", a=np.full(100, 200, np.uint8))
    with pytest.raises(ValueError, match=r"path is .*a\.npz', which holds no text"):
        export.load_ascii(path)


def test_npz_there_and_back(tmp_path):
    path = export.save_npz(tmp_path / "new" / "a", v=[1.0, 2.0], name="exc", path_=np.arange(3))
    assert path == tmp_path / "new" / "a"
    with np.load(path) as arrays:
        assert sorted(arrays) == ["name", "path_", "v"]
        np.testing.assert_array_equal(arrays["v"], [1.0, 2.0])


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("a", None, r"a=None is no array"),
        ("a", [[1], [1, 2]], r"a=\[\[1\], \[1, 2\]\] is no array"),
        ("a", Record(), r"a=<.* is no array of numbers; .* a=record.times"),
        ("a", jax.random.key(1), r"a=.* is no array"),
        ("file", 1.0, r"file=1.0: NumPy keeps this name"),
        ("allow_pickle", True, r"allow_pickle=True: NumPy keeps this name"),
    ],
)
def test_what_save_npz_refuses(tmp_path, name, value, words):
    path = tmp_path / "new" / "a.npz"
    with pytest.raises((TypeError, ValueError), match=words):
        export.save_npz(path, **{name: value})
    assert not path.parent.exists()


@pytest.mark.parametrize("path", [None, 3, ["a"]])
@pytest.mark.parametrize(
    "call", [lambda p: export.save_ascii(p, [], []), export.load_ascii, export.save_npz]
)
def test_paths_are_names(call, path):
    with pytest.raises(TypeError, match=r"path is .*; it must be the name of a file"):
        call(path)
