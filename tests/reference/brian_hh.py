"""Brian 2's spikes of cells with channels, as the reference of a test.

    python tests/reference/brian_hh.py

Made with Brian 2 2.9.0 and NumPy 1.26 on Python 3.11, in double precision, in an environment of its
own. A small network of the cells of Brian 2's example COBAHH (Traub and Miles 1991, as in Brette et
al. 2007), driven by a current, 200 ms in steps of 0.05 ms: `brian_hh.npz` has

- `pre_e`, `post_e`, `pre_i`, `post_i`: the edges; `v0` (mV), `i_e` (pA): by cell; gates start at 0;
- by what keeps a cell from firing again, `crossing_` (`refractory="v > -20*mV"`) and `above_`
  (`refractory=3*ms`): `spike_step`, `spike_cell`; and `v`, the membrane of cell 0 before each of
  the first 1000 steps.
"""

from pathlib import Path

import brian2 as b
import numpy as np

N, N_EXC, STEPS, DT = 40, 32, 4000, 0.05
REFRACTORY = {"crossing": "v > -20*mV", "above": 3 * b.ms}


def drawn():
    rng = np.random.default_rng(4)
    return {
        "pre_e": rng.integers(0, N_EXC, 160),
        "post_e": rng.integers(0, N, 160),
        "pre_i": rng.integers(N_EXC, N, 40),
        "post_i": rng.integers(0, N, 40),
        "v0": rng.uniform(-70.0, -55.0, N),
        "i_e": rng.uniform(100.0, 500.0, N),
    }


def run(given, refractory):
    b.start_scope()
    b.defaultclock.dt = DT * b.ms
    mV, ms, nS, pF, pA = b.mV, b.ms, b.nS, b.pF, b.pA
    names = {"Cm": 200 * pF, "gl": 10 * nS, "El": -60 * mV, "EK": -90 * mV, "ENa": 50 * mV}
    names |= {"g_na": 20000 * nS, "g_kd": 6000 * nS, "VT": -63 * mV, "taue": 5 * ms}
    names |= {"taui": 10 * ms, "Ee": 0 * mV, "Ei": -80 * mV, "we": 6 * nS, "wi": 67 * nS}
    cells = b.NeuronGroup(
        N,
        """
        dv/dt = (gl*(El-v)+ge*(Ee-v)+gi*(Ei-v)-g_na*(m*m*m)*h*(v-ENa)-g_kd*(n*n*n*n)*(v-EK)+I)/Cm:
            volt
        dm/dt = alpha_m*(1-m)-beta_m*m : 1
        dn/dt = alpha_n*(1-n)-beta_n*n : 1
        dh/dt = alpha_h*(1-h)-beta_h*h : 1
        dge/dt = -ge/taue : siemens
        dgi/dt = -gi/taui : siemens
        alpha_m = 0.32/mV*4*mV/exprel((13*mV-v+VT)/(4*mV))/ms : Hz
        beta_m = 0.28/mV*5*mV/exprel((v-VT-40*mV)/(5*mV))/ms : Hz
        alpha_h = 0.128*exp((17*mV-v+VT)/(18*mV))/ms : Hz
        beta_h = 4./(1+exp((40*mV-v+VT)/(5*mV)))/ms : Hz
        alpha_n = 0.032/mV*5*mV/exprel((15*mV-v+VT)/(5*mV))/ms : Hz
        beta_n = .5*exp((10*mV-v+VT)/(40*mV))/ms : Hz
        I : amp (constant)
        """.replace(":\n            volt", ": volt"),
        threshold="v > -20*mV",
        refractory=refractory,
        method="exponential_euler",
        namespace=names,
    )
    cells.v, cells.I = given["v0"] * mV, given["i_e"] * pA
    objects = [cells]
    for kind in "ei":
        synapses = b.Synapses(cells, cells, on_pre=f"g{kind} += w{kind}", namespace=names)
        synapses.connect(i=given[f"pre_{kind}"], j=given[f"post_{kind}"])
        objects.append(synapses)
    spikes, membrane = b.SpikeMonitor(cells), b.StateMonitor(cells, "v", record=[0])
    b.Network(*objects, spikes, membrane).run(STEPS * DT * ms)
    return {
        "spike_step": np.rint(spikes.t / ms / DT).astype(np.int32),
        "spike_cell": np.asarray(spikes.i, np.int32),
        "v": np.asarray(membrane.v / mV)[0, :1000],
    }


if __name__ == "__main__":
    b.prefs.codegen.target = "numpy"
    found = drawn()
    for how, refractory in REFRACTORY.items():
        found |= {f"{how}_{name}": x for name, x in run(found, refractory).items()}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **found)
    print({name: x.shape for name, x in found.items()})
