"""Which edges are lost, and which elements find each other: choices at random, in fixed shapes.

A choice depends on a key, a cell and the number of an element or edge among those of its cell, and
not on how much room there is.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jsnn._random import threefry_by_loop
from jsnn._sorting import in_order, order_of
from jsnn.rewire import ByDistance


def keys_of(words: Array, projections: Sequence[str], step: Array) -> Array:
    """Keys for four choices of one update of each projection, `[n, 4, 2]`."""
    names = [zlib.crc32(f"rewire/{name}".encode()) for name in projections]
    name, choice = np.meshgrid(np.asarray(names, np.uint32), np.arange(4, dtype=np.uint32))
    key = threefry_by_loop(words, jnp.asarray(name), jnp.asarray(choice))
    key = threefry_by_loop(jnp.stack(key), step.astype(jnp.uint32), jnp.uint32(0))
    return jnp.stack(key).T


def random_words(key: Array, cell: Array, number: Array) -> Array:
    return threefry_by_loop(key, cell.astype(jnp.uint32), number.astype(jnp.uint32))[0]


def lost(words: Array, cell: Array, eligible: Array, n_lost: Array) -> Array:
    """Of each cell's eligible edges, the `n_lost[cell]` with the least words, or all if there are
    fewer. `cell` `[n_edges]` is the end of each edge that loses it."""
    n, numbers = n_lost.shape[0], jnp.arange(cell.shape[0])
    cell = jnp.where(eligible & (n_lost[cell] > 0), cell, n)
    edge = order_of(words)
    cell, order = in_order(cell[edge], n)
    edge = edge[order]
    first = jnp.searchsorted(cell, jnp.arange(n), method="scan")
    rank = numbers - first[jnp.minimum(cell, n - 1)]
    chosen = (cell < n) & (rank < n_lost[jnp.minimum(cell, n - 1)])
    return jnp.zeros(cell.shape, bool).at[edge].set(chosen)


class Elements(NamedTuple):
    """Vacant elements `[room]`: of which cell, which of its elements; `total`, how many are
    real, those that stand first."""

    cell: Array
    number: Array
    total: Array


def listed(vacant: Array, room: int) -> Elements:
    """All vacant elements, or the first `room` of them."""
    vacant = jnp.minimum(vacant, room)
    upto = jnp.cumsum(vacant)
    numbers = jnp.arange(room)
    cell = jnp.searchsorted(upto, numbers, side="right", method="scan")
    cell = jnp.minimum(cell, vacant.shape[0] - 1)
    return Elements(cell, numbers - (upto - vacant)[cell], jnp.minimum(upto[-1], room))


def shuffled(key: Array, elements: Elements) -> Elements:
    words = random_words(key, elements.cell, elements.number)
    real = jnp.arange(words.shape[0]) < elements.total
    # Of two equal words the one that stands first goes first, and of real ones and others real ones
    order = order_of(jnp.where(real, words, np.uint32(2**32 - 1)))
    return Elements(elements.cell[order], elements.number[order], elements.total)


Pairs = tuple[Array, Array, Array]  # sources, targets, and which of them are real


def at_random(keys: Array, pre: Elements, post: Elements) -> Pairs:
    """The side with fewer elements in the order of its cells, each with one of the others."""
    more_pre = pre.total > post.total
    choose = lambda a, b: Elements(*(jnp.where(more_pre, x, y) for x, y in zip(a, b, strict=True)))  # noqa: E731
    more, fewer = choose(pre, post), choose(post, pre)
    found = shuffled(jnp.where(more_pre, keys[0], keys[1]), more)
    real = jnp.arange(pre.cell.shape[0]) < fewer.total
    ends = (found.cell, fewer.cell)
    return jnp.where(more_pre, *ends), jnp.where(more_pre, *ends[::-1]), real


def by_distance(
    keys: Array,
    pre: Elements,
    vacant: Array,
    law: ByDistance,
    identities: tuple[np.ndarray, np.ndarray] | None,
) -> Pairs:
    """The elements of sources, in random order, each with one that is left of the `vacant` ones of
    targets `[n_post]`; where identities of sources and targets are given, not of its own cell."""
    law = lax.stop_gradient(law)  # who finds whom has none
    order = shuffled(keys[0], pre)
    # The middle of one of 2^24 intervals: never 0, so that nothing without weight is drawn
    words = random_words(keys[1], order.cell, order.number)
    draws = ((words >> 8).astype(law.sigma.dtype) + 0.5) * 2.0**-24

    def one(carry):
        i, left, post, real = carry
        source = order.cell[i]
        apart = law.post - law.pre[source]
        if law.period is not None:
            apart = apart - law.period * jnp.round(apart / law.period)
        near = jnp.exp(-jnp.sum(apart**2, axis=1) / (2 * law.sigma**2))
        if identities is not None:
            near = jnp.where(identities[1] == jnp.asarray(identities[0])[source], 0, near)
        upto = jnp.cumsum(left * near)
        some = upto[-1] > 0
        draw = jnp.minimum(draws[i] * upto[-1], jnp.nextafter(upto[-1], 0 * upto[-1]))
        found = jnp.minimum(jnp.sum(upto <= draw), left.shape[0] - 1)
        left = left.at[found].add(jnp.where(some, -1, 0).astype(left.dtype))
        return i + 1, left, post.at[i].set(found), real.at[i].set(some)

    none = jnp.zeros(pre.cell.shape, jnp.int32)
    start = (jnp.zeros((), jnp.int32), vacant.astype(law.sigma.dtype), none, none > 0)
    more = lambda carry: (carry[0] < pre.total) & jnp.any(carry[1] > 0)  # noqa: E731
    _, _, post, real = lax.while_loop(more, one, start)
    return order.cell, post, real


def first_of_each(pairs: Pairs, old: Pairs, n: int) -> Pairs:
    """Pairs without those that are among old ones, or stand there before; n sources in all."""
    n_old = old[0].shape[0]
    pre, post, real = (jnp.concatenate(ends) for ends in zip(old, pairs, strict=True))
    index = jnp.arange(pre.shape[0])
    pre, post, index = lax.sort((jnp.where(real, pre, n), post, index), num_keys=3)
    again = (pre[1:] == pre[:-1]) & (post[1:] == post[:-1])
    again = jnp.zeros(index.shape, bool).at[index].set(jnp.append(jnp.zeros(1, bool), again))
    return pairs[0], pairs[1], pairs[2] & ~again[n_old:]
