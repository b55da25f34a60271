"""The points of a sweep: named values, and every combination of them or one after the other."""

import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jsnn._math import concrete, shortened, unknown


class Column(NamedTuple):
    """The values of one name: numbers `[n, ...]` on the host, for PRNG keys their words."""

    leaves: list[np.ndarray]
    kinds: list[Any]  # of each leaf the implementation of its PRNG keys, or None for numbers
    structure: Any
    n: int

    @classmethod
    def of(cls, name: str, values: Any) -> "Column":
        if isinstance(values, (list, tuple, range)):
            values = _together(name, values)
        given, structure = jax.tree.flatten(values)
        if not given:
            raise ValueError(f"over[{name!r}]={shortened(values)} holds no arrays; give values")
        leaves, kinds = zip(*(_on_host(name, leaf) for leaf in given), strict=True)
        lengths = {leaf.shape[0] for leaf in leaves if leaf.ndim}
        if len(lengths) != 1 or any(leaf.ndim == 0 for leaf in leaves):
            shapes = [leaf.shape for leaf in leaves]
            raise ValueError(
                f"over[{name!r}] has arrays of shape {shortened(shapes)}; give one number, key or "
                "state for each point, along the first axis"
            )
        n = lengths.pop()
        if n == 0:
            raise ValueError(f"over[{name!r}] is empty; give one value or more")
        return cls(list(leaves), list(kinds), structure, n)

    @property
    def numbers(self) -> np.ndarray | None:
        """`[n]`, where there is one number for each point."""
        is_plain = len(self.leaves) == 1 and self.kinds[0] is None and self.leaves[0].ndim == 1
        return self.leaves[0] if is_plain else None

    def whole(self, leaves: list[Any]) -> Any:
        """What the function sees of leaves that were taken of this column's."""
        wrapped = [
            leaf if kind is None else jax.random.wrap_key_data(leaf, impl=kind)
            for leaf, kind in zip(leaves, self.kinds, strict=True)
        ]
        return jax.tree.unflatten(self.structure, wrapped)


class Points(NamedTuple):
    """All points of a sweep, `shape` of them."""

    columns: dict[str, Column]
    product: bool

    @classmethod
    def of(cls, over: Any, product: bool) -> "Points":
        if not isinstance(over, Mapping):
            raise TypeError(f"over={shortened(over)} is not a dictionary; give values by name")
        if not over:
            raise ValueError("over is empty; give one name with its values, or more")
        columns = {name: Column.of(name, values) for name, values in over.items()}
        lengths = {name: own.n for name, own in columns.items()}
        if not product and len(set(lengths.values())) > 1:
            raise ValueError(
                f"product=False takes values one after the other, and there are {lengths}; give as "
                "many of each name"
            )
        return cls(columns, product)

    @property
    def shape(self) -> tuple[int, ...]:
        lengths = [own.n for own in self.columns.values()]
        return tuple(lengths) if self.product else (lengths[0],)

    @property
    def n(self) -> int:
        return math.prod(self.shape)

    @property
    def vary(self) -> list[bool]:
        """Of each leaf, whether it differs between points."""
        return [own.n > 1 for own in self.columns.values() for _ in own.leaves]

    def take(self, index: np.ndarray) -> list[np.ndarray]:
        """The leaves of all columns at points `[k]` of the flat grid; one value where there is
        only one."""
        places = np.unravel_index(index, self.shape)
        if not self.product:
            places = places * len(self.columns)
        by_name = dict(zip(self.columns, places, strict=True))
        return [
            leaf[by_name[name]] if own.n > 1 else leaf[0]
            for name, own in self.columns.items()
            for leaf in own.leaves
        ]

    def arguments(self, leaves: list[Any]) -> dict[str, Any]:
        """What the function is called with, of the leaves of one point."""
        rest, made = list(leaves), {}
        for name, own in self.columns.items():
            mine, rest = rest[: len(own.leaves)], rest[len(own.leaves) :]
            made[name] = own.whole(mine)
        return made

    def label(self, point: int) -> str:
        """A point of the flat grid in words: `g=5.0, seed number 3`."""
        places = np.unravel_index(point, self.shape)
        words = []
        for i, (name, own) in enumerate(self.columns.items()):
            at, numbers = places[i if self.product else 0], own.numbers
            words.append(f"{name} number {at}" if numbers is None else f"{name}={numbers[at]:g}")
        return ", ".join(words)


def check_function(function: Any, names: Mapping[str, Any]) -> None:
    """Raise unless a function takes arguments of these names and needs no others."""
    if not callable(function):
        raise TypeError(f"function={shortened(function)} can not be called; give a function")
    try:
        takes = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of builtins nothing is known
        return
    if any(not isinstance(name, str) for name in names):
        raise TypeError(f"over has names {list(names)}; give words, as the function's arguments")
    named = {
        n for n, own in takes.items() if own.kind in (own.POSITIONAL_OR_KEYWORD, own.KEYWORD_ONLY)
    }
    anything = any(own.kind is own.VAR_KEYWORD for own in takes.values())
    for name in names:
        if name not in named and not anything:
            raise unknown("argument of the function", name, sorted(named))
    missing = [
        name
        for name, own in takes.items()
        if own.default is own.empty
        and own.kind not in (own.VAR_KEYWORD, own.VAR_POSITIONAL)
        and name not in names
    ]
    if missing:
        raise ValueError(
            f"over lacks {missing}, which the function needs; give values, or bind one with "
            "functools.partial"
        )


def _together(name: str, values: Any) -> Any:
    """A list of numbers or keys as an array."""
    if any(isinstance(own, Array) for own in values):
        try:
            return jnp.stack(list(values))
        except (TypeError, ValueError):
            pass
    try:
        made = np.asarray(values)
    except ValueError:  # ragged
        made = np.asarray(None)
    if made.dtype.kind not in "biuf":
        raise TypeError(f"over[{name!r}]={shortened(values)}; give numbers, or keys or states")
    return made


def _on_host(name: str, leaf: Any) -> tuple[np.ndarray, Any]:
    """An array as NumPy's in JAX's precision; of PRNG keys their words and implementation."""
    if isinstance(leaf, Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf)), jax.random.key_impl(leaf)
    known = concrete(leaf)
    if known is None:
        raise TypeError(f"over[{name!r}] is traced; sweep outside jit, vmap and grad")
    if known.dtype.kind not in "biuf":
        raise TypeError(f"over[{name!r}]={shortened(leaf)}; give numbers, or keys or states")
    kind = jax.dtypes.canonicalize_dtype(known.dtype)
    if known.dtype.kind in "iu" and known.size:
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        if known.min() < low or known.max() > high:
            raise ValueError(
                f"over[{name!r}] reaches from {known.min()} to {known.max()}, and {kind} only from "
                f"{low} to {high}"
            )
    return known.astype(kind), None
