"""Random networks, each run in every way that must agree: `python tests/at_random --help`.

python tests/at_random                            # 60 structures, 34 draws of each
python tests/at_random --structures 3,17 --draws 5
python tests/at_random --structures 17 --draw 4   # one of them, as a failure names it
python tests/at_random --structures 17 --draw 4 --shrink
python tests/at_random --show 17                  # the lines that build it
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

WAYS = ("cut", "resumed", "two devices", "SegmentSum", "Network.step", "a batch", "gradient")
HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python tests/at_random",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--structures", default="0:60", help="numbers: 3,17 or 0:60")
    parser.add_argument("--draws", type=int, default=34, help="how many of each structure")
    parser.add_argument("--draw", type=int, help="only this one")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--batch", type=int, default=1, help="structures a process")
    parser.add_argument("--seconds", type=float, help="begin no draw but a first one after so long")
    parser.add_argument("--only", help="some ways, as 'two devices,gradient'")
    parser.add_argument("--json", type=Path, help="keep what was found of every draw")
    parser.add_argument("--shrink", action="store_true", help="cut a failing network down")
    parser.add_argument("--show", type=int, help="the lines that build a structure")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.show is not None:
        from structure import structure

        if given.show < 0:
            parser.error(f"--show {given.show}: at least 0")
        print(structure(given.show))
        return 0
    low, colon, high = given.structures.partition(":")
    try:
        numbers = list(range(int(low), int(high))) if colon else _listed(given.structures)
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0:
        parser.error(f"--structures {given.structures}: give numbers, as 3,17 or 0:60")
    for name, least in (("draws", 1), ("jobs", 1), ("batch", 1), ("draw", 0), ("seconds", 0)):
        value = getattr(given, name)
        if value is not None and value < least:
            parser.error(f"--{name} {value}: at least {least}")
    if given.shrink and len(numbers) > 1:
        parser.error("--shrink: give one of --structures, and --draw")
    if others := set((given.only or WAYS[0]).split(",")) - set(WAYS):
        parser.error(f"--only {', '.join(sorted(others))}: ways are {', '.join(WAYS)}")
    if given.worker:
        return _work(numbers, given)
    sys.path.insert(0, str(HERE.parent))
    import program_cache

    program_cache.keep_programs()
    if given.shrink:
        return _shrink(numbers[0], given.draw or 0, given.only)
    return _all(numbers, given)


def _listed(text: str) -> list[int]:
    return [int(own) for own in text.split(",")]


def _work(numbers: list[int], given: argparse.Namespace) -> int:
    """In a process of its own: a line of JSON for each draw."""
    _two_devices()
    from draws import draws

    until = float("inf") if given.seconds is None else time.time() + given.seconds
    wanted = list(range(given.draws)) if given.draw is None else [given.draw]
    for number in numbers:
        try:
            for own in draws(number, wanted, given.only, until):
                print(json.dumps(own), flush=True)
        except Exception as error:
            print(json.dumps(_broken(number, f"{type(error).__name__}: {error}")), flush=True)
    return 0


def _two_devices() -> None:
    """Before JAX starts."""
    import jax

    jax.config.update("jax_num_cpu_devices", 2)


def _broken(number: int, why: str) -> dict[str, Any]:
    none = {"draw": -1, "spikes": 0, "delivered": 0, "counts": False, "programs": 0}
    return {"structure": number, **none, "seconds": 0, "features": [], "found": [why]}


def _all(numbers: list[int], given: argparse.Namespace) -> int:
    from table import table

    batches = [numbers[k : k + given.batch] for k in range(0, len(numbers), given.batch)]
    done: list[dict[str, Any]] = []
    begun = time.time()

    def run(batch: list[int]) -> None:
        command = [sys.executable, str(HERE), "--worker", "--draws", str(given.draws)]
        command += ["--structures", ",".join(map(str, batch))]
        if given.draw is not None:
            command += ["--draw", str(given.draw)]
        if given.only:
            command += ["--only", given.only]
        if given.seconds is not None:
            left = given.seconds - (time.time() - begun)
            command += ["--seconds", str(max(left, 0.1))]
        path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
        process = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        lines = [json.loads(line) for line in process.stdout.splitlines() if line[:1] == "{"]
        done_of = Counter(own["structure"] for own in lines)
        missing = [number for number in batch if not done_of[number]]
        if process.returncode or missing:
            last = lines[-1]["structure"] if lines else batch[0]
            wanted = given.draws if given.draw is None else 1
            under_way = last if done_of[last] < wanted or not missing else missing[0]
            why = f"ended with {process.returncode}: {process.stderr[-2000:]}"
            lines.append(_broken(under_way, why))
            lines += [_broken(number, "not run") for number in missing if number != under_way]
        for own in lines:
            for what in own["found"]:
                print(f"structure {own['structure']} draw {own['draw']}: {what}", flush=True)
        done.extend(lines)

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(run, batches))
    if given.json:
        given.json.write_text(json.dumps(done))
    failed = [own for own in done if own["found"]]
    counted = sum(own["counts"] for own in done)
    print(table(done))
    print(
        f"{len(done)} draws of {len({own['structure'] for own in done})} structures, {counted} of "
        f"which delivered enough spikes to count; {len(failed)} with violations; "
        f"{time.time() - begun:.0f} s"
    )
    for own in failed[:5]:
        draw = f"--draw {own['draw']} [--shrink]" if own["draw"] >= 0 else f"--draws {given.draws}"
        print(f"  python tests/at_random --structures {own['structure']} {draw}")
    return 1 if failed else 0


def _shrink(number: int, draw: int, only: str | None) -> int:
    _two_devices()
    sys.path.insert(0, str(HERE.parents[1]))
    from draws import draws
    from shrink import shrunk
    from structure import Structure, structure

    def violations(made: Structure) -> list[str]:
        try:
            *_, last = draws(made, [0, draw] if draw else [0], only)  # the second compiles nothing
            return last["found"]
        except Exception as error:  # in building it
            return [f"building: {type(error).__name__}: {error}"]

    whole = violations(structure(number))
    if not whole:
        print(f"structure {number} draw {draw}: nothing found")
        return 0
    print(*whole, sep="\n")
    kind = _kind(whole[0])
    only = next((way for way in WAYS if kind[0].startswith(way)), only)
    left = shrunk(structure(number), lambda own: kind in map(_kind, violations(own)))
    print(left, *violations(left), sep="\n")
    return 1


def _kind(violation: str) -> tuple[str, str]:
    """The way, and what it is that differs, without names and numbers."""
    way, _, what = violation.partition(": ")
    kinds = ("Error", "fires in one run", "v of ", "not finite", "the value is", "compiled")
    kind = next((own for own in kinds if own in what), "")
    if kind == "Error":
        kind = what.partition(":")[0]
    return way.partition(" [")[0].partition(" after")[0], kind


if __name__ == "__main__":
    sys.exit(main())
