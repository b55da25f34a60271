"""Where the tests' time goes: `python tests/suite_profile.py [arguments of pytest]`.

Runs pytest (by default as README does) and prints, by file and by test, seconds of wall and of CPU
(those of processes that a test starts among them), how many programs XLA compiled in how many
seconds and how many came from the compilation cache, the tracing and lowering before it, and which
programs took longest and were compiled more than once. `--profile-json FILE` keeps all of it,
`--profile-top N` says how many lines, and `--profile-keep` (of a run of all tests, `-m ""`) has
conftest.py order files by the seconds that were found. As a plugin: `pytest -p suite_profile`, with
this folder on the Python path.
"""

import argparse
import collections
import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

SECONDS = {
    "/jax/core/compile/backend_compile_duration": "compile_s",
    "/jax/core/compile/jaxpr_trace_duration": "trace_s",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower_s",
    "/jax/compilation_cache/cache_retrieval_time_sec": "load_s",
}
MISS = re.compile(r"cache miss for '(?P<name>[^']*)' with key '(?P<key>[^']*)'", re.IGNORECASE)


class _Meter(logging.Handler):
    """What the process has spent since it began; programs by their keys in the cache."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.totals = collections.Counter()
        self.missed, self.compiled = [], []

    def listen(self):
        import jax

        jax.monitoring.register_event_duration_secs_listener(self._duration)
        jax.monitoring.register_event_listener(self._event)
        for name in ("jax._src.compiler", "jax._src.compilation_cache"):
            logger = logging.getLogger(name)
            logger.setLevel(logging.DEBUG)
            logger.propagate = False
            logger.addHandler(self)

    def _duration(self, event, duration, **_):
        if event in SECONDS:
            self.totals[SECONDS[event]] += duration
        if SECONDS.get(event) == "compile_s":  # recorded of those from the cache as well
            self.totals["programs"] += 1
            if self.missed:
                self.compiled.append((self.missed.pop(), round(duration, 3)))

    def _event(self, event, **_):
        self.totals["loaded"] += event == "/jax/compilation_cache/cache_hits"

    def emit(self, record):
        found = MISS.search(record.getMessage())
        if found:
            self.missed.append(found["key"])

    def reading(self):
        used = os.times()
        return dict(
            self.totals,
            wall_s=time.perf_counter(),
            cpu_s=used.user + used.system + used.children_user + used.children_system,
        )


_meter = _Meter()


def pytest_addoption(parser):
    parser.addoption("--profile-json", help="keep the profile of every test in this file")
    parser.addoption("--profile-keep", action="store_true", help="order files by these seconds")
    parser.addoption("--profile-top", type=int, default=25, help="how many lines of each table")


def pytest_configure(config):
    if not hasattr(config, "workerinput") and getattr(config.option, "numprocesses", None):
        config.pluginmanager.register(_Tables(config), "suite-profile-tables")
        return
    _meter.listen()
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Tables(config), "suite-profile-tables")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    before, seen = _meter.reading(), len(_meter.compiled)
    item.stash[_BEFORE] = before, seen
    return (yield)


_BEFORE = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    if call.when == "teardown":  # by now all but the end of its own fixtures is done
        before, seen = item.stash[_BEFORE]
        after = _meter.reading()
        spent = {name: round(own - before.get(name, 0), 3) for name, own in after.items()}
        item.user_properties.append(("profile", spent))
        item.user_properties.append(("compiled", _meter.compiled[seen:]))
    return (yield)


class _Tables:
    """Collects the tests' readings, from all workers, and prints them at the end."""

    def __init__(self, config):
        self.file, self.top = config.option.profile_json, config.option.profile_top
        self.is_kept = config.option.profile_keep
        self.tests = []
        self.begun = time.perf_counter()

    def pytest_runtest_logreport(self, report):
        if report.when == "teardown":
            properties = dict(report.user_properties)
            if "profile" in properties:
                worker = getattr(getattr(report, "node", None), "gateway", None)
                self.tests.append(
                    {
                        "test": report.nodeid,
                        "worker": worker.id if worker else "main",
                        "ended_s": round(time.perf_counter() - self.begun, 2),
                        **properties["profile"],
                        "compiled": properties["compiled"],
                    }
                )

    def pytest_terminal_summary(self, terminalreporter):
        write = terminalreporter.write_line
        if self.file:
            Path(self.file).write_text(json.dumps(self.tests))
        files = collections.defaultdict(collections.Counter)
        for test in self.tests:
            for name, own in test.items():
                if isinstance(own, int | float) and name != "ended_s":
                    files[test["test"].partition("::")[0]][name] += own
        if self.is_kept:
            _keep({Path(name).name: round(own["cpu_s"], 1) for name, own in files.items()})
        everything = sum(files.values(), collections.Counter())
        rows = [("all tests", everything), *files.items()]
        _table(write, "By file", rows, len(rows))
        _table(write, "By test", [(own["test"], own) for own in self.tests], self.top)
        programs = collections.defaultdict(list)
        for own in self.tests:
            for key, seconds in own["compiled"]:
                programs[key].append((seconds, own["test"]))
        total = sum(map(len, programs.values()))
        again = sum(seconds for own in programs.values() for seconds, _ in own[1:])
        write(f"\n{total} programs compiled, {len(programs)} different ones; others: {again:.0f} s")
        for key, own in sorted(programs.items(), key=lambda item: -sum(s for s, _ in item[1])):
            if self.top > 0:
                name, _, code = key.rpartition("-")
                times = " ".join(f"{seconds:.1f}" for seconds, _ in own[:6])
                write(
                    f"{times:>24} s  {name[:24]} {code[:8]} {own[0][1].removeprefix('tests/')[:60]}"
                )
            self.top -= 1
        ends = collections.defaultdict(float)
        for own in self.tests:
            ends[own["worker"]] = max(ends[own["worker"]], own["ended_s"])
        write("\nworkers ended at " + ", ".join(f"{k} {v:.0f} s" for k, v in sorted(ends.items())))


def _keep(seconds):
    path = Path(__file__).with_name("file_seconds.json")
    known = json.loads(path.read_text()) | seconds
    known = {name: own for name, own in known.items() if path.with_name(name).exists()}
    ordered = sorted(known.items(), key=lambda item: (-item[1], item[0]))
    path.write_text(json.dumps(dict(ordered), indent=1) + "\n")


COLUMNS = ("wall_s", "cpu_s", "compile_s", "trace_s", "lower_s", "programs", "loaded")


def _table(write, title, rows, top):
    write(f"\n{title:60}" + "".join(f"{name:>10}" for name in COLUMNS))
    rows = sorted(rows, key=lambda row: -row[1].get("cpu_s", 0))
    for name, own in rows[:top]:
        numbers = "".join(
            f"{own.get(c, 0):10.0f}" if c in ("programs", "loaded") else f"{own.get(c, 0):10.1f}"
            for c in COLUMNS
        )
        write(f"{name.removeprefix('tests/')[:60]:60}" + numbers)


def main():
    here = Path(__file__).resolve().parent
    path = os.pathsep.join(filter(None, (str(here), os.environ.get("PYTHONPATH"))))
    known = argparse.ArgumentParser(add_help=False)
    pytest_addoption(argparse.Namespace(addoption=known.add_argument))
    _, others = known.parse_known_args()
    given = sys.argv[1:] if others else ["-n", "2", "--dist", "loadfile", *sys.argv[1:]]
    command = [sys.executable, "-m", "pytest", "-p", "suite_profile", *given]
    return subprocess.run(
        command, cwd=here.parent, env=os.environ | {"PYTHONPATH": path}
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
