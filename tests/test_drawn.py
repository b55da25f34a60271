"""What is drawn when a network is built: weights, delays, parameters of cells."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compilations
from scipy import stats

import jsnn
from jsnn.connect import AllToAll, FixedIndegree, FixedTotalNumber, Pairs
from jsnn.coupling import GapJunction, SlowInwardCurrent
from jsnn.delays import Interpolated
from jsnn.distributions import LogNormal, Normal, Uniform, drawn, is_distribution
from jsnn.inputs import NoiseCurrent, Poisson
from jsnn.neurons import LIF
from jsnn.receptors import Exponential
from jsnn.release import TsodyksMarkram


@pytest.mark.parametrize(
    "drawn", [Uniform(0.5, 1.9), Normal(1.0, 1.0, 0.5, 2.0), LogNormal(0.0, 0.1)]
)
def test_drawn_delays_between_steps(drawn):
    """In single precision, which is the default, between lists of populations as well."""
    populations = {"a": jsnn.nest.iaf_psc_exp(7), "b": jsnn.nest.iaf_psc_exp(5)}
    projection = jsnn.Projection(
        *(["a", "b"], "a", FixedIndegree(4)),
        weight=1.0,
        delay=Interpolated(drawn, 0.5, 2.0),
        receptor="ex",
    )
    net = jsnn.Network(populations, {"p": projection}, dt=0.1, key=jax.random.key(0))
    found = np.concatenate([own.delay for own in net.connections().values()])
    assert found.shape == (28,) and np.unique(found).size > 20
    assert np.all((found >= 0.5) & (found <= 2.0))
    assert {(s.min_delay, s.max_delay) for s in net.synapses.values()} == {(5, 20)}


def test_delays_drawn_beyond_what_they_lie_between_are_refused():
    delay = Interpolated(Uniform(0.5, 3.0), 0.5, 2.0)
    p = jsnn.Projection("a", "a", AllToAll(), weight=1.0, delay=delay, receptor="ex")
    message = r"projection 'p': as drawn: delay=.* is not between min=0.5 and max=2 ms"
    with pytest.raises(ValueError, match=message):
        populations = {"a": jsnn.nest.iaf_psc_exp(5)}
        jsnn.Network(populations, {"p": p}, dt=0.1, key=jax.random.key(0))


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    "distribution",
    [Uniform(0.3, 1.9), Normal(1.3, 0.7), Normal(1.3, 0.7, 0.2, 2.5), LogNormal(0.3, 0.8)],
)
def test_numbers_drawn_in_pieces_are_those_drawn_at_once(distribution, x64):
    """To the last bit, with keys of both kinds, on both sides of where pieces end."""
    with jax.enable_x64(x64):
        for n, key in (
            (0, jax.random.key(3)),
            (7, jax.random.key(3)),
            (70001, jax.random.key(3)),
            (2**15 + 3, jax.random.PRNGKey(7)),
        ):
            found, wanted = drawn(distribution, key, n), distribution.draw(key, (n,))
            assert found.dtype == wanted.dtype and found.shape == (n,)
            np.testing.assert_array_equal(found, wanted)


def test_numbers_are_drawn_as_they_were_where_a_piece_would_not_know_its_place():
    """With keys of another generator, under a trace, and of what a user has written."""
    key, one = jax.random.key(1, impl="rbg"), Normal(1.0, 0.1)
    np.testing.assert_array_equal(drawn(one, key, 50), one.draw(key, (50,)))
    key = jax.random.key(1)
    found = jax.jit(lambda key: drawn(one, key, 50))(key)
    np.testing.assert_allclose(found, one.draw(key, (50,)), rtol=1e-6)

    class Backwards:
        def draw(self, key, shape):
            return np.arange(shape[0])[::-1]

    assert drawn(Backwards(), key, 3).tolist() == [2, 1, 0]


def of_all_kinds(more):
    """A network whose projections and couplings all differ in size, with what can be drawn."""
    n, rng = 20 + more, np.random.default_rng(more)
    ways = [
        {"weight": Normal(1.0, 0.1), "delay": Uniform(1.0, 3.0)},
        {"weight": LogNormal(0.0, 0.1), "delay": 1.0},
        {"weight": Uniform(0.0, 1.0), "delay": Interpolated(Uniform(1.0, 2.0), 0.5, 3.0)},
        {
            "weight": Normal(1.0, 0.1, 0.0, 2.0),
            "delay": Normal(2.0, 0.1),
            "release": TsodyksMarkram(U=Uniform(0.3, 0.6)),
        },
    ]
    projections = {
        f"p{i}": jsnn.Projection(
            ["a", "b"] if i == 5 else "a",
            "b",
            FixedTotalNumber(100 + 7 * i + more),
            receptor="ex",
            **ways[i % 4],
        )
        for i in range(8)
    }
    pairs = Pairs(rng.integers(0, n, 50 + more), rng.integers(0, n, 50 + more))
    projections["pairs"] = jsnn.Projection(
        *("a", "b", pairs),
        weight=np.arange(50 + more) * 0.1,
        delay=np.arange(1, 51 + more) * 0.1,
        receptor="ex",
    )
    projections["of sources"] = jsnn.Projection(
        *("a", "b", FixedIndegree(2)),
        weight=1.0,
        delay=1.0,
        receptor="ex",
        release=TsodyksMarkram(U=np.linspace(0.1, 0.5, n)),
    )
    return jsnn.Network(
        {
            "a": jsnn.nest.iaf_cond_exp(n),
            "b": jsnn.nest.aeif_cond_alpha_astro(n + 3),
            "g": jsnn.Population(
                jsnn.nest.astrocyte_lr_1994(n).neuron, n, initial={"ca": Uniform(0.05, 0.1)}
            ),
        },
        projections,
        {"s": Poisson("a", np.linspace(1, 10, n), 1.0, "ex")},
        couplings={
            "gaps": GapJunction("a", "a", Pairs([0, 1], [1, 2]), conductance=Uniform(0.1, 1.0)),
            "sic": SlowInwardCurrent("g", "b", FixedTotalNumber(100 + more), weight=Uniform(0, 1)),
        },
        dt=0.1,
        key=jax.random.key(0),
    )


def test_building_compiles_nothing_that_depends_on_sizes():
    """Nor does what follows before the first step."""
    of_all_kinds(0).checked().init(jax.random.key(1))
    with compilations() as compiled:
        net = of_all_kinds(1)
        net.checked().init(jax.random.key(1))
        net.connections()
    assert not compiled


def alone(population, seed=0, **others):
    """A population as a network has drawn it."""
    key = jax.random.key(seed)
    return jsnn.Network({"c": population, **others}, dt=0.1, key=key).populations["c"]


def cells(n=1000, mean=300.0, **more):
    neuron = LIF(i_e=Normal(mean, 50.0), t_ref=Uniform(1.0, 3.0), **more)
    return jsnn.Population(neuron, n, {"ex": Exponential(Uniform(1.0, 5.0))})


def test_parameters_are_drawn_from_their_distributions():
    """As given arrays of one number a cell; refractory times in whole steps, as delays."""
    made = alone(cells())
    for values, wanted in (
        (made.neuron.i_e, stats.norm(300, 50)),
        (made.receptors["ex"].tau, stats.uniform(1, 4)),
    ):
        assert values.shape == (1000,) and values.dtype == np.float32
        assert stats.kstest(values, wanted.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(made.neuron.i_e, made.receptors["ex"].tau)[0, 1]) < 0.1
    steps = np.round(np.asarray(made.neuron.t_ref, np.float64) / 0.1, 4)
    assert set(steps) == set(range(10, 31))


def test_what_is_drawn_depends_on_the_key_and_on_names_only():
    first = alone(cells())
    for same in (alone(cells()), alone(cells(c_m=Uniform(200.0, 300.0)), b=cells(3))):
        np.testing.assert_array_equal(first.neuron.i_e, same.neuron.i_e)
    assert not np.any(first.neuron.i_e == alone(cells(), 1).neuron.i_e)
    other = jsnn.Network({"d": cells()}, dt=0.1, key=jax.random.key(0)).populations["d"]
    assert not np.any(first.neuron.i_e == other.neuron.i_e)


MODELS = {
    "iaf_psc_delta": {"C_m": Uniform(200.0, 300.0), "V_m": Uniform(-70.0, -60.0)},
    "iaf_psc_exp": {"tau_syn_ex": Uniform(1.0, 3.0), "V_th": Normal(-55.0, 0.5)},
    "iaf_cond_alpha": {"E_ex": Normal(0.0, 1.0), "tau_syn_in": Uniform(1.0, 3.0)},
    "hh_psc_alpha": {"g_Na": Uniform(11000.0, 12000.0), "E_L": Normal(-54.0, 0.1)},
    "hh_psc_alpha_gap": {"g_Kv1": Uniform(8.0, 9.0), "C_m": Uniform(35.0, 40.0)},
    "aeif_cond_alpha": {
        "Delta_T": Uniform(1.0, 2.0),
        "V_th": Normal(-50.0, 0.5),
        "tau_Ca": Uniform(1e3, 2e3),
        "synaptic_elements": {
            "axon": {"growth_rate": Uniform(0.0, 1.0), "eps": Uniform(0.1, 0.2)},
            "spine": {"growth_curve": "gaussian", "eta": Uniform(0.0, 0.1)},
        },
    },
    "astrocyte_lr_1994": {"rate_SERCA": LogNormal(-7.0, 0.1), "Ca_tot": Uniform(1.9, 2.1)},
}


@pytest.mark.parametrize("model", MODELS)
def test_all_models_take_distributions(model):
    """Each as often as it is given, and nothing but numbers is left."""
    population = getattr(jsnn.nest, model)(7, **MODELS[model])
    names = population.to_draw
    made = alone(population)
    given = jax.tree.leaves(MODELS[model], is_leaf=is_distribution)
    n_given = sum(map(is_distribution, given))
    assert len(names) == n_given - ("V_m" in MODELS[model])  # which is drawn by `init`
    assert not made.to_draw
    parts = (made.neuron, made.receptors, made.growth)
    several = [leaf for leaf in jax.tree.leaves(parts) if np.ndim(leaf)]
    assert len(several) == len(names) and all(np.unique(own).size > 5 for own in several)


def test_a_network_of_drawn_parameters_is_that_of_the_arrays():
    record = {"s": jsnn.record.Spikes("c")}
    drawn_ = jsnn.Network({"c": cells(20, 500.0)}, dt=0.1, key=jax.random.key(0))
    own = drawn_.populations["c"]
    neuron = LIF(i_e=own.neuron.i_e, t_ref=own.neuron.t_ref)
    given = jsnn.Population(neuron, 20, {"ex": Exponential(own.receptors["ex"].tau)})
    spikes = [
        jsnn.run(net, 50.0, key=jax.random.key(1), record=record, progress=False).records["s"]
        for net in (drawn_, jsnn.Network({"c": given}, dt=0.1))
    ]
    assert len(set(np.bincount(spikes[0].index, minlength=20))) > 2
    for what in ("times", "index"):
        np.testing.assert_array_equal(*(getattr(own, what) for own in spikes))


class Half(eqx.Module):
    """A user's own, which draws numbers of few digits."""

    def draw(self, key, shape):
        return jnp.zeros(shape, jnp.bfloat16)


def halves(weight=1.0, delay=1.0):
    way = jsnn.connect.AllToAll()
    projection = jsnn.Projection("c", "c", way, weight=weight, delay=delay, receptor="ex")
    return jsnn.Network(
        {"c": jsnn.nest.iaf_psc_exp(3)}, {"p": projection}, dt=0.1, key=jax.random.key(0)
    )


REFUSED = {
    "half": (lambda: alone(jsnn.nest.iaf_psc_exp(3, I_e=Half())), "what Half draws has .*bfloat16"),
    "half weight": (lambda: halves(weight=Half()), "what Half draws has dtype bfloat16"),
    "half delay": (lambda: halves(delay=Half()), "what Half draws has dtype bfloat16"),
    "no key": (
        lambda: jsnn.Network({"c": cells()}, dt=0.1),
        "population 'c': t_ref, i_e, ex.tau: key is missing",
    ),
    "range": (
        lambda: alone(jsnn.nest.iaf_psc_exp(50, tau_m=Normal(1.0, 5.0))),
        r"population 'c': as drawn: tau_m=.* must be above 0",
    ),
    "two": (
        lambda: alone(jsnn.nest.iaf_psc_exp(50, V_reset=Normal(-55.0, 5.0))),
        "population 'c': as drawn: v_reset=.* must be below v_th",
    ),
    "element": (
        lambda: alone(
            jsnn.nest.iaf_psc_exp(9, synaptic_elements={"axon": {"eps": Normal(0.0, 1.0)}})
        ),
        "'c': as drawn: element 'axon': curve: eps=.* must be above 0",
    ),
    "alone": (lambda: cells().init(jax.random.key(0)), "i_e, ex.tau: distributions.*jsnn.Network"),
    "later": (
        lambda: eqx.tree_at(
            lambda n: n.populations["c"].neuron.i_e,
            jsnn.Network({"c": jsnn.nest.iaf_psc_exp(3)}, dt=0.1),
            Uniform(0.0, 1.0),
        ).checked(),
        "population 'c': i_e: distributions",
    ),
    "ratio": (
        lambda: jsnn.nest.iaf_cond_exp(3, C_m=Uniform(200.0, 250.0)),
        "C_m=Uniform.* cannot be made of a distribution",
    ),
    "rate": (lambda: Poisson("c", Uniform(1.0, 2.0), 1.0), "rate=Uniform.* nothing draws from"),
    "weight": (lambda: Poisson("c", 1.0, Uniform(1.0, 2.0)), "weight=Uniform.* nothing draws"),
    "noise": (lambda: NoiseCurrent("c", Uniform(1.0, 2.0)), "mean=Uniform.* nothing draws from"),
    "width": (lambda: jsnn.surrogate.Triangular(Uniform(1.0, 2.0)), "width=Uniform.* nothing"),
    "class": (lambda: LIF(i_e=Normal), "i_e=.* is not a number"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_distributions_that_cannot_be_drawn_from_are_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
