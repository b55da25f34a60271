"""Small faults, put into the engine one at a time, and who catches them.

    python tests/mutations.py                        # all, against the three usual selections
    python tests/mutations.py clipped-delay --with "tests/test_delivery.py"
    python tests/mutations.py --list
    python tests/mutations.py --check                # that each can still be put in; no tests

Each fault is put into a copy of this checkout, whose tests then run on that copy. A selection of
tests catches it if one of them fails, or if they take too long. Of the unchanged copy, which runs
first, they have to pass. A fault whose place has changed since is an error: it wants a look.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import program_cache

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = "compiled-programs"
SELECTIONS = (
    "-n 2 tests/test_random_networks.py",
    '-n 2 --dist loadfile -m "not slow" --ignore=tests/test_random_networks.py',
    "-n 2 --dist loadfile -m slow --ignore=tests/test_random_networks.py",
)
CAUGHT = ("failed", "timeout")
_ENDS = {3: "internal error", 4: "wrong arguments", 5: "no tests"}  # of pytest, beside results
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


class Mutation(NamedTuple):
    """In a file of the package, text that stands there once, and what is put in its place."""

    name: str
    about: str
    file: str
    old: str
    new: str

    def put_into(self, package: Path) -> None:
        path = package / self.file
        text = path.read_text()
        if (n := text.count(self.old)) != 1:
            raise ValueError(
                f"{self.name}: its text stands {n} times in jsnn/{self.file}, not once"
            )
        path.write_text(text.replace(self.old, self.new))


MUTATIONS = (
    Mutation(
        "cleared-next-slot",
        "A block of one step takes its slot out of a circular buffer, and clears the next one.",
        "_slots.py",
        "at = _index_after(slot, row)\n",
        "at = _index_after((slot + 1) % buffer.shape[-2], row)\n",
    ),
    Mutation(
        "clipped-delay",
        "Where edges have delays of their own, the largest is taken for the last slot: one less.",
        "_spike_rows.py",
        'slot = now + self.of_edge(edges, "delay", lane, e).astype(jnp.uint32)',
        'slot = now + jnp.minimum(self.of_edge(edges, "delay", lane, e), slots - 1)'
        ".astype(jnp.uint32)",
    ),
    Mutation(
        "adex-keeps-w",
        "The adaptation of an AdEx that an arrival brings over its peak, at the end of a step, "
        "does not jump.",
        "neurons/adex.py",
        'return {"v": v, "w": values["w"] + fired * self.b}',
        'return {**values, "v": v}',
    ),
    Mutation(
        "released-twice",
        "At the end of the list of edges, a row that is read from before its start advances the "
        "releases of the edges there as well.",
        "_rows.py",
        "inside = lanes + (at - start).astype(jnp.uint32) < length",
        "inside = lanes < (end - at).astype(jnp.uint32)",
    ),
    Mutation(
        "last-block-without-gradient",
        "The last block, where it is shorter than others, has no gradient of weights and other "
        "parameters.",
        "_reverse.py",
        "behind = pull(whole, tail, last, behind)",
        "behind = pull(whole, tail, last, behind)[0], behind[1]",
    ),
    Mutation(
        "last-target-of-devices",
        "Divided over devices, the last target cell of a projection loses its edges.",
        "_divide.py",
        "np.clip(d * n_local - first, 0, edges.n_post)",
        "np.clip(d * n_local - first, 0, edges.n_post - 1)",
    ),
    Mutation(
        "adex-hears-after-its-spike",
        "An AdEx that stays at its reset for the rest of the step takes the arrivals at a Delta "
        "receptor that it should lose.",
        "order.py",
        "return frozen if fired is None else frozen | (fired & stays)",
        "return frozen",
    ),
    Mutation(
        "poisson-of-own-cells",
        "Poisson inputs draw by the number of a cell on its device, so that devices draw alike.",
        "inputs/poisson.py",
        "cell_words(key, sent, cells.first, cells.n)",
        "cell_words(key, sent, 0, cells.n)",
    ),
    Mutation(
        "noise-by-blocks",
        "Noise that is held for several steps is drawn anew at the first step of a block.",
        "inputs/currents.py",
        "cell_words(key, since // held, cells.first, cells.n)",
        "cell_words(key, since[0] // held + (since - since[0]) // held, cells.first, cells.n)",
    ),
    Mutation(
        "slow-current-late",
        "A block hears the signals of astrocytes a step late, and so of the largest delay those "
        "that were written over since.",
        "_block.py",
        "_slow.heard(network, state.signals, state.step, room, in_place=takes)",
        "_slow.heard(network, state.signals, state.step - 1, room, in_place=takes)",
    ),
    Mutation(
        "gap-total-of-last",
        "Where several gap junctions, or ways of them, end in a population, its membranes are "
        "pulled by all and held back by the conductances of the last alone.",
        "coupling.py",
        "sums[post] = sums[post] + own.scale * own.total",
        "sums[post] = own.scale * own.total",
    ),
    Mutation(
        "window-beyond-block",
        "Blocks are two steps too long for a window of waveform relaxation that begins in their "
        "last step: what arrives before its end is not there yet.",
        "network.py",
        "self._least_delay - self.exchange.window(self.dt) + 1",
        "self._least_delay - self.exchange.window(self.dt) + 3",
    ),
    Mutation(
        "rewired-since-call",
        "The time to the next update of the structure is counted from the start of a call: of "
        "one that begins between two updates none is in time.",
        "_updates.py",
        "left = interval - carry[0].step % interval",
        "left = interval",
    ),
    Mutation(
        "split-word-lost",
        "Of a word whose spikes two rounds share, those of the second are lost, and others "
        "delivered in their place.",
        "spikes.py",
        "(before + counts > first) & (counts > 0)",
        "(before >= first) & (counts > 0)",
    ),
    Mutation(
        "refractory-after-for-before",
        "In blocks, arrivals without delay are tested against the refractory times after the "
        "step, also in Brian's order, which asks for those before it.",
        "_block.py",
        "*(network, coefficients, state.populations, populations, own_fired, arriving)",
        "*(network, coefficients, populations, populations, own_fired, arriving)",
    ),
    Mutation(
        "sampled-since-call",
        "Rows of a recorder with `every` are taken at multiples counted from the start of a call.",
        "_samples.py",
        "at = (-block.clock[0] - 1) % self.every",
        "at = (-block.offset - 1) % self.every",
    ),
    Mutation(
        "signals-not-restored",
        "A run that goes on from a checkpoint has forgotten what astrocytes had under way.",
        "_run.py",
        "        now, parts = loaded\n",
        "        signals = now.signals\n"
        "        now, parts = loaded\n"
        '        object.__setattr__(now, "signals", signals)\n',
    ),
    Mutation(
        "whole-delay-late",
        "Of an interpolated delay that is a whole number of steps, but for the largest, the spike "
        "arrives in the step after.",
        "delays.py",
        "return before.astype(jnp.int32), steps - before\n",
        "return before.astype(jnp.int32), 1 - (jnp.ceil(steps) - steps)\n",
    ),
    Mutation(
        "grown-under-other-spikes",
        "In a block of several steps calcium takes the spikes of the step before, and in the "
        "first one those of the last.",
        "_block.py",
        "own_bits = {name: bits[name].astype(real_dtype()) for name in growing}",
        "own_bits = {name: jnp.roll(bits[name], 1, 0).astype(real_dtype()) for name in growing}",
    ),
    Mutation(
        "cut-block-clears-whole",
        "A block that is cut short clears the slots of a whole one, with what waits in them.",
        "_block.py",
        "cleared = done if event_driven else length",
        "cleared = room",
    ),
)


class Outcome(NamedTuple):
    """What became of a selection of tests: how it ended, what failed first, and its time (s)."""

    how: str  # "passed", "failed", "timeout" or "error"
    first: str
    seconds: float
    tail: str = ""  # of what it printed

    @property
    def is_caught(self) -> bool:
        return self.how in CAUGHT


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python tests/mutations.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="which faults; all if left out")
    parser.add_argument("--list", action="store_true", help="name them, and do nothing")
    parser.add_argument("--check", action="store_true", help="put each in and import it; no tests")
    parser.add_argument(
        "--with",
        action="append",
        dest="selections",
        metavar="ARGUMENTS",
        help="arguments of pytest, instead of: " + "; ".join(SELECTIONS).replace("%", "%%"),
    )
    parser.add_argument("--timeout", type=float, default=1800.0, help="s for each selection")
    parser.add_argument("--no-baseline", action="store_true", help="trust that all passes without")
    parser.add_argument("--json", type=Path, help="keep what was found")
    given = parser.parse_args()
    known = {own.name: own for own in MUTATIONS}
    if strange := [name for name in given.names if name not in known]:
        parser.error(f"there is no {', '.join(strange)}; --list tells what there is")
    wanted = [known[name] for name in given.names] or list(MUTATIONS)
    if given.list:
        for own in wanted:
            print(f"{own.name:28} jsnn/{own.file}\n    {own.about}")
        return 0
    if given.check:
        return _check(wanted)
    selections = given.selections or list(SELECTIONS)
    if not given.no_baseline and not _passes(selections, given.timeout):
        return 2
    return _all(wanted, selections, given.timeout, given.json)


def _check(wanted: Sequence[Mutation]) -> int:
    failed = 0
    for own in wanted:
        try:
            with copied(own) as folder:
                imported(folder)
        except (ValueError, subprocess.CalledProcessError) as error:
            failed += 1
            print(f"{own.name:28} {getattr(error, 'stderr', None) or error}", flush=True)
        else:
            print(f"{own.name:28} can be put in, and imports", flush=True)
    return 1 if failed else 0


def _passes(selections: Sequence[str], timeout: float) -> bool:
    """Whether all selections pass without a fault; tells what does not."""
    with copied(None) as folder:
        imported(folder)
        for selection in selections:
            made = tested(folder, selection, timeout)
            print(f"{'(none)':28} {_told(made)}  {selection}", flush=True)
            if made.how != "passed":
                print(f"{made.tail}\nerror: {selection!r} does not pass without a fault")
                return False
    return True


def _all(
    wanted: Sequence[Mutation], selections: Sequence[str], timeout: float, out: Path | None
) -> int:
    rows, n_caught, wrong = [], {selection: 0 for selection in selections}, 0
    for own in wanted:
        for selection in selections:
            with copied(own) as folder:  # anew: tests may leave files behind
                imported(folder)
                made = tested(folder, selection, timeout)
            print(f"{own.name:28} {_told(made)}  {selection}", flush=True)
            if made.how == "error":
                wrong += 1
                print(made.tail, flush=True)
            n_caught[selection] += made.is_caught
            rows.append({"mutation": own.name, "selection": selection, **made._asdict()})
            if out is not None:  # what there is, should it be interrupted
                out.write_text(json.dumps(rows, indent=1))
    for selection, n in n_caught.items():
        print(f"{n} of {len(wanted)} caught by {selection}")
    caught = {row["mutation"] for row in rows if row["how"] in CAUGHT}
    nobody = [own.name for own in wanted if own.name not in caught]
    if nobody:
        print(f"caught by nobody: {', '.join(nobody)}")
    return 2 if wrong else 1 if nobody else 0


def _told(made: Outcome) -> str:
    caught = {"passed": "not caught", "failed": "caught", "timeout": "caught (timeout)"}
    return f"{caught.get(made.how, 'ERROR'):16} {made.seconds:6.0f} s  {made.first or '-'}"


@contextmanager
def copied(mutation: Mutation | None) -> Iterator[Path]:
    """A folder with all files of this checkout but ignored ones, and a fault in it."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory(prefix="jsnn-mutation-") as name:
        folder = Path(name).resolve()
        for file in filter(None, os.fsdecode(files).split("\0")):
            if (ROOT / file).is_file():  # else removed, and not committed yet
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, folder / file)
        if mutation is not None:
            mutation.put_into(folder / "jsnn")
        _hand_programs(folder / PROGRAMS)
        yield folder


def _hand_programs(folder: Path) -> None:
    """Those that were compiled without a fault; what a fault changes is not kept."""
    kept = program_cache.folder()
    if kept is None or not kept.is_dir():
        return
    (folder / kept.name).mkdir(parents=True)
    for file in kept.glob("*-cache"):
        try:
            os.link(file, folder / kept.name / file.name)
        except OSError:  # as between file systems
            shutil.copy2(file, folder / kept.name / file.name)


def _surroundings(folder: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "JSNN_TEST_CACHE": str(folder / PROGRAMS)}


def imported(folder: Path) -> None:
    """Raise unless `import jsnn` takes the copy in a folder, and not what is installed."""
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [sys.executable, "-c", "import jsnn; print(jsnn.__file__)"],
            cwd=elsewhere,
            env=_surroundings(folder),
            check=True,
            capture_output=True,
            text=True,
        )
    found = Path(done.stdout.strip()).resolve()
    if not found.is_relative_to(folder):
        raise ValueError(f"jsnn was imported from {found}, and not from {folder}")


def tested(folder: Path, selection: str, timeout: float) -> Outcome:
    """The tests of a selection, run on the copy in a folder."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:  # a pipe would fill up
        process = subprocess.Popen(
            [*command, *shlex.split(selection)],
            cwd=folder,
            env=_surroundings(folder),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
            _end(process)
        except BaseException:  # as Ctrl-C, which does not reach a session of its own
            _end(process)
            raise
        seconds = time.perf_counter() - begun
        out.seek(0)
        text = out.read()
    tail = "\n".join(text.splitlines()[-30:])
    if code is None:
        return Outcome("timeout", f"no end after {timeout:g} s", seconds, tail)
    if code == 0:
        return Outcome("passed", "", seconds, tail)
    first = _FAILED.search(text)
    if code in _ENDS or first is None and code in (1, 2):
        return Outcome("error", _ENDS.get(code, f"ended with {code}"), seconds, tail)
    # Of workers of which one failed, pytest ends with 2; of a crash, with the number of a signal
    return Outcome("failed", first[1] if first else f"ended with {code}", seconds, tail)


def _end(process: subprocess.Popen) -> None:
    """End tests that still run, with their workers and what those have started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
