"""Slots of circular buffers, and that a long delay beside a short one costs no more."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn._slots import clear, peek, take
from jsnn.connect import Pairs
from jsnn.coupling import SlowInwardCurrent
from jsnn.inputs import Poisson
from jsnn.record import Spikes, States

N, STEPS = 40, 900
LONGEST = {"counted": 301, "weighed": 411, "at once": 523, "slow": 353}  # steps


def some(shape, dtype):
    return np.random.default_rng(0).integers(1, 100, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_what_is_taken_is_cleared(dtype):
    buffer = some((7, 50), dtype)
    row, rest = jax.jit(take)(buffer, jnp.asarray(16))
    assert row.dtype == rest.dtype == dtype
    np.testing.assert_array_equal(row, buffer[2:3])
    np.testing.assert_array_equal(rest, np.where(np.arange(7)[:, None] == 2, 0, buffer))


def test_what_is_looked_at_stays():
    buffer = some((7, 50), np.float32)
    rows, same = jax.jit(peek)(buffer, jnp.asarray([6, 0, 2, 6]))
    np.testing.assert_array_equal(rows, buffer[[6, 0, 2, 6]])
    np.testing.assert_array_equal(same, buffer)


@pytest.mark.parametrize("in_axes", [(0, None), (0, 0), (None, 0)])
def test_batches(in_axes):
    """At the same step, and each at its own; and batches of batches."""
    shape = [5, 4, 7, 50] if in_axes[0] == 0 else [7, 50]
    buffers, steps = some(shape, np.float32), np.arange(20).reshape(5, 4) * 3
    steps = steps if in_axes[1] == 0 else np.asarray(16)
    twice = lambda f: jax.jit(jax.vmap(jax.vmap(f, in_axes), in_axes))  # noqa: E731
    rows, rest = twice(take)(buffers, steps)
    looked, same = twice(lambda b, s: peek(b, s[None] % 7))(buffers, steps)
    for at in np.ndindex(5, 4):
        own = buffers[at] if in_axes[0] == 0 else buffers
        step = steps[at] if in_axes[1] == 0 else steps
        left = np.where(np.arange(7)[:, None] == step % 7, 0, own)
        np.testing.assert_array_equal(rows[at], own[[step % 7]])
        np.testing.assert_array_equal(rest[at], left)
        np.testing.assert_array_equal(looked[at], own[[step % 7]])
        np.testing.assert_array_equal(same[at], own)


def test_the_slots_of_several_steps_are_cleared():
    buffer = some((7, 50), np.float32)
    cleared = np.array(buffer)
    cleared[[5, 6, 0]] = 0
    np.testing.assert_array_equal(jax.jit(clear, static_argnums=2)(buffer, 19, 3), cleared)


def long_beside_short(delivery=None, least=None):
    """Projections and a slow current of one step, or of a least delay, and of hundreds."""
    rng = np.random.default_rng(1)
    pairs = lambda: Pairs(rng.integers(0, N, 5 * N), rng.integers(0, N, 5 * N))  # noqa: E731

    def short_or(low, steps):
        return np.where(np.arange(5 * N) % 2, least or low, 0.1 * steps)

    neurons = jsnn.nest.aeif_cond_exp(N, t_ref=1.0, I_e=900.0)
    eighths = rng.integers(1, 80, 5 * N) / 8  # their sums are exact, in any order
    return jsnn.Network(
        {"cells": neurons, "glia": jsnn.nest.astrocyte_lr_1994(N, Ca_astro=0.4)},
        {
            "counted": jsnn.Projection(
                *("cells", "cells", pairs()),
                receptor="ex",
                weight=5.0,
                delay=short_or(0.1, LONGEST["counted"]),
            ),
            "weighed": jsnn.Projection(
                *("cells", "cells", pairs()),
                receptor="ex",
                weight=eighths,
                delay=short_or(0.1, LONGEST["weighed"]),
            ),
            "at once": jsnn.Projection(
                *("cells", "cells", pairs()),
                receptor="in",
                weight=2.0,
                delay=short_or(0.0, LONGEST["at once"]),
            ),
        },
        {"drive": Poisson("cells", 8000.0, 2.0, "ex")},
        couplings={
            "slow": SlowInwardCurrent(
                "glia", "cells", pairs(), weight=1.0, delay=short_or(0.1, LONGEST["slow"])
            )
        },
        dt=0.1,
        key=jax.random.key(0),
        delivery=delivery,
    )


RECORD = {
    "spikes": Spikes("cells"),
    "slow": States("cells", "slow"),
    "g": States("cells", "ex.g", index=[3]),
}


@pytest.fixture(scope="module")
def network():
    return long_beside_short().checked()


@pytest.fixture(scope="module")
def whole(network):
    return jsnn.simulate(network, network.init(jax.random.key(1)), STEPS, RECORD)


@pytest.mark.slow
def test_no_buffer_is_copied_at_a_step(network):
    """XLA copies a buffer that it reads beside its change: 300 times what a step takes."""

    def run(keys):
        made = jax.vmap(lambda key: jsnn.simulate(network, network.init(key), 100, RECORD))(keys)
        return made.records["spikes"].words, made.records["slow"].values

    def advance(network, state):
        return jsnn.simulate(network, state, 100, RECORD).state

    def each(network, states):  # at steps of their own
        return jax.vmap(lambda state: advance(network, state))(states)

    state = network.init(jax.random.key(1))
    keys = jax.random.split(jax.random.key(2), 3)
    states = jax.vmap(network.init)(keys)
    longer = long_beside_short(least=0.3).checked()
    programs = [
        (eqx.filter_jit(advance).lower(network, state), 1),
        (jax.jit(run).lower(keys), 1),
        (eqx.filter_jit(each).lower(network, states), 1),
        (eqx.filter_jit(advance).lower(longer, longer.init(jax.random.key(1))), 0),
    ]
    for program, more in programs:
        program = program.compile()
        text = getattr(program, "compiled", program).as_text()
        for name, steps in LONGEST.items():
            slots = steps + (name == "at once") * more
            assert re.search(rf"\b{slots},128\]", text), f"{name}: there is no such buffer"
            sizes = rf"(\d+,)*{slots},128\]|\[({slots * 128}|{3 * slots * 128})\]"
            copies = [
                line
                for line in text.splitlines()
                if re.search(rf"= \w+\[?({sizes}).* copy\(", line)
            ]
            assert not copies, (name, copies)


def test_spikes_are_those_of_the_definition(network, whole):
    reference = long_beside_short(jsnn.SegmentSum())
    expected = jsnn.simulate(reference, reference.init(jax.random.key(1)), STEPS, RECORD)
    spikes = whole.records["spikes"]
    assert spikes.times.size > 200 and spikes.times.max() > 0.1 * max(LONGEST.values())
    np.testing.assert_array_equal(spikes.raster, expected.records["spikes"].raster)
    slow = whole.records["slow"].values
    assert np.ptp(slow[-300:]) > 0
    np.testing.assert_allclose(slow, expected.records["slow"].values, rtol=1e-5)


@pytest.mark.slow
def test_members_of_a_batch_at_other_steps(network, whole):
    """Each of them takes from its own slots."""
    start = network.init(jax.random.key(1))
    halves = STEPS // 2
    middle = jsnn.simulate(network, start, halves).state
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), start, middle)
    made = jax.vmap(lambda state: jsnn.simulate(network, state, halves, RECORD))(both)
    expected = whole.records["spikes"].raster
    np.testing.assert_array_equal(made.records["spikes"].raster[0], expected[:halves])
    np.testing.assert_array_equal(made.records["spikes"].raster[1], expected[halves:])
