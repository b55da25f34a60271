"""What the constructor of a population asks of its arguments."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jsnn._math import check_name, is_distribution, real_dtype, shortened
from jsnn.astrocytes import LiRinzel
from jsnn.growth import CALCIUM, Growth
from jsnn.neurons import LIF, AdEx, HodgkinHuxley
from jsnn.receptors import Delta, Receptor
from jsnn.solvers import RK4, Exact, Piecewise, Solver, Splitting
from jsnn.surrogate import Surrogate

Neuron = LIF | AdEx | HodgkinHuxley
Cell = Neuron | LiRinzel


def number_of_cells(n: Any) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"n={n!r} is not an integer; give the number of cells")
    if n < 1:
        raise ValueError(f"n={n}: a population has at least one cell")
    return int(n)


def check_arguments(
    neuron: Any, receptors: Any, slices: Any, initial: Any, solver: Any, surrogate: Any
) -> None:
    """Raise for what is of the wrong kind."""
    if not isinstance(neuron, Cell):
        raise TypeError(f"neuron={neuron!r} is no neuron or astrocyte; give one, as LIF()")
    for kind, given in (("receptors", receptors), ("slices", slices), ("initial", initial)):
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"{kind}={shortened(given)} is not a dictionary; give names")
    if solver is not None and not isinstance(solver, Solver):
        raise TypeError(f"solver={solver!r} is no solver; give one, as RK4()")
    if surrogate is not None and not isinstance(surrogate, Surrogate):
        raise TypeError(f"surrogate={surrogate!r} is no surrogate; give one, as Triangular()")
    for name, receptor in (receptors or {}).items():
        check_name("receptor", name)
        if not isinstance(receptor, Receptor):
            raise TypeError(f"receptor {name!r} is {receptor!r}; give Delta, Exponential, Alpha")
        if not neuron.is_spiking and not isinstance(receptor, Delta):
            raise ValueError(
                f"receptor {name!r} is {type(receptor).__name__}, but arrivals at an "
                f"astrocyte have no time course of their own; give Delta()"
            )


def solver_of(neuron: Cell, receptors: Mapping[str, Receptor], solver: Solver | None) -> Solver:
    """The given solver, or the usual one; raises where it does not fit."""
    conductances = [name for name, r in receptors.items() if r.is_conductance]
    is_linear = neuron.is_linear and not conductances
    if solver is None:
        solver = Exact() if is_linear else Splitting() if neuron.is_stiff else RK4()
    if solver.linear_only and not is_linear:
        why = f"the conductances {conductances} multiply the membrane"
        if not neuron.is_linear:
            why = f"{type(neuron).__name__} is none"
        raise ValueError(
            f"solver=Exact() wants a linear system, but {why}; use RK4(), Splitting(), "
            "ExponentialEuler() or Euler()"
        )
    if neuron.resets_within and not isinstance(solver, Piecewise):
        raise ValueError(
            f"solver={solver!r} does not find the spikes of {type(neuron).__name__} "
            "within a step; give RK4(), ExponentialEuler() or Euler()"
        )
    return solver


def state_names(neuron: Cell) -> list[str]:
    """The names of a law's states, whatever its parameters are."""
    number = np.ones((), real_dtype())
    example = jax.tree.map(lambda _: number, neuron, is_leaf=is_distribution)
    return list(jax.eval_shape(lambda: example.initial()))


def check_growth(neuron: Cell, growth: Growth, receptors: Mapping[str, Receptor]) -> None:
    """Raise where the cells leave no calcium, or a name stands for something else already."""
    taken = [*state_names(neuron), *receptors, "refractory"]
    if growth.calcium is not None and not neuron.is_spiking:
        raise ValueError(
            f"calcium={growth.calcium!r}: {type(neuron).__name__} fires no spikes that would leave "
            "calcium; give it to neurons"
        )
    for name in growth.elements:
        if name in (*taken, CALCIUM):
            raise ValueError(f"element {name!r}: a state or receptor has this name; give another")
    if growth.calcium is not None and CALCIUM in taken:
        raise ValueError(f"receptor {CALCIUM!r}: calcium has this name; give another")


def bounds(name: str, part: Any, n: int) -> tuple[int, int]:
    """First and last (exclusive) cell of a slice of n cells."""
    check_name("slice", name)
    if not isinstance(part, slice) or part.step not in (None, 1):
        raise TypeError(f"slice {name!r} is {part!r}; give slice(first, last) without a step")
    try:
        low, high, _ = part.indices(n)
    except TypeError:
        raise TypeError(f"slice {name!r} is {part!r}; give whole numbers of cells") from None
    if high <= low or (part.stop is not None and part.stop > n):
        raise ValueError(f"slice {name!r} is {part!r}, which is not a part of {n} cells")
    return low, high
