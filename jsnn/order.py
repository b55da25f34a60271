"""In which order a step's arrivals, thresholds and resets follow each other.

    network = jsnn.Network(..., order=jsnn.order.AsInBrian())

Only what arrives at `Delta` receptors knows the difference: what filters receive acts from the next
step on, and is not reset.

| | `AsInNest()`, the default | `AsInBrian()` |
|---|---|---|
| within a step | states, arrivals, thresholds, resets | states, thresholds, arrivals, resets |
| an arrival at `Delta` is tested | in its step | in the next one |
| on a cell that fires in this step | before the spike; without delay: after the reset | erased |
| on a cell whose membrane stands still | lost; without delay: but in the last such step | lost |

Arrivals are those of projections and of inputs; those without delay are of spikes of this step. In
Brian's order a law without a reset (`HodgkinHuxley`), whose membrane never stands still, loses
none. Both stamp a spike of step n with (n + 1) dt, and freeze the membrane for t_ref / dt steps,
where Brian stamps it with n dt and freezes one step fewer.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from jsnn._names import explained


@explained
class AsInNest(eqx.Module):
    """States, arrivals, thresholds, resets; spikes without delay arrive after the resets."""

    def lost(self, neuron: Any, frozen: Array, fired: Array | None, stays: Array) -> Array:
        """Which cells lose the arrivals at `Delta` receptors: `frozen` stand still, and those that
        `fired` within the step, if the law does so, for the rest of the step where they stay."""
        return frozen if fired is None else frozen | (fired & stays)

    def tested(self, moved: Any, arrived: Any) -> Any:
        """The state whose thresholds are tested, of those before and after the arrivals."""
        return arrived

    def at_once(
        self, neuron: Any, before: Array, after: Array, fired: Array
    ) -> tuple[Array, Array | None]:
        """Of arrivals in the step of their spike, where they are lost, and which part of them
        outlasts the step (None: all), by the frozen steps left before and after the step."""
        return after > 0, None


@explained
class AsInBrian(eqx.Module):
    """States, thresholds, arrivals, resets, as in Brian 2 (its slots `groups`, `thresholds`,
    `synapses`, `resets`), with `(unless refractory)` where the membrane stands still."""

    def lost(self, neuron: Any, frozen: Array, fired: Array | None, stays: Array) -> Array:
        """Which cells lose the arrivals at `Delta` receptors. Cells that fire lose them by their
        reset, but for those that have been reset before."""
        frozen = self._closed(neuron, frozen)
        return frozen if fired is None else frozen | fired

    def tested(self, moved: Any, arrived: Any) -> Any:
        """The state whose thresholds are tested, of those before and after the arrivals."""
        return moved

    def at_once(
        self, neuron: Any, before: Array, after: Array, fired: Array
    ) -> tuple[Array, Array | None]:
        """Of arrivals in the step of their spike, where they are lost, and which part of them
        outlasts the resets, by the frozen steps left before and after the step."""
        return self._closed(neuron, before > 0), neuron.outlasts(fired)

    def _closed(self, neuron: Any, frozen: Array) -> Array:
        return frozen if "v" in neuron.frozen else jnp.zeros_like(frozen)


Order = AsInNest | AsInBrian
