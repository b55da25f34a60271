"""Fit six parameters of an adaptive exponential neuron to one recording of its membrane, by NEST.

A cell (NEST's aeif_psc_exp) gets a known current that fluctuates, and its membrane is recorded in
steps of 0.1 ms, without noise. From random starts that are up to 30 % off in every parameter, all
followed at once, Adam finds the capacitance, the leak and its reversal, the threshold, and the time
constant and the jump of the adaptation, with the gradient through the simulation.

Spikes make the landscape of a free simulation rugged: one spike too many, or a little late, and
all that follows is elsewhere. So the cell is held at the recording while it is fitted (teacher
forcing; synchronisation in Abarbanel et al. 2009, SIAM J. Appl. Dyn. Syst. 8:1341) by a current
k (v_recorded - v), as a clamp would, which is next to nothing where the parameters are right. Its
one half is a conductance, of a receptor that never decays, and the other a `StepCurrent`. What
recorded spikes add to the adaptation, b exp(-(t - t_spike) / tau_w) each, also comes from the
recording, so that a spike that the model misses does not mislead. At the end the best model runs
free, and is compared with the recording.

    python examples/fit_adex.py --plot fit.png

Without NEST, the recording of the default duration and seed is read from tests/reference.
"""

import argparse
import importlib
import time
from pathlib import Path
from typing import Any, NamedTuple

import common
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jsnn
from jsnn import losses, plot
from jsnn.inputs import StepCurrent
from jsnn.neurons import AdEx
from jsnn.receptors import Exponential
from jsnn.record import Spikes, States
from jsnn.transforms import Bounded

DT = 0.1  # ms
DURATION, SEED = 500.0, 1
STORED = Path(__file__).parent.parent / "tests" / "reference" / "adex_nest.npz"
# Mean current of each 100 ms, what fluctuates about it, how fast, and in pieces of how long
MEANS, SPREAD, CORRELATED, PIECE = (300.0, 0.0, 450.0, -100.0, 350.0), 120.0, 5.0, 1.0  # pA, ms

KNOWN = {"v_reset": -58.0, "v_peak": 0.0, "delta_t": 2.0, "a": 2.0, "t_ref": 2.0}
TRUTH = {"C_m": 200.0, "g_L": 10.0, "E_L": -70.0, "V_th": -50.0, "tau_w": 100.0, "b": 60.0}
BOUNDS = {  # what a cell may have, far on either side of all starts
    "C_m": Bounded(50.0, 600.0),  # pF
    "g_L": Bounded(2.0, 40.0),  # nS
    "E_L": Bounded(-110.0, -40.0),  # mV
    "V_th": Bounded(-75.0, -30.0),  # mV
    "tau_w": Bounded(20.0, 500.0),  # ms
    "b": Bounded(0.0, 300.0),  # pA
}
OFF = 0.3  # by which starts may be off, relative
RECOVERED = 0.05  # relative error of every parameter of a start that has converged
HOLD = 400.0  # nS; held more tightly, the steps of the recording themselves would tell
BEFORE, AFTER = 1.0, 6.0  # ms around a spike that are not compared: the upstroke, and its echo
UPDATES, ADAM = 300, 0.1

Values = dict[str, Any]


class Recording(NamedTuple):
    """`current` (pA) in each step and membrane `v` (mV) after it, `[steps]`; `v_start` (mV) is that
    before the first, and `spikes` are the steps of those."""

    current: np.ndarray
    v: np.ndarray
    v_start: np.ndarray
    spikes: np.ndarray


def stimulus(duration: float, seed: int) -> np.ndarray:
    """The current (pA) of each `PIECE`: means, and an Ornstein-Uhlenbeck process about them."""
    n = int(np.ceil(duration / PIECE))
    drawn = np.random.default_rng(seed).standard_normal(n)
    decay, x = np.exp(-PIECE / CORRELATED), np.zeros(n)
    for i in range(1, n):
        x[i] = decay * x[i - 1] + np.sqrt(1 - decay**2) * drawn[i]
    block = (np.arange(n) * PIECE // 100.0).astype(int) % len(MEANS)
    return np.array(MEANS)[block] + SPREAD * x


def record(duration: float, seed: int) -> Recording:
    """What NEST's cell does; where there is no NEST, what it did."""
    try:
        nest: Any = importlib.import_module("nest")
    except ImportError:
        if (duration, seed) != (DURATION, SEED):
            raise ValueError(
                f"without NEST there is the recording of --duration {DURATION:g} --seed {SEED} only"
            ) from None
        return load(str(STORED))
    current = stimulus(duration, seed)
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.resolution = DT
    known = {"Delta_T": KNOWN["delta_t"], "V_reset": KNOWN["v_reset"], "V_peak": KNOWN["v_peak"]}
    known |= {"a": KNOWN["a"], "t_ref": KNOWN["t_ref"], "V_m": TRUTH["E_L"], "gsl_error_tol": 1e-9}
    cell = nest.Create("aeif_psc_exp", 1, TRUTH | known)
    late = 2  # steps: the generator begins after the first, and takes one to arrive
    pieces = {"amplitude_times": DT + PIECE * np.arange(current.size), "amplitude_values": current}
    generator = nest.Create("step_current_generator", params=pieces)
    nest.Connect(generator, cell, syn_spec={"delay": DT})
    meter = nest.Create("multimeter", params={"interval": DT, "record_from": ["V_m"]})
    recorder = nest.Create("spike_recorder")
    nest.Connect(meter, cell)
    nest.Connect(cell, recorder)
    steps = round(duration / DT)
    nest.Simulate(duration + (late + 1) * DT)
    spikes = np.rint(np.asarray(recorder.events["times"]) / DT).astype(int) - 1 - late
    v = np.asarray(meter.events["V_m"])[late : late + steps]
    whole = np.repeat(current, round(PIECE / DT))[:steps]
    v_start = np.asarray(meter.events["V_m"])[late - 1]
    return Recording(whole, v, v_start, spikes[spikes < steps])


def load(path: str) -> Recording:
    return Recording(**common.load_frozen(path, Recording._fields))


def build(recording: Recording) -> jsnn.Network:
    """The cell, with the clamp, at the start of the recording."""
    steps = recording.v.size
    neuron = AdEx(**KNOWN, **{name.lower(): value for name, value in TRUTH.items()})
    cell = jsnn.Population(
        neuron,
        1,
        {"hold": Exponential(1e9, 0.0)},  # a conductance that stays what it is
        initial={"v": float(recording.v_start), "w": 0.0, "hold.g": 0.0},
    )
    current = StepCurrent("cell", DT * np.arange(steps), np.zeros(steps))
    return jsnn.Network({"cell": cell}, inputs={"current": current}, dt=DT)


def with_parameters(
    network: jsnn.Network, values: Values, recording: Recording, hold: Any
) -> jsnn.Network:
    """The cell with these parameters, held at the recording with so many nS, or free (0)."""
    held, v = hold > 0, jnp.asarray(recording.v)
    fired = np.zeros((v.size, 1))
    fired[recording.spikes[recording.spikes + 1 < v.size] + 1] = 1.0
    adaptation = values["b"] * losses.filtered(fired, tau=values["tau_w"], dt=DT)[:, 0]
    middle = (v + jnp.concatenate([jnp.asarray(recording.v_start)[None], v[:-1]])) / 2
    current = recording.current + hold * middle - held * adaptation
    own = {**values, "b": values["b"] * ~held}

    def parts(network: jsnn.Network) -> list[Any]:
        cell: Any = network.populations["cell"]
        source: Any = network.inputs["current"]
        return [
            *(getattr(cell.neuron, name.lower()) for name in own),
            *(source.values, cell.initial["hold.g"]),
        ]

    return eqx.tree_at(parts, network, [*own.values(), current, hold])


def membrane(network: jsnn.Network, steps: int) -> jax.Array:
    """The membrane potential (mV) after each step, `[steps]`."""
    coefficients = network.prepare()

    # Of a single cell in many copies `simulate` would fill a tile of 128 for each copy
    def step(state: jsnn.State, _: Any) -> tuple[jsnn.State, jax.Array]:
        state, _ = network.step(state, coefficients)
        return state, state.populations["cell"].cell["v"][0]

    return jax.lax.scan(step, network.init(jax.random.key(0)), length=steps)[1]


def compared(recording: Recording) -> np.ndarray:
    """1 for the steps that the loss sees, and 0 around spikes, `[steps]`."""
    weights = np.ones(recording.v.size)
    for spike in recording.spikes:
        weights[max(spike - round(BEFORE / DT), 0) : spike + round(AFTER / DT)] = 0.0
    return weights


def fit(recording: Recording, starts: Values, key: Any, progress: bool = True) -> jsnn.Fit:
    """All starts at once. The loss is the logarithm of the mean square of the current (pA) that
    holds the model at the recording, so that its slopes are of one size from far to near."""
    network, weights = build(recording), compared(recording)

    def loss(values: Values, key: Any) -> tuple[jax.Array, Values]:
        own = with_parameters(network, values, recording, jnp.asarray(HOLD))
        v = membrane(own, recording.v.size)
        # pA^2
        square = HOLD**2 * losses.mean_squared(v, recording.v, weights=weights)
        return jnp.log(square + 1e-6), {"current": jnp.sqrt(square)}

    adam = optax.adam(optax.cosine_decay_schedule(ADAM, UPDATES, alpha=0.02), b2=0.95)
    return jsnn.fit(
        loss,
        starts,
        optimizer=adam,
        steps=UPDATES,
        key=key,
        bounds=BOUNDS,
        starts=starts["C_m"].size,
        forward=True,  # of six numbers
        progress=progress,
    )


@jax.jit
def _free(network: jsnn.Network) -> tuple[jax.Array, jax.Array]:
    source: Any = network.inputs["current"]
    steps = source.values.shape[0]
    record = {"v": States("cell", "v"), "spikes": Spikes("cell")}
    records: Any = jsnn.simulate(network, network.init(jax.random.key(0)), steps, record).records
    return records["v"].values[:, 0], records["spikes"].raster[:, 0]


def free(recording: Recording, values: Values) -> tuple[np.ndarray, np.ndarray]:
    """Membrane (mV) of each step, and the steps of spikes, without the clamp."""
    values = {name: jnp.asarray(value) for name, value in values.items()}
    network = with_parameters(build(recording), values, recording, jnp.asarray(0.0))
    v, fired = _free(network)
    return np.asarray(v), np.flatnonzero(fired)


def draw(recording: Recording, traces: Values, found: jsnn.Fit, ratios: Values) -> Any:
    """The recording, its start and its fit, running free; the loss of all starts; estimates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 6.4), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 2))
    upper, left, right = (figure.add_subplot(at) for at in (grid[0, :], grid[1, 0], grid[1, 1]))
    times = DT * np.arange(1, recording.v.size + 1)
    upper.plot(times, recording.v, color="0.6", linewidth=2.5, label="NEST")
    upper.plot(times, traces["start"], color="C1", linewidth=0.8, label="start")
    upper.plot(times, traces["fit"], color="C0", linewidth=0.9, linestyle="--", label="fit")
    upper.set(xlabel="Time (ms)", ylabel="Membrane potential (mV)", xlim=(0, times[-1]))
    upper.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    left.semilogy(found.history["current"].T, linewidth=0.8)
    left.set(xlabel="Update", ylabel="Holding current (pA)", xlim=(0, UPDATES))
    for i, name in enumerate(TRUTH):
        right.plot(i + np.linspace(-0.2, 0.2, len(ratios[name])), ratios[name], "C0.")
    right.axhspan(1 - RECOVERED, 1 + RECOVERED, color="0.9", zorder=0)
    right.set_xticks(range(len(TRUTH)), list(TRUTH))
    right.set(ylabel="Estimate / truth")
    return figure


def parser() -> argparse.ArgumentParser:
    made = common.parser("Fit of an adaptive exponential neuron", DURATION, DT, devices=1)
    made.add_argument("--starts", type=int, default=10, metavar="N", help="random starts")
    return made


def check(args: argparse.Namespace) -> None:
    """Raise for the common options that have no meaning here."""
    if args.scale != 1 or args.devices != 1:
        raise ValueError("--scale and --devices: there is one cell")
    if args.starts < 1:
        raise ValueError(f"--starts {args.starts}: give 1 or more")
    if args.duration < 200 or abs(args.duration / PIECE - round(args.duration / PIECE)) > 1e-6:
        raise ValueError(f"--duration {args.duration:g}: give 200 ms or more, in whole ms")


def main(args: argparse.Namespace) -> None:
    check(args)
    print("Fit of an adaptive exponential neuron")
    began = time.perf_counter()
    recording = load(args.frozen) if args.frozen else record(args.duration, args.seed)
    starts = jsnn.spread(TRUTH, jax.random.key(args.seed), args.starts, by=OFF)
    build_s = time.perf_counter() - began
    print(f"Recording         : {recording.v.size * DT:g} ms, {recording.spikes.size} spikes")
    found = fit(recording, starts, jax.random.key(0))
    at = found.best_start
    estimates = [
        {name: float(own[i]) for name, own in found.best.items()} for i in range(args.starts)
    ]
    errors = [{name: own[name] / TRUTH[name] - 1 for name in TRUTH} for own in estimates]
    converged = [max(map(abs, own.values())) <= RECOVERED for own in errors]
    guess = {name: float(starts[name][at]) for name in TRUTH}
    table = common.recovered("Best start", TRUTH, guess, estimates[at])
    v, spikes = free(recording, estimates[at])
    apart = float(np.sqrt(np.mean((v - recording.v)[compared(recording) > 0] ** 2)))
    trains = DT * recording.spikes, DT * spikes
    distance = jsnn.distances.victor_purpura(*trains, cost=1.0)
    print(f"Starts recovered  : {sum(converged)} of {args.starts}, all six within {RECOVERED:.0%}")
    print(f"Running free      : {apart:.3g} mV apart between spikes")
    print(f"Spikes            : {spikes.size} of {recording.spikes.size}")
    print(f"Their distance    : {distance:.3g} (Victor and Purpura, 1 for each ms)")
    print(f"Compile time      : {found.stats['compile_s']:.2f} s")
    print(f"Fit time          : {found.stats['run_s']:.2f} s")
    if args.plot:
        ratios = {name: np.asarray(found.best[name]) / TRUTH[name] for name in TRUTH}
        traces = {"start": free(recording, guess)[0], "fit": v}
        print(f"Figure            : {plot.save(draw(recording, traces, found, ratios), args.plot)}")
    if args.save:
        jsnn.export.save_npz(args.save, **recording._asdict(), fit=v)
        print(f"Traces            : {args.save}")
    common.write_json(
        args.json,
        {
            **table,
            "guess": guess,
            "estimates": estimates,
            "relative_errors": errors,
            "starts_converged": sum(converged),
            "n_starts": args.starts,
            "loss": found.loss.tolist(),
            "skipped": found.skipped.tolist(),
            "free_rmse_mv": apart,
            "victor_purpura": distance,
            "n_spikes": int(recording.spikes.size),
            "rates": {"all": spikes.size / (recording.v.size * DT) * 1000},
            "build_s": build_s,
            "compile_s": found.stats["compile_s"],
            "run_s": found.stats["run_s"],
            "n_neurons": 1,
            "n_synapses": 0,
            "solver": f"RK4, 1 substep, steps of {DT:g} ms",
            "peak_memory_mb": common.peak_memory_mb(),
            "devices": args.devices,
            "float64": args.float64,
        },
    )


if __name__ == "__main__":
    common.run(main, parser())
