"""Functions as one kernel: the same numbers, whatever surrounds them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jsnn._one_kernel import one_kernel

TABLE = np.arange(600, dtype=np.int32) * 7 % 16


def add(carried, table, weight, n, empty, unused):
    """Add the weight n times, at places of a table."""

    def one(i, values):
        at = table[i]
        return lax.dynamic_update_index_in_dim(values, values[at] + weight, at, 0)

    return {"values": lax.fori_loop(0, n, one, carried["values"]), "other": carried["other"]}


def expected(start, weight, n):
    values = np.asarray(start, np.float32).copy()
    for at in TABLE[:n]:
        values[at] += np.float32(weight)
    return values


def run(start, table, weight, n, unused):
    carried = {"values": start, "other": jnp.ones(3)}
    return one_kernel(add, carried, table, weight, n, jnp.zeros((0, 5)), unused)["values"]


def test_arguments():
    start = jnp.arange(16.0)
    found = jax.jit(run)(start, jnp.asarray(TABLE), 0.3, 50, jnp.ones(4))
    np.testing.assert_array_equal(found, expected(start, 0.3, 50))


@pytest.mark.parametrize("start", [jnp.zeros(16), jnp.asarray(5.0)])
def test_constants(start):
    """XLA takes constants into a call, after which it must not be left with arguments unused."""
    start = jnp.broadcast_to(start, (16,))
    found = jax.jit(lambda: run(jnp.broadcast_to(start, (16,)), TABLE, 0.3, 50, 2.0))()
    np.testing.assert_array_equal(found, expected(start, 0.3, 50))
    n = jnp.asarray(50)
    found = jax.jit(lambda n: run(jnp.zeros(16), jnp.zeros(600, jnp.int32), 1.0, n, n))(n)
    np.testing.assert_array_equal(found, 50.0 * (np.arange(16) == 0))


def test_outside_jit():
    found = run(jnp.zeros(16), jnp.asarray(TABLE), 0.3, 50, jnp.ones(4))
    np.testing.assert_array_equal(found, expected(np.zeros(16), 0.3, 50))


def test_inside_loops_and_batches():
    table, starts = jnp.asarray(TABLE), jnp.arange(32.0).reshape(2, 16)

    def twice(start):
        step = lambda i, values: run(values, table, 0.5, 10 + i, i)
        return lax.fori_loop(0, 2, step, start)

    wanted = [expected(expected(start, 0.5, 10), 0.5, 11) for start in starts]
    np.testing.assert_array_equal(jax.jit(lambda x: lax.map(twice, x))(starts), wanted)
    np.testing.assert_array_equal(jax.jit(jax.vmap(twice))(starts), wanted)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the mark is for CPUs")
def test_it_is_one_kernel():
    """Otherwise the numbers are right, and some ten times slower."""
    arguments = (jnp.zeros(16), jnp.asarray(TABLE), 0.3, 50, jnp.ones(4))
    text = jax.jit(run).lower(*arguments).compile().as_text()
    calls = [line for line in text.splitlines() if " call(" in line]
    assert any('xla_cpu_small_call="true"' in line for line in calls)
