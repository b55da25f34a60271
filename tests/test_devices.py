"""The same spikes on 1 and on several devices, bit for bit.

How many devices a CPU has must be said before JAX starts, so the runs are made in a process of
their own, and only compared here.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

COUNTS = (1, 4)  # each compiles anew
SEGMENTS = ((1, 4), (4, 1))  # a state made on so many devices is continued on others
LENGTH = 45
AT_ONCE = ("wide", "few", "drawn", "given", "now", "now, released", "poisson", "drive")


def network(delivery=None, *, at_once=False):
    """Sizes: more than a tile but no multiple of it, fewer than devices hold, and one cell.

    With `at_once` some spikes arrive in the step in which they are fired, and what has nothing to
    do with them is left out, since it compiles long."""
    import jax

    import jsnn
    from jsnn.connect import AllToAll, FixedIndegree, Pairs
    from jsnn.distributions import Normal, Uniform
    from jsnn.inputs import NoiseCurrent, Poisson, SpikeList, StepCurrent
    from jsnn.neurons import LIF
    from jsnn.receptors import Delta, Exponential
    from jsnn.release import Tsodyks, TsodyksMarkram

    rng = np.random.default_rng(1)
    n = 300
    populations = {
        "wide": jsnn.Population(
            LIF(tau_m=np.linspace(9, 12, n), i_e=400.0, t_ref=np.resize([0.5, 1.0], n)),
            n,
            {"exc": Exponential(np.linspace(1, 3, n)), "inh": Exponential(5.0)},
            slices={"exc": slice(0, 219), "inh": slice(219, n)},
            initial={"v": Uniform(-70.0, -55.0)},
        ),
        "few": jsnn.Population(LIF(i_e=350.0), 10, {"x": Delta()}),
        "one": jsnn.Population(
            LIF(i_e=200.0), 1, {"g": Exponential(5.0, e_rev=0.0)}, initial={"v": -58.0}
        ),
    }
    edges = Pairs(rng.integers(0, 10, 900), rng.integers(0, n, 900))
    projections = {
        "drawn": jsnn.Projection(
            "wide.exc",
            "wide",
            FixedIndegree(30),
            weight=Normal(30.0, 10.0),
            delay=Uniform(0.8, 2.5),
            receptor="exc",
        ),
        "scalar": jsnn.Projection(
            "wide.inh", "wide.exc", FixedIndegree(20), weight=-40.0, delay=1.5, receptor="inh"
        ),
        "given": jsnn.Projection(
            "few",
            "wide",
            edges,
            weight=rng.normal(20, 30, 900),
            delay=rng.integers(5, 20, 900) * 0.1,
            receptor="exc",
        ),
        "narrow": jsnn.Projection("wide.inh", "few", FixedIndegree(8), weight=0.4, delay=0.6),
        "to one": jsnn.Projection("few", "one", AllToAll(), weight=2.0, delay=0.7),
        "source": jsnn.Projection(
            "few",
            "wide",
            FixedIndegree(2),
            weight=40.0,
            delay=0.6,
            receptor="exc",
            release=TsodyksMarkram(0.5, np.linspace(20.0, 90.0, 10), 30.0),
        ),
        "edge": jsnn.Projection(
            "wide.inh",
            "wide",
            FixedIndegree(3),
            weight=-30.0,
            delay=0.8,
            receptor="inh",
            release=Tsodyks(Uniform(0.2, 0.8), tau_fac=20.0),
        ),
    }
    if at_once:
        projections["now"] = jsnn.Projection(
            "wide.inh", "wide", FixedIndegree(4), weight=-20.0, delay=0.0, receptor="inh"
        )
        projections["now, released"] = jsnn.Projection(
            "few",
            "wide",
            FixedIndegree(3),
            weight=Uniform(20.0, 40.0),
            delay=0.0,
            receptor="exc",
            release=TsodyksMarkram(0.5, 50.0, 30.0),
        )
    inputs = {
        "poisson": Poisson("wide.exc", np.linspace(0, 3000, 219), 60.0, "exc"),
        "drive": Poisson("few", lambda t: 4000.0 + 100 * t, 0.6, max_rate=9000.0),
        "single": Poisson("one", 4000.0, 3.0),
        "noise": NoiseCurrent("wide", 50.0, 200.0, interval=0.3),
        "list": SpikeList(
            "wide", rng.integers(1, 90, 700) * 0.1, rng.integers(0, n, 700), 90.0, "inh"
        ),
        "step": StepCurrent("few", [0.5, 3.0], rng.normal(0, 200, (2, 10))),
        "slice": StepCurrent("wide.inh", [2.0, 4.0], rng.normal(0, 300, (2, n - 219))),
    }
    if at_once:
        parts = (populations, projections, inputs)
        populations, projections, inputs = (
            {name: own for name, own in part.items() if name in AT_ONCE} for part in parts
        )
    return jsnn.Network(
        populations, projections, inputs, dt=0.1, key=jax.random.key(3), delivery=delivery
    )


def exchanges():
    from jsnn.exchange import Joint, WaveformRelaxation
    from jsnn.solvers import RK4, Splitting

    return {
        "joint": (Joint(), Splitting((2, 4))),
        "relaxed": (WaveformRelaxation(0.6, 1e-5, 20), RK4(2)),
    }


def coupled(exchange, solver):
    """Cells that fire and are joined within and between populations, in each form of a step."""
    import jax

    import jsnn
    from jsnn.connect import FixedTotalNumber, Pairs
    from jsnn.coupling import GapJunction
    from jsnn.neurons import LIF
    from jsnn.receptors import Alpha

    def cells(n):
        law = LIF(c_m=100.0, i_e=np.linspace(100.0, 300.0, n))
        v = np.linspace(-70.0, -56.0, n)
        return jsnn.Population(law, n, {"x": Alpha(1.0)}, solver=solver, initial={"v": v})

    star = Pairs(np.zeros(299, int), np.arange(1, 300))
    rules = {
        "dense": ("few", "few", FixedTotalNumber(40)),
        "table": ("wide", "wide", FixedTotalNumber(600)),
        "edges": ("wide", "wide", star),
        "between": ("wide", "few", FixedTotalNumber(20)),
    }
    built = jsnn.Network(
        {"wide": cells(300), "few": cells(10)},
        {"p": jsnn.Projection("wide", "few", FixedTotalNumber(500), weight=20.0, delay=0.6)},
        couplings={
            name: GapJunction(pre, post, rule, conductance=0.5)
            for name, (pre, post, rule) in rules.items()
        },
        dt=0.1,
        key=jax.random.key(3),
        exchange=exchange,
    )
    forms = {
        name: (own.ways[0].dense, own.ways[0].table is None)
        for name, own in built.couplings.items()
    }
    assert forms["dense"][0] and forms["table"] == (False, False) and forms["edges"][1]
    return built


def recorders():
    from jsnn.record import Counts, Spikes, States, SynapseStates

    return {
        "wide": Spikes("wide"),
        "inh": Spikes("wide.inh"),
        "few": Spikes("few"),
        "one": Spikes("one"),
        "count": Counts("wide.exc", 1.0),
        "v": States("wide", "v", index=[299, 0, 127, 128, 200], every=0.5),
        "i": States("wide.inh", "exc.i"),
        "v one": States("one", "v"),
        "v few": States("few", "v", index=[9, 3]),
        "x source": SynapseStates("source", "x", index=[0, 7]),
        "r edge": SynapseStates("edge", "r", index=[0, 890, 417], at_spikes=True),
    }


def main(path):
    """Every run, as arrays by "segment devices name"."""
    import jax

    jax.config.update("jax_num_cpu_devices", max(COUNTS))
    import jsnn
    from jsnn.record import Spikes, States

    placed = {1: network()}
    placed |= {count: placed[1].on(count) for count in COUNTS[1:]}
    start = placed[1].init(jax.random.key(4))
    states, made = {}, {}

    of_coupled = {name: Spikes(name) for name in ("wide", "few")}
    of_coupled |= {f"v {name}": States(name, "v") for name in ("wide", "few")}

    def run(segment, count, state, record=None):
        solution = jsnn.simulate(placed[count], state, LENGTH, record or recorders())
        for name, record in solution.records.items():
            own = record.raster if hasattr(record, "raster") else record.values
            made[f"{segment} {count} {name}"] = np.asarray(own)
        for place, leaf in jax.tree.leaves_with_path((solution.state, solution.stats)):
            made[f"{segment} {count} {jax.tree_util.keystr(place)}"] = np.asarray(leaf)
        return solution.state

    for count in COUNTS:
        states[count] = run("first", count, start)
    for before, after in SEGMENTS:
        run("second", after, jax.device_get(states[before]))
    for network_ in placed.values():
        assert jax.tree.all(
            jax.tree.map(np.array_equal, network_.connections(), placed[1].connections())
        )
    assert placed[4].on(1).mesh is None

    record = {name: own for name, own in recorders().items() if name in ("wide", "few", "v", "i")}
    now, summed = (network(own, at_once=True) for own in (None, jsnn.SegmentSum()))
    start = now.init(jax.random.key(4))
    placed |= {count: now.on(count) for count in COUNTS}
    placed |= {"last": now.on(jax.devices()[-1:]), "summed": summed.on(2)}  # one, not the first
    at_end = {name: run("at-once", name, start, record) for name in (*COUNTS, "last", "summed")}
    assert at_end["last"].step.devices() == {jax.devices()[-1]}
    from test_rewire import RECORD, lively

    lists = {"pre": ["exc.half", "inh"], "post": ["exc", "inh"]}
    growing = lively(n={"exc": 300, "inh": 140}, **lists)
    begin = growing.init(jax.random.key(4))
    for count in COUNTS:
        solution = jsnn.simulate(growing.on(count), begin, 700, RECORD)
        for place, leaf in jax.tree.leaves_with_path((solution.state, solution.stats)):
            made[f"growing {count} {jax.tree_util.keystr(place)}"] = np.asarray(leaf)
        for name, record in solution.records.items():
            own = record.raster if hasattr(record, "raster") else record.values
            made[f"growing {count} {name}"] = np.asarray(own)
    changed = growing.connections(solution.state)["grows/exc.half->exc"].pre
    assert not np.array_equal(changed, growing.connections()["grows/exc.half->exc"].pre)
    for segment, how in exchanges().items():
        joined = coupled(*how)
        for count in COUNTS:
            placed[count] = joined.on(count)
            run(segment, count, joined.init(jax.random.key(4)), of_coupled)
    np.savez(path, **made)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    path = tmp_path_factory.mktemp("devices") / "runs.npz"
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(path))


def names(runs, segment):
    return sorted(key.split(" ", 2)[2] for key in runs if key.startswith(f"{segment} 1 "))


def test_everything_fires(runs):
    for name in ("wide", "inh", "few", "one"):
        assert runs[f"first 1 {name}"].any() and not runs[f"first 1 {name}"].all()
    assert runs["first 1 wide"].sum() > 50
    assert runs["first 1 count"].sum() == runs["first 1 wide"][:, :219].sum()


@pytest.mark.parametrize("count", COUNTS[1:])
def test_any_number_of_devices_gives_the_same_bits(runs, count):
    for name in names(runs, "first"):
        one, several = runs[f"first 1 {name}"], runs[f"first {count} {name}"]
        assert one.dtype == several.dtype and one.shape == several.shape, name
        np.testing.assert_array_equal(one, several, err_msg=name)


@pytest.mark.parametrize("count", COUNTS[1:])
def test_a_run_can_go_on_with_other_devices(runs, count):
    for name in names(runs, "second"):
        np.testing.assert_array_equal(
            runs[f"second 1 {name}"], runs[f"second {count} {name}"], err_msg=name
        )


@pytest.mark.parametrize("count", [*COUNTS[1:], "last"])
def test_spikes_that_arrive_at_once(runs, count):
    from helpers import ONE_ROUNDING

    assert runs["at-once 1 few"].any() and runs["at-once 1 wide"].sum() > 50
    assert not np.array_equal(runs["at-once 1 wide"], runs["first 1 wide"])
    for name in names(runs, "at-once"):
        one, several = runs[f"at-once 1 {name}"], runs[f"at-once {count} {name}"]
        if ONE_ROUNDING or not np.issubdtype(one.dtype, np.floating):
            np.testing.assert_array_equal(one, several, err_msg=name)
        else:
            np.testing.assert_allclose(one, several, 2e-6, 1e-6, err_msg=name)


def test_what_grows_grows_the_same(runs):
    assert runs["growing 1 spikes"].sum() > 50
    for name in names(runs, "growing"):
        one, several = (runs[f"growing {count} {name}"] for count in COUNTS)
        np.testing.assert_array_equal(one, several, err_msg=name)


def test_segment_sum_gives_the_same_spikes(runs):
    for name in ("wide", "few"):
        np.testing.assert_array_equal(runs[f"at-once 1 {name}"], runs[f"at-once summed {name}"])


@pytest.mark.parametrize("segment", ["joint", "relaxed"])
def test_coupled_cells(runs, segment):
    """Sums over partners may round apart, since each device makes its own product."""
    for name in ("wide", "few"):
        assert runs[f"{segment} 1 {name}"].sum() > 3
    assert len(names(runs, segment)) > 4
    for name in names(runs, segment):
        one, several = (runs[f"{segment} {count} {name}"] for count in COUNTS)
        if np.issubdtype(one.dtype, np.floating):
            np.testing.assert_allclose(one, several, rtol=1e-6, atol=1e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(one, several, err_msg=name)


def test_more_devices_than_there_are():
    with pytest.raises(ValueError, match=r"devices=999.*jax_num_cpu_devices"):
        network().on(999)


if __name__ == "__main__":
    main(sys.argv[1])
