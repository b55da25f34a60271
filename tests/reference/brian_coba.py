"""Brian 2's runs of the COBA network, as the references of the tests.

    python tests/reference/brian_coba.py

Made with Brian 2 2.9.0 and NumPy 1.26 on Python 3.11, in double precision, in an environment of its
own (Brian 2 2.9 wants NumPy below 2). `brian_coba.json` has rates (Hz) and mean CV of intervals (of
cells with at least 3 spikes) of both populations for 12 seeds, and `brian_coba.npz` one run:

- `pre_e`, `post_e`, `pre_i`, `post_i`: the edges, from excitatory and from inhibitory cells;
- `v0` (mV), `ge0`, `gi0` (nS): the states at the start;
- `spike_step`, `spike_neuron`: every spike of 1 s; Brian 2 gives step n the time n dt;
- `v`, `g_e`, `g_i`: of excitatory cell 50, before each step; `u`, `x`: of its synapses, after it;
- `dt` (ms), `brian2`: the version.
"""

import json
from pathlib import Path

import brian2 as b
import numpy as np

N_EXC, N_INH = 3200, 800
TRACED, SEED = 50, 11922


def build(seed, delay=0.0):
    """Cells, and their synapses by kind of source; `delay` in ms. The bench builds it too."""
    b.start_scope()
    b.seed(seed)
    b.defaultclock.dt = 0.1 * b.ms
    constants = {
        "E_l": -60 * b.mV,
        "g_l": 9.99 * b.nS,
        "E_e": 0 * b.mV,
        "E_i": -80 * b.mV,
        "C_m": 198 * b.pF,
        "tau_e": 5 * b.ms,
        "tau_i": 10 * b.ms,
        "I_ex": 150 * b.pA,
        "V_th": -50 * b.mV,
        "w_e": 0.05 * b.nS,
        "w_i": 1.0 * b.nS,
        "U_0": 0.6,
        "Omega_d": 2.0 / b.second,
        "Omega_f": 3.33 / b.second,
    }
    cells = b.NeuronGroup(
        N_EXC + N_INH,
        """
        dv/dt = (g_l*(E_l-v) + g_e*(E_e-v) + g_i*(E_i-v) + I_ex)/C_m : volt (unless refractory)
        dg_e/dt = -g_e/tau_e : siemens
        dg_i/dt = -g_i/tau_i : siemens
        """,
        threshold="v > V_th",
        reset="v = E_l",
        refractory=5 * b.ms,
        method="euler",
        namespace=constants,
    )
    cells.v = "E_l + rand()*(V_th - E_l)"
    cells.g_e = "rand()*w_e"
    cells.g_i = "rand()*w_i"
    parts = {"e": (cells[:N_EXC], 0.05), "i": (cells[N_EXC:], 0.2)}
    synapses = {}
    for kind, (sources, p) in parts.items():
        synapses[kind] = b.Synapses(
            sources,
            cells,
            """
            du_S/dt = -Omega_f*u_S : 1 (event-driven)
            dx_S/dt = Omega_d*(1 - x_S) : 1 (event-driven)
            """,
            on_pre=f"""
            u_S += U_0*(1 - u_S)
            r_S = u_S*x_S
            x_S -= r_S
            g_{kind}_post += w_{kind}*r_S
            """,
            delay=delay * b.ms,
            namespace=constants,
        )
        synapses[kind].connect(p=p)
        synapses[kind].x_S = 1
    return cells, synapses


def simulate(seed):
    """Synapses, spikes, start, and traces of one cell and of one of its synapses."""
    cells, synapses = build(seed)
    start = {
        "v0": np.array(cells.v / b.mV),
        "ge0": np.array(cells.g_e / b.nS),
        "gi0": np.array(cells.g_i / b.nS),
    }
    spikes = b.SpikeMonitor(cells)
    states = b.StateMonitor(cells, ["v", "g_e", "g_i"], record=TRACED)
    one = np.flatnonzero(np.array(synapses["e"].i) == TRACED)[:1]
    plastic = b.StateMonitor(synapses["e"], ["u_S", "x_S"], record=one, when="after_synapses")
    network = b.Network(cells, *synapses.values(), spikes, states, plastic)
    network.run(1 * b.second)
    return synapses, spikes, start, states, plastic


def keep(path, synapses, spikes, start, states, plastic):
    edges = {}
    for kind, own in synapses.items():
        edges[f"pre_{kind}"] = np.array(own.i, np.int16)
        edges[f"post_{kind}"] = np.array(own.j, np.int16)
    np.savez_compressed(
        path,
        **edges,
        **start,
        spike_step=np.rint(np.array(spikes.t / b.ms) / 0.1).astype(np.int32),
        spike_neuron=np.array(spikes.i, np.int16),
        v=np.array(states.v[0] / b.mV),
        g_e=np.array(states.g_e[0] / b.nS),
        g_i=np.array(states.g_i[0] / b.nS),
        u=np.array(plastic.u_S[0]),
        x=np.array(plastic.x_S[0]),
        dt=0.1,
        brian2=b.__version__,
    )


def statistics(spikes):
    made = {}
    for kind, low, high in (("exc", 0, N_EXC), ("inh", N_EXC, N_EXC + N_INH)):
        trains = spikes.spike_trains()
        gaps = [np.diff(trains[cell] / b.ms) for cell in range(low, high) if len(trains[cell]) > 2]
        made[kind] = {
            "rate": sum(len(trains[cell]) for cell in range(low, high)) / (high - low),
            "cv": float(np.mean([np.std(own) / np.mean(own) for own in gaps])),
        }
    return made


def main():
    b.prefs.codegen.target = "cython"
    folder = Path(__file__).parent
    keep(folder / "brian_coba.npz", *simulate(SEED))
    seeds = {seed: statistics(simulate(seed)[1]) for seed in range(1, 13)}
    made = {"brian2": b.__version__, "seeds": seeds}
    (folder / "brian_coba.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
