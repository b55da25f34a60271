"""The adaptive exponential neuron against NEST and against SciPy's DOP853, in float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells import arrays, fresh_kernel, jsnn_cells, listed, nest_cells, reference_adex, trains

import jsnn
from jsnn import nest as models
from jsnn._system import Current
from jsnn.connect import Pairs
from jsnn.coupling import GapJunction
from jsnn.neurons import AdEx
from jsnn.record import Spikes, States
from jsnn.solvers import RK4, Euler, Exact, ExponentialEuler, Splitting

DT = 0.1
NO_CURRENT = np.array([1.0]), np.array([0.0])

# Naud, Marcille, Clopath and Gerstner (2008), table 1; NEST's default; a fast cell that is silent
NAMES = ("C_m", "g_L", "E_L", "V_th", "a", "tau_w", "b", "V_reset", "I_e")
PATTERNS = {
    "tonic": (200.0, 10.0, -70.0, -50.0, 2.0, 30.0, 0.0, -58.0, 500.0),
    "adapting": (200.0, 12.0, -70.0, -50.0, 2.0, 300.0, 60.0, -58.0, 500.0),
    "initial burst": (130.0, 18.0, -58.0, -50.0, 4.0, 150.0, 120.0, -50.0, 400.0),
    "bursting": (200.0, 10.0, -58.0, -50.0, 2.0, 120.0, 100.0, -46.0, 210.0),
    "default": (281.0, 30.0, -70.6, -50.4, 4.0, 144.0, 80.5, -60.0, 1000.0),
    "irregular": (100.0, 12.0, -60.0, -50.0, -11.0, 130.0, 30.0, -48.0, 160.0),
    "silent": (20.0, 30.0, -70.6, -50.4, 4.0, 2.0, 80.5, -60.0, 400.0),
}
N = len(PATTERNS)
REGULAR = slice(0, 5)
CELLS = dict(zip(NAMES, map(list, zip(*PATTERNS.values(), strict=True)), strict=True))
CELLS |= {"V_m": CELLS["E_L"], "t_ref": [0.0] * N}
LAW = {name.lower(): np.array(CELLS[name]) for name in NAMES}
SILENCE = {name: [(np.array([300.0]), np.array([0.0]))] * N for name in ("ex", "in")}

# Of cells under random input, one without an upstroke and two that start their upstroke at once
DRIVEN = {
    "t_ref": [0.0, 2.0, 0.0, 2.0, 0.5, 0.0],
    "C_m": [281.0, 281.0, 200.0, 200.0, 250.0, 200.0],
    "g_L": [30.0, 30.0, 10.0, 18.0, 16.0, 10.0],
    "E_L": [-70.6, -70.6, -70.0, -58.0, -65.0, -58.0],
    "V_th": [-50.4, -50.4, -50.0, -50.0, -52.0, -50.0],
    "Delta_T": [2.0, 2.0, 2.0, 1.0, 0.0, 2.0],
    "V_peak": [0.0, 0.0, 10.0, -20.0, -40.0, -30.0],
    "a": [4.0, 4.0, 2.0, 4.0, 0.0, 2.0],
    "tau_w": [144.0, 144.0, 30.0, 150.0, 100.0, 120.0],
    "b": [80.5, 80.5, 0.0, 120.0, 50.0, 100.0],
    "V_reset": [-60.0, -60.0, -58.0, -50.0, -60.0, -46.0],
    "I_e": [600.0, 800.0, 300.0, 300.0, 300.0, 150.0],
    "V_m": [-70.6, -60.0, -58.0, -56.0, -75.0, -58.0],
}
SYNAPSES = {
    "tau_syn_ex": [0.2, 0.2, 2.0, 2.0, 0.5, 0.2],
    "tau_syn_in": [2.0, 2.0, 3.0, 8.0, 1.0, 2.0],
}
WEIGHTS = {
    "aeif_psc_delta": (2.0, 2.0),
    "aeif_psc_exp": (300.0, 100.0),
    "aeif_psc_alpha": (200.0, 60.0),
    "aeif_cond_exp": (6.0, 4.0),
    "aeif_cond_alpha": (4.0, 3.0),
}


def steps_of(spikes, n):
    """By cell, the steps of its spikes."""
    return [np.array([step for step, own in spikes if own == cell], int) for cell in range(n)]


def in_steps(times):
    """The step in which each time is: of an arrival at its end, the step that ends."""
    return np.ceil(np.asarray(times) / DT - 1e-6).astype(int) - 1


def away(steps, *found):
    """Which steps are more than 0.3 ms from all these spikes."""
    far = np.ones(steps, bool)
    for step in np.concatenate(found):
        far[max(step - 3, 0) : step + 4] = False
    return far


def simulated(populations, duration, dt=DT, every=DT):
    network = jsnn.Network(populations, dt=dt, key=jax.random.key(0))
    record = {f"{s} {name}": States(name, s, every=every) for name in populations for s in "vw"}
    record |= {name: Spikes(name) for name in populations}
    state = network.init(jax.random.key(0))
    return jsnn.simulate(network, state, round(duration / dt), record).records


@pytest.fixture(scope="module")
def patterns():
    """A second of all patterns: NEST's, DOP853's, and by substeps ours."""
    fresh_kernel()
    with jax.enable_x64(True):
        theirs, their_spikes = nest_cells(
            "aeif_cond_alpha", CELLS, SILENCE, 1000.0, stimulus=NO_CURRENT
        )
        exact = reference_adex("aeif_cond_alpha", CELLS, SILENCE, 1000.0, stimulus=NO_CURRENT)
        make = lambda k: jsnn.Population(AdEx(**LAW), N, solver=RK4(k))
        records = simulated({f"{k}": make(k) for k in (1, 2, 4)}, 1000.0)
    ours = {}
    for k in (1, 2, 4):
        v, w = (np.asarray(records[f"{state} {k}"].values) for state in "vw")
        ours[k] = v, w, steps_of(listed(records[f"{k}"]), N)
    return (theirs["V_m"], theirs["w"], steps_of(their_spikes, N)), exact, ours


def test_firing_patterns(patterns):
    """Each spike of DOP853's within its step, as NEST's, but for two a step away; of the irregular
    cell, which is chaotic, the first ten."""
    (_, _, theirs), (_, _, times), ours = patterns
    away = 0
    counts = [104, 17, 18, 17, 32]
    for cell, count in enumerate([*counts, 10, 0]):
        exact = in_steps(times[cell])
        found = ours[1][2][cell]
        if cell != 5:
            assert len(exact) == len(theirs[cell]) == len(found) == count
        assert np.array_equal(theirs[cell][:count], exact[:count])
        moved = found[:count] - exact[:count]
        assert np.all(np.abs(moved) <= 1)
        away += np.sum(moved != 0)
    assert away <= 2


def errors(patterns, k, state, cells):
    """Of v or w with k substeps, the root of the mean square of the distance to DOP853 away from
    spikes."""
    _, exact, ours = patterns
    found = []
    for cell in range(N)[cells]:
        far = away(10000, in_steps(exact[2][cell]), ours[k][2][cell])
        error = ours[k][state][far, cell] - exact[state][far, cell]
        found.append(np.sqrt(np.mean(error**2)))
    return np.array(found)


def test_distance_of_the_regular_patterns(patterns):
    assert np.all(errors(patterns, 1, 0, REGULAR) < 1e-3)  # mV
    assert np.all(errors(patterns, 1, 1, REGULAR) < 1e-3)  # pA


def test_order_of_convergence(patterns):
    """The fourth where no spike is, the second with spikes."""
    silent = [errors(patterns, k, 0, slice(6, 7))[0] for k in (1, 2, 4)]
    assert 3.8 < np.log2(silent[0] / silent[1]) < 4.3
    assert 3.3 < np.log2(silent[1] / silent[2])  # down to DOP853's own error
    spiking = [np.linalg.norm(errors(patterns, k, 1, REGULAR)) for k in (1, 4)]
    assert 1.5 < np.log2(spiking[0] / spiking[1]) / 2


def test_state_at_the_end_of_a_step_with_a_spike(patterns):
    """The reset and what follows it, the jump of w with it."""
    _, (v, w, times), ours = patterns
    for cell in range(5):
        steps = np.intersect1d(in_steps(times[cell]), ours[1][2][cell])
        assert len(steps) > 15
        after = [ours[1][state][steps, cell] for state in (0, 1)]
        assert np.max(np.abs(after[0] - v[steps, cell])) < 2e-3
        assert np.max(np.abs(after[1] - w[steps, cell])) < 2e-3
        assert np.all(after[0] < -40.0)


# By model and cell, how many steps spikes may be from NEST's (of psc_delta, see the test)
MOVED = {
    "aeif_psc_exp": [1, 1, 1, 1, 5, 1],
    "aeif_psc_alpha": [1, 1, 1, 1, 2, 10],
    "aeif_cond_exp": [1, 1, 1, 1, 1, 1],
    "aeif_cond_alpha": [1, 1, 1, 1, 1, 1],
}


@pytest.mark.slow_for("cond_exp", "psc_exp", "psc_alpha")
@pytest.mark.parametrize("model", WEIGHTS)
def test_random_input(x64, model):
    """Against NEST for a second, and against DOP853 for 0.3 s.

    NEST hands arrivals at an `aeif_psc_delta` to the cell after its first adaptive step, which near
    a spike is not the end of the step: DOP853 decides there.
    """
    fresh_kernel()
    params = DRIVEN | ({} if "delta" in model else SYNAPSES)
    spikes = trains(6, 1000.0, {"ex": 600.0, "in": 300.0}, WEIGHTS[model], seed=5)
    ours, our_spikes = jsnn_cells(getattr(models, model)(6, **arrays(params)), spikes, 1000.0)
    found = steps_of(our_spikes, 6)
    if model in MOVED:
        theirs, their_spikes = nest_cells(model, params, spikes, 1000.0)
        for cell, (a, b) in enumerate(zip(steps_of(their_spikes, 6), found, strict=True)):
            assert len(a) == len(b) > 10
            assert np.max(np.abs(a - b)) <= MOVED[model][cell], cell
            if cell in (0, 1, 3):
                far = away(10000, a, b) & ~np.isnan(theirs["V_m"][:, cell])
                assert np.max(np.abs(ours["V_m"] - theirs["V_m"])[far, cell]) < 0.1
    if model not in ("aeif_psc_delta", "aeif_cond_alpha"):
        return
    v, _, times = reference_adex(model, params, spikes, 300.0)
    for cell in range(6):
        exact, own = in_steps(times[cell]), found[cell][found[cell] < 3000]
        assert len(exact) == len(own) >= 5
        moved = np.abs(own - exact)
        assert np.max(moved) <= (cell == 5) and np.sum(moved) <= 1
        far = away(3000, exact, own)
        bound = 2e-3 if "delta" in model else 0.1
        assert np.max(np.abs(ours["V_m"][:3000] - v)[far, cell]) < bound
        if params["t_ref"][cell] == 2.0:
            held = exact[:-1, None] + np.arange(21)
            assert np.all(ours["V_m"][held, cell] == params["V_reset"][cell])
    if model == "aeif_psc_delta":  # spikes that an arrival made, at the end of its step
        sharp = np.array(times[4]) / DT
        assert np.sum(np.abs(sharp - np.rint(sharp)) < 1e-9) > 10


@pytest.mark.slow
def test_order_of_first_order_solvers(x64, patterns):
    kept = [0, 1, 4]
    law = AdEx(**{name: values[kept] for name, values in LAW.items()})
    solvers = {"euler": Euler(), "exponential": ExponentialEuler()}
    cells = {name: jsnn.Population(law, 3, solver=solver) for name, solver in solvers.items()}
    runs = [simulated(cells, 100.0, dt) for dt in (0.05, 0.025)]
    for name in cells:
        found = [np.asarray(run[f"w {name}"].values) for run in runs]
        a, b = (np.mean(np.abs(own - patterns[1][1][:1000, kept]), 0) for own in found)
        assert np.all(np.abs(np.log2(a / b) - 1) < 0.1)


# What no solver likes: by cell, its drive and its upstroke
ODD = {
    "t_ref": [0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0, 0.0, 0.0, 2.0],
    "I_e": [1000.0, 1000.0, 1e5, 1e5, 0.0, 0.0, 800.0, 800.0, 800.0, 800.0, 800.0, 800.0],
    "Delta_T": [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.1, 0.5, 0.0, 2.0, 2.0, 1e-3],
    "V_peak": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -50.39, 0.0, 20.0],
    "V_reset": [-60.0] * 10 + [-47.0, -60.0],
    "b": [80.5, 80.5, 0.0, 0.0, 80.5, 80.5, 80.5, 80.5, 80.5, 80.5, 200.0, 80.5],
    "g_ex": [0.0] * 4 + [1000.0, 1000.0] + [0.0] * 6,
    "tau_syn_ex": [20.0] * 12,
}


def odd_cells():
    population = models.aeif_cond_alpha(12, **arrays(ODD))
    records = simulated({"cells": population}, 200.0)
    v, w = (np.asarray(records[f"{state} cells"].values) for state in "vw")
    return v, w, steps_of(listed(records["cells"]), 12)


def test_odd_cells():
    """In either precision nothing overflows, and a cell that wants more than one spike a step has
    one: every step, or every 21 of 0.1 ms with 2 ms of refractoriness."""
    v32, w32, single = odd_cells()
    assert v32.dtype == np.float32
    with jax.enable_x64(True):
        v, w, double = odd_cells()
    assert all(np.all(np.isfinite(own)) for own in (v32, w32, v, w))
    assert all(np.max(own) < 1e-3 for own in (v32, v))  # nowhere beyond its peak
    for a, b in zip(single, double, strict=True):
        assert len(a) == len(b) >= 3 and np.max(np.abs(a - b)) <= 1
    assert np.array_equal(double[2], np.arange(2000))
    assert np.array_equal(double[3], np.arange(0, 2000, 21)[: len(double[3])])
    assert len(double[3]) in (95, 96) and double[4][0] <= 1
    assert np.all(v[double[3], 3] == -60.0)
    # Ever sharper upstrokes become the threshold
    assert np.max(np.abs(double[11][:2] - double[8][:2])) <= 25


FITTED = ("c_m", "g_l", "e_l", "v_th", "delta_t", "v_peak", "v_reset", "tau_w", "a", "b", "i_e")


def outcome(change):
    """v and w of five patterns after 60 ms, of relative changes of all parameters and the start."""
    scales = dict.fromkeys(FITTED, 10.0) | {"delta_t": 2.0, "c_m": 200.0, "tau_w": 100.0}
    scales |= {"i_e": 500.0, "b": 100.0}
    at = {name: jnp.asarray(values[REGULAR]) for name, values in LAW.items()}
    at |= {"delta_t": jnp.full(5, 2.0), "v_peak": jnp.full(5, -42.0)}
    moved = {k: at[k] + scales[k] * change[i] for i, k in enumerate(FITTED)}
    start = {"v": LAW["e_l"][REGULAR] + 10.0 * change[-2], "w": 20.0 + 100.0 * change[-1]}
    law = AdEx(**moved)
    population = jsnn.Population(law, 5, initial=start)
    network = jsnn.Network(
        {"cells": population}, dt=DT, key=jax.random.key(0), delivery=jsnn.SegmentSum()
    )
    state = network.init(jax.random.key(0))
    record = {"v": States("cells", "v"), "w": States("cells", "w"), "s": Spikes("cells")}
    records = jsnn.simulate(network, state, 600, record).records
    ends = jnp.concatenate([records["v"].values[-1], records["w"].values[-1]])
    return ends, records["s"].raster


@pytest.mark.slow
def test_gradients(x64):
    none = jnp.zeros(len(FITTED) + 2)
    h, k = 1e-6, jnp.asarray([1.0, 2.0, 3.0, -1.0, -2.0, -3.0])
    moves = (k[:, None, None] * h * jnp.eye(none.size)).reshape(-1, none.size)
    ends, rasters = jax.jit(jax.vmap(outcome))(moves)
    assert np.all(rasters == rasters[0])  # no spike is near the end of a step
    assert np.min(rasters[0].sum(0)) >= 3
    found = ends.reshape(6, none.size, -1)
    slopes = (found[:3] - found[3:]) / (2 * h * k[:3, None, None])
    wanted = jnp.einsum("k,kij->ij", jnp.asarray([1.5, -0.6, 0.1]), slopes)
    weights = jnp.asarray(np.random.default_rng(0).normal(size=10))
    made = eqx.filter_jit(eqx.filter_grad(lambda x: weights @ outcome(x)[0]))(none)
    for name, a, b in zip((*FITTED, "v", "w"), made, wanted, strict=True):
        assert np.max(np.abs(b)) > 1.0, name
        floor = 1e-7 * np.max(np.abs(b))
        np.testing.assert_allclose(a, b @ weights, rtol=1e-7, atol=floor, err_msg=name)


def test_errors():
    with pytest.raises(ValueError, match="v_reset=.*must be below v_peak"):
        AdEx(v_reset=0.0)
    with pytest.raises(ValueError, match="v_th=.*must be at most v_peak"):
        AdEx(v_th=1.0)
    with pytest.raises(ValueError, match="delta_t"):
        AdEx(delta_t=-1.0)
    with pytest.raises(ValueError, match="v_reset=.*must be below v_th=.*delta_t is 0"):
        AdEx(delta_t=0.0, v_reset=-50.0)
    for name in ("c_m", "g_l", "tau_w"):
        with pytest.raises(ValueError, match=name):
            AdEx(**{name: 0.0})
    with pytest.raises(ValueError, match="t_ref"):
        AdEx(t_ref=-1.0)
    with pytest.raises(ValueError, match="shape"):
        AdEx(v_th=np.full(2, -50.0), v_peak=np.zeros(3))
    with pytest.raises(ValueError, match=r"b.*\(3,\)"):
        jsnn.Population(AdEx(b=np.ones(3)), 2)
    with pytest.raises(ValueError, match="Exact.*linear.*AdEx"):
        jsnn.Population(AdEx(), 2, solver=Exact())
    with pytest.raises(ValueError, match="Splitting.*AdEx"):
        jsnn.Population(AdEx(), 2, solver=Splitting())
    with pytest.raises(ValueError, match="'cells': AdEx cells reset within a step"):
        gaps = GapJunction("cells", "cells", Pairs([0], [1]), conductance=1.0)
        cells = {"cells": jsnn.Population(AdEx(), 2)}
        jsnn.Network(cells, couplings={"gaps": gaps}, dt=DT, key=jax.random.key(0))


@pytest.mark.parametrize("v_0", [-70.0, -45.0, -40.0])  # far from a spike, before, and in the step
def test_a_spike_carries_the_surrogate(x64, v_0):
    """Of the coordinate u at the end of the step, beyond the spike where there is one."""
    cells = models.aeif_psc_delta(1, I_e=500.0)
    coefficients, start = cells.prepare(DT), cells.init(jax.random.key(0))

    def moved(v):
        state = eqx.tree_at(lambda s: s.cell["v"], start, jnp.full(1, v))
        return cells.move(coefficients, state, lambda at, y: Current(at, jnp.zeros(1)), DT)

    def fired(v):
        state = eqx.tree_at(lambda s: s.cell["v"], start, jnp.full(1, v))
        return cells.step(coefficients, state, {}, jnp.zeros(1), DT)[1][0]

    margin = lambda v: moved(v).spikes.margin[0]  # noqa: E731
    width, h = cells.surrogate.width, 1e-5
    wanted = max(0, 1 - abs(margin(v_0)) / width) / width
    wanted *= (margin(v_0 + h) - margin(v_0 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(fired)(v_0), wanted, rtol=1e-6, atol=1e-12)
    assert (wanted > 1e-4) == (v_0 > -50.0)
    assert float(fired(v_0)) == (v_0 == -40.0)
