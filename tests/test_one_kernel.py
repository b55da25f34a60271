"""Functions as one kernel: the same numbers, whatever surrounds them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jsnn
from jsnn._one_kernel import one_kernel
from jsnn.neurons import LIF
from jsnn.receptors import Exponential
from jsnn.release import TsodyksMarkram

pytestmark = pytest.mark.fast

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
    assert marked(text) == 1


def marked(text):
    """How many calls in compiled text are ours; XLA puts only the one mark on loops of its own."""
    calls = [line for line in text.splitlines() if " call(" in line]
    return sum('inlineable="false",xla_cpu_small_call="true"' in line for line in calls)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the mark is for CPUs")
@pytest.mark.parametrize("delay", [0.0, 1.5])
def test_spikes_are_delivered_in_one_kernel(delay):
    cells = jsnn.Population(LIF(), 40, {"g": Exponential(2.0, e_rev=0.0)})
    net = jsnn.Network(
        {"cells": cells},
        {
            name: jsnn.Projection(
                *("cells", "cells", jsnn.connect.AllToAll()),
                weight=1.0,
                delay=delay,
                release=release,
            )
            for name, release in (("p", None), ("q", TsodyksMarkram(0.5, 50.0, 20.0)))
        },
        dt=0.1,
        key=jax.random.key(1),
    )
    run = jax.jit(lambda state: jsnn.simulate(net, state, 60))
    assert marked(run.lower(net.init(jax.random.key(2))).compile().as_text()) == 2
