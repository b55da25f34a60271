"""What evolves in a network, and what its parameters are turned into before it does."""

from typing import NamedTuple

import equinox as eqx
from jax import Array

from jsnn.inputs import Prepared
from jsnn.population import Coefficients, PopulationState
from jsnn.release import ReleaseState

NEVER = 2**31 - 1  # the step at which nothing went wrong


class State(eqx.Module):
    """Everything that evolves.

    `step` counts the steps done; `key` are the two words that inputs draw with; `buffers` hold
    arrivals under way, `[slots, n]` for each projection; `releases` what the synapses of those with
    short-term plasticity remember; `status` tells the first step at which
    each input (`"input/name"`) failed, and for each population the end of the first block after
    which a state was not finite, or `NEVER`.
    """

    step: Array
    key: Array
    populations: dict[str, PopulationState]
    buffers: dict[str, Array]
    releases: dict[str, ReleaseState]
    status: dict[str, Array]


class NetworkCoefficients(NamedTuple):
    """Parameters turned into what a step needs, and a key for each input."""

    populations: dict[str, Coefficients]
    inputs: dict[str, Prepared]
    weights: dict[str, Array | None]  # scalar weights, applied where arrivals are read
