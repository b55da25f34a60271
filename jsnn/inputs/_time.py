"""Functions of time, at steps of whatever number.

In float32 numbers of ms lie 4 apart after 10 h, and a phase is lost long before. A function is
therefore evaluated in float64, also where all else is float32: at a few numbers a step, and within
a context that changes nothing outside. What goes wrong in a mixture of precisions goes wrong in
operations that JAX writes anew, in its own precision, when it compiles: random numbers do. So a
function is taken in float64 if all that it does is known to be fine, and with a warning as it is if
not.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from jsnn._math import as_real, is_same_dt, real_dtype

# What XLA has in float64 just as in float32, and what holds such things
_FINE = set(
    """
    abs acos acosh add and asin asinh atan atan2 atanh broadcast_in_dim cbrt ceil clamp concatenate
    conv_general_dilated convert_element_type copy cos cosh cummax cummin cumprod cumsum div
    dot_general dynamic_slice dynamic_update_slice eq erf erf_inv erfc exp exp2 expm1 floor gather
    ge gt integer_pow iota is_finite le le_to lgamma log log1p logistic lt lt_to max min mul ne neg
    not or pad pow reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum rem reshape rev
    round rsqrt scatter scatter-add select_n shift_left shift_right_arithmetic shift_right_logical
    sign sin sinh slice sort split sqrt square squeeze stack stop_gradient sub tan tanh transpose
    xor
    closed_call cond custom_jvp_call jit pjit scan while
    """.split()
)
# What JAX writes anew when it compiles, and `_evaluated` before
_PLACES = ("argmax", "argmin")
_WRITTEN = "call_hi_primitive"  # from JAX 0.11 on
_LONGEST_TABLE = 1000  # steps in a ms


def at_steps(rate: Callable, steps: Array, dt: float) -> Array:
    """A function of the time (ms) at the start of each of some steps, `[len(steps), n or 1]`."""
    trace = None if real_dtype() == np.float64 else _in_double(rate)
    if trace is None:
        is_double = real_dtype() == np.float64
        times = _times(steps, dt) if is_double else (steps * dt).astype(real_dtype())
        return jax.vmap(lambda t: jnp.atleast_1d(as_real(rate(t))))(times)

    def values(consts: list[Any], steps: Array) -> Array:
        with jax.enable_x64(True):
            times = _times(steps, dt)
            function = jaxpr_as_fun(ClosedJaxpr(trace.jaxpr, consts))
            return jax.vmap(lambda t: jnp.atleast_1d(function(t)[0]))(times).astype(np.float32)

    # Differentiated inside the context, too: rules of functions are written in its precision
    @jax.custom_jvp
    def rounded(consts: list[Any], steps: Array) -> Array:
        return values(consts, steps)

    @rounded.defjvp
    def _jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
        with jax.enable_x64(True):
            of_consts = lambda consts: values(consts, primals[1])  # noqa: E731
            return jax.jvp(of_consts, primals[:1], tangents[:1])

    return rounded(list(trace.consts), steps)


def _times(steps: Array, dt: float) -> Array:
    """Times (ms) in double precision. Where a ms is a whole number of steps, they are the decimals
    that a user writes: step 3 is at 0.3, and not at 3 * 0.1, which is more. But 0.29 / 0.01 is less
    than 29: where t / dt would be a step early, as the place in a table, it is the number after.
    (XLA divides by multiplication.)"""
    per_ms = round(1 / dt)
    if 0 < per_ms <= _LONGEST_TABLE and is_same_dt(per_ms * dt, 1.0):
        parts = jnp.asarray(np.arange(per_ms) / per_ms)  # XLA would multiply by the reciprocal
        times = (steps // per_ms).astype(jnp.float64) + parts[steps % per_ms]
    else:
        times = steps.astype(jnp.float64) * dt
    for _ in range(2):
        times = jnp.where(times * (1 / dt) < steps, jnp.nextafter(times, jnp.inf), times)
    return times


def _in_double(rate: Callable) -> ClosedJaxpr | None:
    """A function of one number as a trace in float64; None where that could not be compiled."""
    number = jax.ShapeDtypeStruct((), np.float64)
    try:
        with jax.enable_x64(True):
            trace = jax.make_jaxpr(rate)(number)
            if any(name in (*_PLACES, _WRITTEN) for name in _primitives(trace.jaxpr)):
                known = trace
                trace = jax.make_jaxpr(lambda t: _evaluated(known.jaxpr, known.consts, [t])[0])(
                    number
                )
    except Exception as error:  # a function of strict types, which was traced in float32 before
        why = f"cannot be traced in double precision ({str(error).splitlines()[0][:100]})"
    else:
        strange = sorted({name for name in _primitives(trace.jaxpr) if name not in _FINE})
        if not strange:
            return trace
        why = f"uses {', '.join(strange)}, which is not taken in double precision"
    warnings.warn(
        f"a rate {why}: it gets its time in float32, up to 0.03 ms off after 10 minutes "
        "and 2 ms after 10 hours; enable x64, or write it in other operations",
        stacklevel=2,
    )
    return None


def _evaluated(jaxpr: Any, consts: Any, given: list[Any]) -> list[Any]:
    """The results of a program, in operations that are fine where JAX would write others anew:
    `jnp.select` and `jnp.piecewise` look for the place of the first condition that holds,
    `jnp.interp` for that of a number in a table."""
    known = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= zip(jaxpr.invars, given, strict=True)
    read = lambda x: x.val if isinstance(x, Literal) else known[x]  # noqa: E731
    for step in jaxpr.eqns:
        mine, inner = [read(x) for x in step.invars], step.params.get("jaxpr")
        if step.primitive.name in _PLACES:
            made = [_place(step.primitive.name, *mine, **step.params)]
        elif step.primitive.name == _WRITTEN and _own_function(step) is None:
            written = step.params["_prim"]
            made = jax.tree.leaves(written.expand(*jax.tree.unflatten(written.in_tree, mine)))
        elif step.primitive.name in ("jit", "pjit") and inner is not None:
            made = _evaluated(inner.jaxpr, inner.consts, mine)
        else:
            made = step.primitive.bind(*mine, **step.primitive.get_bind_params(step.params))
            made = made if step.primitive.multiple_results else [made]
        known |= zip(step.outvars, made, strict=True)
    return [read(x) for x in jaxpr.outvars]


def _place(how: str, values: Array, axes: tuple[int], index_dtype: Any) -> Array:
    """Where the first of the largest or smallest numbers is; that of the first NaN, if there is."""
    values = values.astype(jnp.int32) if values.dtype == bool else values
    best = (jnp.max if how == "argmax" else jnp.min)(values, axes, keepdims=True)
    at = jax.lax.broadcasted_iota(index_dtype, values.shape, axes[0])
    is_best = (values == best) | (values != values)  # noqa: PLR0124
    return jnp.min(jnp.where(is_best, at, values.shape[axes[0]] - 1), axes)


def _primitives(jaxpr: Any) -> Iterator[str]:
    """What is done in a trace, and in those inside."""
    is_jaxpr = lambda value: hasattr(value, "eqns")  # noqa: E731
    for equation in jaxpr.eqns:
        if (function := _own_function(equation)) is not None:
            yield from _primitives(function.jaxpr)
            continue
        yield equation.primitive.name
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(inner):
                yield from _primitives(inner)


def _own_function(equation: Any) -> Any:
    """What is called, if it is a function with a derivative of its own, as JAX 0.11 and later have
    it; else None."""
    return getattr(equation.params.get("_prim"), "traced", None)
