"""The five published networks, small: a loss has a gradient in every group of their parameters."""

import sys
from collections import defaultdict
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn.adjoint import Backprop, Cut, Scaled
from jsnn.record import Counts, States

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import astrocyte_brunel  # noqa: E402
import brunel_delta  # noqa: E402
import coba_stp  # noqa: E402
import gap_junctions  # noqa: E402
import structural_plasticity  # noqa: E402

# Some fire within the few ms that are run here
WITHIN = {"v_th": lambda n: n.populations["cells"].neuron.v_th}


def brunel():
    return brunel_delta.build(20, j=2.0), 200


def coba():
    return eqx.tree_at(WITHIN["v_th"], coba_stp.build(0.02), -58.0), 120


def gaps():
    return gap_junctions.build(0.04), 120


def astrocytes():
    net = astrocyte_brunel.build(0.004)
    net = eqx.tree_at(lambda n: n.populations["neurons"].neuron.i_e, net, 900.0)
    start = {"ip3": 0.8, "ca": 0.3}  # calcium above what the slow current asks for
    where = lambda n: [n.populations["astrocytes"].initial[name] for name in start]  # noqa: E731
    return eqx.tree_at(where, net, [jnp.asarray(own) for own in start.values()]), 300


def growth():
    net = structural_plasticity.build(0.02, update_interval=4.0)
    net = eqx.tree_at(WITHIN["v_th"], net, -69.0)
    kinds = [name for name in net.populations["cells"].initial if name[:3] in ("Axo", "Den")]
    where = lambda n: [n.populations["cells"].initial[name] for name in kinds]  # noqa: E731
    return eqx.tree_at(where, net, [jnp.asarray(2.5)] * len(kinds)), 130


def loss(net, steps):
    record = {}
    for name, own in net.populations.items():
        traced = [own.states[0], *(s for s in own.states if s in ("ca", "Axon_ex"))]
        record |= {f"{name} {s}": States(name, s, every=1.0) for s in traced}
        if own.neuron.is_spiking:
            record[f"{name} counts"] = Counts(name, every=1.0)
    adjoint = Backprop(reset=Cut(), synapses=Scaled(0.1))
    solution = jsnn.simulate(net, net.init(jax.random.key(1)), steps, record, adjoint=adjoint)
    weighted = [jnp.linspace(0.5, 1.5, r.values.shape[0]) for r in solution.records.values()]
    total = sum(
        jnp.mean(w[:, None] * r.values) / (1e-2 + jnp.abs(jax.lax.stop_gradient(r.values)).max())
        for w, r in zip(weighted, solution.records.values(), strict=True)
    )
    return total, solution.stats["spikes"]


def group(path):
    """`populations.cells.neuron`, `synapses.exc.release` and the like."""
    names = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
    return ".".join(names[: 4 if "elements" in names else 3])


@pytest.mark.parametrize("build", [brunel, coba, gaps, astrocytes, growth])
def test_every_group_of_parameters_has_a_gradient(x64, build):
    net, steps = build()
    value, gradient = eqx.filter_value_and_grad(loss, has_aux=True)(net, steps)
    assert np.isfinite(value[0]) and sum(value[1].values()) > 5
    largest = defaultdict(float)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)), path
        largest[group(path)] = max(largest[group(path)], float(jnp.max(jnp.abs(leaf), initial=0)))
    nothing = {name for name, own in largest.items() if own == 0}
    assert nothing == {name for name in largest if name.endswith(".surrogate")}
