"""A projection as built: its edges, and what each of them has."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.sharding import Mesh

from jsnn._divide import Split, split_edges
from jsnn._math import (
    as_real,
    check_dtype,
    check_number,
    doubt,
    extremes,
    filled,
    real_dtype,
    remade,
)
from jsnn._store import Store, store_of
from jsnn.delays import Interpolated
from jsnn.delivery import Rows
from jsnn.edges import Edges, narrow
from jsnn.population import Population
from jsnn.release import Constant, Release, ReleaseState
from jsnn.rewire import Grown


class Connections(NamedTuple):
    """The edges of a projection: cells within their populations, weights, and delays in ms."""

    pre: np.ndarray
    post: np.ndarray
    weight: np.ndarray
    delay: np.ndarray


class Synapses(eqx.Module):
    """A projection as built: its edges in storage order between one part and another.

    `weight` is a scalar or `[n_edges]`, and may be trained; `delay` is None if all edges have
    `min_delay`, else `[n_edges]` narrow integers, in steps, or `Interpolated`, whose `delay` (ms)
    may be trained as a weight is. The parameters of `release` are scalars or `[n_pre]`, or, if
    `per_edge`, `[n_edges]`. Where it is `grown`, this is how it begins, and the state has the
    edges.
    """

    edges: Edges
    weight: Array
    delay: Array | Interpolated | None
    release: Release
    split: Split | None
    grown: Grown | None
    pre: tuple[str, int, int] = eqx.field(static=True)
    post: tuple[str, int, int] = eqx.field(static=True)
    receptor: str = eqx.field(static=True)
    min_delay: int = eqx.field(static=True)
    max_delay: int = eqx.field(static=True)
    max_row: int = eqx.field(static=True)
    max_column: int = eqx.field(static=True)
    per_edge: bool = eqx.field(static=True)

    def checked(self, target: Population) -> "Synapses":
        """The same; raises unless weights and release, which may have been replaced, fit."""
        check_dtype("weight", self.weight)
        dtype = getattr(self.weight, "dtype", np.dtype(object))
        if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
            check_number("weight", self.weight)
        self = eqx.tree_at(lambda s: s.weight, self, as_real(self.weight))
        if self.weight.shape not in ((), (self.edges.n_edges,)):
            raise ValueError(
                f"weight has shape {self.weight.shape}; give a scalar or ({self.edges.n_edges},)"
            )
        if isinstance(self.weight, Tracer):
            doubt(lambda weight: ~jnp.isfinite(weight), self.weight)
        elif not np.all(np.isfinite(extremes(self.weight))):
            raise ValueError("weight is not finite; give finite numbers")
        check_sign(target, self.receptor, self.weight)
        if isinstance(self.delay, Interpolated):
            own = remade(self.delay)
            if own.delay.shape not in ((), (self.edges.n_edges,)):
                raise ValueError(
                    f"delay has shape {own.delay.shape}; give a scalar or ({self.edges.n_edges},)"
                )
            self = eqx.tree_at(lambda s: s.delay, self, own)
        if self.grown is not None:
            own = remade(self.grown.rule)
            self = eqx.tree_at(lambda s: s.grown.rule, self, own)
            if self.grown is not None and self.grown.weight is not None:
                check_sign(target, self.receptor, self.grown.weight)
        release, n = remade(self.release), self.n_releases
        for name, value in vars(release).items():
            if np.shape(value) not in ((), (n,)):
                of = "edge" if self.per_edge else "source"
                raise ValueError(
                    f"release: {name} has shape {np.shape(value)}; give a scalar or ({n},), one "
                    f"for each {of}, as the projection was built with"
                )
        return eqx.tree_at(lambda s: s.release, self, release)

    @property
    def is_constant(self) -> bool:
        """Whether every spike arrives with the same weight."""
        return isinstance(self.release, Constant)

    @property
    def n_releases(self) -> int:
        """Of how many sources or edges the release keeps a state."""
        return self.edges.n_edges if self.per_edge else self.edges.n_pre

    def init_release(self) -> ReleaseState:
        """The state of the release at the start."""
        values = {k: filled(v, self.n_releases) for k, v in self.release.init().items()}
        last = filled(np.int32(-1), self.edges.n_pre)
        return ReleaseState(
            values,
            last,
            {k: filled(np.zeros((), v.dtype), self.n_releases) for k, v in values.items()},
        )

    @property
    def slots(self) -> int:
        """How many steps the buffer reaches: one more where some arrive in the step that they are
        sent in, and none where all do."""
        return self.max_delay + (self.min_delay == 0 < self.max_delay)

    def with_slot(self, buffer: Array) -> Array:
        """A buffer to deliver into: of no slots, one for the arrivals of this step."""
        return buffer if self.slots else jnp.zeros((1, buffer.shape[1]), buffer.dtype)

    def without_slot(self, buffer: Array, step: Array) -> Array:
        """The same after the arrivals of this step were handed on."""
        if not self.slots:
            return buffer[:0]
        return buffer.at[step % self.slots].set(0) if self.min_delay == 0 else buffer

    @property
    def is_counted(self) -> bool:
        """Whether arrivals are kept as their number: where all have one weight."""
        return self.shared_weight is not None and self.is_constant

    @property
    def shared_weight(self) -> Array | None:
        """The weight of all edges, applied where arrivals are read; None where each has its own."""
        return None if np.ndim(self.weight) or isinstance(self.delay, Interpolated) else self.weight

    @property
    def kept_as(self) -> np.dtype:
        """What arrivals are kept as where no gradient passes: counts in whole numbers. A source
        fires at most once a step, so a target's edges bound them. Narrow, because the buffers of
        large networks leave the cache (7 % of the time of 50,000 cells)."""
        if not self.is_counted:
            return real_dtype()
        if self.grown is not None:  # nobody knows how many a target will have
            return np.dtype(np.uint32)
        return np.dtype(np.uint16 if self.max_column < 2**16 else np.uint32)

    def on(self, mesh: Mesh | None, n_local: int) -> "Synapses":
        """The same with the edges divided over the devices of a mesh, `n_local` targets each."""
        made = None
        if mesh is not None and self.grown is None:
            per_edge = self.weight.ndim > 0 or self.delay is not None or self.per_edge
            made = split_edges(self.edges, self.post[1], n_local, mesh, per_edge)
        return eqx.tree_at(lambda s: s.split, self, made, is_leaf=lambda x: x is None)

    def connections(self, dt: float, store: Store | None = None) -> Connections:
        """The edges as users see them, those of a store if there is one, in storage order (by
        source, then target)."""
        pre, post = self.edges.pre, np.asarray(self.edges.post)
        weight, order = self.weight, np.arange(pre.size)
        delay = None if isinstance(self.delay, Interpolated) else self.delay
        if store is not None:
            n = int(store.n_edges)
            pre, post = np.asarray(store.pre)[:n], np.asarray(store.post)[:n]
            order = np.lexsort((post, pre))
            weight = self.weight if store.weight is None else np.asarray(store.weight)[:n]
            delay = None if store.delay is None else np.asarray(store.delay)[:n]
        steps = self.min_delay if delay is None else np.asarray(delay)
        if isinstance(self.delay, Interpolated):
            steps = np.asarray(self.delay.delay) / dt
        return Connections(
            pre[order].astype(np.int32) + self.pre[1],
            post[order].astype(np.int32) + self.post[1],
            np.broadcast_to(np.asarray(weight), pre.shape)[order],
            np.broadcast_to(np.round(steps * dt, 9), pre.shape)[order],
        )

    def begin_store(self, capacity: int | None = None) -> Store:
        """Of a growing projection, the edges at the start."""
        assert self.grown is not None
        assert not isinstance(self.delay, Interpolated)
        weight = self.weight if self.weight.ndim else None
        capacity = self.grown.capacity if capacity is None else capacity
        return store_of(self.edges, weight, self.delay, capacity)

    def rows_of_store(self, store: Store, first: Array | int | None, n_local: int) -> Rows:
        """What the delivery reads of a store; on several devices, of those onto the `n_local` cells
        from the first on."""
        offset = self.post[1]
        if first is not None:
            store, offset = store.onto(first - offset, n_local), 0
        rows = (store.row_ptr, store.post, store.weight, store.delay, self.release, None)
        return self._rows(*rows, offset, store.capacity)

    def rows(self, dt: float) -> Rows:
        """What the delivery reads, on one device."""
        weight = self.weight if self.weight.ndim else None
        if weight is not None and weight.shape != (self.edges.n_edges,):
            raise ValueError(f"weight has shape {weight.shape}, not ({self.edges.n_edges},)")
        edges, offset, max_row = self.edges, self.post[1], self.max_row
        row_ptr, post, delay = edges.row_ptr, edges.post, self.delay
        if isinstance(delay, Interpolated):
            row_ptr, post, weight, delay = self._in_between(row_ptr, post, lambda x: x, dt)
            max_row = 2 * max_row
        return self._rows(row_ptr, post, weight, delay, self.release, None, offset, max_row)

    def rows_of_devices(self, dt: float) -> Rows:
        """The same for several devices: each array has the device as first axis, each its own
        targets' edges, and targets count from the device's first cell."""
        split = self._split
        if split.edge is None and self.weight.ndim:
            raise ValueError(
                "one weight for all edges was replaced by one for each after the edges were "
                "divided; do so on network.on(None), and divide again"
            )
        if self.weight.ndim and self.weight.shape != (self.edges.n_edges,):
            raise ValueError(f"weight has shape {self.weight.shape}, not ({self.edges.n_edges},)")
        weight = self.weight[split.edge] if self.weight.ndim else None
        row_ptr, post, max_row, delay = split.row_ptr, split.post, split.max_row, self.delay
        if isinstance(delay, Interpolated):
            own_edge = lambda x: x[split.edge] if jnp.ndim(x) else x  # noqa: E731
            row_ptr, post, weight, delay = self._in_between(row_ptr, post, own_edge, dt)
            max_row = 2 * max_row
        elif delay is not None:
            delay = delay[split.edge]
        devices = split.row_ptr.shape[0]

        def placed(leaf):
            if self.per_edge and jnp.ndim(leaf):
                return leaf[split.edge]
            return jnp.broadcast_to(leaf, (devices, *jnp.shape(leaf)))

        release = jax.tree.map(placed, self.release)
        edge = split.edge if self.per_edge else None
        return self._rows(row_ptr, post, weight, delay, release, edge, 0, max_row)

    def _in_between(
        self, row_ptr: Array, post: Array, own: Callable[[Array], Array], dt: float
    ) -> tuple[Array, Array, Array, Array]:
        """Rows in which each edge lies twice, with its part of the weight at either step."""
        assert isinstance(self.delay, Interpolated)
        before, part = self.delay.parts(jnp.asarray(own(self.delay.delay)), dt)
        before, part = (jnp.broadcast_to(x, post.shape) for x in (before, part))
        twice = lambda a, b: jnp.stack([a, b], -1).reshape(*post.shape[:-1], -1)  # noqa: E731
        weight = own(self.weight)
        weight = twice(weight * (1 - part), weight * part)
        delay = twice(before, before + 1).astype(narrow(self.max_delay + 1))
        return 2 * row_ptr, twice(post, post), weight, delay

    def divide(self, state: ReleaseState, devices: int) -> ReleaseState:
        """The state of the release by device, as first axis: of its edges, or of all sources."""
        whole = lambda leaf: jnp.broadcast_to(leaf, (devices, *leaf.shape))  # noqa: E731
        own = (lambda leaf: leaf[self._split.edge]) if self.per_edge else whole
        values, deviation = jax.tree.map(own, (state.values, state.deviation))
        return ReleaseState(values, whole(state.last), deviation)

    def gather(self, state: ReleaseState) -> ReleaseState:
        """The inverse of `divide`: all devices are in the same state of a source."""

        def joined(leaf):
            if not self.per_edge:
                return leaf[0]
            split = self._split
            real = jnp.arange(leaf.shape[1]) < split.row_ptr[:, -1:]  # others are padding
            at = jnp.where(real, jnp.asarray(split.edge), self.edges.n_edges)
            return jnp.zeros(self.edges.n_edges, leaf.dtype).at[at].set(leaf, mode="drop")

        values, deviation = jax.tree.map(joined, (state.values, state.deviation))
        return ReleaseState(values, state.last[0], deviation)

    @property
    def _split(self) -> Split:
        if self.split is None:
            raise ValueError("these synapses are not split; use network.on(devices)")
        return self.split

    def _rows(self, row_ptr, post, weight, delay, release, edge, offset, max_row) -> Rows:
        # Where edges have releases of their own, rows of much the same length are handled in one
        # piece each, others in pieces that waste little on the short ones.
        mean = -(-post.shape[-1] // (row_ptr.shape[-1] - 1))
        chunk = max_row if max_row <= 1.5 * mean + 16 else 2 ** int(np.log2(max(mean, 16)))
        return Rows(
            row_ptr,
            post,
            weight,
            delay,
            release,
            edge,
            offset,
            self.min_delay,
            max(chunk, 1),
            max_row,
            self.per_edge,
            copies=2 if isinstance(self.delay, Interpolated) else 1,
        )


def check_sign(population: Population, receptor: str, weight: Array) -> None:
    """Raise for a weight of the sign that its receptor does not take."""
    sign = population.weight_sign(receptor)
    if sign is None:
        return
    if isinstance(weight, Tracer):
        doubt(lambda weight: sign * weight < 0, weight)
        return
    least, most = extremes(weight)
    worst = least if sign > 0 else most
    if sign * worst >= 0:
        return
    to = f"the current {receptor!r}"
    why = f"in this model weights onto it are {'positive' if sign > 0 else 'negative'}"
    for other in population.receptors:
        if population.weight_sign(other) == -sign:
            why += f", and the others act with the time constant of {other!r}"
            why += f"; give them to a projection or input of their own with receptor={other!r}"
    if population.receptors[receptor].is_conductance:
        to, why = f"the conductance {receptor!r}", "its reversal potential makes it inhibitory"
    if not population.neuron.is_spiking:
        to, why = "an astrocyte", "arrivals raise its IP3"
    wrong = "negative" if sign > 0 else "positive"
    raise ValueError(f"weight={worst:g} onto {to} must not be {wrong}; {why}")
