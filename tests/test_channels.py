"""Channels, gates and rates of one's own making."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn.neurons import LIF, Channel, Exp, Gate, HodgkinHuxley, Linoid, Sigmoid

pytestmark = pytest.mark.fast

M = Gate(Linoid(0.1, -40.0, 10.0), Exp(4.0, -65.0, -18.0), 3)
MEMBRANE = {"c_m": 100.0, "g_l": 10.0, "e_l": -65.0, "v_0": -65.0}


def test_rates(x64):
    v = np.array([-80.0, -40.0, -39.9, 0.0, 30.0])
    x = (v + 40.0) / 10.0
    with np.errstate(invalid="ignore"):
        linoid = np.where(x == 0, 1.0, 0.1 * (v + 40.0) / (1 - np.exp(-x)))
    np.testing.assert_allclose(Linoid(0.1, -40.0, 10.0)(v), linoid, rtol=1e-12)
    falling = 0.1 * (v + 40.0) / (np.exp(x) - 1 + (x == 0)) + (x == 0)
    np.testing.assert_allclose(Linoid(-0.1, -40.0, -10.0)(v), falling, rtol=1e-12)
    np.testing.assert_allclose(Exp(2.0, -40.0, -10.0)(v), 2 * np.exp(-x), rtol=1e-12)
    np.testing.assert_allclose(Sigmoid(2.0, -40.0, 10.0)(v), 2 / (1 + np.exp(-x)), rtol=1e-12)


@pytest.mark.parametrize("rate", [Linoid(0.1, 40.0, 1.0), Sigmoid(1.0, 40.0, 1.0)])
@pytest.mark.parametrize("v", [-1e4, -65.0, 40.0, 40.0 + 1e-4, 39.95, 40.15, 200.0])
def test_slopes_of_rates_are_finite_in_single_precision(rate, v):
    """Over what is far more than a membrane may see, and through the gap of the linoid."""
    value, slope = jax.value_and_grad(rate)(jnp.asarray(v, jnp.float32))
    assert np.isfinite(value) and np.isfinite(slope) and value >= 0 and slope >= 0
    with jax.enable_x64(True):
        exact = float(jax.grad(rate)(jnp.asarray(np.float32(v), jnp.float64)))
    np.testing.assert_allclose(slope, exact, rtol=1e-3, atol=1e-12)


def test_a_channel_of_each_cell(x64):
    gate = Gate(Linoid(0.1, -40.0, 10.0), Exp(4.0, -65.0, -18.0), 3)  # in double precision
    law = HodgkinHuxley({"na": Channel(np.array([0.0, 50.0]), 50.0, {"m": gate})}, **MEMBRANE)
    v, m = jnp.asarray([-50.0, -50.0]), jnp.asarray([0.3, 0.3])
    slope = law.vector_field({"v": v, "m": m}, lambda v: jnp.asarray(7.0), False)
    wanted = (7.0 + 10.0 * (-15.0) + np.array([0.0, 50.0]) * 0.3**3 * 100.0) / 100.0
    np.testing.assert_allclose(slope["v"], wanted, rtol=1e-12)
    alpha, beta = 0.1 * -10.0 / (1 - np.exp(1.0)), 4 * np.exp(-15 / 18)
    np.testing.assert_allclose(slope["m"], alpha * 0.7 - beta * 0.3, rtol=1e-12)


def test_without_channels_a_membrane_leaks(x64):
    leak = HodgkinHuxley({}, **MEMBRANE, i_e=100.0)
    same = LIF(tau_m=10.0, c_m=100.0, e_l=-65.0, v_th=1e3, i_e=100.0)
    made = []
    for law in (leak, same):
        network = jsnn.Network({"a": jsnn.Population(law, 1)}, dt=0.05)
        state = jsnn.simulate(network, network.init(jax.random.key(0)), 200).state
        made.append(float(state.populations["a"].cell["v"][0]))
    assert made[0] == pytest.approx(made[1], abs=1e-8) and made[0] > -60.0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Channel(-1.0, 50.0, {}), ValueError, "g=-1.0 must be at least 0"),
        (lambda: Channel(1.0, 50.0, [M]), TypeError, "gates=.* is not a dictionary"),
        (lambda: Channel(1.0, 50.0, {"m": 3}), TypeError, "gate 'm' is 3; give a Gate"),
        (lambda: Gate(Exp(1.0, 0.0, 1.0), 2.0), TypeError, "beta=2.0 is no rate"),
        (lambda: Gate(M.alpha, M.beta, 0), ValueError, "power=0 must be at least 1"),
        (lambda: Gate(M.alpha, M.beta, 1.5), TypeError, "power=1.5 is not an integer"),
        (lambda: Exp(-1.0, 0.0, 1.0), ValueError, "a=-1.0 must be at least 0"),
        (lambda: Exp(1.0, 0.0, 0.0), ValueError, "s=0.0 is 0"),
        (lambda: Linoid(1.0, 0.0, -5.0), ValueError, "a=1.0 and s=-5.0 make a negative rate"),
        (
            lambda: HodgkinHuxley(
                {"a": Channel(1.0, 0.0, {"m": M}), "b": Channel(1.0, 0.0, {"m": M})}, **MEMBRANE
            ),
            ValueError,
            "gate 'm' of channel 'b' has the name of a state of channel 'a'",
        ),
        (
            lambda: HodgkinHuxley({"a": Channel(1.0, 0.0, {"v": M})}, **MEMBRANE),
            ValueError,
            "gate 'v' of channel 'a' has the name of a state of every cell",
        ),
        (lambda: HodgkinHuxley({"a": M}, **MEMBRANE), TypeError, "give a Channel"),
        (lambda: HodgkinHuxley.squid(c_m=0.0), ValueError, "c_m=0.0 must be above 0"),
        (
            lambda: jsnn.Population(HodgkinHuxley.squid(g_na=np.ones(3)), 2),
            ValueError,
            r"channels.na.g has shape \(3,\)",
        ),
        (
            lambda: jsnn.Population(HodgkinHuxley.squid(), 2, solver=jsnn.solvers.Exact()),
            ValueError,
            "HodgkinHuxley is none; use RK4",
        ),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_is_put_in_later_is_looked_at():
    network = jsnn.Network({"c": jsnn.Population(HodgkinHuxley.squid(), 2)}, dt=0.05)
    g = lambda n: n.populations["c"].neuron.channels["na"].g
    with pytest.raises(ValueError, match="population 'c': channel 'na': g=-1.0 must be at least 0"):
        worse = eqx.tree_at(g, network, jnp.asarray(-1.0))
        jsnn.simulate(worse, network.init(jax.random.key(0)), 1)
