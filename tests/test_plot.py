import subprocess
import sys
import time
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from jsnn import analysis, plot

matplotlib.use("Agg")


def spikes(n=30, rate=20.0, duration=500.0, seed=2):
    rng = np.random.default_rng(seed)
    size = rng.poisson(n * rate * duration / 1000)
    return np.round(rng.uniform(0.1, duration, size), 1), rng.integers(0, n, size)


def dots(figure):
    return np.concatenate([line.get_xydata() for line in figure.axes[0].lines])


def heights(axes):
    return np.array([bar.get_height() for bar in axes.patches])


def lefts(axes):
    return np.array([bar.get_x() for bar in axes.patches])


def widths(axes):
    return np.array([bar.get_width() for bar in axes.patches])


@pytest.fixture(scope="module")
def nest_spikes():
    nest = pytest.importorskip("nest")
    pytest.importorskip("nest.raster_plot")
    nest.ResetKernel()
    generator = nest.Create("poisson_generator", params={"rate": 40.0})
    cells, recorder = nest.Create("parrot_neuron", 20), nest.Create("spike_recorder")
    nest.Connect(generator, cells)
    nest.Connect(cells[:17], recorder)
    nest.Simulate(1000.0)
    return recorder


@pytest.mark.parametrize("bin_ms", [5.0, 1.0, 7.3])
def test_raster_equals_nest(nest_spikes, bin_ms):
    from matplotlib import pyplot
    from nest import raster_plot

    raster_plot.from_device(nest_spikes, hist=True, hist_binwidth=bin_ms)
    upper, lower = pyplot.gcf().axes
    events = nest_spikes.events
    figure = plot.raster(events["times"], events["senders"], bin_ms=bin_ms)
    ours, rates = figure.axes

    np.testing.assert_allclose(heights(rates), heights(lower))
    assert len(rates.patches) > 100
    np.testing.assert_allclose(lefts(rates), lefts(lower) + bin_ms / 2)
    np.testing.assert_allclose(widths(rates), bin_ms)
    np.testing.assert_allclose(ours.get_xlim(), upper.get_xlim())
    np.testing.assert_allclose(ours.get_ylim(), upper.get_ylim())
    np.testing.assert_allclose(rates.get_xlim(), lower.get_xlim())
    np.testing.assert_allclose(rates.get_ylim(), lower.get_ylim())
    np.testing.assert_array_equal(dots(figure), upper.lines[0].get_xydata())
    assert ours.lines[0].get_marker() == upper.lines[0].get_marker()
    assert ours.lines[0].get_linestyle() == upper.lines[0].get_linestyle()
    assert ours.get_ylabel() == upper.get_ylabel()
    assert rates.get_xlabel() == lower.get_xlabel()
    assert rates.get_ylabel() == "Rate (Hz)"
    pyplot.close("all")


def test_default_bins_start_at_the_first_spike():
    figure = plot.raster([2.0, 3.0, 6.9, 7.0, 13.0], [0, 1, 0, 0, 9])
    rates = figure.axes[1]
    # Three cells fired: one spike in 5 ms is 1000 / 15 Hz.
    np.testing.assert_allclose(heights(rates), np.array([3, 1, 1]) * 1000 / 15)
    np.testing.assert_allclose(lefts(rates), [2.0, 7.0, 12.0])
    figure = plot.raster([2.0, 3.0, 6.9, 7.0, 13.0], [0, 1, 0, 0, 9], n=10)
    np.testing.assert_allclose(heights(figure.axes[1]), np.array([3, 1, 1]) * 20)
    np.testing.assert_allclose(figure.axes[0].get_ylim(), [-0.45, 9.45])
    single = plot.raster([4.0, 4.0], [1, 2])
    np.testing.assert_allclose(heights(single.axes[1]), [200.0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_window_takes_the_bins_of_analysis(dtype):
    steps, index = np.arange(1, 5001), np.arange(5000) % 30
    times = (steps * 0.1).astype(dtype)
    figure = plot.raster(times, index, start=100.0, stop=300.0, n=30)
    _, expected = analysis.population_rate(times, 30, 5.0, 100.0, 300.0)
    np.testing.assert_allclose(heights(figure.axes[1]), expected)
    np.testing.assert_allclose(expected, 50 / 30 * 200)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim() == (100.0, 300.0)
    assert len(dots(figure)) == 2000
    figure = plot.raster(times, index, start=100.0, duration=50.0)
    assert figure.axes[0].get_xlim() == (100.0, 150.0)
    figure = plot.raster(times, index, duration=50.0)
    assert figure.axes[0].get_xlim() == (0.0, 50.0)


def test_a_shortened_last_bin_keeps_its_rate():
    times = np.arange(1, 1001) * 0.1
    figure = plot.raster(times, np.zeros(1000, int), start=0.0, stop=12.0)
    np.testing.assert_allclose(heights(figure.axes[1]), [10_000.0] * 3)
    assert widths(figure.axes[1]).sum() == pytest.approx(12.0)


@pytest.mark.parametrize("limits", [{}, {"duration": 100.0}, {"start": 20.0, "stop": 100.0}])
@pytest.mark.parametrize("n", [None, 1, 40])
@pytest.mark.parametrize("histogram", [True, False])
def test_empty_raster(tmp_path, limits, n, histogram):
    figure = plot.raster([], [], n=n, histogram=histogram, groups={"exc": slice(0, 3)}, **limits)
    if limits:
        assert figure.axes[-1].get_xlim() == (limits.get("start", 0.0), 100.0)
    if n == 40:
        np.testing.assert_allclose(figure.axes[0].get_ylim(), [-1.95, 40.95])
    plot.save(figure, tmp_path / "empty.png")


def test_low_rates_fill_the_histogram():
    figure = plot.raster([1.0, 900.0], [0, 1], n=400, duration=1000.0)
    peak = heights(figure.axes[1]).max()
    assert peak == pytest.approx(0.5)
    assert peak < figure.axes[1].get_ylim()[1] < 2 * peak


@pytest.mark.parametrize(
    "exc", [slice(0, 20), slice(None, 20), range(20), np.arange(20), np.arange(30) < 20]
)
def test_groups_have_colours_of_their_own(exc):
    times, index = spikes()
    figure = plot.raster(times, index, groups={"exc": exc, "inh": range(20, 25)})
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["exc", "inh", "other"]
    assert len({line.get_color() for line in lines}) == 3
    for line, (low, high) in zip(lines, [(0, 20), (20, 25), (25, 30)], strict=True):
        members = (index >= low) & (index < high)
        np.testing.assert_array_equal(line.get_ydata(), index[members])
        np.testing.assert_array_equal(line.get_xdata(), times[members])
    legend = figure.axes[0].get_legend()
    assert legend is not None and len(legend.get_texts()) == 3
    plain = plot.raster(times, index)
    np.testing.assert_array_equal(heights(figure.axes[1]), heights(plain.axes[1]))


def test_max_points_thins_the_dots_only():
    times, index = spikes(n=100)
    full, thin = plot.raster(times, index), plot.raster(times, index, max_points=50)
    assert len(dots(full)) == len(times) > 50
    assert len({tuple(dot) for dot in dots(thin)} & {tuple(dot) for dot in dots(full)}) == 50
    np.testing.assert_array_equal(heights(thin.axes[1]), heights(full.axes[1]))
    for ours, theirs in zip(thin.axes, full.axes, strict=True):
        assert ours.get_xlim() == theirs.get_xlim() and ours.get_ylim() == theirs.get_ylim()
    assert "50 of" in thin.axes[0].get_title(loc="right")
    assert full.axes[0].get_title(loc="right") == ""


def test_raster_draws_where_it_is_told():
    times, index = spikes()
    figure = Figure()
    assert plot.raster(times, index, fig=figure) is figure
    assert len(figure.axes) == 2
    figure = Figure(layout="constrained")
    left = figure.add_subfigure(figure.add_gridspec(1, 2)[0])
    assert plot.raster(times, index, fig=left) is figure
    figure = Figure()
    axes = figure.subplots(1, 2)
    assert plot.raster(times, index, ax=axes[1], histogram=False) is figure
    assert len(figure.axes) == 2 and not axes[0].lines


@pytest.mark.parametrize("layout", ["constrained", "none"])
@pytest.mark.parametrize("subplot", [True, False])
def test_histogram_shares_the_place_of_the_axes(layout, subplot):
    figure = Figure(layout=layout)
    axes = figure.subplots(1, 2)[0] if subplot else figure.add_axes((0.2, 0.2, 0.6, 0.6))
    place = axes.get_position()
    assert plot.raster(*spikes(), ax=axes, title="Left") is figure
    figure.canvas.draw()
    lower = figure.axes[-1]
    upper_box, lower_box = axes.get_position(), lower.get_position()
    assert axes.get_title() == "Left" and lower is not axes
    assert 0.01 < upper_box.y0 - lower_box.y1 < 0.1
    assert upper_box.height > 3 * lower_box.height
    if layout == "none":
        assert upper_box.y1 == pytest.approx(place.y1)
        assert lower_box.y0 == pytest.approx(place.y0)
    tight = figure.get_tightbbox()
    assert tight.y0 >= 0 and tight.x0 >= 0


def test_dots_are_rasterised(tmp_path):
    times, index = spikes(n=2000)
    path = plot.save(plot.raster(times, index), tmp_path / "raster.svg")
    # 20,000 vector dots take megabytes.
    assert path.stat().st_size < 400_000


def test_traces():
    times = np.arange(0.1, 10.0, 0.1)
    values = np.stack([np.sin(times), np.cos(times)], axis=1)
    figure = plot.traces(times, values, labels=["a", "b"], ylabel="Calcium (µM)")
    (axes,) = figure.axes
    for line, column in zip(axes.lines, values.T, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.stack([times, column], axis=1))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Time (ms)", "Calcium (µM)")
    np.testing.assert_allclose(axes.get_xlim(), times[[0, -1]])
    assert plot.traces(times, values[:, 0], ax=axes) is figure
    assert len(axes.lines) == 3
    assert plot.traces([], []).axes[0].get_ylabel() == "Membrane potential (mV)"


def band(axes, times):
    """The lower and the upper edge of the shaded area, as its outline gives them."""
    ((outline,),) = [shape.get_paths() for shape in axes.collections]
    corners = np.asarray(outline.vertices)
    at = [corners[corners[:, 0] == time, 1] for time in times]
    return np.array([own.min() for own in at]), np.array([own.max() for own in at])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_dynamics_are_means_and_deviations(dtype):
    rng = np.random.default_rng(3)
    times = np.arange(1.0, 41.0)
    ip3, calcium = (
        (500 + rng.normal(size=(40, n)) * np.arange(1, 41)[:, None]).astype(dtype) for n in (5, 8)
    )
    figure = plot.dynamics(times, ip3, right=calcium)
    for axes, values in zip(figure.axes, (ip3, calcium), strict=True):
        mean = [sum(map(float, row)) / len(row) for row in values]
        squares = [
            sum((float(value) - centre) ** 2 for value in row) / len(row)
            for row, centre in zip(values, mean, strict=True)
        ]
        (line,) = axes.lines
        np.testing.assert_array_equal(line.get_xdata(), times)
        np.testing.assert_allclose(line.get_ydata(), mean, rtol=1e-12)
        low, high = band(axes, times)
        np.testing.assert_allclose(low, np.subtract(mean, np.sqrt(squares)), rtol=1e-12)
        np.testing.assert_allclose(high, np.add(mean, np.sqrt(squares)), rtol=1e-12)
        assert axes.get_xlim() == (1.0, 40.0)


def test_dynamics_have_an_axis_for_each_quantity():
    values, other = [[0.0, 2.0], [1.0, 3.0]], [[1e3], [2e3]]
    labels = {"label": "IP$_3$ (µM)", "right_label": "Ca$^{2+}$ (nM)"}
    figure = plot.dynamics([1.0, 2.0], values, right=other, title="Astrocytes", **labels)
    left, right = figure.axes
    assert left.get_shared_x_axes().joined(left, right)
    assert (left.get_xlabel(), right.get_xlabel()) == ("Time (ms)", "")
    assert left.get_title() == "Astrocytes"
    assert left.get_ylim()[1] < 10 and right.get_ylim()[0] > 500
    for axes, side, label, color in [
        (left, "left", "IP$_3$ (µM)", "tab:blue"),
        (right, "right", "Ca$^{2+}$ (nM)", "tab:green"),
    ]:
        assert axes.yaxis.get_label_position() == side
        assert axes.get_ylabel() == label
        assert axes.lines[0].get_color() == axes.yaxis.label.get_color() == color
        assert {tick.get_color() for tick in axes.get_yticklabels()} == {color}
        shade = matplotlib.colors.to_rgba(color, axes.collections[0].get_alpha())
        np.testing.assert_allclose(axes.collections[0].get_facecolor(), [shade])
        assert 0 < shade[3] < 1
    assert {tick.get_color() for tick in left.get_xticklabels()} == {"black"}


def test_dynamics_draw_where_they_are_told(tmp_path):
    figure = Figure(layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    assert plot.dynamics([1.0, 2.0], np.eye(2), right=np.eye(2), ax=upper) is figure
    currents = {"label": "SIC (pA)", "color": "tab:purple"}
    assert plot.dynamics([1.0, 2.0], np.eye(2), ax=lower, **currents) is figure
    assert len(figure.axes) == 3 and [len(axes.lines) for axes in figure.axes] == [1, 1, 1]
    assert lower.lines[0].get_color() == lower.yaxis.label.get_color() == "tab:purple"
    assert upper.get_ylabel() == "" and lower.get_ylabel() == "SIC (pA)"
    plot.save(figure, tmp_path / "panels.png")
    tight = figure.get_tightbbox()
    assert tight.x0 >= 0 and tight.y0 >= 0
    assert tight.x1 <= figure.get_figwidth() and tight.y1 <= figure.get_figheight()


def test_dynamics_leave_gaps_where_no_mean_is(tmp_path):
    values = np.arange(12.0).reshape(6, 2)
    values[2:4] = [[np.nan, 0.0], [np.inf, -np.inf]]
    figure = plot.dynamics(np.arange(6.0), values)
    drawn = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_array_equal(drawn, [0.5, 2.5, np.nan, np.nan, 8.5, 10.5])
    assert len(figure.axes[0].collections[0].get_paths()) == 2
    plot.save(figure, tmp_path / "gaps.png")
    plot.save(plot.dynamics([], np.empty((0, 3)), right=np.empty((0, 1))), tmp_path / "empty.png")


def test_population_rate():
    times, _ = spikes()
    figure = plot.population_rate(times, 30, 10.0, 0.0, 500.0, label="all")
    (axes,) = figure.axes
    edges, rate = analysis.population_rate(times, 30, 10.0, 0.0, 500.0)
    assert axes.lines[0].get_drawstyle() == "steps-post"
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), edges)
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), np.append(rate, rate[-1]))
    plot.population_rate(times, 3, 10.0, 0.0, 500.0, label="ten times", ax=axes)
    assert axes.lines[0].get_color() != axes.lines[1].get_color()
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 10 * rate.max()
    assert axes.get_xlim() == (0.0, 500.0)


@pytest.mark.parametrize(
    "ending, magic", [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("EPS", b"%!PS")]
)
def test_save_writes_by_the_ending(tmp_path, ending, magic):
    path = tmp_path / "new" / "folder" / f"picture.{ending}"
    figure = plot.raster(*spikes(), groups={"exc": slice(0, 20)})
    assert plot.save(figure, str(path)) == path
    assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize("name", ["picture.gif", "picture", "picture.png.txt"])
def test_save_names_the_endings(tmp_path, name):
    with pytest.raises(ValueError, match=r"path is .*\.png, \.pdf, \.svg, \.eps"):
        plot.save(Figure(), tmp_path / "folder" / name)
    assert not (tmp_path / "folder").exists()


def test_pyplot_stays_out_of_it(tmp_path):
    script = f"""
import sys
from jsnn import plot
assert "matplotlib" not in sys.modules
plot.save(plot.raster([1.0, 2.0], [0, 1]), {str(tmp_path / "a.png")!r})
plot.save(plot.traces([1.0, 2.0], [0, 1]), {str(tmp_path / "b.png")!r})
plot.save(plot.dynamics([1.0, 2.0], [[0], [1]]), {str(tmp_path / "c.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: plot.raster([1.0], [0, 1]), r"times has 1 entries and index 2"),
        (lambda: plot.raster([np.inf], [0]), r"times\[0\] is inf; .* finite"),
        (lambda: plot.raster([1.0], [0.0]), r"index has dtype float64; .* integers"),
        (lambda: plot.raster([], [], duration=-1.0), r"duration is -1.0; .* positive"),
        (lambda: plot.raster([], [], start=3.0), r"start = 3.0 to stop = 3.0 ms"),
        (lambda: plot.raster([], [], duration=1.0, stop=2.0), r"duration is 1.0 and stop is 2.0"),
        (lambda: plot.raster([], [], bin_ms=0.0), r"bin_ms is 0.0; .* positive"),
        (lambda: plot.raster([], [], n=0), r"n is 0; .* at least 1"),
        (lambda: plot.raster([], [], max_points=0), r"max_points is 0; .* at least 1"),
        (
            lambda: plot.raster([], [], fig=Figure(), ax=Figure().subplots()),
            r"fig and ax are both given",
        ),
        (
            lambda: plot.raster([1.0], [0], groups={"a": [0, 1], "b": [0]}),
            r"groups\['b'\] shares cells",
        ),
        (lambda: plot.raster([1.0], [0], groups={"a": 0.5}), r"groups\['a'\] is 0.5; .* slice"),
        (lambda: plot.traces([[1.0]], [1.0]), r"times has shape \(1, 1\)"),
        (lambda: plot.traces([1.0], [1.0, 2.0]), r"values has shape \(2,\); .* T = 1"),
        (lambda: plot.traces([1.0], [[1.0, 2.0]], labels=["a"]), r"labels is \['a'\]; .* 2 names"),
        (lambda: plot.dynamics([[1.0]], [[1.0]]), r"times has shape \(1, 1\)"),
        (lambda: plot.dynamics([1.0], [1.0]), r"values has shape \(1,\); .* \[T, k\]"),
        (lambda: plot.dynamics([1.0], [[1.0], [2.0]]), r"values has shape \(2, 1\); .* T = 1"),
        (lambda: plot.dynamics([1.0], [[]]), r"values has shape \(1, 0\); .* at least 1"),
        (lambda: plot.dynamics([1.0], [[1.0]], right=[[1.0]] * 2), r"right has shape \(2, 1\)"),
        (lambda: plot.dynamics([1.0], [[1.0]], right=[]), r"right has shape \(0,\)"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


NUMBERS = {
    "duration": "of ms",
    "start": "of ms",
    "stop": "of ms",
    "bin_ms": "of ms",
    "marker_size": "of points",
    "n": "whole number",
    "max_points": "whole number",
}


@pytest.mark.parametrize("value", ["10", [10.0], True, np.nan, np.inf, Figure])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_numbers(name, value):
    with pytest.raises(
        (TypeError, ValueError), match=f"{name} is .*; it must be a .*{NUMBERS[name]}"
    ):
        plot.raster([1.0], [0], **{name: value})


@pytest.mark.parametrize("name, value", [("marker_size", -1), ("n", 2.5), ("max_points", 2.5)])
def test_numbers_lie_in_range(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; it must be a"):
        plot.raster([1.0], [0], **{name: value})


SPIKES: Any = ([1.0], [0])


@pytest.mark.parametrize(
    "function, args, options, words",
    [
        (plot.raster, SPIKES, {"histogram": "abc"}, r"histogram is 'abc'; .* True or"),
        (plot.raster, SPIKES, {"groups": ["exc"]}, r"groups is \['exc'\]; .* mapping"),
        (plot.raster, SPIKES, {"ax": Figure()}, r"ax is <Figure .*; .* figure.axes\[0\]"),
        (plot.raster, SPIKES, {"fig": "a"}, r"fig is 'a'; .* figure of matplotlib"),
        (plot.raster, (["1.0"], [0]), {}, r"times is \['1.0'\]; .* real numbers"),
        (plot.traces, SPIKES, {"ax": "a"}, r"ax is 'a'; .* axes of matplotlib"),
        (plot.traces, ([1.0], ["a"]), {}, r"values is \['a'\]; .* real numbers"),
        (plot.traces, ([1.0], [1j]), {}, r"values is \[1j\]; .* real numbers"),
        (plot.traces, ([None], [1.0]), {}, r"times is \[None\]; .* real numbers"),
        (plot.dynamics, ([1.0], [["a"]]), {}, r"values is \[\['a'\]\]; .* real numbers"),
        (plot.dynamics, ([1.0], [[1.0]]), {"right": [[1j]]}, r"right is \[\[1j\]\]; .* real"),
        (plot.dynamics, ([1.0], [[1.0]]), {"ax": Figure()}, r"ax is <Figure .*; .* axes of"),
        (plot.save, ("new/a.png", Figure()), {}, r"fig is 'new/a.png'; .* figure first"),
        (plot.save, (Figure(), None), {}, r"path is None; .* name of a file"),
        (plot.save, (Figure(), "new/a.png"), {"dpi": "a"}, r"dpi is 'a'; .* dots per inch"),
    ],
)
def test_bad_types_are_named(tmp_path, monkeypatch, function, args, options, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match=words):
        function(*args, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dpi", [0, np.nan, 1e6])
def test_resolutions_fit_in_memory(tmp_path, dpi):
    with pytest.raises(ValueError, match=r"dpi is .*; it must be"):
        plot.save(Figure(), tmp_path / "a.png", dpi=dpi)


@pytest.mark.parametrize("group", [slice(0.0, 2.0), [[0], [0, 1]], slice(0, 5, 0), "exc", None])
def test_groups_hold_cells(group):
    with pytest.raises(
        ValueError, match=r"groups\['a'\] is .*; it must be a slice, a range, a mask"
    ):
        plot.raster([1.0], [0], groups={"a": group})


@pytest.mark.parametrize("group", [slice(0, None, 2), range(0, 10**15, 2)])
def test_groups_may_be_larger_than_the_memory(group):
    figure = plot.raster([1.0, 2.0, 3.0], [0, 10**12, 7], groups={"even": group})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [0, 10**12])


@pytest.mark.parametrize("labels", [3, "ab", ["a"], [["a"], ["b", "c"], "d"]])
def test_labels_are_one_for_a_line(labels):
    with pytest.raises(ValueError, match=r"labels is .*; it must be a list of 2 names"):
        plot.traces([1.0], [[1.0, 2.0]], labels=labels)


@pytest.mark.parametrize("limits", [{}, {"duration": 2**31}, {"start": -1e300, "stop": 1e300}])
def test_too_many_bins_are_refused_before_anything_is_drawn(limits):
    figure = Figure()
    with pytest.raises(
        ValueError, match=r"bin_ms is 0.1, which makes .* Give wider ones, as bin_ms="
    ):
        plot.raster([1.0, 1e7], [0, 1], bin_ms=0.1, fig=figure, **limits)
    assert not figure.axes
    plot.raster([1.0, 1e7], [0, 1], bin_ms=0.1, histogram=False, **limits)


def test_many_bins_are_drawn_as_one_shape(tmp_path):
    times, index = spikes(duration=50_000.0)
    began = time.perf_counter()
    figure = plot.raster(times, index, bin_ms=1.0, duration=50_000.0)
    rates = figure.axes[1]
    assert not rates.patches
    ((path,),) = [shape.get_paths() for shape in rates.collections]
    # The outline has two corners for every bin, of the heights of the bars.
    _, expected = analysis.population_rate(times, np.unique(index).size, 1.0, 0.0, 50_000.0)
    corners = np.asarray(path.vertices)[1:100_001]
    np.testing.assert_allclose(corners[:, 1], np.repeat(expected, 2))
    np.testing.assert_allclose(corners[::2, 0], np.arange(50_000.0))
    plot.save(figure, tmp_path / "many.png")
    assert time.perf_counter() - began < 5.0  # bars would take half a minute
    assert rates.get_xlim() == (0.0, 50_000.0)
