"""The step function with a chosen pseudo-derivative.

A spike is H(x) = 1 for x >= 0, else 0, of the margin x = v - v_th (mV), and has no derivative to
speak of. Backward, a surrogate stands in for it: a bump around threshold, of a `width` in mV. All
of them have area `damping`, 1 if left out, as the derivative of a step has; with it, narrow ones
estimate the density of membranes at threshold, which is what the expected number of spikes changes
by. Damping below 1 makes gradients of deep or recurrent networks decay that would explode
(Bellec et al. 2018, NeurIPS 31): of Brunel's network over 600 ms, that of `Triangular(1.0,
damping=0.03)` points the right way, as does a damping of 0.1 where the path through resets is kept
(`jsnn.adjoint`), and undamped ones of 1 and 5 mV explode (notebooks/gradients.ipynb).

The support decides what the backward pass costs: cells beyond it get no gradient through their
spikes, so that their synapses are not visited. `Triangular` and `Boxcar` have a compact one; the
others are cut off where |x| is `reach` widths.
"""

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import as_real, check_scalar
from jsnn._names import explained


@runtime_checkable
class Surrogate(Protocol):
    """What a population asks of a surrogate."""

    def __call__(self, x: Array) -> Array:
        """1 where x >= 0 and else 0, in the dtype of x."""
        ...

    def slope(self, x: Array) -> Array:
        """The pseudo-derivative at x (1/mV)."""
        ...

    def support(self, x: Array) -> Array:
        """Where the pseudo-derivative is not zero."""
        ...


@jax.custom_jvp
def spike(x: Array, slope: Array) -> Array:
    """1 where x >= 0 and else 0, with `slope` for a derivative; for surrogates of one's own."""
    return (x >= 0).astype(x.dtype)


@spike.defjvp
def _spike_jvp(primals, tangents):
    return spike(*primals), jax.lax.stop_gradient(primals[1]) * tangents[0]


@explained
class Triangular(eqx.Module):
    """max(0, 1 - |x| / width) / width, of compact support (Esser et al. 2016, PNAS 113)."""

    width: Array
    damping: Array

    def __init__(self, width: ArrayLike = 5.0, *, damping: ArrayLike = 1.0):
        self.width, self.damping = _checked(width, damping)

    def __call__(self, x: Array) -> Array:
        return spike(x, self.slope(x))

    def slope(self, x: Array) -> Array:
        return self.damping * jnp.maximum(0, 1 - jnp.abs(x) / self.width) / self.width

    def support(self, x: Array) -> Array:
        return jnp.abs(x) < self.width


@explained
class Boxcar(eqx.Module):
    """1 / (2 width) for |x| < width, else 0 (Wu et al. 2018, Front. Neurosci. 12)."""

    width: Array
    damping: Array

    def __init__(self, width: ArrayLike = 5.0, *, damping: ArrayLike = 1.0):
        self.width, self.damping = _checked(width, damping)

    def __call__(self, x: Array) -> Array:
        return spike(x, self.slope(x))

    def slope(self, x: Array) -> Array:
        return jnp.where(self.support(x), self.damping / (2 * self.width), 0)

    def support(self, x: Array) -> Array:
        return jnp.abs(x) < self.width


@explained
class SuperSpike(eqx.Module):
    """1 / (1 + |x| / width)^2 / (2 width) (Zenke and Ganguli 2018, Neural Comput. 30)."""

    width: Array
    damping: Array
    reach: Array

    def __init__(
        self, width: ArrayLike = 1.0, *, damping: ArrayLike = 1.0, reach: ArrayLike = jnp.inf
    ):
        (self.width, self.damping), self.reach = _checked(width, damping), _reach(reach)

    def __call__(self, x: Array) -> Array:
        return spike(x, self.slope(x))

    def slope(self, x: Array) -> Array:
        bump = 1 / jnp.square(1 + jnp.abs(x) / self.width)
        return jnp.where(self.support(x), self.damping / (2 * self.width) * bump, 0)

    def support(self, x: Array) -> Array:
        return jnp.abs(x) < self.reach * self.width


@explained
class Arctan(eqx.Module):
    """1 / (1 + (x / width)^2) / (pi width), the slope of an arctangent (Fang et al. 2021, ICCV)."""

    width: Array
    damping: Array
    reach: Array

    def __init__(
        self, width: ArrayLike = 1.0, *, damping: ArrayLike = 1.0, reach: ArrayLike = jnp.inf
    ):
        (self.width, self.damping), self.reach = _checked(width, damping), _reach(reach)

    def __call__(self, x: Array) -> Array:
        return spike(x, self.slope(x))

    def slope(self, x: Array) -> Array:
        bump = 1 / (1 + jnp.square(x / self.width))
        return jnp.where(self.support(x), self.damping / (jnp.pi * self.width) * bump, 0)

    def support(self, x: Array) -> Array:
        return jnp.abs(x) < self.reach * self.width


@explained
class Sigmoid(eqx.Module):
    """s (1 - s) / width with s = 1 / (1 + exp(-x / width)), the slope of a logistic function: the
    derivative of the chance to spike of a neuron with that much noise at its threshold."""

    width: Array
    damping: Array
    reach: Array

    def __init__(
        self, width: ArrayLike = 1.0, *, damping: ArrayLike = 1.0, reach: ArrayLike = jnp.inf
    ):
        (self.width, self.damping), self.reach = _checked(width, damping), _reach(reach)

    def __call__(self, x: Array) -> Array:
        return spike(x, self.slope(x))

    def slope(self, x: Array) -> Array:
        s = jax.nn.sigmoid(x / self.width)
        return jnp.where(self.support(x), self.damping / self.width * s * (1 - s), 0)

    def support(self, x: Array) -> Array:
        return jnp.abs(x) < self.reach * self.width


def _checked(width: ArrayLike, damping: ArrayLike) -> tuple[Array, Array]:
    check_scalar("width", width, low=0.0, strict=True)
    check_scalar("damping", damping, low=0.0)
    return as_real(width), as_real(damping)


def _reach(reach: ArrayLike) -> Array:
    check_scalar("reach", reach, low=0.0, strict=True, finite=False)
    return as_real(reach)
