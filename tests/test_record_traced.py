"""Records inside jit and the other transformations: the rows, times and gradients of outside."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn import losses
from jsnn.connect import AllToAll
from jsnn.inputs import Poisson
from jsnn.neurons import LIF
from jsnn.receptors import Exponential
from jsnn.record import Counts, Spikes, States, SynapseStates
from jsnn.release import TsodyksMarkram
from jsnn.state import NEVER

DT, STEPS, N, EARLY = 0.5, 40, 3, 7
RECORD = {
    "spikes": Spikes("c"),
    "n": Counts("c", every=DT),
    "bins": Counts("c", every=2.5),
    "v": States("c", "v", every=1.0),
    "v each": States("c", "v"),
    "v seldom": States("c", "v", index=[2, 0], every=3.5),
    "u": SynapseStates("p", "u", every=1.0),
    "r": SynapseStates("p", "r", at_spikes=True),
}
EVERY = {"n": 1, "bins": 5, "v": 2, "v each": 1, "v seldom": 7, "u": 2}
ALL = 70  # a multiple of each


def build(joined=True):
    """Blocks of 3 steps, of which 40 is no multiple."""
    start = {"v": [-70.0, -66.0, -58.0]}
    cells = jsnn.Population(LIF(i_e=1500.0), N, {"e": Exponential(2.0)}, initial=start)
    if not joined:
        return jsnn.Network({"c": cells}, dt=DT)
    p = jsnn.Projection(
        "c", "c", AllToAll(), weight=[30.0 + i for i in range(N * N)], delay=1.5,
        release=TsodyksMarkram(0.4, 20.0, 10.0),
    )  # fmt: skip
    noise = Poisson("c", 500.0, 60.0)
    return jsnn.Network({"c": cells}, {"p": p}, {"i": noise}, dt=DT, key=jax.random.key(1))


@pytest.fixture(scope="module")
def net():
    return build()


@pytest.fixture(scope="module")
def start(net):
    return net.init(jax.random.key(2))


@pytest.fixture(scope="module")
def reference(net, start):
    """What `Network.step` does in 47 steps: spikes and membranes, `[steps, n]`, and what u of the
    sources becomes with these spikes."""
    step, state, spikes, v = eqx.filter_jit(lambda state: net.step(state)), start, [], []
    for _ in range(EARLY + STEPS):
        state, fired = step(state)
        spikes.append(fired["c"] > 0)
        v.append(state.populations["c"].cell["v"])
    assert np.sum(spikes) > 10
    u = np.zeros((EARLY + STEPS + 1, N))
    for i, fired in enumerate(spikes):
        u[i + 1] = u[i] * np.exp(-DT / 10.0)
        u[i + 1] += 0.4 * (1 - u[i + 1]) * fired
    return np.stack(spikes), np.stack(v), u[1:]


def wanted(reference, first, phase):
    """Values and times of STEPS steps from `first` on, which samples count as `phase`."""
    spikes, v, u = (own[first : first + STEPS] for own in reference)
    found = {"spikes": (spikes, None)}
    for name, every in EVERY.items():
        ends = np.arange(every - phase % every, STEPS + every, every)
        if name in ("n", "bins"):
            bins = (np.arange(STEPS) + phase % every) // every
            count = [np.sum(spikes[bins == i], 0) for i in range(bins[-1] + 1)]
            found[name] = np.stack(count), ends[: len(count)]
        else:
            ends = ends[ends <= STEPS]
            cells = [2, 0] if name == "v seldom" else [0, 1, 2]
            found[name] = (u if name == "u" else v)[ends - 1][:, cells], ends
    return {n: (x, None if e is None else (first + e) * DT) for n, (x, e) in found.items()}


def check(records, reference, first, phase):
    """Exactly so many rows as there are, with these values and times."""
    for name, (values, times) in wanted(reference, first, phase).items():
        own = records[name].raster if name == "spikes" else records[name].values
        assert own.shape == values.shape, name
        np.testing.assert_allclose(own, values, rtol=1e-6, err_msg=name)
        if times is not None:
            np.testing.assert_allclose(records[name].times, times, err_msg=name)
    fired = reference[0][first : first + STEPS]
    assert records["r"].values.shape == (STEPS, N)
    np.testing.assert_array_equal(~np.isnan(records["r"].values), fired)


def test_rows_of_a_traced_state(net, start, reference):
    """At step 0 they are those of outside, at step 7 without a phase they are counted from there,
    and with one of 7, or of 77, as outside."""
    outside = jsnn.simulate(net, start, STEPS, RECORD)
    check(outside.records, reference, 0, 0)
    of = {p: jax.jit(partial(later, net, phase=p)) for p in (None, EARLY, ALL + EARLY)}
    traced = of[None](start).records
    check(traced, reference, 0, 0)
    assert traced["n"].values.shape == (40, 3) and traced["v"].values.shape == (20, 3)
    chi = [losses.synchrony_chi(own["v"].values) for own in (outside.records, traced)]
    fano = [losses.fano_factor(own["n"].values) for own in (outside.records, traced)]
    np.testing.assert_allclose([chi[1], fano[1]], [chi[0], fano[0]], rtol=1e-5)

    at_seven = jsnn.simulate(net, start, EARLY).state
    outside = jsnn.simulate(net, at_seven, STEPS, RECORD)
    check(outside.records, reference, EARLY, EARLY)
    check(of[None](at_seven).records, reference, EARLY, 0)
    for phase in (EARLY, ALL + EARLY):
        found = of[phase](at_seven)
        check(found.records, reference, EARLY, EARLY)
        for name in RECORD:
            a, b = outside.records[name], found.records[name]
            jax.tree.map(np.testing.assert_array_equal, a, b)
        assert int(found.state.step) == EARLY + STEPS
        assert int(found.status["c"]) == NEVER
    # One of another state: rows of steps that are no multiples, and the status says so
    wrong = of[EARLY](start)
    assert int(wrong.status["c"]) == 0
    with pytest.raises(FloatingPointError, match="phase= was not that of the state"):
        jsnn.run(net, 1.0, state=wrong.state, progress=False)


def later(net, state, phase=None):
    return jsnn.simulate(net, state, STEPS, RECORD, phase=phase)


def test_the_step_is_known_inside_jit(net, start, reference):
    """Of what follows from `init`: rows and times are those of outside, from call to call."""
    inside = []

    @jax.jit
    def run(key):
        early = jsnn.simulate(net, net.init(key), EARLY, RECORD)
        found = jsnn.simulate(net, early.state, STEPS, RECORD)
        inside.append({n: found.records[n].times for n in EVERY})
        with pytest.raises(ValueError, match="phase=1 is not that of the state.*step 7.*'bins'"):
            jsnn.simulate(net, early.state, STEPS, RECORD, phase=1)
        return found.records, net.step(found.state)[0].step

    records, step = run(jax.random.key(2))
    check(records, reference, EARLY, EARLY)
    assert step == EARLY + STEPS + 1
    for name, times in inside[0].items():
        np.testing.assert_array_equal(times, records[name].times)


@pytest.mark.slow
def test_batches_and_scans(net, start, reference):
    """A batch of keys, a batch of states, and a scan whose chunks are stacked."""
    keys = jnp.stack([jax.random.key(2), jax.random.key(5)])
    for made in (
        jax.vmap(lambda key: later(net, net.init(key)).records)(keys),
        jax.vmap(lambda state: later(net, state).records)(jax.vmap(net.init)(keys)),
    ):
        assert made["spikes"].raster.shape == (2, STEPS, N)
        check(jax.tree.map(lambda leaf: leaf[0], made), reference, 0, 0)
        np.testing.assert_array_equal(made["v"].times, np.arange(1.0, 21.0))

    def chunk(state, _):
        made = jsnn.simulate(net, state, 10, {n: RECORD[n] for n in ("spikes", "bins", "v")})
        return made.state, made.records

    state, made = jax.lax.scan(chunk, start, None, 4)
    assert int(state.step) == STEPS
    own = wanted(reference, 0, 0)
    for name in ("bins", "v"):
        values, times = own[name]
        np.testing.assert_allclose(made[name].values.reshape(-1, N), values, rtol=1e-6)
        np.testing.assert_allclose(made[name].times.reshape(-1), times)
    np.testing.assert_array_equal(made["spikes"].raster.reshape(-1, N), own["spikes"][0])


@pytest.mark.parametrize(
    ("phase", "error", "message"),
    [
        (1.5, TypeError, "phase=1.5 is not"),
        (True, TypeError, "phase=True"),
        (-1, ValueError, "phase=-1"),
        (3, ValueError, "phase=3 is not that.*'bins' has every=2.5 ms, 5 steps"),
    ],
)
def test_a_phase_that_is_none(net, start, phase, error, message):
    with pytest.raises(error, match=message):
        later(net, start, phase)
    jsnn.simulate(net, start, 1, {"n": RECORD["n"]}, phase=3)  # of no consequence


def loss(net, current, state):
    """Of every row: the last ones, too, and none beyond."""
    own = eqx.tree_at(lambda n: n.populations["c"].neuron.i_e, net, current)
    made = jsnn.simulate(own, state, STEPS, {n: RECORD[n] for n in ("n", "bins", "v")}).records
    n, v = made["n"].values, made["v"].values
    return (
        losses.synchrony_chi(v) + losses.fano_factor(made["bins"].values)
        + jnp.mean(v) / 10 + jnp.mean(n * jnp.arange(len(n))[:, None])
    )  # fmt: skip


def one(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], tree)


def first(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


def in_shard_map(function):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    part = jax.sharding.PartitionSpec("x")
    part = dict(mesh=mesh, in_specs=part, out_specs=part, check_vma=False)
    return lambda *a: first(
        jax.jit(jax.shard_map(lambda *a: one(function(*first(a))), **part))(*one(a))
    )


WAYS = {
    "jit": lambda of: jax.jit(jax.value_and_grad(of)),
    "vmap": lambda of: lambda *a: first(jax.jit(jax.vmap(jax.value_and_grad(of)))(*one(a))),
    "checkpoint": lambda of: jax.jit(jax.value_and_grad(jax.checkpoint(of))),
    "map": lambda of: lambda *a: first(jax.lax.map(lambda a: jax.value_and_grad(of)(*a), one(a))),
    "pmap": lambda of: lambda *a: first(jax.pmap(jax.value_and_grad(of))(*one(a))),
    "shard_map": lambda of: in_shard_map(jax.value_and_grad(of)),
}


@pytest.mark.slow
@pytest.mark.parametrize("joined", [True, False], ids=["joined", "apart"])
def test_gradients_are_the_same_however_they_are_asked_for(x64, joined):
    """Outside jit, with the state known, and inside with it traced. Cells without synapses go back
    by JAX alone, at a fraction of the compilation, and so in all ways."""
    net = build(joined)
    state, current = net.init(jax.random.key(2)), jnp.asarray([1400.0, 1500.0, 1600.0])
    of = partial(loss, net)
    value, slope = jax.value_and_grad(of)(current, state)
    assert np.all(slope != 0)
    for name in list(WAYS)[: 2 if joined else None]:
        found = WAYS[name](of)(current, state)
        np.testing.assert_allclose(found[0], value, rtol=1e-10, err_msg=name)
        np.testing.assert_allclose(found[1], slope, rtol=1e-8, atol=1e-12, err_msg=name)


def test_the_gradient_of_a_mean_is_that_of_its_rows(x64):
    """Below threshold v = e_l + i tau / c (1 - exp(-t / tau)), so that the slope of the mean of the
    samples at 1, 2, ... 20 ms is tau / c times the mean of 1 - exp(-t / tau) at these."""
    law = LIF(tau_m=10.0, c_m=100.0, e_l=-70.0)
    net = jsnn.Network({"c": jsnn.Population(law, N)}, dt=DT)

    def mean(i_e, state):
        own = eqx.tree_at(lambda n: n.populations["c"].neuron.i_e, net, i_e)
        record = {"v": States("c", "v", every=1.0)}
        return jnp.mean(jsnn.simulate(own, state, STEPS, record).records["v"].values)

    state, t = net.init(jax.random.key(0)), np.arange(1.0, 21.0)
    expected = 10.0 / 100.0 * np.mean(1 - np.exp(-t / 10.0))
    for way in (jax.grad(mean), jax.jit(jax.grad(mean))):
        np.testing.assert_allclose(way(50.0, state), expected, rtol=1e-10)


MEMORY = """
import resource, jax, jsnn
from jsnn import _run
from jsnn.neurons import LIF
from jsnn.record import Counts, States
_run._SEGMENT_SECONDS = 0.0  # the shortest segments, a block of 64 steps each
net = jsnn.Network({"c": jsnn.Population(LIF(), 2000)}, dt=0.125)
record = {"v": States("c", "v"), "n": Counts("c", 0.125)}
run = lambda steps: jsnn.run(
    net, steps * 0.125, key=jax.random.key(0), record=record, progress=False
)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
run(4096 // 2 + 64)  # of the same room, and compiled
before = peak()
made = run(4096)
assert made.stats["segments"] > 40 and made.records["v"].values.shape == (4096, 2000)
print(peak() - before)
"""


def test_a_run_holds_its_records_and_one_segment():
    """Records of 2 times 31 MiB in segments whose buffers have as much: those of all are 4 GB. In a
    process of its own, for its peak of memory."""
    path = os.pathsep.join([str(Path(jsnn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200
