"""The host's loop: segments, checkpoints, interruption, errors that only a run can show."""

import functools
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn.connect import FixedIndegree
from jsnn.inputs import NoiseCurrent, Poisson
from jsnn.neurons import LIF
from jsnn.receptors import Delta, Exponential
from jsnn.record import Counts, Spikes, States

KEY = jax.random.key(3)
RECORD = {
    "spikes": Spikes("cells.exc"),
    "all": Spikes("cells"),
    "counts": Counts("cells.inh", every=0.7),
    "v": States("cells", "v", index=[0, 7, 149], every=0.3),
    "v_each": States("cells.inh", "v", index=slice(2, 5)),
}


@pytest.fixture(scope="module")
def network():
    law = LIF(tau_m=20.0, c_m=1.0, e_l=0.0, v_th=20.0, v_reset=0.0, t_ref=2.0)
    parts = {"exc": slice(0, 120), "inh": slice(120, 150)}
    cells = jsnn.Population(law, 150, {"delta": Delta()}, slices=parts)
    return jsnn.Network(
        {"cells": cells},
        {
            "exc": jsnn.Projection("cells.exc", "cells", FixedIndegree(12), weight=0.8, delay=1.5),
            "inh": jsnn.Projection("cells.inh", "cells", FixedIndegree(3), weight=-4.0, delay=2.1),
        },
        {"noise": Poisson("cells", 3000.0, 0.8)},
        dt=0.1,
        key=jax.random.key(1),
    )


@pytest.fixture(scope="module")
def whole(network):
    return jsnn.run(network, 50.0, key=KEY, record=RECORD, progress=False)


def assert_same(one, other):
    for name in RECORD:
        a, b = one.records[name], other.records[name]
        np.testing.assert_array_equal(a.times, b.times, err_msg=name)
        values = ("index",) if isinstance(RECORD[name], Spikes) else ("values",)
        for value in values:
            np.testing.assert_array_equal(getattr(a, value), getattr(b, value), err_msg=name)
    jax.tree.map(np.testing.assert_array_equal, one.state, other.state)


def test_run_equals_simulate(network, whole):
    pure = jsnn.simulate(network, network.init(KEY), 500, RECORD)
    assert_same(whole, pure)
    assert whole.records["all"].index.size > 500
    assert whole.stats["spikes"] == {"cells": whole.records["all"].index.size}
    assert whole.records["counts"].values.sum() == np.sum(whole.records["all"].index >= 120)


@pytest.mark.parametrize("segment", [0.1, 1.5, 3.7, 50.0])
def test_segments_change_nothing(network, whole, segment):
    duration = 5.0 if segment == 0.1 else 50.0
    cut = jsnn.run(network, duration, key=KEY, record=RECORD, progress=False, segment=segment)
    if duration < 50:
        whole = jsnn.run(network, duration, key=KEY, record=RECORD, progress=False)
    assert cut.stats["segments"] == round(np.ceil(duration / segment))
    assert_same(cut, whole)


def test_run_goes_on_from_a_state(network, whole):
    first = jsnn.run(network, 17.3, key=KEY, record=RECORD, progress=False)
    second = jsnn.run(network, 32.7, state=first.state, record=RECORD, progress=False)
    jax.tree.map(np.testing.assert_array_equal, second.state, whole.state)
    for name in ("spikes", "v", "v_each"):
        joined = np.concatenate([first.records[name].times, second.records[name].times])
        np.testing.assert_array_equal(joined, whole.records[name].times)


def test_checkpoint_is_resumed_bit_for_bit(network, whole, tmp_path):
    folder = tmp_path / "run"
    jsnn.run(network, 20.0, key=KEY, record=RECORD, progress=False, checkpoint=folder, segment=5.0)
    resumed = jsnn.run(network, 50.0, key=KEY, record=RECORD, progress=False, checkpoint=folder)
    assert_same(resumed, whole)
    again = jsnn.run(network, 50.0, key=KEY, record=RECORD, progress=False, checkpoint=folder)
    assert again.stats["segments"] == 0
    assert_same(again, whole)
    with pytest.raises(ValueError, match="beyond the end"):
        jsnn.run(network, 20.0, key=KEY, record=RECORD, progress=False, checkpoint=folder)


def test_checkpoint_of_another_run_is_refused(network, tmp_path):
    arguments = dict(record=RECORD, progress=False, checkpoint=tmp_path / "run")
    jsnn.run(network, 5.0, key=KEY, **arguments)
    with pytest.raises(ValueError, match="another run, which differs in key; give"):
        jsnn.run(network, 5.0, key=jax.random.key(4), **arguments)
    with pytest.raises(ValueError, match=r"another run, which differs in record\['spikes'\]"):
        jsnn.run(network, 5.0, key=KEY, **{**arguments, "record": {"all": Spikes("cells")}})


class Affine(eqx.Module):
    """A rate that is a module, one of whose fields is a function of two numbers."""

    law: Callable
    slope: jax.Array
    key: jax.Array

    def __call__(self, t):
        return self.law(t, self.slope) + 0 * jax.random.uniform(self.key)


def interpolated(table):
    return jax.jit(lambda t: jnp.interp(t, jnp.arange(3.0), table))


RATES = {
    "closure": lambda c: lambda t: c + 0.1 * t,
    "array": lambda c: lambda t: jnp.full(10, c, jnp.bfloat16)[0] + 0.1 * t,
    "jit": lambda c: interpolated(jnp.full(3, c)),
    "partial": lambda c: functools.partial(lambda c, t: c + t, c),
    "slope": lambda c: Affine(lambda t, a: a + t, jnp.asarray(c), jax.random.key(1)),
    "law": lambda c: Affine(
        (lambda t, a: a + t) if c < 1e3 else (lambda t, a: 2 * a + t),
        jnp.asarray(100.0),
        jax.random.key(1),
    ),
}


@pytest.mark.slow_for("jit", "closure", "partial")
@pytest.mark.filterwarnings("ignore:a rate uses .*random")
@pytest.mark.parametrize("name", RATES)
def test_checkpoint_of_another_rate_is_refused(tmp_path, name):
    """Functions of one name, which differ in what they close over, or hold, or do with it."""

    def driven(c):
        cells = jsnn.Population(LIF(), 10, {"d": Delta()})
        source = Poisson("cells", RATES[name](c), 1.0, max_rate=1e5)
        return jsnn.Network({"cells": cells}, inputs={"p": source}, dt=0.1)

    arguments = dict(key=KEY, progress=False, checkpoint=tmp_path)
    jsnn.run(driven(100.0), 5.0, **arguments)
    jsnn.run(driven(100.0), 10.0, **arguments)
    with pytest.raises(
        ValueError, match=r"another run, which differs in network.inputs\['p'\].rate;"
    ):
        jsnn.run(driven(9e4), 20.0, **arguments)


KILLED = """
import sys
sys.path.insert(0, {tests!r})
import jax, jsnn, test_run
from jsnn import _run
network = test_run.network.__wrapped__() if hasattr(test_run.network, "__wrapped__") else None
if network is None:
    network = test_run.network._get_wrapped_function()()
jsnn.run(network, 50.0, key=test_run.KEY, record=test_run.RECORD, segment=0.1,
         progress=False, checkpoint={folder!r})
"""


def test_killed_run_is_resumed_bit_for_bit(network, whole, tmp_path):
    """Killed at a random moment, wherever that is: also in the middle of writing a file."""
    folder = tmp_path / "run"
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.time() + 120
    while not (folder / "state.npz").exists() and time.time() < deadline:
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(folder.glob("records-*.npz")))
    assert 0 < done < 500
    resumed = jsnn.run(network, 50.0, key=KEY, record=RECORD, progress=False, checkpoint=folder)
    assert_same(resumed, whole)


def test_interrupt_keeps_what_was_done(network, whole, tmp_path, monkeypatch):
    from jsnn import _run

    calls = []

    def interrupted(*arguments):
        calls.append(None)
        if len(calls) == 4:  # the first one compiles
            raise KeyboardInterrupt
        return advance(*arguments)

    advance = _run.advance_from_host
    monkeypatch.setattr(_run, "advance_from_host", interrupted)
    arguments = dict(key=KEY, record=RECORD, progress=False, checkpoint=tmp_path, segment=5.0)
    with pytest.raises(KeyboardInterrupt):
        jsnn.run(network, 50.0, **arguments)
    monkeypatch.undo()
    resumed = jsnn.run(network, 50.0, **arguments)
    assert resumed.stats["segments"] == 8
    assert resumed.stats["spikes"] == whole.stats["spikes"]
    assert_same(resumed, whole)


def test_not_finite_state_is_reported():
    cells = jsnn.Population(LIF(tau_m=20.0), 5, {"s": Exponential(2.0)})
    network = jsnn.Network({"cells": cells}, {}, {"noise": NoiseCurrent("cells", 0.0, 1.0)}, dt=0.1)
    state = network.init(KEY)
    v = state.populations["cells"].cell["v"].at[3].set(jnp.nan)
    broken = eqx.tree_at(lambda s: s.populations["cells"].cell["v"], state, v)
    with pytest.raises(FloatingPointError, match="population 'cells': v of cell 3 is nan"):
        jsnn.run(network, 10.0, state=broken, progress=False)
    solution = jsnn.simulate(network, broken, 10)
    assert int(solution.status["cells"]) < jsnn.NEVER


def test_rate_above_its_bound_is_reported():
    cells = jsnn.Population(LIF(), 5, {"s": Exponential(2.0)})
    noise = Poisson("cells", lambda t: 100.0 + 10.0 * t, 1.0, max_rate=150.0)
    network = jsnn.Network({"cells": cells}, {}, {"noise": noise}, dt=0.1)
    jsnn.run(network, 4.0, key=KEY, progress=False)
    with pytest.raises(ValueError, match=r"input 'noise': at t=.* above its max_rate"):
        jsnn.run(network, 10.0, key=KEY, progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(duration=1.05, key=KEY), "duration=1.05 ms is no whole number of steps"),
        (dict(duration=-1.0, key=KEY), "duration=-1 ms must be at least 0"),
        (dict(duration=float("nan"), key=KEY), "duration=.*not finite"),
        (dict(duration=1.0), "either key or state"),
        (dict(duration=1.0, key=KEY, segment=0.25), "segment=0.25"),
        (dict(duration=1.0, key=KEY, segment=0.0), "segment=0 ms must be at least 0.1"),
        (dict(duration=1.0, key=KEY, devices=64), "devices=64"),
        (dict(duration=1.0, key=KEY, devices=0), "devices=0"),
        (dict(duration=1.0, key=KEY, record={"a": Spikes("sells")}), "did you mean 'cells'"),
    ],
)
def test_bad_arguments(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        jsnn.run(network, **arguments)


def test_nothing_to_do(network):
    solution = jsnn.run(network, 0.0, key=KEY, record=RECORD, progress=False)
    assert solution.records["spikes"].index.size == 0
    assert solution.records["v"].values.shape == (0, 3)


def test_device_memory_does_not_grow_with_the_duration(network):
    """The device holds the records of one segment, however long the run."""
    from jsnn import _run

    long = _run._capacity(network, 10**9, RECORD, None)
    assert long * sum(own.bytes_a_step(network) for own in RECORD.values()) <= 2**26


def test_a_state_of_another_network_is_refused(network):
    law = LIF()
    cells = jsnn.Population(law, 150, {"delta": Delta()})
    for other in (
        jsnn.Network({"cells": cells}, dt=0.1),
        jsnn.Network({"sells": cells}, dt=0.1),
        jsnn.Network({"cells": jsnn.Population(law, 149, {"delta": Delta()})}, dt=0.1),
    ):
        with pytest.raises(ValueError, match="state is of another network"):
            jsnn.run(network, 1.0, state=other.init(KEY), progress=False)
        with pytest.raises(ValueError, match="state is of another network"):
            jsnn.simulate(network, other.init(KEY), 10)
    with pytest.raises(TypeError, match="state=3"):
        jsnn.simulate(network, 3, 10)


def test_a_run_with_a_rate_function_is_resumed(tmp_path):
    """By another process, where the function lies elsewhere in memory."""

    def made(factor):
        cells = jsnn.Population(LIF(), 5, {"s": Exponential(2.0)})
        noise = Poisson("cells", lambda t: 1000.0 + factor * t, 90.0, max_rate=9e3)
        return jsnn.Network({"cells": cells}, {}, {"noise": noise}, dt=0.1)

    arguments = dict(key=KEY, record={"s": Spikes("cells")}, progress=False)
    jsnn.run(made(10.0), 20.0, checkpoint=tmp_path, **arguments)
    resumed = jsnn.run(made(10.0), 40.0, checkpoint=tmp_path, **arguments)
    whole = jsnn.run(made(10.0), 40.0, **arguments)
    np.testing.assert_array_equal(resumed.records["s"].steps, whole.records["s"].steps)
    assert resumed.stats["spikes"] == whole.stats["spikes"]
    assert whole.stats["spikes"] == {"cells": whole.records["s"].index.size}
