"""What the gradient of the published Brunel network costs, beside the run itself.

Value and gradient of a loss on spike counts, with respect to two weights and the input's rate, for
surrogates of several widths; with a weight for each of the 15.6 million synapses; and by
`SegmentSum`, for a tenth of the time. Then the memory that goes with the duration.

    python tests/bench/gradients.py --json gradients.json
"""

import argparse
import json
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--duration", type=float, default=100.0, metavar="MS")
    parser.add_argument("--widths", type=float, nargs="*", default=[0.1, 0.3, 1.0, 2.0, 5.0])
    parser.add_argument("--no-sums", action="store_true", help="leave SegmentSum out")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    if args.devices > 1:
        jax.config.update("jax_num_cpu_devices", args.devices)
    import brunel_delta
    import common

    import jsnn
    from jsnn.adjoint import Backprop, Cut
    from jsnn.record import Counts, States
    from jsnn.surrogate import Triangular

    full = brunel_delta.build().on(args.devices).checked()
    names = ("exc", "inh")
    weights = lambda n: [n.synapses[name].weight for name in names]  # noqa: E731
    trained = lambda n: [*weights(n), n.inputs["noise"].rate]  # noqa: E731
    surrogate = lambda n: n.populations["cells"].surrogate  # noqa: E731
    per_edge = [jnp.full(full.synapses[name].edges.n_edges, w) for name, w in
                zip(names, weights(full), strict=True)]  # fmt: skip
    key = jax.random.key(1)

    def loss(trained_values, net, steps, adjoint):
        net = eqx.tree_at(trained, net, trained_values)
        record = {"n": Counts("cells", every=steps * net.dt / 10)}
        solution = jsnn.simulate(net, net.init(key), steps, record, adjoint=adjoint)
        return jnp.mean(solution.records["n"].values ** 2)

    def compiled(function, net, steps, adjoint):
        moving, rest = eqx.partition(net, eqx.is_array)
        own = jax.jit(
            lambda values, moving: function(values, eqx.combine(moving, rest), steps, adjoint),
            compiler_options=jsnn.COMPILER_OPTIONS,
        )
        start = time.perf_counter()
        made = own.lower(trained(net), moving).compile()
        return made, (trained(net), moving), time.perf_counter() - start

    def in_turns(net, duration, adjoint, turns):
        """Forward, and value and gradient: the least seconds of each, and the megabytes between."""
        steps = round(duration / net.dt)
        programs = [compiled(f, net, steps, adjoint) for f in (loss, jax.value_and_grad(loss))]
        best = [float("inf")] * 2
        for _ in range(turns):
            for i, (program, values, _) in enumerate(programs):
                start = time.perf_counter()
                jax.block_until_ready(program(*values))
                best[i] = min(best[i], time.perf_counter() - start)
        memory = programs[1][0].memory_analysis().temp_size_in_bytes / 1e6
        compile_s = [own for *_, own in programs]
        return {
            "forward_s": best[0],
            "gradient_s": best[1],
            "ratio": best[1] / best[0],
            "compile_s": compile_s,
            "temporary_mb": memory,
        }

    def show(name, own):
        print(
            f"{name:24} forward {own['forward_s']:.3f} s, gradient {own['gradient_s']:.3f} s, "
            f"ratio {own['ratio']:.2f}, temporary {own['temporary_mb']:.0f} MB, "
            f"compile {own['compile_s'][1]:.1f} s",
            flush=True,
        )

    record = {"v": States("cells", "v"), "left": States("cells", "refractory")}
    run = jsnn.run(full, 20.0, key=key, record=record, progress=False).records
    # With their gradient cut at the reset and damped, values stay finite: the cost is the same
    adjoint, found = Backprop(reset=Cut()), {"widths": {}}
    for width in args.widths:
        v_th = float(full.populations["cells"].neuron.v_th)
        near = (abs(run["v"].values - v_th) < width) & (run["left"].values == 0)
        net = eqx.tree_at(surrogate, full, Triangular(width, damping=0.01))
        own = in_turns(net, args.duration, adjoint, args.turns)
        found["widths"][width] = {**own, "near": float(near.mean())}
        show(f"width {width:g} mV, near {near.mean():.2%}", own)
    usual = eqx.tree_at(surrogate, full, Triangular(0.3, damping=0.01))
    edges = eqx.tree_at(weights, usual, per_edge)
    found["per_edge"] = in_turns(edges, args.duration, adjoint, args.turns)
    show("a weight for each edge", found["per_edge"])
    found["memory"] = {}
    for levels, memory in (("one", float("inf")), ("two", 0.0)):
        for duration in (10.0, 100.0, 1000.0, 10000.0):
            own = Backprop(reset=Cut(), memory=memory)
            of = jax.value_and_grad(loss)
            program, *_ = compiled(of, usual, round(duration / usual.dt), own)
            size = program.memory_analysis().temp_size_in_bytes / 1e6
            found["memory"].setdefault(levels, {})[duration] = size
            print(f"{levels}-level, {duration:g} ms: {size:.0f} MB", flush=True)
    found["peak_memory_mb"] = common.peak_memory_mb()
    if not args.no_sums:
        part = args.duration / 10
        found["event_driven"] = in_turns(usual, part, adjoint, args.turns)
        show(f"{part:g} ms, EventDriven", found["event_driven"])
        sums = eqx.tree_at(lambda n: n.delivery, usual, jsnn.SegmentSum())
        found["segment_sum"] = in_turns(sums, part, adjoint, 1)
        show(f"{part:g} ms, SegmentSum", found["segment_sum"])
    found["peak_memory_with_sums_mb"] = common.peak_memory_mb()
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
