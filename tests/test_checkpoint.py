"""Folders of checkpoints: killed at any moment, damaged, full, used by others, of another run."""

import contextlib
import functools
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jsnn
from jsnn import _checkpoint, _files
from jsnn._content import digest
from jsnn._interrupts import between_calls
from jsnn.connect import FixedIndegree
from jsnn.inputs import Poisson
from jsnn.neurons import LIF
from jsnn.receptors import Delta
from jsnn.record import Counts, Spikes, States
from jsnn.surrogate import Triangular

pytestmark = pytest.mark.fast

KEY = jax.random.key(3)
# Names that an archive would not take
RECORD = {
    "file": Spikes("cells"),
    "v\0/../v": States("cells", "v", every=0.5),
    "v\0": Counts("cells", 1.0),
}


def built(surrogate=None, weight=0.8):
    cells = jsnn.Population(
        LIF(tau_m=20.0, c_m=1.0, e_l=0.0, v_th=20.0, v_reset=0.0, t_ref=2.0),
        20,
        {"delta": Delta()},
        surrogate=surrogate,
    )
    recurrent = jsnn.Projection("cells", "cells", FixedIndegree(3), weight=weight, delay=1.5)
    noise = Poisson("cells", 9000.0, 0.8)
    return jsnn.Network({"cells": cells}, {"p": recurrent}, {"n": noise}, dt=0.1, key=KEY)


@pytest.fixture(autouse=True)
def _interruptions_are_heard():
    """A shell's background job starts with them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def network():
    return built()


def run(network, folder=None, duration=20.0, **more):
    given = {"key": KEY, "record": RECORD, "progress": False, "segment": 5.0, **more}
    return jsnn.run(network, duration, checkpoint=folder, **given)


def loss(parameters, key):
    noise = 0.1 * jax.random.normal(key)
    return (parameters["a"] - 3.0 + noise) ** 2, {"file": parameters["a"], "a\0/..": noise}


ADAM = optax.adam(0.1)


def fit(folder=None, steps=12, function=loss, **more):
    given = {"optimizer": ADAM, "key": KEY, "progress": False, **more}
    return jsnn.fit(function, {"a": 1.0}, steps=steps, checkpoint=folder, **given)


@pytest.fixture
def short_calls(monkeypatch):
    """A fit that is kept after every third update."""
    monkeypatch.setattr(jsnn._fit, "_CALL_SECONDS", 0.0)
    device = jsnn._fit.updates_from_host

    def three(problem, search, keys, most):
        return device(problem, search, keys, jnp.minimum(3 * most, 12 - int(search.update)))

    monkeypatch.setattr(jsnn._fit, "updates_from_host", three)


@pytest.fixture(scope="module")
def whole(network):
    return run(network)


@pytest.fixture(scope="module")
def whole_fit():
    return fit()


def same(one, other):
    assert isinstance(one, type(other))
    names = ("records", "state") if isinstance(one, jsnn.Solution) else ("best", "last", "history")
    for name in names:
        a, b = getattr(one, name), getattr(other, name)
        jax.tree.map(np.testing.assert_array_equal, a, b)


def snapshots(monkeypatch, folder, to):
    """Copies of a folder as it is at each moment of writing: what a killed process leaves."""
    taken = []

    def copy():
        taken.append(to / str(len(taken)))
        shutil.copytree(folder, taken[-1])
        half = taken[-1].with_name(f"{taken[-1].name}-half")
        for new in taken[-1].glob("*.new"):  # not written to its end
            shutil.copytree(taken[-1], half)
            (half / new.name).write_bytes(new.read_bytes()[: new.stat().st_size // 2])
            taken.append(half)

    def around(call):
        def hooked(*given, **more):
            copy()
            call(*given, **more)
            copy()

        return hooked

    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, around(getattr(os, name)))
    return taken


def test_a_run_killed_at_any_stage_of_writing_goes_on(network, whole, tmp_path, monkeypatch):
    folder, stages = tmp_path / "run", tmp_path / "stages"
    folder.mkdir()
    taken = snapshots(monkeypatch, folder, stages)
    same(run(network, folder), whole)
    monkeypatch.undo()
    assert len(taken) > 40
    left = set()
    for stage in taken:
        resumed = run(network, stage)
        same(resumed, whole)
        left.add(resumed.stats["segments"])
        assert not list(stage.glob("*.new")) and not list(stage.glob("*.damaged*"))
    assert left == {0, 1, 2, 3, 4}


def test_a_fit_killed_at_any_stage_of_writing_goes_on(
    whole_fit, tmp_path, monkeypatch, short_calls
):
    folder, stages = tmp_path / "fit", tmp_path / "stages"
    folder.mkdir()
    with monkeypatch.context() as patch:
        taken = snapshots(patch, folder, stages)
        same(fit(folder), whole_fit)
    assert len(taken) > 40
    for stage in taken:
        same(fit(stage), whole_fit)


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "cut": cut,
    "flipped": flipped,
    "empty": lambda _: b"",
    "text": lambda _: b"no such thing",
}
FILES = {  # and where what is left goes on
    "state.npz": "goes on from step 150",
    "state.old.npz": None,  # is looked at only if the other one is damaged
    "records-0000000000.npz": "begins anew",
    "records-0000000150.npz": "goes on from step 150",
}


@pytest.mark.parametrize("kind", [*DAMAGE, "pickle", "missing"])
def test_a_damaged_run_goes_on_from_what_is_whole(network, whole, tmp_path, kind):
    run(network, tmp_path / "whole")
    for name, onwards in FILES.items():
        folder = tmp_path / name
        shutil.copytree(tmp_path / "whole", folder)
        file, before = folder / name, b""
        if kind == "missing":
            file.unlink()
            if name == "state.npz":  # as if it had been killed between two of its moves
                onwards = None
        elif kind == "pickle":
            np.savez(file, leaf_0=np.array([{"a": Path}], dtype=object))
        else:
            file.write_bytes(DAMAGE[kind](file.read_bytes()))
        if onwards is None:
            same(run(network, folder), whole)
            continue
        before = file.read_bytes() if file.exists() else None
        message = f"{name} \\((damaged|missing)\\); .* {onwards}"
        with pytest.warns(UserWarning, match=message) as told:
            same(run(network, folder), whole)
        assert len(told) == 1
        aside = [own.read_bytes() for own in folder.glob(f"{name}.damaged*")]
        assert aside == ([] if before is None else [before])
        same(run(network, folder), whole)  # without a further word
        assert len(list(folder.glob("*.damaged*"))) >= len(aside)


def test_what_is_beside_both_damaged_states_is_kept(network, whole, tmp_path):
    """It may be of any run."""
    run(network, tmp_path)
    records = {own.name: own.read_bytes() for own in tmp_path.glob("records-*")}
    for name in ("state.npz", "state.old.npz"):
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"state.npz \(damaged\), state.old.npz \(damaged\)"):
        same(run(network, tmp_path), whole)
    for name, content in records.items():
        assert (tmp_path / f"{name}.damaged").read_bytes() == content


def test_a_damaged_fit_goes_on_from_what_is_whole(whole_fit, tmp_path, short_calls):
    fit(tmp_path / "whole")
    for name, onwards in {
        "state.npz": "goes on from step 9",
        "records-0000000000.npz": "begins anew",
    }.items():
        folder = tmp_path / name
        shutil.copytree(tmp_path / "whole", folder)
        (folder / name).write_bytes(flipped((folder / name).read_bytes()))
        with pytest.warns(UserWarning, match=rf"{name} \(damaged\); .* {onwards}"):
            same(fit(folder), whole_fit)


HOLDER = """
import sys, time
from pathlib import Path
from jsnn._files import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_process_at_a_time(network, whole, tmp_path):
    """Another one is told who has the folder; one that was killed has it no more."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        who = f"in use by process {holder.pid} on {re.escape(socket.gethostname())} since 20..-"
        for call in (lambda: run(network, tmp_path), lambda: fit(tmp_path)):
            with pytest.raises(ValueError, match=f"checkpoint=.*{who}"):
                call()
        assert [own.name for own in tmp_path.iterdir()] == [_files.NAME]
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    same(run(network, tmp_path), whole)


def test_one_thread_at_a_time(network, whole, tmp_path):
    """Nor does a child that a process left behind have the folder."""
    with _files.Lock(tmp_path):
        told = []

        def other():
            try:
                run(network, tmp_path)
            except ValueError as error:
                told.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(told) == 1 and f"in use by process {os.getpid()} on" in told[0]
    with warnings.catch_warnings():  # of JAX, about forks: this child does nothing
        warnings.simplefilter("ignore")
        held = _files.Lock(tmp_path)
        held.__enter__()
        child = os.fork()
        if not child:
            signal.pause()
            os._exit(0)
    try:
        held.close()
        same(run(network, tmp_path), whole)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_file_system_without_locks_is_told(network, whole, tmp_path, monkeypatch):
    def none(file):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(_files, "_lock", none)
    with pytest.warns(UserWarning, match="no locks .No locks available.: see to it that one"):
        same(run(network, tmp_path), whole)


def test_a_folder_that_is_let_go_after_an_error(network, whole, tmp_path):
    with pytest.raises(ValueError, match="beyond the end"):
        run(network, tmp_path), run(network, tmp_path, 10.0)
    same(run(network, tmp_path), whole)


def test_foreign_files_are_left_alone(network, whole, tmp_path):
    names = [f"{letter}.txt" for letter in "abcdefg"]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / "records-1.npz").write_text("mine")
    (tmp_path / ".hidden").write_text("mine")
    (tmp_path / "lock").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.warns(UserWarning, match=r"holds a.txt, .* and 5 more beside the files of") as told:
        same(run(network, tmp_path), whole)
    assert len(told) == 1 and "\n" not in str(told[0].message)
    for name in (*names, "records-1.npz", ".hidden", "lock"):
        assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["state.npz", "records-0000000000.npz", "state.npz.new"])
def test_a_folder_in_the_place_of_a_file_is_told(network, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"holds {name}, a folder where a run keeps a file"):
        run(network, tmp_path)


def test_another_format_is_refused(network, tmp_path):
    np.savez(tmp_path / "state.npz", format=1, fingerprint="abc")
    before = (tmp_path / "state.npz").read_bytes()
    with pytest.raises(ValueError, match=r"state.npz has format 1, this jsnn reads 2; give"):
        run(network, tmp_path)
    assert (tmp_path / "state.npz").read_bytes() == before


@contextlib.contextmanager
def room_for(size):
    """No file may be longer."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def contents(folder):
    return {own.name: own.read_bytes() for own in folder.iterdir() if own.name != _files.NAME}


def test_a_full_disk_names_path_and_bytes(network, whole, whole_fit, tmp_path):
    run(network, tmp_path / "run", 10.0)
    fit(tmp_path / "fit", 7)
    for folder, call, wanted in (
        (tmp_path / "run", lambda: run(network, tmp_path / "run"), whole),
        (tmp_path / "fit", lambda: fit(tmp_path / "fit"), whole_fit),
    ):
        before = contents(folder)
        # Too little for the records, and then for the state
        state = (folder / "state.npz").stat().st_size
        for size, what in ((300, r"records-\d{10}"), (state - 1000, "state")):
            with (
                room_for(size),
                pytest.raises(OSError, match=rf"{what}.npz, [\d,]+ bytes: ") as told,
            ):
                call()
            assert str(folder) in str(told.value) and "File too large" in str(told.value)
            after = contents(folder)
            assert before == {name: after[name] for name in before}
            assert not [name for name in after if name.endswith(".new")]
        same(call(), wanted)


def interrupted(call, seconds):
    """Whether a call was interrupted, as by Ctrl-C, so many seconds after its beginning."""
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        call()
    except KeyboardInterrupt:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return False


def test_ctrl_c_at_any_moment_does_no_harm(network, whole, whole_fit, tmp_path, short_calls):
    """In short segments: while tracing, running or writing."""
    found = []
    short = functools.partial(run, network, segment=0.9)
    for i, seconds in enumerate(np.geomspace(1e-3, 0.1, 7)):
        found.append(interrupted(lambda i=i: short(tmp_path / f"run {i}"), seconds))
        same(short(tmp_path / f"run {i}"), whole)
        found.append(interrupted(lambda i=i: fit(tmp_path / f"fit {i}"), seconds / 4))
        same(fit(tmp_path / f"fit {i}"), whole_fit)
    assert sum(found) >= 4


def test_ctrl_c_while_compiling(tmp_path):
    """Of a network that was never compiled: it takes effect, and the same call goes on."""
    cells = jsnn.Population(LIF(i_e=500.0), 7, {"delta": Delta()})
    network = jsnn.Network({"cells": cells}, dt=0.2)
    record = {"spikes": Spikes("cells")}
    call = functools.partial(run, network, tmp_path, record=record, segment=10.0)
    assert interrupted(call, 0.1)
    assert len(call().records["spikes"].index) == 7


def test_ctrl_c_in_a_sweep_waits_for_a_batch():
    """And leaves JAX as it was; handlers of a user's own are not touched."""

    def slow(x):
        signal.raise_signal(signal.SIGINT)  # while it is traced
        return jnp.sin(x)

    with pytest.raises(KeyboardInterrupt):
        jsnn.sweep(slow, {"x": [0.0, 1.0]}, progress=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    seen = []
    signal.signal(signal.SIGINT, lambda *given: seen.append(given))
    try:
        found = jsnn.sweep(slow, {"x": [0.0, 1.0]}, progress=False)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen and found.values.shape == (2,)


def test_a_second_ctrl_c_does_not_wait():
    @between_calls
    def stubborn():
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        raise AssertionError("it went on")

    with pytest.raises(KeyboardInterrupt):
        stubborn()


class Mine(Triangular):
    """A surrogate of a user's own."""

    def slope(self, x):
        return FACTOR * super().slope(x)


FACTOR = 2.0


def differing(folder, network, **more):
    with pytest.raises(ValueError, match="is of another run, which differs in ") as told:
        run(network, folder, **more)
    return re.search("differs in (.*); give another", str(told.value)).group(1)


def test_what_differs_is_named(network, tmp_path, monkeypatch):
    run(network, tmp_path)
    weight = eqx.tree_at(lambda n: n.synapses["p"].weight, network, jnp.asarray(0.9))
    assert differing(tmp_path, weight) == "network.synapses['p'].weight"
    tau = eqx.tree_at(lambda n: n.populations["cells"].neuron.tau_m, network, jnp.asarray(9.0))
    assert differing(tmp_path, tau) == "network.populations['cells'].neuron.tau_m"
    assert differing(tmp_path, network, key=jax.random.key(4)) == "key"
    assert differing(tmp_path, network, record={}) == ", ".join(f"record[{n!r}]" for n in RECORD)
    other = jsnn.Network(network.populations, dt=0.25)
    assert "dt (0.1 there, 0.25 here)" in differing(tmp_path, other)
    edges = built(weight=0.8)
    moved = edges.synapses["p"].edges
    names = differing(
        tmp_path,
        eqx.tree_at(
            lambda n: n.synapses["p"].edges,
            edges,
            jax.tree.map(lambda x: x[::-1] if x.ndim else x, moved),
        ),
    )
    assert names.startswith("network.synapses['p'].edges")
    monkeypatch.setattr(jax, "__version__", "9.9")
    assert re.fullmatch(r"version of jax \(\S+ there, 9.9 here\)", differing(tmp_path, network))
    monkeypatch.undo()
    monkeypatch.setattr(_checkpoint, "_version_of_jsnn", lambda: "0.0.9")
    assert "version of jsnn (" in differing(tmp_path, network)


def test_a_users_own_code_counts(tmp_path, monkeypatch):
    run(built(Mine(1.0)), tmp_path)
    run(built(Mine(1.0)), tmp_path)
    assert differing(tmp_path, built(Mine(2.0))).endswith("surrogate.width")
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    assert differing(tmp_path, built(Mine(1.0))).endswith("surrogate")


SOURCE = """
class Law:
    scale = 1.0
    def __init__(self, a):
        self.a, self.seen = a, {{1, 2, "x"}}
    def draw(self, key, shape):
        return SHIFT + self.a * {factor}
SHIFT = {shift}
value = {value}
"""
VALUES = {
    "object": "Law({a})",
    "function": "lambda x, b={a}: Law(x).draw(None, b)",
    "closure": "(lambda c: lambda x: x * c + SHIFT)({a})",
    "partial": "__import__('functools').partial(Law, {a})",
    "method": "Law({a}).draw",
    "class": "type('Sub', (Law,), {{'b': {a}}})",
}


def made(name, factor=2.0, shift=0.5, a=1.0):
    space = {"__name__": "users_module"}
    value = VALUES[name].format(a=a)
    exec(SOURCE.format(factor=factor, shift=shift, value=value), space)
    return digest(space["value"])


@pytest.mark.parametrize("name", VALUES)
def test_digests_are_of_content(name):
    """The same for the same code at another place in memory; other for other numbers in it."""
    assert made(name) == made(name)
    assert made(name) != made(name, a=1.5)
    if name != "partial":  # and "class": the variables of methods
        assert made(name) != made(name, shift=0.6)
    if name != "closure":
        assert made(name) != made(name, factor=2.5)


def test_digests_are_those_of_other_processes():
    """Where sets have other orders, and objects other addresses."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import test_checkpoint as t\n"
    script += "print(*[t.made(name) for name in t.VALUES])"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(Path(__file__).parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [made(name) for name in VALUES]


def test_digests_tell_arrays_apart():
    wanted = np.arange(6, dtype=np.float32)
    same_ones = [wanted, jnp.asarray(wanted), np.arange(12, dtype=np.float32)[::2] / 2]
    assert len({digest(own) for own in same_ones}) == 1
    others = [wanted.astype(np.float64), wanted.reshape(2, 3), wanted.reshape(3, 2), wanted[::-1]]
    others += [np.asarray(True), np.asarray(1), 1, 1.0, "1", b"1", None, (1,), [1], {1: 1}, {1}]
    others += [jax.random.key(1), jax.random.key(2), jnp.ones(2, jnp.bfloat16), jnp.ones(2)]
    assert len({digest(own) for own in [wanted, *others]}) == len(others) + 1
