import os
import zipfile

import jax
import numpy as np
import pytest

from jsnn import export

pytestmark = pytest.mark.fast

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
        ("1\t5.000\t-62.9\n", r"line 3: .* is not 'sender<tab>time'"),
        ("sender\ttime_ms\n1\t5.000\t-62.9\n", r"line 4: .* is not 'sender<tab>time'"),
        ("time_ms\tsender\n1\t5.000\n", r"line 4: .* is not 'time<tab>sender'"),
        ("sender\ttime_ms\tV_m\n1\t5.000\t-62.9\n", r"line 3: .*announces V_m .*load_columns"),
        ("sender\ttime_ms\tV_m\n", r"line 3: .* file of a multimeter or another recorder"),
        ("sender\ttime_ms\ttime_ms\n", r"line 3: .* is not the header of spikes"),
        ("time_ms\n5.0\n", r"line 3: .* is not the header of spikes"),
        ("sender\ttime_step\ttime_offset\tV_m\n", r"line 3: .*announces V_m"),
        ("sender\ttime_ms\n1\t5.0\nsender\ttime_ms\tV_m\n", r"line 5: .*announces V_m"),
    ],
)
def test_what_load_ascii_refuses(tmp_path, text, words):
    path = tmp_path / "a.dat"
    path.write_text(HEADER + text)
    with pytest.raises(ValueError, match=words):
        export.load_ascii(path)


@pytest.mark.parametrize("text", ["", "# NEST version: 3.10.0\n", HEADER + "sender\ttime_ms\n"])
def test_files_without_spikes(tmp_path, text):
    path = tmp_path / "a.dat"
    path.write_text(text)
    assert [column.size for column in export.load_ascii(path)] == [0, 0]


def test_a_mark_of_byte_order_is_no_column(tmp_path):
    path = tmp_path / "a.dat"
    path.write_text("\ufeffsender\ttime_ms\n3\t5.0\n")
    assert [own.tolist() for own in export.load_ascii(path)] == [[5.0], [2]]


def test_columns_are_known_by_their_header(tmp_path):
    """In any order, and anew where files were put one after the other."""
    path = tmp_path / "a.dat"
    path.write_text("2\t1.5\n# more\ntime_ms\tsender\n2.5\t3\n\nsender\ttime_ms\r\n4\t3.5\n")
    times, index = export.load_ascii(path)
    assert times.tolist() == [1.5, 2.5, 3.5] and index.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", r"has no header"),
        ("1\t5.0\n", r"line 1: .* stands before any header"),
        ("sender\ttime_ms\tV_m\n1\t5.0\n", r"line 2: .* not one number for each of \['sender'"),
        ("sender\ttime_ms\tV_m\n1\t5.0\tx\n", r"line 2: .* no number for 'V_m'"),
        ("sender\ttime_ms\tV_m\n1.5\t5.0\t1.0\n", r"line 2: .* no number for 'sender'"),
        (f"sender\ttime_ms\n{2**63}\t5.0\n", r"line 2: .* no number for 'sender'"),
        ("sender\ttime_ms\tV_m\tV_m\n", r"line 1: .* names a column twice"),
        ("sender\ttime_ms\tV_m\nsender\ttime_ms\n", r"line 2: .* has other columns than"),
    ],
)
def test_what_load_columns_refuses(tmp_path, text, words):
    path = tmp_path / "a.dat"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        export.load_columns(path)


def test_files_of_nests_recorders(tmp_path):
    """As NEST's own two threads write them, beside what it keeps in memory."""
    nest = pytest.importorskip("nest")
    nest.ResetKernel()
    nest.set(local_num_threads=2, overwrite_files=True, data_path=str(tmp_path))
    cells = nest.Create("iaf_psc_alpha", 5, {"I_e": [400.0, 450.0, 500.0, 550.0, 600.0]})
    asked = {"record_from": ["V_m", "I_syn_ex"], "interval": 5.0}
    spikes = {"record_to": "ascii", "label": "spikes"}
    meters = [nest.Create("multimeter", 1, asked | {"record_to": "ascii", "label": "meter"})]
    meters += [nest.Create("multimeter", 1, asked)]
    recorders = [nest.Create("spike_recorder", 1, spikes), nest.Create("spike_recorder")]
    in_steps = {**spikes, "label": "steps", "time_in_steps": True}
    recorders += [nest.Create("spike_recorder", 1, in_steps)]
    for meter in meters:
        nest.Connect(meter, cells)
    for recorder in recorders:
        nest.Connect(cells, recorder)
    nest.Simulate(200.0)
    written = {kind: sorted(tmp_path.glob(f"{kind}-*")) for kind in ("spikes", "meter", "steps")}
    events, files = recorders[1].events, written["spikes"]
    times, index = export.load_ascii(files)
    order = np.lexsort((events["senders"], events["times"]))
    np.testing.assert_array_equal(index, events["senders"][order] - 1)
    np.testing.assert_allclose(times, events["times"][order], atol=1e-9)
    assert len(files) == 2 and set(index) == set(range(5))
    assert sum(export.load_ascii(file)[0].size for file in files) == times.size

    for file in written["meter"]:
        with pytest.raises(ValueError, match=r"line 3: .* announces V_m, I_syn_ex .*load_columns"):
            export.load_ascii(file)
    for file in written["steps"]:
        with pytest.raises(ValueError, match="line 3: .*time_in_steps=False"):
            export.load_ascii(file)
    parts = [export.load_columns(file) for file in written["meter"]]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert list(found) == ["sender", "time_ms", "V_m", "I_syn_ex"]
    events = meters[1].events
    by_time = np.lexsort((found["sender"], found["time_ms"]))
    order = np.lexsort((events["senders"], events["times"]))
    np.testing.assert_array_equal(found["sender"][by_time], events["senders"][order])
    np.testing.assert_allclose(found["time_ms"][by_time], events["times"][order], atol=1e-9)
    np.testing.assert_allclose(found["V_m"][by_time], events["V_m"][order], atol=6e-4)
    steps = [export.load_columns(file)["time_step"] for file in written["steps"]]
    np.testing.assert_allclose(np.sort(np.concatenate(steps)) * 0.1, times, atol=1e-9)


def test_several_files(tmp_path):
    files = [
        export.save_ascii(tmp_path / f"{i}.dat", times, index)
        for i, (times, index) in enumerate([([1.0, 3.0], [0, 2]), ([1.0, 2.0], [1, 3])])
    ]
    times, index = export.load_ascii(files[::-1])
    assert times.tolist() == [1.0, 1.0, 2.0, 3.0] and index.tolist() == [0, 1, 3, 2]
    with pytest.raises(ValueError, match=r"path\[1\] is .*0.dat' once more"):
        export.load_ascii([files[0], files[0]])
    with pytest.raises(ValueError, match=r"path is \[\]; give"):
        export.load_ascii([])
    with pytest.raises(TypeError, match=r"path\[0\] is 3"):
        export.load_ascii([3])


def test_load_ascii_refuses_what_is_no_text(tmp_path):
    path = export.save_npz(tmp_path / "a.npz", a=np.full(100, 200, np.uint8))
    with pytest.raises(ValueError, match=r"path is .*a\.npz', which holds no text"):
        export.load_ascii(path)


def test_names_in_an_archive_stay_inside_the_folder(tmp_path):
    """As unpacked by those who do not look, and read by NumPy under the same names."""
    arrays = {"cells/v": [1.0], "µ ..": [2.0], "...": [3.0], "a.npy/b": [4.0]}
    path = export.save_npz(tmp_path / "a.npz", **arrays)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            inside = os.path.normpath(tmp_path / name)
            assert inside.startswith(str(tmp_path)) and not os.path.isabs(name)
    with np.load(path) as found:
        assert {name: found[name].tolist() for name in found} == arrays


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
        ("../x", 1.0, r"array name '../x' .* would leave the folder"),
        ("a/../../x", 1.0, r"would leave the folder"),
        ("/abs", 1.0, r"array name '/abs' .* would leave the folder"),
        ("..\\x", 1.0, r"would leave the folder"),
        ("C:x", 1.0, r"would leave the folder"),
        ("", 1.0, r"array name '' is no name"),
        (".", 1.0, r"is no name"),
        ("a/", 1.0, r"is no name"),
        ("a\0b", 1.0, r"array name 'a\\x00b' holds characters"),
        ("a\nb", 1.0, r"holds characters"),
        ("a\udc80", 1.0, r"holds characters"),
        ("a.npy", 1.0, r"array name 'a.npy' ends in '.npy'"),
        ("a" * 300, 1.0, r"has more than 200 bytes"),
    ],
)
def test_what_save_npz_refuses(tmp_path, name, value, words):
    path = tmp_path / "new" / "a.npz"
    with pytest.raises((TypeError, ValueError), match=words):
        export.save_npz(path, **{name: value})
    assert not path.parent.exists()


@pytest.mark.parametrize("path", [None, 3, ["a"], "", "a\0b"])
@pytest.mark.parametrize(
    "call",
    [
        lambda p: export.save_ascii(p, [], []),
        export.load_ascii,
        export.load_columns,
        export.save_npz,
    ],
)
def test_paths_are_names(call, path):
    if path == ["a"] and call is export.load_ascii:
        pytest.skip("that of several files")
    with pytest.raises((TypeError, ValueError), match=r"path is .*; it must be the name of a file"):
        call(path)
