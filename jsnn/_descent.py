"""Updates of coordinates along the gradient of a loss, many in one call of the device."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jsnn._coordinates import Coordinates, Free_
from jsnn._math import NEVER, real_dtype, shortened
from jsnn._simulate import COMPILER_OPTIONS

Loss = Callable[[Any, Array], Any]
Seen = dict[str, Array]

MOST = 1024  # updates in a call
_FAILURES = 20  # in a row: after so many halvings a way back is a millionth of what it was


class Search(eqx.Module):
    """Where a start is: coordinates `now`, the last ones with a finite loss (`good`), and the
    `best`, with its loss (`lowest`); the optimizer's state, and counters."""

    now: Free_
    good: Free_
    best: Free_
    lowest: Array
    optimizer: Any
    update: Array
    since: Array
    failing: Array
    skipped: Array
    stopped: Array


class Problem(eqx.Module):
    """What is to be minimised, and how."""

    loss: Loss
    optimizer: optax.GradientTransformationExtraArgs
    coordinates: Coordinates
    patience: int | None = eqx.field(static=True)
    forward: bool = eqx.field(static=True)
    starts: int | None = eqx.field(static=True)

    def begin(self, free: Free_) -> Search:
        zero, lowest = jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf, real_dtype())
        counters = (zero, zero, zero, zero, jnp.zeros((), bool))
        search = Search(free, free, free, lowest, self.optimizer.init(free), *counters)
        # As an update returns them: of weak types there would be a second compilation
        return jax.tree.map(lambda own: jnp.asarray(own, jnp.result_type(own)), search)

    def value(self, free: Free_, key: Array) -> tuple[Array, Seen]:
        """The loss, and the numbers beside it."""
        found = self.loss(self.coordinates.values(free), key)
        value, more = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
        if isinstance(more, dict) and "status" in more:
            rest = {name: own for name, own in more.items() if name != "status"}
            value, more = _unless_failed(value, more["status"]), rest
        if not isinstance(more, dict) or "loss" in more:
            raise TypeError(
                f"loss gives {shortened(more)} beside its value; give a dictionary of numbers, "
                "none of them called 'loss'"
            )
        return _number("loss", value), {n: _number(f"loss's {n!r}", own) for n, own in more.items()}

    def update(self, search: Search, key: Array) -> tuple[Search, Seen]:
        """One update. Where the loss or its gradient is not finite, half the way back to where they
        were last."""
        now, key = search.now, jax.random.fold_in(key, search.update)
        function = partial(self.value, key=key)
        function = _differentiated_forward(function) if self.forward else function
        (value, more), slope = jax.value_and_grad(function, has_aux=True)(now)
        fine = jnp.isfinite(value)
        for own in slope:
            fine &= jnp.all(jnp.isfinite(own))
        change, state = self.optimizer.update(
            *(slope, search.optimizer, now),
            value=value,
            grad=slope,
            value_fn=lambda free: function(free)[0],
        )
        back = jax.tree.map(lambda a, b: (a + b) / 2, search.good, now)
        better = fine & (value < search.lowest)
        since = jnp.where(better, 0, search.since + 1)
        failing = jnp.where(fine, 0, search.failing + 1)
        stopped = failing >= _FAILURES
        if self.patience is not None:
            stopped |= since >= self.patience
        new = Search(
            _where(fine, optax.apply_updates(now, change), back),
            _where(fine, now, search.good),
            _where(better, now, search.best),
            jnp.where(better, value, search.lowest).astype(search.lowest.dtype),
            _where(fine, state, search.optimizer),
            search.update + 1,
            since,
            failing,
            search.skipped + ~fine,
            stopped,
        )
        made = {"loss": value, **more}
        made = {name: jnp.where(search.stopped, jnp.nan, own) for name, own in made.items()}
        return _where(search.stopped, search, new), made


def _updates(problem: Problem, search: Search, key: Array, most: Array) -> tuple[Search, Seen]:
    """At most so many updates, fewer where all have stopped, and what was seen before each,
    `[MOST]` or `[MOST, starts]`."""
    update = problem.update if problem.starts is None else jax.vmap(problem.update)
    shapes = jax.eval_shape(update, search, key)[1]
    seen = {n: jnp.full((MOST, *s.shape), jnp.nan, s.dtype) for n, s in shapes.items()}

    def is_going_on(carry: tuple[Array, Search, Seen]) -> Array:
        return (carry[0] < most) & ~jnp.all(carry[1].stopped)

    def one(carry: tuple[Array, Search, Seen]):
        i, search, seen = carry
        search, made = update(search, key)
        return i + 1, search, {name: own.at[i].set(made[name]) for name, own in seen.items()}

    _, search, seen = lax.while_loop(is_going_on, one, (jnp.zeros((), jnp.int32), search, seen))
    return search, seen


updates_from_host = eqx.filter_jit(  # pyright: ignore[reportCallIssue]
    _updates, compiler_options=COMPILER_OPTIONS
)


def _differentiated_forward(function: Callable) -> Callable:
    """The same function, of which `jax.grad` gets the gradient in forward mode."""

    def forward(free: Free_) -> tuple[Any, Free_]:
        def twice(free: Free_) -> tuple[Array, Any]:
            value, more = function(free)
            return value, (value, more)

        slope, found = jax.jacfwd(twice, has_aux=True)(free)
        return found, slope

    def backward(slope: Free_, cotangent: tuple[Array, Any]) -> tuple[Free_]:
        return (jax.tree.map(lambda own: cotangent[0] * own, slope),)

    made = jax.custom_vjp(function)
    made.defvjp(forward, backward)
    return made


def _where(condition: Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), a, b)


def _unless_failed(value: Any, status: Any) -> Array:
    """A loss, and NaN where the status beside it tells of a failure."""
    value = _number("loss", value)
    for step in jax.tree.leaves(status):
        if not jnp.issubdtype(jnp.result_type(step), jnp.integer):
            raise TypeError(
                f"loss gives status={shortened(status)} beside its value; give steps, as "
                "`simulate` does, or name it otherwise"
            )
        value = jnp.where(jnp.any(step < NEVER), jnp.nan, value)
    return value


def _number(name: str, value: Any) -> Array:
    """What a loss gives, as an array, if it is one real number."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {shortened(value)}; let it give one real number") from None
    if array.shape or jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise ValueError(
            f"{name} has shape {array.shape} and dtype {array.dtype}; let it give one real number"
        )
    return array
