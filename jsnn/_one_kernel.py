"""A function as one kernel of machine code, on CPU."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata


def one_kernel(function: Callable, carried: Any, *given: Any) -> Any:
    """`function(carried, *given)`, which changes `carried`, with all that it does in one kernel.

    XLA on a CPU makes a kernel of every operation that does not melt into another, and to start one
    takes 0.03 to 0.1 us: for loops over single numbers that is nearly all of the time. A call with
    this mark, which XLA itself puts on the smallest loops, becomes one function instead. It can
    hold arithmetic, loops, slices and their updates; XLA has no code there for scatters, products
    of matrices, sorting, calls of libraries, and sums of floats long enough for one. Arithmetic on
    whole vectors stays outside: the compiler does not know there that arrays do not overlap.

    Elsewhere the mark means nothing but a call that is not inlined.
    """
    leaves, structure = jax.tree.flatten(given)
    real = [leaf for leaf in leaves if jnp.size(leaf)]

    def whole(carried, *real):
        rest = iter(real)
        filled = [next(rest) if jnp.size(leaf) else leaf for leaf in leaves]
        made = function(carried, *jax.tree.unflatten(structure, filled))
        return made, sum(jnp.ravel(leaf)[0].astype(jnp.float32) for leaf in real)

    # An argument that the call does not use ends the process. Hence the sum over all of them, and
    # the barriers: constants would be taken inside, and a sum that nobody wants be left out.
    made, used = jax.jit(whole)(*lax.optimization_barrier((carried, *real)))
    first, *others = jax.tree.leaves(made)
    first = set_xla_metadata(first, xla_cpu_small_call="true", inlineable="false")
    made = jax.tree.unflatten(jax.tree.structure(made), [first, *others])
    return lax.optimization_barrier((made, used))[0]
