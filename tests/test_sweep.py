"""Sweeps: every point once, whatever the batches and devices, with names and values."""

import json
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn._working_set import bytes_a_member
from jsnn.connect import FixedIndegree
from jsnn.inputs import Poisson
from jsnn.record import Spikes

ROOT = Path(__file__).parent.parent
A, B = np.array([1.0, 2.0, 4.0], np.float32), np.arange(5)


def sums(a, b):
    return {"sum": a + b, "both": jnp.stack([a, b * 1.0])}


@pytest.mark.parametrize("batch", [None, 1, 4, 15, 100])
def test_product_in_any_batches(batch):
    found = jsnn.sweep(sums, {"a": A, "b": B}, batch=batch, progress=False)
    np.testing.assert_array_equal(found["sum"], A[:, None] + B)
    assert found["both"].shape == (3, 5, 2)
    np.testing.assert_array_equal(found["both"][1, :, 1], B)
    assert list(found.axes) == ["a", "b"]
    np.testing.assert_array_equal(found.axes["a"], A)
    stats = found.stats
    assert stats["batch"] <= (batch or 15) and not found.failed.any()
    assert stats["batch"] * (stats["batches"] - 1) < 15 <= stats["batch"] * stats["batches"]


def test_chosen_points():
    found = jsnn.sweep(sums, {"a": A, "b": B}, progress=False)
    assert found.at(a=2.0, b=3)["sum"] == 5.0
    np.testing.assert_array_equal(found.at(b=3)["sum"], A + 3)
    np.testing.assert_array_equal(found.at()["sum"], found["sum"])
    for wrong, message in (
        ({"c": 1}, "unknown axis 'c'"),
        ({"a": 2.2}, "a=2.2 is not among the values; the nearest is 2"),
    ):
        with pytest.raises(ValueError, match=message):
            found.at(**wrong)
    with pytest.raises(TypeError, match="give one value"):
        found.at(a=A)
    with pytest.raises(ValueError, match="did you mean 'sum'"):
        found["sun"]


def test_one_after_the_other():
    over = {"a": A, "b": [7, 8, 9]}
    found = jsnn.sweep(sums, over, product=False, batch=2, progress=False)
    np.testing.assert_array_equal(found["sum"], [8.0, 10.0, 13.0])
    assert found.at(a=4.0)["sum"] == 13.0
    twice = jsnn.sweep(sums, {"a": [1.0, 1.0], "b": [1, 2]}, product=False, progress=False)
    with pytest.raises(ValueError, match="2 points have {'a': 1.0}"):
        twice.at(a=1.0)


@pytest.mark.parametrize("typed", [True, False])
def test_keys_and_states(typed):
    keys = jax.random.split(jax.random.key(1), 4)
    keys = keys if typed else jax.random.key_data(keys)
    states = {"v": np.arange(6.0).reshape(2, 3), "n": np.arange(2)}

    def draw(key, state):
        return jax.random.uniform(key), state["v"].sum() + state["n"]

    found = jsnn.sweep(draw, {"key": keys, "state": states}, batch=3, progress=False)
    drawn, total = found.values
    wanted = [jax.random.uniform(key) for key in keys]
    np.testing.assert_array_equal(drawn, np.broadcast_to(wanted, (2, 4)).T)
    np.testing.assert_array_equal(total, np.broadcast_to([3.0, 13.0], (4, 2)))
    assert found.axes["key"] is keys and found.at(key=2, state=1)[1] == 13.0
    listed = jsnn.sweep(lambda key: draw(key, states)[0], {"key": list(keys)}, progress=False)
    np.testing.assert_array_equal(listed.values, wanted)
    with pytest.raises(ValueError, match="positions 0 to 3"):
        found.at(key=4)
    with pytest.raises(TypeError, match="give a position"):
        found.at(key=0.5)
    with pytest.raises(TypeError, match="without names"):
        found["drawn"]


def test_the_function_is_traced_once_and_shares_what_does_not_vary():
    traced = []

    def function(a, b):
        traced.append((a, b))
        return a * b

    found = jsnn.sweep(function, {"a": A, "b": [3.0]}, batch=2, progress=False)
    np.testing.assert_array_equal(found.values, 3 * A[:, None])
    assert len(traced) == 1
    alone = jsnn.sweep(function, {"a": [2.0], "b": [3.0]}, progress=False)
    np.testing.assert_array_equal(alone.values, [[6.0]])


@pytest.mark.parametrize(
    ("function", "over", "options", "error", "message"),
    [
        (sums, {}, {}, ValueError, "over is empty"),
        (sums, [1.0], {}, TypeError, "is not a dictionary"),
        (sums, {"a": [], "b": B}, {}, ValueError, r"over\['a'\] is empty"),
        (sums, {"a": 1.0, "b": B}, {}, ValueError, "along the first axis"),
        (sums, {"a": ["x"], "b": B}, {}, TypeError, "give numbers, or keys or states"),
        (sums, {"a": [[1], [1, 2]], "b": B}, {}, TypeError, "give numbers, or keys or states"),
        (sums, {"a": [2**40], "b": B}, {}, ValueError, "int32 only from"),
        (sums, {"a": A}, {}, ValueError, r"over lacks \['b'\]"),
        (sums, {"a": A, "bb": B}, {}, ValueError, "did you mean 'b'"),
        (sums, {"a": A, "b": B}, {"product": False}, ValueError, "{'a': 3, 'b': 5}"),
        (sums, {"a": A, "b": B}, {"product": 1}, TypeError, "product=1; give True or False"),
        (sums, {"a": A, "b": B}, {"batch": 0}, ValueError, "batch=0"),
        (sums, {"a": A, "b": B}, {"batch": 2.0}, TypeError, "batch=2.0 is not an integer"),
        (sums, {"a": A, "b": B}, {"devices": 0}, ValueError, "devices=0 must be at least 1"),
        (3, {"a": A}, {}, TypeError, "can not be called"),
        (lambda a: {"x": "text"}, {"a": A}, {}, TypeError, r"'text' under \['x'\]"),
        (lambda a: None, {"a": A}, {}, TypeError, "returned None"),
        (lambda a: jax.random.key(0), {"a": A}, {}, TypeError, "a PRNG key"),
        (lambda a: {"status": a}, {"a": A}, {}, TypeError, "return steps"),
    ],
)
def test_what_is_wrong_is_told_before_it_compiles(
    function, over, options, error, message, monkeypatch
):
    monkeypatch.setattr("jsnn._sweep._compiled", None)
    with pytest.raises(error, match=message):
        jsnn.sweep(function, over, progress=False, **options)


def status_of(a):
    return {"x": a, "status": {"cells": jnp.where(a > 1.5, 7, jnp.asarray(jsnn.NEVER))}}


def test_points_that_fail():
    with pytest.raises(FloatingPointError, match="2 of the 3 points.*a=2 population 'cells'.*7"):
        jsnn.sweep(status_of, {"a": A}, progress=False)
    found = jsnn.sweep(status_of, {"a": A}, keep_failed=True, batch=2, progress=False)
    np.testing.assert_array_equal(found.failed, [False, True, True])
    np.testing.assert_array_equal(found["x"], [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(found["status"]["cells"], [jsnn.NEVER, 7, 7])


def test_bytes_of_a_member():
    """Of a loop that carries 1,000 numbers and reads a table that all share."""
    table = jnp.ones(10**6)

    def function(x):
        carry = jnp.full(1000, x)
        body = lambda i, carry: carry + jnp.sum(table) + i
        return jax.lax.fori_loop(0, 10, body, carry)

    trace = jax.make_jaxpr(function)(1.0)
    found = bytes_a_member(trace.jaxpr, (True,))
    assert 8e3 <= found < 20e3
    shared = bytes_a_member(
        jax.make_jaxpr(lambda x, y: function(y) + x)(1.0, 1.0).jaxpr, (True, False)
    )
    assert 4e3 <= shared < 8e3


def network(max_rate=30000.0):
    cells = jsnn.Population(
        jsnn.neurons.LIF(tau_m=20.0, c_m=1.0, e_l=0.0, v_th=20.0, v_reset=0.0, t_ref=2.0),
        150,
        {"delta": jsnn.receptors.Delta()},
        slices={"exc": slice(0, 120), "inh": slice(120, 150)},
    )
    return jsnn.Network(
        {"cells": cells},
        {
            "exc": jsnn.Projection("cells.exc", "cells", FixedIndegree(12), weight=0.5, delay=1.5),
            "inh": jsnn.Projection("cells.inh", "cells", FixedIndegree(3), weight=-1.0, delay=1.5),
        },
        {"noise": Poisson("cells", 15000.0, 0.1, max_rate=max_rate)},
        dt=0.1,
        key=jax.random.key(1),
    )


def at(net, g, rate):
    places = lambda own: [own.synapses["inh"].weight, own.inputs["noise"].rate]
    return eqx.tree_at(places, net, [-0.5 * g, rate])


def test_networks_are_those_of_single_runs():
    """Some fire ten times as much as others; random numbers are shared in one sweep and not in
    the other."""
    net, keys = network(), jax.random.split(jax.random.key(2), 2)
    record = {"spikes": Spikes("cells")}

    def function(g, rate, key):
        own = at(net, g, rate)
        return jsnn.simulate(own, own.init(key), 400, record)

    over = {"g": [2.0, 8.0], "rate": [11000.0, 14000.0, 30000.0], "key": keys}
    found = jsnn.sweep(function, over, batch=5, progress=False)
    counts = found.values.stats["spikes"]["cells"]
    one_key = jsnn.sweep(function, {**over, "key": keys[1:]}, progress=False)
    both = found.values.records["spikes"].words, one_key.values.records["spikes"].words
    np.testing.assert_array_equal(both[0][:, :, 1], both[1][:, :, 0])
    for g, rate, key in np.ndindex(2, 3, 2):
        own = at(net, over["g"][g], over["rate"][rate])
        alone = jsnn.run(own, 40.0, key=keys[key], record=record, progress=False)
        spikes = jax.tree.map(lambda x: x[g, rate, key], found.values.records["spikes"]).listed()  # noqa: B023
        np.testing.assert_array_equal(spikes.steps, alone.records["spikes"].steps)
        np.testing.assert_array_equal(spikes.index, alone.records["spikes"].index)
        assert counts[g, rate, key] == spikes.steps.size
    assert counts.max() > 10 * counts.min() > 0


def test_networks_that_fail_are_named():
    net = network(max_rate=16000.0)

    def function(rate):
        own = at(net, 4.0, rate)
        return jsnn.simulate(own, own.init(jax.random.key(0)), 20)

    with pytest.raises(ValueError, match="1 of the 2 points.*rate=17000 input/noise by step 0"):
        jsnn.sweep(function, {"rate": [15000.0, 17000.0]}, progress=False)


SCRIPT = """
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", 3)
import numpy as np
sys.path[:0] = [{tests!r}]
import jsnn, test_sweep
net = test_sweep.network()

def function(g, key):
    own = test_sweep.at(net, g, 14000.0)
    made = jsnn.simulate(own, own.init(key), 300)
    return {{"n": made.stats["spikes"]["cells"], "v": made.state.populations["cells"].cell["v"]}}

over = {{"g": np.linspace(2, 8, 5), "key": jax.random.split(jax.random.key(2), 2)}}
for devices in (1, jax.devices()[:0:-1]):
    found = jsnn.sweep(function, over, devices=devices, progress=False)
    print(json.dumps([found["n"].tolist(), found["v"].astype(float).sum(-1).tolist()]))
try:
    jsnn.sweep(function, over, devices=3, batch=4)
except ValueError as error:
    print(error)
"""


def test_any_number_of_devices():
    script = SCRIPT.format(tests=str(ROOT / "tests"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *found, error = done.stdout.splitlines()
    one, two = map(json.loads, found)
    assert one == two and np.shape(one[0]) == (5, 2)
    assert error == "batch=4 is no multiple of the devices; give 3, 6, ..."
