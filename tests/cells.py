"""Single cells under the same random drive on NEST, on jsnn and, where it decides, on SciPy."""

import math
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
STATES |= {"Act_m": "m", "Inact_h": "h", "Act_n": "n", "Inact_p": "p", "w": "w"}

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


def reference_adex(model, params, spikes, duration, *, stimulus=STEPS):
    """`aeif_*` by SciPy's DOP853 at 1e-11, from event to event: membranes and adaptation after each
    step `[steps, n]`, and by cell the times of spikes (ms).

    It moves v - delta_t log(1 + exp((v - v_th) / delta_t - 1)), which is as smooth as the
    coordinate of `jsnn` but another, with synapses in closed form.
    """
    n = len(params["t_ref"])
    arrivals, current = arriving(spikes, duration, stimulus=stimulus)
    found = []
    for cell in range(n):
        p = {k: v for k, v in nest.GetDefaults(model).items() if isinstance(v, float)}
        p |= {k: float(v[cell]) for k, v in params.items()}
        own = {name: values[:, cell] for name, values in arrivals.items()}
        found.append(_adex_cell(model, p, own, current))
    v, w, times = zip(*found, strict=True)
    return np.stack(v, 1), np.stack(w, 1), list(times)


def _adex_cell(model, p, arrivals, current):
    steps, d, peak = len(current), p["Delta_T"], p["V_peak"] if p["Delta_T"] else p["V_th"]
    bend, count = p["V_th"] + d, round(p["t_ref"] / DT)
    is_delta, is_alpha = "delta" in model, "alpha" in model
    signs = {"ex": 1.0, "in": -1.0}

    def along(v):
        return v - d * math.log1p(math.exp((v - bend) / d)) if d else v

    def upstroke(u):
        """v and the part of the slope that is left of it, and of the exponential current."""
        if not d:
            return u, 1.0, 0.0
        q = math.exp(min((u - bend) / d, 0.0))
        s = max(1.0 - q, 1e-300)
        return min(u - d * math.log(s), peak), s, q

    def synapses(t):
        for name, (y, x) in open_.items():
            decay = math.exp(-t / p[f"tau_syn_{name}"])
            yield name, ((y + x * t) * decay, x * decay)

    def field(t, y):
        v, s, q = upstroke(y[0])
        sum_ = held + p["I_e"] - p["g_L"] * (v - p["E_L"]) - y[1]
        for name, (size, _) in synapses(t):
            sum_ += size * (p[f"E_{name}"] - v) if "cond" in model else size * signs[name]
        slope = (s * sum_ + p["g_L"] * d * math.e * q) / p["C_m"]
        return [slope, (p["a"] * (v - p["E_L"]) - y[1]) / p["tau_w"]]

    def spike(t, y):
        return y[0] - along(peak)

    spike.terminal, spike.direction = True, 1  # pyright: ignore[reportFunctionMemberAccess]
    open_ = {} if is_delta else {name: (0.0, 0.0) for name in arrivals}
    changes = np.flatnonzero(np.diff(current)) + 1
    ends = [np.flatnonzero(own) + 1 for own in arrivals.values()]
    stops = np.unique(np.concatenate([changes, *ends, [steps]]))
    membranes, adaptation, times = np.zeros(steps), np.zeros(steps), []
    v, w, at, frozen_until = p["V_m"], p["w"], 0.0, -1
    while at < steps - 1e-9:  # all in steps
        first = math.floor(at + 1e-9)
        stop = stops[np.searchsorted(stops, first, "right")]
        held, frozen = current[first], first < frozen_until
        if frozen:
            stop = min(stop, frozen_until)
        points = np.arange(first + 1, stop + 1)
        sampled = (points - at) * DT
        if not frozen and along(v) >= along(peak):  # an arrival has brought it there
            times.append(at * DT)
            v, w = p["V_reset"], w + p["b"]
            membranes[first - 1], adaptation[first - 1] = v, w
            frozen_until = first + count
            continue
        if frozen:
            rest = p["a"] * (v - p["E_L"])
            y = np.stack([0 * sampled + v, rest + (w - rest) * np.exp(-sampled / p["tau_w"])])
            fired = False
        else:
            run = solve_ivp(
                *(field, (0.0, sampled[-1]), [along(v), w], "DOP853", sampled),
                events=spike,
                rtol=1e-11,
                atol=1e-11,
                max_step=math.inf if d else DT,  # without an upstroke it may fall again
            )
            y, fired = np.reshape(run.y, (2, -1)), run.status == 1
            y[0] = [upstroke(u)[0] for u in y[0]]
        points = points[: y.shape[1]]
        membranes[points - 1], adaptation[points - 1] = y
        passed = run.t_events[0][0] if fired else sampled[-1]
        open_ = dict(synapses(passed))
        at = at + passed / DT if fired else float(stop)
        if fired:
            times.append(at * DT)
            v, w = p["V_reset"], run.y_events[0][0, 1] + p["b"]
            if count:
                frozen_until = math.floor(at) + 1 + count
                # for the rest of this step
                left = math.floor(at) + 1 - at
                rest = p["a"] * (v - p["E_L"])
                w = rest + (w - rest) * math.exp(-left * DT / p["tau_w"])
                membranes[math.floor(at)], adaptation[math.floor(at)] = v, w
                open_ = dict(synapses(left * DT))
                at = float(math.floor(at) + 1)
            if at != stop:
                continue
        else:
            v, w = y[:, -1]
        if at not in stops:
            continue
        for name, own in arrivals.items():
            amount = own[int(at) - 1]
            if is_delta:
                spiked = bool(times) and times[-1] > (at - 1) * DT + 1e-9
                spent = frozen or (spiked and count > 0)  # the rest of that step is refractory
                v += 0.0 if spent else amount * signs[name]
                membranes[int(at) - 1] = v
            elif is_alpha:
                y_, x = open_[name]
                open_[name] = y_, x + amount * math.e / p[f"tau_syn_{name}"]
            else:
                open_[name] = open_[name][0] + amount, 0.0
    return membranes, adaptation, np.array(times)
