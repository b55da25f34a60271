"""Spikes into the buffers of arrivals.

A projection owns a circular buffer `[slots, n]`: what arrives at each target cell in each of the
next steps. Slot of step s is s modulo the number of slots. With one weight for all edges the buffer
counts arrivals (under `EventDriven` in narrow integers), and the weight is applied where it is
read: whole numbers add up the same in any order. With a weight an edge, rows are added in the order
of (step, source), which is the same however a run is cut or spread over devices.

With short-term plasticity a spike is the amount that it releases, and the buffer holds sums of
those. They are advanced by the spikes, in the order of steps, on every device alike, so devices
still exchange bits.

`SegmentSum` is the definition: a `segment_sum` over all edges in every step. `EventDriven` gives
the same numbers and costs in proportion to the spikes. On the way back it becomes `Backward`, whose
derivatives cost in proportion to the spikes, and to the cells that nearly spiked.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jsnn import release as release_
from jsnn import spikes as spikes_
from jsnn._event_driven import deliver, deliver_amounts
from jsnn._gradient_rows import of_amounts, of_weights
from jsnn._names import explained
from jsnn._rows import Layout
from jsnn.release import Constant, Release, ReleaseState


class Rows(eqx.Module):
    """The edges of a projection as the delivery reads them, sorted by source.

    `weight` is None where all edges have one; `delay` (steps) is a static number or one for each.
    `post` counts from `offset` within the target population. Each edge lies `copies` times in a
    row, one after the other, with its part of the weight; releases are of edges.
    """

    row_ptr: Array  # [n_pre + 1] int32
    post: Array  # [copies * n_edges]
    weight: Array | None  # [copies * n_edges]
    delay: Array | None  # [copies * n_edges], narrow integers, or None for `fixed_delay`
    release: Release  # parameters of sources, or of edges
    edge: Array | None  # [n_edges]: which of all edges each is, where these are a device's own
    offset: int = eqx.field(static=True)
    fixed_delay: int = eqx.field(static=True)
    chunk: int = eqx.field(static=True)  # edges of a row at once, for releases by edge
    max_row: int = eqx.field(static=True)
    per_edge: bool = eqx.field(static=True)
    copies: int = eqx.field(static=True, default=1)

    @property
    def n_pre(self) -> int:
        return self.row_ptr.shape[0] - 1

    @property
    def pre(self) -> Array:
        """The source of every edge; the last one's for those that devices pad theirs with."""
        lengths = jnp.diff(self.row_ptr)
        return jnp.repeat(jnp.arange(self.n_pre), lengths, total_repeat_length=self.post.shape[0])


@explained
class SegmentSum(eqx.Module):
    """Deliver by `segment_sum` over all edges, every step: the definition, and differentiable."""

    def __call__(
        self,
        buffer: Array,
        release: ReleaseState | None,
        fired: Array,
        rows: Rows,
        first_pre: int,
        first_step: Array,
        dt: float,
    ) -> tuple[Array, ReleaseState | None]:
        """Add the spikes `[steps, n_pre_population]` (1 or 0) to the buffer."""
        for i in range(fired.shape[0]):
            buffer, release = segment_sum_step(
                buffer, release, fired[i], rows, first_pre, first_step + i, dt
            )
        return buffer, release


@explained
class EventDriven(eqx.Module):
    """Deliver the rows of the cells that fired, and only those.

    Accelerators, and releases by edge, take a block's spikes in rounds of `capacity` (chosen from
    the size of the block if left out); as many rounds run as there are spikes, so none is lost.
    """

    capacity: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.capacity is not None and (
            isinstance(self.capacity, bool) or not isinstance(self.capacity, (int, np.integer))
        ):
            raise TypeError(f"capacity={self.capacity!r} is not an integer; give 1 or more")
        if self.capacity is not None and self.capacity < 1:
            raise ValueError(f"capacity={self.capacity} must be at least 1")

    def __call__(
        self,
        buffer: Array,
        release: ReleaseState | None,
        words: Array,
        rows: Rows,
        first_pre: int,
        first_step: Array,
        dt: float,
    ) -> tuple[Array, ReleaseState | None]:
        """Add the spikes, packed `[steps, n_pre_population / 32]`, to the buffer."""
        if rows.post.shape[0] == 0 and (release is None or rows.per_edge):
            return buffer, release  # sources without edges remember their spikes all the same
        layout = self.layout(buffer, rows, first_pre, words.shape[0], dt)
        edges = (rows.row_ptr, rows.post, rows.weight, rows.delay)
        own, release = _copied(rows, rows.release), _copied(rows, release)
        buffer, release = deliver(layout)(buffer, release, words, first_step, edges, own)
        return buffer, _of_edges(rows, release)

    def layout(self, buffer: Array, rows: Rows, first_pre: int, n_steps: int, dt: float) -> Layout:
        """What is static about the delivery of so many steps."""
        capacity = self.capacity
        if capacity is None:  # room for 0.5 % of the cells in every step
            capacity = min(max(n_steps * rows.n_pre // 200, 64), 8192)
        capacity = min(capacity, n_steps * rows.n_pre)  # no more spikes than that
        capacity = max(min(capacity, (2**31 - 1) // max(rows.max_row, 1)), 1)  # int32 counts edges
        return Layout(
            buffer.shape[0],
            buffer.shape[1],
            rows.offset,
            rows.fixed_delay,
            rows.chunk,
            rows.max_row,
            first_pre,
            rows.n_pre,
            capacity,
            rows.per_edge,
            dt,
        )


class Sent(NamedTuple):
    """The spikes of a block, `[steps, n]`, that gradients pass through: 1 or 0, and which cells are
    within the support of their surrogate."""

    fired: Array
    near: Array


class Backward(eqx.Module):
    """What `EventDriven` delivers, with derivatives: those of spikes visit the rows of cells that
    nearly spiked, those of weights the rows of cells that did.

    The weights are handed on, so that their gradients add up in one place from block to block.
    Releases by edge go over all edges.
    """

    rounds: EventDriven

    def __call__(
        self,
        buffer: Array,
        release: ReleaseState | None,
        spikes: Sent,
        rows: Rows,
        first_pre: int,
        first_step: Array,
        dt: float,
    ) -> tuple[Array, ReleaseState | None, Array | None]:
        """Add the spikes to the buffer, of real numbers; returns the weights as well."""
        if release is not None and rows.per_edge:
            made = SegmentSum()(buffer, release, spikes.fired, rows, first_pre, first_step, dt)
            return *made, rows.weight
        own = slice(first_pre, first_pre + rows.n_pre)
        amounts, fired, near = spikes.fired[:, own], spikes.fired > 0, spikes.near
        if release is not None:
            release, amounts = _released(release, amounts, rows, first_step, dt)
            near = near | fired  # parameters of the release change what spikes send
        words = spikes_.pack(fired), spikes_.pack(near)
        layout = self.rounds.layout(buffer, rows, first_pre, fired.shape[0], dt)
        edges = rows.row_ptr, rows.post, rows.delay
        deliver_ = _with_derivatives(layout, release is not None)
        buffer, weight = deliver_(buffer, amounts, rows.weight, *words, first_step, edges)
        return buffer, release, weight


Delivery = SegmentSum | EventDriven


def _copied(rows: Rows, release: Any) -> Any:
    """Parameters or a state for all copies of an edge, which release alike."""
    if not rows.per_edge or rows.copies == 1 or release is None:
        return release
    twice = lambda leaf: jnp.repeat(leaf, rows.copies) if jnp.ndim(leaf) else leaf  # noqa: E731
    if isinstance(release, ReleaseState):
        values, deviation = jax.tree.map(twice, (release.values, release.deviation))
        return ReleaseState(values, release.last, deviation)
    return jax.tree.map(twice, release)


def _of_edges(rows: Rows, release: Any) -> Any:
    """The state of the first copy of each edge."""
    if not rows.per_edge or rows.copies == 1 or release is None:
        return release
    first = lambda leaf: leaf[:: rows.copies]  # noqa: E731
    values, deviation = jax.tree.map(first, (release.values, release.deviation))
    return ReleaseState(values, release.last, deviation)


def _released(
    release: ReleaseState, fired: Array, rows: Rows, first_step: Array, dt: float
) -> tuple[ReleaseState, Array]:
    """What sources release in each of the steps, `[steps, n_pre]`."""

    def one(release, at):
        fired, step = at
        made = release_.step(rows.release, release, release.last, fired, step, dt)
        values, deviation, amount = made
        return ReleaseState(values, jnp.where(fired > 0, step, release.last), deviation), amount

    steps = first_step + jnp.arange(fired.shape[0], dtype=jnp.int32)
    return lax.scan(one, release, (fired, steps))


@functools.cache
def _with_derivatives(layout: Layout, released: bool):
    """`(buffer, amounts, weight, fired, near, first_step, edges) -> (buffer, weight)`, with the
    words of the cells that fired and of those whose amounts matter."""

    @jax.custom_vjp
    def add(buffer, amounts, weight, fired, near, first_step, edges):
        row_ptr, post, delay = edges
        edges = row_ptr, post, weight, delay
        if not post.shape[0]:
            return buffer, weight
        if released:
            return deliver_amounts(layout)(buffer, amounts, fired, first_step, edges), weight
        return deliver(layout)(buffer, None, fired, first_step, edges, None)[0], weight

    def forward(buffer, amounts, weight, fired, near, first_step, edges):
        made = add(buffer, amounts, weight, fired, near, first_step, edges)
        amounts = amounts if released and weight is not None else None
        return made, (amounts, weight, fired, near, first_step, edges)

    def backward(kept, given):
        amounts, weight, fired, near, first_step, (row_ptr, post, delay) = kept
        given, total = given
        edges = row_ptr, post, weight, delay
        of_spikes = of_amounts(layout)((given, near), first_step, edges)
        if weight is not None:
            edges = row_ptr, post, None, delay
            total = of_weights(layout)((total, given, fired, amounts), first_step, edges)
        return given, of_spikes, total, None, None, None, None

    add.defvjp(forward, backward)
    return add


def segment_sum_step(
    buffer: Array,
    release: ReleaseState | None,
    fired: Array,
    rows: Rows,
    first_pre: int,
    step: Array,
    dt: float,
) -> tuple[Array, ReleaseState | None]:
    """Add the spikes of one step, `[n_pre_population]` (1 or 0), to the buffer."""
    slots, n = buffer.shape
    n_edges, pre = rows.post.shape[0], rows.pre
    sent = fired[first_pre : first_pre + rows.n_pre]
    if release is None or isinstance(rows.release, Constant):
        sent = sent[pre]
    else:
        last = jnp.where(sent > 0, step, release.last)
        if rows.per_edge:
            before, amount = release.last[pre], sent[pre]
        else:
            before, amount = release.last, sent
        own, state = _copied(rows, rows.release), _copied(rows, release)
        *made, amount = release_.step(own, state, before, amount, step, dt)
        sent = amount if rows.per_edge else amount[pre]
        release = _of_edges(rows, ReleaseState(made[0], last, made[1]))
    weight = 1.0 if rows.weight is None else rows.weight
    delay = rows.fixed_delay if rows.delay is None else rows.delay.astype(jnp.int32)
    post = (step + delay) % slots * n + rows.offset + rows.post.astype(jnp.int32)
    real = jnp.arange(n_edges) < rows.row_ptr[-1]  # devices pad theirs to the same number
    arrivals = jax.ops.segment_sum(jnp.where(real, weight * sent, 0), post, slots * n)
    return buffer + arrivals.reshape(slots, n).astype(buffer.dtype), release
