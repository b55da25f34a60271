"""Astrocytes against SciPy and NEST, alone and in a chain with neurons; their gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells import DT, fresh_kernel, listed, nest, nest_spikes
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

import jsnn
from jsnn.astrocytes import LiRinzel
from jsnn.connect import AllToAll, Pairs
from jsnn.coupling import GapJunction, SlowInwardCurrent
from jsnn.inputs import NoiseCurrent, Poisson, SpikeList, StepCurrent
from jsnn.neurons import LIF
from jsnn.receptors import Alpha, Delta, Exponential
from jsnn.record import Counts, Spikes, States

DURATION, EVERY = 60_000.0, 10.0  # ms
NAMES = {"IP3": "ip3", "Ca_astro": "ca", "h_IP3R": "h"}
# In each of them calcium oscillates
ASTROCYTES = {
    "delta_IP3": [0.02, 0.05, 0.2, 0.1, 0.03],
    "rate_IP3R": [0.006, 0.006, 0.006, 0.008, 0.005],
    "rate_SERCA": [0.0009, 0.0009, 0.0009, 0.0012, 0.0007],
    "rate_L": [0.00011, 0.00011, 0.00011, 0.00015, 0.0001],
    "tau_IP3": [7142.0, 7142.0, 7142.0, 4000.0, 9000.0],
    "k_IP3R": [0.0002, 0.0002, 0.0002, 0.0003, 0.00015],
    "IP3": [0.16, 0.4, 0.16, 0.3, 0.6],
}
RATES = [3.0, 1.5, 0.3, 1.5, 2.0]  # Hz


def trains():
    """Steps and weights of the spikes to each astrocyte."""
    rng = np.random.default_rng(1)
    made = []
    for rate in RATES:
        count = rng.poisson(rate * DURATION / 1000)
        steps = np.sort(rng.choice(np.arange(1, round(DURATION / DT) - 100), count, False))
        made.append((steps, rng.uniform(0.5, 1.5, count)))
    return made


def on_jsnn(precision):
    """States `[samples, 3, n]`."""
    with jax.enable_x64(precision == "float64"):
        steps, weights = (np.concatenate(own) for own in zip(*trains(), strict=True))
        cells = np.repeat(np.arange(len(RATES)), [own.size for own, _ in trains()])
        spikes = SpikeList("a", steps * DT, cells, weights, delay=1.0)
        population = jsnn.nest.astrocyte_lr_1994(len(RATES), **ASTROCYTES)
        net = jsnn.Network({"a": population}, inputs={"spikes": spikes}, dt=DT)
        record = {name: States("a", name, every=EVERY) for name in NAMES.values()}
        state = net.init(jax.random.key(1))
        records = jsnn.simulate(net, state, round(DURATION / DT), record).records
        return np.stack([np.asarray(records[name].values, np.float64) for name in record], 1)


def metered(cells, names, every):
    meter = nest.Create("multimeter", params={"interval": every, "record_from": list(names)})
    nest.Connect(meter, cells)

    def read(duration):
        events = meter.events
        made = np.full((round(duration / every), len(names), len(cells)), np.nan)
        at = np.rint(events["times"] / every).astype(int) - 1
        for i, name in enumerate(names):
            made[at, i, events["senders"] - cells[0].global_id] = events[name]
        assert not np.isnan(made).any()
        return made

    return read


def on_nest():
    fresh_kernel()
    cells = nest.Create("astrocyte_lr_1994", len(RATES), ASTROCYTES)
    for cell, (steps, weights) in zip(cells, trains(), strict=True):
        sent = {"spike_times": np.round(steps * DT, 1), "spike_weights": weights}
        source = nest.Create("spike_generator", params=sent)
        nest.Connect(source, cell, syn_spec={"weight": 1.0, "delay": 1.0})
    read = metered(cells, NAMES, EVERY)
    nest.Simulate(DURATION + DT)
    return read(DURATION)


def by_scipy(cell):
    """The equations once more, by DOP853 from each arrival to the next, `[samples, 3]`."""
    p = nest.GetDefaults("astrocyte_lr_1994")
    p |= {name: np.asarray(values)[cell] for name, values in ASTROCYTES.items()}
    steps, weights = trains()[cell]

    def field(_, y):
        ip3, ca, h = y
        m, n = ip3 / (ip3 + p["Kd_IP3_1"]), ca / (ca + p["Kd_act"])
        gradient = (p["Ca_tot"] - ca) / p["ratio_ER_cyt"] - ca
        opened = p["rate_IP3R"] * (m * n * h) ** 3 + p["rate_L"]
        pump = p["rate_SERCA"] * ca**2 / (p["Km_SERCA"] ** 2 + ca**2)
        q = p["Kd_inh"] * (ip3 + p["Kd_IP3_1"]) / (ip3 + p["Kd_IP3_2"])
        slope = p["ratio_ER_cyt"] * opened * gradient - pump
        return (p["IP3_0"] - ip3) / p["tau_IP3"], slope, p["k_IP3R"] * (q * (1 - h) - ca * h)

    ends = np.append(np.round(steps * DT + 1.0, 1), DURATION)
    wanted = EVERY * np.arange(1, round(DURATION / EVERY) + 1)
    made, y, start = np.empty((wanted.size, 3)), np.array([p["IP3"], 0.073, 0.793]), 0.0
    for end, weight in zip(ends, np.append(weights, 0.0), strict=True):
        mine = (wanted > start + DT / 2) & (wanted < end - DT / 2)
        at = np.append(wanted[mine], end)
        found = solve_ivp(field, (start, end), y, "DOP853", at, rtol=3e-14, atol=1e-15)
        made[mine], y, start = found.y[:, :-1].T, found.y[:, -1].copy(), end
        y[0] += p["delta_IP3"] * weight
        made[np.abs(wanted - end) < DT / 2] = y  # an arrival is there at the end of its step
    return made


@pytest.fixture(scope="module")
def minute():
    return on_jsnn("float64")


@pytest.mark.slow
def test_a_minute_of_spikes(minute):
    """Both simulators are as near to the solution as SciPy is; the tolerance of NEST, 1e-3, would
    let it be off further, and never limits its steps of 0.1 ms."""
    exact = np.stack([by_scipy(cell) for cell in range(len(RATES))], -1)
    ca = exact[:, 1]
    peaks = (ca[1:-1] > ca[:-2]) & (ca[1:-1] > ca[2:]) & (ca[1:-1] > 0.3)
    assert np.all(peaks.sum(0) >= 4)
    np.testing.assert_allclose(minute, exact, rtol=5e-12)
    np.testing.assert_allclose(minute, on_nest(), rtol=5e-14)


def test_a_minute_in_single_precision(minute):
    """Parts of a thousandth, as calcium rises a little earlier or later."""
    error = np.abs(on_jsnn("float32") - minute).max((0, 2))
    assert np.all(error < (1e-4, 5e-3, 1e-3)) and np.all(error > (1e-6, 1e-4, 1e-5))


def test_rest_in_single_precision():
    """Without input a state stops where its slope, times dt, is below half of its last digit."""
    n = 12
    start = {"h_IP3R": np.linspace(0.5, 1.0, n), "IP3": np.resize([0.16, 0.4, 1.0, 0.0], n)}
    made = {}
    for x64 in (True, False):
        with jax.enable_x64(x64):
            net = jsnn.Network({"a": jsnn.nest.astrocyte_lr_1994(n, **start)}, dt=DT)
            state = net.init(jax.random.key(0))
            cell = jsnn.simulate(net, state, 600_000).state.populations["a"].cell
            made[x64] = {name: np.asarray(own, np.float64) for name, own in cell.items()}
    for name, bound in {"ip3": 6e-4, "ca": 5e-4, "h": 4e-3}.items():
        error = np.abs(made[False][name] - made[True][name])
        assert bound / 3 < error.max() < bound, name


FLUX = np.array([5.0, 400.0, 800.0, 1200.0]), np.array([1e-3, -3e-3, 0.05, -0.002])  # ms, uM/ms


def test_current_is_a_flux_of_calcium(x64):
    """On NEST's steps; calcium is driven to 0 and to all there is, and stays within."""
    fresh_kernel()
    cells = nest.Create("astrocyte_lr_1994", 2, {"Ca_tot": [2.0, 1.0]})
    params = {"amplitude_times": FLUX[0], "amplitude_values": FLUX[1]}
    nest.Connect(nest.Create("step_current_generator", params=params), cells)
    read = metered(cells, NAMES, DT)
    nest.Simulate(1500.0 + DT)
    theirs = read(1500.0)
    population = jsnn.nest.astrocyte_lr_1994(2, Ca_tot=[2.0, 1.0])
    net = jsnn.Network({"a": population}, inputs={"i": StepCurrent("a", *FLUX, delay=1.0)}, dt=DT)
    record = {name: States("a", name) for name in NAMES.values()}
    records = jsnn.simulate(net, net.init(jax.random.key(0)), 15_000, record).records
    ours = np.stack([np.asarray(records[name].values) for name in record], 1)
    # One step of NEST's may be two, where the flux changes by much: 1e-9
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)
    for cell, most in enumerate((2.0, 1.0)):
        assert ours[:, 1, cell].min() == 0 and ours[:, 1, cell].max() == most


def test_noise_stays_within_the_limits(x64):
    noise = {"i": NoiseCurrent("a", 0.0, 0.2, interval=0.5)}
    net = jsnn.Network({"a": jsnn.Population(LiRinzel(), 50)}, inputs=noise, dt=DT)
    record = {"ca": States("a", "ca")}
    ca = jsnn.simulate(net, net.init(jax.random.key(0)), 5000, record).records["ca"].values
    assert ca.min() == 0 and ca.max() == 2 and np.isfinite(ca).all()


def test_slow_current_of_calcium(x64):
    law = LiRinzel(sic_th=0.2, sic_scale=3.0)
    ca = np.array([0.0, 0.1, 0.2, 0.2009999999, 0.2010000001, 0.203, 0.5, 2.0])
    found = law.slow_current({"ca": jnp.asarray(ca)})
    wanted = 3.0 * np.log(np.maximum((ca - 0.2) * 1000, 1))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    assert np.all(found[:4] == 0) and 0 < found[4] < 1e-6
    slope = jax.vmap(jax.grad(lambda ca: law.slow_current({"ca": ca})))(jnp.asarray(ca))
    np.testing.assert_allclose(slope[:4], 0)
    np.testing.assert_allclose(slope[4:], 3.0 / (ca[4:] - 0.2), rtol=1e-9)
    at = jnp.asarray([0.1, 0.2, 0.201])  # below, at the threshold, and where the logarithm is 0
    for name in ("sic_th", "sic_scale"):
        slopes = jax.jacfwd(lambda p, name=name: LiRinzel(**{name: p}).slow_current({"ca": at}))
        assert np.isfinite(slopes(jnp.asarray(0.2))).all()


# Astrocyte, neuron, weight, delay (ms); one pair twice with one delay, one with two
SLOW = [(0, 0, 30.0, 1.0), (0, 0, 5.0, 2.7), (1, 0, 20.0, 2.0), (1, 1, -10.0, 1.2)]
SLOW += [(2, 1, 15.0, 5.0), (2, 1, 15.0, 5.0), (0, 1, 20.0, 0.5)]
EXCITED = [0, 0, 1, 1], [0, 1, 1, 2]  # neuron, astrocyte
CHAIN, SHORTEST = 10_000.0, 0.5  # ms
HELD = 550.0  # pA


@pytest.mark.slow
def test_chain(x64):
    """Neurons that spikes drive, astrocytes, and neurons that slow currents help to fire: spikes,
    and slow currents at every step, are NEST's."""
    rng = np.random.default_rng(2)
    steps = [np.sort(rng.integers(1, 95_000, rng.poisson(2.5 * CHAIN))) for _ in range(2)]
    model, params = "aeif_cond_alpha_astro", {"tau_syn_ex": 2.0}
    astro = {"delta_IP3": 0.02, "IP3": [0.4, 0.5, 0.6]}
    fresh_kernel()
    pre = nest.Create(model, 2, params)
    post = nest.Create(model, 2, {**params, "I_e": HELD})
    astrocytes = nest.Create("astrocyte_lr_1994", 3, astro)
    for cell, own in zip(pre, steps, strict=True):
        source = nest.Create("spike_generator", params={"spike_times": np.round(own * DT, 1)})
        nest.Connect(source, cell, syn_spec={"weight": 1.0, "delay": 1.0})
    for a, b in zip(*EXCITED, strict=True):
        nest.Connect(pre[a], astrocytes[b], syn_spec={"weight": 1.0, "delay": SHORTEST})
    nest.Connect(pre, post, syn_spec={"weight": 1.0, "delay": 2.0})
    for a, b, weight, delay in SLOW:
        spec = {"synapse_model": "sic_connection", "weight": weight, "delay": delay}
        nest.Connect(astrocytes[a], post[b], syn_spec=spec)
    read = metered(post, ["I_SIC", "V_m"], DT)
    recorders = {name: nest.Create("spike_recorder") for name in ("pre", "post")}
    nest.Connect(pre, recorders["pre"])
    nest.Connect(post, recorders["post"])
    nest.Simulate(CHAIN + DT)
    theirs = read(CHAIN)

    source, target, weight, delay = (np.array(own) for own in zip(*SLOW, strict=True))
    cells = np.repeat([0, 1], [own.size for own in steps])
    neurons = jsnn.nest.aeif_cond_alpha_astro
    rule = Pairs(source, target)
    net = jsnn.Network(
        {
            "pre": neurons(2, **params),
            "post": neurons(2, **params, I_e=HELD),
            "a": jsnn.nest.astrocyte_lr_1994(3, **astro),
        },
        {
            "in": jsnn.Projection("pre", "a", Pairs(*EXCITED), weight=1.0, delay=SHORTEST),
            "n": jsnn.Projection("pre", "post", AllToAll(), weight=1.0, delay=2.0, receptor="ex"),
        },
        {"s": SpikeList("pre", np.concatenate(steps) * DT, cells, 1.0, "ex", delay=1.0)},
        couplings={"sic": SlowInwardCurrent("a", "post", rule, weight=weight, delay=delay)},
        dt=DT,
        key=jax.random.key(0),
    )
    record = {"sic": States("post", "sic"), "pre": Spikes("pre"), "post": Spikes("post")}
    solution = jsnn.simulate(net, net.init(jax.random.key(0)), round(CHAIN / DT), record)
    spikes, found = {}, {}
    for name, cells in (("pre", pre), ("post", post)):
        found[name] = listed(solution.records[name])
        own = [at for at in nest_spikes(recorders[name], cells) if at[0] < round(CHAIN / DT)]
        assert len(own) == len(found[name]) > 60 and {cell for _, cell in own} == {0, 1}, name
        spikes[name] = own
    assert found["pre"] == spikes["pre"]
    # Where a peak is near the end of a step, what NEST tolerates may bring it into the next
    by_cell = lambda own: np.array(sorted(own, key=lambda spike: spike[::-1]))  # noqa: E731
    late = np.abs(by_cell(found["post"]) - by_cell(spikes["post"]))
    assert late.max() <= 1 and np.mean(late) < 0.05
    ours = np.asarray(solution.records["sic"].values)
    assert np.all(np.mean(ours > 0, 0) > 0.9)
    np.testing.assert_allclose(ours, theirs[:, 0], rtol=1e-10, atol=1e-10)
    assert np.abs(np.diff(ours, axis=0)).max() > 0.01  # a step of delay would be seen


def differences(function, at, h):
    """Central differences `[outputs, components]`, from three distances: their error is of order
    h^6."""
    k = jnp.asarray([1, 2, 3, -1, -2, -3])
    moves = k[:, None, None] * h * jnp.eye(at.size)
    found = jax.lax.map(jax.vmap(function), at + moves)  # one compilation for all
    slopes = (found[:3] - found[3:]) / (2 * h * k[:3, None, None])
    return jnp.einsum("i,ijk->kj", jnp.asarray([1.5, -0.6, 0.1]), slopes)


PARAMETERS = list(vars(LiRinzel()))
# By the form that a step has the weights in: neurons, and the pairs of astrocytes and neurons
FORMS = {
    "dense": (2, [0, 0, 1, 2, 3, 3], [0, 1, 1, 0, 0, 0]),  # one pair twice
    "table": (130, [0, 1, 2, 3, 0], [3, 3, 5, 6, 4]),  # few, and no row is long
}


def trained(form, each):
    """Astrocytes that a neuron and a list of spikes drive, in the form of the slow currents."""
    n, (n_post, source, target) = 4, FORMS[form]
    spread = lambda x, k: np.linspace(0.8, 1.2, k) * x if each else x  # noqa: E731
    defaults = {name: float(value) for name, value in vars(LiRinzel(delta_ip3=0.05)).items()}
    law = LiRinzel(**{name: spread(value, n) for name, value in defaults.items()})
    start = {"ip3": [0.9, 0.6, 1.2, 0.7], "ca": [0.15, 0.3, 0.1, 0.2], "h": [0.8, 0.7, 0.75, 0.6]}
    times = np.arange(1, 13) * 50.0
    pairs, weight = Pairs(source, target), spread(2.0, len(source))
    net = jsnn.Network(
        {
            "n": jsnn.Population(
                LIF(i_e=np.append(900.0, np.zeros(n_post)), t_ref=5.0),
                1 + n_post,
                slices={"pre": slice(0, 1), "post": slice(1, None)},
                solver=jsnn.solvers.RK4(),  # compiles sooner
            ),
            "a": jsnn.Population(law, n, {"x": Delta()}, initial=start),
        },
        {"in": jsnn.Projection("n.pre", "a", AllToAll(), weight=spread(0.1, n), delay=10.0)},
        {"s": SpikeList("a", times, np.arange(12) % n, spread(0.5, 12))},
        couplings={
            "sic": SlowInwardCurrent("a", "n.post", pairs, weight=weight, delay=5.0),
        },
        dt=5.0,
        key=jax.random.key(0),
        delivery=jsnn.SegmentSum(),
    )
    (way,) = net.slow["sic"].ways
    assert (way.dense, way.table is None) == (form == "dense", form != "table")
    return net


def values(net):
    own = net.populations["a"]
    weights = [net.slow["sic"].weight, net.synapses["in"].weight, net.inputs["s"].weight]
    return {"law": vars(own.neuron), "start": own.initial, "weight": weights}


@pytest.mark.slow
@pytest.mark.parametrize(("form", "each"), [("dense", False), ("table", True)])
def test_gradient_equals_central_differences(x64, form, each):
    """Of mean calcium and mean slow current, in all that can be trained."""
    net = trained(form, each)
    flat, unravel = ravel_pytree(values(net))
    leaves = jax.tree.leaves_with_path(values(net))
    names = [jax.tree_util.keystr(path) for path, value in leaves for _ in range(value.size)]
    assert set(values(net)["law"]) == set(PARAMETERS) and len(PARAMETERS) == 16
    record = {"ca": States("a", "ca"), "sic": States("n.post", "sic")}

    def means(change):
        new = jax.tree.leaves(unravel(flat * (1 + change)))
        own = eqx.tree_at(lambda n: jax.tree.leaves(values(n)), net, new)
        made = jsnn.simulate(own, own.init(jax.random.key(0)), 160, record).records
        return jnp.stack([jnp.mean(own.values) for own in made.values()])

    none = jnp.zeros_like(flat)
    found = np.asarray(jax.jit(jax.jacrev(means))(none))
    wanted = np.asarray(jax.jit(lambda at: differences(means, at, 1e-5))(none))
    for i, what in enumerate(("calcium", "current")):
        floor = 1e-9 * np.max(np.abs(wanted[i]))
        for name, a, b in zip(names, found[i], wanted[i], strict=True):
            np.testing.assert_allclose(a, b, 1e-6, floor, err_msg=f"{what} {name}")
            silent = what == "calcium" and ("sic" in name or name.endswith("['weight'][0]"))
            assert (abs(b) > 1e2 * floor) != silent, (what, name)  # a test of all of them


def network(projections=None, inputs=None, couplings=None):
    own = {"a": jsnn.nest.astrocyte_lr_1994(3), "n": jsnn.nest.aeif_cond_alpha_astro(2)}
    key = jax.random.key(0)
    return jsnn.Network(own, projections, inputs, couplings=couplings, dt=DT, key=key)


ONE = Pairs([0], [1])
WRONG = {
    "send no spikes": lambda: network(
        {"p": jsnn.Projection("a", "n", ONE, weight=1.0, delay=1.0, receptor="ex")}
    ),
    "'p': weight=-1 onto an astrocyte": lambda: network(
        {"p": jsnn.Projection("n", "a", Pairs([0, 0], [0, 1]), weight=[1.0, -1.0], delay=1.0)}
    ),
    "'s': weight=-2 onto an": lambda: network(inputs={"s": SpikeList("a", [1.0], [0], -2.0)}),
    "'s': weight=-3 onto an": lambda: network(inputs={"s": Poisson("a", 100.0, -3.0)}),
    "'g': population 'a' is of astro": lambda: joined("n", "a"),
    "no membrane to join": lambda: joined("a", "a"),
    "'x' is Exponential.*give Delta": lambda: receiving(Exponential(2.0)),
    "'x' is Alpha.*give Delta": lambda: receiving(Alpha(2.0, e_rev=0.0)),
    "wants a linear system": lambda: jsnn.Population(LiRinzel(), 2, solver=jsnn.solvers.Exact()),
    "rate_l=nan is not finite": lambda: LiRinzel(rate_l=float("nan")),
    r"rate_l has shape \(2,\)": lambda: jsnn.Population(LiRinzel(rate_l=[1e-4, 2e-4]), 3),
    "Ca_tot=0 must be above 0": lambda: jsnn.nest.astrocyte_lr_1994(3, Ca_tot=0),
    "did you mean 'tau_IP3'": lambda: jsnn.nest.astrocyte_lr_1994(3, tau_m=1.5),
    "Ca_astro=-0.5 must be at least 0": lambda: jsnn.nest.astrocyte_lr_1994(3, Ca_astro=-0.5),
    "do not spike; give States of": lambda: recorded(Spikes("a")),
    "'r': 'a' are astrocytes": lambda: recorded(Counts("a", 1.0)),
    "unknown state of 'a' 'v'": lambda: recorded(States("a", "v")),
}


def receiving(receptor):
    return jsnn.Population(LiRinzel(), 2, {"x": receptor})


def joined(pre, post):
    return network(couplings={"g": GapJunction(pre, post, ONE, conductance=1.0)})


def recorded(recorder):
    net = network()
    return jsnn.simulate(net, net.init(jax.random.key(0)), 2, {"r": recorder})


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_told(message):
    with pytest.raises(ValueError, match=message):
        WRONG[message]()


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_is_checked(name):
    own = {name: -1.0}
    with pytest.raises(ValueError, match=rf"{name}=-1.0 must be (at least|above) 0"):
        LiRinzel(**own)
