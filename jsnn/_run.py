"""The host's loop around `simulate`: segments, progress, checks and checkpoints."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from jsnn._checkpoint import Checkpoint, computed, surroundings
from jsnn._content import digests
from jsnn._interrupts import between_calls, check
from jsnn._math import shortened, whole_steps
from jsnn._names import explained
from jsnn._rewire import with_room
from jsnn._simulate import Solution, advance_from_host, check_record
from jsnn._status import check_state, raise_if_failed
from jsnn.network import Network
from jsnn.record import Recorder
from jsnn.state import State

_SEGMENT_BYTES = 2**26  # of records that the device holds at once
_SPIKES = ":spikes/"  # among the records of a segment: how many each population fired
_SEGMENT_SECONDS = 2.0  # between two signs of progress
_NAMES = {"state.key": "key", "network.dt": "dt"}  # in fingerprints: those of the arguments
_FIRST_SEGMENT = 0.02  # of the run: short, to learn how long a step takes


@explained
@between_calls
def run(
    network: Network,
    duration: float,
    *,
    key: Array | None = None,
    state: State | None = None,
    record: Mapping[str, Recorder] | None = None,
    devices: int | Sequence[Any] | None = None,
    progress: bool = True,
    segment: float | None = None,
    checkpoint: str | os.PathLike | None = None,
) -> Solution:
    """Run a network for `duration` ms, with its records moved to the host as it goes.

    **Arguments:**

    - `key` or `state`: where to start: `network.init(key)`, or the state of an earlier solution.
    - `record`: recorders by name. Spikes come back as `SpikeTimes`, values at spikes as
      `SpikeSamples`, states and counts as `SampleRecord` with NumPy arrays.
    - `devices`: how many (or which) devices to divide the cells over; see `Network.on`.
    - `progress`: show a bar, on a terminal.
    - `segment`: ms between two looks of the host; chosen by memory and speed if left out. It
      changes no spike.
    - `checkpoint`: a folder, of this run alone. After every segment the run so far is kept there;
      the same call made again, after an interruption of any kind, goes on from it and gives bit for
      bit the same, with the same versions of jsnn and JAX on the same kind of processor. One
      process at a time may use it, on a network's file system too where that shares locks. Files
      that are damaged are set aside with a warning: of the last segment or its state they cost that
      segment, and of an earlier one the run begins anew.

    `stats` has `compile_s`, `run_s`, `segments`, `spikes` by population, and `relaxation` where
    there is waveform relaxation.

    Where a growing projection runs out of room, the segment is run once more with more of it,
    which compiles anew and changes no number.

    Raises `FloatingPointError` for a state that is not finite, and `ValueError` for a rate beyond
    its bound or a waveform relaxation that does not converge, at the end of the segment in which it
    happened, with the place and the time; and for a state in which that has happened before. Of a
    checkpoint: `ValueError` for one that another process uses, or that is of another run, with what
    differs; `OSError`, with the path and the bytes that it takes, where it cannot be written.

    An interruption (Ctrl-C) takes effect once the device is done with the segment, which is then
    kept, or JAX with the compilation; a second one at once.
    """
    if not isinstance(network, Network):
        raise TypeError(f"network={shortened(network)} is no network")
    if not isinstance(progress, (bool, np.bool_)):
        raise TypeError(f"progress={shortened(progress)}; give True or False")
    network = network.checked()
    steps = whole_steps("duration", duration, network.dt)
    record = check_record(network, record, steps, listed=True)
    if (key is None) == (state is None):
        raise ValueError("give either key or state, to start from")
    now = state if key is None else network.init(key)
    now = check_state(network, now, steps)
    raise_if_failed(network, now)
    if devices is not None:
        network = network.on(devices)
    capacity = _capacity(network, steps, record, segment)
    given = (network, now, steps, record, capacity, segment, progress)
    if checkpoint is None:
        return _go_on(*given, None)
    with Checkpoint(checkpoint, _fingerprint(network, now, record)) as kept:
        return _go_on(*given, kept)


def _go_on(
    network: Network,
    now: State,
    steps: int,
    record: Mapping[str, Recorder],
    capacity: int,
    segment: float | None,
    progress: bool,
    kept: Checkpoint | None,
) -> Solution:
    """Segment after segment, from a state or from what was kept of the same run."""
    first = int(now.step)
    end = first + steps
    parts: list[tuple[int, int, dict[str, np.ndarray]]] = []
    if kept is not None and (loaded := kept.load(now)) is not None:
        now, parts = loaded
        if int(now.step) > end:
            raise ValueError(
                f"checkpoint={str(kept.folder)!r} is at t={int(now.step) * network.dt:g} ms, "
                f"beyond the end of this run at {end * network.dt:g} ms; give a longer duration"
            )

    gathered = {name: own.gather(network, first, end) for name, own in record.items()}
    spikes = {n: 0 for n, own in network.populations.items() if own.neuron.is_spiking}
    while parts:  # each is let go once it is gathered
        begin, _, part = parts.pop(0)
        _gather(gathered, spikes, begin, part)
    now = _placed(network, now)
    start = time.perf_counter()
    if int(now.step) < end:
        _compile(network, now, capacity, record)
    compile_s = time.perf_counter() - start
    check()
    start += compile_s

    length = capacity
    if segment is None:
        length = min(capacity, max(int(steps * _FIRST_SEGMENT), network.block))
    n_segments = 0
    with tqdm(
        total=round(steps * network.dt),
        initial=round((int(now.step) - first) * network.dt),
        unit=" ms",
        disable=None if progress else True,
    ) as bar:
        while (begin := int(now.step)) < end:
            tick = time.perf_counter()
            length = min(length, end - begin)
            some = jnp.asarray(length, jnp.int32)
            solution = advance_from_host(network, now, some, capacity, record)
            roomier = with_room(network, now, solution.state)
            if roomier is not None:  # the same segment once more
                again, now = time.perf_counter(), _placed(network, roomier)
                _compile(network, now, capacity, record)
                again = time.perf_counter() - again
                compile_s, start = compile_s + again, start + again
                continue
            now = solution.state
            part: dict[str, np.ndarray] = {}
            for name, own in record.items():
                moved = _on_host(network, own, solution.records[name], begin, length)
                part |= {f"{name}/{what}": values for what, values in moved.items()}
            raise_if_failed(network, now)
            part |= {_SPIKES + name: np.asarray(n) for name, n in solution.stats["spikes"].items()}
            del solution  # with the device's buffers
            _gather(gathered, spikes, begin, part)
            if kept is not None:
                kept.save(now, begin, begin + length, part)
            del part
            bar.update(round((begin + length - first) * network.dt) - bar.n)
            n_segments += 1
            check()
            if segment is None:
                a_step = (time.perf_counter() - tick) / length
                length = max(min(capacity, int(_SEGMENT_SECONDS / a_step)), network.block)
    finished = time.perf_counter()

    stats: dict[str, Any] = {
        "compile_s": compile_s,
        "run_s": finished - start,
        "segments": n_segments,
        "spikes": spikes,
    }
    if now.relaxation is not None:
        stats["relaxation"] = {name: own.item() for name, own in now.relaxation.stats().items()}
    records = {name: own.record() for name, own in gathered.items()}
    return Solution(now, records, now.outcome, stats)


def _on_host(
    network: Network, recorder: Recorder, made: Any, begin: int, length: int
) -> dict[str, np.ndarray]:
    """What a recorder kept of a segment. Moved as it is and cut here: JAX would compile the cut."""
    cut: Any = recorder.cut(network, jax.tree.map(np.asarray, made), begin, length)
    return recorder.to_host(cut)


def _gather(
    gathered: Mapping[str, Any], spikes: dict[str, int], begin: int, part: Mapping[str, np.ndarray]
) -> None:
    """Add the records and the numbers of spikes of a segment to those of the run."""
    for name, own in gathered.items():
        own.add(begin, _of(name, part))
    for name in spikes:
        spikes[name] += int(part[_SPIKES + name])


def _placed(network: Network, state: State) -> State:
    """A state where it will be after a segment: otherwise JAX compiles twice."""
    if network.mesh is None:
        return state
    return jax.device_put(state, NamedSharding(network.mesh, PartitionSpec()))


def _compile(network: Network, state: State, capacity: int, record: Mapping[str, Recorder]) -> None:
    """Run no step, which is remembered for the next run."""
    nothing = jnp.asarray(0, jnp.int32)
    jax.block_until_ready(advance_from_host(network, state, nothing, capacity, record))


def _fingerprint(network: Network, state: State, record: Mapping[str, Recorder]) -> dict[str, str]:
    """Digests of all that a run depends on, by name. Rates that are functions are known by what
    they compute, all else by what it holds."""
    device = jax.devices()[0] if network.mesh is None else network.mesh.devices.flat[0]
    network = network.on(None)
    found = surroundings(device)
    rates = {name: getattr(source, "rate", None) for name, source in network.inputs.items()}
    rates = {name: rate for name, rate in rates.items() if callable(rate)}
    if rates:
        network = eqx.tree_at(
            lambda n: [n.inputs[name].rate for name in rates], network, [None] * len(rates)
        )
    found |= digests("network", network)
    found |= {f"network.inputs[{name!r}].rate": computed(rate) for name, rate in rates.items()}
    found |= digests("state", state)
    found |= digests("record", dict(record))
    return {_NAMES.get(name, name): own for name, own in found.items()} | {"dt": f"{network.dt!r}"}


def _capacity(
    network: Network, steps: int, record: Mapping[str, Recorder], segment: float | None
) -> int:
    """For how many steps the device has room for records.

    A power of two, as long as memory allows: runs of several durations then share a compilation.
    """
    if segment is not None:
        capacity = min(whole_steps("segment", segment, network.dt, least=1), max(steps, 1))
        check_record(network, record, capacity)
        return capacity
    a_step = sum(own.bytes_a_step(network) for own in record.values())
    if not a_step:
        return 2**30
    room = max(int(_SEGMENT_BYTES / a_step), network.block)
    return min(2 ** math.ceil(math.log2(max(steps, 1))), room)


def _of(name: str, part: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What one recorder kept of a segment."""
    return {k.rpartition("/")[2]: v for k, v in part.items() if k.rpartition("/")[0] == name}
