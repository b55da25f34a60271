"""Conductances that are too strong for a substep of `RK4`: membranes stay between the reversal
potentials, and go where the equation sends them."""

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import jsnn
from jsnn.connect import OneToOne
from jsnn.coupling import GapJunction
from jsnn.inputs import SpikeList
from jsnn.population import STRONGEST
from jsnn.record import Spikes, States
from jsnn.solvers import RK4, Euler
from jsnn.state import NEVER

STRENGTHS = np.array([10.0, 100.0, 400.0, 1000.0, 2000.0, 20000.0, 1e6])  # nS
N = STRENGTHS.size
MODELS = ("iaf_cond_exp", "iaf_cond_alpha", "aeif_cond_exp", "aeif_cond_alpha")
ARRIVAL, DURATION = 5.0, 30.0


def run(receptor, dt, solver=None, models=MODELS, **parameters):
    """Cells of each model at rest, each with one arrival of its own strength."""
    populations = {}
    for model in models:
        made = getattr(jsnn.nest, model)(N, **parameters)
        populations[model] = jsnn.Population(made.neuron, N, made.receptors, solver=solver)
    network = jsnn.Network(
        populations,
        {},
        {m: SpikeList(m, [ARRIVAL] * N, range(N), STRENGTHS, receptor) for m in models},
        dt=dt,
    )
    record = {m: States(m, "v") for m in models} | {f"{m} spikes": Spikes(m) for m in models}
    return jsnn.run(network, DURATION, key=jax.random.key(0), record=record).records


@pytest.fixture(scope="module", params=[0.1, 1.0])
def inhibited(request):
    return request.param, run("in", request.param)


@pytest.mark.slow_for("0.1-")
@pytest.mark.parametrize("model", MODELS)
def test_inhibition_of_any_strength_makes_no_spike(inhibited, model):
    _, records = inhibited
    assert records[f"{model} spikes"].times.size == 0
    v = np.asarray(records[model].values)
    assert v.min() > -85.001 and v.max() < -69.9
    assert np.all(np.diff(v.min(axis=0)) < 0)  # the stronger the lower
    assert v.min(axis=0)[-1] < -84.9


def exact(strength, dt):
    """The membrane of `iaf_cond_exp` after each step, after an arrival at the end of a step."""
    c_m, g_l, e_l, e_in, tau = 250.0, 16.6667, -70.0, -85.0, 2.0
    slope = lambda t, v: (g_l * (e_l - v) + strength * np.exp(-t / tau) * (e_in - v)) / c_m
    t = np.arange(0, DURATION - ARRIVAL + dt / 2, dt)
    return solve_ivp(slope, (0, t[-1]), [e_l], "Radau", t, rtol=1e-9, atol=1e-9).y[0]


def test_membranes_go_where_the_equation_sends_them(inhibited):
    """A step of a ms tells a membrane that takes a tenth of it from one that takes all of it only
    so far; it is there after a few."""
    dt, records = inhibited
    v = np.asarray(records["iaf_cond_exp"].values)[round(ARRIVAL / dt) - 1 :]
    for cell, strength in enumerate(STRENGTHS):
        error = np.abs(v[:, cell] - exact(strength, dt)[: v.shape[0]])
        strong = strength * dt / 250.0
        assert error.max() < (0.02 if strong < 0.5 else 0.31 * 15.0), strength
        assert error[4:].max() < (0.02 if strong < 0.5 else 0.5), strength


def test_excitation_of_any_strength_makes_spikes_at_once():
    records = run("ex", 0.1, t_ref=2.0)
    for model in MODELS:
        spikes, v = records[f"{model} spikes"], np.asarray(records[model].values)
        assert np.all(np.isfinite(v)) and v.max() <= 0.001, model
        if model.startswith("iaf"):
            assert v.min() > -70.001
        for cell in np.flatnonzero(STRENGTHS >= 20000.0):
            assert spikes.times[spikes.index == cell][0] == pytest.approx(ARRIVAL + 0.1), model


def test_ordinary_conductances_are_those_of_runge_kutta(x64):
    """Up to the limit nothing changes: the method as written in textbooks, in NumPy."""
    dt, weakest = 0.1, STRENGTHS * 0.1 / 250.0 < STRONGEST
    assert 0 < np.count_nonzero(weakest) < N
    v = np.asarray(run("in", dt, models=MODELS[:1])["iaf_cond_exp"].values)[49:, weakest]
    g = STRENGTHS[weakest]

    def slope(v, g):
        return (16.6667 * (-70.0 - v) + g * (-85.0 - v)) / 250.0

    expected = [v[0]]
    for step in range(v.shape[0] - 1):
        g_0, g_m, g_1 = (g * np.exp(-(step + part) * dt / 2.0) for part in (0.0, 0.5, 1.0))
        y = expected[-1]
        a = slope(y, g_0)
        b = slope(y + dt / 2 * a, g_m)
        c = slope(y + dt / 2 * b, g_m)
        d = slope(y + dt * c, g_1)
        expected.append(y + dt / 6 * (a + 2 * b + 2 * c + d))
    np.testing.assert_allclose(v, expected, rtol=1e-13)


def test_more_substeps_take_more(x64):
    """The limit is that of a substep: with eight, it is at eight times the strength."""
    v = np.asarray(run("in", 1.0, RK4(8), models=MODELS[:1])["iaf_cond_exp"].values)[4:]
    for cell in np.flatnonzero(STRENGTHS <= 1000.0):
        np.testing.assert_allclose(v[:, cell], exact(STRENGTHS[cell], 1.0)[: v.shape[0]], atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["iaf_cond_exp", "aeif_cond_exp"])
@pytest.mark.parametrize("leak", [2.0, 2.7])
def test_leaks_count_with_the_conductances(model, leak):
    """A leak that takes nearly all of the way in a substep, and inhibition of every strength."""
    strengths = np.geomspace(1.0, 1e5, 30)
    pieces = {"iaf_cond_exp": 2, "aeif_cond_exp": 1}[model]
    c_m = 250.0
    cells = getattr(jsnn.nest, model)(
        30, C_m=c_m, g_L=leak * pieces * c_m, E_L=-70.0, V_m=-70.0, tau_syn_in=50.0
    )
    arrivals = SpikeList("c", np.full(30, 5.0), np.arange(30), strengths, "in")
    network = jsnn.Network({"c": cells}, inputs={"i": arrivals}, dt=1.0)
    record = {"v": States("c", "v"), "s": Spikes("c")}
    records = jsnn.run(network, 40.0, key=jax.random.key(0), record=record).records
    v = np.asarray(records["v"].values)
    assert records["s"].times.size == 0 and v.max() < -69.99 and v.min() > -85.001
    assert np.all(np.diff(v.min(0)) < 1e-3)


@pytest.mark.parametrize("solver", [RK4(), RK4(3), Euler()])
def test_membranes_that_are_faster_than_steps_are_refused(solver):
    """Of a leak alone a step would make more and more."""
    pieces, limit = solver.n_pieces, 2.0 if isinstance(solver, Euler) else 2.785
    law = lambda rate: jsnn.neurons.LIF(tau_m=1 / (rate * limit * pieces))  # noqa: E731

    def made(rate):
        cells = jsnn.Population(law(rate), 1, solver=solver, initial={"v": -69.0})
        return jsnn.Network({"c": cells}, dt=1.0)

    def last(network):
        return jsnn.simulate(network, network.init(jax.random.key(0)), 40).state

    assert abs(float(last(made(0.97)).populations["c"].cell["v"][0]) + 70) < 1
    with pytest.raises(ValueError, match="'c': membranes of .* are too fast for .*substeps"):
        made(1.03)
    traced = jax.jit(lambda rate: last(made(rate)).status["c"])
    assert int(traced(0.97)) == NEVER and int(traced(1.03)) == 0


def test_strong_gap_junctions():
    """Between a cell that fires and one at rest: both stay where they can be."""
    network = jsnn.Network(
        {
            "cells": jsnn.Population(
                jsnn.neurons.LIF(i_e=np.array([800.0, 0.0]), t_ref=1.0),
                2,
                solver=RK4(),
                slices={"a": slice(0, 1), "b": slice(1, 2)},
            )
        },
        couplings={
            "there": GapJunction("cells.a", "cells.b", OneToOne(), conductance=5000.0),
        },
        dt=0.1,
        key=jax.random.key(0),
    )
    record = {"v": States("cells", "v"), "spikes": Spikes("cells.b")}
    records = jsnn.run(network, 50.0, key=jax.random.key(1), record=record).records
    v = np.asarray(records["v"].values)
    assert np.all(np.isfinite(v)) and v.min() > -70.01 and v.max() < -54.99


def test_adaptation_is_not_moved_by_a_membrane_that_is_held_back(x64):
    """The coordinate of w has a part of the membrane's motion near threshold: of the motion that
    there is. With steps of a hundredth, conductances are not strong."""

    def w(dt):
        cells = jsnn.Population(
            jsnn.neurons.AdEx(a=80.0, i_e=0.0),
            1,
            {"in": jsnn.receptors.Exponential(0.2, e_rev=-85.0)},
            initial={"v": -51.0, "in.g": 2e5},
        )
        record = {"w": States("cells", "w", every=2.0)}
        network = jsnn.Network({"cells": cells}, dt=dt)
        return jsnn.run(network, 2.0, key=jax.random.key(0), record=record).records["w"].values[0]

    coarse, fine = w(0.1), w(5e-4)
    assert fine < -10.0
    assert -15.5 < coarse < -5.0  # up to two steps late of some that take it all the way
