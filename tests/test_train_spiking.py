"""The training of a spiking network learns what it was not shown, and its gradient is exact."""

import json
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import latency_data  # noqa: E402
import latency_network  # noqa: E402
import train_spiking as example  # noqa: E402


@pytest.mark.slow
def test_a_few_epochs_teach_it_digits(tmp_path):
    """With fewer hidden cells than in the program."""
    wanted = {name: tmp_path / f"digits.{name}" for name in ("json", "png", "npz")}
    names = zip(("json", "plot", "save"), wanted.values(), strict=True)
    args = [part for name, path in names for part in (f"--{name}", str(path))]
    own = ["--data", "digits", "--epochs", "5", "--seed", "7", "--scale", str(54 / 182)]
    example.main(example.parser().parse_args([*own, *args]))
    found = json.loads(wanted["json"].read_text())
    history = found["history"]["digits"]["7"]
    assert found["test_accuracy"]["digits"]["7"] > 0.85
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["accuracy"][-1] > history["accuracy"][0]
    assert found["n_neurons"]["digits"] == 128
    assert found["n_synapses"]["digits"] == 64 * 54 + 54 * 54 + 54 * 10
    assert found["test_accuracy"]["digits"]["sd"] == 0
    assert wanted["png"].stat().st_size > 0
    with np.load(wanted["npz"]) as weights:
        assert weights["digits_7_input"].shape == (64 * 54,)
        assert np.all(np.isfinite(weights["digits_7_recurrent"]))


def few_cells():
    """A network of few cells, and samples for it, of which one has inputs that never spike."""
    network = latency_network.build(5, 12, 3, inputs=(8.0, 8.0), seed=3)
    latencies = np.array([[0.3, 7.0, 15.6, 9.2, 0.0], [12.9, 3.1, np.inf, np.inf, 0.0]])
    return network, jnp.asarray(latencies), np.array([2, 0])


def test_inputs_fire_at_their_latencies():
    network, latencies, _ = few_cells()
    record = {"s": jsnn.record.Spikes("cells.input")}
    spikes = latency_network.respond(
        *(network, latency_network.weights_of(network), latencies[1]), record=record
    ).records["s"]
    assert dict(zip(spikes.index.tolist(), spikes.times.tolist(), strict=True)) == {
        0: 14.0,  # in the step after the one that holds the latency
        1: 5.0,
        4: 1.0,
    }


def test_a_latency_between_steps_is_exact_for_the_receptor():
    """The current of a cell without a spike before, in closed form."""
    network, latencies, _ = few_cells()
    weights = {**latency_network.weights_of(network), "recurrent": jnp.zeros(144)}
    record = {"i": jsnn.record.States("cells.hidden", "syn.i")}
    found = latency_network.respond(network, weights, latencies[0], record=record)
    times = (
        found.records["i"].times[:, None]
        - latency_network.DELAY
        - latency_network.DT
        - np.asarray(latencies[0])
    )
    kernel = np.where(times >= 0, np.exp(-np.maximum(times, 0) / latency_network.TAU_SYN), 0)
    expected = kernel @ np.asarray(weights["input"]).reshape(5, 12)
    np.testing.assert_allclose(found.records["i"].values, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_gradient_of_a_batch_is_that_of_the_definition(monkeypatch):
    """Event by event, all samples in one kernel, as with `segment_sum` over all edges."""
    monkeypatch.setattr(latency_network, "DELAY", 1.0)  # compiles soonest
    network, latencies, labels = few_cells()

    def slope(network):
        weights = latency_network.weights_of(network)
        given = (network, latencies, labels, latency_network.DURATION)
        return jax.jit(lambda w: jax.grad(latency_network.loss, has_aux=True)(w, *given)[0])(
            weights
        )

    found = slope(network)
    defined = slope(eqx.tree_at(lambda n: n.delivery, network, jsnn.SegmentSum()))
    for name, own in defined.items():
        assert np.count_nonzero(own) > 10, name
        np.testing.assert_allclose(found[name], own, rtol=1e-3, atol=1e-6, err_msg=name)


# The first of the published test part: x, y and class
PUBLISHED = [
    (0.23409664559563403, 0.4017249751828972, 2),
    (0.7513290219574494, 0.4682425192680968, 2),
    (0.13832530718825586, 0.570953971325061, 1),
    (0.1109233190605734, 0.5798201746729698, 1),
]


def test_yin_yang_has_the_published_points():
    points, classes = latency_data.yin_yang_points(300, seed=40)
    np.testing.assert_array_equal(np.column_stack([points, classes])[:4], PUBLISHED)
    x, y = points.T - 0.5
    assert np.all(np.hypot(x, y) <= 0.5)
    in_dot = np.hypot(np.abs(x) - 0.25, y) < 0.1
    np.testing.assert_array_equal(in_dot, classes == 2)
    assert np.bincount(classes).min() > 70
    turned = [latency_data.yin_yang_class(*(1 - own)) for own in points[~in_dot]]
    np.testing.assert_array_equal(turned, 1 - classes[~in_dot])
    latencies = latency_data.point_latencies(points) / latency_data.WINDOW
    np.testing.assert_allclose(latencies[:, :2], points)
    np.testing.assert_allclose(latencies[:, 2:4], 1 - points)
    np.testing.assert_array_equal(latencies[:, 4], 0)


def test_parts_of_the_digits_are_apart():
    parts = latency_data.digits()
    rows = [row.tobytes() for own in parts.values() for row in own.latencies]
    assert len(set(rows)) == len(rows) == 1797
    first = parts["train"]
    dark = np.isinf(first.latencies)
    assert 0.3 < dark.mean() < 0.7
    assert first.latencies[~dark].min() == 0
    assert first.latencies[~dark].max() < latency_data.WINDOW


def test_it_says_how_to_get_the_digits(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"scikit-learn; install it: pip install"):
        example.main(example.parser().parse_args(["--data", "digits"]))


@pytest.mark.parametrize(
    "args",
    [
        ["--duration", "33"],
        ["--duration", "40.5"],
        ["--epochs", "0"],
        ["--seeds", "0"],
        ["--frozen", "edges.npz"],
        ["--scale", "0.001"],
    ],
    ids=" ".join,
)
def test_options_without_meaning(args):
    with pytest.raises(ValueError, match=args[0]):
        example.main(example.parser().parse_args(["--data", "yinyang", *args]))
