"""A recurrent network of spiking neurons that answers to spike latencies with a class.

Every value of a sample is one spike of an input cell. Input cells project to hidden ones, those to
each other and to read-out cells that never spike: leaky integrate-and-fire neurons with exponential
currents, all to all. A sample is of the class whose read-out has the largest mean membrane.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jsnn
from jsnn.adjoint import Backprop, Cut
from jsnn.connect import AllToAll
from jsnn.neurons import LIF
from jsnn.receptors import Exponential
from jsnn.record import States
from jsnn.surrogate import Triangular

DT = 1.0  # ms
DURATION = 40.0  # ms of a sample
DELAY = 4.0  # ms; a longer one makes longer blocks without communication, which are faster
TAU_M, TAU_SYN = 10.0, 5.0  # ms
C_M = 5.0  # pF
V_TH = 10.0  # mV above rest
WIDTH = 3.0  # mV around threshold in which a spike has a slope
SOFT = 0.7  # mV that a read-out must be above another to be e times as likely
ADJOINT = Backprop(reset=Cut())
RECURRENT, READOUT = 1.0, 1.0  # standard deviations of the other weights at first, pA

Weights = dict[str, Any]


def build(
    n_in: int, n_hidden: int, n_out: int, inputs: tuple[float, float], seed: int
) -> jsnn.Network:
    """The network before training, with input weights of a mean and a standard deviation (pA).

    All cells are one population, so that they share arrays and kernels: they differ in their
    threshold, which read-outs never reach, and in where they start.
    """
    parts = (n_in, n_hidden, n_out)
    ends = np.cumsum(parts)
    of_parts = lambda *values: np.repeat(np.asarray(values, float), parts)  # noqa: E731
    cells = jsnn.Population(
        LIF(tau_m=TAU_M, c_m=C_M, e_l=0.0, v_th=of_parts(V_TH, V_TH, 1e9), v_reset=0.0, t_ref=0.0),
        int(ends[-1]),
        {"syn": Exponential(TAU_SYN)},
        slices={
            "input": slice(0, ends[0]),
            "hidden": slice(ends[0], ends[1]),
            "readout": slice(ends[1], ends[2]),
        },
        initial={"v": of_parts(2 * V_TH, 0.0, 0.0)},  # an input fires as soon as it is let
        surrogate=Triangular(WIDTH),
    )
    rng = np.random.default_rng(seed)
    projection = lambda pre, post, mean, std, n: jsnn.Projection(  # noqa: E731
        f"cells.{pre}", f"cells.{post}", AllToAll(), weight=rng.normal(mean, std, n), delay=DELAY
    )
    return jsnn.Network(
        {"cells": cells},
        {
            "input": projection("input", "hidden", *inputs, n_in * n_hidden),
            "recurrent": projection("hidden", "hidden", 0.0, RECURRENT, n_hidden**2),
            "readout": projection("hidden", "readout", 0.0, READOUT, n_hidden * n_out),
        },
        dt=DT,
        key=jax.random.key(seed),
    )


def weights_of(network: jsnn.Network) -> Weights:
    """What is trained: of every projection the weights of its edges (pA), source by source."""
    return {name: own.weight for name, own in network.synapses.items()}


def respond(
    network: jsnn.Network,
    weights: Weights,
    latencies: jax.Array,
    duration: float = DURATION,
    record: Mapping[str, Any] | None = None,
) -> jsnn.Solution:
    """The network's answer to one sample, of latencies `[n_inputs]` (ms); vmap makes a batch.

    An input cell starts above its threshold, and refractory for its latency, after which it fires.
    A latency between steps is not rounded away: the spike arrives at the end of its step with what
    would then be left of its current, which is exact for the receptor.
    """
    steps = round(duration / DT)
    wait = jnp.minimum(jnp.ceil(latencies / DT), steps)  # one that never comes outlasts the run
    left = jnp.exp(-jnp.maximum(wait * DT - latencies, 0) / TAU_SYN)
    own = {**weights, "input": (weights["input"].reshape(left.size, -1) * left[:, None]).ravel()}
    network = eqx.tree_at(
        lambda n: [n.synapses[name].weight for name in own], network, list(own.values())
    )
    state = network.init(jax.random.key(0))  # nothing is drawn
    state = eqx.tree_at(
        lambda s: s.populations["cells"].refractory,
        state,
        replace_fn=lambda own: own.at[: left.size].set(wait.astype(own.dtype)),
    )
    record = {"v": States("cells.readout", "v")} if record is None else record
    return jsnn.simulate(network, state, steps, record, adjoint=ADJOINT)


def scores(
    network: jsnn.Network, weights: Weights, latencies: jax.Array, duration: float = DURATION
) -> tuple[jax.Array, jax.Array]:
    """Of samples `[k, n_inputs]` the logarithms of the odds of each class `[k, n_classes]`, and how
    many spikes their hidden cells fired `[k]`."""

    def one(latencies: jax.Array) -> tuple[jax.Array, jax.Array]:
        solution = respond(network, weights, latencies, duration)
        of_inputs = jnp.sum(latencies < duration)
        hidden = solution.stats["spikes"]["cells"] - of_inputs
        return jnp.mean(solution.records["v"].values, 0) / SOFT, hidden

    return jax.vmap(one)(latencies)


def loss(
    weights: Weights,
    network: jsnn.Network,
    latencies: jax.Array,
    labels: jax.Array,
    duration: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean cross entropy of a batch, with its share of right answers and its spikes."""
    found, spikes = scores(network, weights, latencies, duration)
    entropy = optax.softmax_cross_entropy_with_integer_labels(found, labels).mean()
    right = jnp.mean(jnp.argmax(found, 1) == labels)
    return entropy, {"loss": entropy, "accuracy": right, "spikes": jnp.mean(spikes)}
