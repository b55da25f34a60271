"""What a state is counted in, and what is asked of one that is given."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn.connect import FixedIndegree
from jsnn.growth import SynapticElements
from jsnn.neurons import LIF
from jsnn.receptors import Delta, Exponential
from jsnn.release import TsodyksMarkram
from jsnn.rewire import Growing, Rewiring

pytestmark = pytest.mark.fast

KEY = jax.random.key(1)


def network(dt):
    """With all that counts steps: refractory times, delays, releases, and edges that are kept."""
    cells = jsnn.Population(
        LIF(i_e=400.0),
        8,
        {"x": Exponential(2.0)},
        elements={"a": SynapticElements(), "z": SynapticElements()},
    )
    rule = FixedIndegree(2)
    return jsnn.Network(
        {"c": cells},
        {
            "grows": jsnn.Projection(
                "c", "c", rule, weight=1.0, delay=1.2, growing=Growing("a", "z")
            ),
            "releases": jsnn.Projection(
                "c", "c", rule, weight=1.0, delay=1.2, release=TsodyksMarkram()
            ),
        },
        dt=dt,
        key=KEY,
        rewiring=Rewiring(12.0),
    )


def test_a_state_of_other_steps_is_refused():
    net, other = network(0.1), network(0.2)
    state = net.init(KEY)
    assert state.dt == 0.1
    ways = {
        "simulate": lambda: jsnn.simulate(other, state, 1),
        "in jit": lambda: jax.jit(lambda s: jsnn.simulate(other, s, 1).status)(state),
        "run": lambda: jsnn.run(other, 1.2, state=state, progress=False),
        "lesion": lambda: jsnn.lesion(other, state, "c", 0),
        "connections": lambda: other.connections(state),
        "step": lambda: other.step(state),
        "coefficients": lambda: other.step(other.init(KEY), net.prepare()),
    }
    for name, way in ways.items():
        with pytest.raises(ValueError, match=r"with dt=0.1 ms, and this one has dt=0.2 ms"):
            way()
            pytest.fail(name)


def test_steps_that_differ_by_rounding_are_the_same():
    cells = jsnn.Population(LIF(), 1, {"d": Delta()})
    for dt in (0.3 / 3, float(np.float32(0.1))):
        net = jsnn.Network({"c": cells}, dt=dt)
        assert dt != 0.1
        state = jsnn.simulate(jsnn.Network({"c": cells}, dt=0.1), net.init(KEY), 3).state
        assert int(state.step) == 3


def test_a_step_that_cannot_be_is_refused():
    net = network(0.1)
    state = net.init(KEY)

    def at(step):
        return replace(state, step=step)

    def after_spikes(step, last):
        release = replace(state.releases["releases"], last=jnp.full(8, last, jnp.int32))
        return replace(state, step=jnp.int32(step), releases={"releases": release})

    cases = {
        "state is at step -5, and steps are counted from 0": at(jnp.int32(-5)),
        "step is float32": at(jnp.asarray(3.0)),
        r"step is int32 \(2,\)": at(jnp.zeros(2, jnp.int32)),
        r"step is <class 'int'>": at(3),
        # As from a clock that was set back, by which synapses would recover from what is to come
        "at step 0, .* 'releases' remembers spikes of steps 7 to 7": after_spikes(0, 7),
        "at step 7, .* steps 7 to 7": after_spikes(7, 7),
        "at step 9, .* steps -2 to -2": after_spikes(9, -2),
    }
    for message, wrong in cases.items():
        with pytest.raises(ValueError, match=message):
            jsnn.simulate(net, wrong, 1)
        with pytest.raises(ValueError, match=message):
            jsnn.run(net, 0.1, state=wrong, progress=False)
    for step, message in ((-5, "at step -5"), (2**31 - 1, "1 steps after the 2147483647")):
        for kind in (jnp.int32, np.int32):
            with pytest.raises(ValueError, match=message):
                net.step(at(kind(step)))


def test_inputs_on_the_grid_of_another_network_are_refused():
    """Lists of a network are steps of its own dt."""
    cells = {"c": jsnn.Population(LIF(), 2, {"d": Delta()})}
    lists = {
        "spikes": jsnn.inputs.SpikeList("c", [4.0, 8.0], [0, 1], 1.0),
        "current": jsnn.inputs.StepCurrent("c", [4.0, 8.0], [1.0, 2.0]),
    }
    for name, own in lists.items():
        net = jsnn.Network(cells, inputs={name: own}, dt=0.1)
        of_net = net.inputs[name]
        np.testing.assert_array_equal(of_net._steps[:2], [40, 80])
        assert jsnn.Network(cells, inputs={name: of_net}, dt=0.1).inputs[name].dt == 0.1
        other = jsnn.Network(cells, inputs={name: own}, dt=0.2)
        with pytest.raises(ValueError, match=f"{name}.*steps of dt=0.1 ms.*here dt=0.2 ms"):
            jsnn.Network(cells, inputs={name: of_net}, dt=0.2)
        replaced = eqx.tree_at(lambda n, name=name: n.inputs[name], other, of_net)
        with pytest.raises(ValueError, match=f"{name}.*steps of dt=0.1 ms.*here dt=0.2 ms"):
            jsnn.simulate(replaced, other.init(KEY), 1)
