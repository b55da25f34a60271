"""The Optax loop: coordinates, filters, failures, patience, starts and checkpoints."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jsnn
from jsnn.record import States
from jsnn.transforms import Bounded, Free, Positive

KEY = jax.random.key(0)
START = {"a": 1.0, "b": np.float32(0.5), "n": 3}
BOUNDS = {"a": Positive(), "b": Bounded(-5.0, 5.0), "n": None}
ADAM = optax.adam(0.1)


def loss(parameters, key):
    a, b = jnp.log(parameters["a"] / 3), parameters["b"] + 2
    return a**2 + b**2, {"b": b}


def noisy(parameters, key):
    value, more = loss(parameters, key)
    return value * (1 + 0.1 * jax.random.normal(key)), more


def fit(start=START, function=loss, **changes):
    given = {"optimizer": ADAM, "steps": 20, "key": KEY, "bounds": BOUNDS} | changes
    return jsnn.fit(function, start, **given)


def test_it_is_the_loop_that_optax_documents():
    """In coordinates of the transforms."""
    free, losses = {"a": jnp.log(1.0), "b": jnp.log(5.5 / 4.5)}, []
    values = lambda y: {"a": jnp.exp(y["a"]), "b": -5 + 10 * jax.nn.sigmoid(y["b"])}
    state = ADAM.init(free)
    slope = jax.jit(jax.value_and_grad(lambda y: loss(values(y), KEY)[0]))
    for _ in range(20):
        value, gradient = slope(free)
        losses.append(value)
        change, state = ADAM.update(gradient, state)
        free = optax.apply_updates(free, change)
    found = fit()
    np.testing.assert_allclose(found.history["loss"], losses, rtol=1e-4)
    for name, value in values(free).items():
        np.testing.assert_allclose(found.last[name], value, rtol=1e-5)
    lowest = np.argmin(losses)
    np.testing.assert_allclose(found.loss, losses[lowest], rtol=1e-4)
    np.testing.assert_allclose(found.history["b"][lowest], found.best["b"] + 2, rtol=1e-4)
    assert found.best["n"] == 3 and found.stats["updates"] == 20 and found.best_start == 0


def test_forward_is_reverse():
    np.testing.assert_allclose(
        fit(forward=True).history["loss"], fit().history["loss"], rtol=1e-4, atol=1e-8
    )


def test_starts_are_each_their_own_fit():
    starts = jsnn.spread(START, jax.random.key(1), 3)
    assert starts["a"].shape == (3,) and starts["n"] == 3
    together = fit(starts, noisy, starts=3)
    assert together.history["loss"].shape == (3, 20)
    keys = jax.random.split(KEY, 3)
    for i in range(3):
        own = {**START, "a": starts["a"][i], "b": starts["b"][i]}
        alone = fit(own, noisy, key=keys[i])
        np.testing.assert_allclose(
            together.history["loss"][i], alone.history["loss"], rtol=1e-4, atol=1e-7
        )
        np.testing.assert_allclose(together.of(i)["a"], alone.best["a"], rtol=1e-4)
    assert together.loss[together.best_start] == together.loss.min()


def test_spread_is_uniform_around_the_value():
    drawn = jsnn.spread({"a": 2.0, "b": -50.0}, KEY, 4000, by={"a": 0.3, "b": 0.1})
    for value, by, own in ((2.0, 0.3, drawn["a"]), (-50.0, 0.1, drawn["b"])):
        off = own / value - 1
        assert by * 0.99 < np.max(np.abs(off)) <= by * 1.00001
        assert np.mean(off**2) == pytest.approx(by**2 / 3, rel=0.05)


def test_a_whole_network_of_which_one_parameter_is_trained():
    """Its integers and all else are as they were."""
    network = jsnn.Network({"cells": jsnn.nest.iaf_psc_exp(2, I_e=300.0)}, dt=0.1)
    tau = lambda n: n.populations["cells"].neuron.tau_m
    trainable = eqx.tree_at(tau, jax.tree.map(lambda _: False, network), True)

    def trace(own):
        state = own.init(jax.random.key(0))
        return jsnn.simulate(own, state, 100, {"v": States("cells", "v")}).records["v"].values

    data = trace(eqx.tree_at(tau, network, jnp.asarray(14.0)))
    found = jsnn.fit(
        lambda own, key: jnp.mean((trace(own) - data) ** 2),
        network,
        optimizer=optax.adam(0.1),
        steps=60,
        key=KEY,
        bounds=Positive(),
        trainable=trainable,
        forward=True,
    )
    assert tau(found.best) == pytest.approx(14.0, rel=1e-2)
    others = lambda own: jax.tree.leaves(eqx.tree_at(tau, own, None))
    for before, after in zip(others(network), others(found.best), strict=True):
        np.testing.assert_array_equal(before, after)


def test_clip_shortens_the_gradient():
    found = fit(
        {"a": 30.0}, lambda p, _: p["a"] ** 2, optimizer=optax.sgd(1.0), bounds=None, clip=2.0
    )
    np.testing.assert_allclose(found.last["a"], 0.0, atol=1e-4)
    np.testing.assert_allclose(found.history["loss"][:3], [900.0, 784.0, 676.0], rtol=1e-5)


def cliff(parameters, key):
    x = parameters["x"]
    return jnp.where(x < 1.5, jnp.nan, x**2)


def test_what_is_not_finite_is_taken_back():
    found = fit({"x": 4.0}, cliff, bounds=None, optimizer=optax.sgd(0.4))
    # To 0.8, then half the way back
    np.testing.assert_allclose(found.history["loss"][:3], [16.0, np.nan, 2.4**2], rtol=1e-5)
    assert found.skipped == np.isnan(found.history["loss"]).sum() > 0
    assert found.best["x"] >= 1.5 and np.isfinite(found.last["x"])


def test_starts_that_fail_stop_alone_and_all_together_raise():
    start = {"x": jnp.asarray([1.0, 4.0])}
    found = fit(start, cliff, bounds=None, optimizer=optax.sgd(1e-3), steps=30, starts=2)
    assert np.isnan(found.loss[0]) and found.loss[1] < 16 and found.best_start == 1
    np.testing.assert_array_equal(found.skipped, [20, 0])
    with pytest.raises(FloatingPointError, match="in none of 20 updates"):
        fit({"x": 1.0}, cliff, bounds=None, steps=30)


def test_patience():
    found = fit({"x": 1.0}, lambda p, _: p["x"] ** 2, bounds=None, patience=4, steps=500)
    losses = found.history["loss"]
    assert losses.size < 500 and losses.size - np.argmin(losses) == 5
    starts = {"x": jnp.asarray([0.0, 1.0])}
    both = fit(starts, lambda p, _: p["x"] ** 2, bounds=None, patience=4, steps=500, starts=2)
    np.testing.assert_array_equal(np.isfinite(both.history["loss"]).sum(1), [5, losses.size])


def same(a, b):
    for mine, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path, monkeypatch):
    starts = jsnn.spread(START, jax.random.key(1), 2)
    settings = {"start": starts, "function": noisy, "starts": 2}
    whole = fit(**settings)
    fit(**settings, steps=7, checkpoint=tmp_path)
    parts = fit(**settings, checkpoint=tmp_path)
    wanted = lambda own: (own.best, own.last, own.loss, own.history, own.skipped)
    same(wanted(whole), wanted(parts))
    again = fit(**settings, checkpoint=tmp_path)  # there is nothing left to do
    same(wanted(whole), wanted(again))
    with pytest.raises(ValueError, match="20 updates, more than steps=19"):
        fit(**settings, steps=19, checkpoint=tmp_path)
    computed = "loss, optimizer or options"
    for other, differing in (
        ({"function": loss}, computed),
        ({"key": jax.random.key(5)}, "key"),
        ({"start": {**starts, "n": 4}}, "start and bounds"),
        ({"optimizer": optax.adam(0.2)}, computed),
        ({"patience": 3}, computed),
        ({"bounds": {**BOUNDS, "b": Bounded(-6.0, 5.0)}}, "start and bounds"),
    ):
        with pytest.raises(ValueError, match=f"another run, which differs in .*{differing}"):
            fit(**(settings | other), checkpoint=tmp_path)


def test_an_interruption_leaves_a_checkpoint(tmp_path, monkeypatch):
    whole, calls = fit(), []
    device = jsnn._fit.updates_from_host

    def interrupted(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return device(*given)

    monkeypatch.setattr(jsnn._fit, "updates_from_host", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(checkpoint=tmp_path)
    monkeypatch.undo()
    same(fit(checkpoint=tmp_path).history, whole.history)


def test_one_compilation_serves_many_calls():
    """Of other values, keys and numbers of updates."""
    compiled = jsnn._fit.updates_from_host._cached._cache_size
    fit()
    before = compiled()
    fit({**START, "a": 2.0}, steps=33, key=jax.random.key(4))
    assert compiled() == before


def test_transforms_are_inverse_and_keep_their_bounds():
    values = jnp.asarray([0.3, 2.0, 4.9])
    for own in (Free(10.0), Positive(), Bounded(0.1, 5.0)):
        np.testing.assert_allclose(own.to_value(own.to_free(values)), values, rtol=1e-5)
    far = Bounded(0.1, 5.0).to_value(jnp.asarray([-200.0, 200.0]))
    assert jnp.all((far >= 0.1) & (far <= 5.0))
    assert jnp.all(Positive().to_value(jnp.asarray([-50.0])) > 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": {**START, "a": 0.0}}, r"\['a'\]=0.0 is not above 0"),
        ({"start": {**START, "b": 5.0}}, r"\['b'\]=5.0 is not between -5.0 and 5.0"),
        ({"start": {**START, "a": np.nan}}, r"\['a'\]=nan is not finite"),
        ({"bounds": {"a": Positive()}}, "bounds does not fit"),
        ({"bounds": 3.0}, "bounds has 3.0; give Free"),
        ({"bounds": {**BOUNDS, "b": Free([1.0, 2.0])}}, r"\['b'\] make \(2,\) of its"),
        ({"trainable": "a"}, "is 'a'; give True or False"),
        ({"trainable": False}, "nothing is trained"),
        ({"start": {"n": 3}, "bounds": None}, "nothing is trained"),
        ({"starts": 3}, r"\['a'\] has shape \(\); with starts=3"),
        ({"optimizer": 0.1}, "optimizer=0.1; give one of Optax"),
        ({"steps": 0}, "steps is 0"),
        ({"key": 3}, "key=3 is not a PRNG key"),
        ({"patience": 0}, "patience is 0"),
        ({"clip": 0.0}, "clip=0.0 must be above 0"),
        ({"forward": 1}, "forward=1; give True or False"),
        ({"function": 3}, "loss=3; give a function"),
        ({"function": lambda p, key: jnp.ones(3) * p["a"]}, r"loss has shape \(3,\)"),
        ({"function": lambda p, key: (p["a"], 3)}, "loss gives 3 beside its value"),
        ({"function": lambda p, key: (p["a"], {"x": jnp.ones(2)})}, "'x' has shape"),
    ],
)
def test_what_does_not_fit(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(**changes)


def test_of_one_start_there_is_no_other():
    with pytest.raises(ValueError, match="one start; take best"):
        fit(steps=1).of(1)
    with pytest.raises(ValueError, match="start=2: there are starts 0 to 1"):
        fit(jsnn.spread(START, KEY, 2, by=0.1), steps=1, starts=2).of(2)
    for given in ({"n": 0}, {"by": -1.0}):
        with pytest.raises(ValueError, match="n is 0|by of start"):
            jsnn.spread(START, KEY, **({"n": 2} | given))
