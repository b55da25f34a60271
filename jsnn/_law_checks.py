"""Whether a law is what it says of itself.

A solver believes what a law declares. A class derived from another inherits its declarations with
its equations, and a change of one that forgets the other would be integrated wrongly without a
word.
"""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import Literal
from jax.flatten_util import ravel_pytree

from jsnn._math import real_dtype
from jsnn._population_checks import Cell
from jsnn._system import System, vector_field
from jsnn.astrocytes import LiRinzel
from jsnn.neurons import AdEx
from jsnn.receptors import Receptor
from jsnn.solvers import Solver

_KNOWN = (*get_args(Cell), *get_args(Receptor))  # which tests look at
_WITHIN = ("inner", "outer", "overshoot", "reset_within")
# How a number depends on states and current: not, in proportion, on a line, or in another way
_CONSTANT, _PROPORTIONAL, _LINE, _OTHER = range(4)
_SCALES = (0.7, 30.0)  # of membranes, currents and times, as a law divides them by parameters
_MOVING = ("broadcast_in_dim", "reshape", "squeeze", "copy", "slice", "expand_dims", "transpose")
_ADDING = ("add", "sub", "add_any", "select_n", "concatenate")


def check_law(neuron: Any, receptors: Mapping[str, Receptor], solver: Solver) -> None:
    """Raise `ValueError` where the law of the cells, or one of a receptor, contradicts what it
    declares. Nothing is compiled but for laws that do not look linear and say that they are."""
    if all(type(part) in _KNOWN for part in (neuron, *receptors.values())):
        return
    kind = type(neuron).__name__
    if neuron.is_spiking == isinstance(neuron, LiRinzel):
        raise ValueError(
            f"{kind}.is_spiking is {neuron.is_spiking}; it is True of neurons and False of "
            "astrocytes"
        )
    states = sorted(neuron.initial())
    if strange := [name for name in neuron.frozen if name not in states]:
        raise ValueError(
            f"{kind}.frozen names {strange}, which are no states of it; known are {states}"
        )
    missing = [name for name in _WITHIN if not hasattr(neuron, name)]
    if neuron.resets_within and missing:
        raise ValueError(
            f"{kind}.resets_within is True, but it has no {missing}; return False, or derive it "
            "from AdEx"
        )
    if not neuron.resets_within and type(neuron).vector_field is AdEx.vector_field:
        raise ValueError(
            f"{kind}.resets_within is False, but its vector field is that of AdEx, in coordinates "
            "of which only such resets know; return True, or write vector_field in v and w"
        )
    strong = any(receptor.is_conductance for receptor in receptors.values())
    if neuron.resets_within and strong:
        if "pace" not in inspect.signature(neuron.vector_field).parameters:
            raise ValueError(
                f"{kind}.vector_field takes no pace, by which strong conductances hold a membrane "
                "back; give it the parameter pace=None, as that of AdEx has it, and hand it on"
            )
    for name, receptor in receptors.items():
        _check_receptor(name, receptor, solver)
    _check_slopes(neuron, dict(receptors), solver)


def _check_receptor(name: str, receptor: Receptor, solver: Solver) -> None:
    """Both ways of writing a filter have to come from one class, or one of them is forgotten."""
    used, other = ("after", "vector_field") if solver.knows_receptors else ("vector_field", "after")
    order = type(receptor).__mro__
    place = {
        method: next(i for i, base in enumerate(order) if method in vars(base))
        for method in ("after", "vector_field")
    }
    if place[other] < place[used]:
        raise ValueError(
            f"receptor {name!r}: {type(receptor).__name__} has a {other}() of its own, but the "
            f"{used}() of {order[place[used]].__name__}, which is what {type(solver).__name__}() "
            f"uses; write both"
        )


def _check_slopes(neuron: Any, receptors: dict[str, Receptor], solver: Solver) -> None:
    zero = jax.ShapeDtypeStruct((), real_dtype())
    y = {
        "cell": dict.fromkeys(neuron.initial(), zero),
        "receptors": {name: dict.fromkeys(own.states, zero) for name, own in receptors.items()},
    }
    system = System(neuron, receptors)
    traced, slopes = jax.make_jaxpr(partial(vector_field, system), return_shape=True)(
        y, zero, jax.ShapeDtypeStruct((), bool)
    )
    kind = type(neuron).__name__
    if set(slopes["cell"]) != set(y["cell"]):
        raise ValueError(
            f"{kind}.vector_field returns slopes of {sorted(slopes['cell'])}, and {kind}.initial "
            f"has the states {sorted(y['cell'])}; give both the same names"
        )
    for name, own in receptors.items():
        if set(slopes["receptors"][name]) != set(own.states):
            raise ValueError(
                f"receptor {name!r}: {type(own).__name__}.vector_field returns slopes of "
                f"{sorted(slopes['receptors'][name])}, and its states are {list(own.states)}"
            )
    if not solver.linear_only:
        return
    start = [_PROPORTIONAL] * (len(traced.jaxpr.invars) - 1) + [_CONSTANT]  # whether it is frozen
    found = jax.tree.unflatten(jax.tree.structure(slopes), _degrees(traced.jaxpr, start))
    lines = all(degree <= _LINE for degree in found["cell"].values())
    through_0 = all(
        degree == _PROPORTIONAL for own in found["receptors"].values() for degree in own.values()
    )
    if lines and through_0:
        return
    culprit = _not_linear_of_any(system, y)
    if culprit is not None:
        of_cell = culprit == "cell"
        what = kind if of_cell else type(receptors[culprit]).__name__
        remedy = "let its is_linear return False, or give" if of_cell else "give"
        raise ValueError(
            f"solver=Exact() wants a linear system, but the vector field of {what} is not linear "
            f"in {'its states' if of_cell else 'what it filters'}; {remedy} solver=RK4(), "
            "ExponentialEuler() or Euler()"
        )


def _degrees(jaxpr: Any, given: list[int]) -> list[int]:
    """How each result of a program depends on its arguments, as far as its operations tell."""
    degree = dict(zip(jaxpr.invars, given, strict=True))
    of = lambda x: _CONSTANT if isinstance(x, Literal) else degree.get(x, _CONSTANT)  # noqa: E731
    for step in jaxpr.eqns:
        mine = [of(x) for x in step.invars]
        name, inner = step.primitive.name, step.params.get("jaxpr")
        if not any(mine):
            made = [_CONSTANT] * len(step.outvars)
        elif name in ("jit", "pjit") and inner is not None:
            made = _degrees(inner.jaxpr, mine)
        else:
            made = [_degree(name, mine)] * len(step.outvars)
        degree.update(zip(step.outvars, made, strict=True))
    return [of(x) for x in jaxpr.outvars]


def _degree(operation: str, given: list[int]) -> int:
    if operation in _MOVING or operation in ("neg", "convert_element_type"):
        return max(given)
    if operation == "select_n" and given[0]:
        return _OTHER
    if operation in _ADDING:
        terms = given[1:] if operation == "select_n" else given
        return max(terms) if min(terms) else max(_LINE, *terms)
    if operation == "mul" and min(given) == _CONSTANT:
        return max(given)
    if operation == "div" and given[1] == _CONSTANT:
        return given[0]
    return _OTHER


def _not_linear_of_any(system: System, like: Any) -> str | None:
    """As `_not_linear`, with small and large numbers in the place of those that are traced."""
    try:
        with jax.ensure_compile_time_eval():
            for scale in _SCALES if _is_traced(system) else _SCALES[:1]:
                some = lambda leaf, scale=scale: (  # noqa: E731
                    np.full(leaf.shape, scale, leaf.dtype) if _is_traced(leaf) else leaf
                )
                if (culprit := _not_linear(jax.tree.map(some, system), like)) is not None:
                    return culprit
    except jax.errors.TracerArrayConversionError:
        pass  # what it does not hold itself: nothing is known of it
    return None


def _is_traced(tree: Any) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def _not_linear(system: System, like: Any) -> str | None:
    """Whose slopes are off the line through two points, in the middle between them: `"cell"`, the
    name of a receptor, or None. Of receptors 0 has to stay where it is, too."""
    leaves, structure = jax.tree.flatten_with_path((like, jax.ShapeDtypeStruct((), real_dtype())))
    rng = np.random.default_rng(0)
    ends = np.zeros((2, 4, len(leaves)))
    for i, (path, _) in enumerate(leaves):
        is_membrane = getattr(path[-1], "key", None) == "v"
        ends[..., i] = rng.uniform(*((-110.0, 60.0) if is_membrane else (0.0, 100.0)), (2, 4))
        if not is_membrane:  # also from a little to much, for what saturates
            ends[1, 2:, i] *= 50
    points = np.concatenate([*ends, ends.mean(0), np.zeros((1, len(leaves)))])

    def slopes(point: Any) -> Any:
        y, current = jax.tree.unflatten(structure, list(point))
        found = vector_field(system, y, current)
        parts = {"cell": found["cell"], **{f"/{n}": own for n, own in found["receptors"].items()}}
        return {name: ravel_pytree(own)[0] for name, own in parts.items()}

    made = jax.jit(jax.vmap(slopes))(jnp.asarray(points, real_dtype()))
    for name, own in made.items():
        own = np.asarray(own, np.float64)
        a, b, middle, zero = own[:4], own[4:8], own[8:12], own[12]
        off = np.abs(middle - (a + b) / 2)
        fine = off <= 1e-3 * (np.abs(a) + np.abs(b) + np.abs(middle) + 1e-6)
        if not np.all(fine) or (name != "cell" and np.any(zero)):
            return name.removeprefix("/")
    return None
