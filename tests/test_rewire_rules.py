"""Pairing by distance, what is refused, and NEST's names for calcium and elements."""

# Arguments of wrong types are the point here.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jsnn
from jsnn._rewire import rewired_state
from jsnn.connect import NoEdges, Pairs, connect
from jsnn.distributions import Normal, Uniform
from jsnn.growth import Gaussian, Linear, Sigmoid, SynapticElements
from jsnn.receptors import Exponential
from jsnn.release import TsodyksMarkram
from jsnn.rewire import ByDistance, Growing, Rewiring

N = 40


def network(growing=None, rewiring=None, elements=("axon", "dendrite"), **given):
    """N cells whose elements do not grow by themselves."""
    fixed = {name: SynapticElements(growth_rate=0.0) for name in elements}
    cells = jsnn.nest.iaf_psc_exp(N)
    cells = jsnn.Population(cells.neuron, N, cells.receptors, elements=fixed)
    given = {"rule": NoEdges(), "weight": 1.0, "delay": 1.0, "receptor": "ex", **given}
    growing = Growing("axon", "dendrite") if growing is None else growing
    return jsnn.Network(
        {"cells": cells},
        {"p": jsnn.Projection("cells", "cells", growing=growing, **given)},
        dt=0.1,
        key=jax.random.key(1),
        rewiring=Rewiring(10.0) if rewiring is None else rewiring,
    )


def with_elements(net, axon, dendrite):
    start = net.init(jax.random.key(1))
    growth = start.populations["cells"].growth
    growth |= {"axon": jnp.asarray(axon, float), "dendrite": jnp.asarray(dendrite, float)}
    own = replace(start.populations["cells"], growth=growth)
    return replace(start, populations={"cells": own})


def updates(net, axon, dendrite, n):
    """The edges that n keys make of vacant elements, a store with a first axis."""
    start = with_elements(net, axon, dendrite)
    one = lambda key: rewired_state(net, replace(start, key=key)).edges["p"]  # noqa: E731
    keys = jax.vmap(lambda k: net.init(k).key)(jax.random.split(jax.random.key(3), n))
    return eqx.filter_jit(jax.vmap(one))(keys)


def counts(store):
    made = np.zeros((N, N), int)
    used = np.arange(store.capacity) < np.asarray(store.n_edges)[:, None]
    np.add.at(made, (np.asarray(store.pre)[used], np.asarray(store.post)[used]), 1)
    return made


@pytest.mark.slow_for("4.0")
@pytest.mark.parametrize("period", [None, 4.0])
def test_a_single_element_is_joined_by_distance(period):
    """A target is found in proportion to exp(-d^2 / 2 sigma^2) and its vacant elements."""
    rng, sigma = np.random.default_rng(1), 0.8
    at = rng.uniform(0, 4, (N, 2))
    net = network(Growing("axon", "dendrite", pairing=ByDistance(sigma, at, period=period)))
    axon, dendrite = np.eye(N)[7], np.arange(N) % 4
    store = updates(net, axon, dendrite, 4000)
    assert np.all(np.asarray(store.n_edges) == 1)
    found = counts(store)[7]
    apart = at - at[7]
    if period is not None:
        apart -= period * np.round(apart / period)
    weight = dendrite * np.exp(-(apart**2).sum(1) / (2 * sigma**2))
    expected = 4000 * weight / weight.sum()
    some = expected > 5
    rest = found[~some].sum(), expected[~some].sum()
    observed, wanted = (np.append(a[some], b) for a, b in zip((found, expected), rest, strict=True))
    assert stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-3
    assert found[dendrite == 0].sum() == 0


@pytest.mark.slow
def test_elements_on_a_line():
    """All elements are joined while there are some in reach, each at most once, and near cells are
    preferred; those out of reach stay vacant; a cell may be kept from itself."""
    at = np.arange(N) // 20 * 1e3 + np.arange(N) % 20
    rule = ByDistance(1.5, at)
    net = network(Growing("axon", "dendrite", pairing=rule, autapses=False))
    axon, dendrite = 2.0 * (np.arange(N) < 20), np.full(N, 3.0)
    store = updates(net, axon, dendrite, 50)
    assert np.all(np.asarray(store.n_edges) == 40)
    found = counts(store)
    assert found[:, 20:].sum() == found[20:].sum() == np.trace(found) == 0
    pre, post = np.nonzero(found)
    assert np.average(np.abs(pre - post), weights=found[pre, post]) < 2.5
    # Of more axons than dendrites in reach the others find none
    store = updates(net, 4 * axon, dendrite, 5)
    assert np.all(np.asarray(store.n_edges) <= 60) and np.all(np.asarray(store.n_edges) >= 57)


def test_positions_over_a_list():
    """Positions go over the union of the populations."""
    at = np.arange(6.0)
    fixed = {name: SynapticElements(growth_rate=0.0) for name in ("axon", "dendrite")}
    cells = {
        name: jsnn.Population(
            jsnn.neurons.LIF(),
            n,
            {"x": Exponential(1.0)},
            elements=fixed,
            initial={"axon": 1.0, "dendrite": 1.0},
        )
        for name, n in (("a", 4), ("b", 2))
    }
    net = jsnn.Network(
        cells,
        {
            "p": jsnn.Projection(
                *(["a", "b"], ["b", "a"], NoEdges()),
                **{"weight": 1.0, "delay": 1.0},
                growing=Growing(
                    "axon", "dendrite", pairing=ByDistance(0.05, at, at[[4, 5, 0, 1, 2, 3]])
                ),
            )
        },
        dt=0.1,
        key=jax.random.key(1),
        rewiring=Rewiring(10.0),
    )
    state = rewired_state(net, net.init(jax.random.key(1)))
    found = net.connections(state)
    for pre, post, n in (("a", "a", 4), ("b", "b", 2), ("a", "b", 0), ("b", "a", 0)):
        own = found[f"p/{pre}->{post}"]
        np.testing.assert_array_equal(own.pre, np.arange(n))
        np.testing.assert_array_equal(own.post, np.arange(n))


GIVEN = Growing("axon", "dendrite")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Growing(1, "dendrite"), TypeError, "pre=1 is not a name"),
        (lambda: Growing("a", "b", capacity=0), ValueError, "capacity=0: give at least 1"),
        (lambda: Growing("a", "b", capacity=1.5), TypeError, "capacity=1.5 is not an integer"),
        (lambda: Growing("a", "b", autapses=1), TypeError, "autapses=1; give True or False"),
        (lambda: Growing("a", "b", pairing="near"), TypeError, "pairing='near'"),
        (lambda: Growing("a", "b", weight=[1.0, 2.0]), ValueError, "give one number"),
        (lambda: Growing("a", "b", weight=np.nan), ValueError, "not finite"),
        (lambda: ByDistance(0.0, [1.0]), ValueError, "sigma=0.0 must be above 0"),
        (lambda: ByDistance(1.0, np.zeros((2, 2, 2))), ValueError, "positions"),
        (lambda: ByDistance(1.0, np.zeros((3, 2)), np.zeros((3, 1))), ValueError, "dimensions"),
        (lambda: ByDistance(1.0, np.zeros((3, 2)), period=[1, 1, 1]), ValueError, "period has"),
        (lambda: ByDistance(1.0, []), ValueError, r"pre has shape \(0,\); give"),
        (lambda: ByDistance(1.0, np.zeros((3, 0))), ValueError, "give .* positions"),
        (lambda: network(Growing("axon", "axon")), ValueError, "'axon' of the same cells"),
        (lambda: ByDistance(1.0, [0.0, np.inf]), ValueError, "not finite"),
        (lambda: Rewiring(0.0), ValueError, "interval=0.0 must be above 0"),
        (lambda: Rewiring("often"), TypeError, "interval='often' is not a number"),
        (lambda: network(rewiring=10.0), TypeError, r"rewiring=10.0; give Rewiring\(interval\)"),
        (lambda: network(rewiring=Rewiring(0.25)), ValueError, "interval=0.25 ms is no whole"),
        (lambda: network("axon"), TypeError, "growing='axon'"),
        (lambda: network(Growing("axons", "dendrite")), ValueError, "did you mean 'axon'"),
        (lambda: network(elements=("axon",)), ValueError, "'dendrite'.*known are"),
        (lambda: network(weight=Normal(1.0, 0.1)), ValueError, "weights are of each edge"),
        (
            lambda: network(delay=Uniform(1.0, 2.0), rule=Pairs([0], [1])),
            ValueError,
            "delays are of each edge",
        ),
        (
            lambda: network(Growing("axon", "dendrite", delay=0.15)),
            ValueError,
            "delay=0.15 ms is no whole",
        ),
        (
            lambda: network(Growing("axon", "dendrite", pairing=ByDistance(1.0, np.zeros(7)))),
            ValueError,
            "7 positions, and there are 40 cells",
        ),
        (
            lambda: network(
                release=TsodyksMarkram(Uniform(0.1, 0.5), 100.0, 10.0), rule=Pairs([0, 1], [1, 2])
            ),
            ValueError,
            "of each edge does not go with growing",
        ),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_edges_of_what_is_no_state_of_it():
    net = network()
    with pytest.raises(TypeError, match="state='x' is no state; give that of a solution"):
        net.connections("x")
    other = jsnn.Network({"cells": jsnn.nest.iaf_psc_exp(2)}, dt=0.1, key=jax.random.key(1))
    with pytest.raises(ValueError, match=r"edges are \[\], and this network's \['p'\]"):
        net.connections(other.init(jax.random.key(1)))


def test_a_release_of_each_source():
    """As many sources as edges are no riddle: edges that come and go have no parameters."""
    u = np.linspace(0.1, 0.9, N)
    release = TsodyksMarkram(u, 100.0, 10.0)
    net = network(rule=Pairs(np.zeros(N, int), np.arange(N)), release=release)
    np.testing.assert_allclose(net.synapses["p"].release.U, u, rtol=1e-6)


@pytest.mark.slow
def test_more_elements_than_can_be_listed(monkeypatch):
    """A run does not ask for ever more room."""
    monkeypatch.setattr("jsnn._rewire.MOST_ROOM", 1000)
    net = network(Growing("axon", "dendrite", capacity=100))
    state = with_elements(net, np.full(N, 30.0), np.ones(N))
    with pytest.raises(ValueError, match="1.6e.03 synapses or vacant 'axon' or 'dendrite' is more"):
        jsnn.run(net, 1.0, state=state, progress=False)


def test_growing_without_rewiring():
    net = network()
    with pytest.raises(
        ValueError, match=r"'p' grows, and nothing tells when.*Rewiring\(interval\)"
    ):
        jsnn.Network(
            net.populations,
            {
                "p": jsnn.Projection(
                    *("cells", "cells", NoEdges()),
                    **{"weight": 1.0, "delay": 1.0, "receptor": "ex", "growing": GIVEN},
                )
            },
            dt=0.1,
            key=jax.random.key(1),
        )


def test_a_negative_weight_onto_a_conductance():
    cells = jsnn.nest.iaf_cond_exp(3, synaptic_elements={"axon": {}, "dendrite": {}})
    with pytest.raises(ValueError, match=r"projection 'p': weight=-1 .*must not be negative"):
        jsnn.Network(
            {"cells": cells},
            {
                "p": jsnn.Projection(
                    *("cells", "cells", Pairs([0], [1])),
                    **{"weight": 1.0, "delay": 1.0, "receptor": "ex"},
                    growing=Growing("axon", "dendrite", weight=-1.0),
                )
            },
            dt=0.1,
            key=jax.random.key(1),
            rewiring=Rewiring(10.0),
        )


def test_states_of_other_networks():
    net, other = (
        network(),
        network(
            rule=Pairs([0, 1], [1, 2]),
            weight=[1.0, 2.0],
            growing=Growing("axon", "dendrite", weight=1.0),
        ),
    )
    state = net.init(jax.random.key(1))
    with pytest.raises(ValueError, match="of another network"):
        jsnn.simulate(other, state, 1)
    with pytest.raises(ValueError, match=r"its edges are \[\]"):
        jsnn.simulate(net, replace(state, edges={}), 1)
    short = replace(state.edges["p"], pre=state.edges["p"].pre[:-1])
    with pytest.raises(ValueError, match="pre of the edges of 'p'"):
        jsnn.simulate(net, replace(state, edges={"p": short}), 1)


def test_no_edges():
    edges = connect(NoEdges(), jax.random.key(1), 3, 4)
    assert edges.n_edges == 0 and (edges.n_pre, edges.n_post) == (3, 4)


def test_names_of_nest():
    """What is given in NEST's words, a number a cell among it, is what jsnn.growth has."""
    cells = jsnn.nest.iaf_psc_alpha(
        3,
        Ca=[0.1, 0.2, 0.3],
        tau_Ca=5000.0,
        beta_Ca=0.002,
        synaptic_elements={
            "a": {"growth_curve": "gaussian", "eta": 0.2, "growth_rate": [1.0, 2.0, 3.0], "z": 2.5},
            "b": {"growth_curve": "sigmoid", "psi": 0.3, "tau_vacant": 0.5, "continuous": False},
            "c": {"eps": 0.4},
        },
    )
    calcium, elements = cells.growth.calcium, cells.growth.elements
    assert calcium.as_nest and float(calcium.tau_ca) == 5000.0
    assert isinstance(elements["a"].curve, Gaussian) and isinstance(elements["b"].curve, Sigmoid)
    assert isinstance(elements["c"].curve, Linear) and not elements["b"].continuous
    assert float(elements["b"].curve.eps) == pytest.approx(0.7)
    growth = cells.init(jax.random.key(1)).growth
    np.testing.assert_allclose(growth["ca"], [0.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_array_equal(growth["a"], 2.5)
    assert jsnn.nest.iaf_psc_alpha(3).growth.calcium is None
    assert jsnn.nest.hh_psc_alpha(2, tau_Ca=100.0).growth.states == ["ca"]
    assert jsnn.nest.aeif_cond_alpha(2, synaptic_elements={"x": {}}).growth.states == ["ca", "x"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tau_Ca": 0.0}, "tau_Ca=0.0 must be above 0"),
        ({"Ca": -1.0}, "Ca=-1.0 must be at least 0"),
        ({"beta_Ca": [1.0, 2.0]}, r"beta_Ca has shape \(2,\)"),
        ({"tau_ca": 1.0}, "did you mean 'tau_Ca'"),
        ({"synaptic_elements": {"a": {"growth_curve": "gauss"}}}, "'a'.*did you mean 'gaussian'"),
        ({"synaptic_elements": {"a": {"psi": 1.0}}}, "unknown parameter 'psi'"),
        ({"synaptic_elements": {"a": {"z_connected": 1}}}, "z_connected follows from the edges"),
        ({"synaptic_elements": {"a": {"z": -1.0}}}, "initial.'a'.*at least 0"),
        ({"synaptic_elements": {"a.b": {}}}, "without dots"),
    ],
)
def test_wrong_names_of_nest(given, message):
    with pytest.raises(ValueError, match=message):
        jsnn.nest.iaf_psc_exp(3, **given)


def test_wrong_kinds_of_nest():
    for given in ({"synaptic_elements": ["a"]}, {"synaptic_elements": {"a": 1.0}}):
        with pytest.raises(TypeError, match="is not a dictionary"):
            jsnn.nest.iaf_psc_exp(3, **given)
    with pytest.raises(ValueError, match="unknown parameter of astrocyte_lr_1994 'tau_Ca'"):
        jsnn.nest.astrocyte_lr_1994(3, tau_Ca=1.0)
