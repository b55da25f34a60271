"""What is said where a derivative is asked for that a function does not have.

A function whose rule goes backward, once, does not tell so by itself: in forward mode JAX speaks of
its own words, and a rule that is differentiated in turn fails somewhere inside, or gives a number
that leaves a part out.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def backward_only(tree: Any, message: str) -> Any:
    """The same tree. Gradients pass backward; where a tangent would have to be computed, as in
    `jax.jvp`, there is a `TypeError` with the message."""
    moving, rest = eqx.partition(tree, eqx.is_inexact_array)
    passing = jax.tree.map(lambda leaf: _backward_only.bind(leaf, message=message), moving)
    return eqx.combine(passing, rest)


def without_derivative(tree: Any, message: str) -> Any:
    """The same tree, of whose numbers no derivative may be asked: `TypeError` with the message."""
    moving, rest = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(_without_derivative(message, moving), rest)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _without_derivative(message: str, tree: Any) -> Any:
    return tree


@partial(_without_derivative.defjvp, symbolic_zeros=True)
def _(message, primals, tangents):
    if all(isinstance(tangent, SymbolicZero) for tangent in jax.tree.leaves(tangents)):
        return primals[0], tangents[0]
    raise TypeError(message)


# The identity. `jax.custom_jvp` will not do: what it calls is batched before JAX knows whether it
# goes backward, and a tangent that is batched is one that is computed
_backward_only = Primitive("backward_only")
_backward_only.def_impl(lambda x, message: x)
_backward_only.def_abstract_eval(lambda x, message: x)
mlir.register_lowering(_backward_only, lambda context, x, message: [x])
batching.defvectorized(_backward_only)

# That of its tangents. Backward it is staged and turned round, and neither computed nor compiled
_tangent = Primitive("tangent_of_backward_only")


def _refuse(*_: Any, message: str, **__: Any) -> Any:
    raise TypeError(message)


_tangent.def_impl(_refuse)
_tangent.def_abstract_eval(lambda tangent, message: tangent)
mlir.register_lowering(_tangent, _refuse)
batching.primitive_batchers[_tangent] = _refuse
ad.deflinear2(_tangent, lambda cotangent, tangent, message: [cotangent])


def _backward_only_jvp(primals: Any, tangents: Any, *, message: str) -> Any:
    (x,), (tangent,) = primals, tangents
    if not isinstance(tangent, ad.Zero):
        tangent = _tangent.bind(tangent, message=message)
    return x, tangent


ad.primitive_jvps[_backward_only] = _backward_only_jvp
