"""The ways of running a network that must agree, and what it is to agree.

Bit for bit: one go, pieces cut anywhere, two devices, and a run that was resumed from a checkpoint.
Where XLA's programs round apart (`README.md`, "How it was verified"), to rounding: what recorders
of synapses follow beside the delivery, and, on two devices, laws with products of several states
and couplings.

To rounding: `SegmentSum`, `Network.step` and a member of a batch. In float64 they have the same
spikes, membranes to 1e-8 mV, and all else to 1e-10 of its largest number. In float32 they have the
same spikes up to a first difference, which must be a threshold within rounding; without one all
else is as close as rounding leaves it. Gradients are finite, and equal to those of `SegmentSum`; in
float32 as far as they are when its parameters are moved by rounding. (Of releases of each edge the
event-driven delivery takes its gradient from sums itself.)
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from build import Built
from structure import STEPS

import jsnn
from jsnn._math import as_real
from jsnn._run import _on_host
from jsnn._simulate import advance_from_host
from jsnn.record import Counts, States, SynapseStates

GRADIENT_STEPS = 96
CLOSE = 1e-10
ROUNDING = 2e-2  # mV, of float32 over a run
ROUGH = 1e-2  # of the largest number, of all other states and records in float32
EARLIER = 1e-2  # steps, of what is steep in float32
_COMPILED = [0]


def _listen(event: str, *_: Any, **__: Any) -> None:
    _COMPILED[0] += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_listen)


def compiled() -> int:
    """How many programs were compiled so far."""
    return _COMPILED[0]


class Ran(NamedTuple):
    """The last state, and what was recorded: by recorder, arrays by name."""

    state: Any
    records: dict[str, dict[str, np.ndarray]]


class Ways:
    """All ways of running the networks of one structure; each is compiled once."""

    def __init__(self, built: Built):
        self.built, self.record = built, built.record
        self.spiking = [n for n, p in built.network.populations.items() if p.neuron.is_spiking]
        self.stepped = eqx.filter_jit(self._stepped)
        self.batched = eqx.filter_jit(self._batched)
        self.slopes = eqx.filter_jit(self._slopes)

    def pieces(self, network: jsnn.Network, state: Any, lengths: Sequence[int]) -> Ran:
        """Consecutive calls of the host's program, which takes any length."""
        first = int(state.step)
        gathered = {
            name: own.gather(network, first, first + sum(lengths))
            for name, own in self.record.items()
        }
        for length in lengths:
            begin, some = int(state.step), jnp.asarray(length, jnp.int32)
            made = advance_from_host(network, state, some, STEPS, self.record)
            state = made.state
            for name, own in self.record.items():
                part = _on_host(network, own, made.records[name], begin, length)
                gathered[name].add(begin, part)
        return Ran(state, {name: _arrays(own.record()) for name, own in gathered.items()})

    def resumed(self, network: jsnn.Network, state: Any, after: int) -> Ran:
        """Interrupted after so many steps, and resumed from the files."""
        dt = network.dt
        with tempfile.TemporaryDirectory() as folder:
            for steps in (after, STEPS):
                options: Any = {"record": self.record, "progress": False, "checkpoint": folder}
                made = jsnn.run(network, steps * dt, state=state, **options)
        return Ran(made.state, {name: _arrays(own) for name, own in made.records.items()})

    def _stepped(self, network: jsnn.Network, state: Any) -> tuple[Any, Any]:
        coefficients = network.prepare()

        def one(state: Any, _: None) -> tuple[Any, Any]:
            state, fired = network.step(state, coefficients)
            shown = {n: own.cell.get("v") for n, own in state.populations.items()}
            return state, ({name: own > 0 for name, own in fired.items()}, shown)

        return jax.lax.scan(one, state, None, length=STEPS)

    def _batched(self, network: jsnn.Network, states: Any) -> Any:
        made = jax.vmap(lambda state: jsnn.simulate(network, state, STEPS, self.record))(states)
        return made.state, {name: made.records[name] for name in self.record}

    def _slopes(self, network: jsnn.Network, state: Any) -> Any:
        """The value and the gradient of a function of membranes and spikes."""
        every = 8 * network.dt
        record: dict[str, Any] = {f"v {n}": States(n, "v", every=every) for n in self.spiking}
        record |= {f"n {n}": Counts(n, every) for n in self.spiking}
        if "glia" in network.populations:
            record["ca"] = States("glia", "ca", every=every)

        @eqx.filter_value_and_grad
        def loss(network: jsnn.Network) -> Any:
            made = jsnn.simulate(network, state, GRADIENT_STEPS, record, adjoint=self.built.adjoint)
            total = 0.0
            for name, own in made.records.items():
                values = own.values / (10 if name.startswith("v") else 1)
                weights = jnp.linspace(0.5, 1.5, values.size).reshape(values.shape)
                total += jnp.mean(jnp.square(values) * weights)
            return total

        return loss(network)


def disagreements(
    ways: Ways,
    network: jsnn.Network,
    states: Sequence[Any],
    rng: np.random.Generator,
    only: str | None = None,
) -> tuple[list[str], dict[str, Any]]:
    """What does not agree, of a network and two of its states, and how much there was to see;
    `only` in some ways, if they are given."""
    found: list[str] = []
    state, begun = states[0], time.process_time()
    whole = ways.pieces(network, state, [STEPS])
    spent = {"one go": round(time.process_time() - begun, 2)}
    seen = {**_seen(ways, network, whole), "cpu_s": spent}
    if not all(int(step) == jsnn.NEVER for step in jax.tree.leaves(whole.state.outcome)):
        return [f"one go: failed: {whole.state.outcome}"], seen

    def look(way: str, make: Callable[[], list[str]]) -> None:
        if only is not None and not way.startswith(tuple(only.split(","))):
            return
        begun = time.process_time()
        try:
            found.extend(f"{way}: {own}" for own in make())
        except Exception as error:  # one way that fails is no reason to leave out the others
            found.append(f"{way}: {type(error).__name__}: {str(error)[:300]}")
        spent[way.partition(" [")[0].partition(" after")[0]] = round(time.process_time() - begun, 2)

    lengths = _cut(rng)
    look(f"cut {lengths}", lambda: unequal(ways, whole, ways.pieces(network, state, lengths)))
    after = int(rng.integers(STEPS // 2 + 1, STEPS))
    look(
        f"resumed after {after}", lambda: unequal(ways, whole, ways.resumed(network, state, after))
    )

    def apart() -> list[str]:
        other = ways.pieces(network.on(2), state, [STEPS])
        # Each device makes its own sums over partners
        if network.couplings or (_rounds_apart(network) and unequal(ways, whole, other)):
            return different(ways, network, whole, other)
        return unequal(ways, whole, other)

    look("two devices", apart)

    def summed() -> list[str]:
        sums = eqx.tree_at(lambda n: n.delivery, network, jsnn.SegmentSum())
        return different(ways, network, whole, ways.pieces(sums, state, [STEPS]))

    look("SegmentSum", summed)
    look("Network.step", lambda: _steps_differ(ways, network, state, whole))
    look("a batch", lambda: _batch_differs(ways, network, states, whole))
    if _has_gradient(network):
        look("gradient", lambda: _gradients_differ(ways, network, state))
    return found, seen


def _cut(rng: np.random.Generator) -> list[int]:
    """A few pieces, of a single step too."""
    at = np.sort(rng.integers(1, STEPS, int(rng.integers(1, 5))))
    at = np.unique([*at, min(at[0] + 1, STEPS - 1)])
    return [int(n) for n in np.diff([0, *at, STEPS])]


def _arrays(record: Any) -> dict[str, np.ndarray]:
    """What a record holds, by name."""
    fields = record._asdict() if hasattr(record, "_asdict") else vars(record)
    return {
        name: np.asarray(value)
        for name, value in fields.items()
        if isinstance(value, (np.ndarray, jax.Array))
    }


def _leaves(ran: Ran) -> dict[str, np.ndarray]:
    leaves = {
        f"state{jax.tree_util.keystr(path)}": np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(ran.state)
    }
    for name, own in ran.records.items():
        leaves |= {f"record {name!r}.{key}": value for key, value in own.items()}
    return leaves


def _rounds_apart(network: jsnn.Network) -> bool:
    laws = (own.neuron for own in network.populations.values())
    return any(not isinstance(law, jsnn.neurons.LIF) for law in laws)


def unequal(ways: Ways, whole: Ran, other: Ran) -> list[str]:
    """Where not every bit is the same; the first few places."""
    followed = tuple(
        f"record {name!r}." for name, own in ways.record.items() if isinstance(own, SynapseStates)
    )
    a, b, found = _leaves(whole), _leaves(other), []
    if a.keys() != b.keys():
        return [f"other leaves: {sorted(a.keys() ^ b.keys())[:3]}"]
    for name, x in a.items():
        y = b[name]
        if x.shape != y.shape or x.dtype != y.dtype:
            found.append(f"{name}: {x.dtype}{x.shape} and {y.dtype}{y.shape}")
        elif name.startswith(followed) and np.allclose(x, y, 1e-5 if x.itemsize == 4 else 1e-12, 0):
            continue
        elif x.tobytes() != y.tobytes():
            where = np.argwhere(x != y)
            place = where[0].tolist() if len(where) else "in the sign of zero"
            found.append(f"{name}: {len(where)} of {x.size} differ, the first at {place}")
    return found[:4]


def rasters(ways: Ways, network: jsnn.Network, ran: Ran) -> dict[str, np.ndarray]:
    """By population `[steps, n]`, whether cells fired."""
    made = {}
    for name in ways.spiking:
        own = ran.records[f"spikes {name}"]
        made[name] = np.zeros((STEPS, network.populations[name].n), bool)
        made[name][own["steps"] - int(ran.state.step) + STEPS, own["index"]] = True
    return made


def different(ways: Ways, network: jsnn.Network, whole: Ran, other: Ran) -> list[str]:
    """What two runs that may round apart do not agree in."""
    fired = [rasters(ways, network, own) for own in (whole, other)]
    v = [
        {name: own.records[f"v {name}"]["values"] for name in ways.spiking}
        for own in (whole, other)
    ]
    return rounded_apart(network, fired, v, (_leaves(whole), _leaves(other)))


def rounded_apart(
    network: jsnn.Network,
    fired: Sequence[dict[str, np.ndarray]],
    v: Sequence[dict[str, np.ndarray]],
    leaves: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
) -> list[str]:
    """Two runs by their spikes, their membranes and all else."""
    double = next(iter(v[0].values())).dtype == np.float64
    first, found = STEPS, []
    for name, one in fired[0].items():
        steps = np.flatnonzero(np.any(one != fired[1][name], axis=1))
        first = min(first, steps[0]) if steps.size else first
    if first < STEPS:
        for name, one in fired[0].items():
            for cell in np.flatnonzero(one[first] != fired[1][name][first]):
                place = f"{name} fires in one run only, step {first}, cell {cell}"
                if double or not _at_threshold(network, name, first, cell, fired, v):
                    found.append(place)
    for name in v[0]:
        a, b = (own[name][:first] for own in v)
        if not (np.all(np.isfinite(a)) and np.all(np.isfinite(b))):
            found.append(f"v of {name} is not finite")
            continue
        off = np.abs(a - b)
        if not double:  # an upstroke may come earlier by a small part of a step
            change = np.abs(np.diff(a, axis=0, prepend=a[:1]))
            change = np.maximum(change, np.roll(change, -1, 0))
            off = np.maximum(off - EARLIER * change, 0)
        if off.size and off.max() > (CLOSE * 100 if double else ROUNDING):
            place = np.argwhere(off == off.max())[0].tolist()
            found.append(f"v of {name} is {off.max():.3g} mV apart at {place}")
    if found or first < STEPS:
        return found[:4]
    close = CLOSE if double else ROUGH
    for name, x in leaves[0].items():
        y = leaves[1].get(name)
        if y is None or x.shape != y.shape:
            found.append(f"{name}: {x.shape} and {'nothing' if y is None else y.shape}")
        elif not np.issubdtype(x.dtype, np.floating):
            if not np.array_equal(x, y):
                found.append(f"{name}: whole numbers differ")
        elif x.size:
            off = np.abs(x - y).max()
            if not off <= close * max(1.0, np.abs(x).max()):
                found.append(f"{name}: {off:.3g} apart, of {np.abs(x).max():.3g}")
    return found[:4]


def _at_threshold(network, name, step, cell, fired, v) -> bool:
    """Whether a spike that only one of two runs has is one that rounding decides: the other's
    membrane is at its threshold, or, where the upstroke is steep, fires in the next step."""
    silent = int(fired[0][name][step, cell])  # the run that has no spike there
    neuron = network.populations[name].neuron
    v_th = np.broadcast_to(np.asarray(neuron.v_th), network.populations[name].n)[cell]
    if abs(v[silent][name][step, cell] - v_th) < ROUNDING:
        return True
    steep = neuron.resets_within or neuron.is_stiff
    return bool(steep and step + 1 < STEPS and fired[silent][name][step + 1, cell])


def _steps_differ(ways: Ways, network: jsnn.Network, state: Any, whole: Ran) -> list[str]:
    end, (fired, v) = jax.device_get(ways.stepped(network, state))
    v = {name: v[name] for name in ways.spiking}
    other = [rasters(ways, network, whole), fired]
    shown = [{name: whole.records[f"v {name}"]["values"] for name in ways.spiking}, v]
    return rounded_apart(
        network, other, shown, (_leaves(Ran(whole.state, {})), _leaves(Ran(end, {})))
    )


def _batch_differs(
    ways: Ways, network: jsnn.Network, states: Sequence[Any], whole: Ran
) -> list[str]:
    stacked = jax.tree.map(lambda *own: jnp.asarray(np.stack(own)), *states)
    ends, records = ways.batched(network, stacked)
    ends, records = jax.device_get((ends, records))
    found = []
    for k, state in enumerate(states):
        alone = whole if k == 0 else ways.pieces(network, state, [STEPS])
        mine = jax.tree.map(lambda leaf, k=k: leaf[k], (ends, records))
        hosted = {}
        for name, own in ways.record.items():
            gathered = own.gather(network, int(state.step), int(state.step) + STEPS)
            gathered.add(int(state.step), own.to_host(mine[1][name]))
            hosted[name] = _arrays(gathered.record())
        found += [
            f"member {k}: {own}" for own in different(ways, network, alone, Ran(mine[0], hosted))
        ]
    return found


def _has_gradient(network: jsnn.Network) -> bool:
    """Relaxed waveforms have one only where the number of rounds is known."""
    joined = bool(network.couplings)
    return not (joined and getattr(network.exchange, "tol", None) is not None)


def _gradients_differ(ways: Ways, network: jsnn.Network, state: Any) -> list[str]:
    sums = eqx.tree_at(lambda n: n.delivery, network, jsnn.SegmentSum())
    (value, slopes), (wanted_value, wanted) = (
        jax.device_get(ways.slopes(own, state)) for own in (network, sums)
    )
    double, found = np.asarray(value).dtype == np.float64, []
    if not np.isfinite(value):
        return ["the value is not finite"]
    if abs(value - wanted_value) > (1e-10 if double else 1e-3) * abs(wanted_value):
        return [f"the value is {value}, and {wanted_value} with SegmentSum"]
    moved = None
    for k, ((path, own), other) in enumerate(
        zip(jax.tree.leaves_with_path(slopes), jax.tree.leaves(wanted), strict=True)
    ):
        place = jax.tree_util.keystr(path)
        if not np.all(np.isfinite(own)):
            found.append(f"{place} is not finite")
            continue
        scale = np.abs(other).max() if other.size else 0.0
        off = np.abs(own - other).max() if other.size else 0.0
        if off <= (1e-8 if double else 2e-2) * scale + 1e-12:
            continue
        if not double:  # as far as rounding moves them
            if moved is None:
                moved = jax.tree.leaves(jax.device_get(ways.slopes(_nudged(sums), state))[1])
            if off <= 100 * np.abs(moved[k] - other).max():
                continue
        found.append(f"{place} is {off:.3g} off, of {scale:.3g}")
    return found[:4]


def _nudged(network: jsnn.Network) -> jsnn.Network:
    """The same network with neurons' parameters that are a rounding or two away."""

    def nudge(leaf: Any) -> Any:
        real = eqx.is_inexact_array(leaf)
        return as_real(np.asarray(leaf) * np.float32(1 + 3e-7)) if real else leaf

    laws = lambda n: [own.neuron for own in n.populations.values()]  # noqa: E731
    return eqx.tree_at(laws, network, [jax.tree.map(nudge, own) for own in laws(network)])


def _seen(ways: Ways, network: jsnn.Network, whole: Ran) -> dict[str, int]:
    """How many spikes there were, and how many were delivered within the run."""
    fired, delivered = rasters(ways, network, whole), 0
    connections = network.connections(whole.state)
    for name, own in network.synapses.items():
        edges: Any = connections[name]
        raster = fired[own.pre[0]]
        before = np.cumsum(raster, axis=0)
        steps = np.ceil(edges.delay / network.dt - 1e-6).astype(int)
        last = np.clip(STEPS - 1 - steps, 0, STEPS - 1)
        delivered += int(before[last, edges.pre].sum())
    return {"spikes": int(sum(own.sum() for own in fired.values())), "delivered": delivered}
