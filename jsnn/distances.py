"""Distances between two spike trains on the host, for reports; `jsnn.losses` has one to descend."""

import numpy as np
from numpy.typing import ArrayLike

from jsnn._names import explained
from jsnn._spike_checks import number, stamps


@explained
def victor_purpura(times: ArrayLike, others: ArrayLike, cost: float) -> float:
    """The distance of Victor and Purpura (1996, J. Neurophysiol. 76:1310) between two trains (ms).

    The least cost of changing one into the other: 1 for each spike that is added or taken away, and
    `cost` (1/ms) times the distance for one that is moved, so that spikes further apart than
    2 / `cost` are not matched. At a cost of 0 it is the difference of the numbers of spikes, at a
    large one their sum without those that coincide. Exact, in time and memory that grow as the
    product and the sum of the numbers of spikes.
    """
    cost = number("cost", cost, "1/ms")
    if cost < 0:
        raise ValueError(f"cost is {cost:g}; it must be at least 0 1/ms.")
    first, second = (np.sort(stamps(own).astype(np.float64)) for own in (times, others))
    order = np.arange(second.size + 1.0)
    least = order  # of no spike to each beginning of the second train
    for i, time in enumerate(first, 1):
        moved = least[:-1] + cost * np.abs(time - second)
        best = np.concatenate([[i], np.minimum(least[1:] + 1, moved)])
        # Spikes of the second train may be added after any of these
        least = order + np.minimum.accumulate(best - order)
    return float(least[-1])
