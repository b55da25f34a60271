"""Draws of one structure: networks of the same shapes, each run in every way."""

import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from build import build
from structure import Structure, structure
from vary import vary
from ways import Ways, compiled, disagreements

FEWEST = 50  # spikes delivered, without which a network shows little


def draws(
    made: Structure | int, numbers: list[int], only: str | None = None, until: float = np.inf
) -> Iterator[dict[str, Any]]:
    """What was found of each draw: number 0 is the structure as it is written, others have other
    parameters and edges. The last may begin at the time `until`."""
    made = structure(made) if isinstance(made, int) else made
    with jax.enable_x64(made.double):
        built = build(made)
        ways = Ways(built)
        for k, draw in enumerate(numbers):
            begun, before = time.time(), compiled()
            if k and begun > until:
                break
            rng = np.random.default_rng([made.number, draw])
            try:
                network = vary(built.network, rng) if draw else built.network
                states = [network.init(jax.random.key(2 * draw + i)) for i in range(2)]
                found, seen = disagreements(ways, network, states, rng, only)
            except Exception as error:  # the next draw may do
                seen = {"spikes": 0, "delivered": 0}
                found = [f"a draw: {type(error).__name__}: {str(error)[:300]}"]
            programs = compiled() - before
            if k and programs:
                found.append(f"compiled anew: {programs} programs")
            yield {
                "structure": made.number,
                "draw": draw,
                **seen,
                "counts": seen["delivered"] >= FEWEST,
                "programs": programs,
                "seconds": round(time.time() - begun, 2),
                "found": found,
                "features": sorted(made.features),
            }
    jax.clear_caches()
