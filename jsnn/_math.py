"""Small numerics and checks that every file above uses."""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.typing import ArrayLike

from jsnn._names import nearest

NEVER = 2**31 - 1  # the step at which nothing went wrong

# A time is a whole number of steps if it is within this part of a step of one, or within the
# rounding of its own type: float32 carries 100 ms to 8e-6 ms, and 10 s to 1e-3 ms.
_GRID = 1e-3
# Its exponential, squared, is a number in float32; what is divided by it is nothing
_LONGEST_EXPONENT = 40.0


def real_dtype() -> np.dtype:
    """float32, or float64 where JAX has been told to use it."""
    x64 = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    return np.dtype("float64" if x64 else "float32")


def as_array(values: ArrayLike) -> Array:
    """What is known as an array of JAX, which nobody else can write to. With its dtype named, JAX
    compiles nothing for it; otherwise it would, a program for every shape."""
    own = np.array(values)
    return jnp.asarray(own, own.dtype)


def is_distribution(value: Any) -> bool:
    """Whether a value is to be drawn; the class itself is not yet a distribution."""
    return callable(getattr(value, "draw", None)) and not isinstance(value, type)


def as_real(value: ArrayLike) -> Array:
    """A parameter as an array of the working precision; traced values pass unchanged, and so do
    distributions, which a network draws from."""
    if is_distribution(value):
        return value  # pyright: ignore[reportReturnType]
    dtype = real_dtype()
    is_right = isinstance(value, Array) and value.dtype == dtype
    own = None if is_right else concrete(value)
    if own is None or not own.ndim:
        return jnp.asarray(value, dtype=dtype)
    return as_array(own.astype(dtype))


def extremes(values: ArrayLike) -> tuple[float, float]:
    """The least and the largest of some numbers that are known, nan if any is; 0 of none. On the
    host, where nothing compiles; of another device's on the device, since they may be many."""
    if isinstance(values, Array) and any(own.platform != "cpu" for own in values.devices()):
        with jax.ensure_compile_time_eval():  # inside `jit` too
            return float(jnp.min(values, initial=0)), float(jnp.max(values, initial=0))
    own = np.asarray(values)
    return float(own.min(initial=0)), float(own.max(initial=0))


def picked(values: Array, which: Any) -> Array:
    """Some of an array, `values[which]`, without compiling where it is known."""
    own = concrete(values)
    return values[which] if own is None else as_array(own[which])


def exprel(x: ArrayLike) -> Array:
    """(exp(x) - 1) / x, which is 1 at 0."""
    x = jnp.asarray(x)
    small = jnp.abs(x) < 1e-5
    safe = jnp.where(small, 1.0, x)
    return jnp.where(small, 1 + x / 2, jnp.expm1(safe) / safe)


_TERMS = 18  # what a matrix of norm 1 has after them is 1e-17
_MOST_SQUARINGS = 16


def expm(matrix: Array) -> Array:
    """The exponential of a square matrix: its Taylor series, scaled and squared (Moler and Van Loan
    2003, method 3); nan where the norm is above 2**16.

    JAX's own compiles five ways to approximate and a solver of equations, a second for each shape;
    here are two loops, which can be differentiated in reverse since their lengths are fixed.
    """
    norm = lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(matrix), axis=1)))
    squarings = jnp.ceil(jnp.log2(jnp.maximum(norm, 1.0)))
    scaled, one = matrix * jnp.exp2(-squarings), jnp.eye(len(matrix), dtype=matrix.dtype)
    made = lax.fori_loop(0, _TERMS, lambda i, sum_: one + scaled @ sum_ / (_TERMS - i), one)
    made = lax.fori_loop(
        0, _MOST_SQUARINGS, lambda i, root: jnp.where(i < squarings, root @ root, root), made
    )
    return jnp.where(squarings > _MOST_SQUARINGS, jnp.nan, made)


def expm_less_one(matrix: Array) -> Array:
    """The exponential of a square matrix less 1, to the last digits of small ones, which the
    difference would have lost; its Taylor series, scaled and squared, as `expm`."""
    norm = lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(matrix), axis=1)))
    squarings = jnp.ceil(jnp.log2(jnp.maximum(norm, 1.0)))
    scaled = matrix * jnp.exp2(-squarings)
    # From the inside: x / k (1 + x / (k + 1) (1 + ...)), of which the last 1 is left out
    made = lax.fori_loop(
        0,
        _TERMS,
        lambda i, sum_: (scaled + scaled @ sum_) / (_TERMS - i),
        jnp.zeros_like(matrix),
    )
    made = lax.fori_loop(
        0,
        _MOST_SQUARINGS,
        lambda i, root: jnp.where(i < squarings, 2 * root + root @ root, root),
        made,
    )
    return jnp.where(squarings > _MOST_SQUARINGS, jnp.nan, made)


def add_in_two(total: Array, rest: Array, change: Array) -> tuple[Array, Array]:
    """A sum of many small changes, with what was lost of them (Kahan 1965). In single precision a
    change that is less than the last digit of the sum would be lost as a whole."""
    change = change + rest
    new = total + change
    return new, change - (new - total)


def inverse_exprel(x: ArrayLike) -> Array:
    """x / (exp(x) - 1), which is 1 at 0; without overflow, also of its slope."""
    x = jnp.asarray(x)
    small = jnp.abs(x) < 0.1
    z = jnp.where(small, x, 0.0)
    close = 1 - z / 2 + z * z / 12 * (1 - z * z / 60 * (1 - z * z / 42))
    apart = jnp.where(small, 1.0, jnp.minimum(x, _LONGEST_EXPONENT))
    return jnp.where(small, close, apart / (jnp.exp(apart) - 1))


def exp_slope(a: Array, b: Array) -> Array:
    """(exp(-a) - exp(-b)) / (b - a), which is exp(-a) where a = b; smooth, without overflow."""
    half = (b - a) / 2
    near = jnp.abs(half) < 1e-2
    z = jnp.where(near, half, 0.0) ** 2
    close = jnp.exp(-(a + b) / 2) * (1 + z / 6 * (1 + z / 20 * (1 + z / 42)))
    apart = jnp.where(near, 1.0, 2 * half)
    return jnp.where(near, close, (jnp.exp(-a) - jnp.exp(-b)) / apart)


def concrete(value: Any) -> np.ndarray | None:
    """The value as a NumPy array, or None while JAX traces it, or before it is drawn, and no check
    is possible."""
    if isinstance(value, Tracer) or is_distribution(value):
        return None
    try:
        return np.asarray(value)
    except jax.errors.JAXTypeError:  # a list of traced numbers
        return None


_doubts: ContextVar[list[Array] | None] = ContextVar("doubts", default=None)


@contextlib.contextmanager
def gathered(doubts: list[Array] | None) -> Iterator[None]:
    """What checks inside cannot tell, as it is traced, is added to a list: booleans, true where it
    is wrong. They are for the trace in which it is done; nothing is kept."""
    before = _doubts.set(doubts)
    try:
        yield
    finally:
        _doubts.reset(before)


def doubt(wrong: Callable[..., Any], *values: Any) -> None:
    """What a check does about traced numbers: nothing, or add to those that are gathered whether
    any of them are wrong."""
    doubts = _doubts.get()
    if doubts is not None and not any(map(is_distribution, values)):
        doubts.append(jnp.any(wrong(*(lax.stop_gradient(jnp.asarray(value)) for value in values))))


_REAL = (np.dtype(np.float32), np.dtype(np.float64))


def check_dtype(name: str, value: Any) -> None:
    """Raise for floats that are neither float32 nor float64, and for complex numbers, traced or
    not. In the working precision they would seem to have digits that they lack, or lose a part."""
    for leaf in jax.tree.leaves(value):
        dtype = getattr(leaf, "dtype", None)
        if isinstance(leaf, complex):
            dtype = np.dtype(complex)
        if dtype is None or dtype in _REAL or not jnp.issubdtype(dtype, jnp.inexact):
            continue
        raise TypeError(f"{name} has dtype {dtype}; give real numbers of float32 or float64")


def check_number(
    name: str, value: Any, *, low: float | None = None, strict: bool = False, finite: bool = True
) -> None:
    """Raise unless every element is a finite number, at least `low` (above it if `strict`)."""
    array = _numbers(name, value)
    if array is None:
        doubt(lambda x: ~_fits(x, low, strict, finite), value)
        return
    if np.any(np.isnan(array)) or (finite and not np.all(np.isfinite(array))):
        raise ValueError(f"{name}={_show(array)} is not finite; give finite numbers")
    if finite and np.any(np.abs(array.astype(np.float64)) > np.finfo(real_dtype()).max):
        raise ValueError(f"{name}={_show(array)} is more than {real_dtype()} can hold")
    if low is None:
        return
    if strict and not np.all(array > low):
        raise ValueError(f"{name}={_show(array[()])} must be above {low:g}")
    if not strict and not np.all(array >= low):
        raise ValueError(f"{name}={_show(array[()])} must be at least {low:g}")


def _fits(x: Array, low: float | None, strict: bool, finite: bool) -> Array:
    """What `check_number` asks, of traced numbers."""
    fits = jnp.isfinite(x) if finite else ~jnp.isnan(x)
    if low is not None:
        fits &= x > low if strict else x >= low
    return fits


def check_parameter(name: str, value: Any, *, low: float | None = None, strict: bool = False):
    """The same for a parameter of cells, which may be a distribution: a network draws from it, and
    checks what was drawn."""
    if not is_distribution(value):
        check_number(name, value, low=low, strict=strict)


def check_threshold(name: str, value: Any) -> None:
    """Raise unless every element is a number or infinite, which is NEST's idiom for a membrane that
    never fires; distributions pass, as in `check_parameter`."""
    if is_distribution(value):
        return
    check_number(name, value, finite=False)
    array = _numbers(name, value)
    if array is None:
        doubt(lambda x: x == -jnp.inf, value)
    elif np.any(array == -np.inf):
        raise ValueError(
            f"{name}={_show(array)}: give finite numbers, or infinity for no threshold"
        )


def check_below(low: str, a: Any, high: str, b: Any, *, strict: bool = True, why: str = "") -> None:
    """Raise unless each element of a is below that of b (at most, unless `strict`); of what is to
    be drawn nothing is known yet."""
    if is_distribution(a) or is_distribution(b):
        return
    known = concrete(a), concrete(b)
    shapes = [
        jnp.asarray(value).shape if array is None else array.shape
        for value, array in zip((a, b), known, strict=True)
    ]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            f"{low} has shape {shapes[0]} and {high} {shapes[1]}; give scalars or arrays of one "
            "length"
        ) from None
    if known[0] is None or known[1] is None:
        doubt(lambda x, y: ~(x < y if strict else x <= y), a, b)
        return
    if not np.all(known[0] < known[1] if strict else known[0] <= known[1]):
        raise ValueError(
            f"{low}={_show(known[0])} must be {'below' if strict else 'at most'} "
            f"{high}={_show(known[1])}{why}"
        )


def check_scalar(
    name: str, value: Any, *, low: float | None = None, strict: bool = False, finite: bool = True
) -> None:
    """Raise unless the value is one finite number, at least `low` (above it if `strict`)."""
    check_number(name, value, low=low, strict=strict, finite=finite)
    if np.ndim(value):
        raise ValueError(f"{name} has shape {np.shape(value)}; give one number")


def _numbers(name: str, value: Any) -> np.ndarray | None:
    """The value as an array of real numbers, or None where it is traced."""
    if is_distribution(value):
        raise TypeError(
            f"{name}={shortened(value)} is a distribution, which nothing draws from here; give a "
            "number or an array of numbers"
        )
    check_dtype(name, value)
    try:
        array = concrete(value)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array is not None and array.dtype.kind not in "iuf":
        raise TypeError(
            f"{name}={shortened(value)} is not a number; give a number or an array of numbers"
        )
    return array


def known(name: str, value: Any) -> np.ndarray:
    """The value as an array; raises `TypeError` where it is traced."""
    array = concrete(value)
    if array is None:
        raise TypeError(f"{name} is traced; give it outside jit, vmap and grad")
    return array


def plain(value: Any) -> Any:
    """A NumPy or JAX scalar as a Python number, fit for a static field.

    One of less than double precision is the shortest decimal that rounds to it: np.float32(0.1) is
    0.1, not 0.10000000149.
    """
    if not hasattr(value, "item") or isinstance(value, Tracer) or np.ndim(value) != 0:
        return value
    number, dtype = value.item(), np.dtype(value.dtype)
    if not _rounding(dtype) or not np.isfinite(number):
        return number
    decimals = (float(f"{number:.{digits}g}") for digits in range(1, 18))
    return next(decimal for decimal in decimals if np.asarray(decimal, dtype).item() == number)


def _rounding(dtype: Any) -> float:
    """The relative rounding of a floating type of less than double precision, else 0."""
    is_narrow = jnp.issubdtype(dtype, jnp.floating) and np.dtype(dtype).itemsize < 8
    return float(jnp.finfo(dtype).eps) / 2 if is_narrow else 0.0


def remade(part: Any) -> Any:
    """A module as its constructor makes it of its fields, and those of the modules in it; one that
    takes others is left alone."""
    fields = {name: _remade_within(name, value) for name, value in vars(part).items()}
    taken = inspect.signature(type(part)).parameters
    return type(part)(**fields) if set(fields) <= set(taken) else part


def _remade_within(field: str, value: Any) -> Any:
    if isinstance(value, eqx.Module):
        with named(field):
            return remade(value)
    if not isinstance(value, dict):
        return value
    made = {}
    for name, own in value.items():
        made[name] = _remade_within(f"{field.removesuffix('s')} {name!r}", own)
    return made


def check_cells(name: str, value: Any, n: int) -> None:
    """Raise unless the value is a scalar or has one number for each of n cells."""
    shape = np.shape(value)
    if shape not in ((), (n,)):
        raise ValueError(f"{name} has shape {shape}; give a scalar or an array of shape ({n},)")


def whole_steps(name: str, time: Any, dt: float, *, least: int = 0) -> int:
    """A time in ms as a whole number of steps; raises `ValueError` off the grid of `dt`."""
    array = _numbers(name, time)
    if array is None or array.shape != ():
        raise TypeError(f"{name}={shortened(time)} must be one number in ms, known before tracing")
    return int(whole_steps_array(name, array, dt, least=least))


def whole_steps_array(name: str, times: Any, dt: float, *, least: int = 0) -> np.ndarray:
    """Times in ms as whole numbers of steps, elementwise, as int64."""
    check_number(name, times)
    steps = np.asarray(times, np.float64) / dt
    whole = np.rint(steps)
    rounding = _rounding(np.asarray(times).dtype)
    if rounding:
        _, exponent = np.frexp(np.asarray(times, np.float64))
        rounding = np.ldexp(rounding, exponent - 1) / dt  # half of the last digit, in steps
        # What cannot tell a step from the next one is on the grid only if it is exactly
        rounding = np.where(rounding < 0.5, rounding, 0.0)
    off = np.abs(steps - whole) > _GRID + rounding
    if np.any(off):
        bad = np.asarray(times, np.float64)[off].flat[0]
        below = np.floor(bad / dt)
        nearest = f"nearest are {below * dt:.10g} and {(below + 1) * dt:.10g}"
        if below < least:
            nearest = f"least is {least * dt:.10g}"
        raise ValueError(
            f"{name}={bad:.7g} ms is no whole number of steps of dt={dt:.10g} ms; the {nearest} ms"
        )
    if np.any(whole < least):
        bad = np.asarray(times, np.float64)[whole < least].flat[0]
        raise ValueError(f"{name}={bad:g} ms must be at least {least * dt:.10g} ms")
    if np.any(whole > 2**31 - 2):
        raise ValueError(
            f"{name}={np.max(times):g} ms is more than 2**31 - 2 steps of dt={dt:g} ms; give less"
        )
    return whole.astype(np.int64)


def is_same_dt(a: float, b: float) -> bool:
    """Whether steps are the same but for rounding, as those of 0.3 / 3 and of 0.1 are."""
    return math.isclose(a, b, rel_tol=1e-6)


def doubt_whole_steps(times: Any, dt: float) -> None:
    """What `whole_steps_array` asks, of traced times."""

    def wrong(times: Array) -> Array:
        steps = times / dt
        off = jnp.abs(steps - jnp.rint(steps))
        rounding = 4 * jnp.finfo(steps.dtype).eps * steps
        return ~((off <= jnp.maximum(_GRID, rounding)) & (steps < NEVER - 1))

    doubt(wrong, times)


@contextlib.contextmanager
def named(what: str) -> Iterator[None]:
    """Errors about what is given, raised inside, tell whose they are."""
    try:
        yield
    except jax.errors.JAXTypeError:
        raise
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def filled(value: ArrayLike, n: int) -> Array:
    """`[n]` numbers from one or from `[n]`. What is known is made by NumPy: JAX compiles a program
    for every length of a constant; and in memory of its own, so that it can be donated."""
    known = concrete(value)
    if known is None:
        return jnp.broadcast_to(jnp.asarray(value), (n,))
    return jnp.asarray(np.array(np.broadcast_to(known, (n,))), jnp.result_type(value))


def check_name(kind: str, name: object) -> None:
    """Raise unless a name is a word that addresses can be made of."""
    if not isinstance(name, str) or not name or "." in name or "/" in name:
        raise ValueError(f"{kind} name {name!r}: give a word without dots and slashes")


def check_key(key: Any) -> None:
    """Raise unless this is one PRNG key of JAX, typed or raw."""
    typed = isinstance(key, Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    shape = jax.eval_shape(jax.random.PRNGKey, 0).shape  # of raw ones, (2,) for Threefry
    raw = hasattr(key, "dtype") and key.dtype == np.uint32 and np.shape(key) == shape
    if not (typed and key.ndim == 0) and not raw:
        raise TypeError(f"key={shortened(key)} is not a PRNG key; give one, as jax.random.key(1)")


def unknown(kind: str, name: object, names: Iterable[object]) -> ValueError:
    """The error for a name that does not exist, with the nearest one that does."""
    known = [str(known) for known in names]
    near = nearest(name, known)
    hint = f"did you mean {near!r}? " if near else ""
    return ValueError(f"unknown {kind} {name!r}: {hint}known are {known}")


def shortened(value: Any) -> str:
    """What a value looks like, in a message."""
    text = " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())
    return text if len(text) <= 80 else f"{text[:70]}..."


def _show(array: Any) -> str:
    array = np.asarray(array)
    if array.size == 1:
        return f"{array.item()!r}"
    return " ".join(np.array2string(array, threshold=6).split())
