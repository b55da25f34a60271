"""Gradients of membranes by the reset: exact where nothing fires and where spikes stay in their
steps, whatever the surrogate; with the path kept, by the formula."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn.adjoint import Backprop, Cut, Kept, Scaled
from jsnn.connect import AllToAll
from jsnn.inputs import SpikeList
from jsnn.neurons import LIF, AdEx, HodgkinHuxley
from jsnn.receptors import Exponential
from jsnn.record import Spikes, States
from jsnn.surrogate import Triangular

DT, STEPS = 0.1, 300
TAU_M, TAU_SYN, V_TH, PEAK = 10.0, 5.0, 10.0, 9.75
# Alone; with synapses that carry a gradient of their own, event by event and by all edges
WAYS = {"alone": None, "event-driven": jsnn.EventDriven(), "sums": jsnn.SegmentSum()}


def network(cell: jsnn.Population, way: str, **inputs: Any) -> jsnn.Network:
    """One cell, and where there are synapses another that hears its spikes."""
    if WAYS[way] is None:
        return jsnn.Network({"cell": cell}, inputs=inputs, dt=DT)
    other = jsnn.Population(LIF(), 1, {"i": Exponential(2.0)})
    p = jsnn.Projection("cell", "other", AllToAll(), weight=1.0, delay=0.5)
    return jsnn.Network(
        {"cell": cell, "other": other}, {"p": p}, inputs, dt=DT, delivery=WAYS[way],
        key=jax.random.key(1),
    )  # fmt: skip


def traces(net: jsnn.Network, steps: int, adjoint: Backprop | None) -> tuple[jax.Array, jax.Array]:
    """The membrane at the end of every step, and how many spikes there were."""
    record = {"v": States("cell", "v"), "s": Spikes("cell")}
    made = jsnn.simulate(net, net.init(jax.random.key(0)), steps, record, adjoint=adjoint)
    return made.records["v"].values[:, 0], made.stats["spikes"]["cell"]


def with_parameter(net: jsnn.Network, name: str, value: Any) -> jsnn.Network:
    return eqx.tree_at(lambda n: getattr(n.populations["cell"].neuron, name), net, value)


def difference(function: Any, at: Any, h: float = 1e-4) -> Any:
    """Central, of fourth order."""
    near, far = (function(at + k * h) - function(at - k * h) for k in (1, 2))
    return (8 * near - far) / (12 * h)


@pytest.mark.parametrize("way", WAYS)
def test_a_cell_that_nearly_fires(x64, way):
    """One arrival brings it to 9.75 of 10 mV. In closed form, with a = weight / c_m and
    v(t) = a (exp(-t / tau_m) - exp(-t / tau_syn)) / (1 / tau_syn - 1 / tau_m)."""
    at = np.maximum(DT * (np.arange(STEPS) - 9), 0)  # the arrival is in the step that ends at 1 ms
    kernel = (np.exp(-at / TAU_M) - np.exp(-at / TAU_SYN)) / (1 / TAU_SYN - 1 / TAU_M)
    weight = PEAK / kernel.max()
    law = LIF(tau_m=TAU_M, c_m=1.0, e_l=0.0, v_th=V_TH, v_reset=0.0)
    cell = jsnn.Population(law, 1, {"i": Exponential(TAU_SYN)}, surrogate=Triangular())
    net = network(cell, way, given=SpikeList("cell", [1.0], [0], weight, "i"))

    @jax.jit
    @jax.value_and_grad
    def mean(weight, width, kept):
        where = lambda n: (n.inputs["given"].weight, n.populations["cell"].surrogate.width)  # noqa: E731
        own = eqx.tree_at(where, net, (weight, width))
        adjoint = None if kept is None else Backprop(reset=Scaled(kept))
        return jnp.mean(traces(own, STEPS, adjoint)[0])

    for width in (5.0, 2.0, 0.3):
        value, slope = mean(weight, width, None)
        np.testing.assert_allclose(value, weight * kernel.mean(), rtol=1e-12)
        np.testing.assert_allclose(slope, kernel.mean(), rtol=1e-12)
    kept = [float(mean(weight, width, 1.0)[1]) for width in (5.0, 2.0)]
    assert abs(kept[0] / kernel.mean()) < 0.1 and abs(kept[1]) > 1e6  # by choice


class Quadratic(LIF):
    """As a user writes it: dv/dt = (v - e_l) (v - v_c) / tau_m + i_e / c_m, with v_c = 1 mV."""

    @property
    def is_linear(self):
        return False

    def vector_field(self, values, current, frozen):
        v = values["v"]
        rest = (v - self.e_l) * (v - 1.0) / self.tau_m + (current(v) + self.i_e) / self.c_m
        return {"v": jnp.where(frozen, 0, rest)}


def quadratic():
    """0.3 mV below its threshold at the end, and a step from its spike."""
    law = Quadratic(tau_m=10.0, c_m=1.0, e_l=0.0, v_th=10.0, v_reset=-1.0, i_e=0.1)
    return law, 231, 1e-6


def adaptive():
    """On its upstroke at the end, 12 mV above v_th and a step from its peak."""
    return AdEx(i_e=800.0), 177, 1e-4


def channels():
    """0.14 mV below its v_th after a step, and falling."""
    return HodgkinHuxley.squid(v_0=-60.0, v_th=-60.7), 40, 1e-4


@pytest.mark.slow_for("channels", "adaptive")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [quadratic, adaptive, channels])
def test_laws_that_nearly_fire(x64, make, way):
    """Beside central differences, with a surrogate that reaches them."""
    law, steps, h = make()
    cell = jsnn.Population(law, 1, {"i": Exponential(5.0)}, surrogate=Triangular(3.0))
    net = network(cell, way)

    def mean(i_e):
        v, spikes = traces(with_parameter(net, "i_e", i_e), steps, None)
        return jnp.mean(v), spikes

    both = jax.jit(jax.value_and_grad(mean, has_aux=True))
    (_, spikes), slope = both(law.i_e)
    assert spikes == 0
    np.testing.assert_allclose(slope, difference(lambda x: both(x)[0][0], law.i_e, h), rtol=1e-8)


def test_spikes_that_stay_in_their_steps(x64):
    """A cell that fires over and over: the gradient is that of what was computed."""
    cell = jsnn.Population(LIF(i_e=500.0), 1, surrogate=Triangular(5.0))
    net = network(cell, "alone")

    @jax.jit
    @jax.value_and_grad
    def mean(tau_m):
        return jnp.mean(traces(with_parameter(net, "tau_m", tau_m), 600, None)[0])

    at = jnp.asarray(10.0)
    assert traces(net, 600, None)[1] >= 3
    np.testing.assert_allclose(mean(at)[1], difference(lambda x: mean(x)[0], at), rtol=1e-8)


@pytest.mark.parametrize("start", [-56.0, -55.5, -54.0], ids=["near", "nearer", "fires"])
def test_the_path_by_choice(x64, start):
    """One step of a membrane u that decays by d: of v = (1 - s) u + s v_reset, with s the spike, it
    is d (1 - s + (v_reset - u) slope) where the path is kept."""
    surrogate = Triangular(2.0, damping=0.5)
    law = LIF(tau_m=10.0, e_l=-70.0, v_th=-55.0, v_reset=-60.0)
    cell = jsnn.Population(law, 1, surrogate=surrogate)
    net = network(cell, "alone")
    begin = net.init(jax.random.key(0))

    def last(v, adjoint):
        own = eqx.tree_at(lambda s: s.populations["cell"].cell["v"], begin, v)
        made = jsnn.simulate(net, own, 1, adjoint=adjoint)
        return made.state.populations["cell"].cell["v"][0]

    decay = np.exp(-DT / 10.0)
    u = -70.0 + (start + 70.0) * decay
    spike = float(u >= -55.0)
    slope = 0.5 * max(0.0, 1 - abs(u + 55.0) / 2.0) / 2.0
    for path, part in ((None, 0.0), (Cut(), 0.0), (Kept(), 1.0), (Scaled(0.3), 0.3)):
        found = jax.grad(last)(jnp.asarray([start]), Backprop(reset=path))
        wanted = decay * (1 - spike + part * (-60.0 - u) * slope)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)
