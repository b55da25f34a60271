"""Who connects to whom: connection rules, drawn on the host with NumPy.

A rule is an immutable object with two methods: `draw` returns the two ends of every edge, and
`expected` tells beforehand about how many there will be.
`sort_edges` brings them into storage order, and `connect` does both. Rules, flags and defaults
are NEST's. Every cell has an identity, an integer that is unique in the network: an edge between
equal identities is a self-connection (autapse), also between partly overlapping slices.
"""

import dataclasses
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from numpy.random import Generator
from numpy.typing import ArrayLike

from jsnn._draw import (
    check_n_edges,
    draw_bernoulli,
    draw_distinct,
    draw_rows,
    index_dtype,
    indices,
)
from jsnn._names import explained
from jsnn.edges import Edges as Edges
from jsnn.edges import check_lengths, integers, population_size, whole_number, within
from jsnn.edges import sort_edges as sort_edges

Ends = tuple[np.ndarray, np.ndarray]


@runtime_checkable
class Rule(Protocol):
    """What makes a connection rule."""

    def draw(self, rng: Generator, pre_ids: ArrayLike, post_ids: ArrayLike) -> Ends:
        """The ends of all edges, in any order, as indices into the two arrays of identities."""
        ...

    def expected(self, n_pre: int, n_post: int) -> float:
        """About how many edges there will be between so many cells."""
        ...


@explained
@dataclass(frozen=True)
class FixedIndegree:
    """Every target draws `indegree` sources, uniformly and independently of other targets.

    With `multapses` a source may be drawn again; without, the sources of a target are a uniformly
    chosen set. Without `autapses` a target's own cell is not among its sources.
    """

    indegree: int
    autapses: bool = True
    multapses: bool = True

    def __post_init__(self) -> None:
        _check_fields(self)

    def expected(self, n_pre: int, n_post: int) -> float:
        return self.indegree * n_post

    def draw(self, rng: Generator, pre_ids: ArrayLike, post_ids: ArrayLike) -> Ends:
        sources, targets = _cells(pre_ids, post_ids)
        own = _find_own(targets, sources, self.autapses)
        pre = draw_rows(rng, "indegree", self.indegree, sources.size, own, self.multapses)
        return pre, np.repeat(indices(targets.size), self.indegree)


@explained
@dataclass(frozen=True)
class NoEdges:
    """No edges at all, for a projection that grows."""

    def expected(self, n_pre: int, n_post: int) -> float:
        return 0.0

    def draw(self, rng: Generator, pre_ids: ArrayLike, post_ids: ArrayLike) -> Ends:
        _cells(pre_ids, post_ids)
        return np.empty(0, np.int32), np.empty(0, np.int32)


@explained
@dataclass(frozen=True)
class FixedOutdegree:
    """Every source draws `outdegree` targets: `FixedIndegree` with the two ends exchanged."""

    outdegree: int
    autapses: bool = True
    multapses: bool = True

    def __post_init__(self) -> None:
        _check_fields(self)

    def expected(self, n_pre: int, n_post: int) -> float:
        return self.outdegree * n_pre

    def draw(self, rng: Generator, pre_ids: ArrayLike, post_ids: ArrayLike) -> Ends:
        sources, targets = _cells(pre_ids, post_ids)
        own = _find_own(sources, targets, self.autapses)
        post = draw_rows(rng, "outdegree", self.outdegree, targets.size, own, self.multapses)
        return np.repeat(indices(sources.size), self.outdegree), post


@explained
@dataclass(frozen=True)
class FixedTotalNumber:
    """`number` edges, uniformly among all pairs of a source and a target.

    With `multapses` every edge is drawn independently; without, the edges are a uniformly chosen
    set of pairs. Without `autapses` no cell is paired with itself.
    """

    number: int
    autapses: bool = True
    multapses: bool = True

    def __post_init__(self) -> None:
        _check_fields(self)

    def expected(self, n_pre: int, n_post: int) -> float:
        return self.number

    def draw(self, rng: Generator, pre_ids: ArrayLike, post_ids: ArrayLike) -> Ends:
        sources, targets = _cells(pre_ids, post_ids)
        own = _find_own(targets, sources, self.autapses)
        n_pairs = sources.size * targets.size - np.count_nonzero(own >= 0)
        if self.number > n_pairs and not (self.multapses and n_pairs):
            raise ValueError(
                f"FixedTotalNumber: number={self.number}, but {sources.size} sources and "
                f"{targets.size} targets make {n_pairs} pairs (autapses={self.autapses}); "
                f"give at most {n_pairs}" + (" or allow multapses" if n_pairs else "")
            )
        check_n_edges("FixedTotalNumber", self.number)
        if self.multapses:
            pre = rng.integers(0, sources.size, self.number, index_dtype(sources.size))
            post = rng.integers(0, targets.size, self.number, index_dtype(targets.size))
            itself = np.flatnonzero(own[post] == pre)
            while itself.size:  # draw these again: all other pairs stay equally likely
                pre[itself] = rng.integers(0, sources.size, itself.size, pre.dtype)
                post[itself] = rng.integers(0, targets.size, itself.size, post.dtype)
                itself = itself[own[post[itself]] == pre[itself]]
            return pre, post
        # A Bernoulli draw that came out with K edges is a uniform set of K pairs. Accepting it by
        # K alone (here: if there are enough) and dropping a uniform set leaves it uniform.
        p = min(1.0, (self.number + 4 * self.number**0.5 + 4) / max(n_pairs, 1))
        pre, post = draw_bernoulli(rng, p, sources.size, own)
        while pre.size < self.number:
            pre, post = draw_bernoulli(rng, p, sources.size, own)
        surplus = draw_distinct(rng, 1, pre.size - self.number, pre.size)[0]
        return np.delete(pre, surplus), np.delete(post, surplus)


@explained
@dataclass(frozen=True)
class PairwiseBernoulli:
    """Every pair of a source and a target once with probability `p`, independently.

    Without `autapses` no cell is paired with itself. Time and memory follow the number of edges
    drawn, not the number of pairs.
    """

    p: float
    autapses: bool = True

    def __post_init__(self) -> None:
        _check_fields(self)

    def expected(self, n_pre: int, n_post: int) -> float:
        return self.p * n_pre * n_post

    def draw(self, rng: Generator, pre_ids: ArrayLike, post_ids: ArrayLike) -> Ends:
        sources, targets = _cells(pre_ids, post_ids)
        check_n_edges("PairwiseBernoulli", int(self.p * sources.size * targets.size))
        own = _find_own(targets, sources, self.autapses)
        return draw_bernoulli(rng, self.p, sources.size, own)


@explained
@dataclass(frozen=True)
class AllToAll:
    """Every pair of a source and a target once; without `autapses` no cell with itself."""

    autapses: bool = True

    def __post_init__(self) -> None:
        _check_fields(self)

    def expected(self, n_pre: int, n_post: int) -> float:
        return n_pre * n_post

    def draw(self, rng: Generator, pre_ids: ArrayLike, post_ids: ArrayLike) -> Ends:
        return PairwiseBernoulli(1.0, self.autapses).draw(rng, pre_ids, post_ids)


@explained
@dataclass(frozen=True)
class OneToOne:
    """Source i to target i; both populations have one size."""

    def expected(self, n_pre: int, n_post: int) -> float:
        return n_pre

    def draw(self, rng: Generator, pre_ids: ArrayLike, post_ids: ArrayLike) -> Ends:
        sources, targets = _cells(pre_ids, post_ids)
        if sources.size != targets.size:
            raise ValueError(
                f"OneToOne: n_pre={sources.size} and n_post={targets.size} differ; "
                "connect populations of one size"
            )
        return indices(sources.size), indices(targets.size)


@explained
@dataclass(frozen=True, eq=False)
class Pairs:
    """Edges given by the user: `pre` and `post`, integer indices of one length, in any order.

    They count from 0 in each population and are kept as given: repeated pairs and
    self-connections too. `sort_edges(..., with_order=True)` brings values that belong to them
    into storage order.
    """

    pre: ArrayLike
    post: ArrayLike

    def __post_init__(self) -> None:
        pre, post = integers("Pairs: pre", self.pre), integers("Pairs: post", self.post)
        check_lengths("Pairs", pre, post)
        for name, values in (("pre", pre), ("post", post)):
            kept = values.copy()  # the user may write to their own
            kept.flags.writeable = False
            object.__setattr__(self, name, kept)

    def expected(self, n_pre: int, n_post: int) -> float:
        return np.size(self.pre)

    def draw(self, rng: Generator, pre_ids: ArrayLike, post_ids: ArrayLike) -> Ends:
        sources, targets = _cells(pre_ids, post_ids)
        pre = within("Pairs: pre", self.pre, sources.size)
        return pre, within("Pairs: post", self.post, targets.size)


@explained
def connect(
    rule: Rule,
    seed_or_key: int | Array | np.ndarray,
    n_pre: int,
    n_post: int,
    pre_ids: ArrayLike | None = None,
    post_ids: ArrayLike | None = None,
) -> Edges:
    """Draw the edges of a rule: the same seed or key gives the same edges.

    **Arguments:**

    - `rule`: one of the rules of this module.
    - `seed_or_key`: an integer, or a JAX PRNG key (not traced: edges are made on the host).
    - `n_pre`, `n_post`: the numbers of sources and of targets.
    - `pre_ids`, `post_ids`: integer identities of the cells, `[n_pre]` and `[n_post]`, each
      without repetition. They tell which source and which target are one cell. Without them all
      cells are distinct and no edge is a self-connection; to connect a population with itself,
      give the same identities twice: `connect(rule, key, n, n, np.arange(n), np.arange(n))`.

    Raises `TypeError` or `ValueError` for what cannot be drawn: impossible degrees, empty
    populations, indices out of range.
    """
    return draw_edges(rule, generator(seed_or_key), n_pre, n_post, pre_ids, post_ids)


def draw_edges(
    rule: Rule,
    rng: Generator,
    n_pre: int,
    n_post: int,
    pre_ids: ArrayLike | None,
    post_ids: ArrayLike | None,
) -> Edges:
    """Check the cells, draw the edges of a rule between them, and sort these."""
    check_rule("rule", rule)
    n_pre, n_post = population_size("n_pre", n_pre), population_size("n_post", n_post)
    if pre_ids is None and post_ids is None:
        pre_ids, post_ids = np.arange(n_pre), np.arange(n_pre, n_pre + n_post)
    elif pre_ids is None or post_ids is None:
        raise ValueError("only one of pre_ids and post_ids is given; give both or neither")
    pre_ids, post_ids = _cells(pre_ids, post_ids)
    for end, ids, n in (("pre", pre_ids, n_pre), ("post", post_ids, n_post)):
        if ids.size != n:
            raise ValueError(f"{end}_ids has length {ids.size}; give n_{end}={n} identities")
    pre, post = rule.draw(rng, pre_ids, post_ids)
    return sort_edges(pre, post, n_pre, n_post)[0]


def generator(seed_or_key: int | Array | np.ndarray) -> Generator:
    """The NumPy generator of an integer seed or of a JAX PRNG key (typed, or raw uint32)."""
    if isinstance(seed_or_key, Tracer):
        raise TypeError("seed_or_key is traced; draw edges on the host, outside jit and vmap")
    key: Any = seed_or_key
    if isinstance(key, Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = np.asarray(jax.random.key_data(key))
    if np.ndim(key) == 0:
        return np.random.default_rng(whole_number("seed_or_key", key))
    raw = isinstance(key, (Array, np.ndarray)) and key.dtype == np.uint32
    if not raw or key.shape not in ((2,), (4,)):  # threefry or rbg
        raise ValueError(f"seed_or_key={seed_or_key!r} is not one key; give an integer or one key")
    return np.random.default_rng(np.asarray(key).tolist())


def check_rule(name: str, rule: Any) -> None:
    if isinstance(rule, type) or not isinstance(rule, Rule):
        raise TypeError(f"{name}={rule!r} is no connection rule; give one, as FixedIndegree(10)")


def probability(name: str, value: Any) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} is not a number; give one from 0 to 1")
    value = float(value)
    if not 0 <= value <= 1:  # NaN as well
        raise ValueError(f"{name}={value!r} is no probability; give one from 0 to 1")
    return value


def _find_own(ids: np.ndarray, among: np.ndarray, autapses: bool) -> np.ndarray:
    """Where in `among` each cell finds itself, and -1 for nowhere or where that is allowed."""
    own = np.full(ids.size, -1, np.int32)
    if not autapses:
        _, here, there = np.intersect1d(ids, among, assume_unique=True, return_indices=True)
        own[here] = there
    return own


def _check_fields(rule: Any) -> None:
    """Check the fields of a rule and make plain Python numbers of them."""
    for name in (field.name for field in dataclasses.fields(rule)):
        value, full_name = getattr(rule, name), f"{type(rule).__name__}: {name}"
        if name in ("autapses", "multapses"):
            if not isinstance(value, (bool, np.bool_)):
                raise TypeError(f"{full_name}={value!r} is not a boolean; give True or False")
            value = bool(value)
        elif name == "p":
            value = probability(full_name, value)
        else:
            value = whole_number(full_name, value)
        object.__setattr__(rule, name, value)


def _cells(pre_ids: ArrayLike, post_ids: ArrayLike) -> Ends:
    checked = integers("pre_ids", pre_ids), integers("post_ids", post_ids)
    for name, ids in zip(("pre_ids", "post_ids"), checked, strict=True):
        if not ids.size:
            raise ValueError(f"{name} is empty; give at least one cell")
        ids = np.sort(ids)
        if np.any(ids[1:] == ids[:-1]):
            raise ValueError(f"{name} repeats an identity; give every cell its own")
    return checked
