"""What all examples share: their command line, and the files that they write."""

import argparse
import json
import math
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jsnn import plot

_MOST_STEPS = 2**31 - 2  # of a run
_LARGEST = 1e4  # times the published size: cells are counted in 32 bits


def finite(text: str) -> float:
    """A number on a command line, for `type=` of an option."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not finite; give a number")
    return value


def is_whole(time: float, dt: float) -> bool:
    """Whether a time is a whole number of steps, to the thousandth of one that jsnn allows."""
    return abs(time / dt - round(time / dt)) <= 1e-3


def parser(
    description: str, duration: float, dt: float, devices: int | None = None
) -> argparse.ArgumentParser:
    """The options that every example takes, of a network in steps of dt (ms). By default it uses so
    many devices, or all cores."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.set_defaults(dt=dt)
    made.add_argument("--duration", type=finite, default=duration, metavar="MS", help="to simulate")
    made.add_argument("--scale", type=finite, default=1.0, help="factor on the numbers of cells")
    made.add_argument("--seed", type=int, default=1, help="of all randomness")
    made.add_argument(
        "--plot", metavar="FILE", help="where to draw the figure (png, pdf, svg, eps)"
    )
    made.add_argument("--json", metavar="FILE", help="where to write numbers about the run")
    made.add_argument("--save", metavar="FILE.npz", help="where to write spikes and traces")
    made.add_argument("--float64", action="store_true", help="compute in double precision")
    made.add_argument(
        "--frozen", metavar="FILE.npz", help="take edges, input spikes and initial values from it"
    )
    cores = " (default: the CPU cores)" if devices is None else ""
    made.add_argument(
        "--devices",
        type=int,
        metavar="N",
        default=argparse.SUPPRESS if devices is None else devices,
        help=f"to divide the cells over{cores}",
    )
    return made


def run(main: Callable[[argparse.Namespace], None], made: argparse.ArgumentParser) -> None:
    """Parse, and run the program; what the user can mend is told in a line."""
    args = parse(made)
    try:
        main(args)
    except (ValueError, FloatingPointError, OSError) as error:
        made.error(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted")


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse and check, and set JAX up, which has to happen before its first array."""
    args = made.parse_args()
    args.devices = getattr(args, "devices", None)
    for name, ending in (("save", ".npz"), ("frozen", ".npz")):
        given = getattr(args, name)
        if given is not None and not given.endswith(ending):
            made.error(f"--{name} {given}: give a file that ends in {ending}")
    for name in ("plot", "json", "save"):
        given = getattr(args, name)
        if given is not None and Path(given).is_dir():
            made.error(f"--{name} {given}: this is a folder; give a file")
        if given is not None and not _can_be_made(Path(given).absolute().parent):
            made.error(f"--{name} {given}: its folder can not be written")
    if args.plot is not None:
        try:
            plot.check_name(args.plot)
        except ValueError as error:
            made.error(f"--plot: {error}")
    if args.frozen is not None and not Path(args.frozen).is_file():
        made.error(f"--frozen {args.frozen}: there is no such file")
    if not args.duration > 0:
        made.error(f"--duration {args.duration}: give more than 0 ms")
    if args.duration / args.dt > _MOST_STEPS:
        made.error(f"--duration {args.duration:g}: give at most {_MOST_STEPS * args.dt:g} ms")
    if args.frozen is None and not is_whole(args.duration, args.dt):
        made.error(
            f"--duration: duration={args.duration:.10g} ms is no whole number of steps of "
            f"dt={args.dt:g} ms"
        )
    if not 0 < args.scale <= _LARGEST:
        made.error(f"--scale {args.scale}: give a number above 0, and at most {_LARGEST:g}")
    if not 0 <= args.seed < 2**32:
        made.error(f"--seed {args.seed}: give 0 to {2**32 - 1}")
    if args.devices is not None and args.devices < 1:
        made.error(f"--devices {args.devices}: give 1 or more")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    most = max(cores or 1, 4)  # more only take turns on the cores, and wait for each other
    if args.devices is not None and args.devices > most:
        made.error(f"--devices {args.devices}: give at most {most} on this machine")
    if args.float64:
        jax.config.update("jax_enable_x64", True)
    wanted = args.devices or min(cores or 1, 4)
    if wanted > 1:
        jax.config.update("jax_num_cpu_devices", wanted)
    else:  # XLA would hand kernels to other threads; of short ones that costs more than it saves
        os.environ.setdefault("PJRT_NPROC", "1")
    if args.devices is None:
        args.devices = wanted if jax.default_backend() == "cpu" else 1
    return args


def _can_be_made(folder: Path) -> bool:
    """Whether a folder, or the nearest of those above it that exist, can be written."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def load_frozen(
    path: str,
    wanted: Sequence[str],
    also: Sequence[str] = (),
    paired: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """The wanted arrays of an .npz file, which must be there, and those of the others that are;
    `paired` ones are whole numbers, as many of one as of the other."""
    try:
        file = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise ValueError(f"{path} is no .npz file") from None
    with file:
        if missing := [name for name in wanted if name not in file.files]:
            raise ValueError(f"{path} lacks {missing}")
        found = {name: file[name] for name in (*wanted, *also) if name in file.files}
    for name, array in found.items():
        if array.dtype.kind not in "iufb":
            raise ValueError(f"{path}: {name} holds no numbers")
    for pair in paired:
        there = {name: found[name] for name in pair if name in found}
        if any(array.dtype.kind not in "iu" for array in there.values()):
            raise ValueError(f"{path}: {' and '.join(pair)} are no whole numbers")
        if len({array.shape for array in there.values()}) > 1:
            raise ValueError(f"{path}: {' and '.join(pair)} are not equally many")
    return found


def figure_names(path: str, n: int) -> list[str]:
    """FILE, and FILE with -2, -3 before the ending for further figures."""
    stem, ending = os.path.splitext(path)
    return [path, *(f"{stem}-{i}{ending}" for i in range(2, n + 1))]


def numbers(
    args: argparse.Namespace,
    stats: Mapping[str, Any],
    n_neurons: int,
    n_synapses: Mapping[str, int],
    build_s: float,
) -> dict[str, Any]:
    """What every example writes about a run with these `stats`; `n_synapses` by kind."""
    return {
        "n_neurons": n_neurons,
        "n_synapses": sum(n_synapses.values()),
        "n_synapses_by_kind": dict(n_synapses),
        "n_spikes": sum(stats["spikes"].values()),
        "build_s": build_s,
        "compile_s": stats["compile_s"],
        "run_s": stats["run_s"],
        "peak_memory_mb": peak_memory_mb(),
        "devices": args.devices,
        "float64": args.float64,
    }


def recovered(
    what: str, truth: Mapping[str, float], guess: Mapping[str, float], estimate: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """What a fit found, printed as a table, as every fit writes it."""
    found = {name: float(estimate[name]) for name in truth}
    errors = {name: found[name] / truth[name] - 1 for name in truth}
    print(f"{what:18}: {'truth':>8} {'guess':>8} {'estimate':>9} {'error':>8}")
    for name in truth:
        print(
            f"{name:18}: {truth[name]:8g} {guess[name]:8g} {found[name]:9.5g} {errors[name]:+8.2%}"
        )
    return {"truth": dict(truth), "estimate": found, "relative_error": errors}


def write_json(path: str | None, values: Mapping[str, Any]) -> None:
    if path is None:
        return
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(plain, indent=2) + "\n")


def peak_memory_mb() -> float:
    """The largest resident memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # the other figure may be that of the process that started this one
        lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if lines:
            return int(lines[0].split()[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
