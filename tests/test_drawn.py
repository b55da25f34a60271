"""What is drawn when a network is built: weights, delays, parameters of cells."""

import jax
import numpy as np
import pytest
from helpers import compilations

import jsnn
from jsnn.connect import AllToAll, FixedIndegree, FixedTotalNumber, Pairs
from jsnn.coupling import GapJunction, SlowInwardCurrent
from jsnn.delays import Interpolated
from jsnn.distributions import LogNormal, Normal, Uniform, drawn
from jsnn.inputs import Poisson
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
