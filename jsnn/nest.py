"""NEST's names, parameter names and defaults, as populations.

    neurons = jsnn.nest.iaf_psc_alpha(1000, tau_m=20.0, V_th=-50.0)

is `nest.Create("iaf_psc_alpha", 1000, {"tau_m": 20.0, "V_th": -50.0})`: a `Population` of `LIF`,
`AdEx` or `HodgkinHuxley` neurons, or of `LiRinzel` astrocytes, with the receptors and the solver of
the table. Nothing else is special about it.

| name | receptors | their weights | solver |
|---|---|---|---|
| `iaf_psc_delta` | `delta`: `Delta` | mV | `Exact()` |
| `iaf_psc_exp` | `ex`, `in`: `Exponential` current | pA | `Exact()` |
| `iaf_psc_alpha` | `ex`, `in`: `Alpha` current | pA | `Exact()` |
| `iaf_cond_exp` | `ex`, `in`: `Exponential` conductance | nS | `RK4(2)` |
| `iaf_cond_alpha` | `ex`, `in`: `Alpha` conductance | nS | `RK4(4)` |
| `hh_psc_alpha` | `ex`, `in`: `Alpha` current | pA | `Splitting()` |
| `hh_psc_alpha_gap` | `ex`, `in`: `Alpha` current | pA | `Splitting()` |
| `aeif_psc_delta` | `delta`: `Delta` | mV | `RK4()` |
| `aeif_psc_exp` | `ex`, `in`: `Exponential` current | pA | `RK4()` |
| `aeif_psc_alpha` | `ex`, `in`: `Alpha` current | pA | `RK4()` |
| `aeif_cond_exp` | `ex`, `in`: `Exponential` conductance | nS | `RK4()` |
| `aeif_cond_alpha`, `aeif_cond_alpha_astro` | `ex`, `in`: `Alpha` conductance | nS | `RK4()` |
| `astrocyte_lr_1994` | `delta`: `Delta` | 1 | `RK4()` |

NEST's `sic_connection` is `jsnn.coupling.SlowInwardCurrent` and its `gap_junction`
`jsnn.coupling.GapJunction`, for `Network(..., couplings=...)`; its `wfr_` settings are those of
`jsnn.exchange.WaveformRelaxation`, for `Network(..., exchange=...)`. `TripartiteConnect` is
`jsnn.tripartite`.
`tsodyks_synapse` and `tsodyks2_synapse` are releases, for `Projection(..., release=...)`.
`dc_generator`, `step_current_generator`, `noise_generator`, `poisson_generator` and
`spike_generator` are inputs, for `Network(..., inputs=...)`, with the weight and the delay (1 ms)
of NEST's connection from the device; see each of them.

The receptor is chosen by name, where NEST chooses it by the sign of the weight: a negative weight
in NEST is here a negative weight onto `in` for a current, and its absolute value onto `in` for a
conductance, whose reversal potential makes it inhibitory. A negative weight onto `ex`, or a
positive one onto the current `in`, is refused: NEST would hand it to the other. An `iaf_psc_delta`
or `aeif_psc_delta` has one receptor, for weights of either sign.

| parameter | meaning | unit | psc | cond |
|---|---|---|---|---|
| `C_m` | membrane capacitance | pF | 250 | 250 |
| `tau_m` | membrane time constant | ms | 10 | |
| `g_L` | leak conductance | nS | | 16.6667 |
| `E_L` | resting potential | mV | -70 | -70 |
| `V_th` | threshold; none, where it is infinite | mV | -55 | -55 |
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

The neurons with adaptation take, besides `I_e`, `E_ex`, `E_in` and what their synapses are at the
start (`g_`, `dg_`; of the psc models `I_syn_`, `dI_syn_`):

| parameter | meaning | unit | default |
|---|---|---|---|
| `C_m`, `g_L`, `E_L` | membrane | pF, nS, mV | 281, 30, -70.6 |
| `V_th`, `Delta_T` | threshold of the upstroke, and its sharpness | mV | -50.4, 2 |
| `V_peak`, `V_reset` | potential of the spike, and after it | mV | 0, -60 |
| `a`, `b`, `tau_w` | adaptation | nS, pA, ms | 4, 80.5, 144 |
| `V_m`, `w` | at the start | mV, pA | -70.6, 0 |
| `t_ref`, `tau_syn_ex`, `tau_syn_in` | | ms | 0, 0.2, 2 |

and `astrocyte_lr_1994` those of `LiRinzel`, with NEST's capitals (`Kd_IP3_1`, `rate_SERCA`), and
`IP3`, `Ca_astro` and `h_IP3R` at the start (0.16 uM, 0.073 uM, 0.793).

Every neuron takes calcium and synaptic elements, which it has if any of these is given:

| parameter | meaning | unit | default |
|---|---|---|---|
| `Ca` | calcium at the start | | 0 |
| `tau_Ca`, `beta_Ca` | its time constant, and what a spike adds | ms, 1 | 10000, 0.001 |
| `synaptic_elements` | parameters of each kind by name | | `{}` |

`growth_curve` is `"linear"`, `"gaussian"` or `"sigmoid"`; beside it `eps`, `eta`, `psi`,
`growth_rate`, `tau_vacant`, `continuous` and `z` have NEST's defaults. They grow as in NEST
(`jsnn.growth.Calcium(as_nest=True)`). NEST's `structural_plasticity_synapses` are growing
projections, and its `structural_plasticity_update_interval` that of `Network(..., rewiring=...)`;
see `jsnn.rewire`.

Each is a scalar, `[n]`, or a distribution of `jsnn.distributions`, which a network draws from (not
`C_m` and `g_L` of the `iaf_cond` models, whose ratio is taken). As in
NEST, `V_m` stays at its default where only `E_L` is given. The names of the recorded states differ:
`V_m` is `"v"`, `I_syn_ex` is `"ex.i"`, `g_ex` is `"ex.g"`, `Act_m` is `"m"`, `Ca_astro` is `"ca"`.

The spikes of the `iaf_psc` models are NEST's, and so are the membrane potentials but for rounding.
NEST integrates the other models with steps of adaptive size; of the `iaf_cond` ones its error is
below 1e-4 mV at moderate drive and was up to 1e-2 mV where synapses are strong, which can move a
spike. The substeps here are chosen for a `dt` of 0.1 ms and the default time constants: those of
the `iaf_cond` models stay below 1e-4 mV under strong drive. The `aeif` models have one, with which
spikes are within 0.1 ms of NEST's as a rule; in bursts, and under currents that move v by more than
`Delta_T` in a step, `solver=RK4(4)` is nearer. An `aeif` cell fires at most once a step: what NEST
has as a second spike of one falls into the next.
"""

from collections.abc import Mapping
from typing import Any

from jax import Array

from jsnn._names import explained
from jsnn._nest_defaults import DEFAULTS as DEFAULTS
from jsnn._nest_defaults import GROWTH, STATES, missing, parameters, synapse_parameters
from jsnn._nest_defaults import SYNAPSE_DEFAULTS as SYNAPSE_DEFAULTS
from jsnn._nest_defaults import UNSUPPORTED as UNSUPPORTED
from jsnn._nest_devices import DEVICE_DEFAULTS as DEVICE_DEFAULTS
from jsnn._nest_devices import UNSUPPORTED_OF_DEVICES as UNSUPPORTED_OF_DEVICES
from jsnn._nest_devices import dc_generator as dc_generator
from jsnn._nest_devices import noise_generator as noise_generator
from jsnn._nest_devices import poisson_generator as poisson_generator
from jsnn._nest_devices import spike_generator as spike_generator
from jsnn._nest_devices import step_current_generator as step_current_generator
from jsnn._nest_growth import CALCIUM as CALCIUM
from jsnn.astrocytes import LiRinzel
from jsnn.neurons.adex import AdEx
from jsnn.neurons.hodgkin_huxley import HodgkinHuxley
from jsnn.neurons.lif import LIF
from jsnn.population import Neuron, Population
from jsnn.receptors import Alpha, Delta, Exponential, Receptor
from jsnn.release import MaassMarkram, Tsodyks
from jsnn.solvers import RK4, Solver

Slices = Mapping[str, slice]


def __getattr__(name: str) -> Any:
    """Only for names that do not exist."""
    raise missing(name, [*DEFAULTS, *SYNAPSE_DEFAULTS, *DEVICE_DEFAULTS])


@explained
def iaf_psc_delta(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Leaky integrate-and-fire; a spike moves the membrane by its weight (mV), at receptor `delta`.

    Spikes that reach a refractory cell are lost. Parameters and defaults: the module's table.
    """
    values = parameters("iaf_psc_delta", n, params)
    return _population(n, values, {"delta": Delta()}, slices, solver)


@explained
def iaf_psc_exp(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Leaky integrate-and-fire with exponential currents at receptors `ex` and `in` (pA).

    Inhibitory weights are negative. Parameters and defaults: the module's table.
    """
    values = parameters("iaf_psc_exp", n, params)
    return _population(n, values, _receptors(Exponential, values), slices, solver)


@explained
def iaf_psc_alpha(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Leaky integrate-and-fire with alpha-shaped currents at receptors `ex` and `in` (pA at peak).

    Inhibitory weights are negative. Parameters and defaults: the module's table.
    """
    values = parameters("iaf_psc_alpha", n, params)
    return _population(n, values, _receptors(Alpha, values), slices, solver)


@explained
def iaf_cond_exp(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Leaky integrate-and-fire with exponential conductances at receptors `ex` and `in` (nS).

    All weights are positive. Parameters and defaults: the module's table.
    """
    values = parameters("iaf_cond_exp", n, params)
    receptors = _receptors(Exponential, values)
    return _population(n, values, receptors, slices, RK4(2) if solver is None else solver)


@explained
def iaf_cond_alpha(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Leaky integrate-and-fire with alpha-shaped conductances at `ex` and `in` (nS at peak).

    All weights are positive. Parameters and defaults: the module's table.
    """
    values = parameters("iaf_cond_alpha", n, params)
    receptors = _receptors(Alpha, values)
    return _population(n, values, receptors, slices, RK4(4) if solver is None else solver)


@explained
def hh_psc_alpha(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """The squid's axon of Hodgkin and Huxley (1952) with alpha-shaped currents at `ex` and `in`
    (pA at peak).

    Inhibitory weights are negative. Parameters and defaults: the module's table.
    """
    return _channels("hh_psc_alpha", n, params, slices, solver)


@explained
def hh_psc_alpha_gap(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """A fast-spiking interneuron (Mancilla et al. 2007) with alpha-shaped currents at `ex` and `in`
    (pA at peak), made for gap junctions.

    Inhibitory weights are negative. Parameters and defaults: the module's table.
    """
    return _channels("hh_psc_alpha_gap", n, params, slices, solver)


@explained
def aeif_psc_delta(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Adaptive exponential integrate-and-fire; a spike moves the membrane by its weight (mV), at
    receptor `delta`.

    Spikes that reach a refractory cell are lost. Parameters and defaults: the module's table.
    """
    return _adaptive("aeif_psc_delta", n, params, slices, solver)


@explained
def aeif_psc_exp(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Adaptive exponential integrate-and-fire with exponential currents at `ex` and `in` (pA).

    Inhibitory weights are negative. Parameters and defaults: the module's table.
    """
    return _adaptive("aeif_psc_exp", n, params, slices, solver)


@explained
def aeif_psc_alpha(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Adaptive exponential integrate-and-fire with alpha-shaped currents at `ex` and `in` (pA at
    peak).

    Inhibitory weights are negative. Parameters and defaults: the module's table.
    """
    return _adaptive("aeif_psc_alpha", n, params, slices, solver)


@explained
def aeif_cond_exp(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Adaptive exponential integrate-and-fire with exponential conductances at `ex` and `in` (nS).

    All weights are positive. Parameters and defaults: the module's table.
    """
    return _adaptive("aeif_cond_exp", n, params, slices, solver)


@explained
def aeif_cond_alpha(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """Adaptive exponential integrate-and-fire (Brette and Gerstner 2005) with alpha-shaped
    conductances at `ex` and `in` (nS at peak).

    All weights are positive. Parameters and defaults: the module's table.
    """
    return _adaptive("aeif_cond_alpha", n, params, slices, solver)


@explained
def aeif_cond_alpha_astro(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """`aeif_cond_alpha`: here every neuron takes the slow inward current of astrocytes."""
    return _adaptive("aeif_cond_alpha_astro", n, params, slices, solver)


def _adaptive(
    model: str, n: int, params: Mapping[str, Any], slices: Slices | None, solver: Solver | None
) -> Population:
    values = parameters(model, n, params)
    receptors: dict[str, Receptor] = {"delta": Delta()}
    if "tau_syn_ex" in values:
        kind = Alpha if "alpha" in model else Exponential
        receptors = _receptors(kind, values)
    own = ("C_m", "g_L", "E_L", "V_th", "Delta_T", "V_peak", "V_reset", "t_ref", "tau_w")
    neuron = AdEx(**{name.lower(): values[name] for name in (*own, "a", "b", "I_e")})
    return _made(neuron, n, values, receptors, slices, solver)


@explained
def astrocyte_lr_1994(
    n: int, *, slices: Slices | None = None, solver: Solver | None = None, **params: Any
) -> Population:
    """The astrocyte of Li and Rinzel (1994); a spike of weight w at receptor `delta` raises IP3 by
    delta_IP3 w.

    Weights are positive. Parameters and defaults: the module's table.
    """
    values = parameters("astrocyte_lr_1994", n, params)
    values.pop(GROWTH)
    initial = {STATES[name]: values.pop(name) for name in list(values) if name in STATES}
    law = LiRinzel(**{name.lower(): value for name, value in values.items()})
    return Population(law, n, {"delta": Delta()}, solver=solver, slices=slices, initial=initial)


def _channels(
    model: str, n: int, params: Mapping[str, Any], slices: Slices | None, solver: Solver | None
) -> Population:
    values = parameters(model, n, params)
    receptors = _receptors(Alpha, values)
    law = HodgkinHuxley.squid if model == "hh_psc_alpha" else HodgkinHuxley.interneuron
    others = (*STATES, "tau_syn_ex", "tau_syn_in", GROWTH)
    neuron = law(**{name.lower(): own for name, own in values.items() if name not in others})
    return _made(neuron, n, values, receptors, slices, solver)


@explained
def tsodyks_synapse(**params: Any) -> Tsodyks:
    """Short-term plasticity of Tsodyks, Uziel and Markram (2000): the `release` of a projection.

    `U`, `tau_psc`, `tau_rec`, `tau_fac` and, at the start, `u`, `x`, `y` have NEST's defaults. Each
    is a scalar, one number for each source or each edge, or a distribution.
    """
    return Tsodyks(**synapse_parameters("tsodyks_synapse", params))


@explained
def tsodyks2_synapse(**params: Any) -> MaassMarkram:
    """Short-term plasticity of Maass and Markram (2002): the `release` of a projection.

    `U`, `tau_rec`, `tau_fac` and, for the first spike, `u` and `x` have NEST's defaults: as there,
    u is 0.5 where only U is given. Each is a scalar, one number for each source or each edge, or a
    distribution.
    """
    return MaassMarkram(**synapse_parameters("tsodyks2_synapse", params))


def _receptors(
    kind: type[Exponential] | type[Alpha], values: Mapping[str, Any]
) -> dict[str, Receptor]:
    """`ex` and `in`: conductances, or currents that take the weights that NEST hands them."""
    if "E_ex" in values:
        return {end: kind(values[f"tau_syn_{end}"], values[f"E_{end}"]) for end in ("ex", "in")}
    signs = {"ex": 1, "in": -1}
    return {end: kind(values[f"tau_syn_{end}"], sign=sign) for end, sign in signs.items()}


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
    return _made(neuron, n, values, receptors, slices, solver)


def _made(
    neuron: Neuron,
    n: int,
    values: Mapping[str, Any],
    receptors: Mapping[str, Receptor],
    slices: Slices | None,
    solver: Solver | None,
) -> Population:
    """A population with all that holds at its start."""
    initial = {state: values[name] for name, state in STATES.items() if name in values}
    return Population(
        neuron,
        n,
        receptors,
        solver=solver,
        slices=slices,
        initial={**initial, **values[GROWTH].initial},
        calcium=values[GROWTH].calcium,
        elements=values[GROWTH].elements,
    )
