"""Gap junctions: what current they carry, how coupled cells advance, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn._sums import ways
from jsnn.connect import AllToAll, FixedTotalNumber, Pairs
from jsnn.coupling import GapJunction, groups
from jsnn.distributions import Normal, Uniform
from jsnn.exchange import Joint, WaveformRelaxation
from jsnn.inputs import Poisson, SpikeList
from jsnn.neurons import LIF, HodgkinHuxley
from jsnn.receptors import Alpha, Delta
from jsnn.record import Spikes, States
from jsnn.solvers import RK4, Euler, Exact, ExponentialEuler, Splitting

RNG = np.random.default_rng(4)
N = 40
PRE, POST = RNG.integers(0, N, (2, 300))  # some pairs twice, some of a cell with itself
SOME = RNG.uniform(0.1, 2.0, 300)


def interneurons(n=N, solver=None, v=None):
    v = np.linspace(-80.0, -50.0, n) if v is None else v
    law = HodgkinHuxley.interneuron(i_e=np.linspace(0.0, 200.0, n))
    return jsnn.Population(law, n, {"exc": Alpha(0.5)}, solver=solver, initial={"v": v})


def pair(exchange=None, conductance=2.0, solver=None, dt=0.05, law=None, **coupling):
    """Two cells, of which one is driven."""
    law = HodgkinHuxley.interneuron(i_e=np.array([150.0, 0.0])) if law is None else law
    cells = jsnn.Population(law, 2, {"exc": Alpha(0.5)}, solver=solver)
    junction = GapJunction("cells", "cells", Pairs([0], [1]), conductance=conductance, **coupling)
    return jsnn.Network(
        {"cells": cells},
        couplings={"gap": junction},
        dt=dt,
        key=jax.random.key(0),
        exchange=exchange,
    )


def membranes(network, duration, state=None):
    state = network.init(jax.random.key(1)) if state is None else state
    record = {name: States(name, "v") for name in network.populations}
    solution = jsnn.simulate(network, state, round(duration / network.dt), record)
    return np.concatenate([np.asarray(solution.records[n].values) for n in record], axis=1)


def expected(pre, post, g, v, symmetric=True):
    """The current of each cell, edge by edge."""
    current = np.zeros(v.shape)
    for a, b, conductance in zip(pre, post, np.broadcast_to(g, len(pre)), strict=True):
        current[..., b] += conductance * (v[..., a] - v[..., b])
        if symmetric:
            current[..., a] += conductance * (v[..., b] - v[..., a])
    return current


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("g", [0.7, SOME], ids=["scalar", "each"])
@pytest.mark.parametrize("form", ["dense", "table", "edges"])
def test_current_is_the_sum_over_edges(x64, form, g, symmetric):
    v = RNG.normal(-60.0, 20.0, (2, N))
    parts = ("cells", 0, N), ("cells", 0, N)
    (way,) = ways(PRE, POST, parts, {"cells": N}, symmetric, dense=form == "dense")
    if form == "edges":
        way = eqx.tree_at(lambda w: w.table, way, None)
    own = way.prepare(jnp.asarray(g)).padded(64)  # as on devices
    wide = jnp.asarray(np.pad(v, ((0, 0), (0, 64 - N)), constant_values=-1e3))
    found = own.scale * (own.from_sources(wide, 0, 64, 64) - own.total * wide)
    wanted = expected(PRE, POST, g, v, symmetric)
    np.testing.assert_allclose(found[:, :N], wanted, rtol=1e-12, atol=1e-10)
    assert not np.any(found[:, N:])
    half = own._replace(total=own.total[32:])  # the second of two devices
    if form == "edges":
        np.testing.assert_array_equal(
            half.from_sources(wide, 32, 32, 64), own.from_sources(wide, 0, 64, 64)[:, 32:]
        )


def test_form_follows_the_density():
    def form(n, number):
        network = jsnn.Network(
            {"cells": interneurons(n)},
            couplings={
                "gap": GapJunction("cells", "cells", FixedTotalNumber(number), conductance=1.0)
            },
            dt=0.05,
            key=jax.random.key(1),
        )
        (way,) = network.couplings["gap"].ways
        return "dense" if way.dense else "edges" if way.table is None else "table"

    assert form(100, 1000) == "dense"
    assert form(1000, 5000) == "table"
    star = Pairs(np.zeros(999, int), np.arange(1, 1000))  # one row is as long as all others
    network = jsnn.Network(
        {"cells": interneurons(1000)},
        couplings={"gap": GapJunction("cells", "cells", star, conductance=1.0)},
        dt=0.05,
        key=jax.random.key(1),
    )
    assert network.couplings["gap"].ways[0].table is None


@pytest.mark.parametrize("dense", [True, False])
def test_forms_give_the_same_membranes(x64, dense):
    rule = Pairs(PRE, POST)
    network = jsnn.Network(
        {"cells": interneurons()},
        couplings={"gap": GapJunction("cells", "cells", rule, conductance=SOME)},
        dt=0.05,
        key=jax.random.key(1),
    )
    assert network.couplings["gap"].ways[0].dense
    gap = network.couplings["gap"]
    sparse = ways(np.asarray(gap.pre), np.asarray(gap.post), gap.parts, {"cells": N}, True, False)
    other = eqx.tree_at(lambda n: n.couplings["gap"].ways, network, sparse)
    found, wanted = membranes(other, 10.0), membranes(network, 10.0)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-7)  # mV; spikes magnify rounding
    assert wanted.max() > 0


def test_connections_and_pairs_of_a_cell_with_itself():
    network = jsnn.Network(
        {"cells": interneurons()},
        couplings={"gap": GapJunction("cells", "cells", Pairs(PRE, POST), conductance=SOME)},
        dt=0.05,
        key=jax.random.key(1),
    )
    gap = network.couplings["gap"]
    assert gap.n_edges == 300
    assert gap.n_self == np.count_nonzero(PRE == POST) > 0
    found = network.connections()["gap"]
    order = np.lexsort((POST, PRE))
    np.testing.assert_array_equal(found.pre, PRE[order])
    np.testing.assert_array_equal(found.post, POST[order])
    np.testing.assert_allclose(found.conductance, SOME[order], rtol=1e-6)


def test_only_pairs_of_a_cell_with_itself_do_nothing():
    alone = jsnn.Network({"cells": interneurons(3)}, dt=0.05)
    network = jsnn.Network(
        {"cells": interneurons(3)},
        couplings={"gap": GapJunction("cells", "cells", Pairs([0, 1], [0, 1]), conductance=9.0)},
        dt=0.05,
        key=jax.random.key(1),
        exchange=WaveformRelaxation(),
    )
    np.testing.assert_array_equal(membranes(network, 3.0), membranes(alone, 3.0))


def test_conductances_that_are_drawn():
    drawn = GapJunction("cells", "cells", AllToAll(), conductance=Uniform(0.5, 1.5))
    network = jsnn.Network(
        {"cells": interneurons(5)}, couplings={"gap": drawn}, dt=0.05, key=jax.random.key(3)
    )
    g = network.connections()["gap"].conductance
    assert g.shape == (25,) and 0.5 <= g.min() < g.max() <= 1.5


@pytest.mark.slow
@pytest.mark.parametrize("solver", [RK4(2), Splitting((2, 4)), Euler(), ExponentialEuler()])
def test_populations_of_a_group_advance_as_one(x64, solver):
    """Two populations joined to each other are one population cut in two, with any solver."""
    dt = 0.05 if isinstance(solver, Splitting) else 0.01 if isinstance(solver, RK4) else 0.002
    whole, part = interneurons(6, solver), slice(0, 2)
    between = Pairs([0, 0, 1], [0, 3, 2])
    one = jsnn.Network(
        {
            "cells": jsnn.Population(
                whole.neuron,
                6,
                whole.receptors,
                solver=solver,
                initial=whole.initial,
                slices={"a": part, "b": slice(2, 6)},
            )
        },
        couplings={"gap": GapJunction("cells.a", "cells.b", between, conductance=[1.0, 2.0, 3.0])},
        dt=dt,
        key=jax.random.key(1),
    )
    cut = lambda own: jsnn.Population(  # noqa: E731
        HodgkinHuxley.interneuron(i_e=whole.neuron.i_e[own]),
        len(range(*own.indices(6))),
        whole.receptors,
        solver=solver,
        initial={"v": whole.initial["v"][own]},
    )
    two = jsnn.Network(
        {"a": cut(part), "b": cut(slice(2, 6))},
        couplings={"gap": GapJunction("a", "b", between, conductance=[1.0, 2.0, 3.0])},
        dt=dt,
        key=jax.random.key(1),
    )
    assert two.groups == [("a", "b")]
    found, wanted = membranes(two, 200 * dt), membranes(one, 200 * dt)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
    apart = jsnn.Network({"a": cut(part)}, dt=dt)
    assert np.abs(membranes(apart, 200 * dt) - wanted[:, :2]).max() > 1e-3  # or nothing is joined


def test_groups_are_what_couplings_join():
    def joined(*pairs):
        built = {}
        for i, (pre, post) in enumerate(pairs):
            network = jsnn.Network(
                {name: interneurons(2) for name in {pre, post}},
                couplings={"gap": GapJunction(pre, post, AllToAll(), conductance=1.0)},
                dt=0.05,
                key=jax.random.key(1),
            )
            built[str(i)] = network.couplings["gap"]
        return groups(["a", "b", "c", "d"], built)

    assert joined() == [("a",), ("b",), ("c",), ("d",)]
    assert joined(("d", "b"), ("c", "c")) == [("a",), ("b", "d"), ("c",)]
    assert joined(("a", "b"), ("b", "c")) == [("a", "b", "c"), ("d",)]


@pytest.mark.slow
def test_one_way_moves_only_its_target(x64):
    both, forth = membranes(pair(), 20.0), membranes(pair(symmetric=False), 20.0)
    alone = membranes(pair(conductance=0.0), 20.0)
    np.testing.assert_array_equal(forth[:, 0], alone[:, 0])
    assert np.abs(forth[:, 1] - alone[:, 1]).max() > 0.1
    assert np.abs(both[:, 0] - alone[:, 0]).max() > 0.1


PASSIVE = {"tau_m": 10.0, "c_m": 100.0, "v_th": 1e6, "i_e": np.array([200.0, 0.0])}


@pytest.mark.parametrize(("solver", "tol"), [(RK4(), 1e-8), (Splitting((2, 4)), 2e-6)])
def test_two_passive_cells(x64, solver, tol):
    """Sum and difference of two coupled membranes relax with 1/tau and 1/tau + 2 g / c."""
    network = pair(law=LIF(**PASSIVE), solver=solver, conductance=5.0, dt=0.1)
    v = membranes(network, 20.0)
    t = 0.1 * np.arange(1, 201)
    fast = 1 / 10.0 + 2 * 5.0 / 100.0
    total = -140.0 + 2.0 * 10.0 * (1 - np.exp(-t / 10.0))
    difference = 2.0 / fast * (1 - np.exp(-fast * t))
    np.testing.assert_allclose(v.sum(1), total, rtol=0, atol=tol)
    np.testing.assert_allclose(v[:, 0] - v[:, 1], difference, rtol=0, atol=tol)


def leaky(n):
    """Cells that fire on their own, and compile soon."""
    law = LIF(tau_m=10.0, c_m=100.0, i_e=np.linspace(100.0, 300.0, n))
    v = np.linspace(-70.0, -56.0, n)
    return jsnn.Population(law, n, {"exc": Alpha(0.5)}, solver=RK4(2), initial={"v": v})


def both_ways(exchange, delay=1.0):
    """Two populations that inhibit and are coupled to each other, under noise."""
    return jsnn.Network(
        {"a": leaky(5), "b": leaky(4)},
        {"p": jsnn.Projection("a", "b", AllToAll(), weight=40.0, delay=delay)},
        {
            "noise": Poisson("a", 2000.0, 60.0),
            "list": SpikeList("b", [0.5, 1.3, 7.0], [0, 1, 2], 90.0),
        },
        couplings={
            "gap": GapJunction("a", "b", AllToAll(), conductance=1.0),
            "own": GapJunction("a", "a", AllToAll(), conductance=0.5),
        },
        dt=0.05,
        key=jax.random.key(2),
        exchange=exchange,
    )


@pytest.mark.slow_for("exchange0")
@pytest.mark.parametrize("exchange", [Joint(), WaveformRelaxation(0.25, 1e-6, 9, 1)])
def test_windows_do_not_depend_on_how_a_run_is_cut(x64, exchange):
    network = both_ways(exchange)
    record = {"v": States("a", "v"), "spikes": Spikes("a")}
    state = network.init(jax.random.key(1))
    whole = jsnn.simulate(network, state, 174, record)
    cut, rows = state, []
    for steps in (87, 87):  # inside a block of 20 steps, and a window of 5
        made = jsnn.simulate(network, cut, steps, record)
        cut = made.state
        rows.append(np.asarray(made.records["v"].values))
    np.testing.assert_allclose(np.concatenate(rows), whole.records["v"].values, rtol=0, atol=1e-9)
    assert np.asarray(whole.records["spikes"].raster).sum() > 3
    stepped = state
    step = jax.jit(lambda s: network.step(s)[0])
    for _ in range(174):
        stepped = step(stepped)
    for name in ("a", "b"):
        np.testing.assert_allclose(
            stepped.populations[name].cell["v"], whole.state.populations[name].cell["v"], atol=1e-9
        )
    ran = jsnn.run(network, 8.7, state=state, record=record, segment=1.3)
    np.testing.assert_allclose(ran.records["v"].values, whole.records["v"].values, atol=1e-9)


@pytest.mark.slow
def test_a_batch_of_conductances_equals_single_runs(x64):
    network = both_ways(Joint())
    state, weights = network.init(jax.random.key(1)), jnp.asarray([0.0, 0.5, 2.0])

    def last(weight):
        own = eqx.tree_at(lambda n: n.couplings["gap"].conductance, network, weight)
        return jsnn.simulate(own, state, 100).state.populations["a"].cell["v"]

    batch = jax.vmap(last)(weights)
    for weight, row in zip(weights, batch, strict=True):
        np.testing.assert_allclose(last(weight), row, rtol=0, atol=1e-9)
    assert np.abs(batch[0] - batch[2]).max() > 1e-3


def test_delta_receptors_and_resets_under_relaxation(x64):
    """Membranes that jump: waveforms are of the time before."""
    cells = jsnn.Population(
        LIF(tau_m=10.0, i_e=np.array([600.0, 0.0])), 2, {"x": Delta()}, solver=RK4(4)
    )
    made = []
    for exchange in (Joint(), WaveformRelaxation(interval=0.5, tol=1e-8, max_iterations=40)):
        network = jsnn.Network(
            {"cells": cells},
            inputs={"s": SpikeList("cells", [1.0, 2.2, 4.0], [0, 1, 1], 2.0)},
            couplings={"gap": GapJunction("cells", "cells", Pairs([0], [1]), conductance=5.0)},
            dt=0.05,
            key=jax.random.key(0),
            exchange=exchange,
        )
        made.append(membranes(network, 30.0))
    assert np.any(np.diff(made[0], axis=0) < -10.0)  # resets
    np.testing.assert_allclose(made[1], made[0], rtol=0, atol=1e-6)


CELLS = {"cells": interneurons(3)}
GAP = GapJunction("cells", "cells", AllToAll(), conductance=1.0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: GapJunction("cells", "cells", AllToAll(), conductance=-0.5),
            ValueError,
            "conductance=-0.5 must be at least 0",
        ),
        (
            lambda: GapJunction("cells", "cells", AllToAll(), conductance=np.nan),
            ValueError,
            "conductance=nan is not finite",
        ),
        (lambda: GapJunction("cells", "cells", "all", conductance=1.0), TypeError, "no connection"),
        (lambda: GapJunction(3, "cells", AllToAll(), conductance=1.0), TypeError, "pre=3"),
        (
            lambda: GapJunction("cells", "cells", AllToAll(), conductance=1.0, symmetric=2),
            TypeError,
            "symmetric=2",
        ),
        (
            lambda: jsnn.Network(
                CELLS,
                couplings={"gap": GapJunction("cels", "cells", AllToAll(), conductance=1.0)},
                dt=0.05,
                key=jax.random.key(0),
            ),
            ValueError,
            "coupling 'gap': 'cels'.*did you mean 'cells'",
        ),
        (
            lambda: jsnn.Network(
                CELLS,
                couplings={"gap": GapJunction("cells", "cells", AllToAll(), conductance=[1.0] * 4)},
                dt=0.05,
                key=jax.random.key(0),
            ),
            ValueError,
            r"coupling 'gap': conductance has shape \(4,\).*\(9,\)",
        ),
        (
            lambda: jsnn.Network(
                CELLS,
                couplings={
                    "gap": GapJunction("cells", "cells", AllToAll(), conductance=Normal(0.0, 1.0))
                },
                dt=0.05,
                key=jax.random.key(0),
            ),
            ValueError,
            "(?s)coupling 'gap': conductance=.* must be at least 0",
        ),
        (
            lambda: jsnn.Network(CELLS, couplings={"gap": GAP}, dt=0.05),
            ValueError,
            "key is missing",
        ),
        (
            lambda: jsnn.Network(CELLS, couplings=[GAP], dt=0.05, key=jax.random.key(0)),
            TypeError,
            "couplings=.* is not a dictionary",
        ),
        (
            lambda: jsnn.Network(
                CELLS, couplings={"gap": GAP}, dt=0.05, key=jax.random.key(0), exchange="joint"
            ),
            TypeError,
            "exchange='joint'; give Joint",
        ),
        (
            lambda: jsnn.Network(
                {"a": interneurons(2, RK4(8)), "b": interneurons(2, Splitting((4, 6)))},
                couplings={"gap": GapJunction("a", "b", AllToAll(), conductance=1.0)},
                dt=0.05,
                key=jax.random.key(0),
            ),
            ValueError,
            r"'a' and 'b' are coupled.*RK4\(substeps=8\).*Splitting\(substeps=\(4, 6\)\)",
        ),
        (
            lambda: jsnn.Network(
                {"a": jsnn.Population(LIF(), 2, solver=Exact())},
                couplings={"gap": GapJunction("a", "a", AllToAll(), conductance=1.0)},
                dt=0.05,
                key=jax.random.key(0),
            ),
            ValueError,
            r"population 'a': solver=Exact\(\).*coupled.*RK4",
        ),
        (lambda: WaveformRelaxation(order=2), ValueError, "order=2; give 0, 1 or 3"),
        (lambda: WaveformRelaxation(max_iterations=-1), ValueError, "max_iterations=-1 is neg"),
        (lambda: WaveformRelaxation(max_iterations=2.5), TypeError, "max_iterations=2.5"),
        (lambda: WaveformRelaxation(max_iterations=0), ValueError, "interval=None, order=0"),
        (lambda: WaveformRelaxation(tol=0.0), ValueError, "tol=0.0 must be above 0"),
        (lambda: WaveformRelaxation(interval=-1.0), ValueError, "interval=-1.0 must be above"),
        (
            lambda: both_ways(WaveformRelaxation(interval=0.13)),
            ValueError,
            "interval=0.13 ms is no",
        ),
        (
            lambda: both_ways(WaveformRelaxation(), delay=0.5),
            ValueError,
            "interval=1 ms .* least delay of 0.5 ms",
        ),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_is_put_in_later_is_looked_at():
    network = both_ways(Joint())
    state = network.init(jax.random.key(1))
    for value, message in ((-1.0, "must be at least 0"), (np.ones(3), "has shape")):
        worse = eqx.tree_at(lambda n: n.couplings["gap"].conductance, network, jnp.asarray(value))
        with pytest.raises(ValueError, match=f"coupling 'gap': conductance.*{message}"):
            jsnn.simulate(worse, state, 3)


def test_states_of_other_exchanges_are_refused():
    joint, relaxed = both_ways(Joint()), both_ways(WaveformRelaxation())
    with pytest.raises(ValueError, match="relaxes waveforms"):
        jsnn.simulate(relaxed, joint.init(jax.random.key(1)), 3)
    shorter = both_ways(WaveformRelaxation(interval=0.5))
    with pytest.raises(ValueError, match="waveforms of 'a'"):
        jsnn.simulate(relaxed, shorter.init(jax.random.key(1)), 3)


@pytest.mark.parametrize("name", ["cell", "receptors", "v"])
def test_populations_may_have_any_name(x64, name):
    """Solvers tell states by where they stand, not by what populations are called."""
    made = []
    for own in ("a", name):
        network = jsnn.Network(
            {own: interneurons(3, Splitting((2, 4)))},
            couplings={"gap": GapJunction(own, own, AllToAll(), conductance=1.0)},
            dt=0.05,
            key=jax.random.key(1),
        )
        made.append(membranes(network, 2.0))
    np.testing.assert_array_equal(*made)


def test_solver_and_exchange_put_in_later_are_looked_at():
    network = both_ways(Joint())
    state = network.init(jax.random.key(1))
    solver = lambda n: n.populations["b"].solver  # noqa: E731
    with pytest.raises(ValueError, match="'a' and 'b' are coupled"):
        jsnn.simulate(eqx.tree_at(solver, network, Euler()), state, 3)
    with pytest.raises(TypeError, match="exchange='x'; give Joint"):
        jsnn.simulate(eqx.tree_at(lambda n: n.exchange, network, "x"), state, 3)
    longer = eqx.tree_at(lambda n: n.exchange, network, WaveformRelaxation(interval=2.0))
    with pytest.raises(ValueError, match="interval=2 ms .* least delay of 1 ms"):
        longer.init(jax.random.key(1))
        jsnn.simulate(longer, state, 3)


def test_a_name_is_of_a_projection_or_of_a_coupling():
    with pytest.raises(ValueError, match=r"\['x'\] are names of projections and of couplings"):
        jsnn.Network(
            CELLS,
            {"x": jsnn.Projection("cells", "cells", AllToAll(), weight=1.0, delay=1.0)},
            couplings={"x": GAP},
            dt=0.05,
            key=jax.random.key(0),
        )


@pytest.mark.slow
def test_more_gap_junctions_than_memory_holds():
    many = GapJunction("cells", "cells", FixedTotalNumber(2_000_000_000), conductance=1.0)
    with pytest.raises(ValueError, match=r"coupling 'gap': 2e\+09 gap junctions needs about"):
        jsnn.Network(CELLS, couplings={"gap": many}, dt=0.05, key=jax.random.key(0))
