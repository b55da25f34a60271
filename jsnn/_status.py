"""What is asked of a state on the host: whose it is, and whether it failed."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jsnn._math import concrete, real_dtype, shortened
from jsnn._rewire import Grows, growing
from jsnn.exchange import WaveformRelaxation
from jsnn.network import Network
from jsnn.state import NEVER, State, check_clock, check_steps


def check_state(network: Network, state: Any, steps: int = 0) -> State:
    """The same, as this network keeps it: its other delivery may have counted arrivals in other
    numbers. Raises unless it is one of this network, and can go on for so many steps."""
    if not isinstance(state, State):
        raise TypeError(f"state={shortened(state)} is no state; give network.init(key)")
    check_steps("state is", state.dt, network.dt)
    releasing = {name: s for name, s in network.synapses.items() if not s.is_constant}
    grown = [name for name, own in network.synapses.items() if own.grown is not None]
    for what, names, own in (
        ("populations", state.populations, network.populations),
        ("buffers", state.buffers, network.synapses),
        ("releases", state.releases, releasing),
        ("slow currents", state.signals, network.slow),
        ("edges", state.edges, grown),
        ("status", state.status, network.labels),
    ):
        if set(names) != set(own):
            raise ValueError(
                f"state is of another network: its {what} are {sorted(names)}, and this "
                f"network's {sorted(own)}"
            )
    whole = ((), np.dtype(np.int32))
    leaves: dict[str, tuple[Any, Any]] = {
        what: (_kind(value), whole)
        for what, value in {
            "step": state.step,
            **{f"status of {name!r}": own for name, own in state.status.items()},
        }.items()
    }
    for name, population in network.populations.items():
        own = state.populations[name]
        values = dict(own.cell) | {
            f"{receptor}.{what}": value
            for receptor, states in own.receptors.items()
            for what, value in states.items()
        }
        values |= {
            name: own.growth[name] for name in population.growth.states if name in own.growth
        }
        if set(values) != set(population.states):
            raise ValueError(
                f"state is of another network: the states of population {name!r} are "
                f"{sorted(values)}, and this network's {sorted(population.states)}"
            )
        slow = {c for c, s in network.slow.items() if s.parts[1][0] == name}
        if set(own.slow) != slow:
            raise ValueError(
                f"state is of another network: slow currents onto population {name!r} are "
                f"{sorted(own.slow)}, and this network's {sorted(slow)}"
            )
        if bool(own.rest) != bool(population.in_two):
            raise ValueError(
                f"state is of another network: the membranes of population {name!r} are "
                f"{'' if own.rest else 'not '}compensated there; give both populations one "
                "compensated="
            )
        counts = {name: own.growth.get(name) for name in population.growth.counts}
        values |= own.slow | {f"rest of {what}": value for what, value in own.rest.items()}
        for what, value in {**values, **counts, "refractory": own.refractory}.items():
            kind = real_dtype() if what in values else np.dtype(np.int32)
            leaves[f"{what!r} of population {name!r}"] = (_kind(value), ((population.n,), kind))
    for name, slow in network.slow.items():
        found, n = state.signals[name], network.populations[slow.parts[0][0]].n
        leaves[f"signals of {name!r}"] = (
            (found.shape, found.dtype),
            ((slow.slots, n), real_dtype()),
        )
    for name in grown:
        own = state.edges[name]  # of whatever capacity
        room = max(own.capacity, network.synapses[name].edges.n_edges)
        fresh = jax.eval_shape(partial(network.synapses[name].begin_store, room))
        for what, wanted in vars(fresh).items():
            kinds = _kind(getattr(own, what)), _kind(wanted)
            leaves[f"{what} of the edges of {name!r}"] = kinds
    for name, synapses in network.synapses.items():
        wanted = (synapses.slots, network.populations[synapses.post[0]].n)
        buffer = state.buffers[name]
        if (name in state.counted) != synapses.is_counted and not _is_empty(buffer):
            kinds = ("amounts", "numbers") if synapses.is_counted else ("numbers", "amounts")
            raise ValueError(
                f"state is of another network: what is under way along {name!r} are {kinds[0]} of "
                f"arrivals, and this network keeps {kinds[1]}; one weight for all edges has become "
                "one for each, or the other way round"
            )
        leaves[f"buffer of {name!r}"] = ((buffer.shape, buffer.dtype), (wanted, real_dtype()))
    for name, synapses in releasing.items():
        own, fresh = state.releases[name], synapses.init_release()
        if set(own.values) != set(fresh.values):
            raise ValueError(
                f"state is of another network: the release of {name!r} has {sorted(own.values)}, "
                f"and this network's {sorted(fresh.values)}"
            )
        for what, value in {**fresh.values, "last": fresh.last}.items():
            there = own.last if what == "last" else own.values[what]
            leaves[f"{what!r} of the release of {name!r}"] = (_kind(there), _kind(value))
    fresh = network.begin_relaxation()
    if (fresh is None) != (state.relaxation is None):
        raise ValueError(
            "state is of another network: only one of the two relaxes waveforms; give "
            "network.init(key)"
        )
    if fresh is not None and state.relaxation is not None:
        for name, wave in fresh.waves.items():
            own = state.relaxation.waves.get(name, np.zeros(0))
            leaves[f"waveforms of {name!r}"] = (own.shape, own.dtype), (wave.shape, wave.dtype)
    for what, (found, wanted) in leaves.items():
        if found != wanted:
            raise ValueError(
                f"state is of another network or precision: {what} is {found[1]} {found[0]}, and "
                f"this network's {wanted[1]} {wanted[0]}"
            )
    _check_clock(network, state, steps)
    return replace(state, counted=network.counted)


def _kind(value: Any) -> tuple[tuple[int, ...], Any]:
    return np.shape(value), getattr(value, "dtype", type(value))


def _check_clock(network: Network, state: State, steps: int) -> None:
    """Raise unless the step of a state is one that can be, and nothing in it is of a later one."""
    check_clock(state.step, steps, network.most_steps)
    done = concrete(state.step)
    if done is None:
        return
    for name, own in state.releases.items():
        last = concrete(own.last)
        if last is not None and last.size and not -1 <= last.min() <= last.max() < done:
            raise ValueError(
                f"state is at step {done}, and the release of {name!r} remembers spikes of steps "
                f"{last.min()} to {last.max()}; give a state as network.init(key) or a solution "
                "has it"
            )


def _room(own: Grows, state: State) -> int:
    return max(state.edges[name].capacity for name in own.synapses)


def _is_empty(buffer: Any) -> bool:
    values = concrete(buffer)
    return values is not None and not values.any()


def raise_if_failed(network: Network, state: State) -> None:
    """Raise `FloatingPointError` or `ValueError` for what the status tells, on the host."""
    for name in network.populations:
        step = int(state.status[name])
        if step == NEVER:
            continue
        own = state.populations[name]
        for what, values in {**own.cell, **own.growth}.items():
            bad = np.flatnonzero(~np.isfinite(np.asarray(values)))
            if bad.size:
                raise FloatingPointError(
                    f"population {name!r}: {what} of cell {bad[0]} is {values[bad[0]]} (of "
                    f"{bad.size} such cells) by t={(step + 1) * network.dt:g} ms; a smaller dt, "
                    "another solver, or smaller weights may help"
                )
        if not 0 <= int(state.step) <= network.most_steps:
            raise ValueError(
                f"a call at t={step * network.dt:g} ms went beyond {network.most_steps} steps, as "
                "far as they are counted; begin anew with network.init(key)"
            )
        raise FloatingPointError(
            f"population {name!r}: by t={(step + 1) * network.dt:g} ms a state was not finite, or "
            f"a parameter of {name!r}, or of what acts on it, was out of its range, or phase= was "
            "not that of the state"
        )
    exchange, relaxation = network.exchange, state.relaxation
    if relaxation is not None and int(relaxation.failed) != NEVER:
        assert isinstance(exchange, WaveformRelaxation)
        raise ValueError(
            "the waveform relaxation did not converge in the window that begins at "
            f"t={int(relaxation.failed) * network.dt:g} ms: after "
            f"max_iterations={exchange.max_iterations} membranes still changed, by up to "
            f"{float(relaxation.residual):.3g} mV, and tol={exchange.tol} mV is asked; give more "
            "iterations, a shorter interval or a larger tol, or Joint()"
        )
    for own in growing(network):
        step = int(state.status[f"projection/{own.name}"])
        if step != NEVER:
            raise ValueError(
                f"projection {own.name!r}: the update at t={step * network.dt:g} ms had no room "
                f"for its new synapses; give Growing(..., capacity={2 * _room(own, state)}) or more"
                " (or, inside jit, a parameter was out of its range)"
            )
    for name in network.inputs:
        step = int(state.status[f"input/{name}"])
        if step != NEVER:
            raise ValueError(
                f"input {name!r}: at t={step * network.dt:g} ms its rate was above its max_rate, "
                "negative, or not a number, or it was lowered after it was given, or another "
                "parameter was out of its range; give a higher max_rate"
            )
