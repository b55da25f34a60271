"""What evolves in a network, and what its parameters are turned into before it does."""

import functools
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from jsnn._math import NEVER as NEVER
from jsnn._math import concrete, is_same_dt
from jsnn._store import Store
from jsnn._sums import Conductances
from jsnn.adjoint import Backprop
from jsnn.exchange import Relaxation
from jsnn.inputs import Prepared
from jsnn.population import Coefficients, PopulationState
from jsnn.release import ReleaseState


class State(eqx.Module):
    """Everything that evolves.

    `step` counts the steps done, and is known inside `jit` too, as a number of NumPy, of what
    follows from `init` there; `key` are the two words that inputs draw with; `buffers` hold
    arrivals under way, `[slots, n]` for each projection, of those that are `counted` as their
    number, of others as the sum of their amounts; `releases` what the synapses of those with
    short-term plasticity remember; `status` tells the first step at which each input
    (`"input/name"`) failed, and for each population the step at which a state was found that is not
    finite (it is looked for every 64 steps, and at the end of a call), or `NEVER`. Where parameters
    are traced, it is also the step before which one was found out of its range, of the population
    itself or of what acts on it, and where the step is, that of a call that would go beyond what
    can be counted. `signals` are what
    the sources of slow currents have sent of late, `[slots, n]` for each coupling; `edges` the
    synapses of projections that grow, whose status (`"projection/name"`) is the first update that
    had no room. All of it is counted in steps of `dt` ms: clock, refractory times, what is under
    way, the last spikes of synapses.
    """

    step: Array
    key: Array
    populations: dict[str, PopulationState]
    buffers: dict[str, Array]
    releases: dict[str, ReleaseState]
    status: dict[str, Array]
    relaxation: Relaxation | None = None
    signals: dict[str, Array] = eqx.field(default_factory=dict)
    edges: dict[str, Store] = eqx.field(default_factory=dict)
    counted: tuple[str, ...] = eqx.field(static=True, default=())
    dt: float = eqx.field(static=True, kw_only=True)

    @property
    def outcome(self) -> dict[str, Array]:
        """The status, with that of the relaxation."""
        if self.relaxation is None:
            return self.status
        return {**self.status, "relaxation": self.relaxation.failed}


class Steps(eqx.Module):
    """That something is reckoned for steps of `dt` ms."""

    dt: float = eqx.field(static=True)


class NetworkCoefficients(NamedTuple):
    """Parameters turned into what a step needs."""

    populations: dict[str, Coefficients]
    inputs: dict[str, Prepared]
    weights: dict[str, Array | None]  # scalar weights, applied where arrivals are read
    couplings: dict[str, list[Conductances]]
    slow: dict[str, list[Conductances]]
    steps: Steps
    adjoint: Backprop = Backprop()


def check_steps(what: str, found: float, dt: float) -> None:
    """Raise for a state, or coefficients, of a network of other steps; but for rounding."""
    if not is_same_dt(found, dt):
        raise ValueError(
            f"{what} of a network with dt={found:g} ms, and this one has dt={dt:g} ms: clock, "
            "refractory times, spikes under way and releases are counted in its steps; give what "
            "a network of the same dt made, or begin with network.init(key)"
        )


def check_clock(step: Any, steps: int, most: int) -> None:
    """Raise unless `steps` more can be counted after a step, where that is known."""
    if steps > most:
        raise ValueError(f"{steps} steps are more than {most}, as far as steps are counted")
    done = concrete(step)
    if done is None:
        return
    if done < 0:
        raise ValueError(
            f"state is at step {done}, and steps are counted from 0; give a state of "
            "network.init(key) or of a solution"
        )
    if int(done) + steps > most:
        raise ValueError(
            f"{steps} steps after the {done} of this state are more than {most}, as far as steps "
            "are counted; give less, or a new state"
        )


def look_at_doubts(
    status: Mapping[str, Array], wrong: Mapping[str, list[Array]], step: Array
) -> dict[str, Array]:
    """The status, with this step for what is wrong already before it, by its label."""
    new = dict(status)
    for label, found in wrong.items():
        if found:
            now = functools.reduce(operator.or_, found) & (new[label] == NEVER)
            new[label] = jnp.where(now, step, new[label])
    return new


def look_at_states(
    status: Mapping[str, Array], populations: Mapping[str, PopulationState], step: Array
) -> dict[str, Array]:
    """The status, with this step for each population that has a state which is not finite."""
    new = dict(status)
    for name, state in populations.items():
        # 0 times a number that is not finite is NaN, and so is the sum
        values = [*state.cell.values(), *state.growth.values()]
        total = sum(jnp.sum(0 * value) for value in values)
        new[name] = jnp.where(jnp.isnan(total), jnp.minimum(new[name], step), new[name])
    return new


def look_at_inputs(
    status: Mapping[str, Array],
    inputs: Mapping[str, Any],
    coefficients: Mapping[str, Prepared],
    steps: Array,
    length: int | Array,
    dt: float,
) -> dict[str, Array]:
    """The status, with the first of the first `length` steps in which each input failed."""
    new = dict(status)
    for name, source in inputs.items():
        label = f"input/{name}"
        wrong = source.overflow(coefficients[name], steps, dt) & (steps < steps[0] + length)
        new[label] = jnp.minimum(new[label], jnp.min(jnp.where(wrong, steps, NEVER)))
    return new
