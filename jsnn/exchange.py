"""How coupled membranes see each other within a step: at every stage of the solver, or through
waveforms that are relaxed over a window of steps."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jsnn._math import NEVER, as_array, check_scalar, plain, real_dtype, whole_steps
from jsnn._names import explained
from jsnn._system import Current
from jsnn.coupling import Coupled
from jsnn.order import Order
from jsnn.population import Coefficients, Moved, Population, PopulationState

Populations = Mapping[str, Population]
States = dict[str, PopulationState]
Waves = dict[str, Array]


@explained
class Joint(eqx.Module):
    """The populations of a group advance as one system: their solver evaluates the coupling at
    each of its stages, at the membranes of that stage."""


@explained
class WaveformRelaxation(eqx.Module):
    """Cells advance one by one over a window of steps, each under the membranes that its partners
    had in the last round, until they no longer change (Hahne et al. 2015, Front. Neuroinform. 9).

    In a step, a partner's membrane is a polynomial in time: what it is at the start of the step
    (`order` 0), a line to its value at the end (1), or the cubic with its slopes at both ends (3).
    The first round takes partners to stay where they are when the window begins. It converges to
    what `Joint` gives as the window, the step and the tolerance shrink: with an error of the order
    h, h^2 and h^4 in steps of h. Names and defaults are those of NEST's `wfr_` settings.

    **Arguments:**

    - `interval`: the window in ms, whole steps, at most the least delay; a step if None.
    - `tol`: the largest change of a membrane at the end of a step (mV) with which a window has
      converged. A window that does not is an error that `run` raises, and `Solution.status` tells
      its first step. With None all rounds are done, without a test; only so can it be
      differentiated in reverse.
    - `max_iterations`: rounds in a window. 0, with an interval of a step, holds partners at what
      they were after the step before: NEST's `use_wfr=False`, but for its first step, in which
      no current flows there.
    - `order`: of the polynomials, 0, 1 or 3.

    A batch of states that do not share their step, as from `vmap(network.init)`, relaxes a window
    in every step; call `init` inside the `vmap`.

    The state counts windows and iterations, and keeps the largest residual (mV) that a window
    was left with: `Solution.stats["relaxation"]`.
    """

    interval: float | None = eqx.field(static=True, default=1.0)
    tol: float | None = eqx.field(static=True, default=1e-4)
    max_iterations: int = eqx.field(static=True, default=15)
    order: int = eqx.field(static=True, default=3)

    def __init__(
        self,
        interval: float | None = 1.0,
        tol: float | None = 1e-4,
        max_iterations: int = 15,
        order: int = 3,
    ):
        if interval is not None:
            check_scalar("interval", interval, low=0.0, strict=True)
        if tol is not None:
            check_scalar("tol", tol, low=0.0, strict=True)
        whole = isinstance(max_iterations, (int, np.integer))
        if isinstance(max_iterations, bool) or not whole:
            raise TypeError(f"max_iterations={max_iterations!r} is not an integer; give 0 or more")
        if max_iterations < 0:
            raise ValueError(f"max_iterations={max_iterations} is negative; give 0 or more")
        if type(order) is not int or order not in (0, 1, 3):
            raise ValueError(f"order={order!r}; give 0, 1 or 3")
        if max_iterations == 0 and (interval is not None or order != 0):
            raise ValueError(
                "max_iterations=0 holds partners at the step before: give interval=None, order=0"
            )
        self.interval, self.tol = plain(interval), plain(tol)
        self.max_iterations, self.order = int(max_iterations), int(order)

    def window(self, dt: float) -> int:
        """The steps of a window."""
        if self.interval is None:
            return 1
        return whole_steps("interval", self.interval, dt, least=1)


Exchange = Joint | WaveformRelaxation


class Relaxation(eqx.Module):
    """Of a network with waveform relaxation: the waveforms of the window, and what its rounds came
    to so far, as long as int32 holds their number.

    `waves` are by population `[steps, order + 1, n]`: for each step, the polynomial in the part of
    the step that is over, of the sum over partners of conductance times membrane (pA). `windows`
    counts those of every group, `iterations` the rounds of all, `residual` is the largest (mV), and
    `failed` the first step of the first window that did not converge, or `NEVER`.
    """

    waves: Waves
    windows: Array
    iterations: Array
    residual: Array
    failed: Array

    @classmethod
    def begin(cls, exchange: WaveformRelaxation, n: Mapping[str, int], dt: float) -> "Relaxation":
        shape = (exchange.window(dt), exchange.order + 1)
        waves = {name: as_array(np.zeros((*shape, m), real_dtype())) for name, m in n.items()}
        windows, iterations = (jnp.asarray(np.int32(0)) for _ in range(2))
        zero = jnp.asarray(np.zeros((), real_dtype()))
        return cls(waves, windows, iterations, zero, jnp.asarray(np.int32(NEVER)))

    def stats(self) -> dict[str, Array]:
        """Windows, iterations in each, and the largest residual (mV)."""
        a_window = self.iterations / jnp.maximum(self.windows, 1)
        return {"windows": self.windows, "iterations": a_window, "residual": self.residual}

    @property
    def window(self) -> int:
        """The steps of a window."""
        return next(iter(self.waves.values())).shape[0]

    def after(
        self, step: Array, tol: float | None, window: tuple[Waves, Array, Array]
    ) -> "Relaxation":
        """With the waveforms of a new window that begins with this step, its rounds, and what the
        last of them changed."""
        waves, iterations, residual = window
        wrong = (iterations > 0) & ~(residual <= tol) if tol is not None else jnp.asarray(False)
        fits = self.iterations <= NEVER - iterations  # else both stand still
        return Relaxation(
            {**self.waves, **waves},
            self.windows + fits,
            self.iterations + jnp.where(fits, iterations, 0),
            jnp.maximum(self.residual, residual),
            jnp.minimum(self.failed, jnp.where(wrong, step, NEVER)),
        )


class Window(NamedTuple):
    """What reaches the cells in each step of a window: arrivals by population and receptor, and
    currents by population, each with the steps as first axis."""

    arrivals: Mapping[str, Mapping[str, Array]]
    currents: Mapping[str, Array]


def check_groups(
    exchange: Exchange,
    populations: Populations,
    groups: Sequence[tuple[str, ...]],
    least_delay: int,
    dt: float,
) -> None:
    """Raise unless the populations of each group, all of them coupled, can advance together."""
    for group in groups:
        first, solver = group[0], populations[group[0]].solver
        for name in group:
            if populations[name].solver.linear_only:
                raise ValueError(
                    f"population {name!r}: solver={populations[name].solver!r} advances cells one "
                    "by one, but it is coupled; give RK4() or Splitting()"
                )
            if populations[name].neuron.resets_within:
                raise ValueError(
                    f"population {name!r}: {type(populations[name].neuron).__name__} cells reset "
                    "within a step, and cannot be joined by gap junctions; give LIF or "
                    "HodgkinHuxley"
                )
            if populations[name].solver != solver:
                raise ValueError(
                    f"populations {first!r} and {name!r} are coupled and advance together, but "
                    f"have solver={solver!r} and {populations[name].solver!r}; give them the same"
                )
    if isinstance(exchange, WaveformRelaxation) and exchange.window(dt) > max(least_delay, 1):
        raise ValueError(
            f"interval={exchange.interval:g} ms of the relaxation is longer than the least delay "
            f"of {least_delay * dt:g} ms; give at most that"
        )


def move(
    populations: Populations,
    coefficients: Mapping[str, Coefficients],
    states: Mapping[str, PopulationState],
    currents: Mapping[str, Array],
    coupled: Coupled,
    waves: Waves | None,
    dt: float,
) -> dict[str, Moved]:
    """A group of populations over one step, before arrivals and threshold."""
    if not coupled.between:
        return {
            name: own.move(
                coefficients[name], states[name], lambda at, y, n=name: Current(at, currents[n]), dt
            )
            for name, own in populations.items()
        }
    if waves is None:
        return move_together(populations, coefficients, states, currents, coupled, dt)
    return move_apart(populations, coefficients, states, currents, coupled, waves, dt)[0]


def move_together(
    populations: Populations,
    coefficients: Mapping[str, Coefficients],
    states: Mapping[str, PopulationState],
    currents: Mapping[str, Array],
    coupled: Coupled,
    dt: float,
) -> dict[str, Moved]:
    """A group over one step as a single system, with one solver."""
    fields = {
        name: own.field(coefficients[name].system, states[name], dt)
        for name, own in populations.items()
    }

    def field(systems: Any, y: Any, currents: Any) -> Any:
        return {name: own(systems[name], y[name], currents[name]) for name, own in fields.items()}

    def drive(at: Any, y: Any) -> Any:
        received = coupled.received({name: own["cell"]["v"] for name, own in y.items()})
        return {n: Current(at, currents[n] + received[n], conductances[n]) for n in received}

    conductances = coupled.conductances({name: states[name].cell["v"] for name in populations})
    systems = {name: coefficients[name].system for name in populations}
    y = {name: own.begin(states[name]) for name, own in populations.items()}
    solver: Any = next(iter(populations.values())).solver
    y = solver.step(None, field, systems, y, drive, dt)
    return {
        name: own.moved(coefficients[name], states[name], y[name], dt)
        for name, own in populations.items()
    }


def move_apart(
    populations: Populations,
    coefficients: Mapping[str, Coefficients],
    states: Mapping[str, PopulationState],
    currents: Mapping[str, Array],
    coupled: Coupled,
    waves: Waves,
    dt: float,
) -> tuple[dict[str, Moved], dict[str, tuple[Array, Array]]]:
    """Each population over one step, under waveforms `[order + 1, n]` of its partners; and the
    slopes of its membranes at both ends, in mV a step."""
    moved, slopes = {}, {}
    conductances = coupled.conductances({name: states[name].cell["v"] for name in populations})
    for name, population in populations.items():

        def drive(at: Any, y: Any, name: str = name) -> Current:
            received = jnp.zeros_like(waves[name][0])
            for own in waves[name][::-1]:
                received = received * at + own
            return Current(at, currents[name] + received, conductances[name])

        own, state = coefficients[name], states[name]

        field, begin = population.field(own.system, state, dt), population.begin

        def slope(
            at: float, now: PopulationState, own=own, drive=drive, field=field, begin=begin
        ) -> Array:
            y = begin(now)
            return dt * field(own.system, y, drive(at, y))["cell"]["v"]

        moved[name] = population.move(own, state, drive, dt)
        slopes[name] = slope(0.0, state), slope(1.0, moved[name].state)
    return moved, slopes


def relax(
    exchange: WaveformRelaxation,
    populations: Populations,
    coefficients: Mapping[str, Coefficients],
    states: States,
    window: Window,
    coupled: Coupled,
    dt: float,
    order: Order,
) -> tuple[Waves, Array, Array]:
    """The waveforms of a window that begins with these states, the rounds, and what the last of
    them changed (mV)."""
    start = {name: states[name].cell["v"] for name in populations}
    steps = exchange.window(dt)

    def round_(waves: Waves) -> tuple[Waves, Waves]:
        """Every cell over the window: its partners' new waveforms, and membranes after steps."""

        def one(states: States, at: tuple) -> tuple[States, tuple[Waves, Waves]]:
            (arrivals, currents), waves = at
            moved, slopes = move_apart(
                populations, coefficients, states, currents, coupled, waves, dt
            )
            ends = {name: own.state.cell["v"] for name, own in moved.items()}
            own = {
                name: _polynomial(exchange.order, states[name].cell["v"], ends[name], *slopes[name])
                for name in populations
            }
            after = {
                name: p.finish(
                    *(coefficients[name], states[name], moved[name], arrivals[name]), order=order
                )[0]
                for name, p in populations.items()
            }
            return after, (own, ends)

        mine = {name: states[name] for name in populations}
        _, (own, ends) = lax.scan(one, mine, (tuple(window), waves))
        return coupled.received(own), ends

    first = coupled.received(start)
    waves = {
        name: jnp.concatenate([own[None], jnp.zeros((exchange.order, *own.shape), own.dtype)])
        for name, own in first.items()
    }
    repeat = lambda own: jnp.broadcast_to(own, (steps, *own.shape))  # noqa: E731
    waves, ends = jax.tree.map(repeat, waves), jax.tree.map(repeat, start)

    def again(carry: tuple) -> tuple:
        k, waves, before, _ = carry
        waves, ends = round_(waves)
        changes = [jnp.max(jnp.abs(ends[name] - before[name])) for name in ends]
        residual = coupled.devices.largest(jnp.max(jnp.stack(changes)))
        return k + 1, waves, ends, residual

    carry = jnp.zeros((), jnp.int32), waves, ends, jnp.asarray(jnp.inf, real_dtype())
    if exchange.tol is None:
        carry = lax.fori_loop(0, exchange.max_iterations, lambda _, own: again(own), carry)
    elif exchange.max_iterations:
        tol = exchange.tol
        carry = lax.while_loop(
            lambda own: (own[0] < exchange.max_iterations) & ~(own[3] <= tol), again, carry
        )
    k, waves, _, residual = carry
    return waves, k, jnp.where(k > 0, residual, 0)


def _polynomial(order: int, start: Array, end: Array, slope: Array, slope_end: Array) -> Array:
    """Of a membrane within a step of length 1, the coefficients `[order + 1, n]`."""
    if order == 0:
        return start[None]
    if order == 1:
        return jnp.stack([start, end - start])
    up = end - start
    return jnp.stack([start, slope, 3 * up - 2 * slope - slope_end, slope + slope_end - 2 * up])
