"""Calcium that spikes leave behind, and the synaptic elements that grow and shrink under it.

Any spiking population may carry a `Calcium` trace, and with it named `SynapticElements`: axonal
boutons and dendritic spines, of which `jsnn.rewire` makes synapses.

| symbol | meaning | unit | default |
|---|---|---|---|
| `tau_ca` | time constant of calcium | ms | 10000 |
| `beta_ca` | what a spike adds to it | 1 | 0.001 |
| `growth_rate` | nu, the largest speed of growth | elements / ms | 1 |
| `tau_vacant` | the part of the vacant elements that an update takes away | 1 | 0.1 |
| `eps` | calcium at which elements neither grow nor shrink | 1 | 0.7 |
| `eta` | calcium below which they shrink (`Gaussian`) | 1 | 0.1 |
| `psi` | width of the curve (`Sigmoid`) | 1 | 0.1 |

M. Butz and A. van Ooyen (2013), PLoS Comput. Biol. 9:e1003259. Names and defaults are NEST's.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import (
    add_in_two,
    as_real,
    check_name,
    check_parameter,
    concrete,
    doubt,
    exprel,
    filled,
    real_dtype,
    shortened,
)
from jsnn._names import explained

Values = dict[str, Array]
CALCIUM = "ca"
_REST = ".rest"  # of a sum, what its last digit cannot hold
_EULER = "ca.euler"
_CONNECTED = ".connected"


@explained
class Linear(eqx.Module):
    """Elements grow at nu (1 - Ca / eps)."""

    eps: Array

    def __init__(self, eps: ArrayLike = 0.7):
        check_parameter("eps", eps, low=0.0, strict=True)
        self.eps = as_real(eps)

    def prepare(self) -> "Linear":
        return self

    def __call__(self, ca: Array) -> Array:
        return 1 - ca / self.eps


@explained
class Gaussian(eqx.Module):
    """Elements grow at nu (2 exp(-((Ca - xi) / zeta)^2) - 1), where xi = (eta + eps) / 2 and
    zeta = (eta - eps) / (2 sqrt(log 2)): between eta and eps they grow, outside they shrink."""

    eta: Array
    eps: Array

    def __init__(self, eta: ArrayLike = 0.1, eps: ArrayLike = 0.7):
        check_parameter("eta", eta)
        check_parameter("eps", eps)
        self.eta, self.eps = as_real(eta), as_real(eps)
        if np.ndim(self.eta) and np.ndim(self.eps) and np.shape(self.eta) != np.shape(self.eps):
            return  # arrays of other lengths than that of the population do not get far
        a, b = concrete(self.eta), concrete(self.eps)
        if a is None or b is None:
            doubt(lambda a, b: a == b, self.eta, self.eps)
        elif np.any(np.equal(a, b)):
            both = f"eta={shortened(eta)} and eps={shortened(eps)}"
            raise ValueError(f"{both} are equal; give two levels of calcium")

    def prepare(self) -> "_Bell":
        width = jnp.abs(self.eps - self.eta)
        return _Bell((self.eta + self.eps) / 2, 2 * np.sqrt(np.log(2)).item() / width)


class _Bell(NamedTuple):
    middle: Array
    steepness: Array

    def __call__(self, ca: Array) -> Array:
        x = (ca - self.middle) * self.steepness
        return 2 * jnp.exp(-x * x) - 1


@explained
class Sigmoid(eqx.Module):
    """Elements grow at nu (2 / (1 + exp((Ca - eps) / psi)) - 1)."""

    eps: Array
    psi: Array

    def __init__(self, eps: ArrayLike = 0.7, psi: ArrayLike = 0.1):
        check_parameter("eps", eps)
        check_parameter("psi", psi, low=0.0, strict=True)
        self.eps, self.psi = as_real(eps), as_real(psi)

    def prepare(self) -> "Sigmoid":
        return self

    def __call__(self, ca: Array) -> Array:
        return jnp.tanh((self.eps - ca) / (2 * self.psi))  # the same, without overflow


Curve = Linear | Gaussian | Sigmoid


@explained
class SynapticElements(eqx.Module):
    """Elements of one kind on the cells of a population: z of them, of which some are connected.

    **Arguments:**

    - `curve`: how their growth depends on calcium: `Linear`, `Gaussian` or `Sigmoid`.
    - `growth_rate`: elements / ms, a scalar or `[n]`; 0 on cells that have none, and below 0 where
      the curve is to be turned over.
    - `tau_vacant`: NEST's name for a fraction, not a time: the part of the vacant elements, between
      0 and 1, that every update takes away.
    - `continuous`: whether a cell with less than one element has any; it matters only where a
      source loses synapses, which it does not lose to a target that has none.

    dz/dt = nu f(Ca), and z is not negative.
    """

    curve: Curve
    growth_rate: Array
    tau_vacant: Array
    continuous: bool = eqx.field(static=True)

    def __init__(
        self,
        curve: Curve | None = None,
        growth_rate: ArrayLike = 1.0,
        tau_vacant: ArrayLike = 0.1,
        continuous: bool = True,
    ):
        self.curve = Linear() if curve is None else curve
        if not isinstance(self.curve, Curve):
            raise TypeError(f"curve={curve!r} is no growth curve; give one, as Gaussian()")
        check_parameter("growth_rate", growth_rate)
        check_parameter("tau_vacant", tau_vacant, low=0.0)
        part = concrete(tau_vacant)
        if part is None:
            doubt(lambda part: part > 1, tau_vacant)
        elif np.any(part > 1):
            raise ValueError(f"tau_vacant={part} must be at most 1, a part of the vacant elements")
        if not isinstance(continuous, (bool, np.bool_)):
            raise TypeError(f"continuous={continuous!r}; give True or False")
        self.growth_rate, self.tau_vacant = as_real(growth_rate), as_real(tau_vacant)
        self.continuous = bool(continuous)


@explained
class Calcium(eqx.Module):
    """A trace of a cell's spikes: tau_ca dCa/dt = -Ca, and Ca grows by beta_ca at each of them.

    `as_nest` lets elements under a `Gaussian` or `Sigmoid` curve grow as NEST has it: by calcium at
    the end of each step, before its spike, that decays in forward Euler steps from one spike of the
    cell, or one update, to the next; and z is kept from being negative at these times only, so that
    it may be recorded below 0 between them. Measured, it differs from what the equations say by up
    to 1e-5 of what has grown. NEST brings calcium up to date at the end of each of its runs, too.
    """

    tau_ca: Array
    beta_ca: Array
    as_nest: bool = eqx.field(static=True)

    def __init__(
        self, tau_ca: ArrayLike = 10000.0, beta_ca: ArrayLike = 0.001, as_nest: bool = False
    ):
        check_parameter("tau_ca", tau_ca, low=0.0, strict=True)
        check_parameter("beta_ca", beta_ca, low=0.0, strict=True)
        if not isinstance(as_nest, (bool, np.bool_)):
            raise TypeError(f"as_nest={as_nest!r}; give True or False")
        self.tau_ca, self.beta_ca = as_real(tau_ca), as_real(beta_ca)
        self.as_nest = bool(as_nest)


class Coefficients(NamedTuple):
    """Parameters turned into what a step needs: what of calcium is lost over a step, what is there
    in its middle, and on average, and what a forward Euler step leaves."""

    decay: Array
    middle: Array
    mean: Array
    euler: Array
    beta: Array
    curves: dict[str, Any]
    growth: dict[str, Array]


class Growth(eqx.Module):
    """What of all this a population has: nothing, calcium, or calcium and elements."""

    calcium: Calcium | None
    elements: dict[str, SynapticElements]

    def __init__(self, calcium: Calcium | None, elements: Mapping[str, SynapticElements] | None):
        if calcium is not None and not isinstance(calcium, Calcium):
            raise TypeError(f"calcium={calcium!r} is no trace; give one, as Calcium()")
        if elements is not None and not isinstance(elements, Mapping):
            raise TypeError(f"elements={elements!r} is not a dictionary; give names")
        self.elements = dict(elements or {})
        for name, own in self.elements.items():
            check_name("element", name)
            if not isinstance(own, SynapticElements):
                raise TypeError(f"element {name!r} is {own!r}; give SynapticElements()")
        self.calcium = Calcium() if calcium is None and self.elements else calcium

    @property
    def states(self) -> list[str]:
        """What may be given at the start."""
        return [] if self.calcium is None else [CALCIUM, *self.elements]

    @property
    def counts(self) -> list[str]:
        """What follows from the edges, and may be recorded too."""
        return [connected(name) for name in self.elements]

    def init(self, initial: Mapping[str, Array], n: int) -> Values:
        if self.calcium is None:
            return {}
        zero = np.zeros((), real_dtype())
        values = {name: filled(initial.get(name, zero), n) for name in self.states}
        if self.calcium.as_nest:
            values[_EULER] = filled(values[CALCIUM], n)
        values |= {name + _REST: filled(zero, n) for name in self.states}
        return values | {name: filled(np.int32(0), n) for name in self.counts}

    def prepare(self, dt: float) -> Coefficients | None:
        if self.calcium is None:
            return None
        return Coefficients(
            jnp.expm1(-dt / self.calcium.tau_ca),
            jnp.exp(-dt / 2 / self.calcium.tau_ca),
            exprel(-dt / self.calcium.tau_ca),
            1 - dt / self.calcium.tau_ca,
            self.calcium.beta_ca,
            {name: own.curve.prepare() for name, own in self.elements.items()},
            {name: own.growth_rate * dt for name, own in self.elements.items()},
        )

    def step(self, coefficients: Coefficients | None, values: Values, fired: Array) -> Values:
        """Over a step, at whose end some cells fired. Curves that are not linear are taken in the
        middle of the step, which is off their mean by the order of (dt / tau_ca)^2 / 24."""
        if coefficients is None or self.calcium is None:
            return values
        new, ca = dict(values), values[CALCIUM]
        as_nest = self.calcium.as_nest
        euler = values[_EULER] * coefficients.euler if as_nest else ca * coefficients.middle
        for name, own in self.elements.items():
            at = ca * coefficients.mean if isinstance(own.curve, Linear) else euler
            grown = coefficients.growth[name] * coefficients.curves[name](at)
            z, rest = add_in_two(values[name], values[name + _REST], grown)
            gone = z < 0 if not as_nest else (z < 0) & (fired > 0)
            new[name] = jnp.where(gone, 0, z)
            new[name + _REST] = jnp.where(gone, 0, rest)
        change = ca * coefficients.decay + coefficients.beta * fired
        new[CALCIUM], new[CALCIUM + _REST] = add_in_two(ca, values[CALCIUM + _REST], change)
        if as_nest:
            new[_EULER] = jnp.where(fired > 0, new[CALCIUM], euler)
        return new

    def up_to_date(self, values: Values) -> Values:
        """As an update finds them."""
        if self.calcium is None or not self.calcium.as_nest:
            return values
        return {**values, _EULER: values[CALCIUM]} | {
            name: jnp.maximum(values[name], 0) for name in self.elements
        }

    def decayed(self, values: Values) -> Values:
        """As an update leaves them: without a part of the vacant elements."""
        new = dict(values)
        for name, own in self.elements.items():
            vacant = jnp.maximum(jnp.floor(values[name]) - values[connected(name)], 0)
            new[name] = values[name] - vacant * own.tau_vacant
        return new


def connected(element: str) -> str:
    """The name of the number of connected elements."""
    return element + _CONNECTED
