"""Membranes that a step moves by less than their last digit in single precision."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn.inputs import SpikeList
from jsnn.neurons import LIF, AdEx, HodgkinHuxley
from jsnn.receptors import Delta, Exponential
from jsnn.record import Spikes, States
from jsnn.solvers import RK4, Euler, Exact, ExponentialEuler

SOLVERS = {
    "exact": Exact(),
    "rk4": RK4(),
    "euler": Euler(),
    "exponential_euler": ExponentialEuler(),
}
TAU, ABOVE, T_REF = 20.0, 0.05, 2.0  # ms; mV by which the drive leads above threshold; ms


def slow_cells(dt, compensated=None):
    """Cells that creep over their threshold, 15 mV above rest, with every solver."""
    law = LIF(tau_m=TAU, c_m=250.0, t_ref=T_REF, i_e=250.0 / TAU * (15 + ABOVE))
    cells = {
        name: jsnn.Population(law, 2, {"x": Delta()}, solver=solver, compensated=compensated)
        for name, solver in SOLVERS.items()
    }
    return jsnn.Network(cells, dt=dt)


def first_spikes(network, duration):
    record = {name: Spikes(name) for name in network.populations}
    records = jsnn.run(network, duration, key=jax.random.key(0), record=record).records
    return {name: own.times[own.index == 0] for name, own in records.items()}


@pytest.fixture(scope="module")
def fine():
    """Steps of a microsecond over two intervals between spikes."""
    return first_spikes(slow_cells(1e-3), 235.0)


def test_spikes_are_on_time_in_steps_of_a_microsecond(fine):
    """v = e_l + 15.05 (1 - exp(-t / tau)) reaches 15 at tau log(15.05 / 0.05) = 114.142 ms; Euler's
    method has 1 - dt / tau for its exponential of a step."""
    first = TAU * np.log((15 + ABOVE) / ABOVE)
    of_euler = first / (-np.log1p(-1e-3 / TAU) * TAU / 1e-3)
    for name, times in fine.items():
        expected = of_euler if name == "euler" else first
        assert times[0] == pytest.approx(expected, abs=3e-3), name
        assert times[1] - times[0] == pytest.approx(expected + T_REF, abs=3e-3), name


def test_without_compensation_they_are_not():
    plain = first_spikes(slow_cells(1e-3, compensated=False), 120.0)
    assert plain["exact"][0] < 108.0 and plain["rk4"][0] < 114.135


def test_which_populations_are_compensated(x64):
    of = lambda dt, law: jsnn.Network({"c": jsnn.Population(law, 1)}, dt=dt).populations["c"]
    assert not of(1e-3, LIF(tau_m=20.0)).in_two  # in double precision
    with jax.enable_x64(False):
        assert not of(0.1, LIF(tau_m=20.0)).in_two
        assert of(0.1, LIF(tau_m=200.0)).in_two
        assert of(1e-3, LIF(tau_m=20.0)).in_two
        assert of(1e-3, HodgkinHuxley.squid()).in_two
        assert not of(0.05, HodgkinHuxley.squid()).in_two
        with pytest.warns(UserWarning, match="AdEx"):
            assert not of(1e-3, AdEx()).in_two
        assert of(0.05, jsnn.astrocytes.LiRinzel()).in_two
        assert not of(0.1, jsnn.astrocytes.LiRinzel()).in_two
        assert of(0.1, jsnn.astrocytes.LiRinzel(tau_ip3=20000.0)).in_two


@pytest.mark.parametrize(("dt", "compensated"), [(0.01, None), (0.1, True)])
def test_inositol_comes_to_rest(dt, compensated):
    """In steps of 0.1 ms it would stand still 0.0004 uM from its rest, in shorter ones farther."""
    law, start, rest, tau = jsnn.astrocytes.LiRinzel(), 0.1603, 0.16, 7142.0
    glia = jsnn.Population(law, 1, initial={"ip3": start}, compensated=compensated)
    network = jsnn.Network({"glia": glia}, dt=dt)
    record = {"ip3": States("glia", "ip3", every=1000.0)}
    made = jsnn.run(network, 5000.0, key=jax.random.key(0), record=record, progress=False)
    found = made.records["ip3"].values[:, 0]
    wanted = rest + (start - rest) * np.exp(-np.arange(1000.0, 5001.0, 1000.0) / tau)
    np.testing.assert_allclose(found, wanted, atol=1e-7)
    plain = eqx.tree_at(lambda p: p.neuron, jsnn.Population(law, 1, compensated=False), law)
    plain = jsnn.Network({"glia": plain}, dt=dt)
    state = plain.init(jax.random.key(0))
    state = eqx.tree_at(lambda s: s.populations["glia"].cell["ip3"], state, jnp.full(1, start))
    stuck = jsnn.simulate(plain, state, 1000).state.populations["glia"].cell["ip3"]
    assert float(stuck[0]) == np.float32(start)


def test_a_drift_below_the_last_digit():
    """2e-5 mV a ms: at -70 mV the last digit is 7.6e-6 mV, and a step of 0.1 ms brings 2e-6."""
    cells = jsnn.Population(LIF(tau_m=1e6, c_m=1e6, e_l=-70.0, i_e=20.0), 1)
    record = {"v": States("c", "v", every=100.0)}
    solution = jsnn.run(
        jsnn.Network({"c": cells}, dt=0.1), 1000.0, key=jax.random.key(0), record=record
    )
    t = 100.0 * np.arange(1, 11)
    expected = -70.0 + 20.0 * -np.expm1(-t / 1e6)
    np.testing.assert_allclose(solution.records["v"].values[:, 0], expected, atol=8e-6)


def driven():
    law = LIF(tau_m=np.array([20.0, 500.0]), c_m=250.0, t_ref=0.5, i_e=190.0)
    cells = jsnn.Population(law, 2, {"x": Delta(), "e": Exponential(2.0)})
    times = np.arange(1, 40) * 0.1
    inputs = {
        "jumps": SpikeList("c", times, np.arange(39) % 2, 0.7, "x"),
        "currents": SpikeList("c", times, np.arange(39) % 2, 30.0, "e"),
    }
    return jsnn.Network(
        {"c": cells},
        {
            "p": jsnn.Projection(
                "c", "c", jsnn.connect.OneToOne(), weight=0.5, delay=0.2, receptor="x"
            )
        },
        inputs,
        dt=0.02,
        key=jax.random.key(0),
    )


@pytest.mark.slow
def test_however_it_is_run_it_is_the_same():
    network = driven()
    assert network.populations["c"].in_two
    record = {"v": States("c", "v"), "s": Spikes("c")}
    start = network.init(jax.random.key(1))
    whole = jsnn.simulate(network, start, 400, record)
    assert whole.records["s"].times.size > 0
    first = jsnn.simulate(network, start, 200, record)
    second = jsnn.simulate(network, first.state, 200, record)
    both = np.concatenate([first.records["v"].values, second.records["v"].values])
    np.testing.assert_array_equal(both, whole.records["v"].values)
    assert float(np.abs(whole.state.populations["c"].rest["v"]).max()) < 4e-6

    coefficients = network.prepare()

    def one(state, _):
        state, _ = network.step(state, coefficients)
        return state, state.populations["c"].cell["v"]

    traced = eqx.tree_at(lambda s: s.step, start, jnp.asarray(start.step))
    v = jax.lax.scan(one, traced, length=400)[1]
    np.testing.assert_allclose(v, whole.records["v"].values, rtol=0, atol=1e-5)

    batch = jax.vmap(lambda state: jsnn.simulate(network, state, 400, record).records["v"].values)
    several = batch(jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), start))
    np.testing.assert_allclose(several[1], whole.records["v"].values, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_gradients_pass_through_both_numbers():
    """Of v = e_l + 0.76 R (1 - exp(-t / tau)), R = tau / c_m, after 400 steps of 0.02 ms."""
    law = LIF(tau_m=50.0, c_m=250.0, i_e=190.0)

    def v(tau_m, solver):
        network = jsnn.Network({"c": jsnn.Population(law, 1, solver=solver)}, dt=0.02)
        assert network.populations["c"].in_two
        network = eqx.tree_at(lambda n: n.populations["c"].neuron.tau_m, network, tau_m)
        return (
            jsnn.simulate(network, network.init(jax.random.key(0)), 400)
            .state.populations["c"]
            .cell["v"][0]
        )

    part = np.exp(-8.0 / 50.0)
    expected = 190.0 / 250.0 * (1 - part) - 190.0 / 250.0 * 8.0 / 50.0 * part
    for solver in (Exact(), RK4()):
        assert jax.grad(v)(jnp.asarray(50.0), solver) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: jsnn.Population(LIF(), 1, compensated="yes"), TypeError, "compensated='yes'"),
        (
            lambda: jsnn.Population(AdEx(), 1, compensated=True),
            ValueError,
            "AdEx is not moved by changes of a membrane",
        ),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_a_state_of_a_network_that_is_not_compensated_is_refused():
    plain, fine = slow_cells(1e-3, compensated=False), slow_cells(1e-3)
    with pytest.raises(ValueError, match="population 'exact' are not compensated there"):
        jsnn.simulate(fine, plain.init(jax.random.key(0)), 1)


def test_gap_junctions_join_what_is_not_compensated():
    def joined(compensated):
        cells = jsnn.Population(LIF(tau_m=1e6), 2, solver=RK4(), compensated=compensated)
        rule = jsnn.connect.Pairs([0], [1])
        gaps = {"g": jsnn.coupling.GapJunction("c", "c", rule, conductance=0.1)}
        return jsnn.Network({"c": cells}, couplings=gaps, dt=0.1, key=jax.random.key(0))

    with pytest.warns(UserWarning, match="less than the last digits"):
        network = joined(None)
    assert not network.populations["c"].in_two
    assert not network.init(jax.random.key(0)).populations["c"].rest
    with pytest.raises(ValueError, match="'c': compensated=True, but gap junctions join"):
        joined(True)


def test_membranes_that_become_slow_are_warned_of():
    network = jsnn.Network({"c": jsnn.Population(LIF(tau_m=10.0), 1)}, dt=0.1)
    slow = eqx.tree_at(lambda n: n.populations["c"].neuron.tau_m, network, jnp.asarray(1e6))
    with pytest.warns(UserWarning, match="bring less than their last digit.*compensated=True"):
        jsnn.simulate(slow, slow.init(jax.random.key(0)), 1)


def test_small_arrivals_are_not_lost():
    """1e-5 mV each, a last digit and a third, at every step."""
    arrivals = SpikeList("c", np.arange(1, 20001) * 0.1, np.zeros(20000, int), 1e-5)
    cells = jsnn.Population(LIF(tau_m=1e6), 1, {"x": Delta()})
    network = jsnn.Network({"c": cells}, inputs={"x": arrivals}, dt=0.1)
    state = jsnn.run(network, 2000.0, key=jax.random.key(0), progress=False).state
    v = float(state.populations["c"].cell["v"][0]) + 70
    assert abs(v - 0.1998) < 2e-5  # the leak takes a thousandth of the way


@pytest.mark.parametrize("is_joined", [False, True])
def test_steps_that_are_lost_are_warned_of(is_joined):
    law = LIF(tau_m=1e6) if is_joined else AdEx()
    junction = jsnn.coupling.GapJunction("c", "c", jsnn.connect.OneToOne(), conductance=1.0)
    more = {"couplings": {"g": junction}, "key": jax.random.key(0)} if is_joined else {}

    def made(**own):
        cells = jsnn.Population(law, 2, solver=RK4(), **own)
        return jsnn.Network({"c": cells}, dt=1e-3, **more)

    with pytest.warns(UserWarning, match="less than the last digits .*float32 loses") as seen:
        network = made()
    assert [w.filename for w in seen] == [__file__]
    network.checked()
    made(compensated=False)
    with jax.enable_x64(True):
        made()
