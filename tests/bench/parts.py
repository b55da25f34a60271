"""Where the time of the published Brunel network goes: parts are taken away, the rest is timed.

python tests/bench/parts.py --devices 2
"""

import argparse
import os
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    if args.devices > 1:
        jax.config.update("jax_num_cpu_devices", args.devices)
    import brunel_delta

    import jsnn
    from jsnn.record import Spikes

    full = brunel_delta.build().on(args.devices)
    silent = eqx.tree_at(lambda n: n.populations["cells"].neuron.v_th, full, jnp.float32(1e9))
    quiet = eqx.tree_at(lambda n: n.inputs, silent, {})
    cases = {
        "everything": (full, {"spikes": Spikes("cells")}),
        "without recording": (full, {}),
        "without spikes": (silent, {}),
        "without spikes and Poisson input": (quiet, {}),
    }
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(args.turns):
        for name, (network, record) in cases.items():
            solution = jsnn.run(
                network, 1000.0, key=jax.random.key(1), record=record, progress=False
            )
            best[name] = min(best[name], solution.stats["run_s"])
    for name, seconds in best.items():
        print(f"{name:34} {seconds:.2f} s")
    values = list(best.values())
    for name, before, after in zip(
        ("recording", "finding and delivering spikes", "Poisson numbers"),
        values,
        values[1:],
        strict=False,
    ):
        print(f"{name:34} {before - after:.2f} s")


if __name__ == "__main__":
    main()
