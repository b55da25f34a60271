"""One conformance battery for all models of `helpers`: a new model inherits every test."""

import equinox as eqx
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import DT, MODELS, TRACED, assert_same

import jsnn
from jsnn._simulate import advance

STEPS = 98  # whole blocks: a shorter last one is compiled apart


@pytest.fixture(scope="module")
def net():
    return helpers.network()


@pytest.fixture(scope="module")
def start(net):
    return net.init(jax.random.key(2))


@pytest.fixture(scope="module")
def whole(net, start):
    """One run of all steps, which the other ways of running must equal."""
    return helpers.run(net, start, STEPS)


@pytest.fixture(scope="module")
def stepped(net, start):
    """`Network.step`, compiled once and iterated."""
    coefficients = eqx.filter_jit(lambda net: net.prepare())(net)  # op by op it compiles them all
    step = eqx.filter_jit(lambda net, state, coefficients: net.step(state, coefficients))
    state, made = start, {name: [] for name in helpers.everything()}
    for _ in range(STEPS):
        state, fired = step(net, state, coefficients)
        for name in MODELS:
            made[f"spikes {name}"].append(np.asarray(fired[name]) > 0)
        for name, (cells, what) in TRACED.items():
            own = state.populations[cells]
            made[name].append(np.asarray((own.cell | own.slow)[what]))
    made = {name: np.stack(own) for name, own in made.items()}
    return state, made


@pytest.fixture(scope="module")
def summed():
    """The network of sums, its start, and its run of all steps."""
    net = helpers.network(jsnn.SegmentSum())
    start = net.init(jax.random.key(2))
    return net, start, helpers.run(net, start, STEPS)


@pytest.mark.fast
@pytest.mark.parametrize("name", MODELS)
def test_every_model_fires_and_rests(whole, name):
    """Without both, the comparisons below would say little."""
    spikes = whole[1][f"spikes {name}"]
    assert spikes.sum() >= 3 and spikes.mean() < 0.2
    assert np.all(np.isfinite(whole[0].populations[name].cell["v"]))


def test_astrocytes_take_spikes_and_send_currents(net, start, whole):
    ip3 = whole[0].populations["astrocytes"].cell["ip3"]
    assert np.all(np.asarray(ip3)[:5] > 0.2) and whole[1]["sic adex"][-1].min() > 5
    assert np.all(whole[1]["sic adex"][:7] == 0)  # before the least delay


@pytest.mark.fast
def test_block_equals_step_iterated(whole, stepped):
    assert_same(whole[1], stepped[1], programs=2)
    assert_same(whole[0], stepped[0], programs=2)


@pytest.mark.slow
def test_single_steps_equal_one_run(net, start, whole):
    assert_same(helpers.run(net, start, *[1] * STEPS), whole, programs=2)


@pytest.mark.fast
def test_segment_sum_equals_event_driven(whole, summed):
    assert_same(summed[2], whole, programs=2)


def test_a_state_goes_on_with_the_other_delivery(net, whole, summed):
    summed, (half, _) = summed[0], whole
    assert_same(helpers.run(summed, half, STEPS), helpers.run(net, half, STEPS), programs=2)


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [(37, 61), (45, 3, 50)])
def test_traced_lengths_equal_one_run(net, start, whole, lengths):
    """The host's loop: records have room for more steps than are done."""
    state, done = start, []
    for steps in lengths:
        solution = advance(net, state, jnp.asarray(steps, jnp.int32), 64, helpers.everything())
        state = solution.state
        done.append({name: own[:steps] for name, own in helpers.traces(solution).items()})
    joined = jax.tree.map(lambda *own: np.concatenate(own), *done)
    assert_same((state, joined), whole, programs=2)


def test_state_can_be_scanned_over_inside_jit(net, start):
    """Tracing is enough: `scan` refuses a state that changes structure, shape or dtype."""
    arrays, static = eqx.partition(net, eqx.is_array)

    @jax.jit
    def many(arrays, state):
        net = eqx.combine(arrays, static)
        once = lambda state, _: (jsnn.simulate(net, state, 25).state, None)
        return jax.lax.scan(once, state, None, length=4)[0]

    made = jax.eval_shape(many, arrays, start)
    assert jax.tree.structure(made) == jax.tree.structure(start)
    assert shapes(made) == shapes(start)


@pytest.mark.slow
def test_vmap_equals_single_runs(net):
    starts = [net.init(key) for key in jax.random.split(jax.random.key(9), 3)]
    batch = jax.jit(lambda *own: jax.tree.map(lambda *leaves: jnp.stack(leaves), *own))(*starts)
    run = lambda state: jsnn.simulate(net, state, STEPS, helpers.everything())
    batched = jax.tree.map(np.asarray, jax.vmap(run)(batch))
    rasters = []
    for i, state in enumerate(starts):
        mine = helpers.traces(jax.tree.map(lambda leaf, i=i: leaf[i], batched))
        for name, own in helpers.run(net, state, STEPS)[1].items():
            if name in TRACED:
                steep = name in ("v channels", "v adex", "sic adex")
                rtol, atol = (1e-3, 1e-2) if steep else (1e-5, 0)
                np.testing.assert_allclose(mine[name], own, rtol, atol)
            else:
                assert_same(mine[name], own)
        rasters.append(mine["spikes delta"])
    assert not np.array_equal(rasters[0], rasters[1])  # or the batch shows nothing


def test_counted_spikes(net, start, whole):
    counts = jsnn.simulate(net, start, STEPS, helpers.everything()).stats["spikes"]
    assert counts == {name: whole[1][f"spikes {name}"].sum() for name in MODELS}


def test_no_failure_is_reported(whole):
    assert all(step == jsnn.NEVER for step in whole[0].status.values())


@pytest.mark.parametrize("delivery", [jsnn.EventDriven(), jsnn.SegmentSum()])
def test_results_stay_in_the_working_precision(delivery):
    """Of 64 bits; with those switched off JAX has no others than 32."""
    with jax.enable_x64(True):
        net = helpers.network(delivery)
        start = net.init(jax.random.key(2))
        run = lambda state: jsnn.simulate(net, state, 25, helpers.everything())
        solution = jax.eval_shape(run, start)
        stepped = jax.eval_shape(net.__class__.step, net, start)[0]
    assert shapes(solution.state) == shapes(start) == shapes(stepped)
    assert_precision(jnp.float64, solution.state, (net.populations, start, solution.records))


def test_results_stay_in_single_precision(net, start, whole, stepped, summed):
    for begun, ended in ((start, whole[0]), (start, stepped[0]), (summed[1], summed[2][0])):
        assert shapes(ended) == shapes(begun)
        assert_precision(jnp.float32, ended, (net.populations, begun))
    assert {own.dtype for own in whole[1].values()} == {np.dtype(bool), np.dtype(np.float32)}


def assert_precision(real, end, tree):
    for leaf in jax.tree.leaves((tree, end)):
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating):
            assert leaf.dtype == real
    for step in (end.step, *end.status.values()):
        assert step.dtype == jnp.int32


def shapes(tree):
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


# The derivatives of channels and couplings have tests of their own
LINEAR = [name for name, own in helpers.populations().items() if own.neuron.is_linear]


def quiet(parameters):
    """All models far below threshold, driven by given spikes: smooth in every parameter."""
    made = {name: own for name, own in helpers.populations().items() if name in LINEAR}
    inputs = {}
    for name, own in parameters.items():
        population = made[name]
        neuron = eqx.tree_at(
            lambda n: (n.tau_m, n.i_e, n.v_th),
            population.neuron,
            (own["tau_m"], own["i_e"], jnp.asarray(50.0)),
        )
        receptors = {
            r: f
            if isinstance(f, jsnn.receptors.Delta)
            else eqx.tree_at(lambda f: f.tau, f, own["tau"] * (1 + 0.5 * i))
            for i, (r, f) in enumerate(population.receptors.items())
        }
        made[name] = jsnn.Population(
            neuron, population.n, receptors, solver=population.solver, initial={"v": own["v"]}
        )
        for i, receptor in enumerate(receptors):
            inputs[f"{name}_{i}"] = jsnn.inputs.SpikeList(
                name, [0.3, 0.9, 1.1], [0, 1, 1], own["weight"], receptor
            )
    return jsnn.Network(made, inputs=inputs, dt=DT)


@pytest.fixture(scope="module")
def gradients():
    """By model and parameter: the gradient of the last membrane, and its central difference."""
    with jax.enable_x64(True):
        values = {"tau_m": 11.0, "tau": 2.3, "i_e": 30.0, "v": -66.0, "weight": 2.0}
        point = {name: {k: jnp.asarray(value) for k, value in values.items()} for name in LINEAR}

        def total(parameters):
            net = quiet(parameters)
            state = jsnn.simulate(net, net.init(jax.random.key(0)), 23).state
            last = {n: jnp.sum(s.cell["v"][:2]) for n, s in state.populations.items()}
            return sum(last.values()), last

        both = jax.jit(jax.grad(total, has_aux=True))
        differences = {name: {} for name in LINEAR}
        for key, value in values.items():
            h = 1e-5 * abs(value)
            low, high = (
                both({name: {**own, key: own[key] + sign * h} for name, own in point.items()})[1]
                for sign in (-1, 1)
            )
            for name in LINEAR:
                differences[name][key] = float(high[name] - low[name]) / (2 * h)
        return jax.tree.map(float, both(point)[0]), differences


@pytest.mark.parametrize("name", LINEAR)
def test_gradient_equals_central_differences(gradients, name):
    found, wanted = gradients
    for key in found[name]:
        if name == "delta" and key == "tau":
            continue  # it has none
        assert abs(wanted[name][key]) > 1e-4, key
        np.testing.assert_allclose(found[name][key], wanted[name][key], rtol=1e-6, err_msg=key)


def across_synapses(delay, weight, delivery):
    """Cells that are told when to fire, onto cells that do not."""
    silent = jsnn.neurons.LIF(v_th=1e6)
    weights = weight if isinstance(weight, dict) else {"p": weight}
    rule = jsnn.connect.AllToAll()
    return jsnn.Network(
        {
            "pre": jsnn.Population(jsnn.neurons.LIF(), 3, {"x": jsnn.receptors.Delta()}),
            "post": jsnn.Population(silent, 4, {"x": jsnn.receptors.Delta()}),
        },
        {
            name: jsnn.Projection("pre", "post", rule, weight=own, delay=delay)
            for name, own in weights.items()
        },
        {"s": jsnn.inputs.SpikeList("pre", [0.3, 0.9, 1.1], [0, 1, 2], 50.0)},
        dt=0.1,
        key=jax.random.key(1),
        delivery=delivery,
    )


def by_steps(net, state, steps):
    return jax.lax.scan(lambda s, _: (net.step(s)[0], None), state, None, length=steps)[0]


def by_blocks(net, state, steps):
    return jsnn.simulate(net, state, steps).state


@pytest.mark.fast
@pytest.mark.parametrize("way", [by_blocks, by_steps])
@pytest.mark.parametrize("delay", [0.0, 0.3])
def test_gradient_of_a_weight_across_a_projection(way, delay):
    """The membrane is linear in the weights: its gradient is what one mV decays to."""
    with jax.enable_x64(True):
        weights = {"p": jnp.asarray(1.5), "q": jnp.linspace(1.0, 2.0, 12)}  # one, and of each edge
        net = across_synapses(delay, weights, jsnn.EventDriven())
        steps = 40  # with a delay, blocks of three and a cut one

        def last(weights):
            where = lambda n: [n.synapses[name].weight for name in weights]
            own = eqx.tree_at(where, net, list(weights.values()))
            end = way(own, own.init(jax.random.key(0)), steps)
            return jnp.sum(end.populations["post"].cell["v"])

        found = jax.jit(jax.grad(last))(weights)
        left = np.array([steps - round((t + delay) / 0.1) for t in (0.3, 0.9, 1.1)])
        wanted = np.repeat(np.exp(-0.1 * left / float(net.populations["post"].neuron.tau_m)), 4)
        np.testing.assert_allclose(found["p"], wanted.sum(), rtol=1e-9)
        np.testing.assert_allclose(found["q"], wanted, rtol=1e-9)


def test_a_new_state_fits_weights_of_each_edge_put_in_later():
    net = across_synapses(0.3, 1.5, jsnn.EventDriven())
    state = net.init(jax.random.key(0))
    own = eqx.tree_at(lambda n: n.synapses["p"].weight, net, jnp.full(12, 1.5))
    found, wanted = state, state
    for _ in range(2):  # the program of whole blocks twice
        found, under_way = jsnn.simulate(own, found, 12).state, wanted
        wanted = jsnn.simulate(net, wanted, 12).state
    a, b = (end.populations["post"].cell["v"] for end in (found, wanted))
    np.testing.assert_allclose(a, b)
    with pytest.raises(ValueError, match="under way along 'p' are numbers of arrivals"):
        jsnn.simulate(own, under_way, 12)
