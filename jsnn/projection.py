"""Edges with weights and delays from one population onto a receptor of another."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jax.typing import ArrayLike

from jsnn._math import (
    check_number,
    concrete,
    shortened,
    unknown,
)
from jsnn._names import explained
from jsnn.connect import Rule
from jsnn.delays import Interpolated
from jsnn.distributions import Distribution, is_distribution
from jsnn.edges import Edges
from jsnn.population import Population
from jsnn.release import Constant, Release
from jsnn.rewire import Growing


@explained
class Projection(eqx.Module):
    """Spikes of `pre` onto a receptor of `post`, along the edges of a rule.

    **Arguments:**

    - `pre`, `post`: a population or slice, as `"cells"` or `"cells.exc"`, or a list of them. A rule
      over lists draws over their union.
    - `rule`: a connection rule of `jsnn.connect`, `Edges`, or `connect.Pairs(pre, post)`.
    - `weight`: in the receptor's unit (mV for `Delta`, pA for currents, nS for conductances): a
      scalar, a distribution, or `[n_edges]` in the order of the given pairs (for a rule that
      draws, and for `Edges`: by source, then target).
    - `delay`: ms, whole steps; the same choice. 0 hands a spike on in the step that it is fired in,
      after its resets, or, with `order.AsInBrian()`, before them. Drawn delays are rounded to whole
      steps; less than one is an error. `delays.Interpolated` lies between steps, and can be
      trained.
    - `receptor`: its name; may be left out where there is only one.
    - `release`: short-term plasticity, of `jsnn.release`. Each of its parameters is a scalar,
      `[n_pre]` (over the union of a list), or as a weight is: `[n_edges]` or a distribution. It
      keeps a state for each source, and for each edge only where a parameter is given by edge.
    - `growing`: lets synapses come and go with the elements of their cells; see `jsnn.rewire`.
    """

    rule: Any
    weight: Any
    delay: Any
    release: Release
    growing: Growing | None
    pre: tuple[str, ...] = eqx.field(static=True)
    post: tuple[str, ...] = eqx.field(static=True)
    receptor: str | None = eqx.field(static=True)

    def __init__(
        self,
        pre: str | Sequence[str],
        post: str | Sequence[str],
        rule: Rule | Edges,
        *,
        weight: ArrayLike | Distribution,
        delay: ArrayLike | Distribution | Interpolated,
        receptor: str | None = None,
        release: Release | None = None,
        growing: Growing | None = None,
    ):
        if isinstance(rule, type) or not isinstance(rule, (Rule, Edges)):
            raise TypeError(
                f"rule={shortened(rule)} is no connection rule; give one, as FixedIndegree(10), "
                "or an object of your own with `draw` and `expected`"
            )
        if receptor is not None and not isinstance(receptor, str):
            raise TypeError(f"receptor={shortened(receptor)} is not a name; give one, as 'ex'")
        release = Constant() if release is None else release
        if not isinstance(release, Release):
            raise TypeError(
                f"release={shortened(release)} is no release; give one, as TsodyksMarkram(U=0.6)"
            )
        self.pre, self.post = _addresses("pre", pre), _addresses("post", post)
        self.rule, self.receptor = rule, receptor
        between = isinstance(delay, Interpolated)
        given: dict[str, Any] = {"weight": weight, "delay": delay.delay if between else delay}
        for name, value in given.items():
            if not is_distribution(value):
                check_number(name, value, low=0.0 if name == "delay" else None)
                if np.ndim(value) > 1:
                    raise ValueError(f"{name} has shape {np.shape(value)}; give a scalar or a list")
        if between and growing is not None:
            raise ValueError("delay lies between steps, which synapses that grow do not have")
        if not between and not is_distribution(delay) and concrete(delay) is None:
            raise TypeError(
                "delay is traced; delays set the shape of the buffers and are given outside jit, "
                "vmap and grad"
            )
        if growing is not None and not isinstance(growing, Growing):
            raise TypeError(f"growing={shortened(growing)}; give Growing('axon', 'dendrite')")
        self.weight, self.delay, self.release, self.growing = weight, delay, release, growing


def locate(
    populations: Mapping[str, Population], address: str, where: str = "cells"
) -> tuple[str, int, int]:
    """`"cells.exc"` as (population, first cell, last cell exclusive)."""
    if not isinstance(address, str):
        raise TypeError(f"{where}: {shortened(address)} is no address; give one, as 'cells.exc'")
    name, dot, part = address.partition(".")
    try:
        if name not in populations:
            raise unknown("population", name, populations)
        if dot and not part:
            raise ValueError("the name of a slice is missing after the dot")
        return (name, *populations[name].part(part))
    except ValueError as error:
        raise ValueError(f"{where}: {address!r}: {error}") from None


def receptor_of(where: str, population: Population, receptor: str | None) -> str:
    """The name of a population's receptor; the only one if none is named."""
    names = list(population.receptors)
    if receptor is None:
        if len(names) != 1:
            raise ValueError(f"{where}: receptor is missing; the target has {names}")
        return names[0]
    if receptor not in names:
        raise ValueError(f"{where}: {unknown('receptor', receptor, names)}")
    return receptor


def _addresses(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(value, (str, Sequence)) or isinstance(value, bytes):
        raise TypeError(f"{name}={shortened(value)}; give a population's name, or a list of names")
    addresses = (value,) if isinstance(value, str) else tuple(value)
    if not addresses:
        raise ValueError(f"{name} is an empty list; give at least one population")
    return addresses
