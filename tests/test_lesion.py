"""Cells that die: what they leave behind, and that the others go on."""

import equinox as eqx
import jax
import numpy as np
import pytest

import jsnn
from jsnn.connect import FixedIndegree, NoEdges
from jsnn.growth import Gaussian, SynapticElements
from jsnn.inputs import Poisson
from jsnn.record import Spikes, States
from jsnn.rewire import Growing, Rewiring

N, N_EXC = 60, 48
DELAY = 5.0  # ms
DEAD = np.arange(40, 52)  # of both kinds
KINDS = {"ex": ("cells.exc", "Axon_ex", "Den_ex"), "in": ("cells.inh", "Axon_in", "Den_in")}


def network():
    """Grown fast, onto a second population too; and synapses that are always there."""
    base = jsnn.nest.iaf_psc_alpha(N, tau_syn_ex=0.5, tau_syn_in=0.5, I_e=360.0)
    curve = Gaussian(-0.1, 0.2)
    grow = SynapticElements(curve, np.full(N, 0.02))  # a lesion then compiles nothing anew
    cells = jsnn.Population(
        base.neuron,
        N,
        base.receptors,
        slices={"exc": slice(0, N_EXC), "inh": slice(N_EXC, N), "dead": slice(40, 52)},
        initial={"v": np.linspace(-70.0, -55.0, N)},
        elements={name: grow for _, *names in KINDS.values() for name in names},
    )
    others = jsnn.Population(
        base.neuron, 20, base.receptors, elements={"Den_ex": SynapticElements(curve, 0.02)}
    )
    projections = {
        name: jsnn.Projection(
            *(pre, ["cells", "others"] if name == "ex" else "cells", NoEdges()),
            weight=20.0 if name == "ex" else -20.0,
            delay=DELAY,
            receptor=name,
            growing=Growing(axon, dendrite, capacity=2000),
        )
        for name, (pre, axon, dendrite) in KINDS.items()
    }
    projections["fixed"] = jsnn.Projection(
        "cells", "cells", FixedIndegree(4), weight=5.0, delay=DELAY, receptor="ex"
    )
    return jsnn.Network(
        {"cells": cells, "others": others},
        projections,
        {"noise": Poisson("cells", 5000.0, 10.0, "ex")},
        dt=0.1,
        key=jax.random.key(1),
        rewiring=Rewiring(20.0),
    )


ENDS = {  # of each kind of element: the projections that join it, and at which end
    ("cells", "Axon_ex"): [("ex/cells.exc->cells", "pre"), ("ex/cells.exc->others", "pre")],
    ("cells", "Axon_in"): [("in", "pre")],
    ("cells", "Den_ex"): [("ex/cells.exc->cells", "post")],
    ("cells", "Den_in"): [("in", "post")],
    ("others", "Den_ex"): [("ex/cells.exc->others", "post")],
}
RECORD = {"cells": Spikes("cells"), "v": States("others", "v")}


def check_counts(net, state):
    """The connected elements of all cells are the ends of edges."""
    edges = net.connections(state)
    for (population, element), ends in ENDS.items():
        found = np.concatenate([getattr(edges[name], end) for name, end in ends])
        counts = np.bincount(found, minlength=net.populations[population].n)
        own = state.populations[population].growth[f"{element}.connected"]
        np.testing.assert_array_equal(own, counts, err_msg=f"{population} {element}")


def pairs(net, state):
    """The ends of the edges of each projection."""
    found = net.connections(state)
    return {name: (own.pre, own.post) for name, own in found.items()}


def of_dead(net, name, ends):
    """Which edges have a dead cell at either end."""
    own = net.synapses[name]
    return np.any(
        [
            np.isin(cells, DEAD) & (part[0] == "cells")
            for part, cells in zip((own.pre, own.post), ends, strict=True)
        ],
        axis=0,
    )


@pytest.fixture(scope="module")
def grown():
    net = network()
    return net, jsnn.run(net, 200.0, key=jax.random.key(2), record=RECORD).state


@pytest.fixture(scope="module")
def after(grown):
    """The network and state after the lesion, and what 200 ms more make of them."""
    net, state = jsnn.lesion(*grown, "cells.dead")
    return net, state, jsnn.run(net, 200.0, state=state, record=RECORD)


def test_edges_and_counts(grown, after):
    """What has no dead end stays as it was, in its order; counts are those of the edges."""
    net, state, solution = after
    check_counts(*grown)
    check_counts(net, state)
    check_counts(net, solution.state)
    before, left = pairs(*grown), pairs(net, state)
    for name, ends in before.items():
        lost = of_dead(net, name, ends)
        if name == "fixed":
            lost[:] = False
        else:
            assert 5 < lost.sum() < lost.size - 5, name
        for mine, other in zip(left[name], ends, strict=True):
            np.testing.assert_array_equal(mine, other[~lost], err_msg=name)


def test_elements(grown, after):
    """Those of dead cells are gone for good; partners keep z, and make synapses with others."""
    net, state, solution = after
    alive = np.setdiff1d(np.arange(N), DEAD)
    old, new, end = (own.populations["cells"].growth for own in (grown[1], state, solution.state))
    for name, values in new.items():
        if name.startswith("ca"):
            np.testing.assert_array_equal(values, old[name])
            continue
        assert not np.asarray(values)[DEAD].any() and not np.asarray(end[name])[DEAD].any(), name
        if not name.endswith(".connected"):
            np.testing.assert_array_equal(values[alive], old[name][alive])
    assert np.all(end["ca"][DEAD] < old["ca"][DEAD]) and np.all(end["ca"][alive] > 0)
    for own in net.populations["cells"].growth.elements.values():
        np.testing.assert_array_equal(np.flatnonzero(own.growth_rate == 0), DEAD)
    count = lambda growth, name: int(np.asarray(growth[f"{name}.connected"]).sum())  # noqa: E731
    for name in ("Axon_ex", "Den_in"):
        assert count(new, name) < count(old, name) and count(end, name) > 1.2 * count(new, name)
    assert net.populations["others"].growth.elements["Den_ex"].growth_rate.ndim == 0
    for name, own in pairs(net, solution.state).items():
        assert name == "fixed" or not of_dead(net, name, own).any()


def test_spikes(grown, after):
    _, _, solution = after
    assert not np.isin(solution.records["cells"].index, DEAD).any()
    fired = np.unique(solution.records["cells"].index)
    assert fired.size == N - DEAD.size
    states = solution.state.populations["cells"]
    np.testing.assert_array_equal(
        states.cell["v"][DEAD], grown[1].populations["cells"].cell["v"][DEAD]
    )
    assert np.all(states.refractory[DEAD] == jsnn.NEVER - 2000)


def test_spikes_under_way_arrive(grown):
    """All sources of a population die: for the time of a delay nothing is different there."""
    net, state = grown
    whole, hurt = (
        np.asarray(jsnn.run(own, 200.0, state=start, record=RECORD).records["v"].values)
        for own, start in (grown, jsnn.lesion(net, state, "cells.exc"))
    )
    arrived = round(DELAY / net.dt)
    np.testing.assert_array_equal(hurt[:arrived], whole[:arrived])
    in_flight = np.asarray(state.buffers["ex/cells.exc->others"]).any(0)
    assert 3 < in_flight.sum() and np.all(np.diff(hurt[:arrived, in_flight], axis=0).max(0) > 0)
    assert not np.array_equal(hurt, whole) and np.ptp(hurt[-1]) < 1e-3 < np.ptp(whole[-1])


def test_again_and_by_index(grown):
    """An index counts from the first of its slice; dead cells may be named again."""
    net, once = jsnn.lesion(*grown, "cells.inh", [0, 1, 2, 3])
    net, both = jsnn.lesion(net, once, "cells", slice(40, 52))
    _, at_once = jsnn.lesion(*grown, "cells.dead")
    for mine, other in zip(jax.tree.leaves(both), jax.tree.leaves(at_once), strict=True):
        np.testing.assert_array_equal(mine, other)
    check_counts(net, once)
    rate = net.populations["cells"].growth.elements["Den_ex"].growth_rate
    np.testing.assert_array_equal(np.flatnonzero(rate == 0), DEAD)


def test_one_rate_for_all(grown):
    """It becomes one for each cell, on the lesioned population alone."""
    hurt, _ = jsnn.lesion(*grown, "others", 3)
    rate = hurt.populations["others"].growth.elements["Den_ex"].growth_rate
    np.testing.assert_array_equal(rate, np.where(np.arange(20) == 3, 0, np.float32(0.02)))


def test_cells_without_elements():
    """They only fall silent."""
    net = jsnn.Network({"cells": jsnn.nest.iaf_psc_exp(3, I_e=500.0)}, dt=0.1)
    same, state = jsnn.lesion(net, net.init(jax.random.key(1)), "cells", [1])
    assert eqx.tree_equal(same, net)
    solution = jsnn.run(same, 100.0, state=state, record={"s": Spikes("cells")})
    assert set(solution.records["s"].index.tolist()) == {0, 2}


@pytest.mark.parametrize(
    ("cells", "index", "error", "message"),
    [
        ("cels", None, ValueError, "unknown population 'cels': did you mean 'cells'"),
        ("cells.centre", None, ValueError, "unknown slice 'centre'"),
        (3, None, TypeError, "cells: 3 is no address"),
        ("cells.inh", [12], ValueError, "index holds 12..12, but 'cells.inh' has 12 cells"),
        ("cells", [-1], ValueError, "index holds -1"),
        ("cells", [], ValueError, "give at least one"),
        ("cells", [0.5], TypeError, "must be integers"),
        ("cells", np.ones(N, bool), TypeError, "must be integers"),
    ],
)
def test_cells_that_are_not_there(grown, cells, index, error, message):
    with pytest.raises(error, match=message):
        jsnn.lesion(*grown, cells, index)


def test_things_that_are_no_networks(grown):
    net, state = grown
    with pytest.raises(TypeError, match="is no network"):
        jsnn.lesion(state, net, "cells")
    with pytest.raises(TypeError, match="is no state"):
        jsnn.lesion(net, None, "cells")
    glia = jsnn.Network({"glia": jsnn.nest.astrocyte_lr_1994(3)}, dt=0.1)
    alone = jsnn.Network({"cells": net.populations["cells"]}, dt=0.1)
    with pytest.raises(ValueError, match="state is of another network"):
        jsnn.lesion(alone, state, "cells")
    with pytest.raises(ValueError, match="'glia' are no neurons"):
        jsnn.lesion(glia, glia.init(jax.random.key(1)), "glia")


def test_membranes_that_never_stand_still():
    cells = {"hh": jsnn.nest.hh_psc_alpha(2)}
    net = jsnn.Network(cells, dt=0.1, key=jax.random.key(1))
    with pytest.raises(ValueError, match="'hh' are HodgkinHuxley cells, whose membranes never"):
        jsnn.lesion(net, net.init(jax.random.key(1)), "hh")
