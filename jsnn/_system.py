"""The equations of a population: neuron and receptors together."""

from typing import Any, NamedTuple

from jax import Array

from jsnn.receptors import Receptor

Values = dict[str, Array]


class System(NamedTuple):
    """What a solver solves: its leaves are the parameters of the vector field."""

    neuron: Any
    receptors: dict[str, Receptor]


class Current(NamedTuple):
    """A current (pA) that falls with the membrane, `held` - `conductance` v, when a part `at` (0 to
    1) of the step is over."""

    at: Any
    held: Array
    conductance: Array | None = None

    def of(self, v: Array) -> Array:
        return self.held if self.conductance is None else self.held - self.conductance * v


def vector_field(
    system: System,
    y: Any,
    current: Array | Current,
    frozen: Array | bool = False,
    pace: Array | None = None,
) -> Any:
    """Right-hand side of neuron and receptors together; `current` in pA. Membranes may move at a
    part of their `pace`."""

    def total(v: Array) -> Array:
        sum_ = current.of(v) if isinstance(current, Current) else current
        for name, receptor in system.receptors.items():
            sum_ = sum_ + receptor.current(y["receptors"][name], v)
        return sum_

    neuron = system.neuron
    if pace is not None and neuron.resets_within:
        cell = neuron.vector_field(y["cell"], total, frozen, pace)
    else:
        cell = neuron.vector_field(y["cell"], total, frozen)
        cell = cell if pace is None else {**cell, "v": cell["v"] * pace}
    return {
        "cell": cell,
        "receptors": {n: r.vector_field(y["receptors"][n]) for n, r in system.receptors.items()},
    }


def receptors_after(
    system: System, receptors: dict[str, Values], elapsed: Any
) -> dict[str, Values]:
    """The states of the receptors, so many ms later without arrivals."""
    if isinstance(elapsed, float) and elapsed == 0:
        return receptors
    return {n: r.after(receptors[n], elapsed) for n, r in system.receptors.items()}
