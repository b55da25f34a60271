"""Edges that a third cell takes part in: NEST's `TripartiteConnect`, drawn on the host.

A primary rule connects sources with targets. Some of its edges are paired with a third cell, an
astrocyte: the source of such an edge also connects to the third cell (`third_in`), and the third
cell to the target (`third_out`). Rules and names are those of NEST's
`third_factor_bernoulli_with_pool`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jax import Array
from numpy.random import Generator
from numpy.typing import ArrayLike

from jsnn._draw import CHUNK, draw_rows, index_dtype, indices
from jsnn._names import explained
from jsnn.connect import Edges, Rule, check_rule, draw_edges, generator, probability, sort_edges
from jsnn.edges import narrow, population_size, whole_number


@explained
@dataclass(frozen=True)
class Tripartite:
    """Every edge of `primary` is paired with a third cell with probability `p`, independently.

    The third cell is drawn uniformly from the pool of the edge's target. All edges of a target
    share one pool, of `pool_size` cells (None for all of them). A "random" pool is a uniformly
    chosen set, drawn for each target independently. "block" pools lie side by side: target i has
    the third cells from `i * pool_size` on, if these are just enough for all targets, or, with
    `pool_size=1`, equally many targets in a row share one third cell.
    """

    primary: Rule
    p: float = 1.0
    pool_size: int | None = None
    pool_type: str = "random"

    def __post_init__(self) -> None:
        check_rule("Tripartite: primary", self.primary)
        object.__setattr__(self, "p", probability("Tripartite: p", self.p))
        if self.pool_size is not None:
            pool_size = whole_number("Tripartite: pool_size", self.pool_size)
            if pool_size == 0:
                raise ValueError(
                    "Tripartite: pool_size=0: give at least 1 third cell, or None for all"
                )
            object.__setattr__(self, "pool_size", pool_size)
        if self.pool_type not in ("random", "block"):
            raise ValueError(
                f"Tripartite: pool_type={self.pool_type!r} is unknown; give 'random' or 'block'"
            )


class TripartiteEdges(NamedTuple):
    """The primary edges, and those to and from the third cells: one of each for every edge paired.

    Repeated pairs are kept: a source that reaches a third cell by way of several targets has as
    many edges to it.
    """

    primary: Edges
    third_in: Edges
    third_out: Edges


@explained
def tripartite(
    rule: Tripartite,
    seed_or_key: int | Array | np.ndarray,
    n_pre: int,
    n_post: int,
    n_third: int,
    pre_ids: ArrayLike | None = None,
    post_ids: ArrayLike | None = None,
) -> TripartiteEdges:
    """Draw the edges of a tripartite rule: the same seed or key gives the same edges.

    **Arguments:**

    - `rule`: `Tripartite`.
    - `seed_or_key`: an integer, or a JAX PRNG key. The primary edges are those that
      `connect(rule.primary, seed_or_key, ...)` draws.
    - `n_pre`, `n_post`, `n_third`: the numbers of sources, of targets and of third cells.
    - `pre_ids`, `post_ids`: identities of sources and targets, as for `connect`.

    Raises `TypeError` or `ValueError` for what cannot be drawn, as `connect` does, and for pools
    that do not fit the numbers of targets and third cells.
    """
    if not isinstance(rule, Tripartite):
        raise TypeError(
            f"rule={rule!r} is no tripartite rule; give one, as Tripartite(FixedIndegree(10))"
        )
    n_post, n_third = population_size("n_post", n_post), population_size("n_third", n_third)
    pool_size = _fitting_pool_size(rule, n_post, n_third)
    rng = generator(seed_or_key)
    primary = draw_edges(rule.primary, rng, n_pre, n_post, pre_ids, post_ids)

    paired = _successes(rng, rule.p, primary.n_edges)
    pre = np.repeat(indices(primary.n_pre), np.diff(np.asarray(primary.row_ptr)))[paired]
    post = np.asarray(primary.post)[paired]
    third = _third_cells(rng, rule.pool_type, pool_size, post, n_post, n_third)
    return TripartiteEdges(
        primary,
        sort_edges(pre, third, primary.n_pre, n_third)[0],
        sort_edges(third, post, n_third, n_post)[0],
    )


def _fitting_pool_size(rule: Tripartite, n_post: int, n_third: int) -> int:
    pool_size = n_third if rule.pool_size is None else rule.pool_size
    if pool_size > n_third:
        raise ValueError(
            f"Tripartite: pool_size={pool_size}, but there are n_third={n_third} third cells; "
            f"give at most {n_third}, or None for all"
        )
    one_for_many = pool_size == 1 and n_post % n_third == 0
    if rule.pool_type == "block" and not one_for_many and n_post * pool_size != n_third:
        raise ValueError(
            f"Tripartite: blocks of pool_size={pool_size} do not fit n_post={n_post} targets and "
            f"n_third={n_third} third cells; give n_third = n_post * pool_size, or pool_size=1 "
            "and n_post a multiple of n_third, or pool_type='random'"
        )
    return pool_size


def _successes(rng: Generator, p: float, n: int) -> np.ndarray:
    """Which of n independent trials succeed, each with probability p."""
    out = np.empty(n, bool)
    for start in range(0, n, CHUNK):
        some = out[start : start + CHUNK]
        np.less(rng.random(some.size), p, out=some)  # float32 would round a small p
    return out


def _third_cells(
    rng: Generator, pool_type: str, pool_size: int, post: np.ndarray, n_post: int, n_third: int
) -> np.ndarray:
    """For every target in `post` one third cell of its pool, drawn independently."""
    if pool_type == "block":
        pools = indices(n_third).reshape(-1, pool_size).repeat(max(1, n_post // n_third), axis=0)
    elif pool_size == n_third:
        pools = None  # one pool for all, which need not be written out for every target
    else:
        nobody = np.full(n_post, -1, np.int32)
        pools = draw_rows(rng, "Tripartite: pool_size", pool_size, n_third, nobody, False)
        pools = pools.reshape(n_post, pool_size)
    out = np.empty(post.size, index_dtype(n_third))
    for start in range(0, post.size, CHUNK):
        chunk = slice(start, start + CHUNK)
        which = rng.integers(0, pool_size, out[chunk].size, narrow(pool_size))
        out[chunk] = which if pools is None else pools[post[chunk], which]
    return out
