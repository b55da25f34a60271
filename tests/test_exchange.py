"""Waveform relaxation: that it converges, to what, and what it says where it does not."""

import equinox as eqx
import jax
import numpy as np
import pytest
from test_coupling import PASSIVE, membranes, pair

import jsnn
from jsnn.connect import AllToAll, Pairs
from jsnn.coupling import GapJunction
from jsnn.exchange import Joint, WaveformRelaxation
from jsnn.inputs import SpikeList
from jsnn.neurons import LIF
from jsnn.receptors import Delta, Exponential
from jsnn.record import States
from jsnn.solvers import RK4, Splitting

SPIKE = 12.8  # ms, in which the driven cell fires; whole blocks: a cut one is compiled apart


@pytest.mark.slow_for("0-1", "1-2")
@pytest.mark.parametrize(("order", "rate"), [(0, 1), (1, 2), (3, 4)])
def test_relaxation_converges_to_the_joint_solution(x64, order, rate):
    """With the order of its polynomials as steps shrink: the solver itself is exact beside it."""
    errors = []
    for dt in (0.5, 0.25, 0.125):
        law = LIF(**PASSIVE)
        exchange = WaveformRelaxation(interval=1.0, tol=1e-13, max_iterations=60, order=order)
        relaxed = pair(exchange, conductance=20.0, solver=RK4(8), dt=dt, law=law)
        joint = pair(conductance=20.0, solver=RK4(8), dt=dt, law=law)
        every = round(0.5 / dt)
        found, wanted = membranes(relaxed, 10.0), membranes(joint, 10.0)
        errors.append(np.abs(found - wanted)[every - 1 :: every].max())
    measured = np.log2(np.array(errors[:-1]) / errors[1:])
    assert abs(measured[-1] - rate) < 0.2, (errors, measured)
    assert errors[-1] > 1e-12  # or the order is that of rounding


@pytest.mark.slow
def test_relaxation_of_channels_nears_the_joint_solution(x64):
    errors = []
    for dt in (0.05, 0.025, 0.0125):
        wanted = membranes(pair(solver=Splitting((4, 6)), dt=dt), SPIKE)
        relaxed = pair(WaveformRelaxation(interval=0.1, tol=1e-9), solver=Splitting((4, 6)), dt=dt)
        errors.append(np.abs(membranes(relaxed, SPIKE) - wanted).max())
    assert wanted.max() > 0  # a spike
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


@pytest.mark.slow
def test_tolerance_bounds_the_error(x64):
    joint = membranes(pair(WaveformRelaxation(tol=1e-10), conductance=0.5), SPIKE)
    errors, iterations = [], []
    for tol in (1e-1, 1e-3, 1e-5):
        network = pair(WaveformRelaxation(tol=tol), conductance=0.5)
        state = network.init(jax.random.key(1))
        # `run` compiles a program for each tolerance that is larger than this
        solution = jsnn.simulate(network, state, 256, {"v": States("cells", "v")})
        errors.append(np.abs(solution.records["v"].values - joint).max())
        stats = solution.stats["relaxation"]
        assert stats["windows"] == 13 and 0 < stats["residual"] <= tol
        iterations.append(stats["iterations"])
    assert errors[0] > errors[1] > errors[2]
    assert 1 < iterations[0] < iterations[1] < iterations[2] < 15


def test_last_step_is_relaxation_without_a_round(x64):
    """NEST's `use_wfr=False`: partners are held at what they were after the step before."""
    network = pair(
        WaveformRelaxation(interval=None, max_iterations=0, order=0),
        law=LIF(**PASSIVE),
        solver=RK4(),
    )
    found = membranes(network, 1.0)
    v, c, g = np.full(2, -70.0), 100.0, 2.0
    for row in found:
        # Exact for a constant partner
        rate = 1 / 10.0 + g / c
        inf = (-70.0 / 10.0 + PASSIVE["i_e"] / c + g / c * v[::-1]) / rate
        v = inf + (v - inf) * np.exp(-rate * 0.05)
        np.testing.assert_allclose(row, v, rtol=0, atol=1e-9)


def test_windows_know_what_arrives_in_their_last_step(x64):
    """Windows of five steps and a delay of eight: blocks of four, of which a window may begin in
    any step. Spikes in every step, so that some arrive at the end of each window."""
    exchange = WaveformRelaxation(interval=0.5, tol=1e-12, max_iterations=40)
    given = SpikeList("pre", np.arange(1, 60) * 0.1, np.arange(1, 60) % 3, 1e3)
    weight = np.linspace(-50.0, 90.0, 6)
    network = jsnn.Network(
        {
            "pre": jsnn.Population(LIF(t_ref=0.0), 3, {"x": Delta()}),
            "cells": jsnn.Population(LIF(**PASSIVE), 2, {"x": Exponential(2.0)}, solver=RK4()),
        },
        {"p": jsnn.Projection("pre", "cells", AllToAll(), weight=weight, delay=0.8)},
        {"given": given},
        couplings={"gap": GapJunction("cells", "cells", Pairs([0], [1]), conductance=10.0)},
        dt=0.1,
        key=jax.random.key(0),
        exchange=exchange,
    )
    assert network.block == 4
    state, wanted = network.init(jax.random.key(1)), []
    found = jsnn.simulate(network, state, 60, {"v": States("cells", "v")}).records["v"].values
    step = eqx.filter_jit(lambda network, state: network.step(state)[0])
    for _ in range(60):
        state = step(network, state)
        wanted.append(np.asarray(state.populations["cells"].cell["v"]))
    assert np.ptp(wanted) > 2
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)


def linear(exchange):
    """Passive cells, which compile soonest, strongly coupled."""
    return pair(exchange, conductance=20.0, solver=RK4(), law=LIF(**PASSIVE))


def test_what_does_not_converge_is_an_error():
    network = linear(WaveformRelaxation(max_iterations=2, tol=1e-4))
    with pytest.raises(ValueError, match=r"did not converge.*max_iterations=2.*mV, and tol=0.0001"):
        jsnn.run(network, 20.0, key=jax.random.key(1))
    solution = jsnn.simulate(network, network.init(jax.random.key(1)), 384)
    assert solution.stats["relaxation"]["residual"] > 1e-4


def test_convergence_is_asked_of_the_windows_that_had_a_tolerance():
    """A state that was advanced without a test is not blamed for it later."""
    loose = linear(WaveformRelaxation(max_iterations=1, tol=None))
    state = jsnn.simulate(loose, loose.init(jax.random.key(1)), 20).state
    strict = linear(WaveformRelaxation(max_iterations=60))
    solution = jsnn.run(strict, 1.0, state=state)
    assert solution.status["relaxation"] == jsnn.NEVER


def passive(n):
    return jsnn.Population(LIF(**{**PASSIVE, "i_e": np.linspace(0.0, 300.0, n)}), n, solver=RK4())


def several(exchange):
    """Two groups, a population that is in none, and one that only an empty coupling reaches."""
    edge = Pairs([0], [1])
    return jsnn.Network(
        {name: passive(2) for name in "abcde"},
        couplings={
            "ab": GapJunction("a", "b", edge, conductance=5.0),
            "cc": GapJunction("c", "c", edge, conductance=5.0),
            "be": GapJunction("b", "e", Pairs([], []), conductance=5.0),
        },
        dt=0.1,
        key=jax.random.key(0),
        exchange=exchange,
    )


def test_several_groups_relax_beside_each_other(x64):
    joint = several(Joint())
    assert joint.groups == [("a", "b"), ("c",), ("d",), ("e",)]
    relaxed = several(WaveformRelaxation(tol=1e-10, max_iterations=50))
    found, wanted = membranes(relaxed, 5.0), membranes(joint, 5.0)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    alone = jsnn.Network({"d": passive(2)}, dt=0.1)
    np.testing.assert_allclose(found[:, 6:8], membranes(alone, 5.0), rtol=0, atol=1e-12)
    assert np.abs(found[:, 4:6] - found[:, 6:8]).max() > 1e-2  # c is coupled, d is not
