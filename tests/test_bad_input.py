"""What nonsense gets: an error before anything compiles, with the name of what is wrong."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn import nest
from jsnn.connect import AllToAll, Edges, FixedIndegree, Pairs, sort_edges
from jsnn.distributions import LogNormal, Normal, Uniform
from jsnn.inputs import NoiseCurrent, Poisson, SpikeList, StepCurrent
from jsnn.neurons import LIF
from jsnn.receptors import Alpha, Delta, Exponential
from jsnn.record import Counts, States
from jsnn.surrogate import Triangular

KEY = jax.random.key(1)


def cells(**more):
    return jsnn.Population(LIF(), 10, {"d": Delta(), "g": Exponential(2.0, e_rev=0.0)}, **more)


def network(source=None, **projection):
    given = {"rule": FixedIndegree(2), "weight": 1.0, "delay": 1.0, "receptor": "d", **projection}
    projections = {"p": jsnn.Projection("cells", "cells", **given)} if projection else {}
    inputs = {} if source is None else {"s": source}
    return jsnn.Network({"cells": cells()}, projections, inputs, dt=0.1, key=KEY)


def poisson(rate=10.0, weight=1.0, **more):
    return network(Poisson("cells", rate, weight, "d", **more))


def run(net=None, duration=1.0, **more):
    return jsnn.run(net or network(), duration, **{"key": KEY, "progress": False, **more})


def changed(where, value, **projection):
    """A run of a network one of whose parameters was replaced."""
    return run(eqx.tree_at(where, network(**projection), value))


def tau_m(net):
    return net.populations["cells"].neuron.tau_m


def t_ref(net):
    return net.populations["cells"].neuron.t_ref


def weight(net):
    return net.synapses["p"].weight


def rate(net):
    return net.inputs["s"].rate


def mean(net):
    return net.inputs["n"].mean


def width(net):
    return net.populations["cells"].surrogate.width


def list_weight(net):
    return net.inputs["s"].weight


def wide_state():
    """Made in double precision, for a network in single."""
    with jax.enable_x64(True):
        return network().init(KEY)


def other_state(receptors):
    other = jsnn.Network({"cells": jsnn.Population(LIF(), 10, receptors)}, dt=0.1)
    return other.init(KEY)


CASES = {
    # None, and other things that are no numbers
    "duration None": (lambda: run(duration=None), "duration=None is not a number"),
    "delay None": (lambda: poisson(delay=None), "'s'.*delay=.*None"),
    "start None": (lambda: poisson(start=None), "'s'.*start=.*None"),
    "noise start": (lambda: network(NoiseCurrent("cells", start=None)), "start=.*None"),
    "counts": (lambda: run(record={"c": Counts("cells", None)}), "record 'c'.*every=.*None"),
    "distribution": (
        lambda: jsnn.Network({"c": jsnn.Population(LIF(tau_m=Uniform(10.0, 20.0)), 3)}, dt=0.1),
        "'c': tau_m: key is missing",
    ),
    "threshold": (
        lambda: jsnn.Network(
            {"c": jsnn.Population(LIF(v_th=Normal(-90.0, 1.0)), 3)}, dt=0.1, key=KEY
        ),
        "'c': as drawn: v_reset=-70.0 must be below v_th",
    ),
    "ragged": (lambda: LIF(tau_m=[[1.0], [1.0, 2.0]]), "tau_m=.*not a number"),
    "a dictionary": (lambda: network(delay={"a": 1}), "delay=.*not a number"),
    "a class": (lambda: network(weight=Uniform), "weight=.*Uniform.*not a number"),
    "initial class": (lambda: cells(initial={"v": Uniform}), "initial.*'v'.*not a number"),
    "months": (lambda: run(duration=np.timedelta64(3, "M")), "duration=.*one number|not a number"),
    "beyond float32": (lambda: LIF(i_e=1e300), "i_e=1e.300 is more than float32"),
    "dt list": (lambda: jsnn.Network({"cells": cells()}, dt=[0.1]), "dt has shape"),
    "limits": (lambda: Uniform([1.0, 2.0], 5.0), "low has shape"),
    "mean": (lambda: Normal([1.0, 2.0], 1.0), "mean has shape"),
    "max_rate": (lambda: poisson(max_rate=[50.0]), "max_rate has shape"),
    "width": (lambda: Triangular(np.ones(10)), "width has shape"),
    # Mappings, slices and names
    "initial": (lambda: cells(initial=0.5), "initial=0.5 is not a dictionary"),
    "slices": (lambda: cells(slices=[slice(0, 2)]), "slices=.*not a dictionary"),
    "float slice": (lambda: cells(slices={"e": slice(0.0, 8.0)}), "'e'.*whole numbers"),
    "projections": (lambda: jsnn.Network({"cells": cells()}, [], dt=0.1), "projections=.*is not a"),
    "empty part": (lambda: network(Poisson("cells.", 1.0, 1.0, "d")), "slice is missing"),
    "bytes": (lambda: jsnn.Projection(b"a", "b", FixedIndegree(1), weight=1, delay=1), "pre=b'a'"),
    "receptor": (lambda: network(receptor=np.array(["d"])), "receptor=.*not a name"),
    "case": (lambda: cells(initial={"V": 1.0}), "did you mean 'v'"),
    "state": (lambda: run(record={"r": States("cells", 3)}), "record 'r'.*unknown state"),
    "index": (lambda: States("cells", "v", index=slice(0.0, 5.0)), "index="),
    "ragged index": (lambda: States("cells", "v", index=[[0], [1, 2]]), "index=.*integers"),
    # Rates that are functions
    "NumPy": (lambda: poisson(lambda t: np.sin(t), max_rate=5.0), "rate=.*jnp"),
    "if": (lambda: poisson(lambda t: 5.0 if t > 1 else 2.0, max_rate=5.0), "rate=.*jnp"),
    "a list": (lambda: poisson(lambda t: [1.0, 2.0], max_rate=5.0), "rate=.*returns"),
    "too fast": (lambda: poisson(lambda t: t, max_rate=1e9), "max_rate=1e.09 Hz"),
    "no rates": (lambda: poisson([]), "rate is empty"),
    # Times and cells of inputs
    "backwards": (lambda: network(NoiseCurrent("cells", start=5.0, stop=1.0)), "stop=1.0.*start"),
    "no times": (lambda: StepCurrent("cells", [], []), "times is empty"),
    "one step": (lambda: network(StepCurrent("cells", [1.0, 1.00001], [1, 2])), "one step"),
    "far cells": (lambda: SpikeList("cells", [1.0], [2**32], 1.0), "cells holds"),
    "words": (lambda: SpikeList("cells", "abc", [0], 1.0), "times='abc' is not a number"),
    # Values that are drawn, and those of conductances
    "infinite": (lambda: network(weight=LogNormal(1000.0, 1.0)), "'p': weight was drawn"),
    "conductance": (lambda: cells(initial={"g.g": -1.0}), r"initial\['g.g'\].*at least 0"),
    "no solver": (lambda: nest.iaf_cond_exp(10, solver=0), "solver=0"),
    # Parameters put in the place of others
    "shape": (lambda: changed(tau_m, jnp.ones(3)), r"'cells': tau_m has shape \(3,\)"),
    "negative": (lambda: changed(tau_m, -5.0), "'cells': tau_m=.*above 0"),
    "off grid": (lambda: changed(t_ref, 0.15), r"'cells': t_ref=0\.15 ms.*0\.1 and 0\.2"),
    "weights": (lambda: changed(weight, jnp.ones(3), weight=1.0), "'p': weight has shape"),
    "sign": (lambda: changed(weight, -1.0, receptor="g"), "'p': weight=-1 onto the conductance"),
    "too short": (lambda: changed(tau_m, 1e-6), "tau_m=1e-06 ms is too short"),
    "nan": (lambda: changed(weight, np.nan, weight=1.0), "'p': weight.* is not finite"),
    "nan at the start": (
        lambda: run(
            eqx.tree_at(
                lambda n: n.populations["cells"].initial["v"],
                jsnn.Network({"cells": cells(initial={"v": -60.0})}, dt=0.1),
                jnp.nan,
            )
        ),
        r"initial\['v'\]=nan is not finite",
    ),
    "true array": (lambda: changed(weight, np.array(True), weight=1.0), "weight=.*not a number"),
    "true": (lambda: changed(weight, True, weight=1.0), "'p': weight=True is not a number"),
    "width again": (lambda: changed(width, -1.0), "'cells': width=-1.0 must be above 0"),
    "list": (
        lambda: run(
            eqx.tree_at(
                list_weight, network(SpikeList("cells", [1.0], [0], 1.0, "d")), jnp.ones(3)
            )
        ),
        "'s': weight has shape",
    ),
    "step": (
        lambda: run(
            eqx.tree_at(
                lambda n: n.inputs["s"].values,
                network(StepCurrent("cells", [1.0, 2.0], [1.0, 2.0])),
                jnp.ones(1),
            )
        ),
        r"'s': values has shape \(1,\)",
    ),
    "initial length": (
        lambda: run(
            eqx.tree_at(
                lambda n: n.populations["cells"].initial["v"],
                jsnn.Network({"cells": cells(initial={"v": -60.0})}, dt=0.1),
                jnp.ones(3),
            )
        ),
        r"initial\['v'\] has shape",
    ),
    "precision": (lambda: run(key=None, state=wide_state()), "or precision.*float64.*float32"),
    # Tracing
    "traced weight": (lambda: jax.jit(lambda w: network(weight=w))(1.0), "outside jit"),
    "traced delay": (lambda: jax.vmap(lambda d: network(delay=d))(jnp.ones(2)), "delay is traced"),
    # States of others
    "more": (lambda: run(key=None, state=other_state({"d": Delta()})), "another network.*'cells'"),
    "alpha": (
        lambda: run(key=None, state=other_state({"d": Delta(), "g": Alpha(2.0, 0.0)})),
        r"another network.*g\.dg",
    ),
    "no network": (lambda: jsnn.simulate(cells(), network().init(KEY), 5), "is no network"),
    "for ever": (lambda: jsnn.simulate(network(), network().init(KEY), 2**31), "steps"),
    # The host's arguments
    "progress": (lambda: run(progress="no"), "progress='no'"),
    "checkpoint": (lambda: run(checkpoint=True), "checkpoint=True is not a path"),
    "no folder": (lambda: run(checkpoint=""), "checkpoint='' is not a path"),
    "null": (lambda: run(checkpoint="/proc/nothing/here"), "checkpoint=.*cannot be made"),
    "devices": (lambda: run(devices=2.0), "devices=2.0"),
    "names of devices": (lambda: run(devices=["cpu"]), r"devices=\['cpu'\]"),
    "twice": (lambda: network().on(jax.devices()[:1] * 2), "holds one twice"),
    "raw key": (lambda: network().init(np.zeros(4, np.uint32)), "not a PRNG key"),
    # Edges
    "edges": (lambda: Edges(np.ones(2), np.arange(3), 2, 2), "Edges: post=.*integers"),
    "pairs": (lambda: Pairs([[0], [1, 2]], [0]), "Pairs: pre=.*integers"),
    "no integers": (lambda: sort_edges("ab", [0], 2, 2), "pre"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_error(case, monkeypatch):
    make, message = CASES[case]
    monkeypatch.setattr("jsnn._run.advance_from_host", None)  # nothing gets so far as to compile
    monkeypatch.setattr("jsnn._simulate.advance", None)
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("make", [float, int, np.float64, np.int32])
@pytest.mark.parametrize("where", [tau_m, t_ref, weight, rate, mean])
def test_any_number_may_replace_a_parameter(where, make):
    """As an array of the working precision does."""
    net = network(Poisson("cells", 1000.0, 2.0, "d"), weight=1.0)
    noise = NoiseCurrent("cells", 10.0, 100.0)
    net = jsnn.Network(net.populations, inputs={**net.inputs, "n": noise}, dt=0.1)
    net = eqx.tree_at(lambda n: n.synapses, net, network(weight=1.0).synapses)
    record = {"v": States("cells", "v")}
    given, array = (
        run(eqx.tree_at(where, net, value), record=record)
        for value in (make(8), jnp.asarray(8.0, jnp.float32))
    )
    assert eqx.tree_equal(given.records["v"].values, array.records["v"].values)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, jnp.float8_e4m3fn, np.complex64])
@pytest.mark.parametrize("traced", [False, True])
def test_numbers_of_few_digits_are_refused(dtype, traced):
    """Wherever a number goes in, known or traced, and not only where it is first given."""
    net = network(Poisson("cells", 1000.0, 2.0, "d"), weight=1.0)
    start = net.init(KEY)
    law = lambda **own: jsnn.neurons.LIF(**own)  # noqa: E731
    within = lambda where, x: jsnn.simulate(eqx.tree_at(where, net, x), start, 3)  # noqa: E731
    ways = {
        "tau_m": lambda x: law(tau_m=x),
        "tau_m of one of these": lambda x: law(tau_m=[x, 10.0]),
        "weight": lambda x: jsnn.Projection("cells", "cells", AllToAll(), weight=x, delay=1.0),
        "rate": lambda x: Poisson("cells", x, 1.0, max_rate=100.0),
        "values": lambda x: StepCurrent("cells", [1.0], x[None]),
        "width": lambda x: Triangular(x),
        "norm": lambda x: jsnn.adjoint.Clipped(x),
        "low": lambda x: Uniform(x, 9.0),
        "tau_m in its place": lambda x: within(tau_m, x),
        "weight in its place": lambda x: within(weight, x),
        "rate in its place": lambda x: within(rate, x),
        "raster": lambda x: jsnn.losses.cv_isi(jnp.broadcast_to(x, (3, 2))),
    }
    for name, make in ways.items():
        wanted = rf"{name.split()[0]}.* has dtype {jnp.dtype(dtype).name}; .*float32 or float64"
        with pytest.raises(TypeError, match=wanted):
            jax.jit(make)(jnp.ones((), dtype)) if traced else make(jnp.ones((), dtype))
    if not traced:
        few = lambda t: jnp.ones((), dtype)  # noqa: E731
        driven = {"p": Poisson("cells", few, 1.0, "d", max_rate=100.0)}
        with pytest.raises(TypeError, match="returns.* has dtype"):
            jsnn.Network(net.populations, inputs=driven, dt=0.1)


def test_a_network_is_looked_at_once():
    net = network(weight=1.0)
    assert net.checked() is net
    wrong = eqx.tree_at(tau_m, net.checked(), -1.0)
    with pytest.raises(ValueError, match="tau_m"):
        wrong.checked()


def test_a_network_is_looked_at_inside_jit_too():
    """What is not traced there is known, and what was let through would count as looked at."""
    net = network(weight=1.0, receptor="g")
    wrong = eqx.tree_at(weight, net, jnp.full(net.n_synapses, -1.0, jnp.float32))
    start = net.init(KEY)
    with pytest.raises(ValueError, match="onto the conductance"):
        jax.jit(lambda s: jsnn.simulate(wrong, s, 5).state)(start)
    with pytest.raises(ValueError, match="onto the conductance"):
        run(wrong)


def test_step_and_on_take_plain_numbers():
    plain = eqx.tree_at(weight, network(weight=1.0), 2.0)
    state, _ = plain.step(plain.init(KEY))
    assert state.step == 1 and plain.on(1).synapses["p"].weight.shape == ()


def test_receptors_keep_their_parameters_in_any_order():
    receptors = {"z": Exponential(1.0), "a": Exponential(9.0), "m": Delta()}
    made = jsnn.Population(LIF(), 1, receptors).checked(0.1).receptors
    assert {name: getattr(r, "tau", None) for name, r in made.items()} == {
        "z": 1.0,
        "a": 9.0,
        "m": None,
    }


class Narrow(Triangular):
    """A surrogate with a constructor of its own."""

    def __init__(self):
        super().__init__(1.0)


def test_what_its_constructor_does_not_take_is_left_alone():
    net = jsnn.Network({"cells": cells(surrogate=Narrow())}, dt=0.1)
    assert isinstance(net.checked().populations["cells"].surrogate, Narrow)


def test_what_is_inside_a_users_own_rate_is_left_alone():
    class Powers(eqx.Module):
        scale: jax.Array
        order: int

        def __call__(self, t):
            return self.scale * sum(t**k for k in range(self.order))

    net = poisson(Powers(jnp.asarray(100.0), 3), max_rate=1e5)
    changed = eqx.tree_at(lambda n: n.inputs["s"].rate.scale, net, jnp.asarray(1000.0))
    assert run(changed).stats["spikes"] is not None


@pytest.mark.parametrize(
    "build",
    [
        lambda a: jsnn.Population(LIF(i_e=[a, a]), 2, {"d": Delta()}),
        lambda a: jsnn.Population(LIF(), 2, {"d": Delta()}, initial={"v": [a - 70.0, a - 71.0]}),
        lambda a: nest.iaf_psc_exp(2, I_e=[a, a + 1.0]),
    ],
)
def test_lists_of_traced_numbers(x64, build):
    def last(a):
        net = jsnn.Network({"p": build(a)}, dt=0.1, delivery=jsnn.SegmentSum())
        state = jsnn.simulate(net, net.init(KEY), 5).state
        return jnp.sum(state.populations["p"].cell["v"])

    np.testing.assert_allclose(jax.grad(last)(1.0), last(2.0) - last(1.0), rtol=1e-9)


def test_shortest_time_constant():
    """What is not refused runs."""
    population = jsnn.Population(LIF(tau_m=1e-4, i_e=100.0), 10, {"e": Exponential(1e-4)})
    net = jsnn.Network({"cells": population}, dt=0.1)
    values = run(net, record={"v": States("cells", "v")}).records["v"].values
    np.testing.assert_allclose(values, -70.0 + 1e-4 * 100.0 / 250.0, atol=1e-4)


def test_errors_say_the_value_in_one_short_line():
    with pytest.raises(TypeError) as error:
        network(weight=network())
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)
