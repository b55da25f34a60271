"""NEST's names, parameter names and defaults, as populations.

    neurons = jsnn.nest.iaf_psc_alpha(1000, tau_m=20.0, V_th=-50.0)

is `nest.Create("iaf_psc_alpha", 1000, {"tau_m": 20.0, "V_th": -50.0})`: a `Population` of `LIF` or
`HodgkinHuxley` neurons with the receptors and the solver of the table. Nothing else is special
about it.

| name | receptors | their weights | solver |
|---|---|---|---|
| `iaf_psc_delta` | `delta`: `Delta` | mV | `Exact()` |
| `iaf_psc_exp` | `ex`, `in`: `Exponential` current | pA | `Exact()` |
| `iaf_psc_alpha` | `ex`, `in`: `Alpha` current | pA | `Exact()` |
| `iaf_cond_exp` | `ex`, `in`: `Exponential` conductance | nS | `RK4(2)` |
| `iaf_cond_alpha` | `ex`, `in`: `Alpha` conductance | nS | `RK4(4)` |
| `hh_psc_alpha` | `ex`, `in`: `Alpha` current | pA | `Splitting()` |
| `hh_psc_alpha_gap` | `ex`, `in`: `Alpha` current | pA | `Splitting()` |

NEST's `gap_junction` is `jsnn.coupling.GapJunction`, for `Network(..., couplings=...)`; its `wfr_`
settings are those of `jsnn.exchange.WaveformRelaxation`, for `Network(..., exchange=...)`.
`tsodyks_synapse` and `tsodyks2_synapse` are releases, for `Projection(..., release=...)`.

The receptor is chosen by name, where NEST chooses it by the sign of the weight: a negative weight
in NEST is here a negative weight onto `in` for a current, and its absolute value onto `in` for a
conductance, whose reversal potential makes it inhibitory. An `iaf_psc_delta` has one receptor, for
weights of either sign.

| parameter | meaning | unit | psc | cond |
|---|---|---|---|---|
| `C_m` | membrane capacitance | pF | 250 | 250 |
| `tau_m` | membrane time constant | ms | 10 | |
| `g_L` | leak conductance | nS | | 16.6667 |
| `E_L` | resting potential | mV | -70 | -70 |
| `V_th` | threshold | mV | -55 | -55 |
| `V_reset` | reset potential | mV | -70 | -60 |
| `V_m` | membrane potential at the start | mV | -70 | -70 |
| `t_ref` | refractory time, whole steps | ms | 2 | 2 |
| `I_e` | constant current | pA | 0 | 0 |
| `tau_syn_ex` | time constant of `ex` (not of `iaf_psc_delta`) | ms | 2 | 0.2 |
| `tau_syn_in` | time constant of `in` (not of `iaf_psc_delta`) | ms | 2 | 2 |
| `E_ex`, `E_in` | reversal potentials | mV | | 0, -85 |
| `g_ex`, `g_in` | conductances at the start | nS | | 0, 0 |
| `dg_ex`, `dg_in` | their slopes at the start (`iaf_cond_alpha`) | nS/ms | | 0, 0 |

and of the neurons with channels, besides `C_m`, `E_L`, `V_m`, `t_ref`, `I_e` and `tau_syn_`:

| parameter | meaning | unit | hh_psc_alpha | hh_psc_alpha_gap |
|---|---|---|---|---|
| `g_Na`, `g_L` | sodium and leak conductance | nS | 12000, 30 | 4500, 10 |
| `g_K` | potassium conductance | nS | 3600 | |
| `g_Kv1`, `g_Kv3` | potassium conductances | nS | | 9, 9000 |
| `E_Na`, `E_K`, `E_L` | reversal potentials | mV | 50, -77, -54.402 | 74, -90, -70 |
| `C_m` | membrane capacitance | pF | 100 | 40 |
| `tau_syn_ex`, `tau_syn_in` | time constants | ms | 0.2, 2 | 0.2, 2 |
| `V_m` | membrane potential at the start | mV | -65 | -69.604 |
| `Act_m`, `Inact_h`, `Act_n`, `Inact_p` | gates at the start (p of the second only) | | | |

Gates start at the equilibrium of the default `V_m`, also where another is given.

Each is a scalar or `[n]`; what holds at the start may also be a distribution to draw from. As in
NEST, `V_m` stays at -70 where only `E_L` is given. The names of the recorded states differ: `V_m`
is `"v"`, `I_syn_ex` is `"ex.i"`, `g_ex` is `"ex.g"`, `Act_m` is `"m"`.

The spikes of the psc models are NEST's, and so are the membrane potentials but for rounding. NEST
integrates the cond models with steps of adaptive size, whose error is below 1e-4 mV at moderate
drive and was up to 1e-2 mV where synapses are strong, which can move a spike. The substeps here are
chosen for a `dt` of 0.1 ms and the default time constants: their error stays below 1e-4 mV under
strong drive, where one substep moved up to one spike in a hundred of `iaf_cond_alpha`.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax import Array

from jsnn._math import as_real, check_cells, check_number, concrete, unknown
from jsnn.distributions import is_distribution
from jsnn.neurons.hodgkin_huxley import HodgkinHuxley
from jsnn.neurons.lif import LIF
from jsnn.population import Population
from jsnn.receptors import Alpha, Delta, Exponential, Receptor
from jsnn.release import MaassMarkram, Tsodyks
from jsnn.solvers import RK4, Solver

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

DEFAULTS: dict[str, dict[str, float]] = {
    "iaf_psc_delta": _PSC,
    "iaf_psc_exp": _CURRENTS,
    "iaf_psc_alpha": _CURRENTS,
    "iaf_cond_exp": _COND,
    "iaf_cond_alpha": {**_COND, "dg_ex": 0.0, "dg_in": 0.0},
    "hh_psc_alpha": _SQUID,
    "hh_psc_alpha_gap": _INTERNEURON,
}
"""By model, the parameters that its constructor takes, with NEST's defaults."""

# What NEST's models take besides: the only value that means the same here.
_EVERY_NODE = {
    "Ca": 0.0,
    "beta_Ca": 0.001,
    "frozen": False,
    "ignore_and_spike": False,
    "ignore_and_spike_interval": 100.0,
    "ignore_and_spike_offset": 1.0,
    "synaptic_elements": {},
    "tau_Ca": 10000.0,
    "tau_minus": 20.0,
    "tau_minus_triplet": 110.0,
}
UNSUPPORTED: dict[str, dict[str, Any]] = {
    "iaf_psc_delta": {**_EVERY_NODE, "V_min": -sys.float_info.max, "refractory_input": False},
    "iaf_psc_exp": {**_EVERY_NODE, "delta": 0.0, "rho": 0.01},
    "iaf_psc_alpha": {**_EVERY_NODE, "V_min": -np.inf},
    "iaf_cond_exp": _EVERY_NODE,
    "iaf_cond_alpha": _EVERY_NODE,
    "hh_psc_alpha": _EVERY_NODE,
    "hh_psc_alpha_gap": _EVERY_NODE,
}
"""By model, the parameters of NEST that are accepted at their default only."""

_POSITIVE = ("C_m", "tau_m", "g_L", "tau_syn_ex", "tau_syn_in")
_GATES = {"Act_m": "m", "Inact_h": "h", "Act_n": "n", "Inact_p": "p"}
_NOT_NEGATIVE = ("t_ref", "g_ex", "g_in", "g_Na", "g_K", "g_Kv1", "g_Kv3", *_GATES)
_STATES = {"V_m": "v", "g_ex": "ex.g", "g_in": "in.g", "dg_ex": "ex.dg", "dg_in": "in.dg", **_GATES}

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

Slices = Mapping[str, slice]


def iaf_psc_delta(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Leaky integrate-and-fire; a spike moves the membrane by its weight (mV), at receptor `delta`.

    Spikes that reach a refractory cell are lost. Parameters and defaults: the module's table.
    """
    values = _parameters("iaf_psc_delta", n, params)
    return _population(n, values, {"delta": Delta()}, slices, solver)


def iaf_psc_exp(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Leaky integrate-and-fire with exponential currents at receptors `ex` and `in` (pA).

    Inhibitory weights are negative. Parameters and defaults: the module's table.
    """
    values = _parameters("iaf_psc_exp", n, params)
    receptors = {"ex": Exponential(values["tau_syn_ex"]), "in": Exponential(values["tau_syn_in"])}
    return _population(n, values, receptors, slices, solver)


def iaf_psc_alpha(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Leaky integrate-and-fire with alpha-shaped currents at receptors `ex` and `in` (pA at peak).

    Inhibitory weights are negative. Parameters and defaults: the module's table.
    """
    values = _parameters("iaf_psc_alpha", n, params)
    receptors = {"ex": Alpha(values["tau_syn_ex"]), "in": Alpha(values["tau_syn_in"])}
    return _population(n, values, receptors, slices, solver)


def iaf_cond_exp(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Leaky integrate-and-fire with exponential conductances at receptors `ex` and `in` (nS).

    All weights are positive. Parameters and defaults: the module's table.
    """
    values = _parameters("iaf_cond_exp", n, params)
    receptors = {
        "ex": Exponential(values["tau_syn_ex"], values["E_ex"]),
        "in": Exponential(values["tau_syn_in"], values["E_in"]),
    }
    return _population(n, values, receptors, slices, RK4(2) if solver is None else solver)


def iaf_cond_alpha(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Leaky integrate-and-fire with alpha-shaped conductances at `ex` and `in` (nS at peak).

    All weights are positive. Parameters and defaults: the module's table.
    """
    values = _parameters("iaf_cond_alpha", n, params)
    receptors = {
        "ex": Alpha(values["tau_syn_ex"], values["E_ex"]),
        "in": Alpha(values["tau_syn_in"], values["E_in"]),
    }
    return _population(n, values, receptors, slices, RK4(4) if solver is None else solver)


def hh_psc_alpha(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """The squid's axon of Hodgkin and Huxley (1952) with alpha-shaped currents at `ex` and `in`
    (pA at peak).

    Inhibitory weights are negative. Parameters and defaults: the module's table.
    """
    return _channels("hh_psc_alpha", n, params, slices, solver)


def hh_psc_alpha_gap(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """A fast-spiking interneuron (Mancilla et al. 2007) with alpha-shaped currents at `ex` and `in`
    (pA at peak), made for gap junctions.

    Inhibitory weights are negative. Parameters and defaults: the module's table.
    """
    return _channels("hh_psc_alpha_gap", n, params, slices, solver)


def _channels(
    model: str, n: int, params: Mapping[str, Any], slices: Slices | None, solver: Solver | None
) -> Population:
    values = _parameters(model, n, params)
    receptors = {"ex": Alpha(values["tau_syn_ex"]), "in": Alpha(values["tau_syn_in"])}
    law = HodgkinHuxley.squid if model == "hh_psc_alpha" else HodgkinHuxley.interneuron
    start = [name for name in values if name in _STATES]
    own = [name for name in values if name not in (*start, "tau_syn_ex", "tau_syn_in")]
    neuron = law(**{name.lower(): values[name] for name in own})
    initial = {_STATES[name]: values[name] for name in start}
    return Population(neuron, n, receptors, solver=solver, slices=slices, initial=initial)


def tsodyks_synapse(**params: Any) -> Tsodyks:
    """Short-term plasticity of Tsodyks, Uziel and Markram (2000): the `release` of a projection.

    `U`, `tau_psc`, `tau_rec`, `tau_fac` and, at the start, `u`, `x`, `y` have NEST's defaults. Each
    is a scalar, one number for each source or each edge, or a distribution.
    """
    return Tsodyks(**_synapse_parameters("tsodyks_synapse", params))


def tsodyks2_synapse(**params: Any) -> MaassMarkram:
    """Short-term plasticity of Maass and Markram (2002): the `release` of a projection.

    `U`, `tau_rec`, `tau_fac` and, for the first spike, `u` and `x` have NEST's defaults: as there,
    u is 0.5 where only U is given. Each is a scalar, one number for each source or each edge, or a
    distribution.
    """
    return MaassMarkram(**_synapse_parameters("tsodyks2_synapse", params))


def _synapse_parameters(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    for name in given:
        if name in ("weight", "delay"):
            raise ValueError(f"{name}: give it to the projection, beside the release")
        if name not in SYNAPSE_DEFAULTS[model]:
            raise unknown(f"parameter of {model}", name, SYNAPSE_DEFAULTS[model])
    return {**SYNAPSE_DEFAULTS[model], **given}


def _parameters(model: str, n: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """NEST's defaults with what is given in their place; raises for what is wrong with it."""
    defaults, unsupported = DEFAULTS[model], UNSUPPORTED[model]
    for name, value in given.items():
        if name in unsupported:
            _check_default(model, name, value, unsupported[name])
        elif name not in defaults:
            raise unknown(f"parameter of {model}", name, defaults)
    values: dict[str, Any] = {}
    for name, default in defaults.items():
        value = given.get(name, default)
        if is_distribution(value):
            if name not in _STATES:
                raise TypeError(
                    f"{name}={value!r}: only the values at the start "
                    f"({', '.join(s for s in _STATES if s in defaults)}) may be distributions; "
                    "give a scalar or an array with one number a cell"
                )
        else:
            # Here and not further down, so that messages have NEST's names
            low = 0.0 if name in _POSITIVE or name in _NOT_NEGATIVE else None
            divisor = name in _POSITIVE and not (name == "g_L" and model.startswith("hh_"))
            check_number(name, value, low=low, strict=divisor)
            value = as_real(value)
            check_cells(name, value, n)
        values[name] = value
    if "V_reset" not in values:
        return values
    reset, threshold = concrete(values["V_reset"]), concrete(values["V_th"])
    if reset is not None and threshold is not None and not np.all(reset < threshold):
        raise ValueError(f"V_reset={reset} must be below V_th={threshold}")
    return values


def _check_default(model: str, name: str, value: Any, default: Any) -> None:
    known = value if isinstance(value, dict) else concrete(value)
    if known is None or not np.all(known == default):
        raise ValueError(
            f"{name}={value!r}: {model} has this parameter in NEST, but it is not supported here; "
            f"only its default {default!r} is"
        )


def _population(
    n: int,
    values: Mapping[str, Any],
    receptors: Mapping[str, Receptor],
    slices: Slices | None,
    solver: Solver | None,
) -> Population:
    tau_m: Array = values["tau_m"] if "tau_m" in values else values["C_m"] / values["g_L"]
    neuron = LIF(
        tau_m=tau_m,
        c_m=values["C_m"],
        e_l=values["E_L"],
        v_th=values["V_th"],
        v_reset=values["V_reset"],
        t_ref=values["t_ref"],
        i_e=values["I_e"],
    )
    initial = {state: values[name] for name, state in _STATES.items() if name in values}
    return Population(neuron, n, receptors, solver=solver, slices=slices, initial=initial)
