"""An update of the structure of a network: elements and synapses after those before."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jsnn._math import shortened
from jsnn._memory import check_memory
from jsnn._pairing import (
    Pairs,
    at_random,
    by_distance,
    first_of_each,
    keys_of,
    listed,
    lost,
    random_words,
)
from jsnn._store import New, Store, n_bytes
from jsnn._synapses import Synapses
from jsnn.growth import Values, connected
from jsnn.population import Population
from jsnn.rewire import MOST_ROOM, ByDistance, Rewiring
from jsnn.rewire import Growing as Rule
from jsnn.state import NEVER, State, check_steps

Part = tuple[str, int, int]  # a population, its first cell and its last (exclusive)
_MORE = 4  # times the room: to compile anew takes as long as many updates of a large store
States = dict[str, Values]  # calcium and elements of all cells, by population


class Parts(Protocol):
    """What an update sees of a network."""

    @property
    def populations(self) -> dict[str, Population]: ...
    @property
    def synapses(self) -> dict[str, Synapses]: ...
    @property
    def rewiring(self) -> Rewiring | None: ...
    @property
    def dt(self) -> float: ...


class Side(NamedTuple):
    """The elements of one name on all sources, or all targets, of a projection."""

    element: str
    parts: list[Part]
    continuous: np.ndarray  # [n]: whether less than one element counts
    identities: np.ndarray  # [n]: a number for each cell that is unique in the network

    def read(self, states: States) -> tuple[Array, Array]:
        """z and the number of connected ones."""
        z, n = (
            jnp.concatenate([states[name][what][low:high] for name, low, high in self.parts])
            for what in (self.element, connected(self.element))
        )
        return z, n

    def put(self, states: States, z: Array, n: Array) -> States:
        new, done = dict(states), 0
        for name, low, high in self.parts:
            own, end = dict(new[name]), done + high - low
            for what, values in ((self.element, z), (connected(self.element), n)):
                own[what] = own[what].at[low:high].set(values[done:end])
            new[name], done = own, end
        return new

    def vacant(self, states: States) -> Array:
        """How many elements each cell has that are not connected; less than none if it has to
        lose synapses."""
        z, n = self.read(states)
        return jnp.floor(z).astype(jnp.int32) - n

    def exists(self, states: States) -> Array:
        z, _ = self.read(states)
        return jnp.where(jnp.asarray(self.continuous), z, jnp.floor(z)) > 0

    def without(self, states: States, n_lost: Array) -> States:
        """With fewer connected ones. That of NEST: at each loss that still leaves more than z, z is
        raised to what is left."""
        z, n = self.read(states)
        raised = jnp.maximum(n - 1 - jnp.floor(z).astype(jnp.int32), 0)
        return self.put(states, z + jnp.where(n_lost > 0, raised, 0), n - n_lost)

    def gaining(self, states: States, n_gained: Array) -> States:
        """With more connected ones; z is raised to their number where it is less."""
        z, n = self.read(states)
        n = n + n_gained
        short = jnp.maximum(n - jnp.floor(z).astype(jnp.int32), 0)
        return self.put(states, z + jnp.where(n_gained > 0, short, 0), n)


class Grows(NamedTuple):
    """A growing projection: its synapses between one part and another, by name, and its sides."""

    name: str
    synapses: dict[str, Synapses]
    pre: Side
    post: Side

    @property
    def rule(self) -> Rule:
        """The same for all of them."""
        own = next(iter(self.synapses.values())).grown
        assert own is not None
        return own.rule


def growing(net: Parts) -> list[Grows]:
    """All growing projections of a network, in their order."""
    found: dict[str, dict[str, Synapses]] = {}
    for name, own in net.synapses.items():
        if own.grown is not None:
            found.setdefault(own.grown.projection, {})[name] = own
    return [
        Grows(name, own, _side(net, own, True), _side(net, own, False))
        for name, own in found.items()
    ]


def _side(net: Parts, synapses: Mapping[str, Synapses], is_pre: bool) -> Side:
    parts: dict[int, Part] = {}
    element = ""
    for own in synapses.values():
        assert own.grown is not None
        rule = own.grown.rule
        element = rule.pre if is_pre else rule.post
        parts[own.grown.pre if is_pre else own.grown.post] = own.pre if is_pre else own.post
    ordered = [parts[first] for first in sorted(parts)]
    counts = [0, *(population.n for population in net.populations.values())]
    first = dict(zip(net.populations, np.cumsum(counts), strict=False))
    own = {name: net.populations[name].growth.elements[element] for name, _, _ in ordered}
    return Side(
        element,
        ordered,
        np.concatenate([np.full(high - low, own[p].continuous) for p, low, high in ordered]),
        np.concatenate([np.arange(first[p] + low, first[p] + high) for p, low, high in ordered]),
    )


def connect_first(net: Parts, states: States, stores: Mapping[str, Store]) -> States:
    """The elements of edges that are there from the start are connected."""
    for own in growing(net):
        edges = _Edges.of(own, stores)
        for side, cells in ((own.pre, edges.pre), (own.post, edges.post)):
            states = side.gaining(states, _counted(cells, edges.used, side.identities.size))
    return states


def rewired(
    net: Parts,
    key: Array,
    step: Array,
    states: States,
    stores: dict[str, Store],
    status: dict[str, Array],
) -> tuple[States, dict[str, Store], dict[str, Array]]:
    """An update before the given step. The status of a projection that has no room is this step."""
    laws = {name: own.growth for name, own in net.populations.items()}
    states = {name: laws[name].up_to_date(own) for name, own in states.items()}
    stores, status = dict(stores), dict(status)
    grown = growing(net)
    keys = keys_of(key, [own.name for own in grown], step) if grown else []
    for own, own_keys in zip(grown, keys, strict=True):
        states, new, full = _rewire(own, own_keys, states, stores)
        stores |= new
        label = f"projection/{own.name}"
        status[label] = jnp.where(full, jnp.minimum(status[label], step), status[label])
    states = {name: laws[name].decayed(own) for name, own in states.items()}
    return states, stores, status


def rewired_state(net: Parts, state: State, everyone: Any = None, mine: Any = None) -> State:
    """A state after the update that precedes its step. On several devices each does the whole of
    it: `everyone` makes the values of all cells of a device's own, and `mine` cuts those out."""
    states = {name: own.growth for name, own in state.populations.items()}
    if everyone is not None:
        states = jax.tree.map(everyone, states)
    states, edges, status = rewired(net, state.key, state.step, states, state.edges, state.status)
    if mine is not None:
        states = {name: jax.tree.map(partial(mine, name), own) for name, own in states.items()}
    populations = {
        name: replace(own, growth=states[name]) for name, own in state.populations.items()
    }
    return replace(state, populations=populations, edges=edges, status=status)


class _Edges(NamedTuple):
    """All slots of a projection: their ends in the unions, and which are in use."""

    pre: Array
    post: Array
    used: Array
    number: Array  # of each, among those of its source

    @classmethod
    def of(cls, growing: Grows, stores: Mapping[str, Store]) -> "_Edges":
        ends, several = [], len(growing.synapses)
        for i, (name, own) in enumerate(growing.synapses.items()):
            assert own.grown is not None
            store = stores[name]
            ends.append(
                (
                    own.grown.pre + store.pre,
                    own.grown.post + store.post.astype(jnp.int32),
                    store.used,
                    store.number * several + i,
                )
            )
        return cls(*(jnp.concatenate(leaves) for leaves in zip(*ends, strict=True)))


def _rewire(
    growing: Grows, keys: Array, states: States, stores: Mapping[str, Store]
) -> tuple[States, dict[str, Store], Array]:
    edges = _Edges.of(growing, stores)
    states, keep = _lose(growing, keys[:2], edges, states)
    room = max(stores[name].capacity for name in growing.synapses)
    pairs, full = _pair(growing, keys[2:], edges._replace(used=keep), states, room)
    new, full = _put(growing, stores, keep, pairs, full)
    made = pairs[2] & ~full
    for side, cells in ((growing.pre, pairs[0]), (growing.post, pairs[1])):
        states = side.gaining(states, _counted(cells, made, side.identities.size))
    return states, new, full


def _lose(growing: Grows, keys: Array, edges: _Edges, states: States) -> tuple[States, Array]:
    """Elements that are gone take their synapses with them, those of sources first. Returns which
    edges are left, too."""
    sides = ((growing.pre, edges.pre), (growing.post, edges.post))
    keep = edges.used
    for phase, (side, cells) in enumerate(sides):
        eligible = keep & growing.post.exists(states)[edges.post] if phase == 0 else keep
        n_lost = jnp.maximum(-side.vacant(states), 0)

        def lose(both: Any, phase: int = phase, cells: Array = cells, *of: Array) -> Any:
            states, keep = both
            words = random_words(keys[phase], edges.pre, edges.number)
            chosen = lost(words, cells, *of)
            for end, own in sides:
                states = end.without(states, _counted(own, chosen, end.identities.size))
            return states, keep & ~chosen

        some = partial(lose, (states, keep), phase, cells, eligible, n_lost)
        states, keep = lax.cond(jnp.any(n_lost > 0), some, lambda: (states, keep))  # noqa: B023
    return states, keep


def _pair(
    growing: Grows, keys: Array, edges: _Edges, states: States, room: int
) -> tuple[Pairs, Array]:
    """Vacant elements find each other; and whether there was no room to list them."""
    pre, post, rule = growing.pre, growing.post, growing.rule
    vacant = [jnp.maximum(side.vacant(states), 0) for side in (pre, post)]
    n_vacant = [jnp.sum(own.astype(jnp.float32)) for own in vacant]  # integers may not hold them
    found = [listed(own, room) for own in vacant]
    if isinstance(rule.pairing, ByDistance):
        identities = None if rule.autapses else (pre.identities, post.identities)
        pairs = by_distance(keys, found[0], vacant[1], rule.pairing, identities)
        full = n_vacant[0] > room
    else:
        pairs = at_random(keys, *found)
        full = (jnp.maximum(*n_vacant) > room) & (jnp.minimum(*n_vacant) > 0)
    if not rule.autapses:
        itself = jnp.asarray(pre.identities)[pairs[0]] == jnp.asarray(post.identities)[pairs[1]]
        pairs = (*pairs[:2], pairs[2] & ~itself)
    if not rule.multapses:
        pairs = first_of_each(pairs, (edges.pre, edges.post, edges.used), pre.identities.size)
    return pairs, full


def _put(
    growing: Grows, stores: Mapping[str, Store], keep: Array, pairs: Pairs, full: Array
) -> tuple[dict[str, Store], Array]:
    """The edges that are left, and, if there is room for all of them, new ones; and whether there
    was none."""
    made, done = {}, 0
    for name, own in growing.synapses.items():
        assert own.grown is not None
        grown, store = own.grown, stores[name]
        mine = keep[done : done + store.capacity]
        done += store.capacity
        pre, post, real = pairs[0] - grown.pre, pairs[1] - grown.post, pairs[2]
        for end, (_, low, high) in ((pre, own.pre), (post, own.post)):
            real = real & (end >= 0) & (end < high - low)
        full = full | (jnp.sum(mine) + jnp.sum(real) > store.capacity)
        made[name] = mine, New(pre, post, real, grown.weight, grown.delay)
    return {
        name: stores[name].changed(mine, new._replace(real=new.real & ~full))
        for name, (mine, new) in made.items()
    }, full


def _counted(cells: Array, real: Array, n: int) -> Array:
    return jnp.zeros(n, jnp.int32).at[jnp.where(real, cells, n)].add(1, mode="drop")


def with_room(net: Parts, before: State, after: State) -> State | None:
    """The state before a run with more room for what had none in it; None if all had room, or
    lacked it from the start. Raises if there is no memory for more."""
    made, needs = {}, {}
    for own in growing(net):
        label = f"projection/{own.name}"
        if int(before.status[label]) == NEVER and int(after.status[label]) != NEVER:
            for name in own.synapses:
                store = before.edges[name]
                room = _MORE * store.capacity
                sides = f"{own.pre.element!r} or {own.post.element!r}"
                what = f"projection {name!r}: room for {room:.3g} synapses or vacant {sides}"
                if room > MOST_ROOM:
                    raise ValueError(f"{what} is more than {MOST_ROOM}; let fewer elements grow")
                needs[what] = n_bytes(room, store.row_ptr.size, True, True)
                made[name] = partial(store.grown, room)
    check_memory(needs)
    made = {name: grown() for name, grown in made.items()}
    return replace(before, edges={**before.edges, **made}) if made else None


def edges_of(net: Parts, state: State | None) -> dict[str, Store]:
    """The edges of growing projections in a state, if there is one."""
    if state is None:
        return {}
    if not isinstance(state, State):
        raise TypeError(f"state={shortened(state)} is no state; give that of a solution")
    check_steps("state is", state.dt, net.dt)
    wanted = {name for own in growing(net) for name in own.synapses}
    if wanted != set(state.edges):
        raise ValueError(
            f"state is of another network: its edges are {sorted(state.edges)}, and this network's "
            f"{sorted(wanted)}"
        )
    return state.edges
