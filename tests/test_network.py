"""How networks are put together: what bad input gets, and reading connections back."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import jsnn
from jsnn._math import whole_steps, whole_steps_array
from jsnn._status import raise_if_failed
from jsnn.connect import AllToAll, Edges, FixedIndegree, OneToOne, Pairs, connect
from jsnn.distributions import LogNormal, Normal, Uniform
from jsnn.inputs import NoiseCurrent, Poisson, SpikeList, StepCurrent
from jsnn.neurons import LIF
from jsnn.receptors import Alpha, Delta, Exponential
from jsnn.record import Counts, Spikes, States
from jsnn.solvers import Exact

pytestmark = pytest.mark.fast

KEY = jax.random.key(1)
quick = settings(max_examples=60, deadline=None, derandomize=True)


def cells(n=10, **more):
    slices = {"exc": slice(0, 8), "inh": slice(8, n)}
    receptors = {"ampa": Exponential(2.0), "gaba": Alpha(3.0, e_rev=-80.0)}
    return jsnn.Population(LIF(), n, receptors, slices=slices, **more)


def network(projection=None, source=None, dt=0.1, **more):
    return jsnn.Network(
        {"cells": cells(), "other": jsnn.Population(LIF(), 4, {"d": Delta()})},
        {} if projection is None else {"p": projection},
        {} if source is None else {"s": source},
        **{"dt": dt, "key": KEY, **more},
    )


def projection(pre="cells", post="other", rule=None, weight=1.0, delay=1.0, receptor=None):
    rule = FixedIndegree(2) if rule is None else rule
    return jsnn.Projection(pre, post, rule, weight=weight, delay=delay, receptor=receptor)


def to_cells(receptor, **more):
    return projection(post="cells", receptor=receptor, **more)


BAD_NETWORKS = [
    (lambda: network(projection(pre="cell")), "unknown population 'cell': did you mean 'cells'"),
    (lambda: network(projection(post="zzz")), r"unknown population 'zzz': known are \['cells'"),
    (lambda: network(projection(pre="cells.ex")), "unknown slice 'ex': did you mean 'exc'"),
    (lambda: network(to_cells("amp")), "'p'.*unknown receptor 'amp': did you mean 'ampa'"),
    (lambda: network(to_cells(None)), "'p'.*receptor is missing.*'ampa', 'gaba'"),
    (lambda: network(to_cells("gaba", weight=-2.0)), "'p'.*weight=-2.*'gaba'.*negative"),
    (lambda: network(to_cells("gaba", weight=Normal(-1.0, 0.1))), "'p'.*weight=-.*'gaba'"),
    (lambda: network(projection(delay=0.25)), r"'p': delay=0\.25.*0\.2 and 0\.3"),
    (lambda: network(projection(delay=[0.1] * 7 + [0.15])), r"'p': delay=0\.15.*0\.1 and 0\.2"),
    (lambda: projection(delay=-1.0), "delay=.*-1.*at least 0"),
    (lambda: projection(delay=np.inf), "delay=.*inf.*finite"),
    (lambda: projection(delay=np.nan), "delay=.*nan.*finite"),
    (lambda: projection(weight=[1.0, np.nan]), "weight=.*nan.*finite"),
    (lambda: projection(weight=np.ones((2, 2))), r"weight has shape \(2, 2\)"),
    (lambda: network(projection(weight=[1.0, 2.0])), r"'p': weight has shape \(2,\).*\(8,\)"),
    (lambda: network(projection(delay=[1.0, 2.0])), r"'p': delay has shape \(2,\).*\(8,\)"),
    (lambda: projection(pre=[]), "pre is an empty list"),
    (lambda: network(projection(rule=FixedIndegree(11, multapses=False))), "'p'.*11.*10"),
    (lambda: network(projection(rule=OneToOne())), "'p'.*10.*4"),
    (lambda: network(projection(rule=Pairs([10], [0]))), "'p'.*10.*0 to 9"),
    (lambda: network(projection(delay=1e8)), "'p'.*delay"),
    (lambda: network(projection(), key=None), "key is missing.*jax.random.key"),
    (lambda: network(dt=0.0), "dt=.*0.*above 0"),
    (lambda: network(dt=np.nan), "dt=.*nan"),
    (lambda: network(dt=0.3), r"t_ref=2 ms.*dt=0\.3.*1\.8 and 2\.1"),
    (lambda: jsnn.Network({}, dt=0.1), "populations is empty"),
    (lambda: jsnn.Network({"a.b": cells()}, dt=0.1), "'a.b'.*dots"),
    (lambda: network(source=Poisson("cels", 1.0, 1.0)), "unknown population 'cels': did you mean"),
    (lambda: network(source=Poisson("cells", 1.0, 1.0)), "'s'.*receptor is missing"),
    (lambda: network(source=Poisson("cells", 1.0, -1.0, "gaba")), "'s'.*weight=-1.*'gaba'"),
    (lambda: network(source=SpikeList("other", [1.0], [4], 1.0)), r"'s'.*cells.*0\.\.3"),
    (lambda: network(source=NoiseCurrent("cells.inh", [1.0] * 3)), r"'s'.*mean.*\(3,\).*\(2,\)"),
    (lambda: network(source=StepCurrent("other", [0.25], [1.0])), r"'s'.*times=0\.25.*0\.2 and"),
    (lambda: jsnn.Population(LIF(), 0), "n=0"),
    (lambda: jsnn.Population(LIF(tau_m=[1.0, 2.0]), 3), r"tau_m has shape \(2,\).*\(3,\)"),
    (lambda: jsnn.Population(LIF(), 3, {"e": Exponential([1.0, 2.0])}), r"e\.tau.*\(2,\).*\(3,\)"),
    (lambda: jsnn.Population(LIF(), 3, {"e.x": Delta()}), "'e.x'.*dots"),
    (lambda: jsnn.Population(LIF(), 3, slices={"x": slice(2, 5)}), "'x'.*not a part of 3"),
    (lambda: jsnn.Population(LIF(), 3, slices={"x": slice(2, 2)}), "'x'.*not a part of 3"),
    (lambda: jsnn.Population(LIF(), 3, initial={"w": 0.0}), "unknown state 'w'.*'v'"),
    (lambda: jsnn.Population(LIF(), 3, initial={"v": [1.0, 2.0]}), r"initial\['v'\].*\(2,\)"),
    (lambda: jsnn.Population(LIF(), 3, initial={"v": np.nan}), r"initial\['v'\].*nan"),
    (lambda: cells(solver=Exact()), r"Exact.*\['gaba'\].*RK4"),
    (lambda: LIF(tau_m=0.0), "tau_m=.*0.*above 0"),
    (lambda: LIF(c_m=-1.0), "c_m=.*-1.*above 0"),
    (lambda: LIF(t_ref=-0.1), "t_ref=.*at least 0"),
    (lambda: LIF(v_reset=-50.0), "v_reset=-50.*v_th=-55"),
    (lambda: LIF(e_l=np.inf), "e_l=.*inf.*finite"),
    (lambda: Exponential(0.0), "tau=.*above 0"),
    (lambda: Alpha(1.0, e_rev=np.nan), "e_rev=.*nan"),
    (lambda: Uniform(2.0, 1.0), "low=2.*high=1"),
    (lambda: Normal(0.0, -1.0), "std=.*-1"),
    (lambda: Normal(0.0, 1.0, 3.0, 2.0), "low=3.*high=2"),
    (lambda: LogNormal(np.nan, 1.0), "mu=.*nan"),
    (lambda: network().on(0), "devices=0"),
]


@pytest.mark.parametrize("make, message", BAD_NETWORKS, ids=[m for _, m in BAD_NETWORKS])
def test_bad_values_are_named_with_a_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()


BAD_TYPES = [
    (lambda: projection(rule=FixedIndegree), "rule=.*FixedIndegree"),
    (lambda: projection(rule="all_to_all"), "rule='all_to_all'"),
    (lambda: projection(weight="heavy"), "weight='heavy'.*number"),
    (lambda: projection(delay="1 ms"), "delay='1 ms'.*number"),
    (lambda: projection(weight=None), "weight=None"),
    (lambda: jsnn.Population(LIF(), 2.0), "n=2.0"),
    (lambda: jsnn.Population(LIF(), True), "n=True"),
    (lambda: jsnn.Population(LIF(), 3, {"e": 2.0}), "'e'.*2.0.*Exponential"),
    (lambda: jsnn.Population(LIF(), 3, slices={"x": [0, 1]}), r"'x'.*\[0, 1\]"),
    (lambda: jsnn.Population(LIF(), 3, slices={"x": slice(0, 3, 2)}), "'x'.*without a step"),
    (lambda: jsnn.Population(3.0, 3), "neuron=3.0"),
    (lambda: jsnn.Population(LIF(), 3, solver=Exact), "solver="),
    (lambda: jsnn.Network({"a": LIF()}, dt=0.1), "'a' is a LIF"),
    (lambda: network("p"), "'p' is a str"),
    (lambda: network(source=projection()), "'s' is a Projection"),
    (lambda: network(dt="0.1"), "dt='0.1'.*number"),
    (lambda: network(delivery="fast"), "delivery='fast'"),
    (lambda: LIF(tau_m=None), "tau_m=None"),
]


@pytest.mark.parametrize("make, message", BAD_TYPES, ids=[m for _, m in BAD_TYPES])
def test_wrong_types_are_named(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@quick
@given(st.sampled_from([0.01, 0.025, 0.05, 0.1, 0.125, 1 / 3, 1.0]), st.integers(0, 10**6))
def test_whole_multiples_of_dt_are_taken_as_such(dt, steps):
    assert whole_steps("t", steps * dt, dt) == steps
    if steps * dt < 30 and dt >= 0.1:  # also as float32 holds them
        assert whole_steps("t", np.float32(steps * dt), dt) == steps


@quick
@given(st.floats(1e-3, 2.0), st.integers(0, 10**5), st.floats(0.002, 0.998))
def test_times_off_the_grid_raise_with_the_nearest_on_it(dt, steps, part):
    time = (steps + part) * dt
    assume(0.0015 < time / dt % 1 < 0.9985)
    with pytest.raises(ValueError, match="duration=.*nearest are") as caught:
        whole_steps("duration", time, dt)
    low, high = map(float, re.search(r"nearest are (\S+) and (\S+) ms", str(caught.value)).groups())
    assert low < time < high
    assert abs(high - low - dt) < 1e-6 + 1e-9 * time
    assert whole_steps("duration", steps * dt, dt) == steps


@quick
@given(
    st.sampled_from(["tau_m", "c_m", "e_l", "v_th", "v_reset", "t_ref", "i_e"]),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.integers(0, 3),
)
def test_numbers_that_are_not_finite_are_refused_anywhere(name, bad, at):
    values = np.full(4, {"v_reset": -80.0, "v_th": -40.0}.get(name, 1.0))
    values[at] = bad
    assume((name, bad) != ("v_th", np.inf))  # a membrane that never fires
    with pytest.raises(ValueError, match=name):
        LIF(**{name: values})


@quick
@given(st.integers(1, 6), st.integers(1, 6))
def test_parameters_have_one_number_or_one_for_each_cell(n, m):
    assume(n != m)
    with pytest.raises(ValueError, match=rf"tau_m has shape \({m},\).*\({n},\)"):
        jsnn.Population(LIF(tau_m=np.ones(m)), n)
    assert jsnn.Population(LIF(tau_m=np.ones(n)), n).n == n


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(0, 60))
def test_given_edges_are_read_back(seed, n_edges):
    """In any order, with repeated pairs; each keeps its weight and its delay."""
    rng = np.random.default_rng(seed)
    pre, post = rng.integers(0, 8, n_edges), rng.integers(0, 2, n_edges)
    weight, delay = rng.permutation(n_edges) * 0.5, rng.integers(0, 40, n_edges) * 0.1
    made = network(to_cells("ampa", weight=weight, delay=delay, rule=Pairs(pre, post)))
    found = made.connections()["p"]
    order = np.lexsort((post, pre))  # stable, as repeated pairs keep their order
    for name, wanted in (("pre", pre), ("post", post), ("weight", weight), ("delay", delay)):
        np.testing.assert_allclose(getattr(found, name), wanted[order], atol=1e-9, err_msg=name)


def test_edges_of_slices_count_within_their_populations():
    made = network(
        jsnn.Projection(
            "cells.inh", "cells.exc", AllToAll(), weight=1.0, delay=1.0, receptor="gaba"
        )
    )
    found = made.connections()["p"]
    np.testing.assert_array_equal(found.pre, np.repeat([8, 9], 8))
    np.testing.assert_array_equal(found.post, np.tile(np.arange(8), 2))
    assert found.weight.shape == found.delay.shape == (16,)
    assert made.n_synapses == 16


def lists(rule, weight=1.0, delay=1.0):
    populations = {"a": cells(), "b": jsnn.Population(LIF(), 5, {"ampa": Delta()})}
    listed = {
        "p": jsnn.Projection(
            ["a.inh", "b"], ["b", "a.exc"], rule, weight=weight, delay=delay, receptor="ampa"
        )
    }
    return jsnn.Network(populations, listed, dt=0.1, key=KEY).connections()


def test_a_rule_over_lists_is_drawn_over_their_union_and_split():
    found = lists(FixedIndegree(6, multapses=False, autapses=False), Uniform(1, 2), Uniform(0.5, 3))
    names = {f"p/{pre}->{post}" for pre in ("a.inh", "b") for post in ("b", "a.exc")}
    assert set(found) == names
    for post, cells_ in (("b", range(5)), ("a.exc", range(8))):
        degrees = sum(
            np.bincount(found[f"p/{pre}->{post}"].post, minlength=10) for pre in ("a.inh", "b")
        )
        assert degrees[list(cells_)].tolist() == [6] * len(cells_)
    inner = found["p/b->b"]
    assert inner.pre.size and not np.any(inner.pre == inner.post)
    assert all(np.all(own.pre >= 8) for name, own in found.items() if "a.inh->" in name)
    weights = np.concatenate([own.weight for own in found.values()])
    assert len(np.unique(weights)) == 78  # each edge has its own


def test_values_given_for_lists_go_with_their_edges():
    """The union counts a.inh as 0, 1 and b as 2..6; then b as 0..4 and a.exc as 5..12."""
    pre, post = np.array([6, 0, 2, 1, 6]), np.array([12, 4, 5, 5, 0])
    found = lists(Pairs(pre, post), [1.0, 2.0, 3.0, 4.0, 5.0], [0.1, 0.2, 0.3, 0.4, 0.5])
    edges = {
        name: list(zip(*(np.round(x, 6).tolist() for x in own), strict=True))
        for name, own in found.items()
    }
    assert edges == {
        "p/a.inh->b": [(8, 4, 2.0, 0.2)],
        "p/a.inh->a.exc": [(9, 0, 4.0, 0.4)],
        "p/b->b": [(4, 0, 5.0, 0.5)],
        "p/b->a.exc": [(0, 0, 3.0, 0.3), (4, 7, 1.0, 0.1)],
    }


NARROW = [np.float32, jnp.float32]


@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("dt", [0.1, 0.05, 0.025, 0.125, 0.001])
def test_a_narrow_dt_is_the_decimal_that_was_written(narrow, dt):
    """Its grid is that of the decimal, whatever the duration."""
    net = network(dt=narrow(dt))
    assert net.dt == dt and type(net.dt) is float
    for seconds in (1, 10, 1000):
        assert whole_steps("duration", 1e3 * seconds, net.dt) == round(1e3 * seconds / dt)
    with pytest.raises(ValueError, match="no whole number"):
        whole_steps("duration", 1e4 + 0.4 * dt, net.dt)


@pytest.mark.parametrize("make", [np.float32, jnp.float32, lambda x: np.full(3, x, np.float32)])
@pytest.mark.parametrize("steps", [3, 10_003, 100_007, 1_000_003])
def test_narrow_times_of_any_length_are_on_the_grid(make, steps):
    """To within the rounding of their type, and no further."""
    time = make(steps * 0.1)
    assert np.all(whole_steps_array("t", time, 0.1) == steps)
    with pytest.raises(ValueError, match="no whole number"):
        whole_steps_array("t", make((steps + 0.4) * 0.1), 0.1)


@pytest.mark.parametrize("half", [np.float16, jnp.bfloat16])
def test_a_dt_of_half_precision_is_refused(half):
    with pytest.raises(TypeError, match="dt has dtype b?float16; give real numbers of float32"):
        network(dt=half(0.1))


def test_a_type_that_cannot_tell_two_steps_apart_is_refused_off_the_grid():
    """One of float32 is 4 ms long at 2**25 ms."""
    assert whole_steps("t", np.float32(2**25), 0.125) == 2**28
    with pytest.raises(ValueError, match="no whole number"):
        whole_steps("t", np.float32(2**25), 0.3)


@pytest.mark.parametrize("narrow", NARROW)
def test_narrow_times_wherever_times_are_given(narrow):
    """At 1,000 s the rounding of float32 is a third of a step."""
    late = narrow(1000000.1)
    net = network(
        projection(delay=np.full(8, narrow(10000.7)), rule=FixedIndegree(2)),
        SpikeList("other", [late], [0], 1.0, delay=narrow(0.3)),
        dt=narrow(0.1),
    )
    assert np.all(net.connections()["p"].delay == 10000.7)
    assert net.inputs["s"]._steps[0] == 10000001
    step = StepCurrent("other", [narrow(0.1), late], [1.0, 2.0], delay=narrow(0.1))
    assert step.on_grid(0.1)._steps[:2].tolist() == [1, 10000001]
    noise = NoiseCurrent("other", 0.0, 1.0, interval=narrow(0.3), start=narrow(0.7), stop=late)
    assert (noise.interval, noise.start, noise.stop) == (0.3, 0.7, 1000000.1)
    assert hash(Counts("other", narrow(0.1))) == hash(Counts("other", 0.1))
    refractory = jsnn.Population(LIF(t_ref=narrow(10000.7)), 1, {"d": Delta()}).checked(0.1)
    assert refractory.prepare(0.1).refractory_steps == 100007


def test_drawn_delays_are_whole_steps_of_at_least_one():
    with pytest.raises(ValueError, match="'p': a delay of .* ms was drawn.*lower bound"):
        network(projection(delay=Normal(0.2, 1.0), rule=AllToAll()))
    drawn = projection(delay=Normal(0.2, 1.0, low=0.1), rule=AllToAll())
    found = network(drawn).connections()["p"]
    steps = found.delay / 0.1
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)
    assert steps.min() > 0.99 and len(np.unique(found.delay)) > 5


def test_the_key_decides_everything_that_is_drawn():
    make = lambda key: network(projection(weight=Uniform(0, 1), delay=Uniform(1, 5)), key=key)
    same = zip(make(KEY).connections()["p"], make(KEY).connections()["p"], strict=True)
    assert all(np.array_equal(a, b) for a, b in same)
    other = make(jax.random.key(2)).connections()["p"]
    assert not np.array_equal(make(KEY).connections()["p"].weight, other.weight)


def test_the_block_is_the_least_delay():
    assert network(projection(delay=1.2)).block == 12
    assert network(projection(delay=[1.2] * 7 + [0.3])).block == 3
    assert network(projection(delay=0.0)).block == 1
    assert network().block > 1


def test_a_state_that_is_not_finite_is_reported_with_its_place_and_time():
    other = jsnn.Population(LIF(), 4, {"d": Delta()}, initial={"v": -60.0})
    source = SpikeList("a", [0.5, 0.7], [2, 2], 3e38)
    net = jsnn.Network({"a": other}, inputs={"s": source}, dt=0.1)
    state = net.init(KEY)
    raise_if_failed(net, state)
    solution = jsnn.simulate(net, state, 10)  # a spike resets the cell before it is infinite
    assert solution.status["a"] == jsnn.NEVER
    assert np.all(np.isfinite(solution.state.populations["a"].cell["v"]))
    bad = jax.tree.map(lambda x: x, state)
    bad.populations["a"].cell["v"] = bad.populations["a"].cell["v"].at[2].set(np.nan)
    solution = jsnn.simulate(net, bad, 10)
    assert solution.status["a"] < 10
    with pytest.raises(FloatingPointError, match="population 'a': v of cell 2 is nan"):
        raise_if_failed(net, solution.state)


def test_names_cannot_be_taken_for_others():
    """A projection between lists is split into "name/pre->post", which nobody may be called."""
    with pytest.raises(ValueError, match="'p/a->b'.*slashes"):
        jsnn.Network(network().populations, {"p/a->b": projection()}, dt=0.1, key=KEY)


def test_edges_are_checked():
    good = connect(FixedIndegree(2), 1, 10, 4)
    network(projection(rule=good))
    far = Edges(good.post.at[0].set(60000), good.row_ptr, 10, 4)
    with pytest.raises(ValueError, match="post of the edges is not within"):
        network(projection(rule=far))
    short = Edges(good.post, jnp.asarray(np.asarray(good.row_ptr) // 2), 10, 4)
    with pytest.raises(ValueError, match="row_ptr of the edges"):
        network(projection(rule=short))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: jsnn.Network({"cells": jsnn.Population(LIF(), 10**13)}, dt=0.1),
            "'cells': 10000000000000 cells needs .* GB",
        ),
        (lambda: network(projection(rule=FixedIndegree(10**12))), "'p': .* needs about .* GB"),
        (lambda: network(projection(delay=2e7)), "'p': the buffer of arrivals|'p': delays of"),
    ],
)
def test_what_the_machine_cannot_hold_is_refused_before_it_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Undrawn:
    """A rule that tells the number of its edges, and must not be asked for them."""

    def expected(self, n_pre, n_post):
        return 3e6

    def draw(self, rng, pre_ids, post_ids):
        raise AssertionError("drawn")


def small_machine(monkeypatch, megabytes):
    sizes = {"SC_PAGE_SIZE": 2**20, "SC_PHYS_PAGES": megabytes}
    monkeypatch.setattr("jsnn._memory.os.sysconf", sizes.__getitem__)


def test_what_only_its_parts_fit_is_refused(monkeypatch):
    """Edges with their own weights: 24 bytes each while they are made, then 5."""
    own = projection(rule=Undrawn(), weight=Uniform(0.0, 1.0))
    population = {"cells": cells(), "other": jsnn.Population(LIF(), 4, {"d": Delta()})}
    small_machine(monkeypatch, 80)
    with pytest.raises(AssertionError, match="drawn"):
        network(own)
    with pytest.raises(ValueError, match=r"needs about .* of 0\.087 GB in all, but .* has 0\.0839"):
        jsnn.Network(population, {"p": own, "q": own}, dt=0.1, key=KEY)


def test_records_beyond_the_machine_are_refused(monkeypatch):
    net = network()
    record = {"v": States("cells", "v"), "spikes": Spikes("cells")}
    small_machine(monkeypatch, 10)
    with pytest.raises(ValueError, match="record 'v' of 1000000 steps needs about 0.04 GB"):
        jsnn.run(net, 1e5, key=KEY, record=record)
    with pytest.raises(ValueError, match="record 'v' of 1000000 steps needs about 0.04 GB"):
        jsnn.simulate(net, net.init(KEY), 10**6, record)
