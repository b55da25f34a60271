"""Parameters found by gradient descent: an Optax loop over one start or many."""

import os
import time
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tqdm import tqdm

from jsnn._checkpoint import Checkpoint, computed, surroundings
from jsnn._content import digest, digests
from jsnn._coordinates import coordinates
from jsnn._descent import MOST, Loss, Problem, Search, updates_from_host
from jsnn._interrupts import between_calls, check
from jsnn._math import check_key, check_scalar, shortened
from jsnn._names import explained
from jsnn._spike_checks import whole

_CALL_SECONDS = 1.0  # between two signs of progress


class Fit(eqx.Module):
    """What a fit found.

    - `best`: the parameters with the lowest loss of all that were evaluated; with many starts, what
      is trained has these as its first axis. `last`: those after the last update.
    - `loss`: of `best`; `[starts]` with many starts (NaN for one that never had a finite loss).
    - `history`: NumPy arrays by name, `"loss"` and the names of the loss's own numbers, each before
      each update, `[updates]` or `[starts, updates]`; NaN after a start has stopped.
    - `skipped`: how many updates were taken back, as the loss or its gradient was not finite.
    - `stats`: `updates`, `compile_s` and `run_s`.
    """

    best: Any
    last: Any
    loss: np.ndarray
    history: dict[str, np.ndarray]
    skipped: np.ndarray
    stats: dict[str, Any]
    trained: Any

    @property
    def best_start(self) -> int:
        """The start with the lowest loss; 0 where there is one."""
        return int(np.nanargmin(self.loss))

    def of(self, start: int) -> Any:
        """The best parameters of one of many starts."""
        if not self.loss.ndim:
            raise ValueError(f"start={start}: this fit has one start; take best")
        if not 0 <= start < self.loss.size:
            raise ValueError(f"start={start}: there are starts 0 to {self.loss.size - 1}")
        take = lambda leaf, is_trained: leaf[start] if is_trained else leaf  # noqa: E731
        return jax.tree.map(take, self.best, self.trained)


@explained
@between_calls
def fit(
    loss: Loss,
    start: Any,
    *,
    optimizer: optax.GradientTransformation,
    steps: int,
    key: Array,
    bounds: Any = None,
    trainable: Any = True,
    starts: int | None = None,
    clip: float | None = None,
    patience: int | None = None,
    forward: bool = False,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = True,
) -> Fit:
    """Minimise a loss over parameters by gradient descent.

        def loss(parameters, key):
            return jnp.mean((trace(parameters) - data) ** 2)

        start = {"tau_m": 15.0, "e_l": -60.0}
        bounds = {"tau_m": Positive(), "e_l": Bounded(-90.0, -40.0)}
        found = jsnn.fit(loss, start, bounds=bounds, optimizer=optax.adam(0.05), steps=300, key=key)

    **Arguments:**

    - `loss`: of `(parameters, key)`, with the structure of `start`: one real number, or that and a
      dictionary of further numbers to be kept in the history. There, `"status"` is not kept: give
      that of a `Solution` (or several), and a loss whose run failed, or had parameters out of their
      range, is taken as one that is not finite. Update k gets `fold_in(key, k)`. It
      is compiled: what is large and not to be trained (a network with its synapses) belongs into
      `start`, where it is an argument, rather than into the function, where it is a constant.
    - `start`: any pytree: a number, a dictionary, an `eqx.Module` such as a whole network.
    - `optimizer`: of Optax. Those that search along a line, such as `optax.lbfgs()`, get the loss.
    - `steps`: the most updates.
    - `bounds`: `Free()`, `Positive()` or `Bounded(low, high)` of `jsnn.transforms`, one for all or
      a pytree of them with one for each branch or leaf of `start` (a prefix of it); None is
      `Free()`. The optimizer moves coordinates without bounds.
    - `trainable`: which leaves are trained, as for `eqx.partition`: True or False, or a pytree
      prefix of these or of functions of a leaf. Only real numbers are ever trained.
    - `starts`: how many starts are followed at once, by `vmap`; what is trained then has these as
      its first axis, as `jsnn.spread` draws them. Each has its own key, `split(key, starts)[i]`.
    - `clip`: the largest norm of the gradient of all coordinates; a longer one is made as short.
    - `patience`: a start stops after so many updates without a loss lower than its lowest.
    - `forward`: differentiate forward, which costs as many runs as there are numbers, but no
      memory; it is the faster for a few.
    - `checkpoint`: a folder, as of `jsnn.run`. The same call made again, after an interruption of
      any kind, goes on from it and gives bit for bit the same; with more `steps`, it goes on
      beyond.
    - `progress`: show a bar, on a terminal.

    Where the loss or its gradient is not finite, there is no update: the coordinates go half the
    way back to where both last were, and the optimizer keeps its state. Such updates are counted
    as `skipped`; after 20 in a row the start stops. A `FloatingPointError` is raised if none is
    left that ever had a finite loss.

    An interruption (Ctrl-C) takes effect once the device is done with the updates of about a
    second, which are then kept, or JAX with the compilation; a second one at once.

    Raises `ValueError` or `TypeError`, before anything compiles, for values on or beyond a bound,
    prefixes that do not fit, and losses that are not one real number.
    """
    flags = {"forward": forward, "progress": progress}
    _check(loss, optimizer, steps, key, clip, patience, starts, flags)
    frame, free = coordinates(start, trainable, bounds, starts)
    trained = jax.tree.unflatten(frame.structure, [leaf is None for leaf in frame.leaves])
    if clip is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(clip), optimizer)
    problem = Problem(
        *(loss, optax.with_extra_args_support(optimizer), frame, patience, bool(forward), starts)
    )
    keys = key if starts is None else jax.random.split(key, starts)
    search = (problem.begin if starts is None else jax.vmap(problem.begin))(free)
    given = (problem, search, keys, steps, progress, trained)
    if checkpoint is None:
        return _go_on(*given, None)
    with Checkpoint(checkpoint, _fingerprint(problem, search, keys)) as kept:
        return _go_on(*given, kept)


def _go_on(
    problem: Problem,
    search: Search,
    keys: Array,
    steps: int,
    progress: bool,
    trained: Any,
    kept: Checkpoint | None,
) -> Fit:
    """Update after update, from the start or from what was kept of the same fit."""
    parts = []
    if kept is not None and (loaded := kept.load(search)) is not None:
        search, parts = loaded
    done = int(np.max(search.update))
    if kept is not None and done > steps:
        raise ValueError(
            f"checkpoint={str(kept.folder)!r} has {done} updates, more than steps={steps}; give "
            "as many or more"
        )

    began = time.perf_counter()
    if done < steps and not np.all(search.stopped):
        jax.block_until_ready(updates_from_host(problem, search, keys, jnp.asarray(0)))
    compile_s = time.perf_counter() - began
    check()
    began, length = began + compile_s, 1
    with tqdm(
        total=steps, initial=done, unit=" updates", disable=None if progress else True
    ) as bar:
        while done < steps and not np.all(search.stopped):
            tick, first = time.perf_counter(), done
            length = min(length, steps - done, MOST)
            search, seen = updates_from_host(problem, search, keys, jnp.asarray(length))
            done = int(np.max(search.update))
            part = {name: np.asarray(own)[: done - first] for name, own in seen.items()}
            parts.append((first, done, part))
            if kept is not None:
                kept.save(search, first, done, part)
            bar.update(done - first)
            bar.set_postfix(loss=f"{np.min(search.lowest):.4g}")
            check()
            an_update = (time.perf_counter() - tick) / max(done - first, 1)
            length = max(int(_CALL_SECONDS / an_update), 1)
    stats = {"updates": done, "compile_s": compile_s, "run_s": time.perf_counter() - began}
    return _found(problem, search, parts, stats, trained)


def _found(
    problem: Problem,
    search: Search,
    parts: list[tuple[int, int, dict[str, np.ndarray]]],
    stats: dict[str, Any],
    trained: Any,
) -> Fit:
    lowest = np.asarray(search.lowest)
    if stats["updates"] and not np.any(np.isfinite(lowest)):
        last = np.ravel(parts[-1][2]["loss"][-1])
        raise FloatingPointError(
            f"the loss or its gradient was finite in none of {stats['updates']} updates (the loss "
            f"is {last[0]:g} in the last); give another start, or bounds that keep away from where "
            "the model fails"
        )
    values = partial(problem.coordinates.values, is_batch=problem.starts is not None)
    names = parts[0][2] if parts else {"loss": None}
    history = {name: np.concatenate([part[name] for *_, part in parts]) for name in names}
    return Fit(
        values(search.best),
        values(search.now),
        np.where(np.isfinite(lowest), lowest, np.nan),
        {name: np.moveaxis(own, 0, -1) for name, own in history.items()},
        np.asarray(search.skipped),
        stats,
        trained,
    )


def _fingerprint(problem: Problem, search: Search, key: Array) -> dict[str, str]:
    """Digests of all that a fit depends on, by name. Functions are known by what an update with
    them computes."""
    update = problem.update if problem.starts is None else jax.vmap(problem.update)
    return {
        **surroundings(jax.devices()[0]),
        **digests("start", search, 2),
        **digests("start and bounds", problem.coordinates, 2),
        "key": digest(key),
        "loss, optimizer or options": computed(lambda _: update(search, key)),
    }


def _check(
    loss: Any,
    optimizer: Any,
    steps: Any,
    key: Any,
    clip: Any,
    patience: Any,
    starts: Any,
    flags: dict[str, Any],
) -> None:
    if not callable(loss):
        raise TypeError(f"loss={shortened(loss)}; give a function of (parameters, key)")
    if not callable(getattr(optimizer, "init", None)) or not callable(
        getattr(optimizer, "update", None)
    ):
        raise TypeError(f"optimizer={shortened(optimizer)}; give one of Optax, as optax.adam(0.05)")
    check_key(key)
    whole("steps", steps, 1)
    for name, value in (("patience", patience), ("starts", starts)):
        if value is not None:
            whole(name, value, 1)
    if clip is not None:
        check_scalar("clip", clip, low=0.0, strict=True)
    for name, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name}={shortened(value)}; give True or False")
