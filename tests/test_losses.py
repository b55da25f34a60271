"""Statistics and distances that can be differentiated: their values, and their gradients against
central differences, in float64."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jsnn
from jsnn import analysis, distances, losses
from jsnn.neurons import LIF
from jsnn.record import Counts

DT = 0.1


def raster(steps=300, n=4, p=0.05, seed=0):
    return (np.random.default_rng(seed).random((steps, n)) < p).astype(float)


def spikes(of):
    steps, index = np.nonzero(of)
    return (steps + 1) * DT, index


def check_gradient(function, at, seed=1, h=1e-5, rtol=1e-6):
    """Along random directions, to central differences."""
    function = jax.jit(function)  # otherwise each call compiles its loop
    slope = jax.jit(jax.grad(function))(jnp.asarray(at))
    assert np.all(np.isfinite(slope))
    for i in range(3):
        along = np.random.default_rng(seed + i).standard_normal(at.shape)
        expected = (function(at + h * along) - function(at - h * along)) / (2 * h)
        np.testing.assert_allclose(np.sum(slope * along), expected, rtol=rtol, atol=1e-9)


def test_statistics_are_those_of_analysis(x64):
    made = raster()
    made[:, 3] = 0
    times, index = spikes(made)
    np.testing.assert_allclose(losses.rates(made, 30.0), analysis.rates(index, 4, 30.0))
    own = jax.jit(lambda x: losses.cv_isi(x, reduce=None))(made)
    np.testing.assert_allclose(own, analysis.cv_isi(times, index, 4), rtol=1e-12)
    assert np.isnan(own[3])
    np.testing.assert_allclose(losses.cv_isi(made), np.nanmean(own))
    counts = made.reshape(30, 10, 4).sum(1)
    expected = analysis.fano_factor(times, 1.0, 0.0, 30.0)
    np.testing.assert_allclose(losses.fano_factor(counts), expected)
    v = np.random.default_rng(3).standard_normal((50, 6)).cumsum(0) - 65
    np.testing.assert_allclose(losses.synchrony_chi(v), analysis.synchrony_chi(v))


def test_a_regular_train_has_no_variation_and_a_finite_gradient():
    regular = np.zeros((100, 2), np.float32)
    regular[::10, 0] = 1
    assert losses.cv_isi(regular) == 0
    assert np.all(np.isfinite(jax.grad(losses.cv_isi)(regular)))
    assert losses.fano_factor(np.zeros((5, 2))) == 0
    assert np.all(np.isfinite(jax.grad(losses.fano_factor)(jnp.zeros((5, 2)))))
    assert np.all(jax.grad(losses.synchrony_chi)(jnp.ones((5, 2))) == 0)


SILENT = {
    "rates": lambda x: jnp.mean(losses.rates(x, 10.0)),
    "cv": losses.cv_isi,
    "cv of some": lambda x: losses.cv_isi(x[:, :1]),
    "van rossum": lambda x: losses.van_rossum(x, jnp.zeros_like(x), tau=2.0, dt=DT),
    "filtered": lambda x: jnp.mean(losses.filtered(x, tau=2.0, dt=DT)),
    "fano": losses.fano_factor,
    "chi": lambda x: losses.synchrony_chi(x - 65.0),
    "squares": lambda x: losses.mean_squared(x, jnp.ones_like(x), weights=x > 0),
}


@pytest.mark.parametrize("name", SILENT)
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (40, 1), (40, 3)])
def test_silence_has_a_finite_loss_and_gradient(name, shape):
    """Of no spike all of these are 0; and one cell that fires once makes none of them infinite."""
    both = jax.jit(jax.value_and_grad(SILENT[name]))
    value, slope = both(jnp.zeros(shape))
    assert value == 0 and np.all(np.isfinite(slope))
    value, slope = both(jnp.zeros(shape).at[0, 0].set(1.0))
    assert np.isfinite(value) and np.all(np.isfinite(slope))


def test_cells_with_too_few_intervals_do_not_count():
    """The mean and its gradient are those of the others alone, to the last bit; also where entries
    are so small that the square of their sum is not a number any more."""
    lively = raster(200, 3).astype(np.float32)
    quiet = np.zeros((200, 2), np.float32)
    quiet[50, 0], quiet[10, 1] = 1.0, 1e-30
    both = jax.jit(jax.value_and_grad(losses.cv_isi))
    value, slope = both(jnp.concatenate([lively, quiet], 1))
    expected, expected_slope = both(jnp.asarray(lively))
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(slope[:, :3], expected_slope, rtol=1e-6)
    assert np.all(slope[:, 3:] == 0)
    own = losses.cv_isi(np.concatenate([lively, quiet], 1), reduce=None)
    np.testing.assert_array_equal(np.isnan(own), [False] * 3 + [True] * 2)
    np.testing.assert_array_equal(losses.mean_known(own), jnp.nanmean(own))
    assert losses.mean_known([np.nan, np.nan]) == 0


def test_a_fit_goes_on_from_silence():
    """To cells that fire regularly at 100 Hz, from ones that do not fire."""
    law = LIF(tau_m=10.0, c_m=100.0, e_l=-70.0)
    net = jsnn.Network({"cells": jsnn.Population(law, 2)}, dt=1.0)

    def loss(i_e, key):
        own = eqx.tree_at(lambda n: n.populations["cells"].neuron.i_e, net, i_e)
        record = {"n": Counts("cells", every=1.0)}
        found = jsnn.simulate(own, own.init(key), 60, record).records["n"].values
        rate = losses.rates(found, 60.0)
        return losses.cv_isi(found) ** 2 + jnp.mean((rate / 100 - 1) ** 2), {"n": jnp.sum(found)}

    fitted = jsnn.fit(
        loss, 145.0, optimizer=optax.adam(5.0), steps=40, key=jax.random.key(0), progress=False
    )
    assert fitted.history["n"][0] == 0 and fitted.history["n"][-1] > 4
    assert fitted.skipped == 0 and fitted.loss < 0.5 * fitted.history["loss"][0]


def test_gradients_with_respect_to_each_entry(x64):
    made, other = raster(80, 3, 0.1), raster(80, 3, 0.1, seed=7)
    check_gradient(lambda x: jnp.sum(losses.rates(x, 8.0) ** 2), made)
    check_gradient(losses.cv_isi, made)
    check_gradient(lambda x: losses.cv_isi(x, reduce=jnp.sum), 0.1 + 0.8 * made)
    check_gradient(lambda x: losses.van_rossum(x, other, tau=2.0, dt=DT), made)
    check_gradient(losses.fano_factor, made)
    v = np.random.default_rng(3).standard_normal((50, 6))
    check_gradient(losses.synchrony_chi, v)
    check_gradient(lambda x: losses.mean_squared(x, 2 * v, weights=v > 0), v)
    check_gradient(lambda tau: losses.van_rossum(made, other, tau=tau, dt=DT), np.asarray(2.0))
    check_gradient(lambda x: jnp.sum(losses.filtered(x, tau=2.0, dt=DT) ** 2), v)


def test_van_rossum_is_its_integral(x64):
    a, b, tau = raster(60, 2, 0.1), raster(60, 2, 0.1, seed=5), 1.5
    for cell in range(2):
        trains = [(np.flatnonzero(x[:, cell]) + 1) * DT for x in (a, b)]
        sign = np.concatenate([np.ones(len(trains[0])), -np.ones(len(trains[1]))])
        every = np.concatenate(trains)
        # Of a pair of kernels the integral is tau/2 exp(-|s - t| / tau)
        kernel = np.exp(-np.abs(every[:, None] - every) / tau) / 2
        own = losses.van_rossum(a, b, tau=tau, dt=DT, reduce=None)[cell]
        np.testing.assert_allclose(own, sign @ kernel @ sign, rtol=1e-12)
    one = np.zeros((60, 1))
    one[20] = 1
    assert losses.van_rossum(one, 0 * one, tau=3.0, dt=DT) == pytest.approx(0.5)


def test_mean_squared_leaves_out_what_has_no_weight():
    values, target = np.array([1.0, 2.0, 4.0]), np.array([0.0, np.nan, 2.0])
    weights = np.array([1.0, 0.0, 3.0])
    assert losses.mean_squared(values, target, weights=weights) == pytest.approx(13 / 4)
    slope = jax.grad(lambda x: losses.mean_squared(x, target, weights=weights))(jnp.asarray(values))
    np.testing.assert_allclose(slope, [0.5, 0.0, 3.0])


def brute_force(a, b, cost):
    """Over all ways to match spikes in their order."""
    best = len(a) + len(b)
    for k in range(1, min(len(a), len(b)) + 1):
        for x in itertools.combinations(a, k):
            for y in itertools.combinations(b, k):
                moved = cost * sum(abs(s - t) for s, t in zip(x, y, strict=True))
                best = min(best, len(a) + len(b) - 2 * k + moved)
    return best


@pytest.mark.parametrize("cost", [0.0, 0.05, 0.3, 5.0])
def test_victor_purpura_is_the_least_cost(cost):
    rng = np.random.default_rng(2)
    for sizes in ((5, 4), (3, 6), (0, 3), (4, 0)):
        a, b = (np.sort(rng.uniform(0, 30, size)) for size in sizes)
        expected = brute_force(a, b, cost)
        assert distances.victor_purpura(a[::-1], b, cost) == pytest.approx(expected)
        assert distances.victor_purpura(b, a, cost) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.rates(np.ones(3), 1.0), "counts has shape"),
        (lambda: losses.rates(np.ones((3, 1)), 0.0), "duration=0.0"),
        (lambda: losses.cv_isi(np.ones((3, 1)), min_spikes=1), "min_spikes is 1"),
        (lambda: losses.van_rossum(np.ones((3, 1)), np.ones((2, 1)), tau=1, dt=1), "target"),
        (lambda: losses.van_rossum(np.ones((3, 1)), np.ones((3, 1)), tau=0, dt=1), "tau=0"),
        (lambda: losses.mean_squared(np.ones(3), np.ones(3), weights=-1.0), "weights"),
        (lambda: losses.mean_squared(np.ones(3), np.ones(3), weights=np.ones(2)), "weights has"),
        (lambda: distances.victor_purpura([1.0], [2.0], -1.0), "cost is -1"),
    ],
)
def test_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
