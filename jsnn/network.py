"""Populations, projections and inputs together: `init` and `step`.

`Network.step` is the definition of what a step does, one step at a time, with `segment_sum`.
`jsnn.simulate` runs blocks of steps that give the same numbers.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.sharding import Mesh

from jsnn import _slow
from jsnn._advance import ALONE, advance, grown, receive_at_once, relaxed
from jsnn._build import build, build_junctions, build_slow
from jsnn._divide import mesh_of, padded
from jsnn._external import Input, external, pad_inputs, target
from jsnn._math import (
    as_array,
    check_key,
    check_scalar,
    concrete,
    gathered,
    named,
    plain,
    real_dtype,
    shortened,
)
from jsnn._memory import check_buffers, check_plan
from jsnn._names import explained
from jsnn._parts import Parts, check_kinds, checked_parts
from jsnn._random import key_words
from jsnn._rewire import connect_first, edges_of, growing, rewired_state
from jsnn._slow import SlowConnections, SlowCurrents
from jsnn._synapses import Connections, Synapses
from jsnn._units import warn_of_units
from jsnn.coupling import Coupling, GapConnections, GapJunction, Junctions, groups
from jsnn.delivery import Delivery, EventDriven, segment_sum_step
from jsnn.exchange import Exchange, Joint, Relaxation, WaveformRelaxation, check_groups
from jsnn.inputs import Cells, Target
from jsnn.order import AsInNest, Order
from jsnn.population import Population
from jsnn.projection import Projection, locate
from jsnn.rewire import Rewiring
from jsnn.state import (
    NEVER,
    NetworkCoefficients,
    State,
    Steps,
    check_clock,
    check_steps,
    look_at_doubts,
    look_at_inputs,
    look_at_states,
)

_LONGEST_BLOCK = 64  # steps; longer delays do not make longer blocks, which only cost memory


@explained
class Network(eqx.Module):
    """Named populations, projections between them and inputs to them, in steps of `dt` ms.

    **Arguments:**

    - `populations`, `projections`, `inputs`: by name.
    - `dt`: ms.
    - `key`: a PRNG key that edges and drawn weights, delays and parameters of cells are made from;
      needed with projections and where anything is drawn. What is drawn for a population depends on
      the key, its name and that of the parameter only.
    - `couplings`: gap junctions and slow inward currents by name. Populations that gap junctions
      join advance together, with one solver, which is not `Exact()`.
    - `exchange`: how: `Joint()`, or `WaveformRelaxation()` as in NEST.
    - `rewiring`: when the synapses of growing projections come and go: `Rewiring(interval)`.
    - `delivery`: `EventDriven()` or `SegmentSum()`, which give the same spikes and, backward, the
      same gradients. Only the latter can be differentiated forward, as with `jax.jvp`.
    - `order`: of arrivals and thresholds in a step: `order.AsInNest()`, or `order.AsInBrian()`.

    A projection between lists is split into one for each pair, named `"name/pre->post"`. Raises
    `ValueError` or `TypeError`, before anything compiles, for unknown names, times off the grid,
    arrays of the wrong shape, and weights of the wrong sign; warns where numbers can be nothing but
    seconds, volts or amperes.
    """

    populations: dict[str, Population]
    synapses: dict[str, Synapses]
    inputs: dict[str, Input]
    couplings: dict[str, Junctions]
    slow: dict[str, SlowCurrents]
    delivery: Delivery
    exchange: Exchange
    rewiring: Rewiring | None
    order: Order
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
        couplings: Mapping[str, Coupling] | None = None,
        exchange: Exchange | None = None,
        rewiring: Rewiring | None = None,
        order: Order | None = None,
    ):
        check_scalar("dt", dt, low=0.0, strict=True)
        if concrete(dt) is None:
            raise TypeError("dt is traced; it sets the shape of the buffers and must be a number")
        self.dt, self.mesh = float(plain(dt)), None
        self.delivery = EventDriven() if delivery is None else delivery
        if not isinstance(self.delivery, Delivery):
            raise TypeError(f"delivery={shortened(delivery)}; give EventDriven() or SegmentSum()")
        self.exchange = Joint() if exchange is None else exchange
        self.rewiring = rewiring
        self.order = AsInNest() if order is None else order
        if not isinstance(self.order, Order):
            raise TypeError(f"order={shortened(order)}; give AsInNest() or AsInBrian()")
        projections = {} if projections is None else projections
        inputs = {} if inputs is None else inputs
        couplings = {} if couplings is None else couplings
        check_kinds(populations, projections, inputs, couplings, rewiring, self.dt)
        self.synapses, self.couplings, self.slow = {}, {}, {}
        if key is not None:
            check_key(key)
        self.populations, self.inputs = _drawn(populations, key, self.dt), dict(inputs)
        warn_of_units(self.populations, self.inputs, self.dt)
        joined = _ends_of_junctions(couplings)
        for name, population in self.populations.items():
            if name in joined or not population.can_be_compensated:
                population.warn_of_lost_steps(self.dt)
            if name in joined:
                with named(f"population {name!r}"):
                    self.populations[name] = population.not_compensated()
        self.populations, self.inputs, *_ = self._checked_parts()
        if key is None:
            if projections or couplings:
                raise ValueError("key is missing; give one, as jax.random.key(1), to draw with")
            key = jax.random.key(0)  # nothing is drawn
        if isinstance(key, Tracer) and (projections or couplings):
            raise TypeError(
                "a network with projections or couplings is built outside jit, vmap and grad; "
                "inside, change its weights and parameters with equinox.tree_at"
            )
        check_plan(self.populations, projections, couplings, self.dt)
        for name, projection in projections.items():
            own = jax.random.fold_in(key, zlib.crc32(name.encode()))
            self.synapses.update(build(name, projection, self.populations, own, self.dt))
        for name, coupling in couplings.items():
            own = jax.random.fold_in(key, zlib.crc32(name.encode()))
            if isinstance(coupling, GapJunction):
                self.couplings[name] = build_junctions(name, coupling, self.populations, own)
            else:
                made = build_slow(name, coupling, self.populations, own, self.dt)
                self.slow[name] = made
        self._check_exchange()
        check_buffers(
            self,
            {name: (own.slots, own.post[0]) for name, own in self.synapses.items()},
            {name: (own.slots, own.parts[0][0]) for name, own in self.slow.items()},
            self.populations,
        )

    def checked(self) -> "Network":
        """The same, with its parameters as arrays of the working precision.

        Raises for those that were put in the place of others, as with `equinox.tree_at`, and do
        not fit; traced ones are taken as they are. A network is looked at once.
        """
        if "_was_checked" in vars(self):  # no field: whatever is made of this network is new
            return self
        self._check_exchange()
        populations, inputs, *others = self._checked_parts()
        # Lists that differ in length share a program from here on
        inputs = {name: source.lengthened() for name, source in inputs.items()}
        checked = eqx.tree_at(
            lambda n: (n.populations, n.inputs, n.synapses, n.couplings, n.slow),
            self,
            (populations, inputs, *others),
        )
        same = zip(jax.tree.leaves(self), jax.tree.leaves(checked), strict=True)
        checked = self if all(before is after for before, after in same) else checked
        object.__setattr__(checked, "_was_checked", True)
        return checked

    def _check_exchange(self) -> None:
        if not isinstance(self.exchange, Exchange):
            raise TypeError(
                f"exchange={shortened(self.exchange)}; give Joint() or WaveformRelaxation()"
            )
        joined = {part[0] for own in self.couplings.values() if own.ways for part in own.parts}
        if joined:
            coupled = [group for group in self.groups if joined.intersection(group)]
            check_groups(self.exchange, self.populations, coupled, self._least_delay, self.dt)
        both = joined.intersection(own.parts[1][0] for own in self.slow.values())
        if both and isinstance(self.exchange, WaveformRelaxation):
            raise ValueError(
                f"populations {sorted(both)} take slow currents, which relaxed waveforms do not "
                "know of; give exchange=Joint()"
            )

    def _checked_parts(self, doubts: dict[str, list[Array]] | None = None) -> Parts:
        parts = self.populations, self.inputs, self.synapses, self.couplings, self.slow
        return checked_parts(*parts, self.dt, doubts)

    def doubted(self, state: State, steps: int, *more: Array) -> State:
        """A state before so many steps, whose status tells what nobody could raise, since it is
        traced: parameters that are out of their range, a clock that would run over, and more."""
        wrong: dict[str, list[Array]] = {}
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(self)):
            self._checked_parts(wrong)
        if isinstance(state.step, Tracer):
            full = (state.step < 0) | (state.step > self.most_steps - steps)
            for name in self.populations:
                wrong.setdefault(name, []).extend([full, *more])
        return replace(state, status=look_at_doubts(state.status, wrong, state.step))

    @property
    def most_steps(self) -> int:
        """How far steps are counted: what the last of them send arrives at one that int32 holds."""
        delays = [own.max_delay for own in self.synapses.values()]
        delays += [own.slots for own in self.slow.values()]
        return NEVER - 1 - _LONGEST_BLOCK - max(delays, default=0)

    @property
    def block(self) -> int:
        """The number of steps that pass without communication: the least delay."""
        if self.rewiring is not None and not isinstance(self.delivery, EventDriven):
            return 1  # an update may precede any step, and a loop of unknown length has no gradient
        longest = min(self._least_delay, _LONGEST_BLOCK)
        if self.couplings and isinstance(self.exchange, WaveformRelaxation):
            # A window may begin at any step, and must know what arrives in it
            longest = min(self._least_delay - self.exchange.window(self.dt) + 1, longest)
        return max(longest, 1)

    @property
    def _least_delay(self) -> int:
        delays = [s.min_delay for s in self.synapses.values()]
        return min([*delays, *(d for own in self.slow.values() for d in own.delays)], default=NEVER)

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Names of populations that gap junctions join; one without makes a group of its own."""
        return groups(list(self.populations), self.couplings)

    @property
    def n_synapses(self) -> int:
        return sum(s.edges.n_edges for s in self.synapses.values())

    def target(self, source: Input) -> tuple[str, Target]:
        """The population that an input is aimed at, and which of its cells."""
        return target(self.populations, source)

    def connections(
        self, state: State | None = None
    ) -> dict[str, Connections | GapConnections | SlowConnections]:
        """Edges, weights and delays by projection, and edges and conductances, or weights and
        delays, by coupling, in storage order (by source, then target); of projections that grow,
        those of a state, or of the start."""
        edges = edges_of(self, state)
        found: dict[str, Connections | GapConnections | SlowConnections] = {
            name: own.connections(self.dt, edges.get(name)) for name, own in self.synapses.items()
        }
        found |= {name: own.connections(self.dt) for name, own in self.slow.items()}
        return found | {name: own.connections() for name, own in self.couplings.items()}

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
        populations, doubts = {}, {}
        for name, population in self.populations.items():
            own = jax.random.fold_in(draw_key, zlib.crc32(name.encode()))
            with gathered(doubts.setdefault(name, [])):
                populations[name] = population.init(own)
        real, onto = real_dtype(), {name: {} for name in self.populations}
        for name, own in self.slow.items():
            target = own.parts[1][0]
            onto[target][name] = as_array(np.zeros(self.populations[target].n, real))
        populations = _slow.holding(populations, onto)
        edges = {n: s.begin_store() for n, s in self.synapses.items() if s.grown is not None}
        growth = connect_first(self, {n: own.growth for n, own in populations.items()}, edges)
        populations = {n: replace(own, growth=growth[n]) for n, own in populations.items()}
        buffers = {
            name: as_array(np.zeros((s.slots, self.populations[s.post[0]].n), real))
            for name, s in self.synapses.items()
        }
        releases = {
            name: s.init_release() for name, s in self.synapses.items() if not s.is_constant
        }
        # Each in memory of its own: who donates a state donates no buffer twice
        status = {label: jnp.asarray(np.int32(NEVER)) for label in self.labels}
        start: Any = np.int32(0)  # of NumPy, so that it is known inside jit too
        status = look_at_doubts(status, doubts, start)
        return State(
            *(start, key_words(run_key), populations, buffers, releases, status),
            self.begin_relaxation(),
            {
                name: as_array(np.zeros((own.slots, self.populations[own.parts[0][0]].n), real))
                for name, own in self.slow.items()
            },
            edges,
            self.counted,
            dt=self.dt,
        )

    @property
    def counted(self) -> tuple[str, ...]:
        """The projections whose arrivals are counted, and weighed when they are read."""
        return tuple(sorted(name for name, own in self.synapses.items() if own.is_counted))

    @property
    def labels(self) -> list[str]:
        """The names of what has a status."""
        grown = [f"projection/{own.name}" for own in growing(self)]
        return [*self.populations, *map("input/{}".format, self.inputs), *grown]

    def begin_relaxation(self) -> Relaxation | None:
        """What is kept of relaxed waveforms before the first step; None where there are none."""
        if not self.couplings or not isinstance(self.exchange, WaveformRelaxation):
            return None
        coupled = [own for own in self.couplings.values() if own.ways]
        names = {name for own in coupled for name, _, _ in own.parts}
        n = {name: own.n for name, own in self.populations.items() if name in names}
        return Relaxation.begin(self.exchange, n, self.dt) if n else None

    def prepare(self) -> NetworkCoefficients:
        """Turn all parameters into coefficients, once, outside the loop over steps."""
        return NetworkCoefficients(
            {name: population.prepare(self.dt) for name, population in self.populations.items()},
            {name: i.prepare(self.dt, self.target(i)[1]) for name, i in self.inputs.items()},
            {name: s.shared_weight for name, s in self.synapses.items()},
            {name: own.prepare() for name, own in self.couplings.items()},
            {name: own.prepare() for name, own in self.slow.items()},
            Steps(self.dt),
        )

    def step(
        self, state: State, coefficients: NetworkCoefficients | None = None
    ) -> tuple[State, dict[str, Array]]:
        """One step of dt, (step * dt, (step + 1) * dt]: the reference for everything faster.

        Returns the state and `fired` of populations that spike, `[n]`, 1 or 0. Coefficients may be
        given where several steps share them.
        """
        self = self.checked()
        check_steps("state is", state.dt, self.dt)
        check_clock(state.step, 1, self.most_steps)
        if coefficients is None:
            coefficients = self.prepare()
        check_steps("coefficients are", coefficients.steps.dt, self.dt)
        state = self.doubted(state, 1)
        start: Any = state.step
        n = step = jnp.asarray(start)
        if self.rewiring is not None:
            due = step % self.rewiring.steps(self.dt) == 0
            state = jax.lax.cond(due, lambda own: rewired_state(self, own), lambda own: own, state)
        all_rows = {
            name: own.rows(self.dt)
            if own.grown is None
            else own.rows_of_store(state.edges[name], None, 0)
            for name, own in self.synapses.items()
        }

        # What inputs send in this step
        cells = {name: Cells(0, padded(p.n)) for name, p in self.populations.items()}
        inputs = pad_inputs(
            *(self.populations, self.inputs, coefficients.inputs),
            {name: c.n for name, c in cells.items()},
        )
        arrivals, currents = external(
            self.populations, self.inputs, inputs, state.key, n[None], cells, self.dt
        )
        own = {name: p.n for name, p in self.populations.items()}
        arrivals = {
            name: {r: sent[0, : own[name]] for r, sent in by_receptor.items()}
            for name, by_receptor in arrivals.items()
        }
        currents = {name: sent[0, : own[name]] for name, sent in currents.items()}

        # (1) neurons and receptors advance, (2) arrivals of slot n, (3) threshold and reset; in
        # Brian's order the threshold is before (2), and the reset after it
        relaxation = relaxed(
            self,
            coefficients._replace(inputs=inputs),
            state,
            state.populations,
            state.relaxation,
            step,
            cells,
        )
        populations, fired, _ = advance(
            *(self, coefficients, state.populations, state.buffers, arrivals, currents, step),
            relaxation,
        )
        populations = grown(self, coefficients, populations, fired)
        heard, _ = _slow.heard(self, state.signals, n, 1)
        slow = _slow.currents(self, coefficients.slow, heard, 1, own, ALONE)
        slow = jax.tree.map(lambda current: current[0], slow)
        populations = _slow.holding(populations, slow)
        sent = _slow.sent(self, coefficients.populations, populations)
        sent = jax.tree.map(lambda signal: signal[None], sent)
        signals = _slow.remembered(self, state.signals, sent, n, 1)

        # The slot has been read; spikes of step n with a delay d go to slot n + d
        buffers, releases = {}, {}
        for name, synapses in self.synapses.items():
            buffer = state.buffers[name]
            if synapses.slots:
                buffer = buffer.at[step % synapses.slots].set(0)
            buffer = synapses.with_slot(buffer)
            population, first, _ = synapses.pre
            release = state.releases.get(name)
            buffers[name], release = segment_sum_step(
                buffer, release, fired[population], all_rows[name], first, step, self.dt
            )
            if release is not None:
                releases[name] = release

        # A delay of 0 acts at once, after the resets, or, in Brian's order, as if before them
        populations = receive_at_once(
            self, coefficients, state.populations, populations, fired, buffers, step
        )
        for name, synapses in self.synapses.items():
            buffers[name] = synapses.without_slot(buffers[name], step)

        status = look_at_inputs(state.status, self.inputs, coefficients.inputs, n[None], 1, self.dt)
        status = look_at_states(status, populations, n)
        state = replace(
            state,
            step=start + np.int32(1),
            populations=populations,
            buffers=buffers,
            releases=releases,
            status=status,
            relaxation=relaxation,
            signals=signals,
        )
        return state, fired

    def part(self, address: str) -> tuple[str, int, int]:
        """`"cells.exc"` as (population, first cell, last cell exclusive)."""
        return locate(self.populations, address)


def _drawn(
    populations: Mapping[str, Population], key: Array | None, dt: float
) -> dict[str, Population]:
    """Populations with numbers in the place of distributions."""
    made = {}
    for name, population in populations.items():
        with named(f"population {name!r}"):
            if key is None and (names := population.to_draw):
                raise ValueError(
                    f"{', '.join(names)}: key is missing; give the network one, as "
                    "key=jax.random.key(1), to draw with"
                )
            if key is not None:
                own = jax.random.fold_in(key, zlib.crc32(f"population/{name}".encode()))
                population = population.drawn(own, dt)
        made[name] = population
    return made


def _ends_of_junctions(couplings: Mapping[str, Coupling]) -> set[str]:
    """The populations that gap junctions join."""
    ends = [
        end
        for own in couplings.values()
        if isinstance(own, GapJunction)
        for end in (own.pre, own.post)
    ]
    return {end.partition(".")[0] for end in ends}
