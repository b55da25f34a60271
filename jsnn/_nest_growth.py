"""NEST's names for calcium and synaptic elements."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jsnn._math import check_cells, check_number, named, unknown
from jsnn.distributions import is_distribution
from jsnn.growth import Calcium, Curve, Gaussian, Linear, Sigmoid, SynapticElements

CALCIUM = {"Ca": 0.0, "tau_Ca": 10000.0, "beta_Ca": 0.001, "synaptic_elements": {}}
"""What every neuron takes besides its own parameters, with NEST's defaults."""

_CURVES: dict[str, tuple[type[Curve], dict[str, float]]] = {
    "linear": (Linear, {"eps": 0.7}),
    "gaussian": (Gaussian, {"eta": 0.1, "eps": 0.7}),
    "sigmoid": (Sigmoid, {"eps": 0.7, "psi": 0.1}),
}
_ELEMENT = {"growth_rate": 1.0, "tau_vacant": 0.1, "continuous": True}


class Grows(NamedTuple):
    """What a population is given for it."""

    calcium: Calcium | None
    elements: dict[str, SynapticElements]
    initial: dict[str, Any]


def grows(n: int, given: Mapping[str, Any]) -> Grows:
    """The part of the parameters that is about calcium and elements."""
    if not set(given) & set(CALCIUM):
        return Grows(None, {}, {})
    values = {**CALCIUM, **given}
    for name in ("Ca", "tau_Ca", "beta_Ca"):
        if is_distribution(values[name]):
            continue
        check_number(name, values[name], low=0.0, strict=name != "Ca")
        check_cells(name, values[name], n)
    elements, initial = {}, {"ca": values["Ca"]}
    if not isinstance(values["synaptic_elements"], Mapping):
        raise TypeError(
            f"synaptic_elements={values['synaptic_elements']!r} is not a dictionary; give names"
        )
    for name, parameters in values["synaptic_elements"].items():
        with named(f"synaptic_elements {name!r}"):
            elements[name], initial[name] = _element(parameters)
    return Grows(Calcium(values["tau_Ca"], values["beta_Ca"], as_nest=True), elements, initial)


def _element(given: Any) -> tuple[SynapticElements, Any]:
    """An element, and z at the start."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{given!r} is not a dictionary; give its parameters by name")
    kind = given.get("growth_curve", "linear")
    if kind not in _CURVES:
        raise unknown("growth_curve", kind, _CURVES)
    curve, defaults = _CURVES[kind]
    own, common, z = {**defaults}, {**_ELEMENT}, 0.0
    for name, value in given.items():
        if name in own:
            own[name] = value
        elif name in common:
            common[name] = value
        elif name == "z":
            z = value
        elif name == "z_connected":
            raise ValueError("z_connected follows from the edges; give those to the projection")
        elif name != "growth_curve":
            raise unknown("parameter", name, ["growth_curve", *own, *common, "z"])
    return SynapticElements(curve(**own), **common), z
