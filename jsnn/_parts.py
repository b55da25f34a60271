"""Looking at the parts of a network: whether they are what they have to be, and fit each other."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from jax import Array

from jsnn._external import Input, SpikeInput
from jsnn._math import check_name, gathered, named, shortened
from jsnn._slow import SlowCurrents
from jsnn._synapses import Synapses, check_sign
from jsnn.coupling import Coupling, Junctions
from jsnn.population import Population
from jsnn.projection import Projection, locate, receptor_of
from jsnn.rewire import Rewiring

Parts = tuple[
    dict[str, Population],
    dict[str, Input],
    dict[str, Synapses],
    dict[str, Junctions],
    dict[str, SlowCurrents],
]


def check_kinds(
    populations: Any, projections: Any, inputs: Any, couplings: Any, rewiring: Any, dt: float
) -> None:
    """Raise unless the parts of a network are what their names say."""
    for kind, parts, wanted in (
        ("population", populations, Population),
        ("projection", projections, Projection),
        ("input", inputs, Input),
        ("coupling", couplings, Coupling),
    ):
        if not isinstance(parts, Mapping):
            raise TypeError(f"{kind}s={shortened(parts)} is not a dictionary; give names")
        for name, part in parts.items():
            check_name(kind, name)
            if not isinstance(part, wanted):
                raise TypeError(f"{kind} {name!r} is a {type(part).__name__}, not a {kind}")
    if not populations:
        raise ValueError("populations is empty; give at least one")
    if both := set(projections) & set(couplings):
        raise ValueError(f"{sorted(both)} are names of projections and of couplings; give others")
    if rewiring is not None and not isinstance(rewiring, Rewiring):
        raise TypeError(f"rewiring={shortened(rewiring)}; give Rewiring(interval)")
    if rewiring is not None:
        rewiring.steps(dt)
    for name, projection in projections.items():
        if projection.growing is not None and rewiring is None:
            raise ValueError(
                f"projection {name!r} grows, and nothing tells when; give the network "
                "rewiring=Rewiring(interval)"
            )


def checked_parts(
    populations: Mapping[str, Population],
    inputs: Mapping[str, Input],
    synapses: Mapping[str, Synapses],
    couplings: Mapping[str, Junctions],
    slow: Mapping[str, SlowCurrents],
    dt: float,
    doubts: dict[str, list[Array]] | None = None,
) -> Parts:
    """The parts of a network, with their parameters as arrays of the working precision; raises for
    what is wrong with them. Of what is traced, `doubts` get whether it is, by what has a status:
    population, input or growing projection, and of what has none, the population it acts on."""
    made: Parts = ({}, {}, {}, {}, {})

    def of(label: str) -> AbstractContextManager[None]:
        return gathered(None if doubts is None else doubts.setdefault(label, []))

    for name, population in populations.items():
        with named(f"population {name!r}"), of(name):
            made[0][name] = population.checked(dt)
    for name, source in inputs.items():
        with of(f"input/{name}"):
            made[1][name] = _checked_input(f"input {name!r}", source, populations, dt)
    for name, own in synapses.items():
        grown = own.grown
        with (
            named(f"projection {name!r}"),
            of(own.post[0] if grown is None else f"projection/{grown.projection}"),
        ):
            made[2][name] = own.checked(populations[own.post[0]])
    for place, own_couplings in ((made[3], couplings), (made[4], slow)):
        for name, own in own_couplings.items():
            with named(f"coupling {name!r}"), of(own.parts[1][0]):
                place[name] = own.checked()  # pyright: ignore[reportArgumentType]
    return made


def _checked_input(
    where: str, source: Input, populations: Mapping[str, Population], dt: float
) -> Input:
    name, low, high = locate(populations, source.target, where)
    with named(where):
        source = source.checked(dt, high - low)
    if isinstance(source, SpikeInput):
        receptor = receptor_of(where, populations[name], source.receptor)
        with named(where):
            check_sign(populations[name], receptor, source.weight)
    return source
