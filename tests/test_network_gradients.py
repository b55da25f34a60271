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

pytestmark = pytest.mark.slow

# Some fire within the few ms that are run here
WITHIN = {"v_th": lambda n: n.populations["cells"].neuron.v_th}


def brunel():
    return brunel_delta.build(20, j=2.0), 200


def coba():
    return eqx.tree_at(WITHIN["v_th"], coba_stp.build(0.02), jnp.asarray(-58.0)), 120


def gaps():
    net = gap_junctions.build(0.04)
    start = lambda n: n.populations["cells"].initial["v"]  # noqa: E731
    return eqx.tree_at(start, net, jnp.linspace(-75.0, -40.0, 20)), 120


def astrocytes():
    net = astrocyte_brunel.build(0.004)
    net = eqx.tree_at(lambda n: n.populations["neurons"].neuron.i_e, net, jnp.asarray(900.0))
    start = {"ip3": 0.8, "ca": 0.3}  # calcium above what the slow current asks for
    where = lambda n: [n.populations["astrocytes"].initial[name] for name in start]  # noqa: E731
    return eqx.tree_at(where, net, [jnp.asarray(own) for own in start.values()]), 300


def growth():
    net = structural_plasticity.build(0.02, update_interval=4.0)
    net = eqx.tree_at(WITHIN["v_th"], net, jnp.asarray(-69.0))
    kinds = [name for name in net.populations["cells"].initial if name[:3] in ("Axo", "Den")]
    where = lambda n: [n.populations["cells"].initial[name] for name in kinds]  # noqa: E731
    return eqx.tree_at(where, net, [jnp.asarray(2.5)] * len(kinds)), 130


def traces(net, steps):
    """Of states and spikes of every population the means over time, later ones with more weight."""
    record = {}
    for name, own in net.populations.items():
        traced = [own.states[0], *(s for s in own.states if s in ("ca", "Axon_ex"))]
        record |= {f"{name} {s}": States(name, s, every=1.0) for s in traced}
        if own.neuron.is_spiking:
            record[f"{name} counts"] = Counts(name, every=1.0)
    adjoint = Backprop(reset=Cut(), synapses=Scaled(0.1))
    solution = jsnn.simulate(net, net.init(jax.random.key(1)), steps, record, adjoint=adjoint)
    means = [
        jnp.mean(jnp.linspace(0.5, 1.5, own.values.shape[0])[:, None] * own.values)
        for own in solution.records.values()
    ]
    return jnp.stack(means), solution.stats["spikes"]


def group(path):
    """`populations.cells.neuron`, `synapses.exc.release` and the like."""
    names = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
    return ".".join(names[: 4 if "elements" in names else 3])


# What keeps their cells from firing: spikes have no derivative
QUIET = {
    brunel: {"cells.neuron.v_th": 1e9},
    coba: {"cells.neuron.v_th": 1e9},
    gaps: {"cells.initial.v": np.linspace(-75.0, -55.0, 20)},
    astrocytes: {"neurons.neuron.i_e": -500.0},
    growth: {"cells.neuron.v_th": 1e9},
}


def with_values(net, values):
    for path, value in values.items():
        population, part, name = path.split(".")
        of = lambda n, p=population, part=part: getattr(n.populations[p], part)  # noqa: E731
        one = lambda n, of=of, k=name: of(n)[k] if isinstance(of(n), dict) else getattr(of(n), k)  # noqa: E731
        net = eqx.tree_at(one, net, jnp.asarray(value))
    return net


def strong(net):
    """Without weak types, since numbers of either kind would have a program of their own."""
    return jax.tree.map(lambda a: jnp.asarray(a, a.dtype) if eqx.is_array(a) else a, net)


@pytest.mark.parametrize("build", QUIET)
def test_every_group_of_parameters_has_a_gradient(x64, build):
    """Where cells fire it is finite, and not zero; where none does, central differences along a
    random direction in each group say the same."""
    net, steps = build()
    moving, rest = eqx.partition(strong(net), eqx.is_inexact_array)
    n_means = jax.eval_shape(lambda: traces(net, steps)[0]).size

    @jax.jit
    def both(moving, scale):
        def total(moving):
            means, spikes = traces(eqx.combine(moving, rest), steps)
            return jnp.sum(means / scale), (means, spikes)

        return jax.value_and_grad(total, has_aux=True)(moving)

    def scaled(moving):
        means = both(moving, jnp.ones(n_means))[0][1][0]
        scale = jnp.where(means == 0, 1, jnp.abs(means))
        (_, (_, spikes)), gradient = both(moving, scale)
        return scale, gradient, sum(spikes.values())

    _, gradient, n_spikes = scaled(moving)
    assert n_spikes > 5
    largest = defaultdict(float)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)), path
        largest[group(path)] = max(largest[group(path)], float(jnp.max(jnp.abs(leaf), initial=0)))
    nothing = {name for name, own in largest.items() if own == 0}
    assert nothing == {name for name in largest if name.endswith(".surrogate")}

    quiet, _ = eqx.partition(strong(with_values(net, QUIET[build])), eqx.is_inexact_array)
    # Of one structure: to Equinox a module that was rebuilt may differ from one that was made
    quiet = jax.tree.unflatten(jax.tree.structure(moving), jax.tree.leaves(quiet))
    scale, gradient, n_spikes = scaled(quiet)
    assert n_spikes == 0
    leaves = jax.tree_util.tree_leaves_with_path(quiet)
    slopes = jax.tree.leaves(gradient)
    rng, found = np.random.default_rng(0), {}
    for kind in set(largest) - {"inputs.noise.rate"}:  # numbers of spikes are whole
        along = [
            np.where(own == 0, 1.0, own) * rng.uniform(0.5, 1, own.shape) * (group(path) == kind)
            for path, own in leaves
        ]
        high, low = (
            both(
                jax.tree.unflatten(
                    jax.tree.structure(quiet),
                    [own + h * step for (_, own), step in zip(leaves, along, strict=True)],
                ),
                scale,
            )[0][0]
            for h in (1e-5, -1e-5)
        )
        found[kind] = sum(float(np.sum(g * own)) for g, own in zip(slopes, along, strict=True))
        assert found[kind] == pytest.approx(float(high - low) / 2e-5, rel=1e-6, abs=1e-8), kind
    assert sum(own != 0 for own in found.values()) >= 2
