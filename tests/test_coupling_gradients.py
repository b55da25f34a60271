"""Gradients through gap junctions and channels, against differences."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jsnn
from jsnn.connect import Pairs
from jsnn.coupling import GapJunction
from jsnn.exchange import Joint, WaveformRelaxation
from jsnn.neurons import Channel, Exp, Gate, HodgkinHuxley, Sigmoid
from jsnn.record import States
from jsnn.solvers import RK4, Splitting

DT = 0.05
TARGET = -65.0  # mV
STEPS = 64  # 3.2 ms, a spike in them; one whole block, since a cut one is compiled apart
# By the form that a step has the conductances in: cells, and the edges between them
FORMS = {
    "dense": (4, [0, 1, 2, 0, 0], [1, 2, 3, 2, 2]),  # one pair twice
    "table": (16, [0, 5, 9], [1, 6, 2]),
    "edges": (16, [0, 0, 7, 0], [1, 2, 0, 3]),  # one row is long
}


def one_channel(i_e):
    """The cell whose reverse pass through relaxation compiles in a third of the time."""
    gate = Gate(Exp(0.1, 20.0, -50.0), Sigmoid(0.4, -10.0, -40.0), 2)
    return HodgkinHuxley(
        {"K": Channel(30.0, -80.0, {"n": gate})}, c_m=100.0, g_l=5.0, e_l=-60.0, v_0=-60.0, i_e=i_e
    )


CELLS = {
    "interneuron": (HodgkinHuxley.interneuron, 900.0),
    "squid": (HodgkinHuxley.squid, 2000.0),
    "one channel": (one_channel, 500.0),
}
EXCHANGES = {
    "splitting": (Joint(), Splitting()),
    "coarse splitting": (Joint(), Splitting((2, 4))),  # its gradient compiles sooner
    "rk4": (Joint(), RK4(8)),
    "relaxed, a step": (WaveformRelaxation(None, None, 3), RK4(4)),
    "relaxed, 1 ms": (WaveformRelaxation(1.0, None, 3), RK4(8)),
    "relaxed, splitting": (WaveformRelaxation(1.0, None, 3), Splitting((2, 4))),
}


def network(form="dense", cell="interneuron", exchange="splitting", conductance=None):
    """Cells that start apart, of which some are driven to fire."""
    n, pre, post = FORMS[form]
    make, current = CELLS[cell]
    relaxed, solver = EXCHANGES[exchange]
    each = np.linspace(3.0, 9.0, len(pre)) if conductance is None else conductance
    drive = current * (np.arange(n) % 2 == 0)
    v = np.linspace(-75.0, -55.0, n)
    built = jsnn.Network(
        {"cells": jsnn.Population(make(i_e=drive), n, solver=solver, initial={"v": v})},
        couplings={"gaps": GapJunction("cells", "cells", Pairs(pre, post), conductance=each)},
        dt=DT,
        key=jax.random.key(0),
        exchange=relaxed,
    )
    (way,) = built.couplings["gaps"].ways
    assert (way.dense, way.table is None) == (form == "dense", form != "table")
    return built


def traces(net, steps=STEPS):
    """The membranes after each step, from the start that the parameters say."""
    state = net.init(jax.random.key(0))
    return jsnn.simulate(net, state, steps, {"v": States("cells", "v")}).records["v"].values


def parameters(net):
    """What can be fitted: the conductances of gaps, and all of the cell but t_ref and v_th, which
    only spikes see."""
    neuron = net.populations["cells"].neuron
    rates = {
        name: {way: vars(getattr(gate, way)) for way in ("alpha", "beta")}
        for name, gate in neuron.gates.items()
    }
    cell = {name: getattr(neuron, name) for name in ("c_m", "g_l", "e_l", "v_0", "i_e")}
    channels = {name: {"g": own.g, "e": own.e} for name, own in neuron.channels.items()}
    gap = net.couplings["gaps"].conductance
    return {"gap": gap, "cell": cell, "channels": channels, "rates": rates}


def with_parameters(net, values):
    return eqx.tree_at(lambda own: jax.tree.leaves(parameters(own)), net, jax.tree.leaves(values))


def scales(values):
    """What each parameter is measured in: itself, or 10 mV for potentials, which may be 0, 100 pA
    for currents, and a tenth of slopes, which stand below large differences of potential."""

    def one(path, value):
        name = path[-1].key
        if name in ("v_0", "e", "e_l"):
            return jnp.full_like(value, 10.0)
        if name == "s":
            return value / 10
        return jnp.full_like(value, 100.0) if name == "i_e" else value

    return jax.tree_util.tree_map_with_path(one, values)


def losses(net, target, steps=STEPS):
    """The mean square distance of traces, and the highest membrane, of the changes of all
    parameters on their scales; and their names."""
    values = parameters(net)
    scale = scales(values)
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, value in jax.tree.leaves_with_path(values)
        for _ in range(value.size)
    ]
    none, unravel = ravel_pytree(jax.tree.map(jnp.zeros_like, values))

    def loss(change):
        new = jax.tree.map(lambda v, s, c: v + s * c, values, scale, unravel(change))
        v = traces(with_parameters(net, new), steps)
        return jnp.mean((v - target) ** 2), jnp.max(v)

    return loss, none, names


def differences(loss, at, h):
    """Central differences in each component, from three distances: their error is of order h^6."""
    k = jnp.asarray([1, 2, 3, -1, -2, -3])
    moves = k[:, None, None] * h * jnp.eye(at.size)
    # All in one batch, since the loss compiles once for it
    found = jax.vmap(jax.vmap(loss))(at + moves)
    slopes = (found[:3] - found[3:]) / (2 * h * k[:3, None])
    return jnp.asarray([1.5, -0.6, 0.1]) @ slopes


@cache
def case(form, cell, exchange, conductance, steps):
    """The distance, no change, names, and the gradient and the highest membrane there.

    Forward: in reverse it is the same, and compiles ten times as long.
    """
    both, none, names = losses(network(form, cell, exchange, conductance), TARGET, steps)
    gradient, highest = jax.jit(jax.jacfwd(both, has_aux=True))(none)
    return lambda at: both(at)[0], none, names, np.asarray(gradient), float(highest)


# Each form, with one conductance and with one an edge; each cell; each way to exchange
CASES = [
    ("dense", "interneuron", "coarse splitting", None, STEPS),
    ("table", "squid", "coarse splitting", 5.0, STEPS),
    ("edges", "one channel", "splitting", None, STEPS),
    ("table", "one channel", "rk4", None, STEPS),
    ("dense", "one channel", "rk4", 5.0, STEPS),
    ("edges", "one channel", "relaxed, a step", None, STEPS),
    ("edges", "one channel", "relaxed, 1 ms", 5.0, 80),  # a cut block, and a window across both
    ("dense", "one channel", "relaxed, splitting", None, STEPS),
]


@pytest.mark.slow_for("interneuron", "squid", "relaxed", "splitting")
@pytest.mark.parametrize(("form", "cell", "exchange", "conductance", "steps"), CASES)
def test_gradient_equals_central_differences(x64, form, cell, exchange, conductance, steps):
    """In every gap junction, channel, reversal potential and rate, through a spike where cells have
    them."""
    loss, none, names, found, highest = case(form, cell, exchange, conductance, steps)
    assert cell == "one channel" or highest > 0.0  # a spike
    wanted = np.asarray(jax.jit(lambda at: differences(loss, at, 2e-5))(none))
    floor = 1e-9 * np.max(np.abs(wanted))
    for name, a, b in zip(names, found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=floor, err_msg=name)
    gaps = [abs(b) for name, b in zip(names, wanted, strict=True) if name == "gap"]
    assert min(gaps) > 1e3 * floor  # a test of all of them


# Cases of above, whose forward gradient is at hand
REVERSED = [
    ("dense", "interneuron", "coarse splitting"),
    ("table", "one channel", "rk4"),
    ("edges", "one channel", "relaxed, a step"),
]


@pytest.mark.slow_for("interneuron", "relaxed")
@pytest.mark.parametrize(("form", "cell", "exchange"), REVERSED)
def test_gradient_in_reverse_equals_forward(x64, form, cell, exchange):
    loss, none, names, wanted, _ = case(form, cell, exchange, None, STEPS)
    found = np.asarray(jax.jit(jax.grad(loss))(none))
    floor = 1e-12 * np.max(np.abs(wanted))
    for name, a, b in zip(names, found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=floor, err_msg=name)


@pytest.mark.slow_for("dense", "table")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("exchange", ["coarse splitting", "relaxed, 1 ms"])
def test_conductances_side_by_side(x64, form, exchange):
    """Equal single runs."""
    net = network(form, "one channel", exchange, 5.0)  # which compiles soonest

    def one(conductance):
        return traces(eqx.tree_at(lambda n: n.couplings["gaps"].conductance, net, conductance))

    conductances = jnp.asarray([0.0, 8.0, 12.0])
    found = jax.jit(jax.vmap(one))(conductances)
    single = jax.jit(one)
    for own, conductance in zip(found, conductances, strict=True):
        np.testing.assert_allclose(own, single(conductance), rtol=1e-9, atol=1e-9)
    assert np.max(np.abs(found[1] - found[0])) > 1.0
