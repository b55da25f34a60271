"""All steps of a run on one device: what surrounds the blocks."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jsnn._derivatives import backward_only
from jsnn._divide import AXIS
from jsnn._math import NEVER, real_dtype
from jsnn._reverse import FORWARD, differentiable
from jsnn._walk import Carry, Given, Where, blocks, narrow, structure, wide
from jsnn.delivery import EventDriven, Rows, SegmentSum
from jsnn.network import Network
from jsnn.record import Recorder
from jsnn.spikes import WORD
from jsnn.state import NetworkCoefficients, State, look_at_states


def all_steps(
    network: Network,
    record: dict[str, Recorder],
    local: dict[str, int],
    capacity: int,
    state: State,
    coefficients: NetworkCoefficients,
    rows: dict[str, Rows],
    phase: Array,
    steps: int | Array,
) -> Carry:
    """State, records and counts after `steps` steps, at most `capacity`, of `local` cells of each
    population."""
    axis = None if network.mesh is None else AXIS
    if axis is not None:  # the part of each device has the device as first axis
        own = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)  # noqa: E731
        rows = own(rows)
        state = replace(state, releases=own(state.releases))
    device = 0 if axis is None else lax.axis_index(axis)
    where = Where(local, {name: device * n for name, n in local.items()})
    # A last block that is cut short writes whole, beyond the end
    length = network.block
    room = -(-capacity // length) * length + (length if network.rewiring is not None else 0)
    buffers = {name: own.begin(network, room, local) for name, own in record.items()}
    # Of each word of cells; one number would take three more kernels a block
    counts = {
        name: jnp.zeros(n // WORD, jnp.int32)
        for name, n in local.items()
        if network.populations[name].neuron.is_spiking
    }
    given = Given(state, coefficients, rows, network.inputs, structure(network), phase)
    state, buffers, counts = _blocks(network, record, where, given, steps, buffers, counts)
    counts = totals(counts, axis)
    if not isinstance(steps, int) or steps:
        status = look_at_states(state.status, state.populations, state.step - 1)
        state = replace(state, status=status)
    if axis is not None:
        status = lax.pmin(state.status, axis)
        releases = jax.tree.map(lambda leaf: leaf[None], state.releases)
        state = replace(state, releases=releases, status=status)
        buffers = {
            name: own if record[name].is_divided else lax.psum(own, axis)
            for name, own in buffers.items()
        }
    return state, buffers, counts


def totals(counts: dict[str, Array], axis: str | None = None) -> dict[str, Array]:
    """The sums of counts, over all devices of an axis; `NEVER` for more than int32 holds."""
    about = {name: jnp.sum(own.astype(real_dtype())) for name, own in counts.items()}
    sums = {name: jnp.sum(own) for name, own in counts.items()}
    if axis is not None:
        sums, about = lax.psum((sums, about), axis)
    # Once round, a sum is negative; what comes round again is about twice that
    full = {name: (own < 0) | (about[name] > 1.5 * 2**31) for name, own in sums.items()}
    return {name: jnp.where(full[name], NEVER, own) for name, own in sums.items()}


def _blocks(
    network: Network,
    record: dict[str, Recorder],
    where: Where,
    given: Given,
    steps: int | Array,
    buffers: dict[str, Array],
    counts: dict[str, Array],
) -> Carry:
    if not network.synapses:
        # Nothing is delivered, and JAX itself goes back, or forward: through spikes that are real
        # numbers, as those of `EventDriven` forward are not
        network = eqx.tree_at(lambda n: n.delivery, network, SegmentSum())
    if not isinstance(network.delivery, EventDriven):
        return blocks(network, record, where, given, steps, buffers, counts)
    if isinstance(steps, int):
        moving, rest = eqx.partition(network, eqx.is_inexact_array)
        known: Any = eqx.combine(lax.stop_gradient(moving), rest)
        given = backward_only(given, FORWARD)
        return _plain(differentiable(given, buffers, counts, known, record, where, steps))
    start = given._replace(state=narrow(network, given.state))
    state, buffers, counts = blocks(network, record, where, start, steps, buffers, counts)
    return wide(state, given.state), buffers, counts


def _plain(tree: Any) -> Any:
    """The same, with whole numbers that JAX knows to have no derivative: those that a function with
    a rule of its own returns have one, of no size, which not every operation takes."""

    def plain(leaf: Any) -> Any:
        whole = eqx.is_array(leaf) and leaf.dtype.kind in "iub"
        return leaf | np.zeros((), leaf.dtype) if whole else leaf

    return jax.tree.map(plain, tree)
