"""Calcium in an astrocyte."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jsnn._math import as_real, check_parameter
from jsnn._names import explained

Values = dict[str, Array]
_POSITIVE = (
    "ca_tot",
    "kd_ip3_1",
    "kd_ip3_2",
    "kd_act",
    "km_serca",
    "ratio_er_cyt",
    "tau_ip3",
    "sic_scale",
)


@explained
class LiRinzel(eqx.Module):
    """An astrocyte whose calcium follows IP3 (Li and Rinzel 1994, J. Theor. Biol. 166:461), which
    synapses raise, and which sends a slow inward current (Nadkarni and Jung 2003, Phys. Rev. Lett.
    91:268101):

        d ip3/dt = (ip3_0 - ip3) / tau_ip3
        d ca/dt = (rate_ip3r m^3 n^3 h^3 + rate_l) (ca_tot - (1 + ratio_er_cyt) ca)
                  - rate_serca ca^2 / (km_serca^2 + ca^2) + i
        dh/dt = k_ip3r (kd_inh (ip3 + kd_ip3_1) / (ip3 + kd_ip3_2) (1 - h) - ca h)
        m = ip3 / (ip3 + kd_ip3_1),  n = ca / (ca + kd_act)

    Arrivals of weight w at a `Delta` receptor raise ip3 by delta_ip3 w; w is not negative. A
    current i into an astrocyte is a flux of calcium (uM/ms). Calcium stays between 0 and ca_tot.
    The slow inward current (pA) is, with y = (ca - sic_th) in nM,

        sic_scale log(y) where y > 1, else 0

    | parameter | meaning | unit | default |
    |---|---|---|---|
    | `ca_tot` | all calcium, in terms of the cytosol's volume | uM | 2 |
    | `ip3_0` | resting level of IP3 | uM | 0.16 |
    | `kd_ip3_1`, `kd_ip3_2` | dissociation of IP3 from its receptor (IP3R) | uM | 0.13, 0.9434 |
    | `kd_act` | dissociation of calcium from IP3R, activation | uM | 0.08234 |
    | `kd_inh` | dissociation of calcium from IP3R, inhibition | uM | 1.049 |
    | `km_serca` | half activation of the SERCA pump | uM | 0.1 |
    | `sic_scale` | scale of the slow inward current | 1 | 1 |
    | `sic_th` | calcium from which there is one | uM | 0.19669 |
    | `delta_ip3` | rise of IP3 with an arrival of weight 1 | uM | 0.0002 |
    | `k_ip3r` | binding of calcium to IP3R, inhibition | 1/(uM ms) | 0.0002 |
    | `rate_ip3r` | greatest release through IP3R | 1/ms | 0.006 |
    | `rate_l` | leak from the endoplasmic reticulum (ER) | 1/ms | 0.00011 |
    | `rate_serca` | greatest uptake by the pump | uM/ms | 0.0009 |
    | `ratio_er_cyt` | volume of the ER to that of the cytosol | 1 | 0.185 |
    | `tau_ip3` | decay of IP3 | ms | 7142 |

    Defaults are those of NEST's astrocyte_lr_1994. A parameter is a scalar, an array `[n]` or a
    distribution. States are `ip3` and `ca` (uM) and `h`, the part of IP3R that calcium does not
    inhibit; they start at ip3_0, 0.073 and 0.793 unless the population says otherwise. In single
    precision and steps of 0.1 ms, states come to rest within 0.004 (h) and 0.0006 uM (ip3, ca) of
    where they should, and oscillating calcium stays within 0.002 uM for a minute.
    """

    ca_tot: Array
    ip3_0: Array
    kd_ip3_1: Array
    kd_ip3_2: Array
    kd_act: Array
    kd_inh: Array
    km_serca: Array
    sic_scale: Array
    sic_th: Array
    delta_ip3: Array
    k_ip3r: Array
    rate_ip3r: Array
    rate_l: Array
    rate_serca: Array
    ratio_er_cyt: Array
    tau_ip3: Array

    def __init__(
        self,
        *,
        ca_tot: ArrayLike = 2.0,
        ip3_0: ArrayLike = 0.16,
        kd_ip3_1: ArrayLike = 0.13,
        kd_ip3_2: ArrayLike = 0.9434,
        kd_act: ArrayLike = 0.08234,
        kd_inh: ArrayLike = 1.049,
        km_serca: ArrayLike = 0.1,
        sic_scale: ArrayLike = 1.0,
        sic_th: ArrayLike = 0.19669,
        delta_ip3: ArrayLike = 0.0002,
        k_ip3r: ArrayLike = 0.0002,
        rate_ip3r: ArrayLike = 0.006,
        rate_l: ArrayLike = 0.00011,
        rate_serca: ArrayLike = 0.0009,
        ratio_er_cyt: ArrayLike = 0.185,
        tau_ip3: ArrayLike = 7142.0,
    ):
        given = dict(locals())
        for name in self.__dataclass_fields__:
            check_parameter(name, given[name], low=0.0, strict=name in _POSITIVE)
        self.ca_tot, self.ip3_0 = as_real(ca_tot), as_real(ip3_0)
        self.kd_ip3_1, self.kd_ip3_2 = as_real(kd_ip3_1), as_real(kd_ip3_2)
        self.kd_act, self.kd_inh = as_real(kd_act), as_real(kd_inh)
        self.km_serca, self.sic_scale = as_real(km_serca), as_real(sic_scale)
        self.sic_th, self.delta_ip3 = as_real(sic_th), as_real(delta_ip3)
        self.k_ip3r, self.rate_ip3r = as_real(k_ip3r), as_real(rate_ip3r)
        self.rate_l, self.rate_serca = as_real(rate_l), as_real(rate_serca)
        self.ratio_er_cyt, self.tau_ip3 = as_real(ratio_er_cyt), as_real(tau_ip3)

    @property
    def is_linear(self) -> bool:
        return False

    @property
    def is_stiff(self) -> bool:
        return False

    @property
    def is_spiking(self) -> bool:
        return False

    @property
    def resets_within(self) -> bool:
        return False

    @property
    def frozen(self) -> tuple[str, ...]:
        return ()

    def initial(self) -> Values:
        return {"ip3": self.ip3_0, "ca": as_real(0.073), "h": as_real(0.793)}

    def vector_field(
        self, values: Values, current: Callable[[Array], Array], frozen: Array | bool
    ) -> Values:
        ip3, h = values["ip3"], values["h"]
        ca = jnp.clip(values["ca"], 0, self.ca_tot)
        bound = ip3 + self.kd_ip3_1
        open_ = ip3 * ca * h / (bound * (ca + self.kd_act))  # m n h, with one division
        release = (self.rate_ip3r * open_ * open_ * open_ + self.rate_l) * (
            self.ca_tot - (1 + self.ratio_er_cyt) * ca
        )
        pump = self.rate_serca * ca * ca / (self.km_serca * self.km_serca + ca * ca)
        recovery = self.kd_inh * bound / (ip3 + self.kd_ip3_2) * (1 - h)
        return {
            "ip3": (self.ip3_0 - ip3) * (1 / self.tau_ip3),
            "ca": release - pump + current(ca),
            "h": self.k_ip3r * (recovery - ca * h),
        }

    def settle(self, values: Values) -> Values:
        """The state at the end of a step."""
        return {**values, "ca": jnp.clip(values["ca"], 0, self.ca_tot)}

    def receive(self, values: Values, amount: Array) -> Values:
        """The state after arrivals at a `Delta` receptor."""
        return {**values, "ip3": values["ip3"] + self.delta_ip3 * amount}

    def slow_current(self, values: Values) -> Array:
        """What a coupling of weight 1 sends to a neuron (pA)."""
        above = (values["ca"] - self.sic_th) * 1000  # nM, as published
        there = above > 1
        # Of what is not taken, too, the slope has to be a number
        return self.sic_scale * jnp.where(there, jnp.log(jnp.where(there, above, 1)), 0)
