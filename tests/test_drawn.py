"""What is drawn when a network is built: weights, delays, parameters of cells."""

import jax
import numpy as np
import pytest

import jsnn
from jsnn.connect import AllToAll, FixedIndegree
from jsnn.delays import Interpolated
from jsnn.distributions import LogNormal, Normal, Uniform


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
