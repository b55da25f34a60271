"""Solvers against SciPy, their measured order of convergence, and the refractory membrane."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from jsnn import Population
from jsnn._math import expm as our_expm
from jsnn.neurons import LIF, HodgkinHuxley
from jsnn.population import PopulationState
from jsnn.receptors import Alpha, Delta, Exponential
from jsnn.solvers import RK4, Euler, Exact, ExponentialEuler, Splitting


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


NEURON = {"tau_m": 10.0, "c_m": 250.0, "e_l": -70.0, "v_th": 1e6, "i_e": 80.0}


def population(receptors, solver, **neuron):
    initial = {"v": -63.0}
    for name, receptor in receptors.items():
        initial |= {f"{name}.{s}": 30.0 + 10 * i for i, s in enumerate(receptor.states)}
    return Population(LIF(**{**NEURON, **neuron}), 2, receptors, solver=solver, initial=initial)


def advanced(made, dt, n_steps, current=0.0):
    """The membrane after some steps without arrivals."""

    @jax.jit
    def run(state):
        coefficients = made.prepare(dt)
        step = lambda _, state: made.step(coefficients, state, {}, jnp.asarray([current]), dt)[0]
        return jax.lax.fori_loop(0, n_steps, step, state)

    return run(made.init(jax.random.key(0)))


def right_hand_side(receptors, current, tau_m=10.0):
    """dv/dt and the filters, written apart from the package. Order: v, then each filter."""

    def slope(_, y):
        made, total, at = [], current + NEURON["i_e"], 1
        for receptor in receptors.values():
            tau = float(receptor.tau)
            if isinstance(receptor, Exponential):
                out = y[at]
                made += [-out / tau]
            else:
                out = y[at + 1]
                made += [-y[at] / tau, y[at] - out / tau]
            at += len(receptor.states)
            total += out if receptor.e_rev is None else out * (float(receptor.e_rev) - y[0])
        return [-(y[0] - NEURON["e_l"]) / tau_m + total / NEURON["c_m"], *made]

    return slope


def start(made):
    state = made.init(jax.random.key(0))
    filters = [float(x[0]) for own in state.receptors.values() for x in own.values()]
    return [-63.0, *filters]


CURRENTS = {
    "exponential": lambda: {"a": Exponential(2.0)},
    "alpha": lambda: {"a": Alpha(0.7)},
    "alpha of the membrane's time constant": lambda: {"a": Alpha(10.0)},
    "exponential of the membrane's time constant": lambda: {"a": Exponential(10.0)},
    "three, two of them equal": lambda: {"a": Alpha(3.0), "b": Exponential(3.0), "c": Alpha(0.4)},
}


@pytest.mark.parametrize("name", CURRENTS)
@pytest.mark.parametrize("dt", [0.1, 2.0])
def test_exact_equals_the_integrated_equations(name, dt):
    receptors = CURRENTS[name]()
    made = population(receptors, Exact())
    n_steps = round(6 / dt)
    wanted = solve_ivp(
        right_hand_side(receptors, 40.0), (0, 6), start(made), "DOP853", rtol=1e-12, atol=1e-12
    ).y[:, -1]
    state = advanced(made, dt, n_steps, 40.0)
    filters = [x[0] for own in state.receptors.values() for x in own.values()]
    np.testing.assert_allclose([state.cell["v"][0], *filters], wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "tau_m, tau", [(10.0, 2.0), (10.0, 10.0), (10.0, 10.0 + 1e-9), (0.3, 80.0)]
)
def test_propagator_equals_scipy(tau_m, tau):
    made = population({"a": Alpha(tau)}, Exact(), tau_m=tau_m)
    dt, c = 0.1, NEURON["c_m"]
    # v, di, i, current, 1
    matrix = np.zeros((5, 5))
    matrix[0] = [-1 / tau_m, 0, 1 / c, 1 / c, NEURON["e_l"] / tau_m + NEURON["i_e"] / c]
    matrix[1, 1] = matrix[2, 2] = -1 / tau
    matrix[2, 1] = 1
    wanted = expm(matrix * dt)[:3]
    found = np.asarray(made.prepare(dt).solver)[..., 0]
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-16)


def test_propagator_of_each_cell():
    taus = np.array([2.0, 10.0])
    made = population({"a": Exponential(taus)}, Exact(), tau_m=np.array([10.0, 4.0]))
    found = made.prepare(0.1).solver
    assert found.shape == (2, 4, 2)
    for i, (tau_m, tau) in enumerate(zip((10.0, 4.0), taus, strict=True)):
        one = population({"a": Exponential(tau)}, Exact(), tau_m=tau_m).prepare(0.1).solver
        np.testing.assert_allclose(found[..., i], one[..., 0], rtol=1e-13)


def test_float32_propagator_is_as_precise_as_float32():
    """The sum of its errors over a second of steps stays below a microvolt."""
    precise = population({"a": Alpha(2.0)}, Exact()).prepare(0.1).solver
    with jax.enable_x64(False):
        found = np.asarray(population({"a": Alpha(2.0)}, Exact()).prepare(0.1).solver)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, precise, rtol=5e-6, atol=1e-9)


CONDUCTANCES = {"a": lambda: Exponential(5.0, e_rev=0.0), "b": lambda: Alpha(3.0, e_rev=-80.0)}


@pytest.mark.fast
@pytest.mark.parametrize(
    "solver, order, dt",
    [
        (Euler(), 1, 0.05),
        (ExponentialEuler(), 1, 0.05),
        (RK4(), 4, 0.4),
        (RK4(3), 4, 1.2),
        (Splitting(3), 2, 0.4),
        (Splitting((2, 4)), 4, 0.4),
        (Splitting((1, 3, 5)), 6, 1.2),
    ],
    ids=["Euler", "ExponentialEuler", "RK4", "RK4(3)", "Splitting", "two", "three"],
)
def test_order_of_convergence(solver, order, dt):
    receptors = {name: make() for name, make in CONDUCTANCES.items()}
    made = population(receptors, solver)
    wanted = solve_ivp(
        right_hand_side(receptors, 0.0), (0, 4.8), start(made), "DOP853", rtol=1e-13, atol=1e-13
    ).y[0, -1]
    errors = [
        abs(float(advanced(made, dt / k, round(4.8 / dt) * k).cell["v"][0]) - wanted)
        for k in (1, 2, 4)
    ]
    measured = np.log2(np.array(errors[:-1]) / errors[1:])
    assert abs(measured[-1] - order) < 0.15, (errors, measured)
    assert errors[-1] > 1e-13  # or the order is that of rounding


@pytest.mark.parametrize(
    ("solver", "order", "dt"), [(Splitting(4), 2, 0.1), (Splitting((2, 4)), 4, 0.1)]
)
def test_order_of_splitting_with_channels(solver, order, dt):
    """Through a spike, in steps in which every gate is resolved: SciPy's solution of the squid's
    equations as Hodgkin and Huxley wrote them, with today's signs."""
    made = Population(HodgkinHuxley.squid(i_e=2000.0), 1, solver=solver)

    def slope(_, y):
        v, m, h, n = y
        rates = {
            "m": (0.1 * (v + 40) / -np.expm1(-(v + 40) / 10), 4 * np.exp(-(v + 65) / 18)),
            "h": (0.07 * np.exp(-(v + 65) / 20), 1 / (1 + np.exp(-(v + 35) / 10))),
            "n": (0.01 * (v + 55) / -np.expm1(-(v + 55) / 10), 0.125 * np.exp(-(v + 65) / 80)),
        }
        current = 12000 * m**3 * h * (50 - v) + 3600 * n**4 * (-77 - v) + 30 * (-54.387 - v)
        gates = [rates[k][0] * (1 - x) - rates[k][1] * x for k, x in zip("mhn", y[1:], strict=True)]
        return [(current + 2000.0) / 100, *gates]

    begin = [float(made.neuron.initial()[name]) for name in ("v", "m", "h", "n")]
    wanted = solve_ivp(slope, (0, 4.0), begin, "DOP853", rtol=1e-13, atol=1e-13).y
    assert wanted[0].max() > 20  # a spike
    errors = [
        abs(float(advanced(made, dt / k, round(4.0 / dt) * k).cell["v"][0]) - wanted[0, -1])
        for k in (1, 2, 4)
    ]
    measured = np.log2(np.array(errors[:-1]) / errors[1:])
    assert abs(measured[-1] - order) < 0.3, (errors, measured)


@pytest.mark.parametrize(
    ("dt", "substeps"), [(0.05, (6, 8)), (0.1, (12, 14)), (0.01, (2, 4)), (0.001, (1, 3))]
)
def test_usual_substeps_follow_the_step(dt, substeps):
    assert Splitting().substeps_of(dt) == substeps
    assert Splitting((2, 4)).substeps_of(dt) == (2, 4)


def test_splitting_is_stable_however_fast_a_gate_is():
    """Gates a thousand times faster than a substep: nothing grows, and they follow the membrane."""
    law = HodgkinHuxley.interneuron(i_e=100.0)
    fast = jax.tree.map(lambda x: x, law)
    gate = law.channels["na"].gates["m"]
    faster = eqx.tree_at(
        lambda g: (g.alpha.a, g.beta.a), gate, (gate.alpha.a * 1e4, gate.beta.a * 1e4)
    )
    fast = eqx.tree_at(lambda n: n.channels["na"].gates["m"], fast, faster)
    made = Population(fast, 1, solver=Splitting())
    v = [float(advanced(made, 0.05, n).cell["v"][0]) for n in (100, 300, 1000)]
    assert np.all(np.isfinite(v)) and np.all(np.abs(v) < 120.0)


def test_substeps_are_shorter_steps():
    receptors = {name: make() for name, make in CONDUCTANCES.items()}
    fine = advanced(population(receptors, RK4()), 0.1, 12)
    coarse = advanced(population(receptors, RK4(4)), 0.4, 3)
    np.testing.assert_allclose(fine.cell["v"], coarse.cell["v"], rtol=1e-13)


def test_exponential_euler_is_exact_for_constant_input():
    made = population({}, ExponentialEuler())
    state = advanced(made, 5.0, 3, 40.0)
    v_inf = NEURON["e_l"] + (40.0 + NEURON["i_e"]) * 10.0 / NEURON["c_m"]
    np.testing.assert_allclose(state.cell["v"], v_inf + (-63.0 - v_inf) * np.exp(-1.5), rtol=1e-13)


@pytest.mark.parametrize("solver", [Exact(), RK4(2), Euler(), ExponentialEuler(), Splitting()])
def test_refractory_membrane_stands_still_and_receptors_go_on(solver):
    made = population({"a": Exponential(2.0), "x": Delta()}, solver)
    state = made.init(jax.random.key(0))
    state = PopulationState(state.cell, state.receptors, jnp.asarray([2, 0], jnp.int32))
    arrivals = {"x": jnp.full(2, 0.5), "a": jnp.full(2, 1.0)}
    coefficients = made.prepare(0.1)
    step = jax.jit(lambda s: made.step(coefficients, s, arrivals, jnp.zeros(1), 0.1)[0])
    vs, currents, left = [], [], []
    for _ in range(3):
        state = step(state)
        vs.append(np.asarray(state.cell["v"]))
        currents.append(np.asarray(state.receptors["a"]["i"]))
        left.append(state.refractory.tolist())
    vs, currents = np.array(vs), np.array(currents)
    assert left == [[1, 0], [0, 0], [0, 0]]
    assert np.all(vs[:2, 0] == -63.0)  # the Delta arrivals are lost too
    assert vs[2, 0] > -63.0 + 0.4 and np.all(np.diff(vs[:, 1]) > 0.4)
    np.testing.assert_array_equal(currents[:, 0], currents[:, 1])
    decay = {Euler: 1 - 0.1 / 2}.get(type(solver), np.exp(-0.1 / 2))
    wanted, y = [], 30.0
    for _ in range(3):
        y = y * decay + 1.0
        wanted.append(y)
    rtol = 1e-7 if isinstance(solver, Splitting) else 1e-8
    np.testing.assert_allclose(currents[:, 0], wanted, rtol=rtol)


@pytest.mark.parametrize("t_ref, frozen", [(0.0, 0), (0.1, 1), (2.0, 20)])
def test_t_ref_freezes_so_many_following_steps(t_ref, frozen):
    """After a spike the membrane is v_reset for t_ref/dt more steps, then moves."""
    made = population({}, Exact(), v_th=-55.0, t_ref=t_ref, i_e=2000.0, v_reset=-68.0)
    state = made.init(jax.random.key(0))
    coefficients = made.prepare(0.1)
    step = jax.jit(lambda s: made.step(coefficients, s, {}, jnp.zeros(1), 0.1)[:2])
    vs, fired = [], []
    for _ in range(60):
        state, spike = step(state)
        vs.append(float(state.cell["v"][0]))
        fired.append(bool(spike[0]))
    first = fired.index(True)
    assert vs[first : first + frozen + 1] == [-68.0] * (frozen + 1)
    assert vs[first + frozen + 1] > -68.0


def test_exact_refuses_conductances():
    with pytest.raises(ValueError, match=r"Exact.*\['g'\].*RK4"):
        Population(LIF(), 2, {"g": Exponential(2.0, e_rev=0.0)}, solver=Exact())


@pytest.mark.parametrize("substeps, error", [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_bad_substeps(substeps, error):
    with pytest.raises(error, match=f"substeps={substeps}"):
        RK4(substeps)


@pytest.mark.parametrize(
    ("substeps", "error", "message"),
    [
        (0, ValueError, "at least 1"),
        ((), ValueError, "at least 1"),
        (1.5, TypeError, "no integers"),
        ((2, True), TypeError, "no integers"),
        ((4, 2), ValueError, "must increase"),
        ((2, 3), ValueError, "all even or all odd"),
    ],
)
def test_bad_substeps_of_splitting(substeps, error, message):
    with pytest.raises(error, match=message):
        Splitting(substeps)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.5, 4.0, 300.0])
def test_exponential_of_a_matrix(x64, scale):
    """SciPy's, of matrices that decay, in batches whose lanes are squared unlike often, with a
    Jordan block among them; and its derivative."""
    rng = np.random.default_rng(3)
    decays = rng.normal(size=(6, 4, 4)) - 4 * np.eye(4)
    decays[:, -1] = 0.0  # a constant
    decays[0] = [[-1, 1, 0, 0], [0, -1, 1, 0], [0, 0, -1, 1], [0, 0, 0, 0]]
    matrices = scale * decays * np.linspace(0.2, 1.0, 6)[:, None, None]
    found = jax.jit(jax.vmap(our_expm))(jnp.asarray(matrices))
    wanted = np.stack([expm(one) for one in matrices])
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14 * np.abs(wanted).max())

    along, h = rng.normal(size=(4, 4)), 1e-5
    last, weights = jnp.asarray(matrices[-1]), jnp.asarray(rng.normal(size=(4, 4)))
    total = lambda t: jnp.sum(weights * our_expm(last + t * along))  # noqa: E731
    difference = (total(h) - total(-h)) / (2 * h)
    for gradient in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(gradient(total)(0.0), difference, rtol=1e-6)


def test_exponential_of_a_matrix_beyond_reach_is_no_number():
    assert np.all(np.isnan(our_expm(jnp.diag(jnp.asarray([-1e6, 0.0])))))
    with jax.enable_x64(False):
        single = our_expm(jnp.asarray([[-2.0, 3.0], [0.0, -7.0]]))
    np.testing.assert_allclose(single, expm([[-2.0, 3.0], [0.0, -7.0]]), rtol=2e-6)
