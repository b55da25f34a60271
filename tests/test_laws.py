"""Laws and filters that users derive from others: right ones run, and what they forget to say is
refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import populations

import jsnn
from jsnn._law_checks import check_law
from jsnn.neurons import LIF, AdEx
from jsnn.receptors import Alpha, Exponential
from jsnn.record import States
from jsnn.solvers import RK4, Exact
from jsnn.surrogate import Triangular

pytestmark = pytest.mark.fast


class Quadratic(LIF):
    """dv/dt = (v - e_l) (v + 50) / (10 tau_m): not linear, which it does not say."""

    def vector_field(self, values, current, frozen):
        v = values["v"]
        slope = (v - self.e_l) * (v + 50.0) / (10 * self.tau_m) + (current(v) + self.i_e) / self.c_m
        return {"v": jnp.where(frozen, 0, slope)}


class HonestQuadratic(Quadratic):
    @property
    def is_linear(self):
        return False


class Adapting(LIF):
    """A second state, linear, with operations whose linearity only numbers tell."""

    def initial(self):
        return {"v": self.e_l, "w": 0.0 * self.e_l}

    def vector_field(self, values, current, frozen):
        v = values["v"]
        slope = jnp.stack([self.e_l - v, -values["w"]]).sum(0) / self.tau_m
        slope = slope + (current(v) + self.i_e) / self.c_m
        return {
            "v": jnp.where(frozen, 0, slope),
            "w": ((v - self.e_l) - values["w"]) / 100.0,
        }


class Rectified(LIF):
    """Piecewise linear: by its operations, and by numbers, it is not linear."""

    def vector_field(self, values, current, frozen):
        slopes = super().vector_field(values, current, frozen)
        return {"v": slopes["v"] - 0.1 * jnp.maximum(values["v"] + 60.0, 0)}


def advanced(population, steps=50):
    net = jsnn.Network({"c": population}, dt=0.1)
    record = {"v": States("c", "v")}
    return np.asarray(
        jsnn.simulate(net, net.init(jax.random.key(0)), steps, record).records["v"].values
    )


@pytest.mark.parametrize("law", [Quadratic, Rectified])
@pytest.mark.parametrize("solver", [None, Exact()])
def test_a_law_that_forgets_that_it_is_not_linear(law, solver):
    with pytest.raises(ValueError, match=rf"vector field of {law.__name__} is not linear.*RK4\(\)"):
        jsnn.Population(law(i_e=np.array([0.0, 3.0])), 2, {"s": Alpha(2.0)}, solver=solver)


def test_the_same_law_put_in_the_place_of_another():
    population = jsnn.Population(LIF(), 2)
    other = eqx.tree_at(lambda p: p.neuron, population, Quadratic())
    with pytest.raises(ValueError, match="population 'c'.*Quadratic"):
        jsnn.Network({"c": other}, dt=0.1)


def test_a_law_that_says_so_is_integrated(x64):
    law = HonestQuadratic(v_th=1e3, i_e=20.0)
    own = jsnn.Population(law, 1, initial={"v": -60.0})
    assert isinstance(own.solver, RK4)
    v = advanced(own)[-1, 0]
    wanted = -60.0
    for _ in range(50000):  # Euler, at a thousandth of the step
        wanted += 1e-4 * ((wanted + 70) * (wanted + 50) / 100 + 20 / 250)
    assert abs(v - wanted) < 1e-4


def test_a_linear_law_that_operations_do_not_show(x64):
    """The one that takes numbers to see that it is linear is integrated exactly."""
    law = Adapting(i_e=100.0, v_th=1e3)
    own = jsnn.Population(law, 2, {"s": Exponential(2.0)})
    assert isinstance(own.solver, Exact)
    rk4 = jsnn.Population(law, 2, {"s": Exponential(2.0)}, solver=RK4(8))
    np.testing.assert_allclose(advanced(own), advanced(rk4), rtol=1e-10)


class Paceless(AdEx):
    def vector_field(self, inner, current, frozen):
        return super().vector_field(inner, current, frozen)


def test_a_law_that_strong_conductances_cannot_hold_back():
    assert jsnn.Population(Paceless(), 1, {"s": Exponential(2.0)}).n == 1
    with pytest.raises(ValueError, match="Paceless.vector_field takes no pace"):
        jsnn.Population(Paceless(), 1, {"s": Exponential(2.0, -85.0)})


class Leakier(LIF):
    def vector_field(self, values, current, frozen):
        slopes = super().vector_field(values, current, frozen)
        return {"v": slopes["v"] - 0.5 * (values["v"] - self.e_l) / self.tau_m}


def test_usual_laws_are_looked_at_without_compiling(caplog):
    laws = [LIF(), Leakier(tau_m=np.array([10.0, 11.0]))]
    receptors = {"s": Alpha(2.0), "t": Exponential(np.array([1.0, 2.0]))}
    near = Triangular()
    jax.clear_caches()
    with jax.log_compiles():
        for law in laws:
            assert jsnn.Population(law, 2, receptors, surrogate=near).solver == Exact()
        assert "Compiling" not in caplog.text
        jsnn.Population(Adapting(), 2)  # here numbers decide
        assert "Compiling" in caplog.text


class Soft(LIF):
    """dv/dt = -v / tau_m + tanh(i / c_m): not linear in the current."""

    def vector_field(self, values, current, frozen):
        v = values["v"]
        return {"v": jnp.where(frozen, 0, jnp.tanh(current(v) / self.c_m) - v / self.tau_m)}


def test_under_a_trace_other_numbers_tell():
    """In the place of parameters that are not known."""

    def of(law):
        def start(numbers):
            law_ = law(i_e=numbers[0], c_m=numbers[1])
            return jsnn.Population(law_, 1, {"s": Alpha(2.0)}).init(jax.random.key(0)).cell["v"]

        return start

    numbers = jnp.array([[3.0, 250.0], [0.0, 200.0]])
    for law in (LIF, Leakier, Adapting):
        assert jax.jit(of(law))(numbers[0]).shape == (1,)
        assert jax.vmap(of(law))(numbers).shape == (2, 1)
    for law in (Quadratic, Rectified, Soft):
        start = of(law)
        for run in (start, jax.jit(start), jax.grad(lambda x, f=start: jnp.sum(f(x)))):
            with pytest.raises(ValueError, match=f"{law.__name__} is not linear"):
                run(numbers[0])
        with pytest.raises(ValueError, match=f"{law.__name__} is not linear"):
            jax.vmap(of(law))(numbers)


def test_numbers_that_a_law_does_not_hold_are_not_asked():
    @jax.jit
    def run(rate):
        class Closed(LIF):
            def vector_field(self, values, current, frozen):
                return {"v": -values["v"] * jnp.abs(rate)}

        return jsnn.Population(Closed(), 1).init(jax.random.key(0)).cell["v"]

    assert run(3.0).shape == (1,)


class Saturating(Exponential):
    """A filter that is not linear, with an `after` that is."""

    def vector_field(self, values):
        return {"i": -values["i"] * values["i"] / self.tau}

    def after(self, values, elapsed):
        return {"i": values["i"] / (1 + elapsed * values["i"] / self.tau)}


class Resting(Exponential):
    """A filter that decays to 1 pA, which is linear, but not what `Exact` keeps of filters."""

    def vector_field(self, values):
        return {"i": (1.0 - values["i"]) / self.tau}

    def after(self, values, elapsed):
        return {"i": 1 + (values["i"] - 1) * jnp.exp(-elapsed / self.tau)}


def renamed(part):
    """The same law under another name, which is looked at."""
    other = object.__new__(type("Renamed", (type(part),), {}))
    for name, value in vars(part).items():
        object.__setattr__(other, name, value)
    return other


def test_laws_of_the_package_are_what_they_say():
    for own in populations().values():
        receptors = {name: renamed(receptor) for name, receptor in own.receptors.items()}
        check_law(renamed(own.neuron), receptors, own.solver)


class HalfWritten(Exponential):
    def vector_field(self, values):
        return {"i": -0.5 * values["i"] / self.tau}


@pytest.mark.parametrize("receptor", [Saturating, Resting])
def test_filters_that_exact_cannot_take(receptor):
    with pytest.raises(ValueError, match=rf"{receptor.__name__} is not linear"):
        jsnn.Population(LIF(), 1, {"s": receptor(2.0)})
    jsnn.Population(LIF(), 1, {"s": receptor(2.0)}, solver=RK4())


def test_a_filter_of_which_half_is_written():
    assert jsnn.Population(LIF(), 1, {"s": HalfWritten(2.0)}).solver == Exact()
    with pytest.raises(ValueError, match=r"'s': HalfWritten has a vector_field\(\) of its own"):
        jsnn.Population(LIF(), 1, {"s": HalfWritten(2.0)}, solver=RK4())


def declared(base=LIF, **values):
    """A law that declares other things than the one it is derived from."""
    return type("Odd", (base,), {k: property(lambda self, v=v: v) for k, v in values.items()})


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (declared(frozen=("v", "w")), r"Odd.frozen names \['w'\].*\['v'\]"),
        (declared(resets_within=True), r"Odd.resets_within is True.*reset_within"),
        (declared(AdEx, resets_within=False), r"Odd.resets_within is False.*AdEx"),
        (declared(is_spiking=False), "Odd.is_spiking is False"),
        (type("Odd", (LIF,), {"initial": Adapting.initial}), r"slopes of \['v'\].*\['v', 'w'\]"),
    ],
    ids=["frozen", "resets", "coordinates", "spiking", "states"],
)
def test_declarations_that_contradict_the_law(law, message):
    with pytest.raises(ValueError, match=message):
        jsnn.Population(law(), 1, solver=RK4())
