"""Drawing the edges of projections and couplings, with what each of them has."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from jsnn._math import (
    as_array,
    as_real,
    concrete,
    filled,
    named,
    picked,
    real_dtype,
    remade,
    unknown,
    whole_steps_array,
)
from jsnn._slow import SlowCurrents, merged
from jsnn._sums import Part, ways
from jsnn._synapses import Synapses, check_sign
from jsnn.connect import Pairs, generator
from jsnn.coupling import GapJunction, Junctions, SlowInwardCurrent
from jsnn.delays import Interpolated
from jsnn.distributions import drawn, is_distribution
from jsnn.edges import Edges, between, check_edges, narrow, sort_edges
from jsnn.population import Population
from jsnn.projection import Projection, locate, receptor_of
from jsnn.release import Release
from jsnn.rewire import Grown, capacity_of


def build(
    name: str,
    projection: Projection,
    populations: Mapping[str, Population],
    key: Array,
    dt: float,
) -> dict[str, Synapses]:
    """Draw the edges, weights and delays of a projection: one `Synapses` for each pair of parts."""
    where = f"projection {name!r}"
    pres = [locate(populations, address, where) for address in projection.pre]
    posts = [locate(populations, address, where) for address in projection.post]
    # One program serves all keys: compiling `split` for three of them takes longer than the edges
    edge_key, weight_key, delay_key, release_key = (jax.random.fold_in(key, i) for i in range(4))
    for part in pres:
        _check_spiking(where, populations, part, "send no spikes")
    pre_ids, post_ids = _identities(populations, pres), _identities(populations, posts)
    edges, order = _edges(where, projection.rule, pre_ids, post_ids, edge_key)
    n_edges = edges.n_edges
    weight = _values(where, "weight", projection.weight, n_edges, weight_key, order)
    if isinstance(projection.delay, Interpolated):
        delay = _values(where, "delay", projection.delay.delay, n_edges, delay_key, order)
    else:
        delay = _delays(where, projection.delay, n_edges, delay_key, order, dt)
    release, per_edge = _of_sources_or_edges(
        *(name, projection.release, edges, release_key, order),
        grows=projection.growing is not None,
    )
    new = _of_new(where, projection, populations, pres, posts, per_edge, dt)
    built = {}
    single = len(pres) == len(posts) == 1
    for p, (pre_part, sub_pre) in enumerate(zip(pres, _starts(pres), strict=True)):
        for q, (post_part, sub_post) in enumerate(zip(posts, _starts(posts), strict=True)):
            part, chosen = between(edges, sub_pre, sub_post)
            receptor = receptor_of(where, populations[post_part[0]], projection.receptor)
            own_weight = as_real(weight[chosen] if weight.ndim else weight)
            with named(where):
                check_sign(populations[post_part[0]], receptor, own_weight)
            own_delay = delay[chosen] if delay.ndim else delay
            grown = None
            if projection.growing is not None and new is not None:
                new_weight, new_delay = new
                size = capacity_of(projection.growing, part.n_edges, part.n_pre, part.n_post)
                if own_weight.ndim or not np.array_equal(own_weight, new_weight):
                    own_weight = filled(own_weight, part.n_edges)
                else:
                    new_weight = None
                if own_delay.ndim or own_delay != new_delay:
                    own_delay = np.broadcast_to(own_delay, (part.n_edges,))
                grown = Grown(
                    projection.growing,
                    new_weight,
                    new_delay if own_delay.ndim else None,
                    *(name, sub_pre[0], sub_post[0], size),
                )
                with named(where):
                    check_sign(populations[post_part[0]], receptor, new[0])
            own_of = chosen if per_edge else slice(*sub_pre)
            own_release = jax.tree.map(lambda x, i=own_of: picked(x, i) if x.ndim else x, release)
            if isinstance(projection.delay, Interpolated):
                drew = ": as drawn" if is_distribution(projection.delay.delay) else ""
                with named(where + drew):
                    low, high = projection.delay.bounds(dt)
                    kept: Any = projection.delay.of(own_delay)
            else:
                steps = own_delay if new is None else np.append(own_delay, new[1])
                low, high = (int(steps.min()), int(steps.max())) if steps.size else (1, 1)
                is_one = low == high and not (new and own_delay.ndim)
                kept = None if is_one else as_array(own_delay.astype(narrow(high + 1)))
            full = name if single else f"{name}/{projection.pre[p]}->{projection.post[q]}"
            built[full] = Synapses(
                part,
                own_weight,
                kept,
                own_release,
                None,
                grown,
                pre_part,
                post_part,
                receptor,
                low,
                high,
                part.max_row,
                part.max_column,
                per_edge,
            )
    return built


def _of_new(
    where: str,
    projection: Projection,
    populations: Mapping[str, Population],
    pres: Sequence[Part],
    posts: Sequence[Part],
    per_edge: bool,
    dt: float,
) -> tuple[Array, int] | None:
    """Weight and delay (steps) of the synapses that a growing projection makes; raises where it
    cannot grow."""
    rule = projection.growing
    if rule is None:
        return None
    for parts, element in ((pres, rule.pre), (posts, rule.post)):
        for population, _, _ in parts:
            elements = populations[population].growth.elements
            if element not in elements:
                kind = f"element of population {population!r}"
                raise ValueError(f"{where}: {unknown(kind, element, elements)}")
    for pre, low, high in pres:
        for post, first, last in posts:
            if rule.pre == rule.post and pre == post and low < last and first < high:
                raise ValueError(
                    f"{where}: {rule.pre!r} of the same cells of {pre!r} would be at both ends; "
                    "give sources and targets elements of two kinds"
                )
    if per_edge:
        raise ValueError(
            f"{where}: a release with parameters of each edge does not go with growing synapses; "
            "give scalars or one number for each source"
        )
    given: list[Any] = []
    for what in ("weight", "delay"):
        own, usual = getattr(rule, what), getattr(projection, what)
        if own is None and (is_distribution(usual) or np.ndim(usual)):
            raise ValueError(
                f"{where}: {what}s are of each edge, and new synapses need one too; give "
                f"Growing(..., {what}=...)"
            )
        given.append(usual if own is None else own)
    n_pre, n_post = (sum(high - low for _, low, high in parts) for parts in (pres, posts))
    with named(where):
        rule.pairing.check(n_pre, n_post)
    delay = whole_steps_array(f"{where}: delay", np.asarray(given[1]), dt)
    return as_real(given[0]), int(delay)


def build_junctions(
    name: str, coupling: GapJunction, populations: Mapping[str, Population], key: Array
) -> Junctions:
    """Draw the edges and conductances of gap junctions."""
    where = f"coupling {name!r}"
    parts, (pre, post), order, value_key, _ = _ends(where, coupling, populations, key)
    for part in parts:
        _check_spiking(where, populations, part, "have no membrane to join")
    conductance = _values(where, "conductance", coupling.conductance, pre.size, value_key, order)
    sizes = {name: populations[name].n for name, _, _ in parts}
    made = Junctions(
        as_array(pre),
        as_array(post),
        as_real(conductance),
        ways(pre, post, parts, sizes, coupling.symmetric),
        parts,
    )
    with named(where):
        return made.checked()


def build_slow(
    name: str,
    coupling: SlowInwardCurrent,
    populations: Mapping[str, Population],
    key: Array,
    dt: float,
) -> SlowCurrents:
    """Draw the edges, weights and delays of slow currents, and merge repeated pairs."""
    where = f"coupling {name!r}"
    parts, (pre, post), order, value_key, delay_key = _ends(where, coupling, populations, key)
    (source, *_), (target, *_) = parts
    if populations[source].neuron.is_spiking:
        raise ValueError(
            f"{where}: population {source!r} is of {type(populations[source].neuron).__name__}, "
            "which sends no slow current; give astrocytes, as LiRinzel()"
        )
    _check_spiking(where, populations, parts[1], "take no slow current")
    if name in (taken := [*populations[target].states, "refractory"]):
        raise ValueError(
            f"{where}: a state of {target!r} has this name, as {taken} have; give another"
        )
    weight = _values(where, "weight", coupling.weight, pre.size, value_key, order)
    delay = _delays(where, coupling.delay, pre.size, delay_key, order, dt, least=1)
    sizes = {name: populations[name].n for name, _, _ in parts}
    with named(where):
        return merged(pre, post, weight, delay, parts, sizes).checked()


def _ends(
    where: str,
    coupling: GapJunction | SlowInwardCurrent,
    populations: Mapping[str, Population],
    key: Array,
) -> tuple[tuple[Part, Part], tuple[np.ndarray, np.ndarray], np.ndarray | None, Array, Array]:
    """Of a coupling, the parts that it joins, the cells of its edges within their populations, the
    order in which given pairs stand there, and keys for two values."""
    parts = locate(populations, coupling.pre, where), locate(populations, coupling.post, where)
    edge_key, value_key, delay_key = (jax.random.fold_in(key, i) for i in range(3))
    pre_ids, post_ids = (_identities(populations, [part]) for part in parts)
    edges, order = _edges(where, coupling.rule, pre_ids, post_ids, edge_key)
    pre = edges.pre.astype(np.int32) + parts[0][1]
    post = np.asarray(edges.post).astype(np.int32) + parts[1][1]
    return parts, (pre, post), order, value_key, delay_key


def _check_spiking(where: str, populations: Mapping[str, Population], part: Part, why: str) -> None:
    if not populations[part[0]].neuron.is_spiking:
        raise ValueError(
            f"{where}: population {part[0]!r} is of astrocytes, which {why}; give neurons"
        )


def _delays(
    where: str,
    delay: Any,
    n_edges: int,
    key: Array,
    order: np.ndarray | None,
    dt: float,
    least: int = 0,
) -> np.ndarray:
    """Delays in whole steps, a scalar or `[n_edges]` in storage order."""
    values = _values(where, "delay", delay, n_edges, key, order)
    if is_distribution(delay):
        steps = np.rint(np.asarray(values, np.float64) / dt)
        if np.any(steps < 1):
            raise ValueError(
                f"{where}: a delay of {np.min(values):.4g} ms was drawn, which is less than one "
                f"step of {dt:g} ms; give the distribution a lower bound"
            )
        values = steps * dt
    return whole_steps_array(f"{where}: delay", np.asarray(values), dt, least=least)


def _edges(
    where: str, rule: Any, pre_ids: np.ndarray, post_ids: np.ndarray, key: Array
) -> tuple[Edges, np.ndarray | None]:
    """The edges of a rule in storage order, and the order in which given pairs stand there."""
    if isinstance(rule, Edges):
        if (rule.n_pre, rule.n_post) != (pre_ids.size, post_ids.size):
            raise ValueError(
                f"{where}: edges are of {rule.n_pre} sources and {rule.n_post} targets, but pre "
                f"and post have {pre_ids.size} and {post_ids.size} cells"
            )
        check_edges(where, rule)
        return rule, None
    try:
        pre, post = rule.draw(generator(key), pre_ids, post_ids)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    with_order = isinstance(rule, Pairs)
    return sort_edges(pre, post, pre_ids.size, post_ids.size, with_order=with_order)


def _identities(
    populations: Mapping[str, Population], parts: Sequence[tuple[str, int, int]]
) -> np.ndarray:
    """A number for each cell of the parts, unique in the network."""
    first = dict(
        zip(populations, np.cumsum([0, *(p.n for p in populations.values())]), strict=False)
    )
    return np.concatenate([np.arange(first[p] + low, first[p] + high) for p, low, high in parts])


def _values(
    where: str, what: str, value: Any, n_edges: int, key: Array, order: np.ndarray | None
) -> Array | np.ndarray:
    """A scalar, or `[n_edges]` in storage order."""
    if is_distribution(value):
        values = drawn(value, key, n_edges)
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{where}: {what} was drawn that is not finite")
        return values
    if np.ndim(value) == 0:
        return as_real(value) if what != "delay" else np.asarray(value)
    if np.shape(value) != (n_edges,):
        raise ValueError(
            f"{where}: {what} has shape {np.shape(value)}; give a scalar or "
            f"({n_edges},), one for each edge"
        )
    known = concrete(value)
    if what == "delay":
        value = np.asarray(value)
    else:
        value = as_real(value) if known is None else known.astype(real_dtype())
    return value if order is None else value[order]


def _of_sources_or_edges(
    name: str,
    release: Release,
    edges: Edges,
    key: Array,
    order: np.ndarray | None,
    *,
    grows: bool,
) -> tuple[Release, bool]:
    """A release with its parameters as scalars and `[n_pre]`, or, if any is given by edge, as
    scalars and `[n_edges]` in storage order; and which of the two."""
    made, of_edges = {}, set()
    in_order = order is None or np.array_equal(order, np.arange(edges.n_edges))
    # Where both are meant alike, or edges come and go and have no parameters of their own
    is_known = grows or (in_order and bool(np.all(np.diff(np.asarray(edges.row_ptr)) == 1)))
    for i, (what, value) in enumerate(vars(release).items()):
        shape = np.shape(value)
        if is_distribution(value) or (shape == (edges.n_edges,) and shape != (edges.n_pre,)):
            own = jax.random.fold_in(key, i)
            made[what] = _values(
                f"projection {name!r}", f"release: {what}", value, edges.n_edges, own, order
            )
            of_edges.add(what)
        elif shape == (edges.n_edges,) and not is_known:
            raise ValueError(
                f"projection {name!r}: release: {what} has {shape[0]} numbers, and there are as "
                "many sources as edges: it is not known of which they are; leave out sources "
                "without edges, or give a scalar or a distribution"
            )
        elif shape in ((), (edges.n_pre,)):
            made[what] = value
        else:
            raise ValueError(
                f"projection {name!r}: release: {what} has shape {shape}; give a scalar, "
                f"({edges.n_pre},), one for each source, or ({edges.n_edges},), one for each edge"
            )
    if of_edges:
        for what in set(made) - of_edges:
            if made[what].ndim:
                made[what] = picked(made[what], edges.pre)
    with named(f"projection {name!r}: release"):
        return remade(type(release)(**made)), bool(of_edges)


def _starts(parts: Sequence[tuple[str, int, int]]) -> list[tuple[int, int]]:
    """Where each part lies in the union."""
    ends = np.cumsum([high - low for _, low, high in parts])
    return [
        (int(end) - (high - low), int(end)) for end, (_, low, high) in zip(ends, parts, strict=True)
    ]
