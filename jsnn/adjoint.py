"""How a network is differentiated: what `jsnn.simulate` takes as `adjoint`.

The surrogate of a population says what a spike's derivative is. Over thousands of steps of a
recurrent network the exact product of all those derivatives often explodes, and then says nothing.
Hence three places at which it can be tamed, each an object:

- `reset`: the path from a spike to the reset membrane of its cell. It is cut if nothing is said:
  then the gradient of a membrane is that of what was computed, with its spikes where they are,
  and exact where there are none. (What a cell near its threshold would send is another path.)
  `Kept()` multiplies the surrogate by v_reset - v, also of a cell that came near its threshold and
  was not reset. That stands for the spikes that would come or go, and in recurrent networks needs
  less damping; but of a membrane that stays below threshold it is wrong, without bounds where
  surrogates are narrow.
- `synapses`: the path from a spike along its synapses, for all projections or by name,
- `between`: what is carried back over the boundary of two blocks of steps.

None of them changes what is simulated, nor the derivative with respect to a weight of what arrives
through it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jsnn._derivatives import backward_only
from jsnn._math import as_real, check_scalar, plain, shortened, whole_steps
from jsnn._names import explained

_FORWARD = (
    "Clipped bounds what is carried backward; for derivatives in forward mode (jax.jvp, "
    "jax.jacfwd, jax.linearize) leave it out of Backprop(between=)"
)


@explained
class Kept(eqx.Module):
    """The derivative as it is."""

    def __call__(self, x: Array) -> Array:
        return x


@explained
class Cut(eqx.Module):
    """No derivative: the path is taken as known. At resets this is the default (Zenke and Vogels
    2021, Neural Comput. 33)."""

    def __call__(self, x: Array) -> Array:
        return lax.stop_gradient(x)


@explained
class Scaled(eqx.Module):
    """The derivative times `factor`."""

    factor: Array

    def __init__(self, factor: ArrayLike):
        check_scalar("factor", factor)
        self.factor = as_real(factor)

    def __call__(self, x: Array) -> Array:
        return _scaled(x, lax.stop_gradient(self.factor).astype(x.dtype))


Path = Kept | Cut | Scaled


@explained
class Truncated(eqx.Module):
    """Truncated in time: nothing is carried back over multiples of `every` ms since t = 0, or
    rather over the first boundary of two blocks from there on (Williams and Zipser 1995). Calls
    that go on from each other's states are as one.
    """

    every: float = eqx.field(static=True)

    def __init__(self, every: float):
        check_scalar("every", every, low=0.0, strict=True)
        self.every = plain(every)

    def __call__(self, carried: Any, step: Array, since: Array | int, dt: float) -> Any:
        every = whole_steps("every", self.every, dt, least=1)
        kept = step // every == (step - since) // every
        return jax.tree.map(lambda x: _scaled(x, kept.astype(x.dtype)), carried)


@explained
class Fading(eqx.Module):
    """What is carried back fades, by exp(-t / tau) over t ms (`tau` ms), from block to block, and
    from a call to the one that it goes on from (as over a whole block)."""

    tau: Array

    def __init__(self, tau: ArrayLike):
        check_scalar("tau", tau, low=0.0, strict=True)
        self.tau = as_real(tau)

    def __call__(self, carried: Any, step: Array, since: Array | int, dt: float) -> Any:
        factor = lax.stop_gradient(jnp.exp(-dt * since / self.tau))
        return jax.tree.map(lambda x: _scaled(x, factor.astype(x.dtype)), carried)


@explained
class Clipped(eqx.Module):
    """What is carried back has at most this `norm`, over all cells and states together. Backward
    only: in forward mode, as under `jax.jvp`, it is a `TypeError`."""

    norm: Array

    def __init__(self, norm: ArrayLike):
        check_scalar("norm", norm, low=0.0, strict=True)
        self.norm = as_real(norm)

    def __call__(self, carried: Any, step: Array, since: Array | int, dt: float) -> Any:
        return _clipped(backward_only(carried, _FORWARD), lax.stop_gradient(self.norm))


Between = Truncated | Fading | Clipped


@explained
class Backprop(eqx.Module):
    """Backward through time, block by block.

    **Arguments:**

    - `reset`, `synapses`: `Kept()`, `Cut()` or `Scaled(factor)`; `synapses` also a dictionary of
      them by projection (those left out are kept). If left out, resets are cut and synapses kept.
    - `between`: `Truncated(every)`, `Fading(tau)`, `Clipped(norm)`, or several in a list, applied
      in turn to the gradient that is carried back.
    - `memory`: bytes that states kept on the way forward may take, of each member of a batch
      (`jax.vmap`, the starts of `jsnn.fit`). As long as they do, the state before every block is
      kept. Beyond, the square root of as many are, and the blocks between two are run once more on
      the way back: that costs a third run, and its memory grows with the root of the duration.

    With `SegmentSum` delivery, and in networks without projections, JAX itself goes back (or
    forward), and keeps what it likes.
    """

    reset: Path
    synapses: Path | dict[str, Path]
    between: tuple[Between, ...]
    memory: float = eqx.field(static=True)

    def __init__(
        self,
        *,
        reset: Path | None = None,
        synapses: Path | Mapping[str, Path] | None = None,
        between: Between | Sequence[Between] = (),
        memory: float = 5e8,
    ):
        self.reset = Cut() if reset is None else reset
        paths = Kept() if synapses is None else synapses
        self.synapses = dict(paths) if isinstance(paths, Mapping) else paths
        self.between = (between,) if isinstance(between, Between) else tuple(between)
        check_scalar("memory", memory, low=0.0, finite=False)
        self.memory = plain(memory)
        several = self.synapses if isinstance(self.synapses, dict) else {"": self.synapses}
        named = {f"synapses[{n!r}]" if n else "synapses": own for n, own in several.items()}
        for name, path in {"reset": self.reset, **named}.items():
            if not isinstance(path, Path):
                raise TypeError(f"{name}={shortened(path)}; give Kept(), Cut() or Scaled(factor)")
        for own in self.between:
            if not isinstance(own, Between):
                raise TypeError(
                    f"between={shortened(own)}; give Truncated(every), Fading(tau), Clipped(norm) "
                    "or a list of them"
                )

    def check(self, projections: Sequence[str], dt: float) -> None:
        """Raise for names that are no projections, and times off the grid."""
        for own in self.between:
            if isinstance(own, Truncated):
                whole_steps("every", own.every, dt, least=1)
        for name in self.synapses if isinstance(self.synapses, dict) else ():
            if name not in projections:
                from_ = ", ".join(map(repr, projections)) or "none"
                raise ValueError(f"synapses: there is no projection {name!r}; there are {from_}")

    def along(self, projection: str, spikes: Array) -> Array:
        """Spikes as they go along the synapses of a projection."""
        path = self.synapses
        if isinstance(path, dict):
            path = path.get(projection, Kept())
        return path(spikes)

    def back(self, carried: Any, step: Array, since: Array | int, dt: float) -> Any:
        """What is carried from the block before, of `since` steps, into the one that begins with
        `step`."""
        for own in reversed(self.between):  # backward they come in the order given
            moving, rest = eqx.partition(carried, eqx.is_inexact_array)
            carried = eqx.combine(own(moving, step, since, dt), rest)
        return carried


@jax.custom_jvp
def _scaled(x: Array, factor: Array) -> Array:
    return x


@_scaled.defjvp
def _scaled_jvp(primals, tangents):
    return primals[0], primals[1] * tangents[0]


@jax.custom_vjp
def _clipped(carried: Any, norm: Array) -> Any:
    return carried


def _clipped_fwd(carried: Any, norm: Array) -> tuple[Any, Array]:
    return carried, norm


def _clipped_bwd(norm: Array, cotangent: Any) -> tuple[Any, None]:
    leaves = jax.tree.leaves(cotangent)
    # By the largest first: squares of what has exploded would overflow
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x), initial=0) for x in leaves]))
    scale = jnp.where(largest > 0, largest, 1)
    total = scale * jnp.sqrt(sum(jnp.sum(jnp.square(x / scale)) for x in leaves))
    factor = jnp.minimum(1, norm / jnp.where(total > 0, total, 1))
    return jax.tree.map(lambda x: (factor * x).astype(x.dtype), cotangent), None


_clipped.defvjp(_clipped_fwd, _clipped_bwd)
