"""Edges with weights and delays from one population onto a receptor of another."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jsnn._divide import Split, split_edges
from jsnn._math import (
    as_real,
    check_number,
    concrete,
    named,
    real_dtype,
    shortened,
    unknown,
    whole_steps_array,
)
from jsnn.connect import Pairs, Rule, generator
from jsnn.delivery import Rows
from jsnn.distributions import Distribution, is_distribution
from jsnn.edges import Edges, between, check_edges, narrow, sort_edges
from jsnn.population import Population


class Projection(eqx.Module):
    """Spikes of `pre` onto a receptor of `post`, along the edges of a rule.

    **Arguments:**

    - `pre`, `post`: a population or slice, as `"cells"` or `"cells.exc"`, or a list of them. A rule
      over lists draws over their union.
    - `rule`: a connection rule of `jsnn.connect`, `Edges`, or `connect.Pairs(pre, post)`.
    - `weight`: in the receptor's unit (mV for `Delta`, pA for currents, nS for conductances): a
      scalar, a distribution, or `[n_edges]` in the order of the given pairs (for a rule that
      draws, and for `Edges`: by source, then target).
    - `delay`: ms, whole steps; the same choice. 0 hands a spike on in the step that it is fired in.
      Drawn delays are rounded to whole steps, of which there is at least one.
    - `receptor`: its name; may be left out where there is only one.
    """

    rule: Any
    weight: Any
    delay: Any
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
        delay: ArrayLike | Distribution,
        receptor: str | None = None,
    ):
        if isinstance(rule, type) or not isinstance(rule, (Rule, Edges)):
            raise TypeError(
                f"rule={shortened(rule)} is no connection rule; give one, as FixedIndegree(10), "
                "or an object of your own with `draw` and `expected`"
            )
        if receptor is not None and not isinstance(receptor, str):
            raise TypeError(f"receptor={shortened(receptor)} is not a name; give one, as 'ex'")
        self.pre, self.post = _addresses("pre", pre), _addresses("post", post)
        self.rule, self.receptor = rule, receptor
        given: dict[str, Any] = {"weight": weight, "delay": delay}
        for name, value in given.items():
            if not is_distribution(value):
                check_number(name, value, low=0.0 if name == "delay" else None)
                if np.ndim(value) > 1:
                    raise ValueError(f"{name} has shape {np.shape(value)}; give a scalar or a list")
        if not is_distribution(delay) and concrete(delay) is None:
            raise TypeError(
                "delay is traced; delays set the shape of the buffers and are given outside jit, "
                "vmap and grad"
            )
        self.weight, self.delay = weight, delay


class Connections(NamedTuple):
    """The edges of a projection: cells within their populations, weights, and delays in ms."""

    pre: np.ndarray
    post: np.ndarray
    weight: np.ndarray
    delay: np.ndarray


class Synapses(eqx.Module):
    """A projection as built: its edges in storage order between one part and another.

    `weight` is a scalar or `[n_edges]`, and may be trained; `delay` is None if all edges have
    `min_delay`, else `[n_edges]` narrow integers, in steps.
    """

    edges: Edges
    weight: Array
    delay: Array | None
    split: Split | None
    pre: tuple[str, int, int] = eqx.field(static=True)
    post: tuple[str, int, int] = eqx.field(static=True)
    receptor: str = eqx.field(static=True)
    min_delay: int = eqx.field(static=True)
    max_delay: int = eqx.field(static=True)
    max_row: int = eqx.field(static=True)
    max_column: int = eqx.field(static=True)

    def checked(self, target: Population) -> "Synapses":
        """The same; raises unless the weights, which may have been replaced, fit."""
        dtype = getattr(self.weight, "dtype", np.dtype(object))
        if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
            check_number("weight", self.weight)
        self = eqx.tree_at(lambda s: s.weight, self, as_real(self.weight))
        if self.weight.shape not in ((), (self.edges.n_edges,)):
            raise ValueError(
                f"weight has shape {self.weight.shape}; give a scalar or ({self.edges.n_edges},)"
            )
        if not isinstance(self.weight, Tracer):
            with jax.ensure_compile_time_eval():  # inside `jit` too
                if not jnp.all(jnp.isfinite(self.weight)):
                    raise ValueError("weight is not finite; give finite numbers")
        check_sign(target, self.receptor, self.weight)
        return self

    @property
    def slots(self) -> int:
        """How many steps the buffer reaches: one more where arrivals of a step come after it."""
        return max(self.max_delay + (self.min_delay == 0), 1)

    def buffer_dtype(self, event_driven: bool) -> np.dtype:
        """What arrivals are kept as. With one weight they are counted, in whole numbers where no
        gradient passes: a source fires at most once a step, so a target's edges bound the count.
        Narrow, because the buffers of large networks leave the cache (7 % of the time of 50,000
        cells)."""
        if not event_driven or np.ndim(self.weight):
            return real_dtype()
        return np.dtype(np.uint16 if self.max_column < 2**16 else np.uint32)

    def on(self, mesh: Mesh | None, n_local: int) -> "Synapses":
        """The same with the edges divided over the devices of a mesh, `n_local` targets each."""
        made = None
        if mesh is not None:
            per_edge = self.weight.ndim > 0 or self.delay is not None
            made = split_edges(self.edges, self.post[1], n_local, mesh, per_edge)
        return eqx.tree_at(lambda s: s.split, self, made, is_leaf=lambda x: x is None)

    def connections(self, dt: float) -> Connections:
        """The edges as users see them, in storage order (by source, then target)."""
        steps = self.min_delay if self.delay is None else np.asarray(self.delay)
        shape = (self.edges.n_edges,)
        return Connections(
            self.edges.pre + self.pre[1],
            np.asarray(self.edges.post).astype(np.int32) + self.post[1],
            np.broadcast_to(np.asarray(self.weight), shape),
            np.broadcast_to(np.round(steps * dt, 9), shape),
        )

    def rows(self) -> Rows:
        """What the delivery reads, on one device."""
        weight = self.weight if self.weight.ndim else None
        if weight is not None and weight.shape != (self.edges.n_edges,):
            raise ValueError(f"weight has shape {weight.shape}, not ({self.edges.n_edges},)")
        edges, offset = self.edges, self.post[1]
        return self._rows(edges.row_ptr, edges.post, weight, self.delay, offset, self.max_row)

    def rows_of_devices(self) -> Rows:
        """The same for several devices: each array has the device as first axis, each its own
        targets' edges, and targets count from the device's first cell."""
        split = self.split
        if split is None:
            raise ValueError("these synapses are not split; use network.on(devices)")
        if split.edge is None and self.weight.ndim:
            raise ValueError(
                "one weight for all edges was replaced by one for each after the edges were "
                "divided; do so on network.on(None), and divide again"
            )
        if self.weight.ndim and self.weight.shape != (self.edges.n_edges,):
            raise ValueError(f"weight has shape {self.weight.shape}, not ({self.edges.n_edges},)")
        weight = self.weight[split.edge] if self.weight.ndim else None
        delay = None if self.delay is None else self.delay[split.edge]
        return self._rows(split.row_ptr, split.post, weight, delay, 0, split.max_row)

    def _rows(self, row_ptr, post, weight, delay, offset, max_row) -> Rows:
        # Rows of much the same length are handled in one piece each; others in pieces that waste
        # little on the short ones.
        mean = -(-post.shape[-1] // (row_ptr.shape[-1] - 1))
        chunk = max_row if max_row <= 1.5 * mean + 16 else 2 ** int(np.log2(max(mean, 16)))
        return Rows(row_ptr, post, weight, delay, offset, self.min_delay, max(chunk, 1), max_row)


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
    edge_key, weight_key, delay_key = jax.random.split(key, 3)
    pre_ids, post_ids = _identities(populations, pres), _identities(populations, posts)
    rule = projection.rule
    with_order = isinstance(rule, Pairs)
    if isinstance(rule, Edges):
        if (rule.n_pre, rule.n_post) != (pre_ids.size, post_ids.size):
            raise ValueError(
                f"projection {name!r}: edges are of {rule.n_pre} sources and {rule.n_post} "
                f"targets, but pre and post have {pre_ids.size} and {post_ids.size} cells"
            )
        check_edges(where, rule)
        edges, order = rule, None
    else:
        try:
            pre, post = rule.draw(generator(edge_key), pre_ids, post_ids)
        except ValueError as error:
            raise ValueError(f"projection {name!r}: {error}") from None
        edges, order = sort_edges(pre, post, pre_ids.size, post_ids.size, with_order=with_order)
        del pre, post
    n_edges = edges.n_edges
    weight = _values(name, "weight", projection.weight, n_edges, weight_key, order)
    delay = _values(name, "delay", projection.delay, n_edges, delay_key, order)
    if is_distribution(projection.delay):
        steps = np.rint(np.asarray(delay, np.float64) / dt)
        if np.any(steps < 1):
            raise ValueError(
                f"{where}: a delay of {np.min(delay):.4g} ms was drawn, which is less than one "
                f"step of {dt:g} ms; give the distribution a lower bound"
            )
        delay = steps * dt
    delay = whole_steps_array(f"projection {name!r}: delay", np.asarray(delay), dt)
    built = {}
    single = len(pres) == len(posts) == 1
    for p, (pre_part, sub_pre) in enumerate(zip(pres, _starts(pres), strict=True)):
        for q, (post_part, sub_post) in enumerate(zip(posts, _starts(posts), strict=True)):
            part, chosen = between(edges, sub_pre, sub_post)
            receptor = receptor_of(where, populations[post_part[0]], projection.receptor)
            own_weight = jnp.asarray(weight[chosen] if weight.ndim else weight)
            with named(where):
                check_sign(populations[post_part[0]], receptor, own_weight)
            own_delay = delay[chosen] if delay.ndim else delay
            low, high = int(own_delay.min(initial=2**31)), int(own_delay.max(initial=0))
            if own_delay.size == 0:
                low = high = 1
            uniform = low == high
            full = name if single else f"{name}/{projection.pre[p]}->{projection.post[q]}"
            built[full] = Synapses(
                part,
                own_weight,
                None if uniform else jnp.asarray(own_delay.astype(narrow(high + 1))),
                None,
                pre_part,
                post_part,
                receptor,
                low,
                high,
                part.max_row,
                part.max_column,
            )
    return built


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


def check_sign(population: Population, receptor: str, weight: Array) -> None:
    """Raise for a negative weight onto a conductance."""
    if isinstance(weight, Tracer) or not population.receptors[receptor].is_conductance:
        return
    with jax.ensure_compile_time_eval():
        least = float(jnp.min(weight, initial=0.0))  # on their device: they may be many
    if least < 0:
        raise ValueError(
            f"weight={least:g} onto the conductance {receptor!r} must not be negative; its "
            "reversal potential makes it inhibitory"
        )


def _addresses(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(value, (str, Sequence)) or isinstance(value, bytes):
        raise TypeError(f"{name}={shortened(value)}; give a population's name, or a list of names")
    addresses = (value,) if isinstance(value, str) else tuple(value)
    if not addresses:
        raise ValueError(f"{name} is an empty list; give at least one population")
    return addresses


def _identities(
    populations: Mapping[str, Population], parts: Sequence[tuple[str, int, int]]
) -> np.ndarray:
    """A number for each cell of the parts, unique in the network."""
    first = dict(
        zip(populations, np.cumsum([0, *(p.n for p in populations.values())]), strict=False)
    )
    return np.concatenate([np.arange(first[p] + low, first[p] + high) for p, low, high in parts])


def _values(
    name: str, what: str, value: Any, n_edges: int, key: Array, order: np.ndarray | None
) -> Array | np.ndarray:
    """A scalar, or `[n_edges]` in storage order."""
    if is_distribution(value):
        drawn = value.draw(key, (n_edges,))
        if not np.all(np.isfinite(drawn)):
            raise ValueError(f"projection {name!r}: {what} was drawn that is not finite")
        return drawn
    if np.ndim(value) == 0:
        return as_real(value) if what == "weight" else np.asarray(value)
    if np.shape(value) != (n_edges,):
        raise ValueError(
            f"projection {name!r}: {what} has shape {np.shape(value)}; give a scalar or "
            f"({n_edges},), one for each edge"
        )
    value = as_real(value) if what == "weight" else np.asarray(value)
    return value if order is None else value[order]


def _starts(parts: Sequence[tuple[str, int, int]]) -> list[tuple[int, int]]:
    """Where each part lies in the union."""
    ends = np.cumsum([high - low for _, low, high in parts])
    return [
        (int(end) - (high - low), int(end)) for end, (_, low, high) in zip(ends, parts, strict=True)
    ]
