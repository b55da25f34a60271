"""Continuous state along edges: gap junctions between membranes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import as_real, check_number, filled, shortened
from jsnn.connect import Rule
from jsnn.distributions import Distribution, is_distribution
from jsnn.edges import Edges

Part = tuple[str, int, int]
Membranes = Mapping[str, Array]

# A sum over all cells as a matrix product against one over edges, on CPUs: an element of the
# matrix costs 0.06 ns, an edge 1.2 ns, and rows are half as long again as they are on average.
_DENSE = 1 / 32
_DENSE_BYTES = 2**28
_WIDEST = 3.0  # rows of all targets at the length of the longest, against the edges


class GapJunction(eqx.Module):
    """Electrical synapses: a cell of `post` gets the current g (v_pre - v_post) through each edge.

    **Arguments:**

    - `pre`, `post`: a population or slice, as `"cells"` or `"cells.inh"`.
    - `rule`: a connection rule of `jsnn.connect`, `Edges`, or `connect.Pairs(pre, post)`. Repeated
      pairs conduct as often as they stand; a cell joined to itself gets no current.
    - `conductance`: g in nS: a scalar, a distribution, or `[n_edges]` in the order of the given
      pairs (for a rule that draws, and for `Edges`: by source, then target).
    - `symmetric`: whether the cell of `pre` gets g (v_post - v_pre) as well, as through a gap
      junction; without, an edge conducts one way. A rule that makes both (i, j) and (j, i), as
      `AllToAll` does within a population, then joins each pair twice.

    Raises `ValueError` or `TypeError` for a conductance that is negative or not finite, and what is
    no rule or address.
    """

    rule: Any
    conductance: Any
    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    symmetric: bool = eqx.field(static=True)

    def __init__(
        self,
        pre: str,
        post: str,
        rule: Rule | Edges,
        *,
        conductance: ArrayLike | Distribution,
        symmetric: bool = True,
    ):
        for name, address in (("pre", pre), ("post", post)):
            if not isinstance(address, str):
                raise TypeError(f"{name}={shortened(address)} is no address; give one, as 'cells'")
        if not isinstance(rule, (Rule, Edges)):
            raise TypeError(f"rule={shortened(rule)} is no rule; give one, as FixedIndegree(10)")
        if not isinstance(symmetric, (bool, np.bool_)):
            raise TypeError(f"symmetric={shortened(symmetric)}; give True or False")
        if not is_distribution(conductance):
            check_conductance(conductance)
        self.pre, self.post, self.rule = pre, post, rule
        self.conductance, self.symmetric = conductance, bool(symmetric)


Coupling = GapJunction


def check_conductance(value: Any) -> None:
    check_number("conductance", value, low=0.0)


class Junctions(eqx.Module):
    """A coupling as built: cells `pre` and `post` of every edge within their populations, and the
    conductance, a scalar or `[n_edges]`, which may be trained.

    `ways` are the directions in which it conducts.
    """

    pre: Array
    post: Array
    conductance: Array
    ways: tuple["Way", ...]
    parts: tuple[Part, Part] = eqx.field(static=True)

    @property
    def n_edges(self) -> int:
        return self.pre.shape[0]

    @property
    def n_self(self) -> int:
        """The number of edges that join a cell to itself."""
        same = self.parts[0][0] == self.parts[1][0]
        return int(np.count_nonzero(np.asarray(self.pre) == np.asarray(self.post))) if same else 0

    def checked(self) -> "Junctions":
        check_conductance(self.conductance)
        if np.shape(self.conductance) not in ((), (self.n_edges,)):
            raise ValueError(
                f"conductance has shape {np.shape(self.conductance)}; give a scalar or "
                f"({self.n_edges},), one for each edge"
            )
        return eqx.tree_at(lambda own: own.conductance, self, as_real(self.conductance))

    def connections(self) -> "GapConnections":
        conductance = filled(self.conductance, self.n_edges)
        return GapConnections(np.asarray(self.pre), np.asarray(self.post), np.asarray(conductance))

    def prepare(self) -> list["Conductances"]:
        """The conductances of each way in the form that a step wants."""
        return [way.prepare(self.conductance) for way in self.ways]


class GapConnections(NamedTuple):
    """The edges of a coupling: cells within their populations, and conductances (nS)."""

    pre: np.ndarray
    post: np.ndarray
    conductance: np.ndarray


class Conductances(NamedTuple):
    """Of one way, with the targets as last axis: a `matrix` `[n_source, n]`; or `index` and
    `weight` `[longest row, n]`; or else the edges. `total` `[n]` sums them by target. All are
    in nS, or without unit where `scale` is the conductance of all edges.

    The current is `scale` times (the sum over sources of their membranes - `total` v).
    """

    total: Array
    scale: Array
    matrix: Array | None = None
    index: Array | None = None
    weight: Array | None = None
    edges: tuple[Array, Array, Array] | None = None  # source, target (increasing), weight

    def from_sources(self, v: Array, first: Any, n: int, n_all: int) -> Array:
        """The sum over sources with membranes v `[..., n_source]`, of n targets from `first`, of
        n_all on all devices."""
        if self.matrix is not None:
            v = v[..., : self.matrix.shape[0]]
            # Accelerators would round membranes to 0.03 mV, and these nearly cancel
            return jnp.matmul(v, self.matrix, precision=jax.lax.Precision.HIGHEST)
        if self.index is not None and self.weight is not None:
            return jax.lax.platform_dependent(
                *(v, self.index, self.weight), cpu=_row_by_row, default=_all_rows
            )
        assert self.edges is not None
        source, target, weight = self.edges
        terms = jnp.moveaxis(v[..., source] * weight, -1, 0)
        sums = jax.ops.segment_sum(terms, target, n_all, indices_are_sorted=True)
        return jax.lax.dynamic_slice_in_dim(jnp.moveaxis(sums, 0, -1), first, n, -1)

    def padded(self, n: int) -> "Conductances":
        """The same for n targets, with nothing onto those more."""
        pad = lambda x: jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, n - x.shape[-1])])  # noqa: E731
        return self.of_cells(pad, lambda x: x)

    def of_cells(self, function: Callable[[Array], Any], other: Callable[[Array], Any]) -> Any:
        """The same structure with a function of what has the targets as last axis, and another of
        the rest."""
        own = {"matrix": self.matrix, "index": self.index, "weight": self.weight}
        return Conductances(
            function(self.total),
            other(self.scale),
            **{name: None if x is None else function(x) for name, x in own.items()},
            edges=jax.tree.map(other, self.edges),
        )


def _all_rows(v: Array, index: Array, weight: Array) -> Array:
    return jnp.sum(v[..., index] * weight, -2)


def _row_by_row(v: Array, index: Array, weight: Array) -> Array:
    """The same. XLA's CPU backend makes one loop of it: 1.2 ns an edge, against 5 ns where it
    gathers all rows first."""
    none = jnp.zeros((*v.shape[:-1], index.shape[1]), v.dtype)
    row = lambda k, sums: sums + v[..., index[k]] * weight[k]  # noqa: E731
    return jax.lax.fori_loop(0, index.shape[0], row, none)


class Way(eqx.Module):
    """One direction of a coupling: edges without those that join a cell to itself, by target.

    `table` `[longest row, n_target]` has the place in the list of edges of each target's edges, and
    the number of edges where there are no more of them; or is None.
    """

    source: Array
    target: Array
    edge: Array
    table: Array | None
    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)
    dense: bool = eqx.field(static=True)

    def prepare(self, conductance: Array) -> Conductances:
        one = jnp.ones((), conductance.dtype)
        per_edge = conductance.ndim > 0
        weight = conductance[self.edge] if per_edge else jnp.ones(self.edge.shape, one.dtype)
        scale = one if per_edge else conductance
        if self.dense:
            matrix = jnp.zeros((self.n_pre, self.n_post), one.dtype)
            matrix = matrix.at[self.source, self.target].add(weight)
            return Conductances(jnp.sum(matrix, 0), scale, matrix=matrix)
        total = jax.ops.segment_sum(weight, self.target, self.n_post, indices_are_sorted=True)
        if self.table is None:
            return Conductances(total, scale, edges=(self.source, self.target, weight))
        there = self.table < self.edge.shape[0]
        at = jnp.where(there, self.table, 0)
        index = jnp.where(there, self.source[at], 0)
        return Conductances(total, scale, index=index, weight=jnp.where(there, weight[at], 0))


def ways(
    pre: np.ndarray,
    post: np.ndarray,
    parts: tuple[Part, Part],
    sizes: Mapping[str, int],
    symmetric: bool,
    dense: bool | None = None,
) -> tuple[Way, ...]:
    """The directions in which edges between cells of two populations conduct."""
    (source, *_), (target, *_) = parts
    edge = np.arange(pre.size, dtype=np.int32)
    if pre.size == 0:
        return ()
    if source == target:
        real = pre != post
        pre, post, edge = pre[real], post[real], edge[real]
        if not pre.size:
            return ()
        if symmetric:
            pre, post = np.concatenate([pre, post]), np.concatenate([post, pre])
            edge = np.concatenate([edge, edge])
        return (_way(pre, post, edge, source, target, sizes, dense),)
    forth = _way(pre, post, edge, source, target, sizes, dense)
    back = (_way(post, pre, edge, target, source, sizes, dense),) if symmetric else ()
    return (forth, *back)


def _way(
    source: np.ndarray,
    target: np.ndarray,
    edge: np.ndarray,
    pre: str,
    post: str,
    sizes: Mapping[str, int],
    dense: bool | None,
) -> Way:
    n_pre, n_post = sizes[pre], sizes[post]
    order = np.argsort(target, kind="stable")
    source, target, edge = source[order], target[order], edge[order]
    if dense is None:
        elements = n_pre * n_post
        dense = bool(edge.size > _DENSE * elements and 4 * elements < _DENSE_BYTES)
    table = None
    counts = np.bincount(target, minlength=n_post)
    longest = int(counts.max(initial=1))
    if not dense and longest * n_post <= _WIDEST * max(edge.size, n_post):
        table = np.full((longest, n_post), edge.size, np.int32)
        place = np.arange(edge.size) - np.repeat(np.cumsum(counts) - counts, counts)
        table[place, target] = np.arange(edge.size)
    return Way(
        jnp.asarray(source, jnp.int32),
        jnp.asarray(target, jnp.int32),
        jnp.asarray(edge, jnp.int32),
        None if table is None else jnp.asarray(table),
        pre,
        post,
        n_pre,
        n_post,
        dense,
    )


class Devices(NamedTuple):
    """Where the cells that are here begin in each population, and what brings those of all devices
    together: their membranes, and the largest of a number of each."""

    first: Mapping[str, Any]
    everyone: Callable[[Array], Array]
    largest: Callable[[Array], Array]


class Coupled(NamedTuple):
    """What populations are coupled by: conductances from one to another."""

    between: Sequence[tuple[str, str, Conductances]]
    devices: Devices

    def received(self, v: Membranes) -> dict[str, Array]:
        """By population, the sum over partners of conductance times membrane `[..., n]` (pA)."""
        everyone = {name: self.devices.everyone(own) for name, own in v.items()}
        sums = {name: jnp.zeros_like(own) for name, own in v.items()}
        for pre, post, own in self.between:
            n, n_all = v[post].shape[-1], everyone[post].shape[-1]
            found = own.from_sources(everyone[pre], self.devices.first[post], n, n_all)
            sums[post] = sums[post] + own.scale * found
        return sums

    def conductances(self, v: Membranes) -> dict[str, Array]:
        """By population, the sum over partners of conductance, `[n]` (nS)."""
        sums = {name: jnp.zeros_like(own) for name, own in v.items()}
        for _, post, own in self.between:
            sums[post] = sums[post] + own.scale * own.total
        return sums


def groups(names: Sequence[str], couplings: Mapping[str, Junctions]) -> list[tuple[str, ...]]:
    """Populations that are coupled, directly or through others, in the order of their names; one
    that is not makes a group of its own."""
    group = {name: {name} for name in names}
    for own in couplings.values():
        if not own.ways:  # no edge but of a cell to itself
            continue
        joined = set().union(*(group[name] for name, _, _ in own.parts))
        for name in joined:
            group[name] = joined
    found = {tuple(name for name in names if name in group[one]): None for one in names}
    return list(found)
