"""Uniform and Bernoulli draws for connection rules, vectorised, in memory of the edges drawn."""

import numpy as np
from numpy.random import Generator

CHUNK = 2**19  # edges handled at once: few enough for the cache, many enough to hide Python
MOST_EDGES = 2**31 - 1  # row pointers are int32


def draw_rows(
    rng: Generator, name: str, degree: int, n: int, own: np.ndarray, multapses: bool
) -> np.ndarray:
    """For every row `degree` of 0..n-1 other than `own[row]`, flat `[len(own) * degree]`."""
    available = n - bool(np.any(own >= 0))
    if degree > available and not (multapses and available):
        raise ValueError(
            f"{name}={degree}, but a cell has {available} others to choose from; "
            f"give at most {available}" + (" or allow multapses" if available else "")
        )
    check_n_edges(name, degree * own.size)
    out = np.empty((own.size, degree), index_dtype(n))
    rows_at_once = max(1, 4 * CHUNK // max(degree, 1))
    for has_own in (False, True):
        rows = np.flatnonzero((own >= 0) == has_own)
        for start in range(0, rows.size, rows_at_once):
            some = rows[start : start + rows_at_once]
            if multapses:
                drawn = rng.integers(0, n - has_own, (some.size, degree), out.dtype)
            else:
                drawn = draw_distinct(rng, some.size, degree, n - has_own).astype(out.dtype)
            out[some] = drawn + (drawn >= own[some, None]) if has_own else drawn  # skip the own
    return out.ravel()


def draw_distinct(rng: Generator, n_rows: int, k: int, n: int) -> np.ndarray:
    """Uniform sets of k of 0..n-1, one a row, `[n_rows, k]`.

    Each row draws k with replacement and then redraws what repeats until nothing does. Renaming
    0..n-1 renames the sets after every round and leaves their probabilities alone, so all sets of
    a size are equally likely in every round, and those of size k at the end. Above n / 2, where
    repeats abound, the set of those left out is drawn, which is as uniform.
    """
    if 2 * k > n:
        chosen = np.ones((n_rows, n), bool)
        np.put_along_axis(chosen, draw_distinct(rng, n_rows, n - k, n).astype(np.intp), False, 1)
        return np.nonzero(chosen)[1].astype(index_dtype(n)).reshape(n_rows, k)
    drawn = rng.integers(0, n, (n_rows, k), index_dtype(n))
    todo, unsure = np.arange(n_rows), drawn
    while todo.size:
        unsure.sort(axis=1)
        drawn[todo] = unsure
        repeats = np.zeros(unsure.shape, bool)
        np.equal(unsure[:, 1:], unsure[:, :-1], out=repeats[:, 1:])
        again = repeats.any(axis=1)
        todo, unsure, repeats = todo[again], unsure[again], repeats[again]
        unsure[repeats] = rng.integers(0, n, np.count_nonzero(repeats), drawn.dtype)
    return drawn


def draw_bernoulli(
    rng: Generator, p: float, n_pre: int, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Every pair with probability p, in storage order: steps between successes are geometric.

    The pairs are numbered by source and then target, without the self-connections; shifted by
    the self-connections before it, such a number becomes one among all pairs.
    """
    n_post, target = own.size, np.flatnonzero(own >= 0)
    itself = np.sort(own[target].astype(np.int64) * n_post + target)
    shift = itself - np.arange(itself.size)
    pre, post = [np.empty(0, index_dtype(n_pre))], [np.empty(0, index_dtype(n_post))]
    n_trials = n_pre * n_post - itself.size
    last = n_trials if p == 0 else -1
    at_once = max(1, min(CHUNK, int(1.1 * p * n_trials) + 16, 2**62 // (n_trials + 1)))
    while last < n_trials - 1:
        # Steps that lead beyond the end are cut, so that their sum stays within int64.
        trials = np.minimum(rng.geometric(p, at_once), n_trials + 1)
        trials[0] += last
        trials = np.cumsum(trials)
        last = int(trials[-1])
        trials = trials[: np.searchsorted(trials, n_trials)]
        if shift.size:
            trials += np.searchsorted(shift, trials, side="right")
        source, destination = np.divmod(trials, n_post)
        pre.append(source.astype(pre[0].dtype))
        post.append(destination.astype(post[0].dtype))
    return np.concatenate(pre), np.concatenate(post)


def index_dtype(n: int) -> type:
    """The narrowest dtype of indices into n things."""
    return np.uint16 if n <= 2**16 else np.int32 if n <= 2**31 else np.int64


def indices(n: int) -> np.ndarray:
    return np.arange(n, dtype=index_dtype(n))


def check_n_edges(where: str, n_edges: int) -> None:
    if n_edges > MOST_EDGES:
        raise ValueError(f"{where}: {n_edges} edges do not fit; give at most {MOST_EDGES}")
