"""The registry of models that every test of the battery goes through, and shared references.

All models stand in one network, so that each way of running it is compiled once for all of them.
Weights that differ between edges are multiples of 1/8: their sums are exact in any order, and
deliveries that add in different orders can be compared bit for bit.
"""

import contextlib

import jax
import numpy as np

import jsnn
from jsnn.astrocytes import LiRinzel
from jsnn.connect import FixedIndegree, Pairs
from jsnn.coupling import GapJunction, SlowInwardCurrent
from jsnn.inputs import NoiseCurrent, Poisson, SpikeList, StepCurrent
from jsnn.neurons import LIF, AdEx, HodgkinHuxley
from jsnn.receptors import Alpha, Delta, Exponential
from jsnn.release import Tsodyks, TsodyksMarkram
from jsnn.solvers import RK4, Euler, Exact, ExponentialEuler, Splitting

DT = 0.1

_COMPILED = []  # one for each program that XLA was given


def _listen(event, duration, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        _COMPILED.append(duration)


jax.monitoring.register_event_duration_secs_listener(_listen)


@contextlib.contextmanager
def compilations():
    """A list that has one entry for each program compiled inside, when it is left."""
    found, before = [], len(_COMPILED)
    yield found
    found.extend(_COMPILED[before:])


def ramp(low, high, n):
    """A parameter that differs from cell to cell."""
    return np.linspace(low, high, n)


def populations():
    """Neuron, receptors and solver in their combinations; sizes on both sides of 32 and 128."""
    return {
        "delta": jsnn.Population(
            LIF(tau_m=15.0, t_ref=1.0, i_e=200.0), 20, {"x": Delta()}, solver=Exact()
        ),
        "exponential": jsnn.Population(
            LIF(tau_m=ramp(8.0, 20.0, 33), t_ref=ramp(0.0, 3.2, 33), i_e=300.0),
            33,
            {"exc": Exponential(2.0), "inh": Exponential(ramp(3.0, 6.0, 33))},
            solver=Exact(),
            initial={"v": jsnn.distributions.Uniform(-70.0, -56.0)},
        ),
        "alpha": jsnn.Population(
            LIF(tau_m=2.0, c_m=ramp(20.0, 80.0, 10), i_e=200.0),
            10,
            {"syn": Alpha(2.0)},  # the time constant of the membrane
            slices={"low": slice(0, 4), "high": slice(4, 10)},
            initial={"v": ramp(-69.0, -60.0, 10), "syn.i": 20.0},
        ),
        "rk4": jsnn.Population(
            LIF(i_e=350.0),
            24,
            {"exc": Exponential(5.0, e_rev=0.0), "inh": Exponential(10.0, e_rev=-80.0)},
            solver=RK4(),
        ),
        "exponential_euler": jsnn.Population(
            LIF(c_m=ramp(150.0, 300.0, 7), i_e=500.0),
            7,
            {"exc": Alpha(ramp(0.5, 3.0, 7), e_rev=0.0)},
            solver=ExponentialEuler(),
        ),
        "euler": jsnn.Population(
            LIF(tau_m=20.0, e_l=ramp(-70.0, -60.0, 130), i_e=220.0),
            130,
            {"exc": Exponential(5.0, e_rev=ramp(-5.0, 5.0, 130))},
            solver=Euler(),
        ),
        "channels": jsnn.Population(
            HodgkinHuxley.interneuron(g_na=ramp(4000.0, 5000.0, 9), i_e=ramp(100.0, 300.0, 9)),
            9,
            {"exc": Alpha(0.5), "inh": Exponential(2.0, e_rev=-75.0)},
            solver=Splitting((2, 4)),
        ),
        "adex": jsnn.Population(
            AdEx(t_ref=ramp(0.0, 1.2, 13), i_e=ramp(700.0, 1500.0, 13), b=40.0),
            13,
            {"exc": Alpha(1.0, e_rev=0.0), "x": Delta()},
            initial={"v": jsnn.distributions.Uniform(-70.0, -50.0)},
        ),
        "astrocytes": jsnn.Population(
            LiRinzel(delta_ip3=ramp(0.1, 0.3, 40)), 40, {"x": Delta()}, initial={"ca": 0.3}
        ),
    }


MODELS = [name for name, own in populations().items() if own.neuron.is_spiking]
TRACED = {
    **{f"v {name}": (name, "v") for name in ("exponential", "rk4", "channels", "adex")},
    "ca astrocytes": ("astrocytes", "ca"),
    "sic adex": ("adex", "sic"),
}


def projections():
    rng = np.random.default_rng(3)
    n_edges = 120
    pairs = Pairs(rng.integers(0, 33, n_edges), rng.integers(0, 10, n_edges))
    weights = rng.integers(-40, 120, n_edges) / 8
    delays = rng.integers(7, 30, n_edges) * DT
    rule = FixedIndegree(5)
    spread = jsnn.distributions.Uniform(0.7, 2.5)
    return {
        "a": jsnn.Projection("delta", "exponential", rule, weight=50.0, delay=0.7, receptor="exc"),
        "b": jsnn.Projection("exponential", "alpha", pairs, weight=weights, delay=delays),
        "c": jsnn.Projection("alpha.high", "rk4", rule, weight=4.0, delay=spread, receptor="exc"),
        "d": jsnn.Projection(
            "rk4", ["exponential_euler", "euler"], rule, weight=2.0, delay=1.5, receptor="exc"
        ),
        # With one delay, so that sums have one order; amounts are no multiples of anything
        "source": jsnn.Projection(
            "delta",
            "rk4",
            rule,
            weight=3.0,
            delay=0.7,
            receptor="exc",
            release=TsodyksMarkram(0.4, ramp(20.0, 200.0, 20), 50.0),
        ),
        "edge": jsnn.Projection(
            "exponential",
            "euler",
            rule,
            weight=jsnn.distributions.Uniform(1.0, 3.0),
            delay=0.8,
            receptor="exc",
            release=Tsodyks(jsnn.distributions.Uniform(0.2, 0.6), tau_fac=ramp(0.0, 90.0, 33)),
        ),
        "jumps": jsnn.Projection("delta", "adex", rule, weight=0.5, delay=1.0, receptor="x"),
        "third": jsnn.Projection("adex", "astrocytes", rule, weight=1.0, delay=0.9),
    }


def couplings():
    conductance = jsnn.distributions.Uniform(0.5, 2.0)
    weight, delay = jsnn.distributions.Uniform(1.0, 4.0), jsnn.distributions.Uniform(0.7, 1.4)
    return {
        "gaps": GapJunction("channels", "channels", FixedIndegree(2), conductance=conductance),
        "sic": SlowInwardCurrent(
            "astrocytes", "adex", FixedIndegree(3), weight=weight, delay=delay
        ),
    }


def inputs():
    return {
        "poisson": Poisson("delta", ramp(500.0, 3000.0, 20), 1.0, delay=0.5),
        "list": SpikeList("alpha", [3.0, 0.4, 0.4, 7.0], [1, 9, 9, 3], 300.0, delay=0.2),
        "step": StepCurrent("alpha.low", [1.0, 5.0], [[400.0] * 4, [10.0, 20.0, 30.0, 500.0]]),
        "noise": NoiseCurrent("rk4", 100.0, 300.0, interval=0.2),
    }


def network(delivery=None):
    return jsnn.Network(
        *(populations(), projections(), inputs()),
        dt=DT,
        key=jax.random.key(5),
        delivery=delivery,
        couplings=couplings(),
    )


def everything():
    """Recorders of all spikes and of some states."""
    spikes = {f"spikes {name}": jsnn.record.Spikes(name) for name in MODELS}
    return spikes | {name: jsnn.record.States(*state) for name, state in TRACED.items()}


def run(net, state, *lengths):
    """Consecutive runs: the last state, and what was recorded, joined."""
    parts = []
    for length in lengths:
        solution = jsnn.simulate(net, state, length, everything())
        state = solution.state
        parts.append(traces(solution))
    joined = jax.tree.map(lambda *own: np.concatenate(own), *parts)
    return state, joined


def traces(solution):
    """Rasters and states by the name of the recorder, as NumPy arrays, time first."""
    return {
        name: np.asarray(own.raster if name.startswith("spikes") else own.values)
        for name, own in solution.records.items()
    }


# Since jax 0.11 XLA contracts products and sums differently in different programs, so that a step
# by itself and a step in a block may round apart; what a release amounts to, and the products of
# channels, may in all versions.
# Spikes are compared exactly all the same.
ONE_ROUNDING = jax.__version_info__ < (0, 11)
ROUNDED = (
    *("'rk4'", "'euler'", "v rk4", "'source'", "'edge'", "'channels'", "v channels"),
    *("'adex'", "'astrocytes'", "v adex", "ca astrocytes", "sic", ".growth"),
)


def assert_same(a, b, *, programs=1):
    """Equal structure, dtypes and every bit; numbers of two programs may differ by rounding."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        where = jax.tree_util.keystr(path)
        assert x.dtype == y.dtype, where
        rounded = not ONE_ROUNDING or any(name in where for name in ROUNDED)
        if programs > 1 and rounded and np.issubdtype(x.dtype, np.floating):
            # The upstroke of a spike, 400 mV/ms, magnifies rounding
            r, a = (1e-3, 1e-2) if "channels" in where or "adex" in where else (2e-6, 1e-6)
            np.testing.assert_allclose(np.asarray(x), np.asarray(y), r, a, err_msg=where)
        else:
            np.testing.assert_array_equal(np.asarray(x), np.asarray(y), err_msg=where)
