"""What the benchmarks against a peer share: runs in processes of their own, and their ratios."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "reference"))


def example(name, seed, *options):
    """The numbers of a run of an example, and `all_s`, the time of the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "numbers.json"
        command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--json", str(out)]
        start = time.perf_counter()
        subprocess.run(
            [*command, "--seed", str(seed), *map(str, options)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return {**json.loads(out.read_text()), "all_s": time.perf_counter() - start}


def peer(script, *options, python=sys.executable):
    """The numbers that a script of the peer prints as its last line, and `all_s`."""
    start = time.perf_counter()
    command = [python, str(script), *map(str, options)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "all_s": time.perf_counter() - start}


def show(name, numbers):
    rates = " ".join(f"{k} {v:.2f} Hz" for k, v in numbers["rates"].items())
    memory = numbers.get("peak_memory_mb", 0)
    print(
        f"{name:13} build {numbers.get('build_s', 0):6.2f} s  "
        f"compile {numbers.get('compile_s', 0):6.2f} s  run {numbers['run_s']:7.3f} s  "
        f"all {numbers['all_s']:6.2f} s  memory {memory:5.0f} MB  {rates}",
        flush=True,
    )


def ratio(what, slower, faster):
    """By how much `what`, or a sum of several, is larger: in the median, and turn by turn."""
    names = (what,) if isinstance(what, str) else what
    total = lambda numbers: sum(numbers.get(name, 0) for name in names)  # noqa: E731
    found = [total(a) / total(b) for a, b in zip(slower, faster, strict=True)]
    listed = ", ".join(f"{own:.2f}" for own in found)
    return f"median {statistics.median(found):6.2f}  ({listed})"
