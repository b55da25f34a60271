"""A block of steps without communication, and the delivery of its spikes."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jsnn import _slow
from jsnn import spikes as spikes_
from jsnn._advance import ALONE, advance, grown, receive_at_once, relaxed
from jsnn._divide import AXIS
from jsnn._external import external
from jsnn._math import real_dtype
from jsnn._samples import Block, Sources
from jsnn._slots import clear, not_before, take
from jsnn.coupling import Devices
from jsnn.delivery import Backward, EventDriven, Rows, Sent
from jsnn.inputs import Cells
from jsnn.network import Network
from jsnn.record import Recorder, sees_growth
from jsnn.state import NetworkCoefficients, State, look_at_inputs, look_at_states

_CHECKED_EVERY = 64  # steps


def block(
    network: Network,
    record: dict[str, Recorder],
    local: dict[str, int],
    first: dict[str, Any],
    coefficients: NetworkCoefficients,
    phase: Array,
    rows: dict[str, Rows],
    length: int | Array,
    offset: Array,
    state: State,
    buffers: dict[str, Array],
    counts: dict[str, Array],
):
    """`length` steps without communication, at most the least delay, then the delivery.

    Returns the state, the buffers of records, counts, and the weights of rows as `Backward` hands
    them on. `EventDriven` delivers packed spikes; with the other deliveries gradients pass.
    """
    adjoint = coefficients.adjoint
    if adjoint.between:
        # The block before may have been the last of an earlier call
        since = jnp.minimum(1 if network.rewiring is not None else network.block, state.step)
        state = adjoint.back(state, state.step, since, network.dt)
    room = length if isinstance(length, int) else network.block
    steps = state.step + jnp.arange(room, dtype=jnp.int32)
    cells = {name: Cells(first[name], n) for name, n in local.items()}
    arrivals, currents = external(
        *(network.populations, network.inputs, coefficients.inputs),
        *(state.key, steps, cells, network.dt),
    )
    event_driven = isinstance(network.delivery, EventDriven)
    real = {
        name: first[name] + jnp.arange(local[name]) < network.populations[name].n for name in local
    }

    # (a) the steps: nothing here looks across cells but what couples them in every step
    devices = ALONE
    if network.mesh is not None:
        devices = Devices(
            first,
            lambda v: lax.all_gather(v, AXIS, axis=v.ndim - 1, tiled=True),
            lambda x: lax.pmax(x, AXIS),
            network.mesh.size,
        )

    # Slow currents of all steps: their sources sent them before the block
    takes = event_driven and room == 1  # a block of one step changes buffers as it reads them
    heard, signals_kept = _slow.heard(network, state.signals, state.step, room, in_place=takes)
    slow = _slow.currents(network, coefficients.slow, heard, room, local, devices)

    arriving, waiting = dict(state.buffers), dict(state.buffers)
    for name, buffer in state.buffers.items():
        if takes and buffer.shape[0]:
            arriving[name], waiting[name] = take(buffer, state.step)

    of_growth = {name: own for name, own in record.items() if sees_growth(network, own)}
    of_cells = {name: own for name, own in record.items() if name not in of_growth}

    def sampled(record, populations):
        return {name: own.sample(network, populations, first) for name, own in record.items()}

    def one(carry, at):
        done, populations, relaxation = carry
        step, arrivals, currents, slow = at
        relaxation = relaxed(
            network, coefficients, state, populations, relaxation, step, cells, devices
        )
        populations, fired, near = advance(
            *(network, coefficients, populations, arriving, arrivals, currents, step),
            *(relaxation, devices),
        )
        populations = _slow.holding(populations, slow)
        fired = {name: jnp.where(real[name], own, 0) for name, own in fired.items()}
        samples = sampled(of_cells, populations)
        bits = {name: own > 0 for name, own in fired.items()}
        signals = _slow.sent(network, coefficients.populations, populations)
        near = {name: own & real[name] for name, own in near.items()}
        passing = {} if event_driven else {n: Sent(own, near[n]) for n, own in fired.items()}
        made = bits, passing, samples, signals
        return (done + 1, populations, relaxation), made

    # Counting the steps, though `length` is known, lets what follows depend on the loop: XLA would
    # otherwise clear the buffers beside it, and copy them for that, four times a block. A loop of
    # counted length has no gradient, so where there may be one the length itself is taken.
    start = (jnp.zeros((), jnp.int32), state.populations, state.relaxation)
    (done, populations, relaxation), (bits, fired, samples, signals) = _scan(
        one, start, (steps, arrivals, currents, slow), length
    )
    # What grows, in a loop of its own: beside the membrane, the kernel of each of its states would
    # compute the spike once more
    growing = [name for name, own in network.populations.items() if own.growth.calcium is not None]
    if growing:

        def grow(populations, fired):
            populations = grown(network, coefficients, populations, fired)
            return populations, sampled(of_growth, populations)

        own_bits = {name: bits[name].astype(real_dtype()) for name in growing}
        own_fired = own_bits if event_driven else {name: fired[name].fired for name in growing}
        populations, more = _scan(grow, populations, own_fired, length)
        samples |= more
    signals = {name: devices.everyone(own) for name, own in signals.items()}
    signals = _slow.remembered(network, signals_kept, signals, state.step, length)
    cleared = done if event_driven else length

    # (b) the spikes of the block, of all devices
    words = {name: spikes_.pack(own) for name, own in bits.items()}
    everyone = (
        words
        if network.mesh is None
        else {name: lax.all_gather(own, AXIS, axis=1, tiled=True) for name, own in words.items()}
    )
    all_fired = fired
    if not event_driven and network.mesh is not None and network.synapses:
        all_fired = jax.tree.map(lambda own: lax.all_gather(own, AXIS, axis=1, tiled=True), fired)

    # (c) the slots that have been read are cleared, and the spikes delivered
    for name, buffer in state.buffers.items():
        if not takes and buffer.shape[0]:
            waiting[name] = clear(buffer, state.step, cleared)
    sent = everyone if event_driven else {name: own.fired for name, own in all_fired.items()}
    at_once = any(synapses.min_delay == 0 for synapses in network.synapses.values())

    # Recorders of synapses see them as they were, and write before they change: otherwise XLA
    # copies them for that.
    sources = {
        name: Sources(rows[name], before, sent[synapses.pre[0]], synapses.pre[1])
        for name, before in state.releases.items()
        for synapses in [network.synapses[name]]
    }
    device = 0 if network.mesh is None else lax.axis_index(AXIS)
    clock = phase + offset + jnp.arange(room, dtype=jnp.int32)
    block = Block(offset, steps, clock, words, {}, {}, sources, device)
    early = {
        name: own.write(network, name, buffers[name], block)
        for name, own in record.items()
        if own.before_delivery
    }
    buffers = {**buffers, **early}
    if event_driven:
        sent = {name: not_before(own, early) for name, own in sent.items()}

    before, waiting, releases, weights = waiting, {}, dict(state.releases), {}
    for name, synapses in network.synapses.items():
        population, first_pre, _ = synapses.pre
        spikes = sent[population]
        if event_driven and room == 1:  # so little, side by side, that threads wait for each other
            spikes = not_before(spikes, waiting)
        if not event_driven:
            spikes = adjoint.along(name, spikes)
        if isinstance(network.delivery, Backward):
            spikes = Sent(spikes, all_fired[population].near)
        deliver: Any = network.delivery
        waiting[name], release, *weight = deliver(
            synapses.with_slot(before[name]),
            releases.get(name),
            spikes,
            rows[name],
            first_pre,
            state.step,
            network.dt,
        )
        if weight:
            weights[name] = weight[0]
        releases |= {} if release is None else {name: release}
    if at_once:  # the block is one step, and its end is after these arrivals
        arriving, delivered = dict(waiting), dict(waiting)
        for name, synapses in network.synapses.items():
            if takes and synapses.min_delay == 0 and synapses.slots:
                arriving[name], waiting[name] = take(waiting[name], state.step, delivered)
            else:
                waiting[name] = synapses.without_slot(waiting[name], state.step)
        own_fired = {name: own[0].astype(real_dtype()) for name, own in bits.items()}
        if not event_driven:
            own_fired = {name: own.fired[0] for name, own in fired.items()}
        populations = receive_at_once(
            *(network, coefficients, state.populations, populations, own_fired, arriving),
            state.step,
        )
        samples = jax.tree.map(lambda x: x[None], sampled(record, populations))

    # As whole numbers where none but they are counted
    fired = bits if event_driven else {name: own.fired for name, own in fired.items()}
    block = block._replace(fired=fired, samples=samples)
    buffers |= {
        name: own.write(network, name, buffers[name], block)
        for name, own in record.items()
        if not own.before_delivery
    }
    counts = {
        name: own + jnp.sum(lax.population_count(words[name]), axis=0, dtype=jnp.int32)
        for name, own in counts.items()
    }
    status = look_at_inputs(
        state.status, network.inputs, coefficients.inputs, steps, length, network.dt
    )
    end = state.step + length
    status = lax.cond(  # what is not finite stays so, and to look costs as much as a step
        end % _CHECKED_EVERY < length,
        lambda: look_at_states(status, populations, end - 1),
        lambda: status,
    )
    state = replace(
        state,
        step=end,
        populations=populations,
        buffers=waiting,
        releases=releases,
        status=status,
        relaxation=relaxation,
        signals=signals,
    )
    return state, buffers, counts, weights


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
