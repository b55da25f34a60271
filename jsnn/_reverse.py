"""Backward from block to block.

Forward runs what always runs, and keeps states on the way. Backward takes the blocks from the last
to the first: each is linearised at the state that was before it, and what it is given from the
block behind is pulled through. Gradients of parameters add up on the way; those of the weights of
edges in the place where they lie, since nothing of their size is to be made for every block.
"""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from jsnn._walk import Carry, Given, Where, blocks, narrow, one_unit, unit, wide
from jsnn.delivery import Backward, EventDriven
from jsnn.network import Network
from jsnn.record import Recorder
from jsnn.state import State

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
    whole, tail = divmod(steps, unit(network))
    state = narrow(network, given.state)
    stride = _stride(given, state, whole)

    def one(i: Any, carry: Carry) -> Carry:
        return one_unit(network, record, where, given, unit(network), i, carry)[:3]

    def several(carry: Carry, j: Array) -> tuple[Carry, dict[str, Any]]:
        kept, first = _kept(carry[0]), j * stride
        if stride == 1:
            return one(j, carry), kept
        return lax.fori_loop(first, jnp.minimum(first + stride, whole), one, carry), kept

    carry = state, buffers, counts
    carry, kept = lax.scan(several, carry, jnp.arange(-(-whole // stride), dtype=jnp.int32))
    last = _kept(carry[0])
    if tail:
        carry = one_unit(network, record, where, given, tail, whole, carry)[:3]
    state, *rest = carry
    return (wide(state, given.state), *rest), (kept, last)


@differentiable.def_bwd
def _backward(
    residuals, cotangents, perturbed, given, buffers, counts, network, record, where, steps
):
    kept, last = residuals
    assert isinstance(network.delivery, EventDriven)
    length = unit(network)
    whole, tail = divmod(steps, length)
    before = narrow(network, given.state)
    stride = _stride(given, before, whole)
    backward = eqx.tree_at(lambda n: n.delivery, network, Backward(network.delivery))
    record = {n: own for n, own in record.items() if eqx.is_inexact_array(buffers[n])}
    blank = {n: jnp.zeros_like(buffers[n]) for n in record}
    wanted, known = eqx.partition(given._replace(state=None), perturbed._replace(state=None))

    def pull(number: Any, length: int, kept: dict[str, Any], behind: tuple) -> tuple:
        # Reckoned, not kept: XLA would look it up once more for every random number
        step = before.step + jnp.asarray(number * unit(network), jnp.int32)
        moving, rest = _parts(wide(replace(before, step=step, **kept), given.state))

        def function(moving: Any, blank: Any, wanted: Any) -> tuple:
            own = eqx.combine(wanted, known)
            carry = eqx.combine(moving, rest), blank, counts
            state, made, _, weights = one_unit(backward, record, where, own, length, number, carry)
            passed = [n for n in weights if n in wanted.rows and wanted.rows[n].weight is not None]
            if passed:
                at = lambda w: [w.rows[n].weight for n in passed]  # noqa: E731
                wanted = eqx.tree_at(at, wanted, [weights[n] for n in passed])
            return _parts(state)[0], made, wanted

        return jax.vjp(function, moving, blank, wanted)[1](behind)

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
            return one_unit(network, {}, where, given, length, first + i, carry)[0], all_kept

        room = jax.tree.map(lambda x: jnp.zeros((stride, *x.shape), x.dtype), own)
        start = replace(before, step=before.step + first * length, **own)
        _, all_kept = lax.fori_loop(0, count, forward, (start, room))

        def back(i: Array, behind: tuple) -> tuple:
            i = count - 1 - i
            return pull(first + i, length, _row(all_kept, i), behind)

        return lax.fori_loop(0, count, back, behind)

    of_state, of_records, _ = cotangents
    behind = (
        _zeros_for_none(of_state, _parts(given.state)[0]),
        _zeros_for_none({n: of_records[n] for n in record}, blank),
        jax.tree.map(jnp.zeros_like, wanted),
    )
    if tail:
        behind = pull(whole, tail, last, behind)
    of_state, _, total = lax.fori_loop(0, -(-whole // stride), segment, behind)
    return total._replace(state=of_state)


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
