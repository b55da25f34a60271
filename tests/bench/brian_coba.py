"""The COBA network on Brian 2, one run; the last line is JSON. `coba_stp.py` here calls it.

    python tests/bench/brian_coba.py --target cpp_standalone --seed 1

Brian 2 is not installed with the tests; give its environment's Python. With `cpp_standalone` the
run is what the compiled program takes by its own clock, and `compile_s` is all that is around it:
generating, compiling, writing. With `cython` compiling is part of the first run.
"""

import argparse
import json
import tempfile
import time

START = time.perf_counter()
N_EXC, N_INH = 3200, 800


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=["cpp_standalone", "cython"], default="cpp_standalone")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--delay", type=float, default=0.0, help="ms")
    args = parser.parse_args()

    import brian2 as b
    import numpy as np

    if args.target == "cpp_standalone":
        b.set_device("cpp_standalone", directory=tempfile.mkdtemp())
    else:
        b.prefs.codegen.target = args.target
    b.seed(args.seed)
    b.defaultclock.dt = 0.1 * b.ms
    constants = dict(
        E_l=-60 * b.mV, V_th=-50 * b.mV, g_l=9.99 * b.nS, C_m=198 * b.pF, I_ex=150 * b.pA,
        E_e=0 * b.mV, E_i=-80 * b.mV, tau_e=5 * b.ms, tau_i=10 * b.ms,
        w_e=0.05 * b.nS, w_i=1 * b.nS,
        U_0=0.6, Omega_d=2 / b.second, Omega_f=3.33 / b.second,
    )  # fmt: skip
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
    cells.g_e, cells.g_i = "rand()*w_e", "rand()*w_i"
    network = b.Network(cells)
    monitors = {}
    for kind, sources, p in (("e", cells[:N_EXC], 0.05), ("i", cells[N_EXC:], 0.2)):
        synapses = b.Synapses(
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
            delay=args.delay * b.ms,
            namespace=constants,
        )
        synapses.connect(p=p)
        synapses.x_S = 1
        monitors[kind] = b.SpikeMonitor(sources)
        network.add(synapses, monitors[kind])
    begin = time.perf_counter()
    network.run(1 * b.second)
    run_s = time.perf_counter() - begin
    if args.target == "cpp_standalone":
        run_s = b.device._last_run_time
    rates = {"exc": monitors["e"].num_spikes / N_EXC, "inh": monitors["i"].num_spikes / N_INH}
    all_s = time.perf_counter() - START
    numbers = {"run_s": run_s, "compile_s": all_s - run_s, "all_s": all_s, "rates": rates}
    print(json.dumps({k: v if k == "rates" else float(np.round(v, 3)) for k, v in numbers.items()}))


if __name__ == "__main__":
    main()
