"""The parameters of NEST's models and their defaults, and checks of what is given for them."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from jsnn._math import (
    as_real,
    check_cells,
    check_number,
    check_threshold,
    concrete,
    shortened,
    unknown,
)
from jsnn._names import nearest
from jsnn._nest_growth import CALCIUM, grows
from jsnn.distributions import is_distribution

_CELL = {"C_m": 250.0, "E_L": -70.0, "V_m": -70.0, "V_th": -55.0, "t_ref": 2.0, "I_e": 0.0}
_PSC = {**_CELL, "tau_m": 10.0, "V_reset": -70.0}
_CURRENTS = {**_PSC, "tau_syn_ex": 2.0, "tau_syn_in": 2.0}
_COND = {
    **_CELL,
    "g_L": 16.6667,
    "V_reset": -60.0,
    "tau_syn_ex": 0.2,
    "tau_syn_in": 2.0,
    "E_ex": 0.0,
    "E_in": -85.0,
    "g_ex": 0.0,
    "g_in": 0.0,
}
_HH = {"t_ref": 2.0, "I_e": 0.0, "tau_syn_ex": 0.2, "tau_syn_in": 2.0}
_SQUID = {
    **_HH,
    "g_Na": 12000.0,
    "g_K": 3600.0,
    "g_L": 30.0,
    "C_m": 100.0,
    "E_Na": 50.0,
    "E_K": -77.0,
    "E_L": -54.402,
    "V_m": -65.0,
    "Act_m": 0.05293248525724958,
    "Inact_h": 0.5961207535084603,
    "Act_n": 0.3176769140606974,
}
_INTERNEURON = {
    **_HH,
    "g_Na": 4500.0,
    "g_Kv1": 9.0,
    "g_Kv3": 9000.0,
    "g_L": 10.0,
    "C_m": 40.0,
    "E_Na": 74.0,
    "E_K": -90.0,
    "E_L": -70.0,
    "V_m": -69.60401191631222,
    "Act_m": 0.019198766985083732,
    "Inact_h": 0.868462041294399,
    "Act_n": 0.0005741576228359767,
    "Inact_p": 0.0002511318227150632,
}

_ADEX = {
    "C_m": 281.0,
    "g_L": 30.0,
    "E_L": -70.6,
    "V_th": -50.4,
    "Delta_T": 2.0,
    "V_peak": 0.0,
    "V_reset": -60.0,
    "t_ref": 0.0,
    "tau_w": 144.0,
    "a": 4.0,
    "b": 80.5,
    "I_e": 0.0,
    "V_m": -70.6,
    "w": 0.0,
}
_ADEX_CURRENTS = {**_ADEX, "tau_syn_ex": 0.2, "tau_syn_in": 2.0}
_CURRENTS_AT_START = {"I_syn_ex": 0.0, "I_syn_in": 0.0}
_ADEX_COND = {**_ADEX_CURRENTS, "E_ex": 0.0, "E_in": -85.0, "g_ex": 0.0, "g_in": 0.0}
_ASTROCYTE = {
    "Ca_tot": 2.0,
    "IP3_0": 0.16,
    "Kd_IP3_1": 0.13,
    "Kd_IP3_2": 0.9434,
    "Kd_act": 0.08234,
    "Kd_inh": 1.049,
    "Km_SERCA": 0.1,
    "SIC_scale": 1.0,
    "SIC_th": 0.19669,
    "delta_IP3": 0.0002,
    "k_IP3R": 0.0002,
    "rate_IP3R": 0.006,
    "rate_L": 0.00011,
    "rate_SERCA": 0.0009,
    "ratio_ER_cyt": 0.185,
    "tau_IP3": 7142.0,
    "IP3": 0.16,
    "Ca_astro": 0.073,
    "h_IP3R": 0.793,
}

GROWTH = "growth"
DEFAULTS: dict[str, dict[str, float]] = {
    "iaf_psc_delta": _PSC,
    "iaf_psc_exp": _CURRENTS,
    "iaf_psc_alpha": _CURRENTS,
    "iaf_cond_exp": _COND,
    "iaf_cond_alpha": {**_COND, "dg_ex": 0.0, "dg_in": 0.0},
    "hh_psc_alpha": _SQUID,
    "hh_psc_alpha_gap": _INTERNEURON,
    "aeif_psc_delta": _ADEX,
    "aeif_psc_exp": {**_ADEX_CURRENTS, **_CURRENTS_AT_START},
    "aeif_psc_alpha": {
        **_ADEX_CURRENTS,
        **_CURRENTS_AT_START,
        "dI_syn_ex": 0.0,
        "dI_syn_in": 0.0,
    },
    "aeif_cond_exp": _ADEX_COND,
    "aeif_cond_alpha": {**_ADEX_COND, "dg_ex": 0.0, "dg_in": 0.0},
    "aeif_cond_alpha_astro": {**_ADEX_COND, "dg_ex": 0.0, "dg_in": 0.0},
    "astrocyte_lr_1994": _ASTROCYTE,
}
"""By model, the parameters that its constructor takes, with NEST's defaults."""

# What NEST's models take besides: the only value that means the same here.
_EVERY_NODE = {
    "frozen": False,
    "ignore_and_spike": False,
    "ignore_and_spike_interval": 100.0,
    "ignore_and_spike_offset": 1.0,
    "tau_minus": 20.0,
    "tau_minus_triplet": 110.0,
}
_ADAPTIVE = {**_EVERY_NODE, "gsl_error_tol": 1e-6}
UNSUPPORTED: dict[str, dict[str, Any]] = {
    "iaf_psc_delta": {**_EVERY_NODE, "V_min": -sys.float_info.max, "refractory_input": False},
    "iaf_psc_exp": {**_EVERY_NODE, "delta": 0.0, "rho": 0.01},
    "iaf_psc_alpha": {**_EVERY_NODE, "V_min": -np.inf},
    "iaf_cond_exp": _EVERY_NODE,
    "iaf_cond_alpha": _EVERY_NODE,
    "hh_psc_alpha": _EVERY_NODE,
    "hh_psc_alpha_gap": _EVERY_NODE,
    "aeif_psc_delta": {**_ADAPTIVE, "refractory_input": False},
    "aeif_psc_exp": _ADAPTIVE,
    "aeif_psc_alpha": _ADAPTIVE,
    "aeif_cond_exp": _ADAPTIVE,
    "aeif_cond_alpha": _ADAPTIVE,
    "aeif_cond_alpha_astro": _ADAPTIVE,
    "astrocyte_lr_1994": {"frozen": False},
}
"""By model, the parameters of NEST that are accepted at their default only."""

_POSITIVE = (
    *("C_m", "tau_m", "g_L", "tau_syn_ex", "tau_syn_in", "tau_w", "Ca_tot", "Kd_IP3_1", "Kd_IP3_2"),
    *("Kd_act", "Km_SERCA", "SIC_scale", "ratio_ER_cyt", "tau_IP3"),
)
_GATES = {"Act_m": "m", "Inact_h": "h", "Act_n": "n", "Inact_p": "p"}
_CONCENTRATIONS = {"IP3": "ip3", "Ca_astro": "ca", "h_IP3R": "h"}
_NOT_NEGATIVE = (
    *("t_ref", "g_ex", "g_in", "g_Na", "g_K", "g_Kv1", "g_Kv3", "Delta_T", "IP3_0", "Kd_inh"),
    *("SIC_th", "delta_IP3", "k_IP3R", "rate_IP3R", "rate_L", "rate_SERCA"),
    *_GATES,
    *_CONCENTRATIONS,
)
STATES = {
    "V_m": "v",
    "w": "w",
    **{f"g_{own}": f"{own}.g" for own in ("ex", "in")},
    **{f"dg_{own}": f"{own}.dg" for own in ("ex", "in")},
    **{f"I_syn_{own}": f"{own}.i" for own in ("ex", "in")},
    **{f"dI_syn_{own}": f"{own}.di" for own in ("ex", "in")},
    **_GATES,
    **_CONCENTRATIONS,
}
"""By NEST's name, what holds at the start."""

SYNAPSE_DEFAULTS: dict[str, dict[str, float]] = {
    "tsodyks_synapse": {
        "U": 0.5,
        "tau_psc": 3.0,
        "tau_rec": 800.0,
        "tau_fac": 0.0,
        "u": 0.0,
        "x": 1.0,
        "y": 0.0,
    },
    "tsodyks2_synapse": {"U": 0.5, "tau_rec": 800.0, "tau_fac": 0.0, "u": 0.5, "x": 1.0},
}
"""By synapse, the parameters that its constructor takes, with NEST's defaults."""


_ELSEWHERE = {
    "Create": "the constructors of this module, as jsnn.nest.iaf_psc_alpha(100)",
    "Connect": "jsnn.Projection",
    "Simulate": "jsnn.run",
    "TripartiteConnect": "jsnn.tripartite.tripartite",
    "static_synapse": "jsnn.Projection with its weight and delay",
    "gap_junction": "jsnn.coupling.GapJunction",
    "sic_connection": "jsnn.coupling.SlowInwardCurrent",
    "spike_recorder": "jsnn.record.Spikes",
    "multimeter": "jsnn.record.States",
    "voltmeter": "jsnn.record.States",
    "ac_generator": "step_current_generator with a value for each step",
    "inhomogeneous_poisson_generator": "jsnn.inputs.Poisson with a rate that is a function of time",
    "sinusoidal_poisson_generator": "jsnn.inputs.Poisson with a rate that is a function of time",
    "spike_train_injector": "jsnn.inputs.SpikeList",
}


def _stem(name: str) -> str:
    """A name without what it shares with all of its kind."""
    return name.removesuffix("_synapse").removesuffix("_generator")


def missing(name: str, names: list[str]) -> AttributeError:
    """The error for a name that `jsnn.nest` does not have."""
    stems = {_stem(known): known for known in names}
    near = None if name.startswith("_") else stems.get(nearest(_stem(name), stems) or "")
    hint = f"did you mean {near!r}? " if near else ""
    if name in _ELSEWHERE:
        hint = f"use {_ELSEWHERE[name]}; "
    return AttributeError(f"jsnn.nest has no {name!r}: {hint}there are {names}")


def synapse_parameters(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    for name in given:
        if name in ("weight", "delay"):
            raise ValueError(f"{name}: give it to the projection, beside the release")
        if name not in SYNAPSE_DEFAULTS[model]:
            raise unknown(f"parameter of {model}", name, SYNAPSE_DEFAULTS[model])
    return {**SYNAPSE_DEFAULTS[model], **given}


def parameters(model: str, n: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """NEST's defaults with what is given in their place, and as `GROWTH` what a neuron is given for
    calcium and synaptic elements; raises for what is wrong with it."""
    defaults, unsupported = DEFAULTS[model], UNSUPPORTED[model]
    kinds = {} if defaults is _ASTROCYTE else CALCIUM
    growing = {name: given[name] for name in kinds if name in given}
    given = {name: value for name, value in given.items() if name not in growing}
    for name, value in given.items():
        if name in unsupported:
            _check_default(model, name, value, unsupported[name])
        elif name not in defaults:
            raise unknown(f"parameter of {model}", name, [*defaults, *kinds])
    values: dict[str, Any] = {GROWTH: grows(n, growing)}
    for name, default in defaults.items():
        value = given.get(name, default)
        if is_distribution(value):
            if name in ("C_m", "g_L") and model.startswith("iaf_cond"):
                raise TypeError(
                    f"{name}={shortened(value)}: C_m / g_L is the membrane's time constant, which "
                    "cannot be made of a distribution; give a scalar or one number a cell"
                )
        else:
            # Here and not further down, so that messages have NEST's names
            low = 0.0 if name in _POSITIVE or name in _NOT_NEGATIVE else None
            divisor = name in _POSITIVE and not (name == "g_L" and model.startswith("hh_"))
            if name in ("V_th", "V_peak"):
                check_threshold(name, value)
            else:
                check_number(name, value, low=low, strict=divisor)
            value = as_real(value)
            check_cells(name, value, n)
        values[name] = value
    part = values.get("h_IP3R", 0.0)
    known = None if is_distribution(part) else concrete(part)
    if known is not None and np.any(known > 1):
        raise ValueError(f"h_IP3R={known} must be at most 1")
    if "V_reset" not in values:
        return values
    top = "V_peak" if "V_peak" in values else "V_th"
    reset, threshold = concrete(values["V_reset"]), concrete(values[top])
    if reset is not None and threshold is not None and not np.all(reset < threshold):
        raise ValueError(f"V_reset={reset} must be below {top}={threshold}")
    return values


def _check_default(model: str, name: str, value: Any, default: Any) -> None:
    known = value if isinstance(value, dict) else concrete(value)
    if known is None or not np.all(known == default):
        raise ValueError(
            f"{name}={value!r}: {model} has this parameter in NEST, but it is not supported here; "
            f"only its default {default!r} is"
        )
