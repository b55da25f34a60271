"""Rates that are functions of time, hours into a run, where float32 knows time to some ms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn._random import key_words
from jsnn.inputs import Cells, Poisson, Target
from jsnn.inputs._time import at_steps
from jsnn.neurons import LIF
from jsnn.receptors import Delta

DT = 0.1
LATE = 2**31 - 4000  # steps: 59.6 h
STEPS = LATE + np.arange(40)
T = STEPS / 10.0
BEGIN, END = float(T[5]), float(T[20])
TABLE = np.array([1.0, 3.0, 2.0, 7.0])

# What a user writes, and what it is in NumPy's double precision
RATES = {
    "wave": (
        lambda t: 1000 * (1 + jnp.sin(2 * jnp.pi * t / 125)),
        lambda t: 1000 * (1 + np.sin(2 * np.pi * t / 125)),
    ),
    "phase": (lambda t: jnp.cos((t % 125.0) / 20), lambda t: np.cos((t % 125.0) / 20)),
    "window": (
        lambda t: jnp.where((t >= BEGIN) & (t < END), 5.0, 1.0),
        lambda t: np.where((t >= BEGIN) & (t < END), 5.0, 1.0),
    ),
    "since": (lambda t: jnp.exp(-(t - BEGIN) / 3), lambda t: np.exp(-(t - BEGIN) / 3)),
    "line": (
        lambda t: jnp.interp(t % 4, jnp.arange(4.0), TABLE),
        lambda t: np.interp(t % 4, np.arange(4.0), TABLE),
    ),
    "table": (
        lambda t: jnp.asarray(TABLE)[(t // 0.5).astype(int) % 4],
        lambda t: TABLE[(t // 0.5).astype(int) % 4],
    ),
    "pieces": (
        lambda t: jnp.asarray(TABLE)[jnp.searchsorted(jnp.asarray([BEGIN, END]), t)],
        lambda t: TABLE[np.searchsorted([BEGIN, END], t)],
    ),
    "first that holds": (
        lambda t: jnp.select([t < BEGIN, t < END], [1.0, t % 7.0], 2.0),
        lambda t: np.select([t < BEGIN, t < END], [1.0, t % 7.0], 2.0),
    ),
    "pieces of functions": (
        lambda t: jnp.piecewise(t, [t < BEGIN, t >= END], [jnp.sin, jnp.cos, lambda t: t % 7.0]),
        lambda t: np.piecewise(t, [t < BEGIN, t >= END], [np.sin, np.cos, lambda t: t % 7.0]),
    ),
    "places": (
        lambda t: (
            jnp.argmax(jnp.sin(t + jnp.arange(5.0)))
            + 10 * jnp.argmin(jnp.stack([t % 3.0, t % 5.0, jnp.nan]))
            + jnp.sort(jnp.stack([t % 7.0, t % 5.0]))[0]
        ),
        lambda t: (
            np.argmax(np.sin(t[:, None] + np.arange(5.0)), 1) + 20 + np.minimum(t % 7.0, t % 5.0)
        ),
    ),
    "smooth": (
        lambda t: jax.nn.softplus(t - BEGIN) + jax.nn.relu(END - t) + jax.nn.sigmoid(t - END),
        lambda t: np.logaddexp(0, t - BEGIN) + np.maximum(END - t, 0) + 1 / (1 + np.exp(END - t)),
    ),
    "loop": (
        jax.jit(
            lambda t: (
                jax.lax.fori_loop(0, 3, lambda i, x: x + jnp.square(t % 7), 0.0)
                + jax.lax.cond(t > BEGIN, lambda: 1.0, lambda: 2.0)
            )
        ),
        lambda t: 3 * (t % 7) ** 2 + np.where(t > BEGIN, 1.0, 2.0),
    ),
    "bumps": (
        lambda t: jnp.sum(jnp.exp(-jnp.square(t % 4 - jnp.arange(4.0)))),
        lambda t: np.sum(np.exp(-((t[:, None] % 4 - np.arange(4.0)) ** 2)), 1),
    ),
}


def test_functions_know_the_time_to_the_last_step():
    """All in one program; float32 puts the last steps 8 ms apart."""
    assert np.spacing(np.float32(T[0])) == 16.0
    made = jax.jit(lambda steps: {n: at_steps(f, steps, DT) for n, (f, _) in RATES.items()})
    found = made(jnp.asarray(STEPS, jnp.int32))
    for name, (_, expected) in RATES.items():
        assert found[name].dtype == np.float32
        wanted = expected(T)
        assert np.ptp(wanted) > 0.01 * np.max(np.abs(wanted)), "a test that says nothing"
        np.testing.assert_allclose(found[name][:, 0], wanted, 1e-6, 1e-6, err_msg=name)


def test_steps_of_a_binary_fraction_and_of_none():
    for dt in (0.125, 0.3, 2.0, 1 / 3):
        found = at_steps(lambda t: t % 7.0, jnp.asarray(STEPS // 8, jnp.int32), dt)
        np.testing.assert_allclose(found[:, 0], STEPS // 8 * dt % 7.0, 1e-6, 1e-5)
    # The time of step 3 is 0.3, as it is written
    compared = at_steps(lambda t: jnp.where(t > 0.3, 1.0, 0.0), jnp.arange(5, dtype=jnp.int32), DT)
    np.testing.assert_array_equal(compared[:, 0], [0, 0, 0, 0, 1])


@pytest.mark.parametrize("dt", [0.5, 0.1, 0.05, 0.025, 0.02, 0.01, 0.005, 0.001, 0.3, 1 / 3])
def test_places_in_a_table_of_steps(dt):
    """Time over dt is never a step early, however it is written."""
    rng = np.random.default_rng(0)
    steps = np.concatenate([np.arange(20000), rng.integers(0, 2**31 - 1, 20000)]).astype(np.int32)
    for rate in (
        lambda t: jnp.floor(t / dt) % 4096,
        lambda t: (t * (1 / dt)).astype(int) % 4096,
    ):
        found = jax.jit(lambda steps, rate=rate: at_steps(rate, steps, dt))(steps)
        np.testing.assert_array_equal(found[:, 0], steps % 4096)


@pytest.mark.parametrize(
    ("rate", "why"),
    [
        (lambda t: jax.random.uniform(jax.random.key(1)) + t, "uses .*random_bits"),
        (lambda t: jax.lax.add(t, jnp.float32(1)), "cannot be traced in double precision"),
        (
            lambda t: jax.lax.cond(t > 1, lambda: jnp.argmax(jnp.stack([t, 3.0])), lambda: 0) + t,
            "uses argmax",
        ),
    ],
    ids=["random", "strict", "inside"],
)
def test_what_cannot_be_double_says_so(rate, why):
    """And is as it is written."""
    steps = jnp.arange(30, dtype=jnp.int32)
    with pytest.warns(UserWarning, match=f"a rate {why}.*time in float32"):
        found = jax.jit(lambda steps: at_steps(rate, steps, DT))(steps)
    before = jax.jit(lambda steps: jax.vmap(rate)(steps * DT))(steps)
    np.testing.assert_array_equal(found[:, 0], before)


class Wave(eqx.Module):
    mean: jax.Array
    period: jax.Array
    bend: jax.Array

    def __call__(self, t):
        wave = jax.nn.softplus(jnp.sin(2 * jnp.pi * t / self.period) * self.bend)
        return self.mean * wave + jnp.interp(t % 4, jnp.arange(4.0), TABLE) * self.bend


def test_gradients_of_the_numbers_of_a_rate():
    """Against differences in NumPy; and under `vmap`, and forward."""
    numbers = {"mean": 2.0, "period": 125.0, "bend": jnp.asarray([0.5, 1.5])}
    steps = jnp.asarray(STEPS, jnp.int32)

    def loss(numbers):
        return jnp.sum(jnp.square(at_steps(Wave(**numbers), steps, DT)))

    def by_hand(mean, period, bend):
        t = T[:, None]
        wave = np.logaddexp(0, np.sin(2 * np.pi * t / period) * bend)
        return np.sum((mean * wave + np.interp(t % 4, np.arange(4.0), TABLE) * bend) ** 2)

    slopes = jax.jit(jax.grad(loss))(numbers)
    forward = jax.jit(jax.jacfwd(loss))(numbers)
    known = {name: np.asarray(own, float) for name, own in numbers.items()}
    # The phase has gone round a million times, so that the smallest change of the period counts
    for name, h in (("mean", 1e-4), ("period", 1e-9), ("bend", 1e-4)):
        for i in np.ndindex(known[name].shape):
            up, down = ({**known, name: known[name].copy()} for _ in range(2))
            up[name][i] += h
            down[name][i] -= h
            wanted = (by_hand(**up) - by_hand(**down)) / (up[name][i] - down[name][i])
            np.testing.assert_allclose(slopes[name][i], wanted, 1e-3, err_msg=name)
            np.testing.assert_allclose(forward[name][i], wanted, 1e-3, err_msg=name)
    several = jax.tree.map(lambda own: jnp.stack([jnp.asarray(own)] * 2), numbers)
    batch = jax.jit(jax.vmap(jax.grad(loss)))(several)
    for name, own in slopes.items():
        np.testing.assert_allclose(batch[name][1], own, 1e-5)


def test_spikes_of_a_late_wave_have_its_phase():
    """Draws at late steps: counts follow the phase that the double has, not that of float32."""
    n, target = 4096, Target(4096, 0, 4096)
    steps = np.arange(LATE, LATE + 1250, 25)
    source = Poisson("a", RATES["wave"][0], 1.0, max_rate=2000.0).checked(DT, n)

    @jax.jit
    def sent(steps):
        return source.block(source.prepare(DT, target), KEY, steps, CELLS, target, DT)

    counts = np.asarray(sent(jnp.asarray(steps, jnp.int32))).mean(1)
    mean = RATES["wave"][1](steps / 10.0) * DT / 1000
    assert np.all(np.abs(counts - mean) < 5 * np.sqrt(np.maximum(mean, 1e-3) / n))


KEY = key_words(jax.random.key(11))
CELLS = Cells(0, 4096)


def test_networks_with_such_a_rate_are_batched_and_differentiated():
    cells = jsnn.Population(LIF(), 3, {"d": Delta()})

    def loss(mean, step):
        rate = Wave(mean, jnp.asarray(125.0), jnp.asarray(1.0))
        source = Poisson("a", rate, 0.01, max_rate=1e5)
        net = jsnn.Network({"a": cells}, inputs={"p": source}, dt=DT)
        state = eqx.tree_at(lambda s: s.step, net.init(jax.random.key(1)), step)
        made = jsnn.simulate(net, state, 20, {"v": jsnn.record.States("a", "v")})
        return jnp.mean(made.records["v"].values), made.status

    late = jnp.asarray([0, LATE], jnp.int32)
    slope, status = jax.jit(jax.vmap(jax.grad(loss, has_aux=True), (None, 0)))(2e4, late)
    assert np.all(np.isfinite(slope)) and np.all(np.asarray(slope) > 0)
    assert all(np.all(own == jsnn.NEVER) for own in status.values())


@pytest.mark.usefixtures("x64")
def test_in_double_precision_times_are_the_same():
    steps = jnp.arange(100, dtype=jnp.int32)
    wave = RATES["wave"][0]
    found = at_steps(wave, steps, DT)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found[:, 0], jax.vmap(wave)(np.arange(100) / 10))
    edges = at_steps(lambda t: jnp.stack([t > 0.3, t <= 0.7]), jnp.asarray([3, 7], jnp.int32), DT)
    np.testing.assert_array_equal(edges, [[0, 1], [1, 1]])
