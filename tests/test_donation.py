"""A state that is given away, `jax.jit(..., donate_argnums=...)`: its memory is nobody else's."""

from collections import defaultdict

import helpers
import jax
import numpy as np
import pytest

import jsnn
from jsnn.connect import FixedIndegree, Pairs
from jsnn.coupling import GapJunction
from jsnn.exchange import WaveformRelaxation
from jsnn.growth import Calcium, Gaussian, SynapticElements
from jsnn.neurons import LIF
from jsnn.receptors import Exponential
from jsnn.release import TsodyksMarkram
from jsnn.rewire import Growing, Rewiring
from jsnn.solvers import RK4

N = 64


def network():
    """Cells that grow and release, coupled by waveforms; what a state begins with is an array of
    the network wherever it can be one: values of cells, and rows of edges."""
    elements = SynapticElements(Gaussian(0.0, 0.05), 1e-2)
    cells = jsnn.Population(
        LIF(e_l=helpers.ramp(-70.0, -60.0, N), i_e=400.0),
        N,
        {"x": Exponential(2.0)},
        solver=RK4(),
        initial={"x.i": np.ones(N), "axon": np.full(N, 2.0)},
        calcium=Calcium(as_nest=True),
        elements={"axon": elements, "spine": elements},
    )
    n_edges, growing = 3 * N, Growing("axon", "spine", weight=1.0, capacity=3 * N)
    release = TsodyksMarkram(0.4, 100.0, u=helpers.ramp(0.1, 0.9, N))
    rule = FixedIndegree(3)
    return jsnn.Network(
        {"c": cells},
        {
            "grows": jsnn.Projection(
                "c", "c", rule, weight=np.ones(n_edges), delay=1.0, growing=growing
            ),
            "releases": jsnn.Projection("c", "c", rule, weight=1.0, delay=1.0, release=release),
        },
        dt=0.1,
        key=jax.random.key(1),
        couplings={"gaps": GapJunction("c", "c", Pairs([0], [1]), conductance=1.0)},
        exchange=WaveformRelaxation(interval=0.5, tol=None, max_iterations=2),
        rewiring=Rewiring(2.0),
    )


def shared(state, *others):
    """Leaves of a state that lie in the same memory as others of it, or of other trees."""
    of = lambda tree: [  # noqa: E731
        (jax.tree_util.keystr(path), leaf.unsafe_buffer_pointer())
        for path, leaf in jax.tree.leaves_with_path(tree)
        if isinstance(leaf, jax.Array) and leaf.size
    ]
    places = defaultdict(list)
    for path, place in of(state):
        places[place].append(path)
    elsewhere = {place for tree in others for _, place in of(tree)}
    return [paths for at, paths in places.items() if len(paths) > 1 or at in elsewhere]


def test_no_two_leaves_of_a_fresh_state_lie_in_the_same_memory():
    for net in (helpers.network(), network()):
        state = net.init(jax.random.key(2))
        assert shared(state, net) == []
        batch = jax.vmap(net.init)(jax.random.split(jax.random.key(3), 2))
        assert shared(batch, net) == []


@pytest.mark.slow
def test_states_are_given_away_from_call_to_call():
    net = network()
    key = jax.random.key(2)
    step = lambda state: jsnn.simulate(net, state, 25).state  # noqa: E731
    kept = jax.jit(step)
    given = jax.jit(step, donate_argnums=0)
    wanted = net.init(key)
    state = net.init(key)
    for _ in range(2):  # over an update of the structure
        wanted, state = kept(wanted), given(state)
        assert shared(state, net) == []
    helpers.assert_same(state, wanted)

    lesioned, after = jsnn.lesion(net, state, "c", [3, 4])
    assert shared(after, lesioned) == []
    given(after)
    # The network is as it was
    helpers.assert_same(kept(kept(net.init(key))), wanted)
