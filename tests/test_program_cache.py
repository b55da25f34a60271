"""The folder in which the tests' compiled programs are kept."""

import os
import subprocess
import sys
import time
from pathlib import Path

import program_cache
import pytest


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("JSNN_TEST_CACHE", str(tmp_path / "programs"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    return tmp_path / "programs"


def test_another_machine_or_jaxlib_has_another_folder(root, monkeypatch):
    mine = program_cache.folder()
    assert mine.parent == root and mine == program_cache.folder()
    monkeypatch.setattr(program_cache, "version", lambda name: "0.0")
    older = program_cache.folder()
    monkeypatch.setattr(program_cache.platform, "machine", lambda: "abacus")
    assert len({mine, older, program_cache.folder()}) == 3


def test_the_features_of_the_cpu_are_told():
    if Path("/proc/cpuinfo").exists():
        assert any(line.startswith(("flags", "Features")) for line in told())


def told():
    return program_cache.machine().splitlines()


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("JSNN_TEST_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert program_cache.folder().parent == tmp_path / "jsnn-tests"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert program_cache.folder().parent == Path.home() / ".cache" / "jsnn-tests"
    monkeypatch.setenv("JSNN_TEST_CACHE", "")
    assert program_cache.folder() is None
    program_cache.prune()


def test_what_cannot_be_written_is_not_kept(root, monkeypatch):
    root.write_text("a file")
    program_cache.keep_programs()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    program_cache.prune()


def test_the_oldest_go_and_nothing_else(root):
    mine, other = program_cache.folder(), root / "0123456789abcdef"
    foreign = root / "letters" / "a-cache"
    for path, size, age in (
        (mine / "new-cache", 10, 1),
        (mine / "used-cache", 10, 2),
        (other / "old-cache", 10, 3),
        (mine / "begun-cache", 0, 0),
        (mine / "notes.txt", 50, 9),
        (mine / "folder-cache" / "inside", 50, 9),
        (foreign, 50, 9),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
        os.utime(path, (time.time() - age, time.time() - (9 if "used" in path.name else age)))
    program_cache.prune(25)
    left = {path.name for path in root.glob("*/*")}
    assert left == {"new-cache", "used-cache", "notes.txt", "folder-cache", "a-cache"}


def test_where_nothing_may_be_removed(root, monkeypatch):
    begun = program_cache.folder() / "begun-cache"
    begun.parent.mkdir(parents=True)
    begun.touch()

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(Path, "unlink", refuse)
    program_cache.prune()
    assert begun.exists()


PROGRAM = """
import program_cache
program_cache.keep_programs()
import jax
found = []
jax.monitoring.register_event_listener(lambda name, **_: found.append(name))
made = jax.jit(lambda x: x * 2.5 + 1)(4.0)
assert made == 11, made
print(found.count("/jax/compilation_cache/cache_hits") > 0)
"""


def test_programs_are_loaded_and_compiled_anew_where_they_are_damaged(root):
    def loads():
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip() == "True"

    assert not loads() and loads()
    for file in root.glob("*/*"):
        file.write_bytes(file.read_bytes()[:20])
    assert not loads()
