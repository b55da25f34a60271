"""Structural plasticity: synapses that come and go with the synaptic elements of their two cells.

    exc_axon = SynapticElements(Gaussian(0.0, 0.05), growth_rate=1e-4)
    ...
    Projection("cells.exc", "cells", NoEdges(), weight=585.0, delay=1.0, receptor="ex",
               growing=Growing("Axon_ex", "Den_ex"))
    Network(..., rewiring=Rewiring(interval=1000.0))

At every multiple of the interval, before the step that begins there, each growing projection is
updated, in the order in which they were given:

1. A source with more connected elements than it has (z, rounded down) loses as many synapses, which
   are chosen at random; the element of the target is vacant again.
2. Then a target, in the same way.
3. Vacant elements of sources and targets are paired, and make synapses.

After all projections, each kind of element loses `tau_vacant` of those that are vacant. Spikes
under way on a synapse that is lost arrive; a new synapse carries what is fired from the update on.

This is NEST's rule, and one more of its: a cell that has to lose k synapses at once, and its k
partners likewise, has its z raised to what was connected after the first of them was lost (z grows
by k - 1, and such a partner is spared), so that the others can be made anew in the same update.

M. Butz and A. van Ooyen (2013), PLoS Comput. Biol. 9:e1003259; S. Diaz-Pier et al. (2016), Front.
Neuroanat. 10:57.
"""

from typing import Any

import equinox as eqx
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import as_real, check_number, check_scalar, concrete, plain, whole_steps
from jsnn._names import explained


@explained
class AtRandom(eqx.Module):
    """Every vacant element finds one of the other side with the same probability."""

    def check(self, n_pre: int, n_post: int) -> None:
        """Raise unless it fits so many cells."""


@explained
class ByDistance(eqx.Module):
    """Near cells find each other more often: a vacant element of source i, in random order, is
    joined with a vacant one of target j with a probability that is proportional to
    exp(-d_ij^2 / (2 sigma^2)) and to the number of these that j has left.

    **Arguments:**

    - `sigma`: in the unit of the positions.
    - `pre`: positions of the sources, `[n_pre]` or `[n_pre, dimensions]`, over the union of a list.
    - `post`: of the targets; those of the sources if left out.
    - `period`: the side of the sheet, a number or one for each dimension, where it closes on itself
      as a torus.

    A pair that is 13 sigma apart or more is never made in single precision; an element that finds
    none stays vacant. Takes, at an update, as many turns as there are elements to pair, of n_post
    numbers each.
    """

    sigma: Array
    pre: Array
    post: Array
    period: Array | None

    def __init__(
        self,
        sigma: ArrayLike,
        pre: ArrayLike,
        post: ArrayLike | None = None,
        period: ArrayLike | None = None,
    ):
        check_scalar("sigma", sigma, low=0.0, strict=True)
        post = pre if post is None else post
        for name, value in (("pre", pre), ("post", post)):
            check_number(name, value)
            if np.ndim(value) not in (1, 2) or 0 in np.shape(value):
                raise ValueError(
                    f"{name} has shape {np.shape(value)}; give [n] or [n, dimensions] positions"
                )
        self.sigma = as_real(sigma)
        self.pre, self.post = (
            as_real(x).reshape(len(x), -1)  # pyright: ignore[reportArgumentType]
            for x in (np.asarray(pre) if concrete(pre) is not None else pre, post)
        )
        if self.pre.shape[1] != self.post.shape[1]:
            raise ValueError(
                f"pre has {self.pre.shape[1]} dimensions and post {self.post.shape[1]}; give equal "
                "ones"
            )
        if period is not None:
            check_number("period", period, low=0.0, strict=True)
            if np.shape(period) not in ((), (self.pre.shape[1],)):
                raise ValueError(
                    f"period has shape {np.shape(period)}; give one number, or one for each of "
                    f"{self.pre.shape[1]} dimensions"
                )
        self.period = None if period is None else as_real(period)

    def check(self, n_pre: int, n_post: int) -> None:
        """Raise unless it fits so many cells."""
        for name, value, n in (("pre", self.pre, n_pre), ("post", self.post, n_post)):
            if value.shape[0] != n:
                raise ValueError(
                    f"ByDistance: {name} has {value.shape[0]} positions, and there are {n} cells"
                )


Pairing = AtRandom | ByDistance
MOST_ROOM = 2**30


@explained
class Growing(eqx.Module):
    """Lets the synapses of a projection come and go: `Projection(..., growing=Growing(...))`.

    **Arguments:**

    - `pre`, `post`: the names of the elements of sources and targets that its synapses join.
    - `weight`, `delay`: of new synapses, scalars, in pA, nS or mV, and ms; the projection's, where
      those are scalars.
    - `capacity`: for how many synapses there is room at first (of lists of populations, between
      each and each), and for how many vacant elements of either side at an update. `run` makes more
      when it is needed; `simulate` makes no synapses in an update that lacks room, and reports it.
      Chosen from the numbers of cells and edges if left out. It changes nothing else.
    - `autapses`, `multapses`: whether a cell may connect to itself, and a pair more than once. A
      pair of elements that may not be joined stays vacant until the next update.
    - `pairing`: `AtRandom()` or `ByDistance(...)`.

    Edges that the projection's rule draws are there from the start, and their elements are
    connected: z is raised to their number where it is less.
    """

    pairing: Pairing
    weight: Array | None
    delay: float | None = eqx.field(static=True)
    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    capacity: int | None = eqx.field(static=True)
    autapses: bool = eqx.field(static=True)
    multapses: bool = eqx.field(static=True)

    def __init__(
        self,
        pre: str,
        post: str,
        *,
        weight: ArrayLike | None = None,
        delay: float | None = None,
        capacity: int | None = None,
        autapses: bool = True,
        multapses: bool = True,
        pairing: Pairing | None = None,
    ):
        for name, value in (("pre", pre), ("post", post)):
            if not isinstance(value, str):
                raise TypeError(f"{name}={value!r} is not a name; give one of the elements")
        for name, value in (("autapses", autapses), ("multapses", multapses)):
            if not isinstance(value, (bool, np.bool_)):
                raise TypeError(f"{name}={value!r}; give True or False")
        capacity = plain(capacity)
        if capacity is not None and (isinstance(capacity, bool) or not isinstance(capacity, int)):
            raise TypeError(f"capacity={capacity!r} is not an integer; give a number of synapses")
        if capacity is not None and not 0 < capacity <= MOST_ROOM:
            raise ValueError(f"capacity={capacity}: give at least 1, and at most {MOST_ROOM}")
        for name, value in (("weight", weight), ("delay", delay)):
            if value is not None:
                check_scalar(name, value)
        if delay is not None and concrete(delay) is None:
            raise TypeError(
                "delay is traced; it sets the shape of the buffers and must be a number"
            )
        self.pairing = AtRandom() if pairing is None else pairing
        if not isinstance(self.pairing, Pairing):
            raise TypeError(f"pairing={pairing!r}; give AtRandom() or ByDistance(...)")
        self.weight = None if weight is None else as_real(weight)
        self.delay = None if delay is None else float(plain(delay))
        self.pre, self.post, self.capacity = pre, post, capacity
        self.autapses, self.multapses = bool(autapses), bool(multapses)


@explained
class Rewiring(eqx.Module):
    """When a network is rewired: at every multiple of `interval` ms, whole steps."""

    interval: float = eqx.field(static=True)

    def __init__(self, interval: float = 10000.0):
        check_scalar("interval", interval, low=0.0, strict=True)
        if concrete(interval) is None:
            raise TypeError("interval is traced; give a number")
        self.interval = float(plain(interval))

    def steps(self, dt: float) -> int:
        return whole_steps("interval", self.interval, dt, least=1)


class Grown(eqx.Module):
    """Of a projection that grows, what its synapses between one part and another know of it: the
    whole projection, where in its unions of sources and targets they begin, and what a new synapse
    has. `weight` is None where all synapses have one, and `delay` (steps) likewise."""

    rule: Growing
    weight: Array | None
    delay: int | None = eqx.field(static=True)
    projection: str = eqx.field(static=True)
    pre: int = eqx.field(static=True)
    post: int = eqx.field(static=True)
    capacity: int = eqx.field(static=True)


def capacity_of(rule: Growing, n_edges: int, n_pre: int, n_post: int) -> int:
    """For how many synapses there is room at first."""
    usual: Any = 2 * n_edges + 4 * max(n_pre, n_post, 64)
    return max(usual if rule.capacity is None else rule.capacity, n_edges, 1)
