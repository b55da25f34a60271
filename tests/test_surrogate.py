"""Surrogates: a step forward, and backward the slope that they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from jsnn.surrogate import Arctan, Boxcar, Sigmoid, SuperSpike, Triangular

pytestmark = pytest.mark.fast

WIDTH = 1.7
FORMULAE = {
    Triangular: lambda x: max(0.0, 1 - abs(x) / WIDTH) / WIDTH,
    Boxcar: lambda x: (abs(x) < WIDTH) / (2 * WIDTH),
    SuperSpike: lambda x: (1 + abs(x) / WIDTH) ** -2 / (2 * WIDTH),
    Arctan: lambda x: 1 / (1 + (x / WIDTH) ** 2) / (np.pi * WIDTH),
    Sigmoid: lambda x: np.exp(-x / WIDTH) / (1 + np.exp(-x / WIDTH)) ** 2 / WIDTH,
}
POINTS = np.array([-40.0, -1.8, -1.0, -0.01, 0.0, 0.3, 1.69, 5.0])


@pytest.mark.parametrize("kind", FORMULAE)
def test_a_step_with_the_slope_of_its_formula(x64, kind):
    spike = kind(WIDTH, damping=0.3)
    x = jnp.asarray(POINTS)
    np.testing.assert_array_equal(spike(x), POINTS >= 0)
    found = jax.vmap(jax.grad(spike))(x)
    wanted = [0.3 * FORMULAE[kind](own) for own in POINTS]
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(spike.support(x) | (found == 0), True)
    np.testing.assert_array_equal(found[np.asarray(spike.support(x))] > 0, True)


@pytest.mark.parametrize("kind", FORMULAE)
def test_the_area_is_the_damping(x64, kind):
    slope = kind(WIDTH, damping=0.3).slope
    area = sum(quad(lambda x: float(slope(x)), a, b)[0] for a, b in ((-50, 0), (0, 50)))
    beyond = {SuperSpike: WIDTH / (WIDTH + 50), Arctan: 1 - 2 / np.pi * np.arctan(50 / WIDTH)}
    np.testing.assert_allclose(area, 0.3 * (1 - beyond.get(kind, 0)), rtol=1e-6)


@pytest.mark.parametrize("kind", [SuperSpike, Arctan, Sigmoid])
def test_reach_cuts_the_tails(kind):
    spike = kind(2.0, reach=3.0)
    x = jnp.array([-6.1, -5.9, 5.9, 6.1])
    assert spike.support(x).tolist() == [False, True, True, False]
    assert (jax.vmap(jax.grad(spike))(x) != 0).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Boxcar(0.0), "width=0.0 must be above 0"),
        (lambda: Arctan(damping=-1.0), "damping=-1.0 must be at least 0"),
        (lambda: Sigmoid(reach=0.0), "reach=0.0 must be above 0"),
        (lambda: SuperSpike([1.0, 2.0]), "width has shape"),
    ],
)
def test_bad_surrogates(make, message):
    with pytest.raises(ValueError, match=message):
        make()
