"""Structural plasticity: the bookkeeping of elements and edges, and what updates make of them.

The laws are checked on updates by themselves, with elements that a test changes as growth would;
then within runs.
"""

# Arguments of wrong types are the point of some tests.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import nest
import numpy as np
import pytest
from helpers import assert_same
from scipy import stats

import jsnn
from jsnn._rewire import rewired_state
from jsnn.connect import FixedIndegree, NoEdges, Pairs
from jsnn.distributions import Normal, Uniform
from jsnn.growth import Calcium, Gaussian, Linear, SynapticElements
from jsnn.inputs import Poisson, SpikeList
from jsnn.neurons import LIF
from jsnn.receptors import Exponential
from jsnn.record import Spikes, States
from jsnn.rewire import ByDistance, Growing, Rewiring

N = {"exc": 30, "inh": 9}


def fixed(*names):
    """Elements that do not grow by themselves."""
    return {name: SynapticElements(growth_rate=0.0) for name in names}


def cells(n, elements=None, **options):
    elements = fixed("axon", "dendrite") if elements is None else elements
    receptors = {"ex": Exponential(2.0), "in": Exponential(4.0)}
    return jsnn.Population(LIF(), n, receptors, elements=elements, **options)


def still(growing=None, rule=None, n=N, **projection):
    """Populations whose elements do not grow by themselves, joined in both directions."""
    growing = Growing("axon", "dendrite") if growing is None else growing
    rule = NoEdges() if rule is None else rule
    given = {"weight": 1.0, "delay": 1.0, "receptor": "ex", **projection}
    return jsnn.Network(
        {name: cells(size) for name, size in n.items()},
        {"p": jsnn.Projection(list(n), list(n), rule, growing=growing, **given)},
        dt=0.1,
        key=jax.random.key(1),
        rewiring=Rewiring(10.0),
    )


def edges_of(net, state):
    """The two ends of all edges in the union of the populations, and what else they have."""
    first = dict(zip(net.populations, np.cumsum([0, *N.values()]), strict=False))
    found = {name: own for name, own in net.connections(state).items() if name in state.edges}
    pre = [own.pre + first[net.synapses[name].pre[0]] for name, own in found.items()]
    post = [own.post + first[net.synapses[name].post[0]] for name, own in found.items()]
    return np.concatenate(pre), np.concatenate(post)


def joined(net, state, name):
    return np.concatenate([np.asarray(state.populations[p].growth[name]) for p in net.populations])


def with_z(net, state, **z):
    """The state with other numbers of elements, over the union of the populations."""
    populations, done = dict(state.populations), 0
    for name, population in net.populations.items():
        growth = dict(populations[name].growth)
        for element, values in z.items():
            growth[element] = jnp.asarray(values[done : done + population.n], jnp.float32)
        populations[name] = replace(populations[name], growth=growth)
        done += population.n
    return replace(state, populations=populations)


def check_books(net, state):
    """The number of connected elements is that of the edges at every cell; nothing is negative, and
    edges stand in their rows."""
    pre, post = edges_of(net, state)
    n = sum(N.values())
    for element, ends in (("axon", pre), ("dendrite", post)):
        connected = joined(net, state, f"{element}.connected")
        np.testing.assert_array_equal(connected, np.bincount(ends, minlength=n))
        assert np.all(joined(net, state, element) >= 0)
    for store in state.edges.values():
        row_ptr, used = np.asarray(store.row_ptr), int(store.n_edges)
        assert np.all(np.diff(row_ptr) >= 0) and row_ptr[0] == 0 and used <= store.capacity
        lengths = np.diff(row_ptr)
        np.testing.assert_array_equal(store.pre[:used], np.repeat(np.arange(lengths.size), lengths))


OPTIONS = {
    "at random": {},
    "no autapses": {"autapses": False},
    "no multapses": {"multapses": False},
    "by distance": {
        "pairing": ByDistance(0.3, np.linspace(0, 1, 39)),
        "autapses": False,
        "multapses": False,
    },
}


@pytest.mark.slow_for("no multapses", "no autapses")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_books_are_kept(options):
    """Whatever elements do between two updates, edges and connected elements agree after each; kept
    edges are edges that were there; no cell has more connected elements than it has."""
    net = still(Growing("axon", "dendrite", capacity=300, **options))
    state = net.init(jax.random.key(3))
    update = eqx.filter_jit(lambda state: rewired_state(net, state))
    n, seen = sum(N.values()), []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        z = {
            element: np.maximum(
                joined(net, state, element) + rng.normal(0.4, 2.0, n) * rng.integers(0, 2, n), 0
            )
            for element in ("axon", "dendrite")
        }
        before = edges_of(net, state)
        state = with_z(net, replace(state, step=jnp.asarray(100 * seed)), **z)
        state = update(state)
        check_books(net, state)
        pre, post = edges_of(net, state)
        for element, ends in (("axon", pre), ("dendrite", post)):
            has = np.floor(joined(net, state, element))
            assert np.all(np.bincount(ends, minlength=n) <= has + 1e-6)
        assert int(state.status["projection/p"]) == jsnn.NEVER
        counts = np.zeros((2, n, n), int)
        for k, ends in enumerate((before, (pre, post))):
            np.add.at(counts[k], ends, 1)
        if not options.get("autapses", True):
            assert np.trace(counts[1]) == 0
        if not options.get("multapses", True):
            assert counts[1].max() <= 1
        seen.append((pre.size, np.maximum(counts[0] - counts[1], 0).sum()))
    assert max(size for size, _ in seen) > 20 and sum(lost for _, lost in seen) > 20


@pytest.mark.slow
def test_all_that_can_be_paired_is():
    """Without rules against it, one side has no vacant element left; then a tenth decays."""
    net = still()
    state = net.init(jax.random.key(1))
    n, rng = sum(N.values()), np.random.default_rng(1)
    z = {name: rng.uniform(0, 5, n) for name in ("axon", "dendrite")}
    after = rewired_state(net, with_z(net, state, **z))
    whole = {name: np.floor(own).sum() for name, own in z.items()}
    assert edges_of(net, after)[0].size == min(whole.values())
    for name, own in z.items():
        vacant = np.floor(own) - joined(net, after, f"{name}.connected")
        np.testing.assert_allclose(joined(net, after, name), own - 0.1 * vacant, rtol=1e-5)


@pytest.mark.slow
def test_pairs_are_uniform():
    """Every vacant element of a side finds each of the other with the same probability."""
    n = sum(N.values())
    net = still()
    axon, dendrite = np.arange(n) % 3, np.arange(n) % 4  # 38 axons for 57 dendrites
    state = with_z(net, net.init(jax.random.key(1)), axon=axon, dendrite=dendrite)
    update = eqx.filter_jit(jax.vmap(lambda key: rewired_state(net, replace(state, key=key)).edges))
    keys = jax.vmap(lambda k: net.init(k).key)(jax.random.split(jax.random.key(7), 400))
    edges = update(keys)
    counts = np.zeros((n, n))
    first = {"exc": 0, "inh": N["exc"]}
    for name, store in edges.items():
        (pre, *_), (post, *_) = net.synapses[name].pre, net.synapses[name].post
        used = np.arange(store.capacity) < np.asarray(store.n_edges)[:, None]
        ends = np.asarray(store.pre)[used] + first[pre], np.asarray(store.post)[used] + first[post]
        np.add.at(counts, ends, 1)
    np.testing.assert_array_equal(counts.sum(1), 400 * axon)  # the fewer are all connected
    expected = 400 * np.outer(axon, dendrite) / dendrite.sum()
    some = expected > 0
    assert counts[~some].sum() == 0
    chi2 = np.sum((counts[some] - expected[some]) ** 2 / expected[some])
    dof = np.count_nonzero(axon) * (np.count_nonzero(dendrite) - 1)
    # Drawn without replacement, so a little less than independent draws would have
    assert 1e-3 < stats.chi2.sf(chi2, dof) and chi2 / dof > 0.7


@pytest.mark.slow
def test_lost_synapses_are_chosen_uniformly():
    """A source that has to lose 3 of 12 synapses loses each with the same probability."""
    pre, post = np.zeros(12, int), np.arange(12)
    net = still(rule=Pairs(pre, post))
    state = net.init(jax.random.key(1))
    n = sum(N.values())
    axon, dendrite = np.zeros(n), (np.arange(n) < 12).astype(float)
    axon[0] = 9.0
    # Elements of sources that go around in the same update would be paired again
    state = with_z(net, state, axon=axon, dendrite=dendrite)
    lose = eqx.filter_jit(
        jax.vmap(lambda key: rewired_state(net, replace(state, key=key)).populations["exc"].growth)
    )
    keys = jax.vmap(lambda k: net.init(k).key)(jax.random.split(jax.random.key(5), 600))
    growth = lose(keys)
    # Of z, 2 of the 3 come back as vacant elements, and find two of the three dendrites
    assert np.all(np.asarray(growth["axon.connected"])[:, 0] == 11)
    alone = 12 - np.asarray(growth["dendrite.connected"])[:, :12].sum(1)
    assert np.all(alone == 1)
    lost = (np.asarray(growth["dendrite.connected"])[:, :12] == 0).sum(0)
    assert stats.chisquare(lost).pvalue > 1e-3


COUNTS = [(c, a, b) for c in (1, 2, 4) for a in (0, 0.5, 1.2, 2.7, 5.3) for b in (0.4, 2.2, 4.6)]


def nest_pairs(start):
    """Pairs of neurons with c synapses from one to the other and given numbers of elements, after
    the updates at 0 and at 10 ms on NEST. Each pair has elements of names of its own."""
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.structural_plasticity_update_interval = 10.0
    names = [f"{i:02d}" for i in range(len(start))]
    for own in names:
        nest.CopyModel("static_synapse", f"s{own}")
    nest.structural_plasticity_synapses = {
        f"s{own}": {
            "synapse_model": f"s{own}",
            "pre_synaptic_element": f"axon{own}",
            "post_synaptic_element": f"dendrite{own}",
        }
        for own in names
    }
    pairs = []
    for own, (c, *z) in zip(names, start, strict=True):
        ends = [
            nest.Create(
                "iaf_psc_alpha",
                1,
                {"synaptic_elements": {f"{kind}{own}": {"growth_rate": 0.0, "eps": 1.0}}},
            )
            for kind in ("axon", "dendrite")
        ]
        for _ in range(c):
            nest.Connect(
                *ends,
                "one_to_one",
                {
                    "synapse_model": f"s{own}",
                    "pre_synaptic_element": f"axon{own}",
                    "post_synaptic_element": f"dendrite{own}",
                },
            )
        for end, kind, value in zip(ends, ("axon", "dendrite"), z, strict=True):
            end.synaptic_elements_param = {f"{kind}{own}": {"z": value}}
        pairs.append((own, ends))
    nest.EnableStructuralPlasticity()
    found = []
    for _ in range(2):
        nest.Simulate(10.0)
        found.append(
            [
                [
                    end.synaptic_elements[f"{kind}{own}"][what]
                    for kind, end in zip(("axon", "dendrite"), ends, strict=True)
                    for what in ("z", "z_connected")
                ]
                for own, ends in pairs
            ]
        )
    return np.asarray(found)


def test_updates_are_those_of_nest(x64):
    """Two neurons, of which one has several synapses onto the other, have nothing to choose: what
    two updates make of any numbers of elements is NEST's, with all that is peculiar about it."""
    theirs = nest_pairs(COUNTS)
    n = len(COUNTS)
    net = jsnn.Network(
        {"a": cells(1, fixed("axon")), "b": cells(1, fixed("dendrite"))},
        {
            "p": jsnn.Projection(
                *("a", "b", NoEdges()),
                **{"weight": 1.0, "delay": 1.0, "receptor": "ex"},
                growing=Growing("axon", "dendrite", capacity=16),
            )
        },
        dt=0.1,
        key=jax.random.key(1),
        rewiring=Rewiring(10.0),
    )
    start = net.init(jax.random.key(1))
    c, *z = (np.asarray(own, float) for own in zip(*COUNTS, strict=True))

    def two_updates(c, a, b):
        growth = [
            {**start.populations[p].growth, name: own, f"{name}.connected": c}
            for p, name, own in (("a", "axon", a), ("b", "dendrite", b))
        ]
        populations = {
            p: replace(start.populations[p], growth=own)
            for p, own in zip(("a", "b"), growth, strict=True)
        }
        store = replace(start.edges["p"], row_ptr=jnp.stack([0 * c[0], c[0]]))
        state = replace(start, populations=populations, edges={"p": store})

        def one(state, step):
            state = rewired_state(net, replace(state, step=step))
            found = [
                state.populations[p].growth[what][0].astype(float)
                for p, name in (("a", "axon"), ("b", "dendrite"))
                for what in (name, f"{name}.connected")
            ]
            return state, jnp.append(jnp.stack(found), state.edges["p"].n_edges)

        return jax.lax.scan(one, state, jnp.asarray([0, 100], jnp.int32))[1]

    each = [jnp.asarray(own)[:, None] for own in (c.astype(np.int32), *z)]
    mine = np.asarray(jax.jit(jax.vmap(two_updates))(*each)).transpose(1, 0, 2)
    assert mine.shape == (2, n, 5)
    np.testing.assert_allclose(mine[..., :4], theirs, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(mine[..., 4], mine[..., 1])


def test_a_synapse_carries_what_is_fired_while_it_is_there():
    """One synapse more at each of five updates, then one less at each: what arrives at the target
    is, for every spike, the number of synapses that there were when it was fired."""
    interval, delay, every = 50, 13, 7  # steps
    growth = 1 / (interval * 0.1)  # one element an update
    axon = SynapticElements(Linear(1e9), growth, tau_vacant=0.0)
    dendrite = SynapticElements(Linear(1e9), 0.0, tau_vacant=0.0)
    fire = np.arange(3, 700, every)
    net = jsnn.Network(
        {
            "a": jsnn.Population(
                LIF(t_ref=0.1), 1, {"x": Exponential(0.02)}, elements={"axon": axon}
            ),
            "b": cells(1, {"dendrite": dendrite}, initial={"dendrite": 50.0}),
        },
        {
            "p": jsnn.Projection(
                *("a", "b", NoEdges()),
                **{"weight": 1.0, "delay": delay * 0.1, "receptor": "ex"},
                growing=Growing("axon", "dendrite"),
            )
        },
        {"drive": SpikeList("a", fire * 0.1, 0 * fire, 1e7)},
        dt=0.1,
        key=jax.random.key(1),
        rewiring=Rewiring(interval * 0.1),
    )
    record = {"a": Spikes("a"), "i": States("b", "ex.i"), "n": States("b", "dendrite.connected")}
    state = net.init(jax.random.key(1))
    first = jsnn.simulate(net, state, 293, record)
    rate = lambda n: n.populations["a"].growth.elements["axon"].growth_rate  # noqa: E731
    shrinking = eqx.tree_at(rate, net, -rate(net))
    second = jsnn.simulate(shrinking, first.state, 293, record)
    fired = np.concatenate([s.records["a"].listed().steps for s in (first, second)])
    assert fired.size > 40
    current = np.concatenate([s.records["i"].values for s in (first, second)])[:, 0]
    before = np.append(0, current[:-1]) * np.exp(-0.1 / 2.0)
    arrived = current - before
    there = np.concatenate([s.records["n"].values for s in (first, second)])[:, 0]
    expected = np.zeros(586)
    reaches = fired + delay < 586
    expected[fired[reaches] + delay] = there[fired[reaches]]
    np.testing.assert_allclose(arrived, expected, atol=1e-5)
    assert there.max() == 5 and there[-1] < 3 and (np.diff(there) < 0).sum() >= 3
    changes = 1 + np.flatnonzero(np.diff(there))
    assert np.all(changes % interval == 0)


def lively(capacity=None, delivery=None, new=None, n=N, pre="exc.half", post="exc", **given):
    """A network that grows and prunes within tenths of a second."""
    element = SynapticElements(Gaussian(0.0, 0.05), 0.02)
    options = {
        "calcium": Calcium(200.0, 0.01),
        "elements": {"axon": element, "dendrite": element},
        "initial": {"v": Uniform(-70.0, -55.0), "axon": Uniform(0.0, 3.0)},
    }
    populations = {
        name: jsnn.Population(
            LIF(),
            size,
            {"ex": Exponential(2.0), "in": Exponential(4.0)},
            slices={"half": slice(0, size // 2)},
            **options,
        )
        for name, size in n.items()
    }
    new = {"weight": 40.0} if new is None else new
    return jsnn.Network(
        populations,
        {
            "grows": jsnn.Projection(
                pre,
                post,
                FixedIndegree(1),
                growing=Growing("axon", "dendrite", capacity=capacity, **new),
                **{"weight": 60.0, "delay": 1.0, "receptor": "ex", **given},
            ),
            "stays": jsnn.Projection(
                "inh", "exc", FixedIndegree(2), weight=-30.0, delay=0.7, receptor="in"
            ),
        },
        {name: Poisson(name, 3700.0, 60.0, "ex", delay=0.5) for name in n},
        dt=0.1,
        key=jax.random.key(1),
        delivery=delivery,
        rewiring=Rewiring(10.0),
    )


RECORD = {
    "spikes": Spikes("exc"),
    "ca": States("exc", "ca", every=5.0),
    "axon": States("exc", "axon", every=5.0),
    "connected": States("exc", "dendrite.connected", every=2.5),
}


def listed(records):
    """Records of `run` and of `simulate` as plain arrays."""
    found = {}
    for name, own in records.items():
        own = own.listed() if hasattr(own, "listed") else own
        if name == "spikes":
            found[name] = np.stack([own.steps, own.index])
        else:
            found[name] = np.asarray(own.values)
    return found


@pytest.fixture(scope="module")
def net():
    return lively()


@pytest.fixture(scope="module")
def reference(net):
    """200 ms of it, in one piece."""
    return jsnn.run(net, 200.0, key=jax.random.key(2), record=RECORD, progress=False)


def same_edges(a, b):
    assert set(a) == set(b)
    for name in a:
        used = int(a[name].n_edges)
        assert used == int(b[name].n_edges)
        np.testing.assert_array_equal(a[name].row_ptr, b[name].row_ptr)
        for what in ("pre", "post", "weight", "delay"):
            own, other = getattr(a[name], what), getattr(b[name], what)
            assert (own is None) == (other is None)
            if own is not None:
                np.testing.assert_array_equal(own[:used], other[:used])


def assert_same_run(a, b):
    same_edges(a.state.edges, b.state.edges)
    assert_same(a.state.populations, b.state.populations)
    mine, other = listed(a.records), listed(b.records)
    for name in mine:
        np.testing.assert_array_equal(mine[name], other[name], err_msg=name)


def test_it_is_lively(net, reference):
    """What the tests below compare has grown and been lost."""
    begin, end = net.connections(), net.connections(reference.state)
    assert sum(own.pre.size for name, own in end.items() if name.startswith("grows")) > 40
    weights = np.concatenate([end[name].weight for name in reference.state.edges])
    assert {40.0, 60.0} == set(weights)  # some of the start are left, and new ones beside them
    assert np.count_nonzero(weights == 60.0) < sum(begin[n].pre.size for n in reference.state.edges)
    check_books_of_lively(net, reference.state)


def check_books_of_lively(net, state):
    for element, end in (("axon", "pre"), ("dendrite", "post")):
        for population, own in net.populations.items():
            counts = np.zeros(own.n, int)
            for name, found in net.connections(state).items():
                if name in state.edges and getattr(net.synapses[name], end)[0] == population:
                    np.add.at(counts, getattr(found, end), 1)
            connected = state.populations[population].growth[f"{element}.connected"]
            np.testing.assert_array_equal(connected, counts)


def test_books_at_every_update(net):
    state = net.init(jax.random.key(4))
    check_books_of_lively(net, state)  # edges of the start are connected elements
    for _ in range(8):
        state = jsnn.run(net, 10.0, state=state, progress=False).state
        check_books_of_lively(net, state)


@pytest.mark.parametrize("lengths", [(0.1, 9.8, 0.2, 189.9), (10.0, 190.0)])
def test_cut_into_runs(net, reference, lengths):
    """However a run is cut, also in the step before an update and in that of one."""
    state = net.init(jax.random.key(2))
    for length in lengths:
        state = jsnn.run(net, length, state=state, progress=False).state
    same_edges(state.edges, reference.state.edges)
    assert_same(state.populations, reference.state.populations)


@pytest.mark.slow
def test_records_of_runs(net, reference):
    """Where blocks end early, records go on where they were."""
    state, parts = net.init(jax.random.key(2)), []
    for length in (95.3, 104.7):
        solution = jsnn.run(net, length, state=state, record=RECORD, progress=False)
        state = solution.state
        parts.append(listed(solution.records))
    whole = listed(reference.records)
    for name in whole:
        axis = 1 if name == "spikes" else 0
        np.testing.assert_array_equal(np.concatenate([p[name] for p in parts], axis), whole[name])


def test_segments_and_checkpoints(net, reference, tmp_path):
    for duration in (50.0, 200.0):
        found = jsnn.run(
            *(net, duration),
            key=jax.random.key(2),
            record=RECORD,
            segment=30.0,
            checkpoint=tmp_path,
            progress=False,
        )
    assert_same_run(found, reference)


@pytest.mark.slow
def test_a_small_store_grows(net, reference, tmp_path):
    """A run that has to make room, more than once, gives the same; also from a checkpoint that was
    made after it had."""
    small = lively(capacity=12)
    for duration in (100.0, 200.0):
        found = jsnn.run(
            *(small, duration),
            key=jax.random.key(2),
            record=RECORD,
            segment=50.0,
            checkpoint=tmp_path,
            progress=False,
        )
    assert_same_run(found, reference)
    assert found.state.edges["grows"].capacity > 12


@pytest.mark.slow
def test_a_full_store_is_told():
    """`simulate` keeps what there was, and says when there was no room; `run` refuses to go on from
    there."""
    small = lively(capacity=12)
    solution = jsnn.simulate(small, small.init(jax.random.key(2)), 1000)
    step = int(solution.status["projection/grows"])
    assert step < 1000 and step % 100 == 0
    check_books_of_lively(small, solution.state)
    with pytest.raises(ValueError, match=r"'grows': the update at t=\S+ ms had no room.*capacity="):
        jsnn.run(small, 10.0, state=solution.state, progress=False)


@pytest.fixture(scope="module")
def blocks(net):
    return jsnn.simulate(net, net.init(jax.random.key(2)), 215, {"spikes": Spikes("exc")})


def test_blocks_equal_steps(net, blocks):
    state = net.init(jax.random.key(2))
    step, fired = eqx.filter_jit(net.step), []
    for _ in range(215):
        state, spikes = step(state)
        fired.append(np.asarray(spikes["exc"]))
    same_edges(blocks.state.edges, state.edges)
    assert_same(blocks.state.populations, state.populations, programs=2)
    steps, index = np.nonzero(np.asarray(fired))
    found = blocks.records["spikes"].listed()
    np.testing.assert_array_equal(np.stack([found.steps, found.index]), np.stack([steps, index]))


def test_segment_sum_gives_the_same_spikes(blocks):
    other = lively(delivery=jsnn.SegmentSum())
    found = jsnn.simulate(other, other.init(jax.random.key(2)), 215, {"spikes": Spikes("exc")})
    same_edges(found.state.edges, blocks.state.edges)
    np.testing.assert_array_equal(*(listed(s.records)["spikes"] for s in (found, blocks)))


@pytest.mark.slow
def test_batches(net, reference):
    """Several keys at once are what each is by itself; also from states that are at other steps."""
    keys = jnp.stack([jax.random.key(2), jax.random.key(3)])
    both = eqx.filter_jit(
        jax.vmap(lambda key: jsnn.simulate(net, net.init(key), 500, {"spikes": Spikes("exc")}))
    )(keys)
    for i, key in enumerate(keys):
        alone = jsnn.run(net, 50.0, key=key, progress=False)
        own = jax.tree.map(lambda leaf, i=i: leaf[i], both.state)
        same_edges(own.edges, alone.state.edges)
        assert_same(own.populations, alone.state.populations, programs=2)


@pytest.mark.slow
@pytest.mark.parametrize("near", [False, True])
def test_gradient_of_a_network_that_grows(near):
    """Of the weight of the synapses that are there at the start, and of how fast calcium decays."""
    new = {"pairing": ByDistance(2.0, np.arange(15.0), np.arange(30.0))} if near else {}
    net = lively(delivery=jsnn.SegmentSum(), weight=40.0, new={"weight": 40.0, **new})
    state = net.init(jax.random.key(2))

    def loss(net):
        found = jsnn.simulate(net, state, 120).state.populations
        return jnp.mean(found["exc"].cell["v"]) + jnp.mean(found["exc"].growth["ca"])

    gradient = eqx.filter_jit(eqx.filter_grad(loss))(net)
    name = next(iter(state.edges))
    assert np.isfinite(gradient.synapses[name].weight) and gradient.synapses[name].weight != 0
    assert np.isfinite(gradient.populations["exc"].growth.calcium.tau_ca)
    assert gradient.populations["exc"].growth.calcium.tau_ca != 0


def test_weights_and_delays_stay():
    """Each synapse of the start that is left has the weight and delay that it had; a new one those
    of new ones."""
    net = lively(
        new={"weight": 40.0, "delay": 1.7}, weight=Normal(60.0, 5.0), delay=Uniform(0.8, 1.5)
    )
    state = jsnn.run(net, 150.0, key=jax.random.key(2), progress=False).state
    begin, end = net.connections(), net.connections(state)
    left = made = 0
    for name in state.edges:
        rows = [np.stack(own[name], 1) for own in (begin, end)]
        is_new = (rows[1][:, 2] == 40.0) & (rows[1][:, 3] == 1.7)
        there = {tuple(row) for row in rows[0]}
        assert all(tuple(row) in there for row in rows[1][~is_new])
        left, made = left + np.sum(~is_new), made + np.sum(is_new)
    assert left > 5 and made > 10 and left < sum(begin[name].pre.size for name in state.edges)
