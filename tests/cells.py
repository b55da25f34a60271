"""Single cells under the same random drive on NEST, on jsnn and, where it decides, on SciPy."""

from typing import Any

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import jsnn
from jsnn.inputs import SpikeList, StepCurrent
from jsnn.record import Spikes, States

nest = pytest.importorskip("nest")

DT = 0.1
# What NEST records, and what the same is called here.
STATES = {"V_m": "v", "I_syn_ex": "ex.i", "I_syn_in": "in.i", "g_ex": "ex.g", "g_in": "in.g"}
STATES |= {"Act_m": "m", "Inact_h": "h", "Act_n": "n", "Inact_p": "p"}

# Six different cells; each of them fires in every model.
CELLS = {
    "t_ref": [0.0, 2.0, 5.0, 2.0, 0.5, 1.0],
    "I_e": [0.0, 100.0, 200.0, -50.0, 0.0, 300.0],
    "E_L": [-70.0, -65.0, -70.0, -72.0, -60.0, -70.0],
    "V_th": [-55.0, -50.0, -55.0, -54.0, -52.0, -55.0],
    "V_m": [-70.0, -60.0, -58.0, -56.0, -75.0, -70.0],
}
MEMBRANES = {
    "C_m": [250.0, 200.0, 300.0, 50.0, 100.0, 250.0],
    "tau_m": [10.0, 20.0, 5.0, 2.0, 10.0, 15.0],
    "V_reset": [-70.0, -68.0, -75.0, -70.0, -70.0, -65.0],
}
# tau_m == tau_syn_ex in cells 2, 3, 4 and tau_m == tau_syn_in in cells 2, 3
SYNAPSES = {
    "tau_syn_ex": [2.0, 0.5, 5.0, 2.0, 10.0, 0.1],
    "tau_syn_in": [2.0, 3.0, 5.0, 2.0, 8.0, 1.0],
}
LEAKS = {
    "C_m": [250.0, 200.0, 300.0, 50.0, 100.0, 250.0],
    "g_L": [16.6667, 10.0, 20.0, 12.0, 5.0, 16.6667],
    "V_reset": [-60.0, -65.0, -60.0, -70.0, -60.0, -61.0],
    "tau_syn_ex": [0.2, 0.2, 0.3, 2.0, 5.0, 0.2],
    "tau_syn_in": [2.0, 3.0, 5.0, 2.0, 8.0, 1.0],
}
DELAYS = {"ex": 1.0, "in": 2.3}
STEPS = np.array([100.0, 300.0, 500.3, 700.0]), np.array([300.0, -100.0, 500.0, 0.0])
USED = {*CELLS, *LEAKS, "E_ex", "E_in"}


def fresh_kernel(dt=DT):
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.resolution = dt


def trains(n, duration, rates, weights, seed):
    """By receptor, times (some repeated) and weights (each its own) of the spikes to each cell."""
    rng = np.random.default_rng(seed)
    made = {}
    for (name, rate), weight in zip(rates.items(), weights, strict=True):
        made[name] = []
        for _ in range(n):
            count = rng.poisson(rate * duration / 1000)
            steps = np.sort(rng.integers(1, round(duration / DT) - 50, count))
            made[name].append((np.round(steps * DT, 1), weight * rng.uniform(0.5, 1.5, count)))
    return made


def nest_cells(model, params, spikes, duration, *, dt=DT, stimulus=STEPS, gaps=()):
    """States `[steps, n]` with NaN where NEST has none, and the sorted (step, cell) of spikes.
    `gaps` are gap junctions: two cells and nS of each."""
    n = len(params["t_ref"])
    cells = nest.Create(model, n, params)
    for a, b, weight in gaps:
        rule = {"rule": "one_to_one", "make_symmetric": True}
        junction = {"synapse_model": "gap_junction", "weight": weight}
        nest.Connect(cells[a], cells[b], rule, junction)
    for name, lists in spikes.items():
        sign = -1.0 if name == "in" else 1.0  # NEST chooses the receptor by it
        for cell, (times, weights) in zip(cells, lists, strict=True):
            sent = {"spike_times": times, "spike_weights": sign * weights}
            source = nest.Create("spike_generator", params=sent)
            nest.Connect(source, cell, syn_spec={"weight": 1.0, "delay": DELAYS[name]})
    current = {"amplitude_times": stimulus[0], "amplitude_values": stimulus[1]}
    nest.Connect(nest.Create("step_current_generator", params=current), cells)
    known = [name for name in STATES if name in nest.GetDefaults(model)["recordables"]]
    meter = nest.Create("multimeter", params={"interval": dt, "record_from": known})
    nest.Connect(meter, cells)
    recorder = nest.Create("spike_recorder")
    nest.Connect(cells, recorder)
    nest.Simulate(duration)
    events = meter.events
    at = np.rint(events["times"] / dt).astype(int) - 1, events["senders"] - cells[0].global_id
    states = {}
    for name in known:
        states[name] = np.full((round(duration / dt), n), np.nan)
        states[name][at] = events[name]
    return states, nest_spikes(recorder, cells, dt)


def nest_spikes(recorder, cells, dt=DT):
    """(step, cell) of every spike, in that order."""
    steps = np.rint(recorder.events["times"] / dt).astype(int) - 1
    index = recorder.events["senders"] - cells[0].global_id
    return sorted(zip(steps.tolist(), index.tolist(), strict=True))


def listed(record):
    found = record.listed()
    return list(zip(found.steps.tolist(), found.index.tolist(), strict=True))


def jsnn_cells(
    population, spikes, duration, *, dt=DT, stimulus=STEPS, couplings=None, exchange=None
):
    """The same from jsnn, under NEST's names."""
    inputs: dict[str, Any] = {"step": StepCurrent("cells", *stimulus, delay=1.0)}
    for name, lists in spikes.items():
        times, weights = (np.concatenate(own) for own in zip(*lists, strict=True))
        cells = np.repeat(np.arange(len(lists)), [len(own) for own, _ in lists])
        receptor = "delta" if "delta" in population.receptors else name
        if name == "in" and not population.receptors[receptor].is_conductance:
            weights = -weights
        inputs[name] = SpikeList("cells", times, cells, weights, receptor, delay=DELAYS[name])
    network = jsnn.Network(
        {"cells": population},
        inputs=inputs,
        couplings=couplings,
        dt=dt,
        key=jax.random.key(1),
        exchange=exchange,
    )
    known = [name for name, own in STATES.items() if own in population.states]
    record = {name: States("cells", STATES[name]) for name in known}
    state = network.init(jax.random.key(1))
    solution = jsnn.simulate(
        network, state, round(duration / dt), {**record, "spikes": Spikes("cells")}
    )
    states = {name: np.asarray(solution.records[name].values) for name in known}
    assert states["V_m"].dtype == np.float64
    return states, listed(solution.records["spikes"])


def arrays(params):
    return {name: np.array(values) for name, values in params.items()}


def arriving(spikes, duration, *, dt=DT, stimulus=STEPS):
    """What reaches the cells in each step: by receptor `[steps, n]`, and the current `[steps]`."""
    steps = round(duration / dt)
    arrivals = {name: np.zeros((steps, len(lists))) for name, lists in spikes.items()}
    for name, lists in spikes.items():
        for cell, (times, weights) in enumerate(lists):
            at = np.rint((times + DELAYS[name]) / dt).astype(int) - 1
            inside = at < steps
            np.add.at(arrivals[name], (at[inside], cell), weights[inside])
    current = np.zeros(steps)
    for time, value in zip(*stimulus, strict=True):
        current[round((time + 1.0) / dt) :] = value  # after a delay of 1 ms
    return arrivals, current


def reference_cells(model, params, spikes, duration):
    """`iaf_cond_*` by SciPy's DOP853 at 1e-12, step by step: membranes and (step, cell) of spikes.

    The equations once more, under an integrator of others: it tells who errs where two simulators
    differ.
    """
    n, steps, is_alpha = len(params["t_ref"]), round(duration / DT), "alpha" in model
    p = {k: np.asarray(v) for k, v in (nest.GetDefaults(model) | params).items() if k in USED}
    arrivals, stimulus = arriving(spikes, duration)
    countdown = np.rint(p["t_ref"] / DT).astype(int)

    def field(_, y, current, frozen):
        v, ex, d_ex, inh, d_in = y.reshape(5, n)
        v = np.where(frozen, p["V_reset"], v)
        current = current - ex * (v - p["E_ex"]) - inh * (v - p["E_in"]) - p["g_L"] * (v - p["E_L"])
        dv = np.where(frozen, 0.0, (current + p["I_e"]) / p["C_m"])
        slopes = [dv]
        for g, dg, tau in ((ex, d_ex, p["tau_syn_ex"]), (inh, d_in, p["tau_syn_in"])):
            slopes += [dg - g / tau, -dg / tau] if is_alpha else [-g / tau, 0.0 * dg]
        return np.concatenate(slopes)

    y, left = np.zeros((5, n)), np.zeros(n, int)
    y[0] = p["V_m"]
    membranes, fired_at = np.zeros((steps, n)), []
    for step in range(steps):
        frozen = left > 0
        y = solve_ivp(
            field,
            (0.0, DT),
            y.ravel(),
            method="DOP853",
            rtol=1e-12,
            atol=1e-12,
            args=(stimulus[step], frozen),
        ).y[:, -1]
        y = y.reshape(5, n)
        for row, name in ((1, "ex"), (3, "in")):
            own = arrivals[name][step]
            if is_alpha:
                y[row + 1] += own * np.e / p[f"tau_syn_{name}"]
            else:
                y[row] += own
        fired = ~frozen & (y[0] >= p["V_th"])
        y[0] = np.where(frozen | fired, p["V_reset"], y[0])
        left = np.where(fired, countdown, np.maximum(left - 1, 0))
        membranes[step] = y[0]
        fired_at += [(step, int(cell)) for cell in np.flatnonzero(fired)]
    return membranes, fired_at
