"""Continuous state along edges: gap junctions between membranes, and slow inward currents from
astrocytes to neurons."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import as_real, check_number, filled, shortened
from jsnn._names import explained
from jsnn._sums import Conductances, Part, Way
from jsnn.connect import Rule, check_rule
from jsnn.distributions import Distribution, is_distribution
from jsnn.edges import Edges

Membranes = Mapping[str, Array]


@explained
class GapJunction(eqx.Module):
    """Electrical synapses: a cell of `post` gets the current g (v_pre - v_post) through each edge.

    **Arguments:**

    - `pre`, `post`: a population or slice, as `"cells"` or `"cells.inh"`.
    - `rule`: a connection rule of `jsnn.connect`, `Edges`, or `connect.Pairs(pre, post)`. Repeated
      pairs conduct as often as they stand; a cell joined to itself gets no current.
    - `conductance`: g in nS: a scalar, a distribution, or `[n_edges]` in the order of the given
      pairs (for a rule that draws, and for `Edges`: by source, then target).
    - `symmetric`: whether the cell of `pre` gets g (v_post - v_pre) as well, as through a gap
      junction; without, an edge conducts one way. A rule that makes both (i, j) and (j, i), as
      `AllToAll` does within a population, then joins each pair twice.

    Raises `ValueError` or `TypeError` for a conductance that is negative or not finite, and what is
    no rule or address.
    """

    rule: Any
    conductance: Any
    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    symmetric: bool = eqx.field(static=True)

    def __init__(
        self,
        pre: str,
        post: str,
        rule: Rule | Edges,
        *,
        conductance: ArrayLike | Distribution,
        symmetric: bool = True,
    ):
        _check_edges(pre, post, rule)
        if not isinstance(symmetric, (bool, np.bool_)):
            raise TypeError(f"symmetric={shortened(symmetric)}; give True or False")
        if not is_distribution(conductance):
            check_conductance(conductance)
        self.pre, self.post, self.rule = pre, post, rule
        self.conductance, self.symmetric = conductance, bool(symmetric)


@explained
class SlowInwardCurrent(eqx.Module):
    """The slow inward current that astrocytes send: a cell of `post` gets, through each edge, the
    weight times the `slow_current` of the astrocyte, which is a function of its calcium.

    What follows from calcium after step n drives step n + d + 1, for a delay of d steps, as a
    current of NEST's does. Repeated pairs of one delay are merged, their weights added. The current
    onto each cell is recorded under the name that the network gives to the coupling, as
    `States("cells", "sic")`: that of the next step, as NEST shows it. Each delay that occurs is a
    sum of its own: many of them take long to compile.

    **Arguments:**

    - `pre`: a population or slice of astrocytes.
    - `post`: a population or slice of neurons.
    - `rule`: a connection rule of `jsnn.connect`, `Edges` (as `jsnn.tripartite` makes them), or
      `connect.Pairs(pre, post)`.
    - `weight`: without unit: a scalar, a distribution, or `[n_edges]` in the order of the given
      pairs (for a rule that draws, and for `Edges`: by source, then target).
    - `delay`: ms, whole steps, at least one: a scalar, a distribution, or `[n_edges]`.

    Raises `ValueError` or `TypeError` for weights that are not finite, delays that are not at least
    a step, and what is no rule or address. As in NEST, weights may be negative.
    """

    rule: Any
    weight: Any
    delay: Any
    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)

    def __init__(
        self,
        pre: str,
        post: str,
        rule: Rule | Edges,
        *,
        weight: ArrayLike | Distribution = 1.0,
        delay: ArrayLike | Distribution = 1.0,
    ):
        _check_edges(pre, post, rule)
        if not is_distribution(weight):
            check_number("weight", weight)
        if not is_distribution(delay):
            check_number("delay", delay, low=0.0, strict=True)
        self.pre, self.post, self.rule = pre, post, rule
        self.weight, self.delay = weight, delay


Coupling = GapJunction | SlowInwardCurrent


def _check_edges(pre: Any, post: Any, rule: Any) -> None:
    for name, address in (("pre", pre), ("post", post)):
        if not isinstance(address, str):
            raise TypeError(f"{name}={shortened(address)} is no address; give one, as 'cells'")
    if not isinstance(rule, Edges):
        check_rule("rule", rule)


def check_conductance(value: Any) -> None:
    check_number("conductance", value, low=0.0)


class Junctions(eqx.Module):
    """A coupling as built: cells `pre` and `post` of every edge within their populations, and the
    conductance, a scalar or `[n_edges]`, which may be trained.

    `ways` are the directions in which it conducts.
    """

    pre: Array
    post: Array
    conductance: Array
    ways: tuple[Way, ...]
    parts: tuple[Part, Part] = eqx.field(static=True)

    @property
    def n_edges(self) -> int:
        return self.pre.shape[0]

    @property
    def n_self(self) -> int:
        """The number of edges that join a cell to itself."""
        same = self.parts[0][0] == self.parts[1][0]
        return int(np.count_nonzero(np.asarray(self.pre) == np.asarray(self.post))) if same else 0

    def checked(self) -> "Junctions":
        check_conductance(self.conductance)
        if np.shape(self.conductance) not in ((), (self.n_edges,)):
            raise ValueError(
                f"conductance has shape {np.shape(self.conductance)}; give a scalar or "
                f"({self.n_edges},), one for each edge"
            )
        return eqx.tree_at(lambda own: own.conductance, self, as_real(self.conductance))

    def connections(self) -> "GapConnections":
        conductance = filled(self.conductance, self.n_edges)
        return GapConnections(np.asarray(self.pre), np.asarray(self.post), np.asarray(conductance))

    def prepare(self) -> list[Conductances]:
        """The conductances of each way in the form that a step wants."""
        return [way.prepare(self.conductance) for way in self.ways]


class GapConnections(NamedTuple):
    """The edges of a coupling: cells within their populations, and conductances (nS)."""

    pre: np.ndarray
    post: np.ndarray
    conductance: np.ndarray


class Devices(NamedTuple):
    """Where the cells that are here begin in each population; what brings together what those of
    all devices show, and the largest of a number of each; and how many devices there are."""

    first: Mapping[str, Any]
    everyone: Callable[[Array], Array]
    largest: Callable[[Array], Array]
    count: int


class Coupled(NamedTuple):
    """What populations are coupled by: conductances from one to another."""

    between: Sequence[tuple[str, str, Conductances]]
    devices: Devices

    def received(self, v: Membranes) -> dict[str, Array]:
        """By population, the sum over partners of conductance times membrane `[..., n]` (pA)."""
        everyone = {name: self.devices.everyone(own) for name, own in v.items()}
        sums = {name: jnp.zeros_like(own) for name, own in v.items()}
        for pre, post, own in self.between:
            n, n_all = v[post].shape[-1], everyone[post].shape[-1]
            found = own.from_sources(everyone[pre], self.devices.first[post], n, n_all)
            sums[post] = sums[post] + own.scale * found
        return sums

    def conductances(self, v: Membranes) -> dict[str, Array]:
        """By population, the sum over partners of conductance, `[n]` (nS)."""
        sums = {name: jnp.zeros_like(own) for name, own in v.items()}
        for _, post, own in self.between:
            sums[post] = sums[post] + own.scale * own.total
        return sums


def groups(names: Sequence[str], couplings: Mapping[str, Junctions]) -> list[tuple[str, ...]]:
    """Populations that are coupled, directly or through others, in the order of their names; one
    that is not makes a group of its own."""
    group = {name: {name} for name in names}
    for own in couplings.values():
        if not own.ways:  # no edge but of a cell to itself
            continue
        joined = set().union(*(group[name] for name, _, _ in own.parts))
        for name in joined:
            group[name] = joined
    found = {tuple(name for name in names if name in group[one]): None for one in names}
    return list(found)
