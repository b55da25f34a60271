"""Edges in storage order: sorted by source, then by target."""

import operator
from typing import Any

import equinox as eqx
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jsnn._draw import CHUNK, check_n_edges, index_dtype
from jsnn._math import as_array, shortened
from jsnn._names import explained


@explained
class Edges(eqx.Module):
    """Who connects to whom, sorted by source and then by target (compressed sparse rows).

    `post` `[n_edges]` holds the target of every edge, as uint16 if `n_post` is at most 65536 and
    as int32 otherwise. The edges of source i are `post[row_ptr[i]:row_ptr[i + 1]]`, where
    `row_ptr` is int32 `[n_pre + 1]`. Repeated pairs stand next to each other. `connect` and
    `sort_edges` make it. `pre`, `max_row` and `max_column` are computed on the host, outside `jit`.
    """

    post: Array
    row_ptr: Array
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)

    def __check_init__(self):
        for name in ("n_pre", "n_post"):
            population_size(f"Edges: {name}", getattr(self, name))
        for name in ("post", "row_ptr"):
            array = getattr(self, name)  # not read: it may lie on another device
            dtype = getattr(array, "dtype", np.dtype(object))
            if not np.issubdtype(dtype, np.integer) or np.ndim(array) != 1:
                raise TypeError(
                    f"Edges: {name}={shortened(array)}; give a one-dimensional array of integers"
                )

    @property
    def n_edges(self) -> int:
        return self.post.shape[0]

    def __len__(self) -> int:
        return self.n_edges

    @property
    def pre(self) -> np.ndarray:
        """The source of every edge, int32 `[n_edges]`, made anew at every call."""
        return np.repeat(np.arange(self.n_pre, dtype=np.int32), np.diff(np.asarray(self.row_ptr)))

    @property
    def max_row(self) -> int:
        """The number of edges of the source that has most."""
        return int(np.diff(np.asarray(self.row_ptr)).max())

    @property
    def max_column(self) -> int:
        """The number of edges of the target that has most."""
        return int(_count(np.asarray(self.post), self.n_post).max())


def sort_edges(
    pre: ArrayLike, post: ArrayLike, n_pre: int, n_post: int, *, with_order: bool = False
) -> tuple[Edges, np.ndarray | None]:
    """Bring edges, given by their two ends in any order, into storage order.

    With `with_order` the second result is the permutation, int32 `[n_edges]`, such that
    `values[order]` brings values of the edges into storage order as well; repeated pairs keep
    their order. Otherwise it is None.
    """
    n_pre, n_post = population_size("n_pre", n_pre), population_size("n_post", n_post)
    pre, post = within("pre", pre, n_pre), within("post", post, n_post)
    check_lengths("sort_edges", pre, post)
    check_n_edges("sort_edges", pre.size)
    row_ptr = np.zeros(n_pre + 1, np.int32)
    np.cumsum(_count(pre, n_pre), out=row_ptr[1:])
    columns = [pre, post] + ([np.arange(pre.size, dtype=np.int32)] if with_order else [])
    if not np.all((pre[1:] > pre[:-1]) | (pre[1:] == pre[:-1]) & (post[1:] >= post[:-1])):
        for end in (1, 0):  # stable passes, least digit first
            n_digits = columns[end].dtype.itemsize // 2
            for digit in range(n_digits):
                key = columns[end]
                if n_digits > 1:
                    key = (key >> 16 * digit).astype(np.uint16)  # wraps to the low half
                last = end == 0 and digit == n_digits - 1
                columns = _sort_by(key, columns[last:])  # after it nobody needs the sources
    edges = Edges(as_array(columns[-1 - with_order]), as_array(row_ptr), n_pre, n_post)
    return edges, columns[-1] if with_order else None


def between(edges: Edges, pre: tuple[int, int], post: tuple[int, int]) -> tuple[Edges, Any]:
    """The edges between two parts of the unions, and which they are."""
    if pre == (0, edges.n_pre) and post == (0, edges.n_post):
        return edges, slice(None)
    targets = np.asarray(edges.post).astype(np.int64)
    row_ptr = np.asarray(edges.row_ptr)
    chosen = (targets >= post[0]) & (targets < post[1])
    chosen[: row_ptr[pre[0]]] = False
    chosen[row_ptr[pre[1]] :] = False
    upto = np.concatenate([[0], np.cumsum(chosen)])
    n_pre, n_post = pre[1] - pre[0], post[1] - post[0]
    own_row_ptr = upto[row_ptr[pre[0] : pre[1] + 1]].astype(np.int32)
    own_post = (targets[chosen] - post[0]).astype(narrow(n_post))
    part = Edges(as_array(own_post), as_array(own_row_ptr), n_pre, n_post)
    return part, np.flatnonzero(chosen)


def narrow(n: int) -> type:
    return np.uint8 if n <= 2**8 else np.uint16 if n <= 2**16 else np.int32


def _sort_by(key: np.ndarray, columns: list[np.ndarray]) -> list[np.ndarray]:
    """One stable pass by a uint16 key: sort every chunk and append its runs to those before.

    NumPy's radix sort of a chunk stays in the cache: 0.2 s for 12.5 million edges, where sorting
    them as packed uint32 pairs takes 0.55 s (on AMD, whose AVX-512 stores are slow).
    """
    if np.all(key[1:] >= key[:-1]):
        return columns
    counts = _count(key, int(key.max()) + 1)
    free = np.cumsum(counts) - counts  # where the next edge of every key goes
    out = [np.empty_like(column) for column in columns]
    for start in range(0, key.size, CHUNK):
        chunk = slice(start, start + CHUNK)
        order = np.argsort(key[chunk], kind="stable")
        counts = np.bincount(key[chunk], minlength=free.size)
        to = np.repeat(free - (np.cumsum(counts) - counts), counts)
        to += np.arange(to.size)
        for filled, column in zip(out, columns, strict=True):
            filled[to] = column[chunk][order]
        free += counts
    return out


def _count(values: np.ndarray, n: int) -> np.ndarray:
    """How often each of 0..n-1 occurs, in chunks because `bincount` makes an int64 copy."""
    counts, size = np.zeros(n, np.int64), max(CHUNK, n)
    for start in range(0, values.size, size):
        counts += np.bincount(values[start : start + size], minlength=n)
    return counts


def check_edges(where: str, edges: Edges) -> None:
    """Raise unless given edges are what the delivery takes them for."""
    row_ptr, post = np.asarray(edges.row_ptr), np.asarray(edges.post)
    whole = row_ptr.shape == (edges.n_pre + 1,) and row_ptr[0] == 0 and row_ptr[-1] == post.size
    if not whole or np.any(np.diff(row_ptr) < 0):
        raise ValueError(f"{where}: row_ptr of the edges does not count 0..{post.size} upwards")
    if post.size and not (post.min() >= 0 and post.max() < edges.n_post):
        raise ValueError(f"{where}: post of the edges is not within 0..{edges.n_post - 1}")


def whole_number(name: str, value: Any) -> int:
    message = f"{name}={value!r} is not an integer; give a whole number, 0 or more"
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(message)
    try:
        whole = operator.index(value)
    except TypeError:
        raise TypeError(message) from None
    if whole < 0:
        raise ValueError(f"{name}={value!r} is negative; give a whole number, 0 or more")
    return whole


def population_size(name: str, n: Any) -> int:
    if not 0 < whole_number(name, n) < 2**31:
        raise ValueError(f"{name}={n}: give at least 1 cell and fewer than 2**31")
    return int(n)


def integers(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={shortened(values)}; give a list of integers") from None
    if array.size == 0 and not hasattr(values, "dtype"):
        array = array.astype(np.int32)  # NumPy takes an empty list for float
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} has dtype {array.dtype}; give integers")
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; give a one-dimensional array")
    return array


def within(name: str, values: Any, n: int) -> np.ndarray:
    array = integers(name, values)
    if array.size and (array.min() < 0 or array.max() >= n):
        bad = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"{name} contains {bad}; give indices from 0 to {n - 1}")
    return array.astype(index_dtype(n), copy=False)


def check_lengths(where: str, pre: np.ndarray, post: np.ndarray) -> None:
    if pre.size != post.size:
        raise ValueError(f"{where}: pre has {pre.size} and post {post.size} edges; give equal ones")
