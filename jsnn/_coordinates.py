"""What of a pytree is trained, and in which coordinates."""

import zlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jsnn._math import as_real, check_key, check_number, shortened
from jsnn._names import explained
from jsnn._spike_checks import whole
from jsnn.transforms import Free, Transform

Free_ = tuple[Array, ...]  # coordinates of what is trained


class Coordinates(eqx.Module):
    """How to make a pytree of what is trained of it: the transform of each trained leaf, in their
    order, and all `leaves`, with None in the place of those."""

    transforms: tuple[Transform, ...]
    leaves: list[Any]
    structure: Any = eqx.field(static=True)

    def values(self, free: Free_, is_batch: bool = False) -> Any:
        """The pytree at these coordinates, or with a first axis in what is trained at a batch of
        them."""
        pairs = zip(self.transforms, free, strict=True)
        made = iter([(jax.vmap(t.to_value) if is_batch else t.to_value)(own) for t, own in pairs])
        leaves = [next(made) if leaf is None else leaf for leaf in self.leaves]
        return jax.tree.unflatten(self.structure, leaves)


def coordinates(
    start: Any, trainable: Any, bounds: Any, starts: int | None
) -> tuple[Coordinates, Free_]:
    """How `start` is trained, and where its coordinates are; raises for what does not fit."""
    mask, leaves, structure, names = _trained(start, trainable)
    transforms = _transforms(start, bounds)
    own, values, rest = [], [], []
    for name, leaf, is_trained, transform in zip(names, leaves, mask, transforms, strict=True):
        if not is_trained:
            # A number that is not trained is an argument all the same: another compiles nothing
            rest.append(as_real(leaf) if isinstance(leaf, float) else leaf)
            continue
        transform = Free() if transform is None else transform
        if starts is not None and np.shape(leaf)[:1] != (starts,):
            raise ValueError(
                f"{name} has shape {np.shape(leaf)}; with starts={starts} what is trained has "
                f"these as its first axis: give ({starts}, ...), as jsnn.spread draws them"
            )
        transform.check(name, leaf)
        value = leaf if isinstance(leaf, Array) else as_real(leaf)
        one = value if starts is None else value[0]
        if (shape := jax.eval_shape(transform.to_value, one).shape) != one.shape:
            raise ValueError(
                f"the bounds of {name} make {shape} of its shape {one.shape}; give one number, or "
                "arrays that broadcast to it" + (", the same for all starts" if starts else "")
            )
        own.append(transform)
        values.append(value)
        rest.append(None)
    free = tuple(t.to_free(value) for t, value in zip(own, values, strict=True))
    return Coordinates(tuple(own), rest, structure), free


@explained
def spread(parameters: Any, key: Array, n: int, by: Any = 0.3, *, trainable: Any = True) -> Any:
    """`n` random starts around these parameters, for `jsnn.fit(..., starts=n)`.

    What is trained (see `jsnn.fit` for `trainable`) gets a first axis of n: each of its elements is
    multiplied by 1 + by u, with u drawn uniformly from -1 to 1 for each start and element; what is
    0 stays so. All else stays as it is.

    **Arguments:**

    - `by`: the largest relative difference, at least 0; a number, or one for each branch of the
      parameters (a pytree prefix).

    Raises `ValueError` or `TypeError` where that is not so.
    """
    check_key(key)
    n = whole("n", n, 1)
    mask, leaves, structure, names = _trained(parameters, trainable)
    factors = jax.tree.leaves(_prefix("by", by, parameters))
    made = []
    for name, leaf, is_trained, factor in zip(names, leaves, mask, factors, strict=True):
        if not is_trained:
            made.append(leaf)
            continue
        check_number(name, leaf)
        check_number(f"by of {name}", factor, low=0.0)
        leaf = leaf if isinstance(leaf, Array) else as_real(leaf)
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        drawn = jax.random.uniform(own, (n, *leaf.shape), leaf.dtype, -1.0, 1.0)
        made.append(leaf * (1 + factor * drawn))
    return jax.tree.unflatten(structure, made)


def _trained(start: Any, trainable: Any) -> tuple[list[bool], list[Any], Any, list[str]]:
    """Which leaves are trained, the leaves, their structure and their names."""
    paths, structure = jax.tree.flatten_with_path(start)
    names = [f"start{jax.tree_util.keystr(path)}" for path, _ in paths]
    leaves = [leaf for _, leaf in paths]
    wanted = jax.tree.leaves(_prefix("trainable", trainable, start))
    mask = []
    for name, leaf, own in zip(names, leaves, wanted, strict=True):
        if callable(own):
            own = own(leaf)
        if not isinstance(own, (bool, np.bool_)):
            raise TypeError(f"trainable of {name} is {shortened(own)}; give True or False")
        mask.append(bool(own) and _is_real(leaf))
    if not any(mask):
        raise ValueError(
            f"of {shortened(start)} nothing is trained; give real numbers, and trainable=True for "
            "them (integers are never trained)"
        )
    for name, leaf, own in zip(names, leaves, mask, strict=True):
        if own and isinstance(leaf, Tracer):
            raise TypeError(f"{name} is traced; call fit and spread outside jit, vmap and grad")
    return mask, leaves, structure, names


def _transforms(start: Any, bounds: Any) -> list[Transform | None]:
    is_leaf: Callable[[Any], bool] = lambda x: x is None or isinstance(x, Transform)
    wrapped = jax.tree.map(_Given, bounds, is_leaf=is_leaf)
    given = jax.tree.leaves(
        _prefix("bounds", wrapped, start, lambda x: isinstance(x, _Given)),
        is_leaf=lambda x: isinstance(x, _Given),
    )
    found = []
    for own in given:
        if not (own.transform is None or isinstance(own.transform, Transform)):
            raise TypeError(
                f"bounds has {shortened(own.transform)}; give Free(), Positive() or "
                "Bounded(low, high), of jsnn.transforms"
            )
        found.append(own.transform)
    return found


class _Given:
    """A transform as a leaf, or None as one."""

    def __init__(self, transform: Any):
        self.transform = transform


def _prefix(name: str, prefix: Any, tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """A value for each leaf of a tree, of one for each of its branches."""
    try:
        return jax.tree.broadcast(prefix, tree, is_leaf=is_leaf)
    except ValueError as error:
        raise ValueError(
            f"{name} does not fit the parameters: {str(error).splitlines()[0]} Give one for all, "
            "or a pytree that has one for each branch or leaf of theirs"
        ) from None


def _is_real(leaf: Any) -> bool:
    if isinstance(leaf, float):
        return True
    is_array = isinstance(leaf, (Array, np.ndarray, np.generic))
    return is_array and jnp.issubdtype(leaf.dtype, jnp.floating)
