"""What inputs send to the cells of a network."""

import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from jsnn._divide import pad_cells
from jsnn.inputs import Cells, NoiseCurrent, Poisson, Prepared, SpikeList, StepCurrent, Target
from jsnn.population import Population
from jsnn.projection import locate, receptor_of

SpikeInput = Poisson | SpikeList
CurrentInput = StepCurrent | NoiseCurrent
Input = SpikeInput | CurrentInput


def target(populations: Mapping[str, Population], source: Input) -> tuple[str, Target]:
    """The population that an input is aimed at, and which of its cells."""
    name, low, high = locate(populations, source.target)
    return name, Target(populations[name].n, low, high)


def pad_inputs(
    populations: Mapping[str, Population],
    inputs: Mapping[str, Input],
    prepared: Mapping[str, Prepared],
    to: Mapping[str, int],
) -> dict[str, Prepared]:
    """Inputs draw for whole tiles of cells: their coefficients for `to` cells a population."""
    padded = {}
    for name, own in prepared.items():
        population, aim = target(populations, inputs[name])
        padded[name] = own._replace(cells=pad_cells(own.cells, aim.n, to[population]))
    return padded


def external(
    populations: Mapping[str, Population],
    inputs: Mapping[str, Input],
    prepared: Mapping[str, Prepared],
    key: Array,
    steps: Array,
    cells: Mapping[str, Cells],
    dt: float,
) -> tuple[dict[str, dict[str, Array]], dict[str, Array]]:
    """What inputs send in the given steps: arrivals by population and receptor, and currents
    by population, each `[len(steps), n]` (currents also `[len(steps), 1]`)."""
    arrivals: dict[str, dict[str, Array]] = {name: {} for name in populations}
    currents = {name: jnp.zeros((steps.shape[0], 1)) for name in populations}
    for name, source in inputs.items():
        population, aim = target(populations, source)
        base = jax.random.wrap_key_data(key, impl="threefry2x32")
        own = jax.random.key_data(jax.random.fold_in(base, zlib.crc32(name.encode())))
        sent = source.block(prepared[name], own, steps, cells[population], aim, dt)
        if isinstance(source, CurrentInput):
            currents[population] = currents[population] + sent
        else:
            receptor = receptor_of(name, populations[population], source.receptor)
            before = arrivals[population].get(receptor)
            arrivals[population][receptor] = sent if before is None else before + sent
    return arrivals, currents
