"""n copies of a neuron with its receptors, solver and initial state."""

import warnings
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jsnn import _resets
from jsnn._law_checks import check_law
from jsnn._math import (
    add_in_two,
    as_real,
    check_cells,
    check_number,
    concrete,
    doubt,
    doubt_whole_steps,
    expm_less_one,
    filled,
    named,
    real_dtype,
    remade,
    shortened,
    unknown,
    whole_steps_array,
)
from jsnn._names import explained
from jsnn._population_checks import (
    Cell,
    Neuron,
    bounds,
    check_arguments,
    check_growth,
    number_of_cells,
    solver_of,
    state_names,
)
from jsnn._system import Current, System, receptors_after, vector_field
from jsnn.adjoint import Cut, Path
from jsnn.distributions import Distribution, drawn, is_distribution
from jsnn.growth import Calcium, Growth, SynapticElements
from jsnn.growth import Coefficients as GrowthCoefficients
from jsnn.neurons import AdEx
from jsnn.order import AsInNest, Order
from jsnn.receptors import Delta, Receptor
from jsnn.solvers import RK4, Drive, Euler, Exact, Field, Piecewise, Solver
from jsnn.surrogate import Surrogate, Triangular

Values = dict[str, Array]
_CUT, _AS_IN_NEST = Cut(), AsInNest()
STRONGEST = 1.6  # h g / c_m, at which RK4 takes most of the way in a substep
_SHORTEST = 1e-3  # of a time constant, in steps: beyond it the propagator runs out of digits
_SMALLEST = 1e-3  # part of a time constant in a step, below which float32 loses what it brings
_SMALLEST_OF_IP3 = 1e-5  # the same of IP3, which steps of that size bring to within 0.0007 uM


class PopulationState(eqx.Module):
    """`cell` and `receptors` by name, each `[n]`; `refractory` counts the frozen steps left;
    `slow` are the slow currents of the next step by coupling (pA); `growth` are calcium and
    synaptic elements, with what their sums keep; `rest` is, of `compensated` populations, what the
    last digits of states cannot hold."""

    cell: Values
    receptors: dict[str, Values]
    refractory: Array
    slow: Values = eqx.field(default_factory=dict)
    growth: Values = eqx.field(default_factory=dict)
    rest: Values = eqx.field(default_factory=dict)


class Moved(NamedTuple):
    """Where a solver leaves a population, and the spikes of a law that resets within the step."""

    state: PopulationState
    spikes: _resets.Spikes | None


class Coefficients(NamedTuple):
    """Parameters turned into what a step needs. The last axis of each is the cells' (or 1)."""

    system: System
    solver: Any
    refractory_steps: Array
    growth: GrowthCoefficients | None


@explained
class Population(eqx.Module):
    """n cells of one law.

    **Arguments:**

    - `neuron`: the law and its parameters, of a neuron or an astrocyte. Each, as those of receptors
      and elements, is a scalar, `[n]`, or a distribution that a network draws from, once, when it
      is built; drawn refractory times are rounded to whole steps.
    - `n`: the number of cells.
    - `receptors`: named filters of the arriving spikes.
    - `solver`: `Exact()` where the system is linear (default there), else `RK4()` (default),
      `Splitting()` (default where it is stiff), `ExponentialEuler()` or `Euler()`.
    - `slices`: names of parts of the population, `{"exc": slice(0, 80), "inh": slice(80, 100)}`.
      Part `exc` of population `cells` is addressed as `"cells.exc"`.
    - `initial`: values of the cell's states at the start by name: a scalar, `[n]`, or a
      distribution to draw from. A state of a receptor is called `"receptor.state"`.
    - `surrogate`: the pseudo-derivative of the threshold.
    - `calcium`: a trace of the spikes of each neuron, the state `"ca"`.
    - `elements`: named kinds of synaptic elements that grow under it, each a state of its name; as
      `"name.connected"` the number of connected ones can be recorded. They imply `Calcium()`.
    - `compensated`: whether the membrane, or every state of an astrocyte, is kept in two numbers,
      of which the second holds what the last digit of the first cannot. Left out, it is so in
      float32 where a step is less than a thousandth of a membrane's time constant: each step then
      brings less than 500 last digits of v at most, and rounding would move the end of its way by
      more than 2e-3 mV. Of astrocytes, where a step is less than 1e-5 of tau_ip3: their IP3 stands
      still where it is nearer to its end than 6e-8 tau_ip3 / dt of itself. It is not done for
      `AdEx`, whose coordinates are others, nor of what gap junctions join, both of which are warned
      of, nor in float64. A network decides it when it is built: give True where slower membranes
      are put in later, and False for none and no warning.

    Raises `ValueError` or `TypeError` for empty populations, arrays that are not `[n]`, unknown
    names, `Exact` for a system that is not linear, and a law that is not what it declares: one
    derived from another inherits `is_linear`, `frozen` and the like with its equations.
    """

    neuron: Cell
    receptors: dict[str, Receptor]
    solver: Solver
    surrogate: Surrogate
    initial: dict[str, Any]
    growth: Growth
    n: int = eqx.field(static=True)
    slices: tuple[tuple[str, int, int], ...] = eqx.field(static=True)
    compensated: bool | None = eqx.field(static=True)
    in_two: bool | None = eqx.field(static=True)  # whether it is, which a network decides

    def __init__(
        self,
        neuron: Cell,
        n: int,
        receptors: Mapping[str, Receptor] | None = None,
        *,
        solver: Solver | None = None,
        slices: Mapping[str, slice] | None = None,
        initial: Mapping[str, ArrayLike | Distribution] | None = None,
        surrogate: Surrogate | None = None,
        calcium: Calcium | None = None,
        elements: Mapping[str, SynapticElements] | None = None,
        compensated: bool | None = None,
    ):
        self.n = number_of_cells(n)
        check_arguments(neuron, receptors, slices, initial, solver, surrogate)
        self.neuron = neuron
        self.receptors = dict(receptors or {})
        self.solver = solver_of(neuron, self.receptors, solver)
        self.growth = Growth(calcium, elements)
        check_growth(neuron, self.growth, self.receptors)
        self.surrogate = Triangular() if surrogate is None else surrogate
        if compensated is not None and not isinstance(compensated, bool):
            raise TypeError(f"compensated={shortened(compensated)}; give True, False or None")
        if compensated and not self.can_be_compensated:
            raise ValueError(
                f"compensated=True: {type(neuron).__name__} is not moved by changes of a membrane "
                "v; leave it out"
            )
        self.compensated, self.in_two = compensated, compensated
        self.slices = tuple(
            (name, *bounds(name, part, self.n)) for name, part in (slices or {}).items()
        )
        self.initial = {}
        values: Mapping[str, Any] = {} if initial is None else initial
        for name, value in values.items():
            if name not in self.states:
                raise unknown("state", name, self.states)
            if not is_distribution(value):
                check_number(f"initial[{name!r}]", value, low=self._least(name))
                value = as_real(value)
            self.initial[name] = value
        self._check_cells()

    def _check_cells(self) -> None:
        for path, value in jax.tree.leaves_with_path(self.neuron):
            check_cells(jax.tree_util.keystr(path, simple=True, separator="."), value, self.n)
        for name, receptor in self.receptors.items():
            for field, value in vars(receptor).items():
                check_cells(f"{name}.{field}", 0.0 if value is None else value, self.n)
        for path, value in jax.tree.leaves_with_path(self.growth):
            check_cells(jax.tree_util.keystr(path, simple=True, separator="."), value, self.n)
        for name, value in self.initial.items():
            if not is_distribution(value):
                check_number(f"initial[{name!r}]", value, low=self._least(name))
                check_cells(f"initial[{name!r}]", value, self.n)
        if not self.to_draw:
            check_law(self.neuron, self.receptors, self.solver)

    def _least(self, state: str) -> float | None:
        """What a state must not be below."""
        receptor, _, own = state.rpartition(".")
        is_conductance = own == "g" and self.receptors[receptor].is_conductance
        grows = state in self.growth.states
        return 0.0 if is_conductance or grows or not self.neuron.is_spiking else None

    @property
    def states(self) -> list[str]:
        """The names of all states, as recorders and `initial` use them."""
        filters = [f"{name}.{s}" for name, r in self.receptors.items() for s in r.states]
        return [*state_names(self.neuron), *filters, *self.growth.states]

    @property
    def to_draw(self) -> list[str]:
        """The names of the parameters that are distributions."""
        return [_name(path) for path, value in self._parameters() if is_distribution(value)]

    def _parameters(self) -> list[tuple[Any, Any]]:
        parts = (self.neuron, self.receptors, self.growth)
        return jax.tree.leaves_with_path(parts, is_leaf=is_distribution)

    def drawn(self, key: Array, dt: float) -> "Population":
        """The same with numbers `[n]` in the place of distributions: a function of the key and of
        the name of the parameter."""
        if not self.to_draw:
            return self
        parts = (self.neuron, self.receptors, self.growth)

        def numbers(path: Any, value: Any) -> Any:
            if not is_distribution(value):
                return value
            own = jax.random.fold_in(key, zlib.crc32(_name(path).encode()))
            return as_real(drawn(value, own, self.n))

        parts = jax.tree_util.tree_map_with_path(numbers, parts, is_leaf=is_distribution)
        with named("as drawn"):
            neuron, growth = remade(parts[0]), remade(parts[2])
            receptors = {name: remade(own) for name, own in parts[1].items()}
        if "t_ref" in self.to_draw:
            known = concrete(neuron.t_ref)
            t_ref = neuron.t_ref if known is None else known.astype(np.float64)
            round_ = jnp.rint if known is None else np.rint
            neuron = eqx.tree_at(lambda own: own.t_ref, neuron, as_real(round_(t_ref / dt) * dt))
        return eqx.tree_at(
            lambda p: (p.neuron, p.receptors, p.growth),
            self,
            (neuron, receptors, growth),
            is_leaf=is_distribution,
        )

    def _check_is_drawn(self) -> None:
        if names := self.to_draw:
            raise ValueError(
                f"{', '.join(names)}: distributions in the place of parameters are drawn from when "
                "a network is built, as jsnn.Network({'cells': population}, dt=0.1, key=key)"
            )

    def part(self, name: str) -> tuple[int, int]:
        """First and last (exclusive) cell of a named slice; of all cells for the empty name."""
        parts = {"": (0, self.n), **{part: (low, high) for part, low, high in self.slices}}
        if name not in parts:
            raise unknown("slice", name, list(parts)[1:])
        return parts[name]

    def init(self, key: Array) -> PopulationState:
        """The state at the start, each leaf `[n]`; the key serves what is drawn."""
        self._check_is_drawn()
        values = {f"{r}.{s}": 0.0 for r, f in self.receptors.items() for s in f.states}
        values = {**values, **self.neuron.initial()}
        for name, value in self.initial.items():
            if is_distribution(value):
                own = jax.random.fold_in(key, zlib.crc32(name.encode()))
                value = drawn(value, own, self.n)
                check_number(f"initial[{name!r}], as drawn,", value, low=self._least(name))
            values[name] = value
        full = {name: filled(as_real(value), self.n) for name, value in values.items()}
        receptors = {
            name: {state: full[f"{name}.{state}"] for state in receptor.states}
            for name, receptor in self.receptors.items()
        }
        cell = {name: full[name] for name in self.neuron.initial()}
        growth = self.growth.init(full, self.n)
        rest = {name: filled(as_real(0.0), self.n) for name in self._kept_in_two if self.in_two}
        refractory = filled(np.int32(0), self.n)
        return PopulationState(cell, receptors, refractory, growth=growth, rest=rest)

    def checked(self, dt: float) -> "Population":
        """The same, made anew of its parameters; raises for those that are out of their range or
        do not fit a step of dt.

        The constructors see what they are given; this sees what was put in its place since.
        """
        self._check_is_drawn()
        receptors = {name: remade(receptor) for name, receptor in self.receptors.items()}
        # The dictionary as a whole: inside `tree_at` its values have another order
        self = eqx.tree_at(
            lambda p: (p.neuron, p.surrogate, p.receptors, p.growth),
            self,
            (remade(self.neuron), remade(self.surrogate), receptors, remade(self.growth)),
        )
        for part in (self.neuron, *self.receptors.values(), self.growth.calcium):
            if part is None:
                continue
            for name, value in vars(part).items():
                if value is None or not name.startswith("tau"):
                    continue
                tau = concrete(value)
                if tau is None:
                    doubt(lambda tau: tau < _SHORTEST * dt, value)
                elif np.any(tau < _SHORTEST * dt):
                    raise ValueError(
                        f"{name}={np.min(tau):g} ms is too short for steps of dt={dt:g} ms; give "
                        f"at least {_SHORTEST * dt:g} ms"
                    )
        self._check_cells()
        self._check_leak(dt)
        t_ref = concrete(self._t_ref)
        if t_ref is None:
            doubt_whole_steps(self._t_ref, dt)
        else:
            whole_steps_array("t_ref", t_ref, dt)
        if self.compensated is None:
            needed = self._should_be_compensated(dt)
            if self.in_two is None:
                object.__setattr__(self, "in_two", needed)
            elif needed and not self.in_two:
                warnings.warn(
                    f"states have become so slow that steps of dt={dt:g} ms bring less than "
                    "their last digit: the network was built with faster ones; build it anew, or "
                    "with compensated=True",
                    stacklevel=2,
                )
        return self

    def _check_leak(self, dt: float) -> None:
        """Raise where a membrane is faster than its solver can follow, whatever else acts on it."""
        rate = _leak_rate(self.neuron)
        if rate is None or not isinstance(self.solver, (RK4, Euler)):
            return
        fastest = self.solver.fastest * self.solver.n_pieces / dt
        known = concrete(rate)
        if known is None:
            doubt(lambda rate: rate > fastest, rate)
        elif np.any(known > fastest):
            raise ValueError(
                f"membranes of {1 / np.max(known):g} ms are too fast for {self.solver} in steps of "
                f"dt={dt:g} ms, which takes {1 / fastest:g} ms or more; give a shorter dt, more "
                "substeps or solver=ExponentialEuler()"
            )

    def warn_of_lost_steps(self, dt: float) -> None:
        """Warn where float32 loses what steps bring to membranes that cannot be compensated."""
        if self.compensated is None and self._is_slow(dt):
            warnings.warn(
                f"steps of dt={dt:g} ms bring less than the last digits of membranes as slow as "
                f"those of {type(self.neuron).__name__} here, which float32 loses; give longer "
                "steps, or enable x64 (compensated=False leaves this out)",
                stacklevel=7,  # whoever builds the network
            )

    def not_compensated(self) -> "Population":
        """The same, for cells that gap junctions join, which advance as one system."""
        if self.compensated:
            raise ValueError(
                "compensated=True, but gap junctions join its cells, which then advance as one "
                "system; leave it out"
            )
        made = jax.tree.map(lambda leaf: leaf, self)
        object.__setattr__(made, "compensated", False)
        object.__setattr__(made, "in_two", False)
        return made

    @property
    def _kept_in_two(self) -> tuple[str, ...]:
        """The states that can be kept in two numbers."""
        if not self.neuron.is_spiking:
            return tuple(self.neuron.initial())
        return ("v",) if "v" in self.neuron.initial() and not self.neuron.resets_within else ()

    def _should_be_compensated(self, dt: float) -> bool:
        return self.can_be_compensated and self._is_slow(dt)

    @property
    def can_be_compensated(self) -> bool:
        return bool(self._kept_in_two)

    def _is_slow(self, dt: float) -> bool:
        """Whether steps are so small that float32 would lose what they bring."""
        if real_dtype() != np.float32:
            return False
        neuron: Any = self.neuron
        if not neuron.is_spiking:
            slowest = concrete(neuron.tau_ip3)
            return slowest is not None and bool(np.any(dt < _SMALLEST_OF_IP3 * slowest))
        if hasattr(neuron, "tau_m"):
            slowest = concrete(neuron.tau_m)
        else:
            c_m, g_l = concrete(neuron.c_m), concrete(neuron.g_l)
            if c_m is None or g_l is None:
                return False
            slowest = np.divide(
                c_m, g_l, out=np.full(np.broadcast(c_m, g_l).shape, np.inf), where=g_l > 0
            )
        return slowest is not None and bool(np.any(dt < _SMALLEST * slowest))

    @property
    def _t_ref(self) -> Array:
        return self.neuron.t_ref if isinstance(self.neuron, Neuron) else as_real(0.0)

    def weight_sign(self, receptor: str) -> int | None:
        """The sign that weights onto a receptor must have, 1 or -1; None where it may be either."""
        return self.receptors[receptor].weight_sign if self.neuron.is_spiking else 1

    def prepare(self, dt: float) -> Coefficients:
        """Turn the parameters into coefficients, once, outside the loop over steps."""
        self._check_is_drawn()
        system = System(self.neuron, self.receptors)
        zero = jnp.zeros((), real_dtype())
        example = {
            "cell": {name: zero for name in self.neuron.initial()},
            "receptors": {n: {s: zero for s in r.states} for n, r in self.receptors.items()},
        }
        more = (expm_less_one,) if self.in_two and isinstance(self.solver, Exact) else ()
        solver = self.solver.prepare(vector_field, system, example, dt, *more)
        steps = jnp.rint(self._t_ref / dt).astype(jnp.int32)
        return Coefficients(system, solver, steps, self.growth.prepare(dt))

    def step(
        self,
        coefficients: Coefficients,
        state: PopulationState,
        arrivals: Mapping[str, Array],
        current: Array,
        dt: float,
    ) -> tuple[PopulationState, Array, Array]:
        """One step of dt, with the arrivals of its slot by receptor and the current held in it.

        Returns the state, `fired` `[n]` (1 or 0 in the working precision, differentiable through
        the surrogate), and `active` `[n]`: the cells within the surrogate's support. The reset has
        no derivative by the spike, as by default in `jsnn.adjoint.Backprop`.
        """
        moved = self.move(coefficients, state, lambda at, y: Current(at, current), dt)
        state, fired, active = self.finish(coefficients, state, moved, arrivals)
        return self.grown(coefficients, state, fired), fired, active

    def move(
        self, coefficients: Coefficients, state: PopulationState, drive: Drive, dt: float
    ) -> Moved:
        """(1) Neuron and receptors advance by dt, under a current that may change in it."""
        if self.neuron.resets_within:
            return self._move_with_resets(coefficients, state, drive, dt)
        if self.in_two:
            return self._move_in_two(coefficients, state, drive, dt)
        field, y, system = (
            self.field(coefficients.system, state, dt),
            self.begin(state),
            coefficients.system,
        )
        y = self.solver.step(coefficients.solver, field, system, y, drive, dt)
        return self.moved(coefficients, state, y, dt)

    def _move_in_two(
        self, coefficients: Coefficients, state: PopulationState, drive: Drive, dt: float
    ) -> Moved:
        """The same by changes: the solver moves what is added to the states, from 0 on."""
        begin, system = self.begin(state), coefficients.system
        field, beside = (
            self.field(coefficients.system, state, dt),
            partial(jax.tree.map, jnp.add, begin),
        )
        if isinstance(self.solver, Exact):
            change = self.solver.step(coefficients.solver, field, system, begin, drive, dt)
        else:
            change = self.solver.step(
                coefficients.solver,
                lambda system, change, current: field(system, beside(change), current),
                system,
                jax.tree.map(jnp.zeros_like, begin),
                lambda at, change: drive(at, beside(change)),
                dt,
            )
        y, rest = beside(change), {}
        for name, own in state.rest.items():
            y["cell"][name], new = add_in_two(state.cell[name], own, change["cell"][name])
            stays = name in self.neuron.frozen
            rest[name] = jnp.where(state.refractory > 0, own, new) if stays else new
        moved = self.moved(coefficients, state, y, dt)
        return moved._replace(state=replace(moved.state, rest=rest))

    def begin(self, state: PopulationState) -> Any:
        """What the solver moves: the cells, and the receptors unless it takes them as known."""
        if self.solver.knows_receptors:
            return {"cell": state.cell}
        return {"cell": state.cell, "receptors": state.receptors}

    def field(self, system: System, state: PopulationState, dt: float) -> Field:
        """The right-hand side; the membrane of a refractory cell stands still."""
        return partial(self._field, state, dt, self._pace(system, state, dt), state.refractory > 0)

    def _field(
        self,
        state: PopulationState,
        dt: float,
        pace: Array | None,
        frozen: Array,
        system: System,
        y: Any,
        current: Any,
    ) -> Any:
        if not self.solver.knows_receptors:
            return vector_field(system, y, current, frozen)
        if current.conductance is not None:  # two that pull at each other are twice as fast
            pace = self._pace_under(system, state, dt, 2 * current.conductance)
        y = {**y, "receptors": receptors_after(system, state.receptors, current.at * dt)}
        return {"cell": vector_field(system, y, current, frozen, pace)["cell"]}

    def _pace(self, system: System, state: PopulationState, dt: float) -> Array | None:
        """What slopes of membranes are multiplied by under `RK4`, `[n]`: 1, and less where
        conductances are too strong for its substeps. Such a membrane follows the potential that it
        is drawn to as fast as a substep can tell, and to the same place."""
        strong = any(receptor.is_conductance for receptor in self.receptors.values())
        if not strong or not self.solver.knows_receptors:
            return None
        # Once a step: XLA would divide anew in each kernel that wants it, but for a branch, of
        # which it does not know that it is always taken
        return jax.lax.cond(
            jnp.reshape(state.refractory, -1)[0] >= 0,
            lambda: self._pace_under(system, state, dt, jnp.zeros_like(state.cell["v"])),
            lambda: jnp.ones_like(state.cell["v"]),
        )

    def _pace_under(
        self, system: System, state: PopulationState, dt: float, others: Array
    ) -> Array:
        """The same with other conductances (nS) beside those of the receptors."""
        assert isinstance(self.solver, RK4)
        total = others
        for name, receptor in system.receptors.items():
            if receptor.is_conductance:  # at most what it is in the step
                own = state.receptors[name]
                total = total + (own["g"] + own["dg"] * dt if "dg" in own else own["g"])
        strength = total * (dt / self.solver.n_pieces) * (1 / system.neuron.c_m)
        leak = _leak_rate(system.neuron)
        strength = strength if leak is None else strength + leak * (dt / self.solver.n_pieces)
        return STRONGEST / jnp.maximum(strength, STRONGEST)

    def moved(self, coefficients: Coefficients, state: PopulationState, y: Any, dt: float) -> Moved:
        """The state with what a solver made of it."""
        frozen, before = state.refractory > 0, state.cell
        still = {s: jnp.where(frozen, before[s], y["cell"][s]) for s in self.neuron.frozen}
        cell, system = {**y["cell"], **still}, coefficients.system
        if self.solver.knows_receptors:
            y = {**y, "receptors": receptors_after(system, state.receptors, dt)}
        return Moved(replace(state, cell=cell, receptors=y["receptors"]), None)

    def _move_with_resets(
        self, coefficients: Coefficients, state: PopulationState, drive: Drive, dt: float
    ) -> Moved:
        system, solver = coefficients.system, self.solver
        neuron = system.neuron
        assert isinstance(neuron, AdEx) and isinstance(solver, Piecewise)
        pace = self._pace(system, state, dt)
        law = _resets.Law(
            lambda at, y, frozen: self._field(state, dt, pace, frozen, system, y, drive(at, y)),
            lambda y: neuron.overshoot(y["cell"]),
            lambda y: {**y, "cell": neuron.reset_within(y["cell"])},
        )
        y = {**self.begin(state), "cell": neuron.inner(state.cell)}
        stays = jnp.broadcast_to(coefficients.refractory_steps > 0, state.refractory.shape)
        y, spikes = _resets.step(solver, law, y, state.refractory > 0, stays, dt)
        y = {**y, "cell": neuron.outer(y["cell"])}
        return self.moved(coefficients, state, y, dt)._replace(spikes=spikes)

    def finish(
        self,
        coefficients: Coefficients,
        before: PopulationState,
        moved: Moved,
        arrivals: Mapping[str, Array],
        reset: Path = _CUT,
        order: Order = _AS_IN_NEST,
    ) -> tuple[PopulationState, Array, Array]:
        """What follows the solver in a step, up to its spikes: the state, `fired` and `active`, as
        from `step`. `reset` is the gradient's path from a spike to the reset; `order` says which of
        (2) and (3) is first."""
        neuron, frozen = coefficients.system.neuron, before.refractory > 0
        spikes = moved.spikes
        # (2) arrivals of this slot
        stays = coefficients.refractory_steps > 0  # for the rest of the step of a spike, too
        lost = order.lost(neuron, frozen, None if spikes is None else spikes.fired, stays)
        state = self.receive(coefficients, moved.state, arrivals, lost)
        if not isinstance(neuron, Neuron):
            none = jnp.zeros_like(frozen)
            settled = replace(state, cell=neuron.settle(state.cell))
            return settled, none.astype(real_dtype()), none

        # (3) threshold, reset, refractory countdown
        tested = order.tested(moved.state, state)
        if spikes is None:
            margin = neuron.margin(before.cell, tested.cell)
        elif tested is state and any(isinstance(own, Delta) for own in self.receptors.values()):
            # Arrivals may have brought it beyond its peak at the end of the step
            margin = neuron.margin(before.cell, state.cell)
            margin = jnp.where(spikes.fired, spikes.margin, margin)
        else:
            margin = spikes.margin
        free = 1 - frozen.astype(margin.dtype)
        fired = self.surrogate(margin) * free
        cell = neuron.reset(state.cell, reset(fired))
        if spikes is not None:  # they have been reset
            done = spikes.fired
            cell = {name: jnp.where(done, state.cell[name], own) for name, own in cell.items()}
        left = jnp.maximum(state.refractory - 1, 0)
        refractory = jnp.where(fired > 0, coefficients.refractory_steps, left)
        active = self.surrogate.support(margin) & ~frozen
        rest = {name: jnp.where(fired > 0, 0, own) for name, own in state.rest.items()}
        return replace(state, cell=cell, refractory=refractory, rest=rest), fired, active

    def receive_at_once(
        self,
        coefficients: Coefficients,
        before: PopulationState,
        state: PopulationState,
        fired: Array,
        arrivals: Mapping[str, Array],
        order: Order,
        reset: Path,
    ) -> PopulationState:
        """Hand arrivals in the step of their spike to the cells, which have had their own spikes
        and resets since the state `before`."""
        neuron = coefficients.system.neuron
        if not isinstance(neuron, Neuron):
            return self.receive(coefficients, state, arrivals)
        lost, part = order.at_once(neuron, before.refractory, state.refractory, reset(fired))
        if part is not None:
            arrivals = {
                name: part * amount if isinstance(self.receptors[name], Delta) else amount
                for name, amount in arrivals.items()
            }
        return self.receive(coefficients, state, arrivals, lost)

    def grown(
        self, coefficients: Coefficients, state: PopulationState, fired: Array
    ) -> PopulationState:
        """What follows the spikes of a step: calcium and elements."""
        return replace(state, growth=self.growth.step(coefficients.growth, state.growth, fired))

    def receive(
        self,
        coefficients: Coefficients,
        state: PopulationState,
        arrivals: Mapping[str, Array],
        lost: Array | None = None,
    ) -> PopulationState:
        """Hand arrivals `[n]`, by receptor, to the filters, and `Delta` ones to the cells, but for
        those where they are `lost`: of refractory cells, if left out."""
        lost = state.refractory > 0 if lost is None else lost
        cell, receptors, rest = state.cell, dict(state.receptors), dict(state.rest)
        neuron = coefficients.system.neuron
        for name, amount in arrivals.items():
            receptor = coefficients.system.receptors[name]
            if isinstance(receptor, Delta):
                amount = jnp.where(lost, 0, amount)
                before, cell = cell, dict(neuron.receive(cell, amount))
                if rest:  # alone, an arrival is what it makes of nothing
                    alone = neuron.receive(jax.tree.map(jnp.zeros_like, before), amount)
                for own, less in rest.items():
                    cell[own], rest[own] = add_in_two(before[own], less, alone[own])
            else:
                receptors[name] = receptor.receive(receptors[name], amount)
        return replace(state, cell=cell, receptors=receptors, rest=rest)


def _leak_rate(neuron: Any) -> Array | None:
    """How fast the leak alone moves a membrane (1 / ms)."""
    if hasattr(neuron, "tau_m"):
        return 1 / neuron.tau_m
    return neuron.g_l * (1 / neuron.c_m) if hasattr(neuron, "g_l") else None


def _name(path: Any) -> str:
    """Of a parameter in (neuron, receptors, growth): `"i_e"`, `"ex.tau"`, `"elements.axon.eps"`."""
    return jax.tree_util.keystr(path[1:], simple=True, separator=".")
