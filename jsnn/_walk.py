"""From block to block, forward."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from jsnn._block import block
from jsnn._updates import between_updates, updated
from jsnn.delivery import EventDriven, Rows
from jsnn.network import Network
from jsnn.record import Recorder
from jsnn.release import ReleaseState
from jsnn.state import NetworkCoefficients, State

Carry = tuple[State, dict[str, Array], dict[str, Array]]


class Given(NamedTuple):
    """What a run depends on, and can be differentiated with respect to."""

    state: State
    coefficients: NetworkCoefficients
    rows: dict[str, Rows]
    inputs: Mapping[str, Any]  # their parameters, of which functions of time have some
    structure: list[Any]  # what updates read of the network, by `structure`
    phase: Array  # what samples count the first step of the records' buffers as


class Where(NamedTuple):
    """The cells of this device: how many of each population, and the first."""

    n: dict[str, int]
    first: dict[str, Any]


def structure(network: Network) -> list[Any]:
    """Where structure is plastic, the leaves of the laws of growth and of new synapses."""
    if network.rewiring is None:
        return []
    grown = [own for own in network.synapses.values() if own.grown is not None]
    laws = [own.growth for own in network.populations.values()]
    return jax.tree.leaves((laws, [(own.grown, own.release) for own in grown]))


def blocks(
    network: Network,
    record: dict[str, Recorder],
    where: Where,
    given: Given,
    steps: int | Array,
    buffers: dict[str, Array],
    counts: dict[str, Array],
) -> Carry:
    """`steps` steps, which may be traced."""
    coefficients, rows, length = given.coefficients, given.rows, network.block
    phase = given.phase

    def run_block(*arguments: Any) -> Carry:
        return block(network, record, where.n, where.first, coefficients, phase, *arguments)[:3]

    carry = given.state, buffers, counts
    if network.rewiring is not None:
        return between_updates(network, run_block, rows, where.first, where.n, steps, carry)
    if isinstance(steps, int) and not steps:
        return carry
    if not isinstance(steps, int) or isinstance(network.delivery, EventDriven):
        # XLA sees through a loop of known length: it would clear buffers beside it, and copy them
        some = lambda i: jnp.minimum(length, steps - i * length) if length > 1 else 1  # noqa: E731
        one = lambda i, c: run_block(rows, some(i), i * length, *c)  # noqa: E731
        return lax.fori_loop(0, -(-steps // length), one, carry)
    whole, tail = divmod(steps, length)
    if whole:
        one = lambda i, c: run_block(rows, length, i * length, *c)  # noqa: E731
        carry = lax.fori_loop(0, whole, one, carry)
    return run_block(rows, tail, jnp.asarray(whole * length), *carry) if tail else carry


def unit(network: Network) -> int:
    """The steps that are a block each time: one where an update may precede any step."""
    return 1 if network.rewiring is not None else network.block


def one_unit(
    network: Network,
    record: dict[str, Recorder],
    where: Where,
    given: Given,
    length: int,
    offset: Any,
    carry: Carry,
) -> tuple[State, dict[str, Array], dict[str, Array], dict[str, Array]]:
    """A unit of at most `length` steps, `offset` steps after the start of the buffers of records,
    from a carry in place of the state given; also the weights of the rows as they are handed on."""
    state, rows = carry[0], given.rows
    if network.rewiring is not None:
        network = eqx.tree_at(structure, network, given.structure)
        state, rows = updated(network, rows, where.first, where.n, state)
    net = eqx.tree_at(lambda n: n.inputs, network, given.inputs)
    make = partial(block, net, record, where.n, where.first, given.coefficients, given.phase)
    return make(rows, length, jnp.asarray(offset, jnp.int32), state, *carry[1:])


def narrow(network: Network, state: State) -> State:
    """The state as it is kept where no gradient passes: counts of arrivals in few bytes, and
    nothing that is there for gradients alone."""
    buffers = {n: own.astype(network.synapses[n].kept_as) for n, own in state.buffers.items()}
    releases = {n: ReleaseState(own.values, own.last, {}) for n, own in state.releases.items()}
    return replace(state, buffers=buffers, releases=releases)


def wide(state: State, like: State) -> State:
    """The state in real numbers, as one that it was made of."""
    buffers = {n: own.astype(like.buffers[n].dtype) for n, own in state.buffers.items()}
    releases = {
        n: ReleaseState(own.values, own.last, jax.tree.map(jnp.zeros_like, own.values))
        for n, own in state.releases.items()
    }
    return replace(state, buffers=buffers, releases=releases)
