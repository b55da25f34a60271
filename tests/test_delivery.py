"""Delivery of spikes: both ways of the event-driven one against the definition."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn import _event_driven, _gradient_rows, delivery, spikes
from jsnn.connect import AllToAll, OneToOne, Pairs, sort_edges
from jsnn.delivery import Backward, EventDriven, Rows, SegmentSum, Sent
from jsnn.inputs import SpikeList
from jsnn.neurons import LIF
from jsnn.receptors import Delta, Exponential
from jsnn.release import Constant, ReleaseState, Tsodyks, TsodyksMarkram


@pytest.fixture(params=["one by one", "at once"])
def way(request, monkeypatch):
    """Take one of the two ways of adding rows, whatever the platform."""

    def dispatch(*arguments, cpu, default):
        return (cpu if request.param == "one by one" else default)(*arguments)

    monkeypatch.setattr(_event_driven.lax, "platform_dependent", dispatch)
    remembering = (
        *(_event_driven.deliver, _event_driven.deliver_amounts),
        *(_gradient_rows.of_amounts, _gradient_rows.of_weights, delivery._with_derivatives),
    )
    for own in remembering:
        own.cache_clear()
    yield request.param
    for own in remembering:
        own.cache_clear()


def rows_of(pre, post, n_pre, n_post, weight=None, delay=3, offset=0, chunk=None, release=None):
    """Rows as the delivery reads them, from edges in any order."""
    edges, order = sort_edges(pre, post, n_pre, n_post, with_order=True)
    sort = lambda x, dtype: jnp.asarray(np.asarray(x)[order], dtype)
    per_edge = np.ndim(delay) > 0
    return Rows(
        edges.row_ptr,
        edges.post,
        None if weight is None else sort(weight, jnp.float32),
        sort(delay, jnp.uint8) if per_edge else None,
        release or Constant(),
        None,
        offset,
        0 if per_edge else delay,
        chunk or max(edges.max_row, 1),
        edges.max_row,
        release is not None
        and any(np.shape(p) == (edges.n_edges,) for p in vars(release).values()),
    )


def deliver(rows, fired, first_pre, buffer, first_step=0, capacity=None):
    """What event-driven delivery adds to a buffer."""
    words = spikes.pack(jnp.asarray(fired))
    step = jnp.asarray(first_step, jnp.int32)
    run = jax.jit(lambda b, w: EventDriven(capacity)(b, None, w, rows, first_pre, step, 0.1)[0])
    return np.asarray(run(jnp.asarray(buffer, jnp.float32), words))


def by_hand(rows, fired, first_pre, buffer, first_step=0):
    """The definition, spike by spike and edge by edge."""
    out = np.array(buffer, np.float64)
    row_ptr, post = np.asarray(rows.row_ptr), np.asarray(rows.post)
    for step, cell in np.argwhere(fired):
        row = cell - first_pre
        if not 0 <= row < row_ptr.size - 1:
            continue
        for e in range(row_ptr[row], row_ptr[row + 1]):
            delay = rows.fixed_delay if rows.delay is None else int(rows.delay[e])
            slot = (first_step + step + delay) % out.shape[0]
            out[slot, rows.offset + post[e]] += 1 if rows.weight is None else rows.weight[e]
    return out


def graph(kind, rng, n_pre, n_post):
    if kind == "random":
        return rng.integers(0, n_pre, 400), rng.integers(0, n_post, 400)
    if kind == "one row":
        return np.full(300, n_pre // 2), rng.integers(0, n_post, 300)
    if kind == "uneven":
        lengths = rng.permutation([150, 40, *[1] * 20, *[0] * (n_pre - 22)])
        return np.repeat(np.arange(n_pre), lengths), rng.integers(0, n_post, lengths.sum())
    return np.array([n_pre - 1]), np.array([n_post - 1])  # one edge


@pytest.mark.slow_for("uneven", "one edge")
@pytest.mark.parametrize("kind", ["random", "one row", "uneven", "one edge"])
@pytest.mark.parametrize("per_edge", [False, True])
@pytest.mark.parametrize("capacity", [1, None])
def test_rows_are_added_as_defined(way, kind, per_edge, capacity):
    """Sources 5..44 of 96 cells, targets from 7 on, later steps than the buffer has slots."""
    rng = np.random.default_rng(len(kind))
    pre, post = graph(kind, rng, 40, 50)
    weight = rng.integers(-20, 20, pre.size) / 8 if per_edge else None
    delay = rng.integers(4, 9, pre.size) if per_edge else 8
    rows = rows_of(pre, post, 40, 50, weight, delay, 7, 16 if kind == "uneven" else None)
    fired = rng.random((4, 96)) < 0.2
    fired[2, [5, 25, 44]] = True
    buffer = rng.integers(-5, 5, (9, 60)).astype(float)
    found = deliver(rows, fired, 5, buffer, 1003, capacity)
    np.testing.assert_array_equal(found, by_hand(rows, fired, 5, buffer, 1003))
    assert not np.array_equal(found, buffer)
    defined, _ = SegmentSum()(
        jnp.asarray(buffer, jnp.float32), None, jnp.asarray(fired, jnp.float32), rows, 5, 1003, 0.1
    )
    np.testing.assert_array_equal(found, defined)


def test_weights_add_up_to_rounding(way):
    rng = np.random.default_rng(4)
    pre, post = graph("random", rng, 32, 20)
    rows = rows_of(pre, post, 32, 20, rng.normal(size=400), rng.integers(1, 6, 400))
    fired = rng.random((3, 32)) < 0.4
    found = deliver(rows, fired, 0, np.zeros((6, 20)))
    np.testing.assert_allclose(found, by_hand(rows, fired, 0, np.zeros((6, 20))), atol=1e-5)


@pytest.mark.parametrize("first_pre, n_pre", [(0, 128), (31, 2), (32, 32), (33, 1), (1, 127)])
def test_only_the_source_slice_delivers(way, first_pre, n_pre):
    cells = np.arange(n_pre)
    rows = rows_of(cells, cells, n_pre, n_pre)
    found = deliver(rows, np.ones((2, 128), bool), first_pre, np.zeros((4, n_pre)), capacity=5)
    np.testing.assert_array_equal(found, [[1] * n_pre, [0] * n_pre, [0] * n_pre, [1] * n_pre])


@pytest.mark.parametrize("capacity", [1, 7, None])
def test_no_spike_is_lost_when_every_cell_fires_in_every_step(way, capacity):
    rng = np.random.default_rng(8)
    pre, post = rng.integers(0, 64, 500), rng.integers(0, 30, 500)
    rows = rows_of(pre, post, 64, 30)
    found = deliver(rows, np.ones((3, 64), bool), 0, np.zeros((6, 30)), capacity=capacity)
    arrivals = np.bincount(post, minlength=30)
    np.testing.assert_array_equal(found, [0 * arrivals] * 3 + [arrivals] * 3)


def test_more_edges_in_a_round_than_are_handled_at_once(way):
    """2^18 edges are one piece of the way for accelerators."""
    n = 600
    rows = rows_of(np.repeat(np.arange(n), n), np.tile(np.arange(n), n), n, n, chunk=n)
    fired = np.zeros((1, 640), bool)
    fired[0, :n] = True
    found = deliver(rows, fired, 0, np.zeros((4, n)), capacity=1000)
    np.testing.assert_array_equal(found, np.outer([0, 0, 0, 1], np.full(n, n)))


def test_no_edges():
    rows = rows_of(np.empty(0, int), np.empty(0, int), 32, 5)
    assert not deliver(rows, np.ones((2, 32), bool), 0, np.zeros((4, 5))).any()


def test_vmap_equals_one_by_one(way):
    rng = np.random.default_rng(6)
    pre, post = graph("uneven", rng, 64, 50)
    weight, delay = rng.normal(size=pre.size), rng.integers(1, 5, pre.size)
    rows = rows_of(pre, post, 64, 50, weight, delay)
    fired = rng.random((4, 3, 64)) < np.array([0.0, 0.05, 0.5, 1.0])[:, None, None]
    buffers = rng.normal(size=(4, 7, 50)).astype(np.float32)
    words = jnp.stack([spikes.pack(jnp.asarray(own)) for own in fired])
    run = lambda b, w, first: EventDriven(10)(b, None, w, rows, 0, first, 0.1)[0]
    first = jnp.asarray([0, 3, 50, 7], jnp.int32)
    found = jax.jit(jax.vmap(run))(jnp.asarray(buffers), words, first)
    for i in range(4):
        np.testing.assert_array_equal(
            found[i], deliver(rows, fired[i], 0, buffers[i], int(first[i]), 10)
        )
    weights = jnp.stack([rows.weight, 2 * rows.weight])

    def with_weights(weight):
        own = dataclasses.replace(rows, weight=weight)
        return EventDriven()(jnp.zeros((7, 50)), None, words[2], own, 0, 0, 0.1)[0]

    scaled = jax.jit(jax.vmap(with_weights))(weights)
    np.testing.assert_array_equal(2 * scaled[0], scaled[1])


def test_gradients_under_vmap_equal_one_by_one(way):
    """And those of the sums over all edges."""
    rng = np.random.default_rng(9)
    pre, post = graph("uneven", rng, 64, 50)
    rows = rows_of(pre, post, 64, 50, rng.normal(size=pre.size), rng.integers(1, 5, pre.size))
    probe = jnp.asarray(rng.normal(size=(7, 50)), jnp.float32)
    near = jnp.asarray(rng.random((3, 64)) < 0.5)

    def loss(weight, spikes):
        own = dataclasses.replace(rows, weight=weight)
        made = Backward(EventDriven())(0 * probe, None, Sent(spikes, near), own, 0, step, 0.1)
        return jnp.sum(probe * made[0])

    step = jnp.asarray(2, jnp.int32)
    spikes = jnp.asarray(rng.random((2, 3, 64)) < 0.2, jnp.float32)
    weights = jnp.stack([rows.weight, rows.weight**2])
    slope = jax.jit(jax.grad(loss, (0, 1)))
    together = jax.jit(jax.vmap(jax.grad(loss, (0, 1))))(weights, spikes)
    for i in range(2):
        for found, alone in zip(together, slope(weights[i], spikes[i]), strict=True):
            assert np.any(alone)
            np.testing.assert_allclose(found[i], alone, rtol=1e-5, atol=1e-6)

        def summed(weight, spikes):
            own = dataclasses.replace(rows, weight=weight)
            return jnp.sum(probe * SegmentSum()(0 * probe, None, spikes, own, 0, step, 0.1)[0])

        wanted = jax.grad(summed, (0, 1))(weights[i], spikes[i])
        np.testing.assert_allclose(together[0][i], wanted[0], rtol=1e-5, atol=1e-6)
        of_near = jnp.where(near, wanted[1], 0)  # cells that matter
        np.testing.assert_allclose(jnp.where(near, together[1][i], 0), of_near, 1e-5, 1e-5)


@pytest.mark.slow_for("weights", "nothing", "edges and delays")
@pytest.mark.parametrize("own", ["nothing", "weights", "edges", "edges and delays"])
def test_lanes_with_edges_of_their_own(way, own):
    """Sources that begin within a word, targets within a population, and a batch of batches."""
    rng = np.random.default_rng(8)
    n_pre, n_post, n_edges, first_pre = 70, 30, 400, 37
    lanes = [
        rows_of(
            rng.integers(0, n_pre, n_edges),
            rng.integers(0, n_post, n_edges),
            n_pre,
            n_post,
            None if own == "nothing" else rng.normal(size=n_edges),
            rng.integers(1, 5, n_edges) if own == "edges and delays" else 3,
            offset=11,
            chunk=n_edges,
        )
        for _ in range(6)
    ]
    parts = {"nothing": (), "weights": ("weight",)}.get(own, ("row_ptr", "post", "weight", "delay"))
    if own in ("nothing", "weights"):
        lanes = [dataclasses.replace(lanes[0], weight=lane.weight) for lane in lanes]
    lanes = [dataclasses.replace(lane, max_row=n_edges) for lane in lanes]  # a number for all
    fired = rng.random((6, 3, 128)) < np.array([0, 0.02, 0.1, 0.3, 0.7, 1])[:, None, None]
    buffers = rng.normal(size=(6, 7, 50)).astype(np.float32)
    leaves = {name: [getattr(lane, name) for lane in lanes] for name in parts}
    leaves = {name: jnp.stack(of) for name, of in leaves.items() if of[0] is not None}
    words = jnp.stack([spikes.pack(jnp.asarray(one)) for one in fired])

    def run(buffer, words, leaves):
        rows = dataclasses.replace(lanes[0], **leaves)
        return EventDriven()(buffer, None, words, rows, first_pre, jnp.int32(9), 0.1)[0]

    given = (jnp.asarray(buffers), words, leaves)
    found = jax.jit(jax.vmap(run))(*given)
    if own == "edges and delays":
        nested = jax.tree.map(lambda leaf: leaf.reshape(2, 3, *leaf.shape[1:]), given)
        np.testing.assert_array_equal(
            jax.jit(jax.vmap(jax.vmap(run)))(*nested).reshape(found.shape), found
        )
    for i, lane in enumerate(lanes):
        wanted = deliver(lane, fired[i], first_pre, buffers[i], 9)
        np.testing.assert_array_equal(found[i], wanted)
        assert np.any(wanted != buffers[i]) == np.any(fired[i][:, first_pre : first_pre + n_pre])
    shared = jax.jit(jax.vmap(lambda buffer: run(buffer, words[3], leaves_of(leaves, 3))))(
        given[0]
    )  # the same spikes into each
    np.testing.assert_array_equal(shared[3], found[3])


def leaves_of(leaves, i):
    return {name: leaf[i] for name, leaf in leaves.items()}


def released_by_hand(rows, fired, first_pre, buffer, first_step, dt=0.1):
    """`TsodyksMarkram` as defined, spike by spike and edge by edge."""
    out, row_ptr = np.array(buffer, np.float64), np.asarray(rows.row_ptr)
    n_pre, n_edges = row_ptr.size - 1, row_ptr[-1]
    of = np.arange(n_edges) if rows.per_edge else np.repeat(np.arange(n_pre), np.diff(row_ptr))
    n = n_edges if rows.per_edge else n_pre
    p = {k: np.broadcast_to(v, n).astype(float)[of] for k, v in vars(rows.release).items()}
    u, x, last = p["u"].copy(), p["x"].copy(), np.full(n_edges, -1)
    for step, cell in np.argwhere(fired):
        row = cell - first_pre
        if not 0 <= row < n_pre:
            continue
        for e in range(row_ptr[row], row_ptr[row + 1]):
            elapsed = (first_step + step - last[e]) * dt
            u[e] *= np.exp(-elapsed / p["tau_fac"][e])
            x[e] = 1 + (x[e] - 1) * np.exp(-elapsed / p["tau_rec"][e])
            u[e] += p["U"][e] * (1 - u[e])
            r, last[e] = u[e] * x[e], first_step + step
            x[e] -= r
            delay = rows.fixed_delay if rows.delay is None else int(rows.delay[e])
            slot = (first_step + step + delay) % out.shape[0]
            out[slot, rows.offset + rows.post[e]] += r * (
                1 if rows.weight is None else rows.weight[e]
            )
    return out, u, x


@pytest.mark.slow_for("uneven", "one edge")
@pytest.mark.parametrize("kind", ["random", "uneven", "one edge"])
@pytest.mark.parametrize("per", ["source", "edge", "all"])
@pytest.mark.parametrize(("steps", "capacity"), [(1, None), (5, 7)])
def test_spikes_release_as_defined(way, kind, per, capacity, steps):
    """Cells that fire several times in a block, and in a round; sources 5..44 of 96 cells."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(len(kind) + steps)
        pre, post = graph(kind, rng, 40, 50)
        n = {"source": 40, "edge": pre.size, "all": ()}[per]
        release = TsodyksMarkram(
            rng.uniform(0.1, 0.9, n), rng.uniform(0.5, 3.0, n), 2.0, x=rng.uniform(0, 1, n)
        )
        weight = rng.normal(size=pre.size) if kind == "random" else None
        delay = rng.integers(4, 9, pre.size) if kind == "random" else 8
        chunk = 16 if kind == "uneven" else None
        rows = rows_of(pre, post, 40, 50, weight, delay, 7, chunk, release)
        if weight is not None:
            rows = dataclasses.replace(rows, weight=rows.weight.astype(float))
        shape = (pre.size if rows.per_edge else 40,)
        values = {k: jnp.broadcast_to(v, shape) for k, v in release.init().items()}
        state = ReleaseState(values, jnp.full(40, -1, jnp.int32), {})
        fired = rng.random((steps, 96)) < 0.4
        fired[:, 44] = True
        buffer = rng.normal(size=(9, 60))
        words = spikes.pack(jnp.asarray(fired))
        run = jax.jit(lambda b, s, w: EventDriven(capacity)(b, s, w, rows, 5, 3, 0.1))
        found, after = run(jnp.asarray(buffer), state, words)
        wanted, u, x = released_by_hand(rows, fired, 5, buffer, 3)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
        has = np.diff(rows.row_ptr) > 0
        row = np.repeat(np.arange(40), np.diff(rows.row_ptr))
        for name, hand in (("u", u), ("x", x)):
            own = np.asarray(after.values[name])
            own = own if rows.per_edge else own[row]
            np.testing.assert_allclose(own, hand, rtol=1e-12)
        spiked = np.where(fired.any(0), 3 + steps - 1 - np.argmax(fired[::-1], 0), -1)[5:45]
        np.testing.assert_array_equal(np.asarray(after.last)[has], spiked[has])

        floats = jnp.asarray(fired, float)
        deviation = jax.tree.map(jnp.zeros_like, values)
        dense = ReleaseState(values, state.last, deviation)
        defined, ended = SegmentSum()(jnp.asarray(buffer), dense, floats, rows, 5, 3, 0.1)
        np.testing.assert_allclose(defined, wanted, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(ended.last, spiked)
        assert not any(np.any(d) for d in ended.deviation.values())


def test_vmap_over_the_parameters_of_a_release(way):
    rng = np.random.default_rng(1)
    pre, post = graph("random", rng, 40, 50)
    fired = rng.random((3, 64)) < 0.4
    words = spikes.pack(jnp.asarray(fired))

    def run(U):
        rows = rows_of(pre, post, 40, 50, release=Tsodyks(0.5))
        rows = dataclasses.replace(rows, release=eqx.tree_at(lambda r: r.U, rows.release, U))
        values = {k: jnp.broadcast_to(v, (40,)) for k, v in rows.release.init().items()}
        state = ReleaseState(values, jnp.full(40, -1, jnp.int32), {})
        return EventDriven()(jnp.zeros((4, 50)), state, words, rows, 0, 0, 0.1)[0]

    found = jax.vmap(run)(jnp.asarray([0.2, 0.7]))
    for i, U in enumerate([0.2, 0.7]):
        np.testing.assert_allclose(found[i], run(jnp.asarray(U)), rtol=1e-6)
    assert not np.allclose(found[0], found[1])


# In a network: cells that fire when told to, and targets that show what arrives.

N = 40


def told(times, cells, delays, weights=2.0, receptor=None, **more):
    """Sources that fire at given times, onto targets that neither leak nor fire."""
    source = jsnn.Population(LIF(t_ref=0.0), N, {"x": Delta()})
    target = LIF(tau_m=1e9, c_m=1.0, v_th=1e6, e_l=0.0, v_reset=-1.0, t_ref=0.0)
    populations = {"pre": source, "post": jsnn.Population(target, N, {"x": Delta()})}
    projections = {
        f"p{i}": jsnn.Projection("pre", "post", OneToOne(), weight=w, delay=d)
        for i, (d, w) in enumerate(zip(delays, np.broadcast_to(weights, len(delays)), strict=True))
    }
    inputs = {"s": SpikeList("pre", times, cells, 20.0)}
    return jsnn.Network(populations, projections, inputs, dt=0.1, key=jax.random.key(1), **more)


def arrived(net, *lengths):
    """The membrane of the targets at the end of each step."""
    state, made = net.init(jax.random.key(0)), []
    for length in lengths:
        record = {"v": jsnn.record.States("post", "v")}
        solution = jsnn.simulate(net, state, length, record)
        state = solution.state
        made.append(np.asarray(solution.records["v"].values))
    return np.concatenate(made)


def test_a_spike_arrives_after_its_delay():
    """Told at 0.5 ms a cell fires in the step that ends there. Projections onto a receptor add."""
    delays = np.resize([0.2, 0.7, 4.9], N)
    net = told([0.5, 0.5, 0.6], [0, 38, 7], [delays, 0.3])
    assert net.block == 2
    v = arrived(net, 35, 35)
    wanted = np.zeros((70, N))
    for time, cell in ((0.5, 0), (0.5, 38), (0.6, 7)):
        for delay in (delays[cell], 0.3):
            wanted[round((time + delay) / 0.1) - 1 :, cell] += 2
    np.testing.assert_allclose(v, wanted, atol=1e-4)


def test_every_cell_firing_in_one_step_arrives_everywhere():
    cells = np.arange(N)
    net = told([0.5] * N, cells, [])
    all_to_all = {
        "p": jsnn.Projection("pre", "post", AllToAll(), weight=0.5, delay=0.4),
    }
    net = jsnn.Network(
        net.populations,
        all_to_all,
        net.inputs,
        dt=0.1,
        key=jax.random.key(1),
        delivery=EventDriven(capacity=3),
    )
    v = arrived(net, 12)
    np.testing.assert_allclose(v[[7, 8, 11]], np.outer([0, 1, 1], np.full(N, N * 0.5)), atol=1e-4)


@pytest.mark.parametrize("n, kind", [(2**16 - 1, np.uint16), (2**16, np.uint32)])
def test_counts_are_wide_enough_for_every_source_at_once(n, kind):
    many = jsnn.Population(LIF(), n, {"x": Delta()}, initial={"v": 100.0})
    target = jsnn.Population(LIF(tau_m=1e9, v_th=1e9, e_l=0.0), 2, {"x": Delta()})
    net = jsnn.Network(
        {"many": many, "post": target},
        {"p": jsnn.Projection("many", "post", AllToAll(), weight=1.0, delay=0.1)},
        dt=0.1,
        key=jax.random.key(1),
    )
    assert net.synapses["p"].kept_as == kind
    np.testing.assert_allclose(arrived(net, 2)[1], n, rtol=1e-6)


@pytest.mark.parametrize("delivery", [EventDriven(), SegmentSum()])
def test_delays_from_zero_on(delivery):
    """Of one projection, given in the order opposite to its storage, and of another besides."""
    pairs = Pairs(np.arange(N)[::-1].copy(), np.arange(N)[::-1].copy())
    delays = np.resize([0.0, 0.4, 0.1, 2.5], N)  # of cells 39, 38, ...
    net = told([0.5] * N, np.arange(N), [])
    mixed = {
        "p": jsnn.Projection("pre", "post", pairs, weight=1.0, delay=delays),
        "q": jsnn.Projection("pre", "post", OneToOne(), weight=1.0, delay=0.0),
    }
    net = jsnn.Network(
        net.populations, mixed, net.inputs, dt=0.1, key=jax.random.key(1), delivery=delivery
    )
    assert net.block == 1
    v = arrived(net, 16, 16)
    at = np.arange(32)[:, None]
    wanted = (at >= 4).astype(float) + (at >= 4 + np.rint(delays[::-1] / 0.1))
    np.testing.assert_allclose(v, wanted, atol=1e-4)


def test_zero_delay_acts_after_reset_and_is_tested_in_the_next_step():
    """A cell that fires is reset first; then the arrival moves it, and it may fire a step later."""
    cells = jsnn.Population(LIF(tau_m=1e9, t_ref=0.0), 2, {"x": Delta(), "i": Exponential(2.0)})
    both = Pairs([0, 0], [0, 1])
    net = jsnn.Network(
        {"a": cells},
        {
            "p": jsnn.Projection("a", "a", both, weight=16.0, delay=0.0, receptor="x"),
            "q": jsnn.Projection("a", "a", Pairs([0], [1]), weight=8.0, delay=0.0, receptor="i"),
        },
        {"s": SpikeList("a", [0.3], [0], 20.0, "x")},
        dt=0.1,
        key=jax.random.key(1),
    )
    record = {
        "s": jsnn.record.Spikes("a"),
        "v": jsnn.record.States("a", "v"),
        "i": jsnn.record.States("a", "i.i"),
    }
    solution = jsnn.simulate(net, net.init(jax.random.key(0)), 4, record)
    raster = np.asarray(solution.records["s"].raster)
    np.testing.assert_array_equal(raster.astype(int), [[0, 0], [0, 0], [1, 0], [1, 1]])
    state = net.init(jax.random.key(0))
    step = eqx.filter_jit(lambda net, state: net.step(state)[0])
    for _ in range(3):
        state = step(net, state)
    np.testing.assert_allclose(state.populations["a"].cell["v"], [-54, -54], atol=1e-4)
    assert state.populations["a"].receptors["i"]["i"].tolist() == [0, 8]


@pytest.mark.parametrize("capacity, error", [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_bad_capacity(capacity, error):
    with pytest.raises(error, match=f"capacity={capacity}"):
        EventDriven(capacity)
