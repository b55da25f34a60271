"""Brian 2's order of arrivals, thresholds and resets within a step, as the reference of a test.

    python tests/reference/brian_order.py

Made with Brian 2 2.9.0 and NumPy 1.26 on Python 3.11, in double precision, in an environment of its
own. Leaky cells that fire of themselves, with jumps of the membrane of both signs, half of them
without a delay: `brian_order.npz` has

- `pre`, `post`, `weight` (mV), `delay` (steps): the edges;
- `v0` (mV): the membranes at the start; `sent_step`, `sent_cell`: spikes from outside, of `W_SENT`;
- for a refractory time of 0 and of 2 ms, as `0_` and `2_`: `spike_step`, `spike_cell`, every spike
  of 300 ms, and `v`, the membranes of cells 0 to 2 before each of the first 1000 steps.
"""

from pathlib import Path

import brian2 as b
import numpy as np

N, STEPS, DT, W_SENT = 60, 3000, 0.1, 1.5
TAU, E_L, V_TH, V_RESET = 20.0, -48.0, -50.0, -60.0  # ms, mV


def drawn():
    rng = np.random.default_rng(3)
    n_edges = 900
    sign = np.where(rng.random(n_edges) < 0.7, 1.0, -1.0)
    sent = rng.integers(0, STEPS * N, 400)  # a cell and step at most once
    return {
        "pre": rng.integers(0, N, n_edges),
        "post": rng.integers(0, N, n_edges),
        "weight": sign * rng.uniform(0.1, 0.8, n_edges),
        "delay": np.where(rng.random(n_edges) < 0.5, 0, rng.integers(1, 30, n_edges)),
        "v0": rng.uniform(V_RESET, V_TH, N),
        "sent_step": np.unique(sent) // N,
        "sent_cell": np.unique(sent) % N,
    }


def run(given, refractory):
    b.start_scope()
    b.defaultclock.dt = DT * b.ms
    names = {"E_L": E_L * b.mV, "V_TH": V_TH * b.mV, "V_RESET": V_RESET * b.mV, "TAU": TAU * b.ms}
    cells = b.NeuronGroup(
        N,
        "dv/dt = (E_L - v) / TAU : volt (unless refractory)",
        threshold="v > V_TH",
        reset="v = V_RESET",
        refractory=refractory * b.ms if refractory else False,
        method="exact",
        namespace=names,
    )
    cells.v = given["v0"] * b.mV
    synapses = b.Synapses(cells, cells, "w : volt", on_pre="v_post += w")
    synapses.connect(i=given["pre"], j=given["post"])
    synapses.w = given["weight"] * b.mV
    synapses.delay = given["delay"] * DT * b.ms
    source = b.SpikeGeneratorGroup(N, given["sent_cell"], given["sent_step"] * DT * b.ms)
    outside = b.Synapses(source, cells, on_pre="v_post += 1.5*mV")
    outside.connect(j="i")
    spikes = b.SpikeMonitor(cells)
    membranes = b.StateMonitor(cells, "v", record=range(3))
    b.Network(cells, synapses, source, outside, spikes, membranes).run(STEPS * DT * b.ms)
    return {
        "spike_step": np.rint(spikes.t / b.ms / DT).astype(np.int32),
        "spike_cell": np.asarray(spikes.i, np.int32),
        "v": np.asarray(membranes.v / b.mV).T[:1000],
    }


if __name__ == "__main__":
    b.prefs.codegen.target = "numpy"
    found = drawn()
    for refractory in (0, 2):
        found |= {f"{refractory}_{name}": x for name, x in run(found, refractory).items()}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **found)
    print({name: x.shape for name, x in found.items()})
