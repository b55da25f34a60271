"""Packed spikes and back, against NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsnn import spikes

pytestmark = pytest.mark.fast

SHAPES = [(1, 32), (3, 128), (17, 160)]
quick = settings(max_examples=25, deadline=None, derandomize=True)


def raster(shape, seed, rate):
    return np.random.default_rng(seed).random(shape) < rate


rasters = st.builds(
    raster,
    st.sampled_from(SHAPES),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.01, 0.3, 0.97, 1.0]),
)


@jax.jit
def pack(fired):
    return spikes.pack(fired)


@partial(jax.jit, static_argnums=2)
def compact(words, first, capacity):
    word, bit = spikes.compact(spikes.index(words), first, capacity)
    return spikes.WORD * word + bit


total = jax.jit(lambda words: spikes.index(words).total)


@quick
@given(rasters)
def test_packing_is_undone_by_unpack(fired):
    words = pack(fired)
    assert words.dtype == jnp.uint32 and words.shape == (fired.shape[0], fired.shape[1] // 32)
    np.testing.assert_array_equal(spikes.unpack(words, fired.shape[1]), fired)
    cut = fired.shape[1] - 5
    np.testing.assert_array_equal(spikes.unpack(words, cut), fired[:, :cut])


def test_low_bits_are_first_cells():
    fired = np.zeros((1, 64), bool)
    fired[0, [0, 9, 31, 33]] = True
    assert pack(fired).tolist() == [[1 | 1 << 9 | 1 << 31, 1 << 1]]


@quick
@given(rasters, st.data())
def test_listed_spikes_are_those_of_nonzero(fired, data):
    low = data.draw(st.integers(0, fired.shape[1] - 1))
    high = data.draw(st.integers(low + 1, fired.shape[1]))
    step, cell = spikes.listed(np.asarray(pack(fired)), low, high)
    wanted = np.nonzero(fired[:, low:high])
    np.testing.assert_array_equal(step, wanted[0])
    np.testing.assert_array_equal(cell, wanted[1])


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_listed_of_nothing_and_of_everything(rate):
    words = np.full((3, 4), 2**32 - 1 if rate else 0, np.uint32)
    step, cell = spikes.listed(words, 0, 128)
    assert step.size == cell.size == (3 * 128 if rate else 0)


@quick
@given(rasters, st.sampled_from([1, 7, 64]))
def test_rounds_of_compact_give_every_spike_once_in_order(fired, capacity):
    words = pack(fired).reshape(-1)
    n_spikes = int(total(words))
    assert n_spikes == fired.sum()
    found = []
    for first in range(0, min(n_spikes, 20 * capacity), capacity):
        positions = np.asarray(compact(words, first, capacity))
        found.extend(positions[: n_spikes - first])
    wanted = np.flatnonzero(fired)[: 20 * capacity]
    np.testing.assert_array_equal(found, wanted)


@quick
@given(st.lists(st.integers(0, 2**32 - 1), min_size=5, max_size=5), st.integers(0, 40))
def test_compact_from_any_spike_on(words, first):
    """Rounds may begin within a word, and words be 0 or full."""
    words = np.array([*words, 0, 2**32 - 1, 0], np.uint32)
    bits = np.flatnonzero(np.asarray(spikes.unpack(jnp.asarray(words)[None], words.size * 32)))
    first = min(first, bits.size)
    found = np.asarray(compact(jnp.asarray(words), first, 32))
    np.testing.assert_array_equal(found[: bits.size - first], bits[first : first + 32])


@pytest.mark.parametrize("n_words", [1, 31, 32, 33, 1000, 1024, 1025, 2**19 - 1, 2**19])
@pytest.mark.parametrize("full", [False, True])
def test_numbering_is_exact_for_any_number_of_words(n_words, full):
    """Long lists are summed by products in float32, which must not round."""
    rng = np.random.default_rng(n_words)
    words = (
        np.full(n_words, 2**32 - 1, np.uint32)
        if full
        else rng.integers(0, 2**32, n_words, np.uint32)
    )
    counts = np.bitwise_count(words).astype(int)
    found = spikes.index(jnp.asarray(words))
    np.testing.assert_array_equal(found.before, np.cumsum(counts) - counts)
    assert found.total == counts.sum()
