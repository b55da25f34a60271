"""Blocks of steps between the updates of a network's structure."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jsnn._divide import AXIS
from jsnn._rewire import rewired_state
from jsnn.delivery import EventDriven, Rows
from jsnn.network import Network
from jsnn.state import State

Carry = tuple[State, dict[str, Array], dict[str, Array]]


def between_updates(
    network: Network,
    run_block: Callable[..., Carry],
    rows: dict[str, Rows],
    first: dict[str, Any],
    local: dict[str, int],
    steps: int | Array,
    carry: Carry,
) -> Carry:
    """`steps` steps in blocks that end where an update is due, with the rows of the edges that are
    there from one update to the next."""
    assert network.rewiring is not None
    interval = network.rewiring.steps(network.dt)

    def begin(carry: Carry) -> tuple[Carry, dict[str, Rows]]:
        state, all_rows = updated(network, rows, first, local, carry[0])
        return (state, *carry[1:]), all_rows

    if not isinstance(network.delivery, EventDriven):  # blocks of one step

        def one(i: Array, carry: Carry) -> Carry:
            carry, all_rows = begin(carry)
            return run_block(all_rows, 1, i, *carry)

        return lax.fori_loop(0, steps, one, carry)

    def period(both: tuple[Array, Carry]) -> tuple[Array, Carry]:
        done, carry = both
        carry, all_rows = begin(carry)
        left = interval - carry[0].step % interval
        end = jnp.minimum(done + left, steps)

        def some(both: tuple[Array, Carry]) -> tuple[Array, Carry]:
            done, carry = both
            length = 1 if network.block == 1 else jnp.minimum(network.block, end - done)
            return done + length, run_block(all_rows, length, done, *carry)

        return lax.while_loop(lambda both: both[0] < end, some, (done, carry))

    start = (jnp.zeros((), jnp.int32), carry)
    return lax.while_loop(lambda both: both[0] < steps, period, start)[1]


def updated(
    network: Network,
    rows: dict[str, Rows],
    first: dict[str, Any],
    local: dict[str, int],
    state: State,
) -> tuple[State, dict[str, Rows]]:
    """The state after the update that precedes its step, if one does, and the rows of its edges
    beside those that do not grow."""
    assert network.rewiring is not None

    def update(state: State) -> State:
        if network.mesh is None:
            return rewired_state(network, state)

        def mine(name: str, values: Array) -> Array:
            return lax.dynamic_slice_in_dim(values, first[name], local[name])

        everyone = lambda own: lax.all_gather(own, AXIS, tiled=True)  # noqa: E731
        return rewired_state(network, state, everyone, mine)

    due = state.step % network.rewiring.steps(network.dt) == 0
    state = lax.cond(due, update, lambda state: state, state)
    grown = {}
    for name, own in network.synapses.items():
        if own.grown is not None:
            low = None if network.mesh is None else first[own.post[0]]
            grown[name] = own.rows_of_store(state.edges[name], low, local[own.post[0]])
    return state, {**rows, **grown}
