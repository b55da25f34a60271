"""The pure loop: blocks of steps without communication, and the delivery between them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec

from jsnn import spikes as spikes_
from jsnn.delivery import EventDriven, Rows
from jsnn.inputs import Cells
from jsnn.network import AXIS, Network, NetworkCoefficients, State, padded
from jsnn.record import Block, Record, Recorder


class Solution(eqx.Module):
    """What a run gives.

    - `state`: the state after the last step, from which a run can go on.
    - `records`: by the names given to `record`.
    - `status`: by population and input the first step at which it failed, or `jsnn.NEVER`.
    - `stats`: numbers about the run; `simulate` counts the spikes of each population.
    """

    state: State
    records: dict[str, Record]
    status: dict[str, Array]
    stats: dict[str, Any]


def simulate(
    network: Network,
    state: State,
    steps: int,
    record: Mapping[str, Recorder] | None = None,
) -> Solution:
    """Advance the network by a number of steps. Pure: may stand inside `jit`, `vmap` and `scan`,
    and inside `grad` with `SegmentSum` delivery.

    **Arguments:**

    - `network`, `state`: the state from `network.init(key)` or of an earlier solution.
    - `steps`: how many, of `network.dt` each; static.
    - `record`: recorders by name.

    However a run is cut into calls, the spikes are the same.
    """
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise TypeError(f"steps={steps!r} is not an integer; give a number of steps")
    if steps < 0:
        raise ValueError(f"steps={steps} is negative")
    record = check_record(network, record)
    return advance(network, state, steps, steps, record)


def check_record(network: Network, record: Mapping[str, Recorder] | None) -> dict[str, Recorder]:
    """The recorders as a dictionary, or the error for what is wrong with them."""
    record = dict(record or {})
    for name, recorder in record.items():
        if not isinstance(name, str) or not isinstance(recorder, Recorder):
            raise TypeError(f"record[{name!r}] is {recorder!r}; give Spikes, Counts or States")
        recorder.check(network)
    return record


def _advance(
    network: Network,
    state: State,
    steps: int | Array,
    capacity: int,
    record: dict[str, Recorder],
) -> Solution:
    """`steps` steps, at most `capacity`. A traced number lets one compilation serve segments of
    any length, but cannot be differentiated; the records then have room for `capacity` steps."""
    n = {name: p.n for name, p in network.populations.items()}
    devices = 1 if network.mesh is None else network.mesh.size
    local = {name: padded(n[name], devices) for name in n}
    coefficients = network.prepare()
    coefficients = coefficients._replace(
        populations={
            name: _pad_cells(own, n[name], local[name] * devices)
            for name, own in coefficients.populations.items()
        },
        inputs={
            name: own._replace(cells=_pad_cells(own.cells, n[source], local[source] * devices))
            for name, own in coefficients.inputs.items()
            for source in [network.target(network.inputs[name])[0]]
        },
    )
    wide = State(
        state.step,
        state.key,
        {
            name: _pad_cells(own, n[name], local[name] * devices, always=True)
            for name, own in state.populations.items()
        },
        {
            name: _pad_zero(own, local[network.synapses[name].post[0]] * devices)
            for name, own in state.buffers.items()
        },
        state.status,
    )
    loop = partial(_loop, network, record, local, capacity)
    if network.mesh is None:
        rows = {name: synapses.rows() for name, synapses in network.synapses.items()}
        wide, buffers, counts = loop(wide, coefficients, _arrays(rows), steps)
    else:
        rows = {name: s.rows_of_devices() for name, s in network.synapses.items()}
        divided, same = PartitionSpec(AXIS), PartitionSpec()
        state_spec = State(
            same,
            same,
            jax.tree.map(lambda _: divided, wide.populations),
            jax.tree.map(lambda _: PartitionSpec(None, AXIS), wide.buffers),
            jax.tree.map(lambda _: same, wide.status),
        )
        cells_spec = coefficients._replace(
            populations={
                name: _cells_spec(own, local[name] * devices)
                for name, own in coefficients.populations.items()
            },
            inputs={
                name: own._replace(
                    cells=_cells_spec(own.cells, local[source] * devices),
                    shared=jax.tree.map(lambda _: same, own.shared),
                )
                for name, own in coefficients.inputs.items()
                for source in [network.target(network.inputs[name])[0]]
            },
            weights=jax.tree.map(lambda _: same, coefficients.weights),
        )
        record_spec = {
            name: PartitionSpec(None, AXIS) if own.is_divided else same
            for name, own in record.items()
        }
        if isinstance(steps, int):  # stays static inside
            static, traced, traced_spec = (steps,), (), ()
        else:
            static, traced, traced_spec = (), (steps,), (same,)
        wide, buffers, counts = jax.shard_map(
            lambda *arguments: loop(*arguments, *static),
            mesh=network.mesh,
            in_specs=(state_spec, cells_spec, divided, *traced_spec),
            out_specs=(state_spec, record_spec, same),
            check_vma=False,
        )(wide, coefficients, _arrays(rows), *traced)
    narrow = State(
        wide.step,
        wide.key,
        {
            name: jax.tree.map(lambda leaf, n=n[name]: leaf[:n], own)
            for name, own in wide.populations.items()
        },
        {name: own[:, : n[network.synapses[name].post[0]]] for name, own in wide.buffers.items()},
        wide.status,
    )
    if network.mesh is not None:  # where the state was, so that the next call finds it the same
        narrow = lax.with_sharding_constraint(narrow, NamedSharding(network.mesh, PartitionSpec()))
    records = {
        name: own.end(network, buffers[name], state.step, steps, capacity)
        for name, own in record.items()
    }
    return Solution(narrow, records, narrow.status, {"spikes": counts})


advance = eqx.filter_jit(_advance)

# The same for the host's loop. Vectors of 512 bits are worth a fifth of the time on CPUs that have
# them; LLVM splits them on others. JAX takes such options at the outermost `jit` only.
advance_from_host = eqx.filter_jit(
    _advance, compiler_options={"xla_cpu_prefer_vector_width": "512"}
)


def _loop(network, record, local, capacity, state, coefficients, rows, steps):
    """All blocks of a device (or of the only one)."""
    axis = None if network.mesh is None else AXIS
    if axis is not None:
        rows = jax.tree.map(lambda leaf: leaf[0], rows)
    rows = _with_static(network, rows)
    device = 0 if axis is None else lax.axis_index(axis)
    first = {name: device * n for name, n in local.items()}
    block = network.block
    # A last block that is cut short writes whole, beyond the end
    room = -(-capacity // block) * block
    buffers = {name: own.begin(network, room, local) for name, own in record.items()}
    counts = {name: jnp.zeros((), jnp.int32) for name in local}
    run_block = partial(_block, network, record, local, first, coefficients, rows)
    carry = (state, buffers, counts)
    if isinstance(steps, int):
        blocks, tail = divmod(steps, block)
        if blocks:
            carry = lax.fori_loop(0, blocks, lambda i, c: run_block(block, i * block, *c), carry)
        if tail:
            carry = run_block(tail, jnp.asarray(blocks * block), *carry)
    else:
        carry = lax.fori_loop(
            0,
            -(-steps // block),
            lambda i, c: run_block(jnp.minimum(block, steps - i * block), i * block, *c),
            carry,
        )
    state, buffers, counts = carry
    if axis is not None:
        counts = lax.psum(counts, axis)
        status = lax.pmin(state.status, axis)
        state = State(state.step, state.key, state.populations, state.buffers, status)
        buffers = {
            name: own if record[name].is_divided else lax.psum(own, axis)
            for name, own in buffers.items()
        }
    return state, buffers, counts


def _block(
    network: Network,
    record: dict[str, Recorder],
    local: dict[str, int],
    first: dict[str, Any],
    coefficients: NetworkCoefficients,
    rows: dict[str, Rows],
    length: int | Array,
    offset: Array,
    state: State,
    buffers: dict[str, Array],
    counts: dict[str, Array],
):
    """`length` steps without communication, at most the least delay, then the delivery."""
    room = length if isinstance(length, int) else network.block
    steps = state.step + jnp.arange(room, dtype=jnp.int32)
    cells = {name: Cells(first[name], n) for name, n in local.items()}
    arrivals, currents = network.external(coefficients, state.key, steps, cells)
    event_driven = isinstance(network.delivery, EventDriven)
    real = {
        name: first[name] + jnp.arange(local[name]) < network.populations[name].n for name in local
    }

    # (a) the steps: nothing here looks across cells
    def one(populations, at):
        step, arrivals, currents = at
        populations, fired, _ = network.advance(
            coefficients, populations, state.buffers, arrivals, currents, step
        )
        fired = {name: jnp.where(real[name], own, 0) for name, own in fired.items()}
        samples = {name: own.sample(network, populations, first) for name, own in record.items()}
        bits = {name: own > 0 for name, own in fired.items()}
        return populations, (bits, {} if event_driven else fired, samples)

    populations, (bits, fired, samples) = _scan(
        one, state.populations, (steps, arrivals, currents), length
    )
    if event_driven and network.synapses:
        populations = _not_differentiable(populations)

    # (b) the spikes of the block, of all devices
    words = {name: spikes_.pack(own) for name, own in bits.items()}
    everyone = (
        words
        if network.mesh is None
        else {name: lax.all_gather(own, AXIS, axis=1, tiled=True) for name, own in words.items()}
    )
    if not event_driven and network.mesh is not None:
        fired = {n: lax.all_gather(own, AXIS, axis=1, tiled=True) for n, own in fired.items()}

    # (c) the slots that have been read are cleared, and the spikes delivered
    waiting = {}
    for name, synapses in network.synapses.items():
        buffer = state.buffers[name]
        if synapses.max_delay > 0:
            buffer = _clear(buffer, steps, length)
        population, first_pre, _ = synapses.pre
        sent = everyone[population] if event_driven else fired[population]
        waiting[name] = network.delivery(buffer, sent, rows[name], first_pre, state.step)
    if any(synapses.min_delay == 0 for synapses in network.synapses.values()):
        populations = network.receive_at_once(coefficients, populations, waiting, state.step)
        for name, synapses in network.synapses.items():
            if synapses.min_delay == 0:
                waiting[name] = _clear(waiting[name], steps, length)

    block = Block(offset, steps, words, bits, samples)
    buffers = {name: own.write(network, name, buffers[name], block) for name, own in record.items()}
    counts = {
        name: own + jnp.sum(lax.population_count(words[name])).astype(jnp.int32)
        for name, own in counts.items()
    }
    status = network.check(state.status, coefficients, populations, steps, length)
    state = State(state.step + length, state.key, populations, waiting, status)
    return state, buffers, counts


def _scan(body, carry, xs, length: int | Array):
    """`lax.scan` over the first `length` of xs, which may be traced; what is left out gives 0."""
    if isinstance(length, int):
        return lax.scan(body, carry, xs)
    at = lambda i: jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, 0, False), xs)  # noqa: E731
    room = jax.tree.leaves(xs)[0].shape[0]
    made = jax.eval_shape(body, carry, jax.eval_shape(at, 0))[1]
    made = jax.tree.map(lambda y: jnp.zeros((room, *y.shape), y.dtype), made)

    def step(i, both):
        carry, made = both
        carry, new = body(carry, at(i))
        put = lambda y, row: lax.dynamic_update_index_in_dim(y, row, i, 0)  # noqa: E731
        return carry, jax.tree.map(put, made, new)

    return lax.fori_loop(0, length, step, (carry, made))


def _clear(buffer: Array, steps: Array, length: int | Array) -> Array:
    """Set the slots of the first `length` steps to 0."""
    slots = buffer.shape[0]
    empty = jnp.zeros((1, buffer.shape[1]), buffer.dtype)

    def clear(i, buffer):
        return lax.dynamic_update_slice_in_dim(buffer, empty, steps[i] % slots, 0)

    return lax.fori_loop(0, length, clear, buffer)


@jax.custom_vjp
def _not_differentiable(populations):
    """The identity, which refuses to be differentiated: the counts in the buffers would cut the
    gradient through the spikes in silence."""
    return populations


def _refuse(populations):
    raise NotImplementedError(
        "EventDriven delivery is not differentiable; build the network with delivery=SegmentSum()"
    )


_not_differentiable.defvjp(_refuse, _refuse)


def _pad_cells(tree: Any, n: int, to: int, always: bool = False) -> Any:
    """Repeat the last cell up to `to` cells, in every leaf whose last axis is that of n cells."""

    def pad(leaf):
        if leaf.ndim == 0 or leaf.shape[-1] != n or (n == 1 and not always):
            return leaf
        return jnp.pad(leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, to - n)], mode="edge")

    return jax.tree.map(pad, tree)


def _pad_zero(buffer: Array, to: int) -> Array:
    return jnp.pad(buffer, ((0, 0), (0, to - buffer.shape[1])))


def _cells_spec(tree: Any, n: int) -> Any:
    """Leaves with the cells as last axis are divided, others are the same everywhere."""

    def spec(leaf):
        if leaf.ndim == 0 or leaf.shape[-1] != n:
            return PartitionSpec()
        return PartitionSpec(*[None] * (leaf.ndim - 1), AXIS)

    return jax.tree.map(spec, tree)


def _arrays(rows: dict[str, Rows]) -> dict[str, tuple]:
    return {name: (r.row_ptr, r.post, r.weight, r.delay) for name, r in rows.items()}


def _with_static(network: Network, arrays: dict[str, tuple]) -> dict[str, Rows]:
    made = {}
    for name, (row_ptr, post, weight, delay) in arrays.items():
        synapses = network.synapses[name]
        whole = synapses.rows() if network.mesh is None else synapses.rows_of_devices()
        made[name] = whole._replace(row_ptr=row_ptr, post=post, weight=weight, delay=delay)
    return made
