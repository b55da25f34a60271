"""The order of arrivals, thresholds and resets within a step."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn.adjoint import Backprop, Cut
from jsnn.connect import Pairs
from jsnn.inputs import SpikeList
from jsnn.neurons import LIF, AdEx, HodgkinHuxley
from jsnn.order import AsInBrian, AsInNest
from jsnn.receptors import Delta, Exponential
from jsnn.record import Spikes, States

REFERENCE = Path(__file__).parent / "reference" / "brian_order.npz"
DT = 0.1


def fired_at(network, steps, cells="cells"):
    made = jsnn.simulate(network, network.init(jax.random.key(0)), steps, {"s": Spikes(cells)})
    steps, cells = np.nonzero(np.asarray(made.records["s"].raster))
    return steps, cells


@pytest.mark.parametrize(
    ("order", "second"), [(AsInNest(), [99, 169, 239]), (AsInBrian(), [99, 199, 299])]
)
def test_an_arrival_in_the_step_of_a_spike(x64, order, second):
    """Cells that gain 0.01 a step, without leak: cell 0 fires every 100 steps, and so does cell 1
    if each arrival from it is erased. Otherwise it is 0.3 ahead after its reset: 30 steps."""
    cells = jsnn.Population(
        LIF(tau_m=1e12, c_m=1.0, e_l=0.0, v_th=0.995, v_reset=0.0, t_ref=0.0, i_e=0.1),
        2,
        {"delta": Delta()},
    )
    edge = jsnn.Projection("cells", "cells", Pairs([0], [1]), weight=0.3, delay=0.0)
    network = jsnn.Network({"cells": cells}, {"p": edge}, dt=DT, key=jax.random.key(1), order=order)
    steps, index = fired_at(network, 300)
    assert steps[index == 0].tolist() == [99, 199, 299]
    assert steps[index == 1].tolist()[:3] == second


def frozen(data, refractory, order, delivery=None):
    """The network of the reference: t_ref is a step shorter than Brian's."""
    law = LIF(tau_m=20.0, e_l=-48.0, v_th=-50.0, v_reset=-60.0, t_ref=max(refractory - DT, 0))
    n = data["v0"].size
    cells = jsnn.Population(law, n, {"delta": Delta()}, initial={"v": data["v0"]})
    now = data["delay"] == 0
    projections = {
        name: jsnn.Projection(
            *("cells", "cells", Pairs(data["pre"][chosen], data["post"][chosen])),
            weight=data["weight"][chosen],
            delay=np.round(data["delay"][chosen] * DT, 1),
        )
        for name, chosen in (("now", now), ("later", ~now))
    }
    # A spike of Brian's step n is of the step that ends at (n + 1) dt
    sent = SpikeList("cells", (data["sent_step"] + 1) * DT, data["sent_cell"], 1.5)
    return jsnn.Network(
        {"cells": cells},
        projections,
        {"sent": sent},
        dt=DT,
        key=jax.random.key(1),
        order=order,
        delivery=delivery,
    )


@pytest.mark.parametrize("refractory", [0, 2])
def test_spikes_of_brian(x64, refractory):
    data = dict(np.load(REFERENCE))
    own = {name: data[f"{refractory}_{name}"] for name in ("spike_step", "spike_cell", "v")}
    expected = sorted(zip(own["spike_step"].tolist(), own["spike_cell"].tolist(), strict=True))
    network = frozen(data, refractory, AsInBrian())
    record = {"s": Spikes("cells"), "v": States("cells", "v", index=[0, 1, 2])}
    made = jsnn.simulate(network, network.init(jax.random.key(0)), 3000, record)
    found = list(zip(*np.nonzero(np.asarray(made.records["s"].raster)), strict=True))
    assert [(int(step), int(cell)) for step, cell in found] == expected
    assert len(expected) > 700
    # Theirs are before the steps
    v = np.asarray(made.records["v"].values)
    np.testing.assert_allclose(v[:999], own["v"][1:], atol=1e-10)
    steps, _ = fired_at(frozen(data, refractory, AsInNest()), 3000)
    assert len(steps) != len(expected)


LAWS = {
    "lif": lambda: LIF(tau_m=20.0, e_l=-40.0, v_th=-50.0, v_reset=-60.0, t_ref=0.2),
    "adex": lambda: AdEx(v_peak=-40.0, i_e=900.0, t_ref=0.0, b=20.0),
    "adex with a refractory time": lambda: AdEx(v_peak=-40.0, i_e=900.0, t_ref=0.3, b=20.0),
    "hh": lambda: HodgkinHuxley.squid(i_e=900.0, t_ref=1.0),
}


def mixed(law, *, delivery=None, delay=0.0):
    rng = np.random.default_rng(1)
    n = 40
    cells = jsnn.Population(
        LAWS[law](),
        n,
        {"delta": Delta(), "i": Exponential(2.0)},
        initial={"v": jnp.asarray(rng.uniform(-70.0, -52.0, n))},
    )
    edges = Pairs(rng.integers(0, n, 200), rng.integers(0, n, 200))
    more = {"weight": rng.normal(0.5, 1.0, 200), "delay": delay, "receptor": "delta"}
    late = {"weight": 20.0, "delay": 0.4, "receptor": "i"}
    return jsnn.Network(
        {"cells": cells},
        {
            "p": jsnn.Projection("cells", "cells", edges, **more),
            "q": jsnn.Projection("cells", "cells", edges, **late),
        },
        dt=DT,
        key=jax.random.key(1),
        order=AsInBrian(),
        delivery=delivery,
    )


@pytest.mark.slow_for("hh", "adex")
@pytest.mark.parametrize(("law", "delay"), [*((law, 0.0) for law in LAWS), ("lif", 0.3)])
def test_blocks_are_the_reference(x64, law, delay):
    """One step at a time, `SegmentSum` and `EventDriven`: the same spikes."""
    network = mixed(law, delay=delay)
    state, coefficients, steps = network.init(jax.random.key(0)), network.prepare(), 300
    step = eqx.filter_jit(lambda own, state: own.step(state, coefficients))
    expected = []
    for _ in range(steps):
        state, fired = step(network, state)
        expected.append(np.asarray(fired["cells"]))
    expected = np.nonzero(np.stack(expected))
    assert expected[0].size > 30
    for other in (network, mixed(law, delay=delay, delivery=jsnn.SegmentSum())):
        for own, theirs in zip(fired_at(other, steps), expected, strict=True):
            assert np.array_equal(own, theirs)


def test_what_arrives_without_a_reset_stays(x64):
    """`HodgkinHuxley` is not reset: an arrival in the step of a spike is added, in either order,
    and in Brian's in the time after a spike in which none is seen, too."""

    def membranes(order, delay):
        cells = jsnn.Population(HodgkinHuxley.squid(t_ref=1.0), 2, {"delta": Delta()})
        edge = jsnn.Projection("cells", "cells", Pairs([0], [1]), weight=5.0, delay=delay)
        kick = SpikeList("cells", [1.0, 1.0], [0, 1], 40.0)
        network = jsnn.Network(
            {"cells": cells}, {"p": edge}, {"k": kick}, dt=DT, key=jax.random.key(1), order=order
        )
        record = {"v": States("cells", "v"), "s": Spikes("cells")}
        made = jsnn.simulate(network, network.init(jax.random.key(0)), 60, record).records
        return np.asarray(made["v"].values), np.asarray(made["s"].raster)

    v, raster = membranes(AsInBrian(), 0.0)
    at = int(np.flatnonzero(raster[:, 0])[0])
    assert raster[at].all()
    assert v[at, 1] - v[at, 0] == pytest.approx(5.0)
    v, raster = membranes(AsInBrian(), 0.3)
    assert v[at + 3, 1] - v[at + 3, 0] == pytest.approx(5.0)


@pytest.mark.slow
def test_gradients_are_those_of_the_definition(x64):
    """Event-driven, backward; `SegmentSum` differentiates the step as it stands here."""
    data = dict(np.load(REFERENCE))

    def loss(weight, network):
        network = eqx.tree_at(lambda n: n.synapses["now"].weight, network, weight)
        state = network.init(jax.random.key(0))
        made = jsnn.simulate(network, state, 150, {"v": States("cells", "v")})
        return jnp.mean(made.records["v"].values ** 2)

    slopes = []
    for delivery in (jsnn.EventDriven(), jsnn.SegmentSum()):
        network = frozen(data, 0, AsInBrian(), delivery)
        slopes.append(jax.grad(loss)(network.synapses["now"].weight, network))
    assert np.count_nonzero(slopes[1]) > 100
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-9, atol=1e-15)


def test_gradient_of_what_is_erased(x64):
    """Cell 1 fires with cell 0, whose arrival the reset erases: nothing depends on its weight but
    by the derivative of the spike, and with `Cut` nothing does. When it fires alone all does."""

    def v_1(weight, i_e):
        law = LIF(tau_m=1e12, c_m=1.0, e_l=0.0, v_th=0.995, v_reset=0.0, t_ref=0.0, i_e=i_e)
        cells = jsnn.Population(law, 2, {"delta": Delta()})
        edge = jsnn.Projection("cells", "cells", Pairs([0], [1]), weight=0.3, delay=0.0)
        network = jsnn.Network(
            {"cells": cells}, {"p": edge}, dt=DT, key=jax.random.key(1), order=AsInBrian()
        )
        network = eqx.tree_at(lambda n: n.synapses["p"].weight, network, weight)
        state = network.init(jax.random.key(0))
        made = jsnn.simulate(network, state, 120, {}, adjoint=Backprop(reset=Cut()))
        return made.state.populations["cells"].cell["v"][1]

    slope = jax.grad(v_1)
    assert float(slope(jnp.asarray(0.3), [0.1, 0.1])) == 0
    assert float(slope(jnp.asarray(0.3), [0.1, 0.05])) == pytest.approx(1.0)


def test_another_order_is_refused():
    with pytest.raises(TypeError, match=r"order='brian'; give AsInNest\(\) or AsInBrian\(\)"):
        jsnn.Network({"c": jsnn.Population(LIF(), 1)}, dt=DT, order="brian")
