"""Sums over edges of what varies continuously: for each target, over its sources."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jsnn._math import as_array

Part = tuple[str, int, int]

# A sum over all cells as a matrix product against one over edges, on CPUs: an element of the
# matrix costs 0.06 ns, an edge 1.2 ns, and rows are half as long again as they are on average.
_DENSE = 1 / 32
_DENSE_BYTES = 2**28
_WIDEST = 3.0  # rows of all targets at the length of the longest, against the edges


class Conductances(NamedTuple):
    """Of one way, with the targets as last axis: a `matrix` `[n_source, n]`; or `index` and
    `weight` `[longest row, n]`; or else the edges. `total` `[n]` sums them by target. All are
    conductances (nS) or weights, or numbers of edges where `scale` is that of each.

    What a target gets is `scale` times the sum over its sources; of gap junctions, of membranes,
    and less `total` v.
    """

    total: Array
    scale: Array
    matrix: Array | None = None
    index: Array | None = None
    weight: Array | None = None
    edges: tuple[Array, Array, Array] | None = None  # source, target (increasing), weight

    def from_sources(self, v: Array, first: Any, n: int, n_all: int) -> Array:
        """The sum over what sources show, v `[..., n_source]`, of n targets from `first`, of n_all
        on all devices."""
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

    `edge` tells which edge of the coupling each is, and `count` how many it stands for where all
    have one weight. `table` `[longest row, n_target]` has the place in the list of edges of each
    target's edges, and the number of edges where there are no more of them; or is None.
    """

    source: Array
    target: Array
    edge: Array
    count: Array | None
    table: Array | None
    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)
    dense: bool = eqx.field(static=True)

    def prepare(self, conductance: Array) -> Conductances:
        one = jnp.ones((), conductance.dtype)
        per_edge = conductance.ndim > 0
        ones = jnp.ones(self.edge.shape, one.dtype)
        same = ones if self.count is None else self.count.astype(one.dtype)
        weight = conductance[self.edge] if per_edge else same
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
        return (way_of(pre, post, edge, source, target, sizes, dense=dense),)
    forth = way_of(pre, post, edge, source, target, sizes, dense=dense)
    back = (way_of(post, pre, edge, target, source, sizes, dense=dense),) if symmetric else ()
    return (forth, *back)


def way_of(
    source: np.ndarray,
    target: np.ndarray,
    edge: np.ndarray,
    pre: str,
    post: str,
    sizes: Mapping[str, int],
    *,
    count: np.ndarray | None = None,
    dense: bool | None = None,
) -> Way:
    """The edges, in any order, from cells of one population to those of another."""
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
        as_array(source.astype(np.int32)),
        as_array(target.astype(np.int32)),
        as_array(edge.astype(np.int32)),
        None if count is None else as_array(count[order].astype(np.int32)),
        None if table is None else as_array(table),
        pre,
        post,
        n_pre,
        n_post,
        dense,
    )
