"""Tripartite rules: exact numbers and pools, distributions by chi-square and against NEST.

Seeds are fixed, so every statistical test is deterministic; each asks for p > 1e-3.
"""

# Arguments of wrong types are the point here, and SciPy's results are untyped.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jsnn.connect import (
    AllToAll,
    FixedIndegree,
    FixedOutdegree,
    FixedTotalNumber,
    OneToOne,
    Pairs,
    PairwiseBernoulli,
    connect,
)
from jsnn.tripartite import Tripartite, tripartite

# Every primary rule, and its number of edges among six cells and six others.
PRIMARIES = [
    (OneToOne(), 6),
    (AllToAll(), 36),
    (FixedIndegree(3), 18),
    (FixedOutdegree(3), 18),
    (FixedTotalNumber(23), 23),
    (PairwiseBernoulli(1.0), 36),
    (Pairs([5, 0, 0, 2], [1, 1, 1, 4]), 4),
]
# A pool of each kind for 24 targets: the rule without its primary, and the number of third cells.
POOLS = [
    ({}, 7),
    ({"pool_size": 1}, 7),
    ({"pool_size": 5}, 7),
    ({"pool_size": 1, "pool_type": "block"}, 8),
    ({"pool_size": 1, "pool_type": "block"}, 24),
    ({"pool_size": 3, "pool_type": "block"}, 72),
]


def matrix(edges):
    counts = np.zeros((edges.n_pre, edges.n_post), int)
    np.add.at(counts, (edges.pre, np.asarray(edges.post)), 1)
    return counts


def matrices(*args):
    """The numbers of edges from each cell to each: primary, third_in, third_out."""
    return [matrix(edges) for edges in tripartite(*args)]


@pytest.mark.parametrize(("primary", "n_edges"), PRIMARIES, ids=lambda x: type(x).__name__)
def test_every_primary_edge_is_paired(primary, n_edges):
    counts, to_third, from_third = matrices(Tripartite(primary, pool_size=2), 0, 6, 6, 5)
    assert counts.sum() == to_third.sum() == from_third.sum() == n_edges
    assert to_third.shape == (6, 5) and from_third.shape == (5, 6)
    assert np.array_equal(to_third.sum(1), counts.sum(1))
    assert np.array_equal(from_third.sum(0), counts.sum(0))


@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("pool", "n_third"), POOLS, ids=repr)
def test_each_end_in_has_its_end_out(pool, n_third, p):
    rule = Tripartite(FixedIndegree(40), p, **pool)
    counts, to_third, from_third = matrices(rule, 1, 30, 24, n_third)
    assert np.array_equal(to_third.sum(0), from_third.sum(1))
    assert (to_third.sum(1) <= counts.sum(1)).all() and (from_third.sum(0) <= 40).all()
    assert (from_third > 0).sum(0).max() <= (rule.pool_size or n_third)
    if p in (0, 1):
        assert to_third.sum() == p * counts.sum()


def test_the_primary_edges_are_those_of_connect():
    for primary, _ in PRIMARIES:
        edges = tripartite(Tripartite(primary, 0.5), 3, 6, 6, 5).primary
        assert eqx.tree_equal(edges, connect(primary, 3, 6, 6))


@pytest.mark.parametrize("p", [1.0, 0.6])
def test_pools_of_one_name_the_primary_edges(p):
    rule = Tripartite(FixedTotalNumber(3000), p, pool_size=1)
    counts, to_third, from_third = matrices(rule, 2, 12, 30, 9)
    assert ((from_third > 0).sum(0) == 1).all()
    belongs = np.eye(9, dtype=int)[from_third.argmax(0)]
    possible = counts @ belongs  # by way of all targets that share a third cell
    assert (to_third <= possible).all()
    assert np.array_equal(to_third, possible) == (p == 1)


@pytest.mark.parametrize("p", [1.0, 0.6])
def test_blocks_name_the_primary_edges(p):
    rule = Tripartite(FixedTotalNumber(2000), p, pool_size=4, pool_type="block")
    counts, to_third, from_third = matrices(rule, 2, 12, 15, 60)
    paired = to_third.reshape(12, 15, 4).sum(2)
    assert np.array_equal(paired.sum(0), from_third.sum(0))
    assert (paired <= counts).all()
    assert np.array_equal(paired, counts) == (p == 1)


@pytest.mark.parametrize("p", [1.0, 0.3])
def test_both_ends_of_a_pair_have_one_third_cell(p):
    _, to_third, from_third = matrices(Tripartite(OneToOne(), p, 20), 0, 500, 500, 50)
    assert np.array_equal(to_third, from_third.T) and to_third.any()


def test_block_pools():
    for n_post, n_third in ((12, 4), (12, 12), (12, 1)):
        shared = n_post // n_third
        rule = Tripartite(FixedIndegree(3), pool_size=1, pool_type="block")
        from_third = matrices(rule, 0, 5, n_post, n_third)[2]
        expected = 3 * np.equal.outer(np.arange(n_third), np.arange(n_post) // shared)
        assert np.array_equal(from_third, expected)
    rule = Tripartite(FixedIndegree(300), pool_size=4, pool_type="block")
    from_third = matrices(rule, 0, 5, 6, 24)[2]
    own = np.equal.outer(np.arange(24) // 4, np.arange(6))
    assert np.array_equal(from_third > 0, own)
    assert stats.chisquare(from_third[own]).pvalue > 1e-3
    whole = Tripartite(FixedIndegree(300), pool_type="block")  # all third cells, for one target
    assert (matrices(whole, 0, 5, 1, 7)[2] > 0).all()


@pytest.mark.parametrize("pool_size", [1, 3, 10, 15, 19, 20])
def test_random_pools_have_their_size_and_are_used_uniformly(pool_size):
    rule = Tripartite(FixedIndegree(400), pool_size=pool_size)
    from_third = matrices(rule, 1, 10, 300, 20)[2]
    assert ((from_third > 0).sum(0) == pool_size).all()
    within = from_third.T[from_third.T > 0].reshape(300, pool_size)
    if pool_size > 1:
        statistic = ((within - 400 / pool_size) ** 2).sum() * pool_size / 400
        assert 1e-3 < stats.chi2(300 * (pool_size - 1)).cdf(statistic) < 1 - 1e-3
    if pool_size < 20:
        # Cells of one pool exclude each other, hence the factor of sampling without replacement.
        members = (from_third > 0).sum(1)
        expected = 300 * pool_size / 20
        statistic = ((members - expected) ** 2).sum() / (expected * (20 - pool_size) / 19)
        assert 1e-3 < stats.chi2(19).cdf(statistic) < 1 - 1e-3


def test_pools_are_uniform_sets_drawn_for_each_target():
    rule = Tripartite(FixedIndegree(60), pool_size=2)
    from_third = matrices(rule, 0, 5, 6000, 6)[2]
    codes = (2 ** np.arange(6)) @ (from_third > 0)
    seen, counts = np.unique(codes, return_counts=True)
    assert len(seen) == 15 and stats.chisquare(counts).pvalue > 1e-3
    neighbours = np.zeros((64, 64), int)
    np.add.at(neighbours, (codes[:-1:2], codes[1::2]), 1)
    assert stats.chisquare(neighbours[np.ix_(seen, seen)].ravel()).pvalue > 1e-3


def test_edges_of_one_target_draw_independently():
    rule = Tripartite(FixedIndegree(2), pool_size=4, pool_type="block")
    edges = tripartite(rule, 0, 5, 8000, 32_000).third_out
    third = edges.pre[np.argsort(edges.post, kind="stable")].reshape(8000, 2) % 4
    pairs, counts = np.unique(third, axis=0, return_counts=True)
    assert len(pairs) == 10
    assert stats.chisquare(counts, 8000 / 16 * (1 + (pairs[:, 0] != pairs[:, 1]))).pvalue > 1e-3


@pytest.mark.parametrize("n_third", [256, 257, 65_536, 65_537])
def test_large_pools_reach_their_last_cell(n_third):
    for pool_size in (None, n_third - 1):
        edges = tripartite(Tripartite(FixedIndegree(9 * n_third), 1, pool_size), 0, 3, 1, n_third)
        assert edges.third_in.post.dtype == (jnp.uint16 if n_third <= 65_536 else jnp.int32)
        used = np.bincount(edges.third_in.post, minlength=n_third)
        assert used[-10:].all() and used[:10].all()
        assert used.max() < 40 and np.count_nonzero(used) > 0.99 * n_third


@pytest.mark.parametrize("p", [1e-9, 1e-4, 0.1, 0.5, 0.97])
def test_pairing_probability(p):
    n_edges = 1_500_000
    edges = tripartite(Tripartite(FixedTotalNumber(n_edges), p, 3), 0, 500, 300, 40)
    n_paired = len(edges.third_in)
    assert n_paired == len(edges.third_out)
    distribution = stats.binom(n_edges, p)
    low, high = distribution.cdf(n_paired - 1), distribution.sf(n_paired)
    assert low < 1 - 1e-3 and high < 1 - 1e-3
    if p > 1e-3:  # whichever the source and the target
        for chosen, among in (
            (np.diff(edges.third_in.row_ptr), np.diff(edges.primary.row_ptr)),
            (np.bincount(edges.third_out.post), np.bincount(edges.primary.post)),
        ):
            table = np.array([chosen, among - chosen])
            assert 1e-3 < stats.chi2_contingency(table).pvalue < 1 - 1e-3


def test_edges_are_paired_independently_of_each_other():
    rule = Tripartite(AllToAll(), 0.3, pool_size=2, pool_type="block")
    _, to_third, _ = matrices(rule, 0, 300, 40, 80)
    paired = to_third.reshape(300, 40, 2).sum(2)
    assert paired.max() == 1
    neighbours = np.zeros((2, 2), int)
    np.add.at(neighbours, (paired[:, :-1:2].ravel(), paired[:, 1::2].ravel()), 1)
    assert stats.chi2_contingency(neighbours, correction=False).pvalue > 1e-3
    for axis, n in ((0, 300), (1, 40)):
        degrees = paired.sum(axis)
        statistic = ((degrees - 0.3 * n) ** 2).sum() / (0.3 * 0.7 * n)
        assert 1e-3 < stats.chi2(degrees.size).cdf(statistic) < 1 - 1e-3


@pytest.mark.parametrize("p_primary", [0.1, 0.3, 0.5])
def test_degrees_are_binomial(p_primary):
    n, p, pool_size = 100, 0.6, 5
    rule = Tripartite(PairwiseBernoulli(p_primary), p, pool_size)
    drawn = [tripartite(rule, seed, n, n, n) for seed in range(30)]
    for degrees, q in (
        ([np.diff(edges.primary.row_ptr) for edges in drawn], p_primary),
        ([np.bincount(edges.primary.post, minlength=n) for edges in drawn], p_primary),
        ([np.diff(edges.third_in.row_ptr) for edges in drawn], p_primary * p),
        ([np.bincount(edges.third_out.post, minlength=n) for edges in drawn], p_primary * p),
    ):
        cuts = stats.binom(n, q).ppf([0.1, 0.25, 0.4, 0.6, 0.75, 0.9])
        probabilities = np.diff([0, *stats.binom(n, q).cdf(cuts), 1])
        bins = [np.bincount(np.searchsorted(cuts, k), minlength=7) for k in degrees]
        pvalues = [stats.chisquare(b, n * probabilities).pvalue for b in bins]
        assert stats.kstest(pvalues, "uniform").pvalue > 1e-3
        assert stats.chisquare(sum(bins), 30 * n * probabilities).pvalue > 1e-3
    assert all((matrix(edges.third_out) > 0).sum(0).max() <= pool_size for edges in drawn)


@pytest.mark.parametrize("autapses", [True, False])
def test_autapses(autapses):
    cells = np.arange(50)
    rule = Tripartite(PairwiseBernoulli(1.0, autapses), pool_size=5)
    counts, to_third, from_third = matrices(rule, 0, 50, 50, 20, cells, cells)
    assert np.array_equal(counts, 1 - (not autapses) * np.eye(50))
    assert to_third.sum() == from_third.sum() == 50 * (50 - (not autapses))


def test_storage():
    drawn = tripartite(Tripartite(FixedIndegree(900), 0.7, 6), 0, 700, 900, 80)
    assert ((matrix(drawn.third_out) > 0).sum(0) == 6).all()
    for edges in drawn:
        assert edges.post.dtype == jnp.uint16 and isinstance(edges.post, jax.Array)
        assert edges.row_ptr[0] == 0 and edges.row_ptr[-1] == len(edges) > 2**19  # two chunks
        assert (np.diff(edges.pre.astype(np.int64) * edges.n_post + edges.post) >= 0).all()


def test_same_key_same_edges():
    rule = Tripartite(FixedIndegree(10), 0.5, 3)
    typed, raw = jax.random.key(4), jax.random.PRNGKey(4)
    draw = lambda key: tripartite(rule, key, 50, 60, 20)
    assert eqx.tree_equal(draw(typed), draw(typed), draw(raw))
    for a, b in zip(draw(typed), draw(jax.random.key(5)), strict=True):
        assert not eqx.tree_equal(a, b)
    fixed = Tripartite(AllToAll(), 1.0, 3)  # pools and choices differ, not only the primary edges
    a, b = (tripartite(fixed, seed, 50, 60, 20) for seed in (4, 5))
    assert eqx.tree_equal(a.primary, b.primary)
    assert not eqx.tree_equal(a.third_out, b.third_out)
    with pytest.raises(TypeError, match="traced"):
        jax.jit(draw)(typed)


def test_rules_are_values():
    assert Tripartite(AllToAll(), 1, np.int64(3)) == Tripartite(AllToAll(), 1.0, 3)
    assert type(Tripartite(AllToAll(), np.float32(0.5)).p) is float


def block(n_post, n_third, pool_size):
    rule = Tripartite(OneToOne(), pool_size=pool_size, pool_type="block")
    return lambda: tripartite(rule, 0, n_post, n_post, n_third)


# What bad input gets: the kind of error, and words of its message.
ANY = Tripartite(AllToAll())
BAD = [
    (lambda: Tripartite("all"), TypeError, "Tripartite: primary='all' is no connection rule; give"),
    (lambda: Tripartite(AllToAll), TypeError, "is no connection rule; give one, as FixedIndegree"),
    (lambda: Tripartite(ANY), TypeError, "Tripartite: primary=Tripartite(primary=AllToAll("),
    (
        lambda: Tripartite(AllToAll(), -0.1),
        ValueError,
        "Tripartite: p=-0.1 is no probability; give",
    ),
    (
        lambda: Tripartite(AllToAll(), 1.5),
        ValueError,
        "p=1.5 is no probability; give one from 0 to",
    ),
    (lambda: Tripartite(AllToAll(), float("nan")), ValueError, "p=nan is no probability"),
    (lambda: Tripartite(AllToAll(), True), TypeError, "Tripartite: p=True is not a number"),
    (lambda: Tripartite(AllToAll(), "0.1"), TypeError, "Tripartite: p='0.1' is not a number"),
    (lambda: Tripartite(AllToAll(), pool_size=0), ValueError, "pool_size=0: give at least 1 third"),
    (lambda: Tripartite(AllToAll(), pool_size=-1), ValueError, "pool_size=-1 is negative"),
    (lambda: Tripartite(AllToAll(), pool_size=2.0), TypeError, "pool_size=2.0 is not an integer"),
    (lambda: Tripartite(AllToAll(), pool_size=True), TypeError, "pool_size=True is not an integer"),
    (
        lambda: Tripartite(AllToAll(), pool_type="ring"),
        ValueError,
        "Tripartite: pool_type='ring' is unknown; give 'random' or 'block'",
    ),
    (lambda: Tripartite(AllToAll(), pool_type=None), ValueError, "pool_type=None is unknown"),
    (
        lambda: tripartite(Tripartite(AllToAll(), pool_size=6), 0, 3, 4, 5),
        ValueError,
        "pool_size=6, but there are n_third=5 third cells; give at most 5, or None for all",
    ),
    (
        block(4, 9, 2),
        ValueError,
        "blocks of pool_size=2 do not fit n_post=4 targets and n_third=9 third cells; give "
        "n_third = n_post * pool_size, or pool_size=1 and n_post a multiple of n_third, or "
        "pool_type='random'",
    ),
    (block(4, 3, 1), ValueError, "blocks of pool_size=1 do not fit n_post=4 targets and n_third=3"),
    (block(2, 4, None), ValueError, "blocks of pool_size=4 do not fit n_post=2 targets"),
    (lambda: tripartite(AllToAll(), 0, 3, 4, 5), TypeError, "is no tripartite rule; give one, as"),
    (lambda: tripartite(Tripartite, 0, 3, 4, 5), TypeError, "is no tripartite rule"),
    (lambda: tripartite(ANY, 0, 0, 4, 5), ValueError, "n_pre=0: give at least 1 cell"),
    (lambda: tripartite(ANY, 0, 3, 0, 5), ValueError, "n_post=0: give at least 1 cell"),
    (lambda: tripartite(ANY, 0, 3, 4, 0), ValueError, "n_third=0: give at least 1 cell"),
    (lambda: tripartite(ANY, 0, 3, 4, 5.0), TypeError, "n_third=5.0 is not an integer"),
    (lambda: tripartite(ANY, 0, 2, 2, 2, [0, 1]), ValueError, "only one of pre_ids and post_ids"),
    (lambda: tripartite(ANY, 0, 2, 2, 2, [0], [0]), ValueError, "pre_ids has length 1"),
    (lambda: tripartite(ANY, -1, 2, 2, 2), ValueError, "seed_or_key=-1 is negative"),
    (
        lambda: tripartite(Tripartite(OneToOne()), 0, 3, 4, 5),
        ValueError,
        "n_pre=3 and n_post=4 differ",
    ),
]


@pytest.mark.parametrize(("make", "error", "words"), BAD, ids=[words for _, _, words in BAD])
def test_bad_input(make, error, words):
    with pytest.raises(error, match=re.escape(words)):
        make()


# NEST: the same rule between populations of parrots.
SIZES = 40, 60, 30
PEER = [
    (PairwiseBernoulli(0.25), {"rule": "pairwise_bernoulli", "p": 0.25}),
    (FixedIndegree(10), {"rule": "fixed_indegree", "indegree": 10}),
    (FixedOutdegree(15), {"rule": "fixed_outdegree", "outdegree": 15}),
    (FixedTotalNumber(600), {"rule": "fixed_total_number", "N": 600}),
]


def nest_matrices(nest, spec, third_spec, sizes, seed=1):
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.FATAL
    nest.rng_seed = seed
    pre, post, third = (nest.Create("parrot_neuron", n) for n in sizes)
    third_spec = {"rule": "third_factor_bernoulli_with_pool"} | third_spec
    nest.TripartiteConnect(pre, post, third, spec, third_spec)
    out = []
    for sources, targets in ((pre, post), (pre, third), (third, post)):
        found = nest.GetConnections(sources, targets)
        ends = np.array([list(found.sources()), list(found.targets())], int).reshape(2, -1)
        counts = np.zeros((len(sources), len(targets)), int)
        np.add.at(counts, (ends[0] - sources[0].global_id, ends[1] - targets[0].global_id), 1)
        out.append(counts)
    return out


def assert_same_frequencies(a, b):
    a, b = np.ravel(a), np.ravel(b)
    top = max(a.max(), b.max()) + 1
    table = np.array([np.bincount(a, minlength=top), np.bincount(b, minlength=top)])
    table = table[:, table.sum(0) > 10]
    if table.shape[1] > 1:
        assert stats.chi2_contingency(table).pvalue > 1e-3
    else:
        assert set(a) == set(b)


@pytest.mark.parametrize(
    ("primary", "spec"), PEER, ids=lambda x: x["rule"] if isinstance(x, dict) else ""
)
@pytest.mark.parametrize("pool_size", [None, 4])
def test_same_statistics_as_nest(primary, spec, pool_size):
    nest = pytest.importorskip("nest")
    p, n_draws = 0.6, 30
    third_spec = {"p": p} | ({} if pool_size is None else {"pool_size": pool_size})
    rule = Tripartite(primary, p, pool_size)
    ours = [matrices(rule, s, *SIZES) for s in range(n_draws)]
    peer = [nest_matrices(nest, spec, third_spec, SIZES, s + 1) for s in range(n_draws)]
    ours, peer = ([np.array(kind) for kind in zip(*drawn, strict=True)] for drawn in (ours, peer))
    for kind in range(3):
        a, b = ours[kind].sum((1, 2)), peer[kind].sum((1, 2))
        assert stats.ks_2samp(a, b).pvalue > 1e-3 if np.ptp([a, b]) else kind == 0
    (_, to_a, from_a), (_, to_b, from_b) = ours, peer
    assert_same_frequencies(from_a.sum(1), from_b.sum(1))  # edges to each target
    assert_same_frequencies((from_a > 0).sum(1), (from_b > 0).sum(1))  # from distinct cells
    assert_same_frequencies(to_a.sum(2), to_b.sum(2))  # edges of each source
    assert_same_frequencies(from_a, from_b)  # repeated pairs
    # Third cells that share a draw are not independent: their degrees are compared by the spread.
    a, b = from_a.sum(2).std(1), from_b.sum(2).std(1)
    assert stats.ks_2samp(a, b).pvalue > 1e-3


def test_same_blocks_as_nest():
    """Whatever the sizes: the same pools, or both refuse them."""
    nest = pytest.importorskip("nest")
    n_accepted = 0
    for n_post in (1, 2, 4, 6):
        for n_third in (1, 2, 3, 6, 8):
            for pool_size in (None, 1, 2, 3, 9):
                third_spec = {"pool_type": "block"}
                third_spec |= {} if pool_size is None else {"pool_size": pool_size}
                rule = Tripartite(AllToAll(), 1.0, pool_size, "block")
                sizes = 150, n_post, n_third
                try:
                    peer = nest_matrices(nest, {"rule": "all_to_all"}, third_spec, sizes)
                except nest.NESTError:
                    with pytest.raises(ValueError, match="pool_size"):
                        tripartite(rule, 0, *sizes)
                    continue
                ours = matrices(rule, 0, *sizes)
                assert np.array_equal(ours[2] > 0, peer[2] > 0)
                n_accepted += 1
    assert n_accepted > 10
