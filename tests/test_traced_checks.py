"""Parameters that are out of their range where they are traced: nothing can be raised, and the
status tells."""

import equinox as eqx
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jsnn
from jsnn._status import raise_if_failed
from jsnn.connect import FixedIndegree
from jsnn.delays import Interpolated
from jsnn.growth import Gaussian, Linear, Sigmoid, SynapticElements
from jsnn.neurons import LIF
from jsnn.receptors import Delta, Exponential
from jsnn.release import MaassMarkram
from jsnn.rewire import Growing, Rewiring

KEY = jax.random.key(1)


def growing():
    elements = {
        "a": SynapticElements(Linear()),
        "b": SynapticElements(Gaussian()),
        "s": SynapticElements(Sigmoid()),
    }
    receptors = {
        "g": Exponential(2.0, e_rev=0.0),
        "x": Delta(),
        "in": Exponential(2.0, sign=-1),  # as those of NEST's models
    }
    cells = jsnn.Population(LIF(), 8, receptors, elements=elements)
    rule = FixedIndegree(2)
    return jsnn.Network(
        {"c": cells},
        {
            "grows": jsnn.Projection(
                *("c", "c", rule), weight=1.0, delay=1.0, receptor="g", growing=Growing("a", "b")
            ),
            "between": jsnn.Projection(
                *("c", "c", rule), weight=1.0, delay=Interpolated(0.55, 0.2, 1.0), receptor="x"
            ),
            "maass": jsnn.Projection(
                *("c", "c", rule), weight=1.0, delay=1.0, receptor="x", release=MaassMarkram()
            ),
            "signed": jsnn.Projection("c", "c", rule, weight=-1.0, delay=1.0, receptor="in"),
        },
        dt=0.1,
        key=KEY,
        rewiring=Rewiring(10.0),
    )


NETWORKS = {"registry": helpers.network, "growing": growing}
_cell = lambda name: lambda n: n.populations[name].neuron  # noqa: E731
_growth = lambda n: n.populations["c"].growth  # noqa: E731
_gate = lambda n: n.populations["channels"].neuron.channels["na"].gates["m"]  # noqa: E731

# What is replaced, by what, and what has the status
WRONG = {
    "registry": {
        "tau_m": (lambda n: _cell("delta")(n).tau_m, -1.0, "delta"),
        "tau_m of one cell": (lambda n: _cell("exponential")(n).tau_m, -5.0, "exponential"),
        "tau_m too short": (lambda n: _cell("delta")(n).tau_m, 5e-5, "delta"),
        "c_m": (lambda n: _cell("delta")(n).c_m, 0.0, "delta"),
        "e_l": (lambda n: _cell("delta")(n).e_l, np.nan, "delta"),
        "v_reset": (lambda n: _cell("delta")(n).v_reset, -50.0, "delta"),
        "t_ref": (lambda n: _cell("delta")(n).t_ref, -1.0, "delta"),
        "t_ref between steps": (lambda n: _cell("delta")(n).t_ref, 0.25, "delta"),
        "t_ref beyond all": (lambda n: _cell("delta")(n).t_ref, 1e9, "delta"),
        "adex": (lambda n: _cell("adex")(n).v_peak, -80.0, "adex"),
        "adex, flat": (lambda n: _cell("adex")(n).delta_t, -0.1, "adex"),
        "astrocytes": (lambda n: _cell("astrocytes")(n).tau_ip3, 0.0, "astrocytes"),
        "kinetics": (lambda n: _gate(n).beta.s, 0.0, "channels"),
        "rate of gates": (lambda n: _gate(n).alpha.a, -0.1, "channels"),
        "channels": (
            lambda n: _cell("channels")(n).channels["kv1"].g,
            -1.0,
            "channels",
        ),
        "tau": (lambda n: n.populations["alpha"].receptors["syn"].tau, 0.0, "alpha"),
        "e_rev": (lambda n: n.populations["rk4"].receptors["exc"].e_rev, np.inf, "rk4"),
        "width": (lambda n: n.populations["rk4"].surrogate.width, 0.0, "rk4"),
        "initial": (lambda n: n.populations["astrocytes"].initial["ca"], -0.1, "astrocytes"),
        "weight": (lambda n: n.synapses["a"].weight, np.nan, "exponential"),
        "sign": (lambda n: n.synapses["c"].weight, -1.0, "rk4"),
        "sign onto astrocytes": (lambda n: n.synapses["third"].weight, -1.0, "astrocytes"),
        "U": (lambda n: n.synapses["source"].release.U, 1.1, "rk4"),
        "tau_rec": (lambda n: n.synapses["source"].release.tau_rec, -5.0, "rk4"),
        "x + y": (lambda n: n.synapses["edge"].release.y, 0.5, "euler"),
        "poisson": (lambda n: n.inputs["poisson"].weight, np.inf, "input/poisson"),
        "rate": (lambda n: n.inputs["poisson"].rate, np.nan, "input/poisson"),
        "list": (lambda n: n.inputs["list"].weight, np.nan, "input/list"),
        "cells": (lambda n: n.inputs["list"]._cells, 10, "input/list"),
        "step": (lambda n: n.inputs["step"].values, np.nan, "input/step"),
        "std": (lambda n: n.inputs["noise"].std, -1.0, "input/noise"),
        "conductance": (lambda n: n.couplings["gaps"].conductance, -1.0, "channels"),
        "slow": (lambda n: n.slow["sic"].weight, np.nan, "adex"),
    },
    "growing": {
        "tau_ca": (lambda n: _growth(n).calcium.tau_ca, 0.0, "c"),
        "beta_ca": (lambda n: _growth(n).calcium.beta_ca, -1.0, "c"),
        "eps": (lambda n: _growth(n).elements["a"].curve.eps, 0.0, "c"),
        "levels": (lambda n: _growth(n).elements["b"].curve.eta, 0.7, "c"),
        "psi": (lambda n: _growth(n).elements["s"].curve.psi, 0.0, "c"),
        "tau_vacant": (lambda n: _growth(n).elements["s"].tau_vacant, 1.1, "c"),
        "growth_rate": (lambda n: _growth(n).elements["b"].growth_rate, np.nan, "c"),
        "weight": (lambda n: n.synapses["grows"].weight, -1.0, "projection/grows"),
        "delay": (lambda n: n.synapses["between"].delay.delay, np.nan, "c"),
        "u": (lambda n: n.synapses["maass"].release.u, -0.1, "c"),
        "sign of a current": (lambda n: n.synapses["signed"].weight, 1.0, "c"),
    },
}


def replaced(net, at, wrong):
    """With a number of the same kind in the place of another; in an array in one place only."""
    value = np.array(at(net))
    value[(Ellipsis,) if not value.ndim else (-1,) * value.ndim] = wrong
    return eqx.tree_at(at, net, jnp.asarray(value))


@pytest.mark.parametrize("which", NETWORKS)
def test_every_kind_of_part(which):
    net = NETWORKS[which]()
    state = net.init(KEY)
    traces = []

    @eqx.filter_jit
    def status(net, state):
        traces.append(None)
        return jsnn.simulate(net, state, 0).status

    fine = status(net, state)
    assert {int(step) for step in fine.values()} == {jsnn.NEVER}
    later = eqx.tree_at(lambda s: s.step, state, jnp.int32(30))
    for name, (at, wrong, label) in WRONG[which].items():
        other = replaced(net, at, wrong)
        found = {k: int(step) for k, step in status(other, later).items() if step < jsnn.NEVER}
        assert found == {label: 30}, name
        with pytest.raises((ValueError, TypeError)):  # as it is where numbers are known
            jsnn.simulate(other, later, 0)
    assert len(traces) == 1


def test_what_is_known_costs_nothing():
    """A network that is no argument, and a step that is none, add nothing to the program."""
    net = growing()
    state = net.init(KEY)
    assert all(net.doubted(state, 5).status[k] is own for k, own in state.status.items())
    looked = jax.make_jaxpr(lambda key: net.doubted(net.init(key), 5).status)(KEY)
    assert "is_finite" not in str(looked)


def cell():
    cells = jsnn.Population(LIF(i_e=500.0), 4, {"x": Exponential(2.0)})
    return jsnn.Network({"a": cells}, dt=0.1)


def of_tau(tau_m):
    net = cell()
    own = eqx.tree_at(lambda n: n.populations["a"].neuron.tau_m, net, tau_m)
    return own, jsnn.simulate(own, own.init(KEY), 50, {"v": jsnn.record.States("a", "v")})


def test_each_member_of_a_batch_has_its_own():
    own = jax.vmap(lambda tau_m: of_tau(tau_m)[1].status["a"])(jnp.asarray([10.0, -1.0, np.inf]))
    np.testing.assert_array_equal(own, [jsnn.NEVER, 0, 0])
    slope = jax.grad(lambda tau_m: jnp.mean(of_tau(tau_m)[1].records["v"].values))
    # Of v = -70 + 2 tau (1 - exp(-t / tau)), which does not reach the threshold in 5 ms
    t, tau = 0.1 * np.arange(1, 51), 10.0
    expected = np.mean(2 * (1 - np.exp(-t / tau)) - 2 * t / tau * np.exp(-t / tau))
    np.testing.assert_allclose(slope(tau), expected, 1e-4)


def test_a_solution_of_wrong_parameters_is_raised_as_such():
    made = jax.jit(lambda tau_m: of_tau(tau_m)[1].state)(-1.0)
    with pytest.raises(FloatingPointError, match="'a'.* was out of its range"):
        raise_if_failed(cell(), made)


def test_drawn_values_are_looked_at_by_init():
    def init(low):
        initial = {"v": jsnn.distributions.Uniform(low, low + 1)}
        cells = jsnn.Population(LIF(), 4, {"d": Delta()}, initial=initial)
        return jsnn.Network({"a": cells}, dt=0.1).init(KEY).status["a"]

    np.testing.assert_array_equal(jax.vmap(init)(jnp.asarray([-70.0, np.nan])), [jsnn.NEVER, 0])


def test_a_sweep_names_the_point_and_the_parameter():
    def found(tau_m):
        own, made = of_tau(tau_m)
        return {"v": made.records["v"].values[-1, 0], "status": made.status}

    message = "at tau_m=-1 population 'a' by step 0; population 'a': tau_m=-1.0 must be above 0"
    with pytest.raises(FloatingPointError, match=message):
        jsnn.sweep(found, {"tau_m": [10.0, -1.0]}, progress=False)
    kept = jsnn.sweep(found, {"tau_m": [10.0, -1.0]}, progress=False, keep_failed=True)
    np.testing.assert_array_equal(kept.failed, [False, True])
    assert np.isnan(kept["v"][1]) and np.isfinite(kept["v"][0])

    def reckoned(x):  # with JAX, so that it is not known what is wrong
        return found(jnp.exp(x) - 5.0)

    with pytest.raises(FloatingPointError, match="at x=0 population 'a' by step 0; jsnn.run"):
        jsnn.sweep(reckoned, {"x": [3.0, 0.0]}, progress=False)


def test_a_fit_turns_back_from_parameters_out_of_their_range():
    def loss(tau_m, key):
        own, made = of_tau(tau_m)
        return tau_m**2, {"status": made.status, "tau_m": tau_m}

    # Towards 0, and then beyond: without a status the loss would lead it to both sides of 0
    settings = dict(optimizer=optax.sgd(0.6), steps=6, key=KEY, progress=False)
    fit = jsnn.fit(loss, 1.0, **settings)
    # 1 - 0.6 * 2 = -0.2, which has no loss; half the way back is 0.4, then -0.08, 0.16, ...
    wanted = [1.0, -0.2, 0.4, -0.08, 0.16, -0.032]
    np.testing.assert_allclose(fit.history["tau_m"], wanted, 1e-4)
    np.testing.assert_array_equal(np.isnan(fit.history["loss"]), [False, True] * 3)
    assert int(fit.skipped) == 3 and float(fit.best) == pytest.approx(0.16, 1e-4)
    assert set(fit.history) == {"loss", "tau_m"}
    with pytest.raises(TypeError, match="status=.*give steps"):
        jsnn.fit(lambda x, key: (x**2, {"status": x}), 1.0, **settings)
