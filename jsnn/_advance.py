"""One step of all populations, with what reaches them in it."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import Array

from jsnn._external import Input, external
from jsnn._synapses import Synapses
from jsnn.coupling import Coupled, Devices, Junctions
from jsnn.exchange import Exchange, Relaxation, WaveformRelaxation, Window, move, relax
from jsnn.inputs import Cells
from jsnn.order import Order
from jsnn.population import Population, PopulationState
from jsnn.state import NetworkCoefficients, State

ALONE = Devices(defaultdict(int), lambda v: v, lambda x: x, 1)


class Parts(Protocol):
    """What a step sees of a network."""

    @property
    def populations(self) -> dict[str, Population]: ...
    @property
    def synapses(self) -> dict[str, Synapses]: ...
    @property
    def inputs(self) -> dict[str, Input]: ...
    @property
    def couplings(self) -> dict[str, Junctions]: ...
    @property
    def exchange(self) -> Exchange: ...
    @property
    def order(self) -> Order: ...
    @property
    def groups(self) -> list[tuple[str, ...]]: ...
    @property
    def dt(self) -> float: ...


def advance(
    net: Parts,
    coefficients: NetworkCoefficients,
    populations: Mapping[str, PopulationState],
    buffers: Mapping[str, Array],
    arrivals: Mapping[str, Mapping[str, Array]],
    currents: Mapping[str, Array],
    step: Array,
    relaxation: Relaxation | None,
    devices: Devices = ALONE,
) -> tuple[dict[str, PopulationState], dict[str, Array], dict[str, Array]]:
    """All populations over one step up to its spikes, with what reaches them in it: states, and of
    those that spike, fired and active."""
    waves = None
    if relaxation is not None:
        now = step % relaxation.window
        waves = {name: own[now] for name, own in relaxation.waves.items()}
    states, fired, active = {}, {}, {}
    for group in net.groups:
        coupled = _coupled(net, coefficients, group, devices)
        members = {name: net.populations[name] for name in group}
        currents = {
            **currents,
            **{
                name: sum(populations[name].slow.values(), currents[name])
                for name in group
                if populations[name].slow
            },
        }
        moved = move(
            members, coefficients.populations, populations, currents, coupled, waves, net.dt
        )
        for name, own in members.items():
            mine = _arrivals(net, coefficients, buffers, name, step, arrivals[name])
            states[name], *spikes = own.finish(
                *(coefficients.populations[name], populations[name], moved[name], mine),
                coefficients.adjoint.reset,
                net.order,
            )
            if own.neuron.is_spiking:
                fired[name], active[name] = spikes
    return states, fired, active


def grown(
    net: Parts,
    coefficients: NetworkCoefficients,
    populations: Mapping[str, PopulationState],
    fired: Mapping[str, Array],
) -> dict[str, PopulationState]:
    """What the spikes of a step leave in populations that have calcium."""
    made = dict(populations)
    for name, own in net.populations.items():
        if own.growth.calcium is not None:
            made[name] = own.grown(coefficients.populations[name], made[name], fired[name])
    return made


def relaxed(
    net: Parts,
    coefficients: NetworkCoefficients,
    state: State,
    populations: dict[str, PopulationState],
    relaxation: Relaxation | None,
    step: Array,
    cells: Mapping[str, Cells],
    devices: Devices = ALONE,
) -> Relaxation | None:
    """Before the first step of a window, the waveforms of its steps; `state` is the one at the
    start of the block, and knows all that arrives in the window."""
    exchange = net.exchange
    if relaxation is None or not isinstance(exchange, WaveformRelaxation):
        return None
    length = exchange.window(net.dt)

    def begin(relaxation: Relaxation) -> Relaxation:
        steps = step + jnp.arange(length, dtype=jnp.int32)
        sent, currents = external(
            *(net.populations, net.inputs, coefficients.inputs, state.key, steps, cells, net.dt)
        )
        for group in net.groups:
            coupled = _coupled(net, coefficients, group, devices)
            if not coupled.between:
                continue
            arrivals, held = {}, {}
            for name in group:
                n = populations[name].refractory.shape[0]
                held[name] = currents[name][:, :n]
                own = {receptor: x[:, :n] for receptor, x in sent[name].items()}
                arrivals[name] = jax.lax.map(
                    lambda at, name=name: _arrivals(net, coefficients, state.buffers, name, *at),
                    (steps, own),
                )
            relaxation = relaxation.after(
                step,
                exchange.tol,
                relax(
                    exchange,
                    {name: net.populations[name] for name in group},
                    coefficients.populations,
                    populations,
                    Window(arrivals, held),
                    coupled,
                    net.dt,
                    net.order,
                ),
            )
        return relaxation

    if length == 1:
        return begin(relaxation)
    return jax.lax.cond(step % length == 0, begin, lambda own: own, relaxation)


def _coupled(
    net: Parts, coefficients: NetworkCoefficients, group: tuple[str, ...], devices: Devices
) -> Coupled:
    between = [
        (way.pre, way.post, own)
        for name, built in net.couplings.items()
        for way, own in zip(built.ways, coefficients.couplings[name], strict=True)
        if way.post in group
    ]
    return Coupled(between, devices)


def receive_at_once(
    net: Parts,
    coefficients: NetworkCoefficients,
    before: Mapping[str, PopulationState],
    populations: Mapping[str, PopulationState],
    fired: Mapping[str, Array],
    buffers: Mapping[str, Array],
    step: Array,
) -> dict[str, PopulationState]:
    """Hand spikes with a delay of 0 to the receptors, after the reset of the same step; `before`
    are the states before the step, and `fired` the spikes in it of populations that spike."""
    states = dict(populations)
    for projection, synapses in net.synapses.items():
        if synapses.min_delay == 0:
            name = synapses.post[0]
            mine = _read(net, coefficients, projection, buffers, step, {})
            spikes = fired.get(name, jnp.zeros_like(states[name].refractory))
            states[name] = net.populations[name].receive_at_once(
                *(coefficients.populations[name], before[name], states[name], spikes, mine),
                *(net.order, coefficients.adjoint.reset),
            )
    return states


def _arrivals(
    net: Parts,
    coefficients: NetworkCoefficients,
    buffers: Mapping[str, Array],
    name: str,
    step: Array,
    sent: Mapping[str, Array],
) -> dict[str, Array]:
    """What reaches the receptors of a population in a step: of projections, and `sent`."""
    arrivals = dict(sent)
    for projection, synapses in net.synapses.items():
        if synapses.post[0] == name and synapses.max_delay > 0:
            arrivals = _read(net, coefficients, projection, buffers, step, arrivals)
    return arrivals


def _read(net: Parts, coefficients, projection, buffers, step, arrivals) -> dict[str, Array]:
    """Add what a projection delivers in the slot of a step to arrivals by receptor."""
    synapses, buffer = net.synapses[projection], buffers[projection]
    amount = jax.lax.dynamic_index_in_dim(buffer, step % buffer.shape[0], 0, keepdims=False)
    weight = coefficients.weights[projection]
    amount = amount if weight is None else weight * amount.astype(weight.dtype)
    before = arrivals.get(synapses.receptor)
    return {**arrivals, synapses.receptor: amount if before is None else before + amount}
