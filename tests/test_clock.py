"""Steps are counted in int32, and nothing goes round beyond it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn._loop import totals
from jsnn._status import raise_if_failed
from jsnn.exchange import Relaxation, WaveformRelaxation
from jsnn.inputs import SpikeList, StepCurrent
from jsnn.neurons import LIF
from jsnn.receptors import Delta

pytestmark = pytest.mark.fast

KEY = jax.random.key(1)
SLOTS = 7  # no power of two: what went round would come to another slot


def network():
    """A cell that fires by itself, and one that fires when what it sent arrives."""
    cells = jsnn.Population(
        LIF(tau_m=1e9, i_e=np.array([2.5e4, 0.0]), t_ref=0.0, v_reset=-70.0), 2, {"d": Delta()}
    )
    way = jsnn.connect.Pairs([0], [1])
    projection = jsnn.Projection("c", "c", way, weight=20.0, delay=SLOTS * 0.1)
    return jsnn.Network({"c": cells}, {"p": projection}, dt=0.1, key=KEY)


def at(state, step):
    return replace(state, step=jnp.asarray(step, jnp.int32))


def test_the_last_steps_are_as_the_first():
    net = network()
    state, steps = net.init(KEY), 40
    late = (net.most_steps - steps) // SLOTS * SLOTS
    record = {"s": jsnn.record.Spikes("c")}
    run = jax.jit(lambda state: jsnn.simulate(net, state, steps, record))
    first, last = run(state), run(at(state, late))
    assert {int(n) for n in last.status.values()} == {jsnn.NEVER}
    # 2.5e4 pA on 250 pF are 10 mV a step, and 15 are wanted: every second step
    times = np.arange(2, steps + 1, 2)
    for cell, expected in ((0, times), (1, times[times + SLOTS <= steps] + SLOTS)):
        for own, begin in ((first, 0), (last, late)):
            listed = own.records["s"].listed()
            np.testing.assert_array_equal(listed.steps[listed.index == cell] + 1, begin + expected)
    on_host = jsnn.run(net, 4.0, state=at(state, late), record=record, progress=False)
    np.testing.assert_array_equal(on_host.records["s"].steps, last.records["s"].listed().steps)


def test_a_call_in_a_scan_that_would_go_beyond_has_a_status():
    net = network()

    @jax.jit
    def several(state):
        def one(state, _):
            made = jsnn.simulate(net, state, 4)
            return made.state, (state.step, made.status["c"])

        return jax.lax.scan(one, state, None, length=4)

    begin = net.most_steps - 9
    state, (steps, status) = several(at(net.init(KEY), begin))
    np.testing.assert_array_equal(steps, begin + 4 * np.arange(4))
    np.testing.assert_array_equal(status, [jsnn.NEVER, jsnn.NEVER, begin + 8, begin + 8])
    with pytest.raises(ValueError, match=f"went beyond {net.most_steps} steps"):
        raise_if_failed(net, state)
    with pytest.raises(ValueError, match="as far as steps are counted"):
        jsnn.run(net, 0.1, state=state, progress=False)

    # The reference says the same, and so does a state whose clock was round already
    stepped = jax.jit(lambda state: net.step(state)[0].status["c"])
    assert stepped(at(state, net.most_steps - 1)) == begin + 8  # the first failure stays
    fresh = net.init(KEY)
    assert stepped(at(fresh, net.most_steps - 1)) == jsnn.NEVER
    assert stepped(at(fresh, net.most_steps)) == net.most_steps
    assert stepped(at(fresh, -5)) == -5


def test_the_host_refuses_to_go_beyond():
    net = network()
    state = net.init(KEY)
    for way in (
        lambda: jsnn.simulate(net, at(state, net.most_steps - 3), 4),
        lambda: jsnn.run(net, 0.4, state=at(state, net.most_steps - 3), progress=False),
        lambda: jsnn.simulate(net, state, net.most_steps + 1),
        lambda: jax.eval_shape(lambda s: jsnn.simulate(net, s, 2**40), state),
    ):
        with pytest.raises(ValueError, match="as far as steps are counted"):
            way()


def test_delays_do_not_move_lists_beyond_the_last_step():
    cells = {"c": jsnn.Population(LIF(), 1, {"d": Delta()})}
    time, delay = (2**31 - 12) * 0.1, 1.0  # that is 10 steps
    for fits in (True, False):
        late = time if fits else time + 0.2
        for name, own in (
            ("list", SpikeList("c", [1.0, late], [0, 0], 1.0, delay=delay)),
            ("current", StepCurrent("c", [1.0, late], [1.0, 2.0], delay=delay)),
        ):
            if fits:
                jsnn.Network(cells, inputs={name: own}, dt=0.1)
                continue
            with pytest.raises(ValueError, match=f"{name}.*delay=1 ms are together more than"):
                jsnn.Network(cells, inputs={name: own}, dt=0.1)


def test_counts_beyond_int32_are_never():
    words = {
        "fits": [2**30, 2**30 - 1],
        "once": [2**30, 2**30],
        "all round": [2**30] * 4,
        "more": [2**30] * 5 + [7],
        "few": [3, 4],
    }
    sums = totals({name: jnp.asarray(own, jnp.int32) for name, own in words.items()})
    for name, own in words.items():
        assert sums[name] == min(sum(own), jsnn.NEVER), name


def test_iterations_of_relaxations_stop_to_be_counted():
    before = Relaxation.begin(WaveformRelaxation(), {"c": 1}, 0.1)
    for done, fits in ((jsnn.NEVER - 3, True), (jsnn.NEVER - 2, False)):
        full = replace(before, iterations=jnp.int32(done), windows=jnp.int32(jsnn.NEVER // 3))
        after = full.after(jnp.int32(0), None, (before.waves, jnp.int32(3), jnp.float32(0)))
        assert after.iterations == (done + 3 if fits else done)
        assert after.windows == full.windows + fits
