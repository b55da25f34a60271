"""Neurons with channels and gap junctions against NEST and against SciPy's DOP853, in float64.

Membranes are compared away from upstrokes: further than 0.2 ms from each step in which DOP853's
changes by more than 0.5 mV. Beside them a shift in time, by what is nothing, moves them by more.
"""

from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells import STEPS, arrays, arriving, fresh_kernel, jsnn_cells, nest_cells, trains
from channels import away, integrate, spikes_of

from jsnn import nest as models
from jsnn.connect import Pairs
from jsnn.coupling import GapJunction
from jsnn.exchange import WaveformRelaxation
from jsnn.neurons import HodgkinHuxley
from jsnn.population import Moved, Population
from jsnn.solvers import Splitting

nest = pytest.importorskip("nest")

DT, DURATION = 0.05, 350.0
NO_CURRENT = np.array([1.0]), np.array([0.0])
NO_SPIKES = {name: [(np.array([300.0]), np.array([0.0]))] * 6 for name in ("ex", "in")}
LAST_STEP = WaveformRelaxation(interval=None, max_iterations=0, order=0)

CELLS = {
    # With 800 pA, NEST put one spike of the third cell a step late
    "hh_psc_alpha": {
        "t_ref": [2.0, 2.0, 0.0, 2.0, 20.0, 2.0],
        "I_e": [0.0, 650.0, 820.0, 1000.0, 1400.0, -100.0],
        "V_m": [-65.0, -65.0, -60.0, -70.0, -65.0, -75.0],
    },
    "hh_psc_alpha_gap": {
        "t_ref": [2.0, 2.0, 0.0, 2.0, 20.0, 2.0],
        "I_e": [0.0, 60.0, 100.0, 150.0, 250.0, -30.0],
        "V_m": [-69.60401191631222, -10.0, -65.0, -75.0, -60.0, -70.0],
    },
}
WEIGHTS = {"hh_psc_alpha": (2000.0, 600.0), "hh_psc_alpha_gap": (1000.0, 100.0)}  # pA

# NEST's example of two cells, with three conductances (nS)
GAPS = [(0, 1, 0.5), (2, 3, 2.0), (4, 5, 5.0)]
PAIRS = {
    "t_ref": [2.0] * 6,
    "I_e": [100.0] * 6,
    "V_m": [-10.0, models.DEFAULTS["hh_psc_alpha_gap"]["V_m"]] * 3,
}


def reference(model, params, spikes, stimulus, gaps=()):
    """DOP853's membranes and spikes, and which membranes are away from upstrokes."""
    signed = {
        name: [(times, -weights if name == "in" else weights) for times, weights in lists]
        for name, lists in spikes.items()
    }
    arrivals, current = arriving(signed, DURATION, dt=DT, stimulus=stimulus)
    p: dict[str, Any] = nest.GetDefaults(model) | arrays(params)
    v = integrate(model, p, arrivals, current, DT, gaps)
    return v, spikes_of(v, p["V_m"], p["t_ref"], DT), away(v, p["V_m"], DT)


def largest(values, exact, where=True):
    """The largest error of each cell (mV); NEST hands out nothing of the last millisecond."""
    return np.nanmax(np.where(where, np.abs(values - exact), 0), axis=0)


@pytest.fixture(scope="module", params=list(CELLS))
def driven(request):
    """Six cells under constant currents, steps of current and spikes, on NEST and by DOP853."""
    model = request.param
    params = CELLS[model]
    spikes = trains(6, DURATION, {"ex": 60.0, "in": 30.0}, WEIGHTS[model], seed=3)
    fresh_kernel(DT)
    theirs, their_spikes = nest_cells(model, params, spikes, DURATION, dt=DT)
    exact, exact_spikes, far = reference(model, params, spikes, STEPS)

    def ours(solver=None):
        population = getattr(models, model)(6, **arrays(params), solver=solver)
        return jsnn_cells(population, spikes, DURATION, dt=DT)

    return SimpleNamespace(**locals())


@pytest.mark.slow
def test_driven_cells(x64, driven):
    """Every spike of NEST's and of DOP853's, and who errs by how much: NEST integrates
    `hh_psc_alpha` to 1e-3 an adaptive step and `hh_psc_alpha_gap` to 1e-6."""
    ours, our_spikes = driven.ours()
    assert our_spikes == driven.their_spikes == driven.exact_spikes
    assert {cell for _, cell in our_spikes} == set(range(6)) and len(our_spikes) > 100
    assert 0.7 < np.mean(driven.far) < 0.9
    error = largest(ours["V_m"], driven.exact, driven.far)
    their_error = largest(driven.theirs["V_m"], driven.exact, driven.far)
    if driven.model == "hh_psc_alpha":  # nearer than NEST's
        assert np.max(error) < 1e-4 and np.max(their_error) < 5e-4
    else:
        assert np.max(error) < 0.01 and np.max(their_error) < 1e-4
    for name, gate in (("Act_m", "m"), ("Inact_h", "h"), ("Act_n", "n"), ("Inact_p", "p")):
        assert (name in driven.theirs) == (gate in "mhn" or driven.model == "hh_psc_alpha_gap")
        if name in driven.theirs:
            assert np.max(largest(ours[name], driven.theirs[name], driven.far)) < 2e-4
    for name in ("I_syn_ex", "I_syn_in"):  # pA by hundreds
        assert np.max(largest(ours[name], driven.theirs[name])) < 5e-4


@pytest.mark.slow
def test_convergence(x64, driven):
    """Twice as many substeps leave less than a quarter of the largest error: where the leading
    term of fourth order rules, a sixteenth."""
    coarse, fine = (
        largest(driven.ours(solver)[0]["V_m"], driven.exact, driven.far)
        for solver in (Splitting((4, 6)), Splitting((8, 12)))
    )
    assert np.max(fine) * 4 < np.max(coarse)
    assert np.median(coarse / fine) > 12


@pytest.fixture(scope="module")
def joined():
    """Three pairs of cells joined by gap junctions: on NEST with and without relaxation, and by
    DOP853 as one system."""
    model, theirs, their_spikes = "hh_psc_alpha_gap", {}, {}
    for use_wfr in (True, False):
        fresh_kernel(DT)
        nest.use_wfr = use_wfr
        if use_wfr:
            nest.wfr_comm_interval, nest.wfr_tol = 1.0, 1e-4
            nest.wfr_max_iterations, nest.wfr_interpolation_order = 15, 3
        states, their_spikes[use_wfr] = nest_cells(
            model, PAIRS, NO_SPIKES, DURATION, dt=DT, stimulus=NO_CURRENT, gaps=GAPS
        )
        theirs[use_wfr] = states["V_m"]
    exact, exact_spikes, far = reference(model, PAIRS, NO_SPIKES, NO_CURRENT, GAPS)

    def ours(exchange=None):
        a, b, conductance = (np.array(own) for own in zip(*GAPS, strict=True))
        states, spikes = jsnn_cells(
            models.hh_psc_alpha_gap(6, **arrays(PAIRS)),
            NO_SPIKES,
            DURATION,
            dt=DT,
            stimulus=NO_CURRENT,
            couplings={"gaps": GapJunction("cells", "cells", Pairs(a, b), conductance=conductance)},
            exchange=exchange,
        )
        return states["V_m"], spikes

    return SimpleNamespace(**locals())


@pytest.mark.slow
def test_gap_junctions(x64, joined):
    """`Joint` has NEST's spikes and DOP853's membranes. Held for a step, partners move spikes, in
    NEST as here."""
    v, spikes = joined.ours()
    assert spikes == joined.their_spikes[True]
    assert {cell for _, cell in spikes} == set(range(6)) and len(spikes) > 30
    # One maximum lies between two steps: it is NEST's and ours a step after DOP853's
    assert set(spikes) ^ set(joined.exact_spikes) == {(3699, 1), (3700, 1)}
    error = largest(v, joined.exact, joined.far)
    assert np.max(error) < 0.004
    assert np.max(largest(joined.theirs[True], joined.exact, joined.far)) < 0.04

    held, held_spikes = joined.ours(LAST_STEP)
    # NEST's cells get no current through gap junctions in their first step (0.4 mV at 5 nS)
    steps, their_steps = (
        {cell: np.array([step for step, own in found if own == cell]) for cell in range(6)}
        for found in (held_spikes, joined.their_spikes[False])
    )
    assert all(np.max(np.abs(steps[cell] - their_steps[cell])) <= 1 for cell in range(6))
    assert np.max(largest(held, joined.theirs[False], joined.far)) < 0.4
    held_error = largest(held, joined.exact, joined.far)
    assert np.all(held_error > 50 * error) and np.max(held_error) > 500 * np.max(error)


@pytest.mark.slow
def test_waveform_relaxation(x64, joined):
    """NEST relaxes the same polynomials until nothing changes by 1e-4 mV."""
    v, spikes = joined.ours(WaveformRelaxation())
    assert spikes == joined.their_spikes[True]
    assert np.max(largest(v, joined.theirs[True], joined.far)) < 0.004


@pytest.fixture
def cells(x64):
    return Population(HodgkinHuxley.interneuron(), 1)


def test_a_spike_is_a_maximum_above_the_threshold(cells):
    """The step after which v is lower than before and not below 0; then none for 2 ms."""
    v = [-5.0, 3.0, 9.0, 8.0, 7.0, -1.0, -2.0, *[1.0, 0.5] * 25, 0.0, -0.1, -0.2]
    coefficients, state = cells.prepare(DT), cells.init(jax.random.key(1))
    fired = []
    for value in v:
        moved = eqx.tree_at(lambda s: s.cell["v"], state, jnp.array([value]))
        state, spike, _ = cells.finish(coefficients, state, Moved(moved, None), {})
        fired.append(bool(spike[0]))
        assert float(state.cell["v"][0]) == value  # nothing is reset
    # Refractory for the 40 steps after step 3; step 44 is the next whose value falls
    assert v[44] < v[43] and np.flatnonzero(fired).tolist() == [3, 44]


@pytest.mark.parametrize(("v", "fires"), [(0.0, True), (-1e-9, False), (1.0, False), (2.0, False)])
def test_margin(cells, v, fires):
    before, after = ({"v": jnp.array([value])} for value in (1.0, v))
    assert bool(cells.neuron.margin(before, after)[0] >= 0) == fires


@pytest.mark.parametrize("model", list(CELLS))
def test_gates_start_at_the_equilibrium_of_the_default(x64, model):
    """Also where another V_m is given, as in NEST; and where no gate is."""
    state = getattr(models, model)(2, V_m=[-10.0, -50.0]).init(jax.random.key(1))
    assert state.cell["v"].tolist() == [-10.0, -50.0]
    fresh_kernel(DT)
    theirs = nest.Create(model, 1, {"V_m": -10.0})
    law = HodgkinHuxley.squid if model == "hh_psc_alpha" else HodgkinHuxley.interneuron
    rest = law().initial()
    for name, gate in (("Act_m", "m"), ("Inact_h", "h"), ("Act_n", "n"), ("Inact_p", "p")):
        if gate in state.cell:
            assert state.cell[gate].tolist() == [theirs.get(name)] * 2
            assert float(rest[gate]) == pytest.approx(theirs.get(name), rel=1e-12)
    assert models.hh_psc_alpha(1, Act_m=0.25).init(jax.random.key(1)).cell["m"].tolist() == [0.25]
