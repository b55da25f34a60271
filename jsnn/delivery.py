"""Spikes into the buffers of arrivals.

A projection owns a circular buffer `[slots, n]`: what arrives at each target cell in each of the
next steps. Slot of step s is s modulo the number of slots. With one weight for all edges the buffer
counts arrivals (under `EventDriven` in narrow integers), and the weight is applied where it is
read: whole numbers add up the same in any order. With a weight an edge, rows are added in the order
of (step, source), which is the same however a run is cut or spread over devices.

With short-term plasticity a spike is the amount that it releases, and the buffer holds sums of
those. They are advanced by the spikes, in the order of steps, on every device alike, so devices
still exchange bits.

`SegmentSum` is the definition, one line. `EventDriven` gives the same numbers and costs in
proportion to the spikes.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jsnn import release as release_
from jsnn._event_driven import deliver
from jsnn._rows import Layout
from jsnn.release import Constant, Release, ReleaseState


class Rows(eqx.Module):
    """The edges of a projection as the delivery reads them, sorted by source.

    `weight` is None where all edges have one; `delay` (steps) is a static number or `[n_edges]`.
    `post` counts from `offset` within the target population.
    """

    row_ptr: Array  # [n_pre + 1] int32
    post: Array  # [n_edges]
    weight: Array | None  # [n_edges]
    delay: Array | None  # [n_edges], narrow integers, or None for `fixed_delay`
    release: Release  # parameters of sources, or of edges
    edge: Array | None  # [n_edges]: which of all edges each is, where these are a device's own
    offset: int = eqx.field(static=True)
    fixed_delay: int = eqx.field(static=True)
    chunk: int = eqx.field(static=True)  # edges of a row at once, for releases by edge
    max_row: int = eqx.field(static=True)
    per_edge: bool = eqx.field(static=True)

    @property
    def n_pre(self) -> int:
        return self.row_ptr.shape[0] - 1

    @property
    def pre(self) -> Array:
        """The source of every edge; the last one's for those that devices pad theirs with."""
        lengths = jnp.diff(self.row_ptr)
        return jnp.repeat(jnp.arange(self.n_pre), lengths, total_repeat_length=self.post.shape[0])


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
        n_pre, n_steps = rows.n_pre, words.shape[0]
        capacity = self.capacity
        if capacity is None:  # room for 0.5 % of the cells in every step
            capacity = min(max(n_steps * n_pre // 200, 64), 8192)
        capacity = min(capacity, n_steps * n_pre)  # no more spikes than that
        capacity = max(min(capacity, (2**31 - 1) // max(rows.max_row, 1)), 1)  # int32 counts edges
        if rows.post.shape[0] == 0 and (release is None or rows.per_edge):
            return buffer, release  # sources without edges remember their spikes all the same
        layout = Layout(
            buffer.shape[0],
            buffer.shape[1],
            rows.offset,
            rows.fixed_delay,
            rows.chunk,
            rows.max_row,
            first_pre,
            n_pre,
            capacity,
            rows.per_edge,
            dt,
        )
        edges = (rows.row_ptr, rows.post, rows.weight, rows.delay)
        return deliver(layout)(buffer, release, words, first_step, edges, rows.release)


Delivery = SegmentSum | EventDriven


@jax.custom_vjp
def not_differentiable(values):
    """The identity, which refuses to be differentiated: the counts in the buffers would cut the
    gradient through the spikes in silence."""
    return values


def _refuse(values):
    raise NotImplementedError(
        "EventDriven delivery is not differentiable; build the network with delivery=SegmentSum()"
    )


not_differentiable.defvjp(_refuse, _refuse)


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
        *made, amount = release_.step(rows.release, release, before, amount, step, dt)
        sent = amount if rows.per_edge else amount[pre]
        release = ReleaseState(made[0], last, made[1])
    weight = 1.0 if rows.weight is None else rows.weight
    delay = rows.fixed_delay if rows.delay is None else rows.delay.astype(jnp.int32)
    post = (step + delay) % slots * n + rows.offset + rows.post.astype(jnp.int32)
    real = jnp.arange(n_edges) < rows.row_ptr[-1]  # devices pad theirs to the same number
    arrivals = jax.ops.segment_sum(jnp.where(real, weight * sent, 0), post, slots * n)
    return buffer + arrivals.reshape(slots, n).astype(buffer.dtype), release
