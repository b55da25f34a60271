"""Backward from block to block.

Forward runs what always runs, and keeps states on the way. Backward takes the blocks from the last
to the first: each is linearised at the state that was before it, and what it is given from the
block behind is pulled through. Gradients of parameters add up on the way; those of the weights of
edges in the place where they lie, since nothing of their size is to be made for every block.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from jsnn._derivatives import without_derivative
from jsnn._math import whole_steps
from jsnn._walk import Carry, Given, Where, blocks, narrow, one_unit, unit, wide
from jsnn.delivery import Backward, EventDriven
from jsnn.network import Network
from jsnn.record import Counts, Recorder
from jsnn.state import State

FORWARD = (
    "the network delivers event by event, which has first derivatives backward, as of jax.grad; "
    "for those in forward mode (jax.jvp, jax.jacfwd, jax.linearize) and for second derivatives "
    "(jax.hessian) build it with Network(..., delivery=jsnn.SegmentSum())"
)

_KEPT = ("populations", "buffers", "releases", "relaxation", "signals", "edges")


@eqx.filter_custom_vjp
def differentiable(
    given: Given,
    buffers: dict[str, Array],
    counts: dict[str, Array],
    network: Network,
    record: dict[str, Recorder],
    where: Where,
    steps: int,
) -> Carry:
    """`steps` steps with `EventDriven` delivery: state, records and counts."""
    start = given._replace(state=narrow(network, given.state))
    state, buffers, counts = blocks(network, record, where, start, steps, buffers, counts)
    return wide(state, given.state), buffers, counts


@differentiable.def_fwd
def _forward(perturbed, given, buffers, counts, network, record, where, steps):
    given = without_derivative(given, FORWARD)
    whole, tail = divmod(steps, unit(network))
    state = narrow(network, given.state)
    stride = _stride(given, state, whole)

    def one(i: Any, carry: Carry) -> Carry:
        offset = i * unit(network)
        return one_unit(network, record, where, given, unit(network), offset, carry)[:3]

    def several(carry: Carry, j: Array) -> tuple[Carry, dict[str, Any]]:
        kept, first = _kept(carry[0]), j * stride
        if stride == 1:
            return one(j, carry), kept
        return lax.fori_loop(first, jnp.minimum(first + stride, whole), one, carry), kept

    carry, kept = (state, buffers, counts), {}
    if whole:
        carry, kept = lax.scan(several, carry, jnp.arange(-(-whole // stride), dtype=jnp.int32))
    last = _kept(carry[0])
    if tail:
        offset = whole * unit(network)
        carry = one_unit(network, record, where, given, tail, offset, carry)[:3]
    state, *rest = carry
    return (wide(state, given.state), *rest), (kept, last)


@differentiable.def_bwd
def _backward(
    residuals, cotangents, perturbed, given, buffers, counts, network, record, where, steps
):
    given, cotangents = without_derivative((given, cotangents), FORWARD)
    kept, last = residuals
    assert isinstance(network.delivery, EventDriven)
    length = unit(network)
    whole, tail = divmod(steps, length)
    before = narrow(network, given.state)
    stride = _stride(given, before, whole)
    backward = eqx.tree_at(lambda n: n.delivery, network, Backward(network.delivery))
    record = {n: own for n, own in record.items() if eqx.is_inexact_array(buffers[n])}
    wanted, known = eqx.partition(given._replace(state=None), perturbed._replace(state=None))
    of_state, of_records, _ = cotangents
    of_records = {
        n: _Slopes.of(network, own, buffers[n], of_records[n], where) for n, own in record.items()
    }

    def pull(number: Any, length: int, kept: dict[str, Any], behind: tuple) -> tuple:
        # Reckoned, not kept: XLA would look it up once more for every random number
        offset = jnp.asarray(number * unit(network), jnp.int32)
        step, phase = before.step + offset, given.phase + offset
        moving, rest = _parts(wide(replace(before, step=step, **kept), given.state))

        def function(moving: Any, wanted: Any) -> tuple:
            own = eqx.combine(wanted, known)._replace(phase=phase)
            # Records of this unit alone: to hand on those of all would copy them for each
            blank = {n: own.begin(network, length, where.n) for n, own in record.items()}
            carry = eqx.combine(moving, rest), blank, counts
            state, made, _, weights = one_unit(backward, record, where, own, length, 0, carry)
            passed = [n for n in weights if n in wanted.rows and wanted.rows[n].weight is not None]
            if passed:
                at = lambda w: [w.rows[n].weight for n in passed]  # noqa: E731
                wanted = eqx.tree_at(at, wanted, [weights[n] for n in passed])
            return _parts(state)[0], made, wanted

        of_state, total = behind
        of_made = {n: own.since(given.phase, phase, length) for n, own in of_records.items()}
        return jax.vjp(function, moving, wanted)[1]((of_state, of_made, total))

    def segment(i: Array, behind: tuple) -> tuple:
        j = -(-whole // stride) - 1 - i
        own = _row(kept, j)
        if stride == 1:
            return pull(j, length, own, behind)
        first = j * stride
        count = jnp.minimum(stride, whole - first)

        def forward(i: Array, both: tuple) -> tuple:
            state, all_kept = both
            put = lambda all_, x: lax.dynamic_update_index_in_dim(all_, x, i, 0)  # noqa: E731
            all_kept = jax.tree.map(put, all_kept, _kept(state))
            carry = state, {}, counts
            return one_unit(network, {}, where, given, length, 0, carry)[0], all_kept

        room = jax.tree.map(lambda x: jnp.zeros((stride, *x.shape), x.dtype), own)
        start = replace(before, step=before.step + first * length, **own)
        _, all_kept = lax.fori_loop(0, count, forward, (start, room))

        def back(i: Array, behind: tuple) -> tuple:
            i = count - 1 - i
            return pull(first + i, length, _row(all_kept, i), behind)

        return lax.fori_loop(0, count, back, behind)

    behind = (
        _zeros_for_none(of_state, _parts(given.state)[0]),
        jax.tree.map(jnp.zeros_like, wanted),
    )
    if tail:
        behind = pull(whole, tail, last, behind)
    if whole:
        behind = lax.fori_loop(0, -(-whole // stride), segment, behind)
    of_state, total = behind
    return total._replace(state=of_state)


class _Slopes(NamedTuple):
    """The gradient with respect to a record, with rows of 0 behind it."""

    values: Array
    every: int
    begin: Callable[[int], Array]  # the buffer of so many steps
    is_count: bool

    @classmethod
    def of(
        cls, network: Network, recorder: Any, buffer: Array, given: Array | None, where: Where
    ) -> "_Slopes":
        every = 1 if recorder.every is None else whole_steps("every", recorder.every, network.dt)
        begin = lambda length: recorder.begin(network, length, where.n)  # noqa: E731
        values = jnp.zeros_like(buffer) if given is None else given
        room = begin(unit(network)).shape[0]
        values = jnp.pad(values, ((0, room), (0, 0)))
        return cls(values, every, begin, isinstance(recorder, Counts))

    def since(self, start: Array, phase: Array, length: int) -> Array:
        """Of the buffer of `length` steps from `phase` on, where all of it began with `start`."""
        rows = jax.eval_shape(lambda: self.begin(length)).shape[0]
        first = phase // self.every - start // self.every
        values = lax.dynamic_slice_in_dim(self.values, first, rows)
        if self.every > 1 and not self.is_count:  # the last is for what is not due
            values = values.at[-1].set(0)
        return values


def _stride(given: Given, state: State, whole: int) -> int:
    """The blocks from one state that is kept to the next."""
    kept = jax.tree.leaves(_kept(state))
    n_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in kept)
    if whole * n_bytes <= given.coefficients.adjoint.memory:
        return 1
    return max(round(whole**0.5), 1)


def _kept(state: State) -> dict[str, Any]:
    """What has to be known to go on from a state: all but its step, status and key."""
    return {name: getattr(state, name) for name in _KEPT}


def _parts(state: State) -> tuple[State, State]:
    return eqx.partition(state, eqx.is_inexact_array)


def _row(kept: Any, i: Array) -> Any:
    return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, 0, keepdims=False), kept)


def _zeros_for_none(given: Any, like: Any) -> Any:
    leaves, structure = jax.tree.flatten(like)
    own = structure.flatten_up_to(given)
    made = [jnp.zeros_like(x) if g is None else g for g, x in zip(own, leaves, strict=True)]
    return jax.tree.unflatten(structure, made)
