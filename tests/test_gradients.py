"""Gradients through spikes: event-driven ones are those of `segment_sum`, and the adjoint does what
it says."""

import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn.adjoint import Backprop, Clipped, Cut, Fading, Kept, Scaled, Truncated
from jsnn.connect import AllToAll, FixedIndegree, FixedTotalNumber
from jsnn.delays import Interpolated
from jsnn.distributions import Uniform
from jsnn.growth import Calcium, Gaussian, SynapticElements
from jsnn.inputs import Poisson, SpikeList
from jsnn.neurons import LIF
from jsnn.receptors import Delta, Exponential
from jsnn.record import Counts, States, SynapseStates
from jsnn.release import TsodyksMarkram
from jsnn.rewire import Growing, Rewiring
from jsnn.surrogate import Triangular

STEPS = 62  # blocks of three, and a cut one
N = 24


def lively(delivery=None, **how):
    """Projections of every kind, all of which carry spikes: weights and delays of each edge, one of
    each, a release by source and one by edge, delays between steps."""
    cells = jsnn.Population(
        LIF(tau_m=10.0, c_m=1.0, e_l=0.0, v_th=10.0, v_reset=0.0, t_ref=0.5),
        N,
        {"x": Delta(), "i": Exponential(3.0)},
        slices={"a": slice(0, 14), "b": slice(14, N)},
        initial={"v": Uniform(0.0, 10.0)},
        surrogate=Triangular(2.0, damping=0.3),
    )
    each = {"weight": Uniform(-0.5, 0.8), "delay": Uniform(0.3, 1.9)}
    edges = FixedIndegree(5)
    projections = {
        "each": jsnn.Projection("cells.a", "cells", edges, receptor="x", **each),
        "one": jsnn.Projection("cells.b", "cells", edges, weight=-0.4, delay=0.5, receptor="x"),
        "released": jsnn.Projection(
            *("cells.a", "cells.b", FixedTotalNumber(60)),
            **{"weight": Uniform(0.0, 0.5), "delay": 0.3, "receptor": "i"},
            release=TsodyksMarkram(0.6, 30.0, 10.0),
        ),
        "by edge": jsnn.Projection(
            *("cells.b", "cells.a", FixedTotalNumber(40)),
            **{"weight": 0.4, "delay": 0.7, "receptor": "i"},
            release=TsodyksMarkram(Uniform(0.2, 0.8), 30.0),
        ),
        "between": jsnn.Projection(
            *("cells.a", "cells.a", FixedIndegree(3)),
            **{"weight": 0.3, "delay": Interpolated(Uniform(0.35, 1.15), 0.3, 1.2)},
            receptor="x",
        ),
    }
    noise = Poisson("cells", 3000.0, 0.9, "x")
    return jsnn.Network(
        {"cells": cells}, projections, {"noise": noise}, dt=0.1, key=jax.random.key(1),
        delivery=delivery, **how,
    )  # fmt: skip


RECORD = {
    "v": States("cells", "v", every=0.3),
    "n": Counts("cells", every=1.0),
    "u": SynapseStates("released", "u", every=0.5),
}


def loss(net, key=1, adjoint=None, steps=STEPS):
    solution = jsnn.simulate(net, net.init(jax.random.key(key)), steps, RECORD, adjoint=adjoint)
    v, n, u = (solution.records[name].values for name in RECORD)
    late = jnp.linspace(0, 1, v.shape[0])[:, None]
    total = jnp.mean(late * v**2) + jnp.mean((n - 0.1) ** 2) + jnp.mean(u) ** 2
    return total + 0.1 * jnp.mean(solution.state.populations["cells"].cell["v"])


def assert_equal_gradients(found, wanted, rtol=1e-12):
    pairs = zip(*(jax.tree_util.tree_leaves_with_path(own) for own in (found, wanted)), strict=True)
    for (path, own), (_, other) in pairs:
        scale = np.max(np.abs(other), initial=0)
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        np.testing.assert_allclose(own, other, rtol=0, atol=rtol * scale, err_msg=name)


@pytest.mark.slow
def test_event_driven_gradients_are_those_of_segment_sum(x64):
    """With all that an adjoint can do, in blocks that are run once more on the way back."""
    adjoint = Backprop(
        reset=Scaled(0.5),
        synapses={"each": Scaled(0.7), "released": Scaled(0.3), "one": Kept()},
        between=[Truncated(2.0), Fading(5.0), Clipped(0.5)],
        memory=0,
    )
    found, wanted = (
        eqx.filter_jit(eqx.filter_value_and_grad(loss))(lively(own), adjoint=adjoint)
        for own in (None, jsnn.SegmentSum())
    )
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-13)
    assert_equal_gradients(found[1], wanted[1])
    of = found[1].synapses
    assert all(np.any(of[name].weight) for name in of)
    assert np.count_nonzero(of["each"].weight) > 20 and np.any(of["between"].delay.delay)
    assert np.any(of["released"].release.U) and np.any(of["by edge"].release.U)


@pytest.mark.slow
def test_gradients_pass_updates_of_structure(x64):
    """Of what new synapses and elements are like, too: two updates, with synapses from before."""
    element = SynapticElements(Gaussian(0.0, 0.05), growth_rate=0.05, tau_vacant=0.2)
    cells = jsnn.Population(
        LIF(tau_m=10.0, c_m=1.0, e_l=0.0, v_th=10.0, v_reset=0.0, t_ref=0.5),
        12,
        {"i": Exponential(3.0)},
        initial={"v": Uniform(0.0, 10.0), "axon": 6.6, "dendrite": 4.7},
        surrogate=Triangular(2.0, damping=0.3),
        calcium=Calcium(20.0, 0.01),
        elements={"axon": element, "dendrite": element},
    )
    p = jsnn.Projection(
        *("cells", "cells", FixedIndegree(2)),
        **{"weight": Uniform(0.2, 0.6), "delay": 0.3, "release": TsodyksMarkram(0.6, 30.0, 10.0)},
        growing=Growing("axon", "dendrite", weight=0.5, delay=0.3, capacity=200),
    )
    noise = Poisson("cells", 3000.0, 0.9)

    def slopes(delivery):
        net = jsnn.Network(
            {"cells": cells}, {"p": p}, {"noise": noise}, dt=0.1, key=jax.random.key(1),
            rewiring=Rewiring(1.5), delivery=delivery,
        )  # fmt: skip

        def total(net):
            record = {n: States("cells", n, every=0.3) for n in ("v", "axon", "ca")}
            made = jsnn.simulate(net, net.init(jax.random.key(1)), 40, record)
            return sum(jnp.sum(own.values**2) for own in made.records.values())

        return eqx.filter_jit(eqx.filter_grad(total))(net)

    found, wanted = slopes(None), slopes(jsnn.SegmentSum())
    assert_equal_gradients(found, wanted, 1e-11)
    of = found.synapses["p"]
    assert of.grown.weight != 0 and of.release.U != 0 and np.any(of.weight)
    assert found.populations["cells"].growth.elements["axon"].tau_vacant != 0


WEIGHTS = np.linspace(0.3, 0.9, 9)


def small(weight=0.6):
    """Three cells that drive each other, of which one is near its threshold."""
    cells = jsnn.Population(
        LIF(tau_m=10.0, c_m=1.0, e_l=0.0, v_th=10.0, v_reset=1.0, t_ref=0.2),
        3,
        {"x": Delta()},
        initial={"v": jnp.array([9.9, 9.5, 7.0])},
        surrogate=Triangular(3.0),
    )
    p = jsnn.Projection("cells", "cells", AllToAll(), weight=weight, delay=0.2)
    noise = Poisson("cells", 20000.0, 0.3, max_rate=40000.0)
    key = jax.random.key(1)
    return jsnn.Network({"cells": cells}, {"p": p}, {"noise": noise}, dt=0.1, key=key)


def spikes(net, key):
    solution = jsnn.simulate(net, net.init(key), 40, {"n": Counts("cells", every=1.0)})
    return jnp.sum(solution.records["n"].values ** 2)


@pytest.mark.slow
def test_gradients_of_a_batch_and_of_its_members():
    """vmap of grad and grad of vmap, weights shared and of each member."""
    net = small()
    keys = jax.random.split(jax.random.key(3), 4)

    def total(weight, key):
        return spikes(eqx.tree_at(lambda n: n.synapses["p"].weight, net, weight), key)

    shared = jnp.asarray(WEIGHTS, jnp.float32)
    own = shared * jnp.linspace(0.8, 1.2, 4)[:, None]
    alone = jax.jit(jax.grad(total))
    wanted = jnp.stack([alone(w, key) for w, key in zip(own, keys, strict=True)])
    assert np.all(np.any(wanted, 1))
    of_batch = jax.jit(jax.vmap(jax.grad(total)))(own, keys)
    np.testing.assert_allclose(of_batch, wanted, rtol=2e-4, atol=1e-4)
    through = jax.jit(jax.grad(lambda w: jnp.sum(jax.vmap(total, (None, 0))(w, keys))))(shared)
    wanted = sum(alone(shared, key) for key in keys)
    np.testing.assert_allclose(through, wanted, rtol=2e-4, atol=1e-4)


ON_DEVICES = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
import equinox as eqx
import test_gradients as own
net = own.small(own.WEIGHTS)
gradients = [eqx.filter_grad(own.spikes)(n, jax.random.key(1)) for n in (net.on(2), net)]
assert all(map(lambda g: bool(abs(g.synapses["p"].weight).max() > 0), gradients))
split = lambda g: g.synapses["p"].split
whole = [eqx.tree_at(split, g, None, is_leaf=lambda x: x is None) for g in gradients]
own.assert_equal_gradients(*whole)
"""


@pytest.mark.slow
def test_gradients_on_several_devices():
    """In a process of its own, as JAX has to be told of its devices first."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def run_of(net, adjoint, start):
    """The last membrane of the third cell, which the first two reach by their spikes alone."""

    def last(v):
        state = eqx.tree_at(lambda s: s.populations["cells"].cell["v"], start, v)
        solution = jsnn.simulate(net, state, 12, adjoint=adjoint)
        return solution.state.populations["cells"].cell["v"][2]

    return jax.jit(jax.grad(last))(start.populations["cells"].cell["v"])


def test_paths_that_are_cut_or_scaled():
    net = eqx.tree_at(lambda n: n.inputs["noise"].rate, small(), 0.0)
    start = net.init(jax.random.key(0))
    kept = run_of(net, Backprop(reset=Kept()), start)
    assert np.all(kept != 0)
    no_synapses = run_of(net, Backprop(reset=Kept(), synapses=Cut()), start)
    assert np.all(no_synapses[:2] == 0) and no_synapses[2] != 0
    whole, half = (
        run_of(net, Backprop(synapses={"p": Scaled(own)}, reset=Cut()), start) for own in (1, 0.5)
    )
    assert np.all((0 < half / whole)[:2] & (half / whole <= 0.5)[:2])  # more than once around
    assert np.all((whole != kept)[:2])
    truncated = Backprop(reset=Kept(), between=Truncated(0.4))
    assert np.all(run_of(net, truncated, start)[:2] == 0)


def test_what_is_carried_between_blocks():
    """By hand: of a linear membrane, the gradient of the start fades by what is said."""
    cells = jsnn.Population(LIF(tau_m=10.0), 1, {"x": Delta()})
    p = jsnn.Projection("cells", "cells", AllToAll(), weight=1.0, delay=0.2)
    net = jsnn.Network({"cells": cells}, {"p": p}, dt=0.1, key=jax.random.key(0))
    start = net.init(jax.random.key(0))

    def last(v, adjoint):
        state = eqx.tree_at(lambda s: s.populations["cells"].cell["v"], start, v)
        return jsnn.simulate(net, state, 8, adjoint=adjoint).state.populations["cells"].cell["v"][0]

    slope = eqx.filter_jit(eqx.filter_grad(last))
    v = start.populations["cells"].cell["v"]
    decay = np.exp(-0.8 / 10.0)
    np.testing.assert_allclose(slope(v, Backprop()), decay, rtol=1e-6)
    fading = slope(v, Backprop(between=Fading(5.0)))
    np.testing.assert_allclose(fading, decay * np.exp(-0.6 / 5.0), rtol=1e-6)  # three boundaries
    clipped = slope(v, Backprop(between=Clipped(0.1)))
    # At the last boundary, with that of the arrivals of the last two steps; then it is less
    norm = np.sqrt(np.exp(-0.04) + np.exp(-0.02) + 1)
    np.testing.assert_allclose(clipped, 0.1 * np.exp(-0.08) / norm, rtol=1e-5)
    assert slope(v, Backprop(between=Truncated(0.4))) == 0

    @eqx.filter_jit
    @eqx.filter_grad
    def in_calls(v, adjoint):
        state = eqx.tree_at(lambda s: s.populations["cells"].cell["v"], start, v)
        for steps in (2, 4, 2):
            state = jsnn.simulate(net, state, steps, adjoint=adjoint).state
        return state.populations["cells"].cell["v"][0]

    np.testing.assert_allclose(in_calls(v, Backprop(between=Fading(5.0))), fading, rtol=1e-6)
    assert in_calls(v, Backprop(between=Truncated(0.4))) == 0


@pytest.mark.slow_for("7")
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_initial_states_and_runs_that_are_no_blocks(x64, steps):
    """Blocks are of two steps; all their states are kept."""
    slopes = [
        jax.grad(lambda v, net=net: ending(net, v, steps))(jnp.asarray([9.9, 9.5, 7.0]))
        for net in (small(), eqx.tree_at(lambda n: n.delivery, small(), jsnn.SegmentSum()))
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-12)
    assert np.all(slopes[0] != 0)


def ending(net, v, steps):
    start = net.init(jax.random.key(0))
    state = eqx.tree_at(lambda s: s.populations["cells"].cell["v"], start, v)
    record = {"v": States("cells", "v"), "n": Counts("cells", every=0.1)}
    made = jsnn.simulate(net, state, steps, record, adjoint=Backprop(reset=Kept()))
    own = sum(jnp.sum(r.values) for r in made.records.values())
    return jnp.sum(made.state.populations["cells"].cell["v"]) + own


def test_gradient_of_a_delay_equals_its_central_difference(x64):
    """A current that is handed on between steps; at a whole number of them, as a plain delay."""
    pre = jsnn.Population(LIF(i_e=400.0), 3)
    post = jsnn.nest.iaf_psc_exp(4)

    def build(delay):
        p = jsnn.Projection("pre", "post", AllToAll(), weight=30.0, delay=delay, receptor="ex")
        return jsnn.Network({"pre": pre, "post": post}, {"p": p}, dt=0.1, key=jax.random.key(0))

    delays = jnp.linspace(0.55, 2.9, 12)
    net = build(Interpolated(delays, 0.3, 3.0))

    @jax.jit
    def total(delays):
        own = eqx.tree_at(lambda n: n.synapses["p"].delay.delay, net, delays)
        solution = jsnn.simulate(own, own.init(jax.random.key(1)), 200, {"v": States("post", "v")})
        return jnp.sum((solution.records["v"].values + 70) ** 2)

    found = jax.jit(jax.grad(total))(delays)
    for i in (0, 5, 11):
        high, low = (total(delays.at[i].add(h)) for h in (1e-6, -1e-6))
        np.testing.assert_allclose(found[i], (high - low) / 2e-6, rtol=1e-6)
    ends = jnp.asarray([0.3, 3.0])  # towards longer delays, and towards shorter ones
    slopes = jax.grad(lambda d: jnp.sum(Interpolated(1.0, 0.3, 3.0).parts(d, 0.1)[1]))(ends)
    np.testing.assert_allclose(slopes, 10.0)  # of a part of a spike, by ms
    own = eqx.tree_at(lambda n: n.synapses["p"].delay.delay, net, jnp.full(12, 1.2))
    v = [
        jsnn.simulate(n, n.init(jax.random.key(1)), 200, {"v": States("post", "v")})
        for n in (own, build(1.2))
    ]
    np.testing.assert_allclose(*(s.records["v"].values for s in v), rtol=1e-13)
    np.testing.assert_allclose(net.connections()["p"].delay[:2], np.asarray(delays)[:2])


def test_gradient_of_a_rate_is_that_of_the_expectation():
    """Of the mean and of the square of a sum of counts, whose derivatives are known."""
    post = jsnn.Population(LIF(tau_m=1e9, e_l=0.0, v_th=1e9), 2000, {"x": Delta()})
    noise = Poisson("cells", 2000.0, 1.0, max_rate=4000.0)
    net = jsnn.Network({"cells": post}, {}, {"noise": noise}, dt=0.1, key=jax.random.key(0))

    def moments(rate):
        own = eqx.tree_at(lambda n: n.inputs["noise"].rate, net, rate)
        solution = jsnn.simulate(own, own.init(jax.random.key(1)), 20)
        v = solution.state.populations["cells"].cell["v"]
        return jnp.stack([jnp.mean(v), jnp.mean(v**2)])

    for rate in (2000.0, 100.0):  # 0.2 and 0.01 a step
        found = jax.jit(jax.jacrev(moments))(jnp.asarray(rate))
        mean = rate * 2e-3  # of 20 steps
        wanted = 2e-3 * np.array([1.0, 2 * mean + 1])
        np.testing.assert_allclose(found, wanted, rtol=0.1)


BAD = {
    "between": (lambda: Interpolated(1.0, 0.5, 0.5), "max=0.5 ms must be above"),
    "outside": (lambda: Interpolated(4.0, 0.5, 3.0), "is not between min=0.5"),
    "reset": (lambda: Backprop(reset=0.5), r"reset=0.5; give Kept\(\)"),
    "synapses": (lambda: Backprop(synapses={"p": None}), r"synapses\['p'\]=None"),
    "back": (lambda: Backprop(between=[3.0]), "between=3.0; give Truncated"),
    "tau": (lambda: Fading(0.0), "tau=0.0 must be above 0"),
    "every": (lambda: Truncated(-1.0), "every=-1.0 must be above 0"),
    "memory": (lambda: Backprop(memory=-1), "memory=-1 must be at least 0"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD.keys())
def test_bad_choices(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_bad_choices_for_a_network():
    net = small()
    start = net.init(jax.random.key(0))
    for adjoint, message in (
        (Backprop(synapses={"q": Cut()}), "no projection 'q'"),
        (Backprop(between=Truncated(0.25)), "every=0.25 ms is no whole number of steps"),
        ("fast", "adjoint='fast'"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            jsnn.simulate(net, start, 3, adjoint=adjoint)


def third(net, weight, adjoint=None):
    """Of the third cell, which fires last, the squared membrane in the end."""
    own = eqx.tree_at(lambda n: n.synapses["p"].weight, net, weight)
    made = jsnn.simulate(own, own.init(jax.random.key(0)), 7, adjoint=adjoint)
    return made.state.populations["cells"].cell["v"][2] ** 2


# Of a function f of one number: in forward mode, and differentiated twice
BEYOND = {
    "jvp": lambda f, x: jax.jvp(f, (x,), (x,)),
    "linearize": lambda f, x: jax.linearize(f, x)[1](x),
    "jit jacfwd": lambda f, x: jax.jit(jax.jacfwd(f))(x),
    "vmap jvp": lambda f, x: jax.vmap(lambda x: jax.jvp(f, (x,), (x,)))(x[None]),
    "scan jvp": lambda f, x: jax.jvp(
        lambda x: jax.lax.scan(lambda c, _: (c + f(x), None), 0.0, None, 2)[0], (x,), (x,)
    ),
    "hessian": lambda f, x: jax.hessian(f)(x),
    "jit vmap hessian": lambda f, x: jax.jit(jax.vmap(jax.hessian(f)))(x[None]),
    "jacrev of grad": lambda f, x: jax.jacrev(jax.grad(f))(x),
    "jvp of grad": lambda f, x: jax.jvp(jax.grad(f), (x,), (x,)),
    "jacfwd of jit of grad": lambda f, x: jax.jacfwd(jax.jit(jax.grad(f)))(x),
}


@pytest.mark.parametrize("way", BEYOND)
def test_derivatives_that_event_driven_delivery_lacks(way):
    net, x = small(), jnp.asarray(0.6)
    with pytest.raises(TypeError, match=r"event by event.*delivery=jsnn.SegmentSum\(\)"):
        BEYOND[way](lambda weight: third(net, weight), x)


@pytest.mark.slow
def test_derivatives_that_sums_have(x64):
    """Forward as backward, and twice: of a membrane at rest that gets arrivals, a square."""
    net = eqx.tree_at(lambda n: n.delivery, small(), jsnn.SegmentSum())
    x, f = jnp.asarray(0.6), lambda weight: third(net, weight)
    slope = jax.jit(jax.grad(f))(x)
    along = jax.jit(lambda x: jax.jvp(f, (x,), (1.0,))[1])
    np.testing.assert_allclose(along(x), slope, rtol=1e-12)
    h = 1e-4
    value = jax.jit(f)
    second = (value(x + h) - 2 * value(x) + value(x - h)) / h**2
    for way in (jax.hessian(f), jax.jacrev(jax.grad(f))):
        np.testing.assert_allclose(jax.jit(way)(x), second, rtol=1e-5)


def test_what_goes_backward_only_says_so():
    net = eqx.tree_at(lambda n: n.delivery, small(), jsnn.SegmentSum())
    clipped = Backprop(between=Clipped(1.0))
    with pytest.raises(TypeError, match="Clipped bounds .* leave it out"):
        jax.jacfwd(lambda w: third(net, w, clipped))(jnp.asarray(0.6))
    cell = jsnn.Population(LIF(v_th=0.0), 1, {"x": Delta()})
    given = SpikeList("cell", [0.2, 0.3], [0, 0], 1.0)
    alone = jsnn.Network({"cell": cell}, inputs={"given": given}, dt=0.1)

    def end(weight):
        own = eqx.tree_at(lambda n: n.inputs["given"].weight, alone, weight)
        made = jsnn.simulate(own, own.init(jax.random.key(0)), 5)
        return made.state.populations["cell"].cell["v"][0] ** 2

    assert jax.grad(end)(1.0) < 0
    for way in (jax.jacfwd(end), jax.hessian(end), jax.grad(jax.grad(end))):
        with pytest.raises(TypeError, match="weights of a SpikeList have first derivatives"):
            way(1.0)
