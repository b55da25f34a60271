"""Populations, projections and inputs together: `init` and `step`.

`Network.step` is the definition of what a step does, one step at a time, with `segment_sum`.
`jsnn.simulate` runs blocks of steps that give the same numbers.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.sharding import Mesh

from jsnn._build import build
from jsnn._divide import mesh_of, pad_cells, padded
from jsnn._math import (
    check_key,
    check_name,
    check_scalar,
    concrete,
    named,
    real_dtype,
    shortened,
)
from jsnn._memory import check_memory, check_plan, size
from jsnn._random import key_words
from jsnn.delivery import Delivery, EventDriven, not_differentiable, segment_sum_step
from jsnn.inputs import Cells, NoiseCurrent, Poisson, SpikeList, StepCurrent, Target
from jsnn.population import Population, PopulationState
from jsnn.projection import (
    Connections,
    Projection,
    Synapses,
    check_sign,
    locate,
    receptor_of,
)
from jsnn.state import NEVER, NetworkCoefficients, State, look_at_inputs, look_at_states

_LONGEST_BLOCK = 64  # steps; longer delays do not make longer blocks, which only cost memory
SpikeInput = Poisson | SpikeList
CurrentInput = StepCurrent | NoiseCurrent
Input = SpikeInput | CurrentInput


class Network(eqx.Module):
    """Named populations, projections between them and inputs to them, in steps of `dt` ms.

    **Arguments:**

    - `populations`, `projections`, `inputs`: by name.
    - `dt`: ms.
    - `key`: a PRNG key that edges and drawn weights and delays are made from; needed with
      projections.
    - `delivery`: `EventDriven()` or `SegmentSum()`, which give the same spikes. Only the latter can
      be differentiated.

    A projection between lists is split into one for each pair, named `"name/pre->post"`. Raises
    `ValueError` or `TypeError`, before anything compiles, for unknown names, times off the grid,
    arrays of the wrong shape, and weights of the wrong sign.
    """

    populations: dict[str, Population]
    synapses: dict[str, Synapses]
    inputs: dict[str, Input]
    delivery: Delivery
    dt: float = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True)

    def __init__(
        self,
        populations: Mapping[str, Population],
        projections: Mapping[str, Projection] | None = None,
        inputs: Mapping[str, Input] | None = None,
        *,
        dt: float,
        key: Array | None = None,
        delivery: Delivery | None = None,
    ):
        check_scalar("dt", dt, low=0.0, strict=True)
        if concrete(dt) is None:
            raise TypeError("dt is traced; it sets the shape of the buffers and must be a number")
        self.dt, self.mesh = float(dt), None
        self.delivery = EventDriven() if delivery is None else delivery
        if not isinstance(self.delivery, Delivery):
            raise TypeError(f"delivery={shortened(delivery)}; give EventDriven() or SegmentSum()")
        projections = {} if projections is None else projections
        inputs = {} if inputs is None else inputs
        for kind, parts, wanted in (
            ("population", populations, Population),
            ("projection", projections, Projection),
            ("input", inputs, Input),
        ):
            if not isinstance(parts, Mapping):
                raise TypeError(f"{kind}s={shortened(parts)} is not a dictionary; give names")
            for name, part in parts.items():
                check_name(kind, name)
                if not isinstance(part, wanted):
                    raise TypeError(f"{kind} {name!r} is a {type(part).__name__}, not a {kind}")
        if not populations:
            raise ValueError("populations is empty; give at least one")
        self.populations, self.inputs, self.synapses = dict(populations), dict(inputs), {}
        self.populations, self.inputs, _ = self._checked_parts()
        for name, source in self.inputs.items():
            with named(f"input {name!r}"):
                self.inputs[name] = source.on_grid(self.dt)
        if key is not None:
            check_key(key)
        else:
            if projections:
                raise ValueError("key is missing; give one, as jax.random.key(1), to draw with")
            key = jax.random.key(0)  # nothing is drawn
        check_plan(self.populations, projections, self.dt)
        for name, projection in projections.items():
            own = jax.random.fold_in(key, zlib.crc32(name.encode()))
            if isinstance(own, Tracer):
                raise TypeError(
                    "a network with projections is built outside jit, vmap and grad; inside, "
                    "change its weights and parameters with equinox.tree_at"
                )
            self.synapses.update(build(name, projection, self.populations, own, self.dt))
        buffers = {}
        for name, synapses in self.synapses.items():
            numbers = synapses.slots * padded(self.populations[synapses.post[0]].n)
            if numbers >= 2**31:
                raise ValueError(
                    f"projection {name!r}: delays of {synapses.max_delay} steps make a buffer of "
                    f"{numbers} numbers; give shorter delays or split the population"
                )
            of = f"projection {name!r}: the buffer of arrivals"
            buffers[of] = float(real_dtype().itemsize * numbers)
        check_memory({"the network": size(self), **buffers})

    def checked(self) -> "Network":
        """The same, with its parameters as arrays of the working precision.

        Raises for those that were put in the place of others, as with `equinox.tree_at`, and do
        not fit; traced ones are taken as they are. A network is looked at once.
        """
        if "_was_checked" in vars(self):  # no field: whatever is made of this network is new
            return self
        populations, inputs, synapses = self._checked_parts()
        checked = eqx.tree_at(
            lambda n: (n.populations, n.inputs, n.synapses), self, (populations, inputs, synapses)
        )
        same = zip(jax.tree.leaves(self), jax.tree.leaves(checked), strict=True)
        checked = self if all(before is after for before, after in same) else checked
        object.__setattr__(checked, "_was_checked", True)
        return checked

    def _checked_parts(self) -> tuple[dict, dict, dict]:
        populations, inputs, synapses = {}, {}, {}
        for name, population in self.populations.items():
            with named(f"population {name!r}"):
                populations[name] = population.checked(self.dt)
        for name, source in self.inputs.items():
            inputs[name] = self._checked_input(f"input {name!r}", source)
        for name, own in self.synapses.items():
            with named(f"projection {name!r}"):
                synapses[name] = own.checked(self.populations[own.post[0]])
        return populations, inputs, synapses

    def _checked_input(self, where: str, source: Input) -> Input:
        name, low, high = locate(self.populations, source.target, where)
        with named(where):
            source = source.checked(self.dt, high - low)
        if isinstance(source, SpikeInput):
            receptor = receptor_of(where, self.populations[name], source.receptor)
            with named(where):
                check_sign(self.populations[name], receptor, source.weight)
        return source

    @property
    def block(self) -> int:
        """The number of steps that pass without communication: the least delay."""
        delays = [s.min_delay for s in self.synapses.values()]
        return max(min([*delays, _LONGEST_BLOCK]), 1)

    @property
    def n_synapses(self) -> int:
        return sum(s.edges.n_edges for s in self.synapses.values())

    def target(self, source: Input) -> tuple[str, Target]:
        """The population that an input is aimed at, and which of its cells."""
        name, low, high = locate(self.populations, source.target)
        return name, Target(self.populations[name].n, low, high)

    def connections(self) -> dict[str, Connections]:
        """Edges, weights and delays by projection, in storage order (by source, then target)."""
        return {name: own.connections(self.dt) for name, own in self.synapses.items()}

    def on(self, devices: int | Sequence[Any] | None) -> "Network":
        """The same network with its cells divided over several devices; None or 1 takes that back.

        Neurons, and the edges onto them, are divided into contiguous parts. The spikes are the
        same on any number of devices. Several devices of a CPU exist if JAX was told so before
        anything else: `jax.config.update("jax_num_cpu_devices", 2)`.
        """
        self, mesh = self.checked(), mesh_of(devices)
        if mesh == self.mesh:
            return self
        count = 1 if mesh is None else mesh.size
        synapses = {
            name: s.on(mesh, padded(self.populations[s.post[0]].n, count))
            for name, s in self.synapses.items()
        }
        placed = eqx.tree_at(lambda n: n.synapses, self, synapses)
        object.__setattr__(placed, "mesh", mesh)
        return placed

    def init(self, key: Array) -> State:
        """The state before the first step. The key serves initial values and inputs."""
        check_key(key)
        draw_key, run_key = (jax.random.fold_in(key, i) for i in range(2))
        populations = {
            name: population.init(jax.random.fold_in(draw_key, zlib.crc32(name.encode())))
            for name, population in self.populations.items()
        }
        counting = isinstance(self.delivery, EventDriven)
        buffers = {
            name: jnp.asarray(
                np.zeros((s.slots, self.populations[s.post[0]].n), s.buffer_dtype(counting))
            )
            for name, s in self.synapses.items()
        }
        releases = {
            name: s.init_release(counting) for name, s in self.synapses.items() if not s.is_constant
        }
        never = jnp.asarray(NEVER, jnp.int32)
        status = {name: never for name in [*self.populations, *map("input/{}".format, self.inputs)]}
        start = jnp.zeros((), jnp.int32)
        return State(start, key_words(run_key), populations, buffers, releases, status)

    def prepare(self) -> NetworkCoefficients:
        """Turn all parameters into coefficients, once, outside the loop over steps."""
        return NetworkCoefficients(
            {name: population.prepare(self.dt) for name, population in self.populations.items()},
            {name: i.prepare(self.dt, self.target(i)[1]) for name, i in self.inputs.items()},
            {name: s.weight if s.weight.ndim == 0 else None for name, s in self.synapses.items()},
        )

    def pad_inputs(
        self, coefficients: NetworkCoefficients, to: Mapping[str, int]
    ) -> NetworkCoefficients:
        """Inputs draw for whole tiles of cells: their coefficients for `to` cells a population."""
        inputs = {}
        for name, own in coefficients.inputs.items():
            population, target = self.target(self.inputs[name])
            inputs[name] = own._replace(cells=pad_cells(own.cells, target.n, to[population]))
        return coefficients._replace(inputs=inputs)

    def external(
        self,
        coefficients: NetworkCoefficients,
        key: Array,
        steps: Array,
        cells: Mapping[str, Cells],
    ) -> tuple[dict[str, dict[str, Array]], dict[str, Array]]:
        """What inputs send in the given steps: arrivals by population and receptor, and currents
        by population, each `[len(steps), n]` (currents also `[len(steps), 1]`)."""
        arrivals = {name: {} for name in self.populations}
        currents = {name: jnp.zeros((steps.shape[0], 1)) for name in self.populations}
        for name, source in self.inputs.items():
            population, target = self.target(source)
            base = jax.random.wrap_key_data(key, impl="threefry2x32")
            own = jax.random.key_data(jax.random.fold_in(base, zlib.crc32(name.encode())))
            sent = source.block(
                coefficients.inputs[name], own, steps, cells[population], target, self.dt
            )
            if isinstance(source, CurrentInput):
                currents[population] = currents[population] + sent
            else:
                receptor = receptor_of(name, self.populations[population], source.receptor)
                before = arrivals[population].get(receptor)
                arrivals[population][receptor] = sent if before is None else before + sent
        return arrivals, currents

    def advance(
        self,
        coefficients: NetworkCoefficients,
        populations: Mapping[str, PopulationState],
        buffers: Mapping[str, Array],
        arrivals: Mapping[str, Mapping[str, Array]],
        currents: Mapping[str, Array],
        step: Array,
    ) -> tuple[dict[str, PopulationState], dict[str, Array], dict[str, Array]]:
        """All populations over one step, with what reaches them in it: states, fired, active."""
        states, fired, active = {}, {}, {}
        for name, population in self.populations.items():
            mine = dict(arrivals[name])
            for projection, synapses in self.synapses.items():
                if synapses.post[0] == name and synapses.max_delay > 0:
                    mine = self._read(coefficients, projection, buffers, step, mine)
            states[name], fired[name], active[name] = population.step(
                coefficients.populations[name], populations[name], mine, currents[name], self.dt
            )
        return states, fired, active

    def receive_at_once(
        self,
        coefficients: NetworkCoefficients,
        populations: Mapping[str, PopulationState],
        buffers: Mapping[str, Array],
        step: Array,
    ) -> dict[str, PopulationState]:
        """Hand spikes with a delay of 0 to the receptors, after the reset of the same step."""
        states = dict(populations)
        for projection, synapses in self.synapses.items():
            if synapses.min_delay == 0:
                name = synapses.post[0]
                mine = self._read(coefficients, projection, buffers, step, {})
                states[name] = self.populations[name].receive(
                    coefficients.populations[name], states[name], mine
                )
        return states

    def _read(self, coefficients, projection, buffers, step, arrivals) -> dict[str, Array]:
        """Add what a projection delivers in the slot of a step to arrivals by receptor."""
        synapses, buffer = self.synapses[projection], buffers[projection]
        amount = jax.lax.dynamic_index_in_dim(buffer, step % buffer.shape[0], 0, keepdims=False)
        weight = coefficients.weights[projection]
        amount = amount if weight is None else weight * amount.astype(weight.dtype)
        before = arrivals.get(synapses.receptor)
        return {**arrivals, synapses.receptor: amount if before is None else before + amount}

    def step(
        self, state: State, coefficients: NetworkCoefficients | None = None
    ) -> tuple[State, dict[str, Array]]:
        """One step of dt, (step * dt, (step + 1) * dt]: the reference for everything faster.

        Returns the state and `fired` by population, `[n]`, 1 or 0. Coefficients may be given
        where several steps share them.
        """
        self = self.checked()
        if coefficients is None:
            coefficients = self.prepare()
        n, step = state.step, state.step

        # What inputs send in this step
        cells = {name: Cells(0, padded(p.n)) for name, p in self.populations.items()}
        wide = self.pad_inputs(coefficients, {name: c.n for name, c in cells.items()})
        arrivals, currents = self.external(wide, state.key, n[None], cells)
        own = {name: p.n for name, p in self.populations.items()}
        arrivals = {
            name: {r: sent[0, : own[name]] for r, sent in by_receptor.items()}
            for name, by_receptor in arrivals.items()
        }
        currents = {name: sent[0, : own[name]] for name, sent in currents.items()}

        # (1) neurons and receptors advance, (2) arrivals of slot n, (3) threshold and reset
        populations, fired, _ = self.advance(
            coefficients, state.populations, state.buffers, arrivals, currents, step
        )

        counting = isinstance(self.delivery, EventDriven)
        if counting and self.synapses:
            populations = not_differentiable(populations)
        # The slot has been read; spikes of step n with a delay d go to slot n + d
        buffers, releases = {}, {}
        for name, synapses in self.synapses.items():
            buffer = state.buffers[name].astype(synapses.buffer_dtype(counting))
            if synapses.slots:
                buffer = buffer.at[step % synapses.slots].set(0)
            buffer = synapses.with_slot(buffer)
            population, first, _ = synapses.pre
            rows, release = synapses.rows(), state.releases.get(name)
            buffers[name], release = segment_sum_step(
                buffer, release, fired[population], rows, first, step, self.dt
            )
            if release is not None:
                releases[name] = release

        # A delay of 0 acts at once
        populations = self.receive_at_once(coefficients, populations, buffers, step)
        for name, synapses in self.synapses.items():
            buffers[name] = synapses.without_slot(buffers[name], step)

        status = look_at_inputs(state.status, self.inputs, coefficients.inputs, n[None], 1, self.dt)
        status = look_at_states(status, populations, n)
        return State(n + 1, state.key, populations, buffers, releases, status), fired

    def part(self, address: str) -> tuple[str, int, int]:
        """`"cells.exc"` as (population, first cell, last cell exclusive)."""
        return locate(self.populations, address)
