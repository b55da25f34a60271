"""A function over a grid of points, in batches that fit memory."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from jsnn._divide import mesh_of
from jsnn._interrupts import between_calls, check
from jsnn._math import NEVER, shortened
from jsnn._names import explained
from jsnn._points import Points, check_function
from jsnn._simulate import COMPILER_OPTIONS
from jsnn._swept import Swept
from jsnn._working_set import bytes_a_member

_AXIS = "points"
_CPU_BYTES = 2**27  # that a device works on at once: more runs no faster, and leaves the caches
_PART = 0.5  # of an accelerator's memory


@explained
@between_calls
def sweep(
    function: Callable[..., Any],
    over: Mapping[str, Any],
    *,
    product: bool = True,
    batch: int | None = None,
    devices: int | Sequence[Any] | None = None,
    keep_failed: bool = False,
    progress: bool = True,
) -> Swept:
    """Call a function at every point of a grid, batched by `jax.vmap`, with one compilation.

        def rate(g, key):
            weight = lambda n: n.synapses["inh"].weight
            own = eqx.tree_at(weight, network, -g * J)
            made = jsnn.simulate(own, own.init(key), 10000)
            return {"spikes": made.stats["spikes"]["cells"], "status": made.status}

        found = jsnn.sweep(rate, {"g": np.linspace(3, 8, 16), "key": jax.random.split(key, 4)})
        found["spikes"]  # [16, 4]
        found.at(g=5.0)["spikes"]  # [4]

    **Arguments:**

    - `function`: takes one value of each name, as keyword arguments, and returns a pytree of
      arrays. It is traced once. Arrays that it closes over, as those of a network, are shared by
      all points.
    - `over`: by name the values: numbers, PRNG keys, or any pytree of arrays, such as states, with
      the values along the first axis of each. A name with a single value is shared by all points
      too: what depends on it alone, as the random numbers of one key, is computed once a batch.
    - `product`: every combination; False: the first values of all names, the second, ...
    - `batch`: how many points at once, at most; a multiple of the devices. If left out, as many as
      hold 128 MiB for each device of a CPU, or half the memory of an accelerator, by a count
      over the trace of what differs between points, which is an upper bound.
    - `devices`: how many (or which) devices to divide each batch over. Points that are neighbours
      go to different ones. A network in the function stays on one.
    - `keep_failed`: go on where points fail.
    - `progress`: show a bar, on a terminal.

    The last batch is filled up with its last point, so that all are one program; batches are up to
    a third smaller than asked where that leaves less to fill up. Results go to the host batch by
    batch. They do not depend on batches and devices, but for the rounding of sums that XLA takes in
    another order.

    `simulate` raises nothing inside a batch; it returns a status. So let the function return it:
    every integer under the name `status`, in a dictionary or a `Solution`, is the step at which a
    point failed, or `jsnn.NEVER`: parameters that are out of their range, too, which a batch cannot
    raise either. Without it, a point that failed looks like any other. Raises
    `FloatingPointError` (of an input, a projection or a relaxation `ValueError`) at the end of the
    batch in which points failed, and names them. With `keep_failed`, they are in `failed`, and
    their real numbers are NaN.

    Raises `ValueError` or `TypeError`, before anything compiles, for names that the function does
    not take, or needs, values that are empty, or not equally many without `product`, and results
    that are no arrays. An interruption (Ctrl-C) takes effect after the batch that runs, and leaves
    nothing; a second one at once.
    """
    _check_flags(product=product, keep_failed=keep_failed, progress=progress)
    points = Points.of(over, bool(product))
    check_function(function, points.columns)
    mesh = mesh_of(devices)
    among = [jax.devices()[0]] if mesh is None else list(mesh.devices.flat)
    start = time.perf_counter()
    trace, structure = _traced(function, points)
    a_member = bytes_a_member(trace.jaxpr, tuple(points.vary))
    batch = _batch_size(batch, points.n, a_member, among)
    batches = -(-points.n // batch)
    compiled, consts = _compiled(trace, points, batch, among)
    compile_s = time.perf_counter() - start

    order = np.arange(batch).reshape(-1, len(among)).T.reshape(-1)  # neighbours lie apart
    back = np.argsort(order)
    results: list[np.ndarray] | None = None
    failed = np.zeros(points.n, bool)
    with tqdm(total=points.n, unit=" points", disable=None if progress else True) as bar:
        for first in range(0, points.n, batch):
            index = np.arange(first, min(first + batch, points.n))
            filled = np.minimum(first + order, points.n - 1)
            made = compiled(consts, points.take(filled))
            own = [np.asarray(leaf)[back[: index.size]] for leaf in made]
            if results is None:
                results = [np.zeros((points.n, *leaf.shape[1:]), leaf.dtype) for leaf in own]
            for whole, leaf in zip(results, own, strict=True):
                whole[index] = leaf
            seen = jax.tree.unflatten(structure, own)
            failed[index] = _look(function, points, index, seen, keep_failed)
            bar.update(index.size)
            check()
    assert results is not None
    for leaf in results:
        if leaf.dtype.kind in "fc":
            leaf[failed] = np.nan
    values = jax.tree.unflatten(
        structure, [leaf.reshape(points.shape + leaf.shape[1:]) for leaf in results]
    )
    run_s = time.perf_counter() - start - compile_s
    memory = compiled.memory_analysis()
    stats = {"compile_s": compile_s, "run_s": run_s, "batch": batch, "batches": batches}
    if memory is not None:
        kept = memory.temp_size_in_bytes + memory.output_size_in_bytes
        stats["bytes_a_point"] = kept / (batch // len(among))
    axes = {
        name: over[name] if own.numbers is None else own.numbers
        for name, own in points.columns.items()
    }
    return Swept(values, axes, failed.reshape(points.shape), stats, points)


def _traced(function: Callable[..., Any], points: Points) -> tuple[ClosedJaxpr, Any]:
    """The function of one point, as a trace from leaves to leaves, and the structure of its
    results."""
    structure = None

    def of_leaves(*leaves: Any) -> list[Any]:
        nonlocal structure
        made = function(**points.arguments(list(leaves)))
        for path, leaf in jax.tree.leaves_with_path(made):
            where = f"function returned {shortened(leaf)}{_under(path)}"
            if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float, complex)):
                raise TypeError(f"{where}, which is no array; return arrays and numbers")
            if jnp.issubdtype(getattr(leaf, "dtype", float), jax.dtypes.prng_key):
                raise TypeError(f"{where}, a PRNG key; return its jax.random.key_data")
            if "status" in _words(path) and not jnp.issubdtype(jnp.result_type(leaf), jnp.integer):
                raise TypeError(f"{where}; return steps, as `simulate` does, or name it otherwise")
        found, structure = jax.tree.flatten(made)
        if not found:
            raise TypeError(f"function returned {shortened(made)}; return a pytree of arrays")
        return found

    example = [leaf[0] for own in points.columns.values() for leaf in own.leaves]
    return jax.make_jaxpr(of_leaves)(*example), structure


def _under(path: Any) -> str:
    return f" under {jax.tree_util.keystr(path)}" if path else ""


def _words(path: Any) -> list[str]:
    return [str(getattr(own, "key", getattr(own, "name", ""))) for own in path]


def _batch_size(batch: int | None, n: int, a_member: float, among: list[Any]) -> int:
    """How many points at once, of all devices: somewhat fewer than there is room for, where that
    leaves less of the last batch to fill up."""
    count = len(among)
    if batch is None:
        room = _CPU_BYTES
        if among[0].platform != "cpu":
            memory = among[0].memory_stats() or {}
            room = _PART * memory.get("bytes_limit", 2**32)
        most = count * max(int(room / max(a_member, 1)), 1)
    else:
        if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)):
            raise TypeError(f"batch={shortened(batch)} is not an integer; give a number of points")
        if batch < 1 or batch % count:
            raise ValueError(
                f"batch={batch} is no multiple of the devices; give {count}, {2 * count}, ..."
            )
        most = int(batch)
    most = min(most // count, math.ceil(n / count))
    sizes = [count * each for each in range(max(most * 2 // 3, 1), most + 1)]
    return min(sizes, key=lambda size: (math.ceil(n / size) * size, -size))


def _compiled(trace: ClosedJaxpr, points: Points, batch: int, among: list[Any]) -> Any:
    """The program of a batch, and the arrays that the function closes over, in their place."""
    # As arguments: XLA would make constants of them, and compute with those while it compiles
    mesh = Mesh(np.asarray(among), (_AXIS,))
    same, divided = PartitionSpec(), PartitionSpec(_AXIS)
    vary = points.vary

    def one(consts: list[Any], leaves: list[Any]) -> list[Any]:
        return jaxpr_as_fun(ClosedJaxpr(trace.jaxpr, consts))(*leaves)

    axes = [0 if own else None for own in vary]
    several = one
    if any(vary):
        several = jax.vmap(one, in_axes=(None, axes))
    else:  # a single point
        several = lambda consts, leaves: [leaf[None] for leaf in one(consts, leaves)]
    if len(among) > 1:
        several = jax.shard_map(
            several,
            mesh=mesh,
            in_specs=(same, [divided if own else same for own in vary]),
            out_specs=divided,
            check_vma=False,
        )
    place = among[0] if len(among) == 1 else NamedSharding(mesh, same)
    consts = jax.device_put(list(trace.consts), place)
    example = points.take(np.zeros(batch, int))
    cpu = among[0].platform == "cpu"
    program = jax.jit(several, compiler_options=COMPILER_OPTIONS if cpu else None)
    with jax.default_device(among[0]):
        return program.lower(consts, example).compile(), consts


def _look(
    function: Callable[..., Any], points: Points, index: np.ndarray, made: Any, keep: bool
) -> np.ndarray:
    """Which of the points failed by their status `[k]`; raises for them unless they are kept."""
    failed, first, reason = np.zeros(index.size, bool), "", ""
    label, step = "", NEVER
    for path, leaf in jax.tree.leaves_with_path(made):
        words = _words(path)
        if "status" not in words:
            continue
        steps = leaf.reshape(index.size, -1).min(axis=1)
        if not failed.any() and np.any(steps < NEVER):
            place = int(np.argmax(steps < NEVER))
            first, label, step = points.label(index[place]), words[-1], int(steps[place])
            reason = "" if keep else _reason(function, points, int(index[place]))
        failed |= steps < NEVER
    if keep or not failed.any():
        return failed
    apart = "/" in label or label == "relaxation"
    what = label if apart else f"population {label!r}"
    more = reason or "jsnn.run says more of one by itself"
    message = (
        f"{np.sum(failed)} of the {index.size} points of a batch failed, at {first} {what} by step "
        f"{step}; {more}, and keep_failed=True goes on"
    )
    raise (ValueError if apart else FloatingPointError)(message)


def _reason(function: Callable[..., Any], points: Points, place: int) -> str:
    """What the checks of a network say to the numbers of a point, which in the batch they could not
    see; nothing where the function computes parameters with JAX. It is traced, not run."""
    leaves = points.take(np.asarray([place]))
    leaves = [leaf[0] if own else leaf for leaf, own in zip(leaves, points.vary, strict=True)]
    try:
        jax.make_jaxpr(lambda: function(**points.arguments(leaves)))()
    except ValueError as error:
        return str(error)
    except Exception:  # a function need not take NumPy's numbers
        return ""
    return ""


def _check_flags(**flags: Any) -> None:
    for name, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name}={shortened(value)}; give True or False")
