"""The pure loop over blocks of steps, on one device or several."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from jsnn._divide import AXIS, pad_cells, padded
from jsnn._external import pad_inputs
from jsnn._loop import all_steps
from jsnn._math import NEVER, concrete, named, shortened, whole_steps
from jsnn._memory import check_memory, size
from jsnn._names import explained
from jsnn._status import check_state
from jsnn._sums import Conductances
from jsnn.adjoint import Backprop
from jsnn.exchange import Relaxation
from jsnn.network import Network
from jsnn.record import Recorder, SampleRecord, Spikes, buffer_of
from jsnn.state import State


class Solution(eqx.Module):
    """What a run gives.

    - `state`: the state after the last step, from which a run can go on.
    - `records`: by the names given to `record`.
    - `status`: by population and input the step at which it was found to fail, or `jsnn.NEVER`;
      `"relaxation"`, where there is one, the first step of a window that did not converge. What is
      raised outside `jit` is told here inside: a parameter that is out of its range (by what it is
      of, a population, an input or a growing projection; of other projections and of couplings by
      the population they act on), and more steps than can be counted.
    - `stats`: numbers about the run; `simulate` counts the spikes of each population (more than
      that is `jsnn.NEVER`), and where waveforms are relaxed, windows, iterations a window and the
      largest residual since the start.
    """

    state: State
    records: Mapping[str, Any]
    status: dict[str, Array]
    stats: dict[str, Any]


@explained
def simulate(
    network: Network,
    state: State,
    steps: int,
    record: Mapping[str, Recorder] | None = None,
    *,
    adjoint: Backprop | None = None,
    phase: int | None = None,
) -> Solution:
    """Advance the network by a number of steps. Pure: may stand inside `jit`, `vmap`, `scan` and
    `grad`.

    **Arguments:**

    - `network`, `state`: the state from `network.init(key)` or of an earlier solution.
    - `steps`: how many, of `network.dt` each; static.
    - `record`: recorders by name.
    - `adjoint`: how to differentiate: `jsnn.adjoint.Backprop(...)`. It changes no spike.
    - `phase`: only for a traced state that is at no multiple of the `every` of recorders: its step,
      or any number that differs from it by a multiple of each `every`; static.

    Records have the same rows inside and outside `jit`: those of the multiples of `every` since
    step 0. The step is known where the state itself is not traced, also of `network.init(key)` and
    what follows from it inside `jit`. For a traced state (an argument of `jit`, a carry of `scan`)
    multiples are counted from `phase`, or from the start of the call if left out, which is the same
    where the state is at a multiple; `times` are those of the rows in any case. A wrong `phase`
    sets the status.

    However a run is cut into calls, the spikes are the same. Gradients pass through what `States`,
    `SynapseStates` and `Counts` record (with `every=dt`, whether each cell spiked in each step);
    not through `Spikes`, which are bits. Forward derivatives (`jax.jvp`) and second ones
    (`jax.hessian`) want `SegmentSum` delivery, and are a `TypeError` without. Another
    number of steps compiles anew; `run` does not. Many short calls belong inside one `jit` or
    `scan`: each from outside takes a millisecond or more. Several devices are for `network.on`,
    `shard_map` or a batch of states: on CPUs, XLA cannot divide the cells of a state by itself.
    """
    if not isinstance(network, Network):
        raise TypeError(f"network={shortened(network)} is no network")
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
        raise TypeError(f"steps={shortened(steps)} is not an integer; give a number of steps")
    if steps < 0:
        raise ValueError(f"steps={steps} is negative")
    network = network.checked()
    record, steps = check_record(network, record, int(steps)), int(steps)
    state = check_state(network, state, steps)
    adjoint = Backprop() if adjoint is None else adjoint
    if not isinstance(adjoint, Backprop):
        raise TypeError(f"adjoint={shortened(adjoint)}; give jsnn.adjoint.Backprop(...)")
    adjoint.check(list(network.synapses), network.dt)
    start = concrete(state.step)
    first = _first(network, record, steps, start, phase)
    off = []
    if start is None and phase is not None:
        every = {_every(network, own) for own in record.values()}
        off = [(state.step - first) % n != 0 for n in every]
    state = network.doubted(state, steps, *off)
    solution = advance(network, state, steps, steps, record, adjoint, np.int32(first))
    records = {n: own.cut(network, solution.records[n], first, steps) for n, own in record.items()}
    if start is None:
        return replace(solution, records=records)
    records = {name: _beginning(own, first) for name, own in records.items()}
    solution = replace(solution, records=records)
    if not isinstance(solution.state.step, Tracer):  # where the run was, and nobody waits for it
        return solution
    known: Any = np.int32(first + steps)  # inside jit, for the next call
    return replace(solution, state=replace(solution.state, step=known))


def _first(
    network: Network,
    record: Mapping[str, Recorder],
    steps: int,
    start: np.ndarray | None,
    phase: int | None,
) -> int:
    """What samples count the first step of a call as."""
    if phase is not None:
        if isinstance(phase, bool) or not isinstance(phase, (int, np.integer)):
            raise TypeError(f"phase={shortened(phase)} is not an integer; give a number of steps")
        if not 0 <= phase < NEVER - steps:
            raise ValueError(f"phase={phase} must be at least 0 and below {NEVER - steps}")
    if start is None:
        return int(phase or 0)
    for name, own in record.items():
        n = _every(network, own)
        if phase is not None and (start - phase) % n:
            raise ValueError(
                f"phase={phase} is not that of the state, which is at step {start}: record "
                f"{name!r} has every={n * network.dt:g} ms, {n} steps; leave phase out"
            )
    return int(start)


def _every(network: Network, recorder: Recorder) -> int:
    """Every how many steps a recorder takes a row."""
    every = getattr(recorder, "every", None)
    return 1 if every is None else whole_steps("every", every, network.dt)


def _beginning(record: Any, first: int) -> Any:
    """The same record, with the step that it begins with as it is known."""
    every = record.every if isinstance(record, SampleRecord) else 1
    return replace(record, first_step=np.int32(first - first % every))


def check_record(
    network: Network, record: Mapping[str, Recorder] | None, steps: int, listed: bool = False
) -> dict[str, Recorder]:
    """The recorders as a dictionary, or the error for what is wrong with them. Where spikes end as
    lists, nobody knows how long those will be."""
    if record is not None and not isinstance(record, Mapping):
        raise TypeError(f"record={record!r} is not a dictionary; give names to the recorders")
    record = dict(record or {})
    for name, recorder in record.items():
        if not isinstance(name, str) or not isinstance(recorder, Recorder):
            raise TypeError(
                f"record[{name!r}] is {recorder!r}; give Spikes, Counts, States or SynapseStates"
            )
        with named(f"record {name!r}"):
            recorder.check(network)
    needs = {"the network": size(network)}
    for name, recorder in record.items():
        if listed and isinstance(recorder, Spikes):
            continue
        needs[f"record {name!r} of {steps} steps"] = recorder.bytes_a_step(network) * steps
    check_memory(needs)
    return record


def _advance(
    network: Network,
    state: State,
    steps: int | Array,
    capacity: int,
    record: dict[str, Recorder],
    adjoint: Backprop | None = None,
    phase: Any = None,
) -> Solution:
    """`steps` steps, at most `capacity`. A traced number lets one compilation serve segments of
    any length, but cannot be differentiated. Samples count the first step as `phase`, or as what it
    is; records have as many rows as `capacity` steps of any phase need."""
    counted = state.step if phase is None else phase
    n = {name: p.n for name, p in network.populations.items()}
    devices = 1 if network.mesh is None else network.mesh.size
    local = {name: padded(n[name], devices) for name in n}
    whole = {name: own * devices for name, own in local.items()}
    coefficients = network.prepare()
    inputs = pad_inputs(network.populations, network.inputs, coefficients.inputs, whole)
    coefficients = coefficients._replace(inputs=inputs, adjoint=adjoint or Backprop())
    populations = {
        name: pad_cells(own, n[name], whole[name]) for name, own in coefficients.populations.items()
    }
    couplings, slow = (
        {
            name: [
                own.padded(whole[way.post]) for way, own in zip(built[name].ways, ways, strict=True)
            ]
            for name, ways in prepared.items()
        }
        for built, prepared in (
            (network.couplings, coefficients.couplings),
            (network.slow, coefficients.slow),
        )
    )
    coefficients = coefficients._replace(populations=populations, couplings=couplings, slow=slow)
    wide = replace(
        state,
        populations={
            name: pad_cells(own, n[name], whole[name], always=True)
            for name, own in state.populations.items()
        },
        buffers={
            name: _pad_zero(own, whole[network.synapses[name].post[0]])
            for name, own in state.buffers.items()
        },
        relaxation=_waves_to(state.relaxation, whole),
        signals={
            name: _pad_zero(own, whole[network.slow[name].parts[0][0]])
            for name, own in state.signals.items()
        },
    )
    buffer = buffer_of(network, record)
    filled = {name: own for name, own in record.items() if buffer[name] == name}
    loop = partial(all_steps, network, filled, local, capacity)
    if network.mesh is None:
        rows = {n: s.rows(network.dt) for n, s in network.synapses.items() if s.grown is None}
        wide, buffers, counts = loop(wide, coefficients, rows, counted, steps)
    else:
        rows = {
            n: s.rows_of_devices(network.dt) for n, s in network.synapses.items() if s.grown is None
        }
        releases = {
            name: network.synapses[name].divide(own, devices)
            for name, own in state.releases.items()
        }
        wide = replace(wide, releases=releases)
        divided: Any = PartitionSpec(AXIS)
        same: Any = PartitionSpec()
        state_spec = replace(
            jax.tree.map(lambda _: same, wide),
            populations=jax.tree.map(lambda _: divided, wide.populations),
            buffers=jax.tree.map(lambda _: PartitionSpec(None, AXIS), wide.buffers),
            releases=jax.tree.map(lambda _: divided, wide.releases),
            relaxation=None
            if wide.relaxation is None
            else replace(
                jax.tree.map(lambda _: same, wide.relaxation),
                waves={name: PartitionSpec(None, None, AXIS) for name in wide.relaxation.waves},
            ),
        )
        cells_spec = coefficients._replace(
            populations={
                name: _cells_spec(own, whole[name])
                for name, own in coefficients.populations.items()
            },
            inputs={
                name: own._replace(
                    cells=_cells_spec(own.cells, whole[source]),
                    shared=jax.tree.map(lambda _: same, own.shared),
                )
                for name, own in coefficients.inputs.items()
                for source in [network.target(network.inputs[name])[0]]
            },
            weights=jax.tree.map(lambda _: same, coefficients.weights),
            couplings=_ways_spec(coefficients.couplings),
            slow=_ways_spec(coefficients.slow),
            adjoint=jax.tree.map(lambda _: same, coefficients.adjoint),
        )
        record_spec = {
            name: PartitionSpec(None, AXIS) if own.is_divided else same
            for name, own in filled.items()
        }
        if isinstance(steps, int):  # stays static inside
            static, traced, traced_spec = (steps,), (), ()
        else:
            static, traced, traced_spec = (), (steps,), (same,)
        wide, buffers, counts = jax.shard_map(
            lambda *arguments: loop(*arguments, *static),
            mesh=network.mesh,
            in_specs=(state_spec, cells_spec, divided, same, *traced_spec),
            out_specs=(state_spec, record_spec, same),
            check_vma=False,
        )(wide, coefficients, rows, counted, *traced)
        releases = {n: network.synapses[n].gather(own) for n, own in wide.releases.items()}
        wide = replace(wide, releases=releases)
    narrow = replace(
        wide,
        populations={
            name: jax.tree.map(lambda leaf, n=n[name]: leaf[:n], own)
            for name, own in wide.populations.items()
        },
        buffers={
            name: own[:, : n[network.synapses[name].post[0]]] for name, own in wide.buffers.items()
        },
        relaxation=_waves_to(wide.relaxation, n),
        signals={
            name: own[:, : n[network.slow[name].parts[0][0]]] for name, own in wide.signals.items()
        },
    )
    if network.mesh is not None:  # where the state was, so that the next call finds it the same
        narrow = lax.with_sharding_constraint(narrow, NamedSharding(network.mesh, PartitionSpec()))
    records = {
        name: own.end(network, buffers[buffer[name]], state.step, counted, capacity)
        for name, own in record.items()
    }
    stats: dict[str, Any] = {"spikes": counts}
    if narrow.relaxation is not None:
        stats["relaxation"] = narrow.relaxation.stats()
    return Solution(narrow, records, narrow.outcome, stats)


advance = eqx.filter_jit(_advance)

COMPILER_OPTIONS = {
    "xla_cpu_prefer_vector_width": "512",
    "xla_disable_hlo_passes": "cpu-parallel-task-assigner",
}
"""What `run` compiles with: `jax.jit(..., compiler_options=jsnn.COMPILER_OPTIONS)`, on CPU.

Vectors of 512 bits are worth a fifth of the time on CPUs that have them; LLVM splits them on
others. And XLA would cut kernels over its threads that take less time than to wake one: 4,000
cells, a step at a time, take twice as long so. What is to use several cores is divided over
devices. JAX takes such options at the outermost `jit` only."""

# The same for the host's loop
advance_from_host = eqx.filter_jit(  # pyright: ignore[reportCallIssue]
    _advance, compiler_options=COMPILER_OPTIONS
)


def _waves_to(relaxation: Relaxation | None, n: dict[str, int]) -> Relaxation | None:
    """Waveforms cut to so many cells, or padded with zeros."""
    if relaxation is None:
        return None
    waves = {
        name: jnp.pad(own, ((0, 0), (0, 0), (0, max(n[name] - own.shape[-1], 0))))[..., : n[name]]
        for name, own in relaxation.waves.items()
    }
    return replace(relaxation, waves=waves)


def _ways_spec(couplings: Mapping[str, list[Conductances]]) -> dict[str, list[Any]]:
    """Their targets are divided."""
    return {
        name: [own.of_cells(_last_axis, lambda _: PartitionSpec()) for own in ways]
        for name, ways in couplings.items()
    }


def _last_axis(leaf: Array) -> PartitionSpec:
    return PartitionSpec(*[None] * (leaf.ndim - 1), AXIS)


def _pad_zero(buffer: Array, to: int) -> Array:
    return jnp.pad(buffer, ((0, 0), (0, to - buffer.shape[1])))


def _cells_spec(tree: Any, n: int) -> Any:
    """Leaves with the cells as last axis are divided, others are the same everywhere."""

    def spec(leaf):
        if leaf.ndim == 0 or leaf.shape[-1] != n:
            return PartitionSpec()
        return _last_axis(leaf)

    return jax.tree.map(spec, tree)
