"""Cells with channels by SciPy's DOP853 at 1e-12: their equations once more, as published."""

import numpy as np
from scipy.integrate import solve_ivp

GATES = {"hh_psc_alpha": 3, "hh_psc_alpha_gap": 4}
UPSTROKE = 0.5  # mV in a step of 0.05 ms
NEAR = 0.2  # ms


def squid(v, gates, p):
    """Hodgkin and Huxley (1952), with the resting potential at -65 mV and the sign of today: the
    ionic current (pA) and the slopes of m, h, n (1/ms)."""
    m, h, n = gates
    current = (
        p["g_Na"] * m**3 * h * (v - p["E_Na"])
        + p["g_K"] * n**4 * (v - p["E_K"])
        + p["g_L"] * (v - p["E_L"])
    )
    alpha_m = 0.1 * (v + 40.0) / -np.expm1(-(v + 40.0) / 10.0)
    beta_m = 4.0 * np.exp(-(v + 65.0) / 18.0)
    alpha_h = 0.07 * np.exp(-(v + 65.0) / 20.0)
    beta_h = 1.0 / (1.0 + np.exp(-(v + 35.0) / 10.0))
    alpha_n = 0.01 * (v + 55.0) / -np.expm1(-(v + 55.0) / 10.0)
    beta_n = 0.125 * np.exp(-(v + 65.0) / 80.0)
    rates = ((alpha_m, beta_m), (alpha_h, beta_h), (alpha_n, beta_n))
    return current, [a - (a + b) * x for x, (a, b) in zip(gates, rates, strict=True)]


def interneuron(v, gates, p):
    """Mancilla et al. (2007): the same of m, h, n of Kv1, and p of Kv3."""
    m, h, n, q = gates
    current = (
        p["g_Na"] * m**3 * h * (v - p["E_Na"])
        + (p["g_Kv1"] * n**4 + p["g_Kv3"] * q**2) * (v - p["E_K"])
        + p["g_L"] * (v - p["E_L"])
    )
    alpha_m = 40.0 * (75.5 - v) / np.expm1((75.5 - v) / 13.5)
    beta_m = 1.2262 * np.exp(-v / 42.248)
    alpha_h = 0.0035 * np.exp(-v / 24.186)
    beta_h = -0.017 * (v + 51.25) / np.expm1(-(v + 51.25) / 5.2)
    alpha_n = 0.014 * (v + 44.0) / -np.expm1(-(v + 44.0) / 2.3)
    beta_n = 0.0043 * np.exp(-(v + 44.0) / 34.0)
    alpha_q = (95.0 - v) / np.expm1((95.0 - v) / 11.8)
    beta_q = 0.025 * np.exp(-v / 22.222)
    rates = ((alpha_m, beta_m), (alpha_h, beta_h), (alpha_n, beta_n), (alpha_q, beta_q))
    return current, [a - (a + b) * x for x, (a, b) in zip(gates, rates, strict=True)]


def integrate(model, p, arrivals, current, dt, gaps=()):
    """The membranes after each step `[steps, n]`: parameters by NEST's names, what arrives by
    receptor `[steps, n]` (pA), the current of each step `[steps]` (pA), and gap junctions: two
    cells and nS of each."""
    law = squid if model == "hh_psc_alpha" else interneuron
    first = 1 + GATES[model]
    steps, n = arrivals["ex"].shape
    junctions = np.zeros((n, n))
    for a, b, weight in gaps:
        junctions[[a, b], [b, a]] += weight
    junctions -= np.diag(junctions.sum(0))

    def field(_, y, current):
        v, *gates = y[: first * n].reshape(first, n)
        ex, ex_slope, inh, inh_slope = y[first * n :].reshape(4, n)
        ionic, slopes = law(v, gates, p)
        total = ex + inh + current + p["I_e"] - ionic + junctions @ v
        filters = []
        for i, s, tau in (
            (ex, ex_slope, p["tau_syn_ex"]),
            (inh, inh_slope, p["tau_syn_in"]),
        ):
            filters += [s - i / tau, -s / tau]
        return np.concatenate([total / p["C_m"], *slopes, *filters])

    y = np.zeros((first + 4, n))
    y[0] = p["V_m"]
    for row, name in enumerate(("Act_m", "Inact_h", "Act_n", "Inact_p")[: GATES[model]], 1):
        y[row] = p[name]
    membranes = np.zeros((steps, n))
    # Without a break it goes on from one step to the next
    arrive = np.any(sum(arrivals.values()) != 0, axis=1)
    broken = arrive[:-1] | (np.diff(current) != 0)
    ends = [*(np.flatnonzero(broken) + 1), steps]
    for begin, end in zip([0, *ends], ends, strict=False):
        found = solve_ivp(
            field,
            (0.0, (end - begin) * dt),
            y.ravel(),
            method="DOP853",
            t_eval=np.arange(1, end - begin + 1) * dt if end - begin > 1 else None,
            rtol=1e-12,
            atol=1e-12,
            args=(current[begin],),
        ).y
        y = found[:, -1].reshape(-1, n)
        membranes[begin:end] = found[:n].T[begin - end :]
        for row, name in ((first, "ex"), (first + 2, "in")):
            y[row + 1] += arrivals[name][end - 1] * np.e / p[f"tau_syn_{name}"]
    return membranes


def spikes_of(membranes, v_0, t_ref, dt):
    """(step, cell) of each spike: of the step after which v is lower, and not below 0."""
    before = np.vstack([np.broadcast_to(v_0, membranes.shape[1]), membranes[:-1]])
    found = []
    falls = (membranes < before) & (membranes >= 0)
    for cell, wait in enumerate(np.rint(np.asarray(t_ref) / dt).astype(int)):
        last = -np.inf
        for step in np.flatnonzero(falls[:, cell]):
            if step > last + wait:
                found.append((int(step), cell))
                last = step
    return sorted(found)


def away(membranes, v_0, dt):
    """Which values are further than 0.2 ms from each step in which the membrane changes by more
    than 10 mV/ms: elsewhere a shift in time by a microsecond is 0.3 mV."""
    before = np.vstack([np.broadcast_to(v_0, membranes.shape[1]), membranes[:-1]])
    quick = np.abs(membranes - before) > UPSTROKE * dt / 0.05
    far = ~quick
    for shift in range(1, round(NEAR / dt) + 1):
        far[shift:] &= ~quick[:-shift]
        far[:-shift] &= ~quick[shift:]
    return far
