"""What a spike of `HodgkinHuxley` is: a maximum, a crossing, or a membrane above a threshold."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn.connect import Pairs
from jsnn.neurons import (
    Above,
    AtMaximum,
    Channel,
    Crossing,
    Exp,
    Gate,
    HodgkinHuxley,
    Linoid,
    Sigmoid,
)
from jsnn.receptors import Exponential
from jsnn.record import Counts, Spikes, States
from jsnn.solvers import Euler, ExponentialEuler
from jsnn.surrogate import Triangular

REFERENCE = Path(__file__).parent / "reference" / "brian_hh.npz"
DT = 0.05
# By what Brian 2 calls `refractory`; 3 ms are a step shorter here
CHOICES = {"crossing": (Crossing(), 0.0), "above": (Above(), 3.0 - DT)}


def traub_miles(data, spike, t_ref, v_th=-20.0):
    """The cells of Brian 2's COBAHH, in its own integration."""
    v_t = -63.0
    na = {
        "m": Gate(Linoid(0.32, v_t + 13, 4.0), Linoid(-0.28, v_t + 40, -5.0), 3),
        "h": Gate(Exp(0.128, v_t + 17, -18.0), Sigmoid(4.0, v_t + 40, 5.0)),
    }
    k = {"n": Gate(Linoid(0.032, v_t + 15, 5.0), Exp(0.5, v_t + 10, -40.0), 4)}
    law = HodgkinHuxley(
        {"na": Channel(20000.0, 50.0, na), "k": Channel(6000.0, -90.0, k)},
        **{"c_m": 200.0, "g_l": 10.0, "e_l": -60.0, "v_0": -60.0},
        **{"t_ref": t_ref, "i_e": data["i_e"], "v_th": v_th, "spike": spike},
    )
    return jsnn.Population(
        law,
        data["v0"].size,
        {"exc": Exponential(5.0, 0.0), "inh": Exponential(10.0, -80.0)},
        solver=ExponentialEuler(),
        initial={"v": data["v0"], "m": 0.0, "h": 0.0, "n": 0.0},
    )


def network(data, spike, t_ref, **more):
    now = {"delay": 0.0}
    exc, inh = (Pairs(data[f"pre_{end}"], data[f"post_{end}"]) for end in "ei")
    return jsnn.Network(
        {"cells": traub_miles(data, spike, t_ref, **more)},
        {
            "exc": jsnn.Projection("cells", "cells", exc, weight=6.0, receptor="exc", **now),
            "inh": jsnn.Projection("cells", "cells", inh, weight=67.0, receptor="inh", **now),
        },
        dt=DT,
        key=jax.random.key(1),
    )


@pytest.mark.parametrize("how", CHOICES)
def test_spikes_of_brian(x64, how):
    """Every one of 200 ms, on its step."""
    data = dict(np.load(REFERENCE))
    made = network(data, *CHOICES[how])
    record = {"s": Spikes("cells"), "v": States("cells", "v", index=[0])}
    records = jsnn.simulate(made, made.init(jax.random.key(0)), 4000, record).records
    step, cell = np.nonzero(np.asarray(records["s"].raster))
    order = np.lexsort((data[f"{how}_spike_cell"], data[f"{how}_spike_step"]))
    assert np.array_equal(step, data[f"{how}_spike_step"][order])
    assert np.array_equal(cell, data[f"{how}_spike_cell"][order])
    assert len(step) > 500
    # Theirs are before the steps
    np.testing.assert_allclose(records["v"].values[:999, 0], data[f"{how}_v"][1:], atol=1e-6)


# Falls from above, comes back to it without having been below, and rises from below once more
V = [-10.0, -30.0, -21.0, -15.0, 5.0, -5.0, -18.0, -12.0, -19.0, -40.0, -20.0, -20.0, -22.0]


@pytest.mark.parametrize(
    ("spike", "t_ref", "fired"),
    [
        (AtMaximum(), 0.0, [5, 6, 8]),
        (AtMaximum(), 2.0, [5, 8]),
        (Crossing(), 0.0, [3, 10]),
        (Crossing(), 7.0, [3]),
        (Above(), 0.0, [0, 3, 4, 5, 6, 7, 8, 10, 11]),
        (Above(), 2.0, [0, 3, 6, 10]),
    ],
    ids=str,
)
def test_which_steps_are_spikes(spike, t_ref, fired):
    """A membrane without channels, which a current takes to each of the values in turn: with steps
    of 1 ms and a capacitance of 1 pF it moves by the current."""
    start = -10.0
    law = HodgkinHuxley(
        {}, c_m=1.0, g_l=0.0, e_l=0.0, v_0=start, t_ref=t_ref, v_th=-20.0, spike=spike
    )
    source = jsnn.inputs.StepCurrent("c", np.arange(len(V)), np.diff([start, *V]))
    cells = jsnn.Population(law, 1, solver=Euler())
    made = jsnn.Network({"c": cells}, {}, {"i": source}, dt=1.0)
    record = {"s": Spikes("c"), "v": States("c", "v")}
    records = jsnn.simulate(made, made.init(jax.random.key(0)), len(V), record).records
    np.testing.assert_allclose(records["v"].values[:, 0], V)
    assert np.flatnonzero(np.asarray(records["s"].raster)[:, 0]).tolist() == fired


PSI = jax.grad(Triangular())


@pytest.mark.parametrize("spike", [AtMaximum(), Crossing(), Above()])
def test_gradients_of_spikes(x64, spike):
    """A membrane that rises by i_e a step for 20 steps and falls for 20. The derivative of its
    number of spikes is the sum, over the steps in which its margin is a number, of the surrogate's
    slope at v - v_th times the derivative of v; those in which it is refractory do not count."""
    v_th, start, up = -20.0, -23.0, np.r_[np.ones(20), -np.ones(20)]

    def count(i_e):
        law = HodgkinHuxley(
            {}, c_m=1.0, g_l=0.0, e_l=0.0, v_0=start, t_ref=15.0, v_th=v_th, spike=spike
        )
        source = jsnn.inputs.StepCurrent("c", np.arange(40), i_e * up)
        cells = jsnn.Population(law, 1, solver=Euler())
        made = jsnn.Network({"c": cells}, {}, {"i": source}, dt=1.0)
        state = made.init(jax.random.key(0))
        return jnp.sum(jsnn.simulate(made, state, 40, {"n": Counts("c", 1.0)}).records["n"].values)

    i_e, so_far = 0.21, np.cumsum(up)
    v = start + i_e * so_far
    before = np.r_[start, v[:-1]]
    seen = {AtMaximum: v < before, Crossing: before < v_th, Above: np.full(40, True)}[type(spike)]
    expected, left, fired = 0.0, 0, 0
    for k in np.flatnonzero(seen):
        if left <= k:
            expected += float(PSI(v[k] - v_th)) * so_far[k]
            fires = v[k] >= v_th
            left, fired = (k + 16, fired + 1) if fires else (left, fired)
    value, slope = jax.value_and_grad(count)(i_e)
    assert value == fired >= 1
    assert float(slope) == pytest.approx(expected, rel=1e-9) and expected != 0


def test_another_spike_is_refused():
    with pytest.raises(TypeError, match=r"spike=-20.0; give AtMaximum\(\), Crossing\(\) or Above"):
        HodgkinHuxley.squid(spike=-20.0)
