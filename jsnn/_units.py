"""Values in seconds, volts and amperes where ms, mV and pA are meant."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from jsnn._external import Input
from jsnn._math import concrete
from jsnn.inputs import NoiseCurrent, StepCurrent
from jsnn.population import Population

# What no cell has in the units of this package, whatever its numbers are scaled to: in ms, a
# membrane faster than any step it could be computed in; in pA, pF and nS, what moves nothing; in
# mV, a threshold and a rest below zero and within a fifth of a millivolt of it.
_SLOWEST, _LONGEST_STEP = 0.1, 1e-3
_MOST_CURRENT = 1e-6
_MOST_POTENTIAL = 0.2


def warn_of_units(
    populations: Mapping[str, Population], inputs: Mapping[str, Input], dt: float
) -> None:
    """Warn where numbers can be nothing but seconds, volts, amperes, farads or siemens."""
    for name, population in populations.items():
        if population.neuron.is_spiking:
            _warn(f"population {name!r}", _suspects(population.neuron, dt))
    for name, source in inputs.items():
        names = {StepCurrent: ("values",), NoiseCurrent: ("mean", "std")}.get(type(source), ())
        largest = {what: _largest(source, what) for what in names}
        if 0 < max(largest.values(), default=0.0) < _MOST_CURRENT:
            _warn(f"input {name!r}", [f"{what}={value:g} pA" for what, value in largest.items()])


def _suspects(neuron: Any, dt: float) -> list[str]:
    found = []
    for name, unit in (("i_e", "pA"), ("c_m", "pF"), ("g_l", "nS")):
        if 0 < (value := _largest(neuron, name)) < _MOST_CURRENT:
            found.append(f"{name}={value:g} {unit}")
    if dt < _LONGEST_STEP and 0 < (tau := _largest(neuron, "tau_m")) < _SLOWEST:
        found.append(f"tau_m={tau:g} ms in steps of dt={dt:g} ms")
    potentials = {name: _values(neuron, name) for name in ("e_l", "v_th")}
    if all(p.size and np.all((p < 0) & (p > -_MOST_POTENTIAL)) for p in potentials.values()):
        found += [f"{name}={p.min():g} mV" for name, p in potentials.items()]
    return found


def _largest(part: Any, name: str) -> float:
    """In magnitude; 0 where it is traced, or there is none."""
    return float(np.max(np.abs(_values(part, name)), initial=0.0))


def _values(part: Any, name: str) -> np.ndarray:
    known = concrete(getattr(part, name, ()))
    return np.empty(0) if known is None else np.asarray(known, np.float64)


def _warn(where: str, found: list[str]) -> None:
    if found:
        warnings.warn(
            f"{where}: {', '.join(found)}: units are ms, mV, pA, pF and nS, and these look like "
            "seconds, volts, amperes, farads or siemens",
            stacklevel=7,
        )
