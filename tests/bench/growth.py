"""How building and running grow with the number of neurons, each with 1,250 inputs.

    python tests/bench/growth.py 1 2 4 --duration 1000
    python tests/bench/growth.py 1 4 1 4 --nest

The number of synapses of `--scale 6.4` is 10^8. Each size is a process of its own, and
`--nest` runs each on NEST as well, in turns.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

RUN = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
scale, duration, devices = float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
import jax
if devices > 1:
    jax.config.update("jax_num_cpu_devices", devices)
import brunel_delta, common, jsnn
start = time.perf_counter()
network = brunel_delta.build(round(2500 * scale), j=0.1, indegree=1250)
network = jax.block_until_ready(network.on(devices))
built = time.perf_counter()
solution = jsnn.run(network, duration, key=jax.random.key(1), progress=False)
print(json.dumps(dict(n=network.populations["cells"].n, n_synapses=network.n_synapses,
    build_s=built - start, n_spikes=sum(solution.stats["spikes"].values()),
    peak_memory_mb=common.peak_memory_mb(),
    compile_s=solution.stats["compile_s"], run_s=solution.stats["run_s"])))
"""


def numbers(command):
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scales", type=float, nargs="+")
    parser.add_argument("--duration", type=float, default=1000.0, metavar="MS")
    parser.add_argument("--devices", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--nest", action="store_true", help="run NEST as well, on as many threads")
    args = parser.parse_args()
    peer = [sys.executable, str(Path(__file__).with_name("nest_brunel.py")), "--indegree", "1250"]
    print(
        "      neurons    synapses  build s  compile s  run s  spikes/neuron  us/(neuron s)  "
        "memory MB"
    )
    for scale in args.scales:
        duration, count = str(args.duration), str(args.devices)
        values = [str(ROOT / "examples"), str(scale), duration, count]
        commands = {"jsnn": [sys.executable, "-c", RUN, *values]}
        if args.nest:
            options = ["--scale", str(scale), "--duration", duration, "--threads", count]
            commands["NEST"] = peer + options
        for name, command in commands.items():
            made = numbers(command)
            per_neuron = made["run_s"] / made["n"] / (args.duration / 1000) * 1e6
            print(
                f"{name} {made['n']:8} {made['n_synapses']:11} {made['build_s']:8.2f} "
                f"{made['compile_s']:10.2f} {made['run_s']:6.2f} "
                f"{made['n_spikes'] / made['n']:14.2f} {per_neuron:14.1f} "
                f"{made['peak_memory_mb']:10.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
