"""Short-term plasticity: the laws, their gradients, their states and bad input."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import jsnn
from jsnn.adjoint import Backprop, Kept
from jsnn.connect import AllToAll, OneToOne
from jsnn.delays import Interpolated
from jsnn.inputs import SpikeList
from jsnn.neurons import LIF
from jsnn.receptors import Delta, Exponential
from jsnn.record import States, SynapseStates
from jsnn.release import Constant, MaassMarkram, Tsodyks, TsodyksMarkram

DT = 0.1
LAWS = {
    "seed": TsodyksMarkram(0.6, 500.0, 300.0, u=0.1, x=0.7),
    "maass": MaassMarkram(0.3, 120.0, 400.0, u=0.5, x=0.9),
    "tsodyks": Tsodyks(0.4, 3.0, 130.0, 530.0, u=0.2, x=0.6, y=0.3),
    "equal": Tsodyks(0.4, 20.0, 20.0, 0.0, u=0.2, x=0.6, y=0.3),
    "no facilitation": TsodyksMarkram(0.5, 800.0, 0.0),
}
TIMES = np.array([1.3, 4.0, 12.2, 13.0, 60.7, 200.1])  # ms


def integrated(law, times):
    """u and r at each spike, from the differential equations between them."""
    p = {name: float(value) for name, value in vars(law).items()}
    u, x, y = p["u"], p["x"], p.get("y", 0.0)

    def field(_, s):
        u, x, y = s
        du = -u / p["tau_fac"] if p["tau_fac"] else 0.0
        if "tau_psc" not in p:
            return [du, (1 - x) / p["tau_rec"], 0.0]
        return [du, (1 - x - y) / p["tau_rec"], -y / p["tau_psc"]]

    last, released = 0.0, []
    for i, time in enumerate(times):
        if not (isinstance(law, MaassMarkram) and i == 0):
            s = solve_ivp(field, (last, time), [u, x, y], rtol=1e-12, atol=1e-14, method="DOP853")
            u, x, y = s.y[:, -1]
            u = u if p["tau_fac"] else 0.0
            u += p["U"] * (1 - u)
        r = u * x
        x, y, last = x - r, y + r, time
        released.append(r)
    return np.array(released), {"u": u, "x": x, "y": y}


def closed(law, times):
    """The same by the module's own functions."""
    values, released, last = law.init(), [], 0.0
    for i, time in enumerate(times):
        first = jnp.asarray(i == 0)
        values = law.relax(values, jnp.asarray(time - last), first)
        values, r = law.spike(values, first)
        released.append(r)
        last = time
    return jnp.stack(released), values


@pytest.mark.parametrize("name", LAWS)
def test_closed_form_solves_the_equations(x64, name):
    law = jax.tree.map(lambda leaf: leaf.astype(float), LAWS[name])
    wanted, last = integrated(law, TIMES)
    found, values = closed(law, TIMES)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    for state, value in values.items():
        np.testing.assert_allclose(value, last[state], rtol=1e-9, err_msg=state)


@pytest.mark.parametrize("name", LAWS)
def test_relaxing_twice_is_relaxing_once(x64, name):
    law = jax.tree.map(lambda leaf: leaf.astype(float), LAWS[name])
    _, values = closed(law, TIMES)
    no = jnp.asarray(False)
    once = law.relax(values, jnp.asarray(7.5), no)
    twice = law.relax(law.relax(values, jnp.asarray(2.5), no), jnp.asarray(5.0), no)
    for state in values:
        np.testing.assert_allclose(twice[state], once[state], rtol=1e-12)
    for state, value in law.relax(values, jnp.asarray(0.0), no).items():
        np.testing.assert_allclose(value, values[state], rtol=1e-12)


def network(release, times=TIMES, cells=None, delay=0.5, weight=10.0, rule=None, **more):
    """Cells that fire when told to, onto cells that do not fire."""
    n = 2
    times = np.round(times, 1)
    cells = np.zeros(len(times), int) if cells is None else cells
    return jsnn.Network(
        {
            "pre": jsnn.Population(LIF(t_ref=0.0), n, {"x": Delta()}),
            "post": jsnn.Population(LIF(v_th=1e6), n, {"i": Exponential(3.0)}),
        },
        {
            "p": jsnn.Projection(
                "pre", "post", rule or OneToOne(), weight=weight, delay=delay, release=release
            )
        },
        {"s": SpikeList("pre", times, cells, 50.0)},
        dt=DT,
        key=jax.random.key(1),
        **more,
    )


def currents(net, steps=2100):
    """Of the targets, at the end of every step."""
    record = {"i": States("post", "i.i")}
    return jsnn.simulate(net, net.init(jax.random.key(0)), steps, record).records["i"].values


PARAMETERS = [
    ("seed", ("U", "tau_rec", "tau_fac", "u", "x")),
    ("maass", ("U", "tau_rec", "tau_fac", "u", "x")),
    ("tsodyks", ("U", "tau_psc", "tau_rec", "tau_fac", "u", "x", "y")),
    ("equal", ("U", "tau_psc", "tau_rec")),
]


@pytest.mark.slow_for("0.1-False", "maass", "tsodyks")
@pytest.mark.parametrize(("name", "parameters"), PARAMETERS)
@pytest.mark.parametrize(("delay", "per_edge"), [(0.1, False), (0.0, True)])
def test_gradient_equals_central_differences(x64, name, parameters, delay, per_edge):
    """Of currents, through the blocks of a network, in every parameter of the release."""
    law = jax.tree.map(lambda leaf: leaf.astype(float), LAWS[name])
    if per_edge:
        law = eqx.tree_at(lambda r: r.U, law, law.U * jnp.linspace(0.8, 1.0, 4))
    rule = AllToAll() if per_edge else OneToOne()
    net = network(law, delay=delay, rule=rule)

    @jax.jit
    def total(values):
        own = eqx.tree_at(
            lambda n: [getattr(n.synapses["p"].release, k) for k in parameters],
            net,
            [values[k] for k in parameters],
        )
        return jnp.sum(currents(own)[:, 0])

    point = {k: getattr(net.synapses["p"].release, k) for k in parameters}
    found = jax.jit(jax.grad(total))(point)
    for k in parameters:
        h = 3e-5 * jnp.max(jnp.abs(point[k]))
        high, low = (total({**point, k: point[k] + sign * h}) for sign in (1, -1))
        wanted = (high - low) / (2 * h)
        assert abs(wanted) > 1e-4, k
        np.testing.assert_allclose(jnp.sum(found[k]), wanted, rtol=3e-8, err_msg=k)


@pytest.mark.slow
def test_gradient_of_a_surrogate_reaches_the_release(x64):
    """A cell just below threshold might have used up resources, and a later spike release less.

    The reference keeps u and x at the time of the step, and moves them by `fired`, in every step;
    the path through the reset is kept in both.
    """
    law = TsodyksMarkram(0.6, 50.0, 30.0)
    of_law = network(law, times=[1.0, 3.0], delay=0.1)
    start = of_law.init(jax.random.key(0))
    lif, kept = of_law.populations["pre"].neuron, Backprop(reset=Kept())

    def released(v, tau_fac):
        net = eqx.tree_at(lambda n: n.synapses["p"].release.tau_fac, of_law, tau_fac)
        state = eqx.tree_at(lambda s: s.populations["pre"].cell["v"], start, v)
        total = 0.0
        for length in (13, 27):
            record = {"r": SynapseStates("p", "r")}
            solution = jsnn.simulate(net, state, length, record, adjoint=kept)
            state = solution.state
            total += jnp.sum(solution.records["r"].values)
        return total + jnp.sum(state.populations["post"].cell["v"])

    def by_hand(v, tau_fac):
        post, current, under_way, total = -70.0 * jnp.ones(2), jnp.zeros(2), jnp.zeros(2), 0.0
        u, x = jnp.zeros(2), jnp.ones(2)
        exact = of_law.prepare().populations["post"].solver[..., 0]  # rows: v, current
        for step in range(40):
            post = exact[0, 0] * post + exact[0, 1] * current + exact[0, 3]
            current = exact[1, 1] * current + under_way
            v = -70 + (v + 70) * jnp.exp(-DT / lif.tau_m)
            v = v + jnp.where(jnp.arange(2) == 0, 50.0 * (step in (9, 29)), 0.0)
            fired = of_law.populations["pre"].surrogate(v - lif.v_th)
            v = (1 - fired) * v + fired * lif.v_reset
            u = u * jnp.exp(-DT / tau_fac)
            x = 1 + (x - 1) * jnp.exp(-DT / 50.0)
            after = u + 0.6 * (1 - u)
            r = after * x
            u, x = u + fired * (after - u), x - fired * r
            under_way = 10.0 * fired * r
            total += jnp.sum(fired * r)
        return total + jnp.sum(post)

    v = jnp.array([-56.0, -58.0])  # they decay, and do not fire by themselves
    both = [jax.jit(jax.value_and_grad(f)) for f in (released, by_hand)]
    for tau_fac in (0.05, 30.0):  # the first long gone at the second spike
        (value, found), (wanted_value, wanted) = (f(v, jnp.asarray(tau_fac)) for f in both)
        np.testing.assert_allclose(value, wanted_value, rtol=1e-12)
        assert np.all(np.abs(wanted) > 1e-3)
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.slow_for("0.5", "1.7")
@pytest.mark.parametrize("delivery", [jsnn.EventDriven(), jsnn.SegmentSum()])
@pytest.mark.parametrize("delay", [0.0, 0.5, 1.7])
def test_states_over_time_and_at_spikes(x64, delivery, delay):
    """Samples follow the closed form at the end of every step, whatever the length of a block."""
    law = TsodyksMarkram(0.6, 50.0, 30.0)
    times = [1.3, 1.4, 4.0, 9.9]
    net = network(law, times, delay=delay, delivery=delivery)
    record = {name: SynapseStates("p", name, index=[0]) for name in ("u", "x", "r")}
    record |= {
        f"{name} spikes": SynapseStates("p", name, at_spikes=True) for name in ("u", "x", "r")
    }
    record["coarse"] = SynapseStates("p", "x", index=0, every=0.5)
    solution = jsnn.simulate(net, net.init(jax.random.key(0)), 120, record)
    wanted = {name: np.zeros(120) for name in ("u", "x", "r")}
    at_spikes = {name: [] for name in wanted}
    for step in range(120):
        past = [t for t in times if round(t / DT) - 1 <= step]
        values, r, last = law.init(), 0.0, 0.0
        if past:
            rs, values = closed(law, past)
            last = past[-1]
            if round(last / DT) - 1 == step:
                r = float(rs[-1])
                for name, value in {**values, "r": r}.items():
                    at_spikes[name].append(float(value))
        elapsed = jnp.asarray((step + 1) * DT - last)
        values = law.relax(values, elapsed, jnp.asarray(not past))
        wanted["u"][step], wanted["x"][step], wanted["r"][step] = values["u"], values["x"], r
    for name in wanted:
        found = solution.records[name].values[:, 0]
        np.testing.assert_allclose(found, wanted[name], rtol=1e-10, err_msg=name)
        spikes = solution.records[f"{name} spikes"].listed()
        np.testing.assert_allclose(spikes.times, times)
        assert spikes.index.tolist() == [0] * 4 and spikes.n == 2
        np.testing.assert_allclose(spikes.values, at_spikes[name], rtol=1e-10, err_msg=name)
    coarse = solution.records["coarse"]
    np.testing.assert_allclose(coarse.times, np.arange(1, 25) * 0.5)
    np.testing.assert_allclose(coarse.values[:, 0], wanted["x"][4::5], rtol=1e-10)


def test_states_of_edges_are_recorded_by_edge(x64):
    law = TsodyksMarkram(jnp.array([0.2, 0.4, 0.6, 0.8]), 50.0, 30.0)
    net = network(law, [1.0, 2.0], np.array([0, 1]), rule=AllToAll())
    record = {
        "r": SynapseStates("p", "r", at_spikes=True),
        "one": SynapseStates("p", "r", index=[2], at_spikes=True),
    }
    run = jsnn.run(net, 5.0, key=jax.random.key(0), record=record, progress=False, segment=1.3)
    spikes = run.records["r"]
    assert spikes.index.tolist() == [0, 1, 2, 3]  # edges of source 0, then of source 1
    np.testing.assert_allclose(spikes.times, [1.0, 1.0, 2.0, 2.0])
    np.testing.assert_allclose(spikes.values, [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(run.records["one"].values, [0.6])
    assert run.records["one"].index.tolist() == [0]


def test_releases_of_edges_whose_delays_lie_between_steps(x64):
    """Each edge arrives in two parts, and releases once; at whole steps it arrives in one."""
    laws = {
        "by edge": Tsodyks(jnp.linspace(0.2, 0.9, 12), 3.0, 20.0, 30.0),
        "by source": TsodyksMarkram(jnp.linspace(0.2, 0.9, 3), 20.0, 30.0),
    }
    cells = jsnn.Population(LIF(tau_m=20.0, v_th=1e9), 4, {"x": Exponential(2.0)})
    rng = np.random.default_rng(0)
    times = SpikeList("pre", rng.integers(1, 280, 60) * 0.1, rng.integers(0, 3, 60), 1e3)
    weight = np.linspace(20, 90, 12)

    def run(delay, delivery=None):
        net = jsnn.Network(
            {
                "pre": jsnn.Population(LIF(t_ref=0.0), 3, {"x": Delta()}),
                **dict.fromkeys(laws, cells),
            },
            {
                name: jsnn.Projection(
                    "pre", name, AllToAll(), weight=weight, delay=delay, release=law
                )
                for name, law in laws.items()
            },
            {"spikes": times},
            dt=0.1,
            key=jax.random.key(0),
            delivery=delivery,
        )
        record = {f"v {name}": States(name, "v") for name in laws}
        record |= {f"r {name}": SynapseStates(name, "r") for name in laws}
        made = jsnn.simulate(net, net.init(jax.random.key(1)), 300, record)
        released = {name: made.state.releases[name].values for name in laws}
        return {name: own.values for name, own in made.records.items()}, released

    def same(a, b):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-12), a, b)

    whole, between = np.linspace(0.3, 1.4, 12).round(1), np.linspace(0.33, 1.37, 12)
    wanted, released = run(whole)
    same(run(Interpolated(whole, 0.3, 1.4)), (wanted, released))
    (one, at_end), other = (
        run(Interpolated(between, 0.3, 1.4), how) for how in (None, jsnn.SegmentSum())
    )
    same((one, at_end), other)
    same(at_end, released)
    for name in laws:
        assert np.ptp(wanted[f"v {name}"]) > 1 and np.nanmax(wanted[f"r {name}"]) > 0
        same(one[f"r {name}"], wanted[f"r {name}"])
        assert not np.allclose(one[f"v {name}"], wanted[f"v {name}"], 1e-4)


@pytest.mark.slow
def test_gradients_of_edges_whose_delays_lie_between_steps(x64):
    """Of each edge's release, weight and delay, against central differences along a direction."""
    law = Tsodyks(jnp.linspace(0.2, 0.9, 12), 3.0, jnp.linspace(10.0, 30.0, 12), 30.0)
    delay = Interpolated(np.linspace(0.33, 1.37, 12), 0.3, 1.4)
    times = SpikeList("pre", np.arange(1, 60) * 0.2, np.arange(1, 60) % 3, 1e3)
    net = jsnn.Network(
        {
            "pre": jsnn.Population(LIF(t_ref=0.0), 3, {"x": Delta()}),
            "post": jsnn.Population(LIF(tau_m=20.0, v_th=1e9), 4, {"x": Exponential(2.0)}),
        },
        {
            "p": jsnn.Projection(
                "pre", "post", AllToAll(), weight=np.linspace(20, 90, 12), delay=delay, release=law
            )
        },
        {"spikes": times},
        dt=0.1,
        key=jax.random.key(0),
    )
    state = net.init(jax.random.key(1))

    def parts(net):
        own = net.synapses["p"]
        return [own.release.U, own.release.tau_rec, own.weight, own.delay.delay]

    @jax.jit
    def loss(values):
        own = eqx.tree_at(parts, net, values)
        made = jsnn.simulate(own, state, 150, {"v": States("post", "v")})
        return jnp.sum(jnp.linspace(0, 1, 150)[:, None] * made.records["v"].values ** 2)

    at, rng = parts(net), np.random.default_rng(0)
    slopes = jax.jit(jax.grad(loss))(at)
    for k, slope in enumerate(slopes):
        assert np.all(slope != 0)
        along, h = rng.uniform(0.5, 1.0, 12), 1e-5
        high, low = (
            loss([own + sign * h * along * (i == k) for i, own in enumerate(at)])
            for sign in (1, -1)
        )
        np.testing.assert_allclose(slope @ along, (high - low) / (2 * h), rtol=1e-6)


def test_the_shape_of_the_parameters_chooses_what_keeps_a_state():
    by_source = network(TsodyksMarkram(jnp.array([0.2, 0.4])), rule=AllToAll())
    by_edge = network(TsodyksMarkram(jnp.full(4, 0.3), jnp.array([100.0, 200.0])), rule=AllToAll())
    drawn = network(TsodyksMarkram(jsnn.distributions.Uniform(0.1, 0.9)), rule=AllToAll())
    for net, n in ((by_source, 2), (by_edge, 4), (drawn, 4)):
        state = net.init(jax.random.key(0)).releases["p"]
        assert state.values["u"].shape == (n,) and state.last.shape == (2,)
    assert by_edge.synapses["p"].release.tau_rec.tolist() == [100.0, 100.0, 200.0, 200.0]
    U = np.asarray(drawn.synapses["p"].release.U)
    assert np.unique(U).size == 4 and np.all((U > 0.1) & (U < 0.9))
    assert "p" not in network(None).init(jax.random.key(0)).releases
    assert isinstance(network(None).synapses["p"].release, Constant)


def test_parameters_of_pairs_stay_with_their_pairs():
    """Given in the order of the pairs, as weights are, and split over the parts of a list."""
    pre, post = np.array([2, 0, 1, 0]), np.array([1, 2, 0, 0])
    cells = {name: jsnn.Population(LIF(), 2, {"x": Delta()}) for name in ("a", "b")}
    release = TsodyksMarkram(pre * 0.1 + post * 0.01, tau_fac=jnp.array([1.0, 2.0, 3.0, 4.0]))
    net = jsnn.Network(
        cells,
        {
            "p": jsnn.Projection(
                ["a", "b"],
                ["a", "b"],
                jsnn.connect.Pairs(np.append(pre, 3), np.append(post, 3)),
                weight=1.0,
                delay=1.0,
                release=TsodyksMarkram(
                    np.append(release.U, 0.33), tau_fac=jnp.array([1.0, 2.0, 3.0, 4.0])
                ),
            )
        },
        dt=DT,
        key=jax.random.key(1),
    )
    seen = 0
    for name, synapses in net.synapses.items():
        edges = net.connections()[name]
        first = {"a": 0, "b": 2}
        p = edges.pre + first[synapses.pre[0]]
        q = edges.post + first[synapses.post[0]]
        np.testing.assert_allclose(synapses.release.U, p * 0.1 + q * 0.01, rtol=1e-6)
        np.testing.assert_allclose(synapses.release.tau_fac, p + 1.0)
        seen += p.size
    assert seen == 5


@pytest.mark.parametrize("per_edge", [False, True])
def test_states_pass_between_deliveries(per_edge):
    with jax.enable_x64(True):
        law = TsodyksMarkram(jnp.linspace(0.3, 0.6, 4) if per_edge else 0.4, 50.0, 30.0)
        counting, summing = (
            network(law, rule=AllToAll(), delay=0.1, delivery=own)
            for own in (jsnn.EventDriven(), jsnn.SegmentSum())
        )
        wanted = jsnn.simulate(counting, counting.init(jax.random.key(0)), 140).state
        for one, other in ((counting, summing), (summing, counting)):
            half = jsnn.simulate(one, one.init(jax.random.key(0)), 70).state
            found = jsnn.simulate(other, half, 70).state
            pairs = [
                (state.releases["p"].values["u"], state.releases["p"].values["x"])
                + (state.populations["post"].cell["v"],)
                for state in (found, wanted)
            ]
            for own, theirs in zip(*pairs, strict=True):
                np.testing.assert_allclose(own, theirs, rtol=1e-14)


@pytest.mark.parametrize("delivery", [jsnn.EventDriven(), jsnn.SegmentSum()])
@pytest.mark.parametrize("delay", [0.0, 0.3])
def test_sources_without_edges_remember_their_spikes(x64, delivery, delay):
    """As in a part of a union that no edge was drawn for."""
    law = TsodyksMarkram(0.5, 50.0)
    none = jsnn.connect.Pairs([], [])
    net = network(law, [1.0, 2.0, 3.0], rule=none, delay=delay, delivery=delivery)
    record = {"x": SynapseStates("p", "x", index=0)}
    solution = jsnn.simulate(net, net.init(jax.random.key(0)), 30, record)
    wanted = closed(law, [1.0, 2.0, 3.0])[1]["x"]
    np.testing.assert_allclose(solution.records["x"].values[-1, 0], wanted, rtol=1e-12)
    np.testing.assert_allclose(solution.state.releases["p"].values["x"], [wanted, 1.0])
    assert solution.state.releases["p"].last.tolist() == [29, -1]


def test_vmap_over_a_parameter_and_its_records():
    net = network(TsodyksMarkram(0.5, 50.0, 30.0), delay=0.0)
    record = {
        "x": SynapseStates("p", "x", index=0),
        "r": SynapseStates("p", "r", index=0, at_spikes=True),
    }

    def run(U):
        own = eqx.tree_at(lambda n: n.synapses["p"].release.U, net, U)
        return jsnn.simulate(own, own.init(jax.random.key(0)), 140, record).records

    values = jnp.array([0.2, 0.5, 0.8])
    batch = jax.vmap(run)(values)
    for i, U in enumerate(values):
        single, one = run(U), jax.tree.map(lambda leaf, i=i: leaf[i], batch)
        np.testing.assert_allclose(one["x"].values, single["x"].values, rtol=1e-6)
        found, wanted = one["r"].listed(), single["r"].listed()
        assert found.steps.tolist() == wanted.steps.tolist() and found.steps.size == 4
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-6)
    with pytest.raises(ValueError, match="this record is batched"):
        batch["r"].listed()


@pytest.mark.parametrize("per_edge", [False, True])
def test_a_run_is_resumed_with_its_releases(tmp_path, per_edge):
    law = TsodyksMarkram(jnp.linspace(0.3, 0.6, 4) if per_edge else 0.4, 50.0, 30.0)
    net = network(law, rule=AllToAll())
    record = {"r": SynapseStates("p", "r", at_spikes=True), "i": States("post", "i.i")}
    more = dict(key=jax.random.key(0), record=record, progress=False, segment=2.0)
    whole = jsnn.run(net, 14.0, **more)
    jsnn.run(net, 5.0, checkpoint=tmp_path / "c", **more)
    resumed = jsnn.run(net, 14.0, checkpoint=tmp_path / "c", **more)
    for name in ("steps", "index", "values"):
        one, other = (getattr(s.records["r"], name) for s in (whole, resumed))
        np.testing.assert_array_equal(one, other)
        assert one.size >= 4
    np.testing.assert_array_equal(whole.records["i"].values, resumed.records["i"].values)


BAD = [
    (lambda: TsodyksMarkram(1.2), "U=1.2 must be at most 1"),
    (lambda: TsodyksMarkram(-0.1), "U=-0.1 must be at least 0"),
    (lambda: TsodyksMarkram(0.5, 0.0), "tau_rec=0.0 must be above 0"),
    (lambda: TsodyksMarkram(0.5, float("nan")), "tau_rec=nan is not finite"),
    (lambda: TsodyksMarkram(0.5, tau_fac=-1.0), "tau_fac=-1.0 must be at least 0"),
    (lambda: MaassMarkram(u=2.0), "u=2 must be at most 1"),
    (lambda: Tsodyks(x=0.8, y=0.4), r"x \+ y is 1.2; give at most 1"),
    (lambda: Tsodyks(tau_psc=float("inf")), "tau_psc=inf is not finite"),
    (
        lambda: network(TsodyksMarkram(np.full(3, 0.5))),
        r"U has shape \(3,\); give a scalar, \(2,\)",
    ),
    (lambda: network("fast"), "release='fast' is no release"),
    (lambda: network(TsodyksMarkram), "is no release"),
    (lambda: jsnn.nest.tsodyks_synapse(tau=3.0), "unknown parameter of tsodyks_synapse 'tau'"),
    (lambda: jsnn.nest.tsodyks2_synapse(weight=3.0), "weight: give it to the projection"),
    (lambda: network(TsodyksMarkram(jsnn.distributions.Uniform(1.1, 1.5))), "must be at most 1"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_input(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        made = make()
        made.synapses  # noqa: B018


def test_as_many_sources_as_edges_must_mean_the_same():
    pairs = jsnn.connect.Pairs([0, 0], [0, 1])
    with pytest.raises(ValueError, match="as many sources as edges"):
        network(TsodyksMarkram(np.array([0.2, 0.4])), rule=pairs)
    for same in (None, jsnn.connect.Pairs([0, 1], [1, 0])):
        assert (
            network(TsodyksMarkram(np.array([0.2, 0.4])), rule=same).synapses["p"].n_releases == 2
        )


def test_what_is_put_in_its_place_is_checked():
    net = network(TsodyksMarkram(0.5))
    put = lambda value: eqx.tree_at(lambda n: n.synapses["p"].release.U, net, value)
    with pytest.raises(ValueError, match="projection 'p'.*U=3 must be at most 1"):
        jsnn.run(put(3.0), 1.0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="U has shape .4,.; give a scalar or .2,."):
        jsnn.run(put(jnp.full(4, 0.5)), 1.0, key=jax.random.key(0))
    jsnn.run(put(jnp.array([0.2, 0.3])), 1.0, key=jax.random.key(0), progress=False)


@pytest.mark.parametrize(
    ("recorder", "message"),
    [
        (SynapseStates("q", "u"), "unknown projection 'q'"),
        (SynapseStates(["p"], "u"), "unknown projection"),  # pyright: ignore[reportArgumentType]
        (SynapseStates("p", "y"), "unknown state of 'p' 'y'"),
        (SynapseStates("p", "u", index=5), "index holds 5..5, but 'p' has 2 sources"),
        (SynapseStates("p", "u", every=0.25), "every=0.25"),
    ],
)
def test_bad_recorders(recorder, message):
    with pytest.raises(ValueError, match=message):
        jsnn.run(network(TsodyksMarkram()), 1.0, key=jax.random.key(0), record={"r": recorder})


def test_recorders_want_plasticity_and_one_kind_of_times():
    with pytest.raises(ValueError, match="'p' has no short-term plasticity"):
        jsnn.run(network(None), 1.0, key=jax.random.key(0), record={"r": SynapseStates("p", "u")})
    with pytest.raises(ValueError, match="exclude each other"):
        SynapseStates("p", "u", every=1.0, at_spikes=True)
