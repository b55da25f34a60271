"""From the lines of a structure to a network, its recorders and how it is differentiated."""

from typing import Any, NamedTuple

import jax
import numpy as np
from structure import Structure

import jsnn
from jsnn.astrocytes import LiRinzel


def spread(seed: int, low: float, high: float, *shape: int) -> np.ndarray:
    """Numbers between the two, which are among them: what is derived from them has one shape."""
    made = np.random.default_rng(seed).uniform(low, high, shape)
    if made.size > 1:
        made.flat[[0, -1]] = low, high
    return made


def steps(seed: int, low: int, high: int, n: int) -> np.ndarray:
    """Whole numbers from low to high, both among them."""
    made = np.random.default_rng(seed).integers(low, high + 1, n)
    if n > 1:
        made[[0, -1]] = low, high
    return made


def pairs(seed: int, n_pre: int, n_post: int, n: int) -> jsnn.connect.Pairs:
    rng = np.random.default_rng(seed)
    return jsnn.connect.Pairs(rng.integers(0, n_pre, n), rng.integers(0, n_post, n))


def edges(seed: int, n_pre: int, n_post: int, n: int) -> jsnn.connect.Edges:
    return jsnn.connect.connect(pairs(seed, n_pre, n_post, n), 0, n_pre, n_post)


def star(n_pre: int, n_post: int) -> jsnn.connect.Pairs:
    """The first source with every target."""
    return jsnn.connect.Pairs(np.zeros(n_post, int), np.arange(n_post))


MODULES = """
    adjoint connect coupling delays distributions exchange growth inputs neurons order receptors
    record release rewire solvers surrogate
""".split()
NAMES: dict[str, Any] = {"jax": jax, "np": np, "growth": jsnn.growth, "surrogate": jsnn.surrogate}
NAMES |= {"Network": jsnn.Network, "Population": jsnn.Population, "Projection": jsnn.Projection}
NAMES |= {"EventDriven": jsnn.EventDriven, "SegmentSum": jsnn.SegmentSum, "LiRinzel": LiRinzel}
for module in MODULES:
    NAMES |= {name: own for name, own in vars(getattr(jsnn, module)).items() if name[0].isupper()}
NAMES |= {"spread": spread, "steps": steps, "pairs": pairs, "edges": edges, "star": star}


class Built(NamedTuple):
    network: jsnn.Network
    record: dict[str, Any]
    adjoint: Any


def build(structure: Structure) -> Built:
    """The network itself; float64 has to be switched on or off outside."""
    names = {**NAMES, "dt": structure.dt, "key": jax.random.key(structure.number)}
    exec(str(structure), names)  # what is shown is what is run
    return Built(names["network"], names["record"], names["adjoint"])
