"""What is said of names and calls that do not exist, and of numbers in other units."""

import contextlib
import inspect
import pickle
import types
import warnings

import equinox as eqx
import pytest

import jsnn
from jsnn import nest as models
from jsnn._nest_defaults import STATES
from jsnn.connect import AllToAll, FixedIndegree
from jsnn.distributions import Normal, Uniform
from jsnn.inputs import NoiseCurrent, StepCurrent
from jsnn.neurons import LIF, AdEx, HodgkinHuxley
from jsnn.record import Spikes, States

pytestmark = pytest.mark.fast

# What users are handed, and do not make: its names are public, for `isinstance`
HANDED = {"Fit", "Solution", "Swept", "State", "Growth", "Grown", "Junctions", "Way", "Relaxation"}
HANDED |= {"PopulationState", "ReleaseState", "Rows", "Backward", "Synapses", "SlowCurrents"}
HANDED |= {"SpikeRecord", "SampleRecord", "SpikeValues", "Store", "Steps"}


def public():
    """All public classes and functions to call, by where they are."""
    modules = [m for name, m in vars(jsnn).items() if isinstance(m, types.ModuleType)]
    modules = [m for m in modules if not m.__name__.rpartition(".")[2].startswith("_")]
    for module in [jsnn, *modules]:
        for name, own in vars(module).items():
            at_home = getattr(own, "__module__", "").startswith("jsnn")
            if name.startswith("_") or name in HANDED or not at_home:
                continue
            if inspect.isclass(own) and issubclass(own, eqx.Module):
                yield own
    yield from (jsnn.run, jsnn.simulate, jsnn.fit, jsnn.sweep, jsnn.spread, jsnn.lesion)
    yield from (getattr(models, name) for name in (*models.DEFAULTS, *models.SYNAPSE_DEFAULTS))


PUBLIC = list({f"{own.__module__}.{own.__name__}": own for own in public()}.items())


@pytest.mark.parametrize(("name", "own"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_calls_that_do_not_fit_name_the_parameters(name, own):
    parameters = list(inspect.signature(own).parameters.values())
    several = {p.kind for p in parameters}
    if p := [p for p in parameters if p.default is p.empty and p.kind < p.VAR_KEYWORD]:
        with pytest.raises(TypeError, match=f"{own.__name__} lacks '{p[0].name}'"):
            own()
    with pytest.raises(TypeError, match=rf"{own.__name__} does not know what 'x' is.*its call is"):
        own(*["x"] * (1 + sum(p.kind < p.VAR_POSITIONAL for p in parameters)))
    if inspect.Parameter.VAR_KEYWORD not in several:
        first = f"{parameters[0].name}" if parameters else ""
        with pytest.raises(TypeError, match=rf"no parameter 'nonsense'.*\([*, ]*{first}"):
            own(nonsense=1)


MEANT = [
    (lambda: Normal(mu=1.0, sigma=2.0), "did you mean 'mean'"),
    (lambda: Uniform(min=1.0, max=2.0), "did you mean 'low'"),
    (lambda: jsnn.Population(LIF(), size=3), "did you mean 'n'"),
    (lambda: jsnn.Network({}, resolution=0.1), "did you mean 'dt'"),
    (lambda: LIF(tau=10.0), "LIF has no parameter 'tau': did you mean 'tau_m'"),
    (lambda: LIF(threshold=1.0), "did you mean 'v_th'"),
    (lambda: LIF(V_th=1.0), "did you mean 'v_th'"),
    (lambda: LIF(C_m=1.0), "did you mean 'c_m'"),
    (lambda: LIF(refractory=1.0), "did you mean 't_ref'"),
    (lambda: AdEx(gL=1.0), "did you mean 'g_l'"),
    (lambda: LIF(10), r"LIF does not know what 10 is; give it with its name.*\*, tau_m=10\.0"),
    (lambda: models.iaf_psc_alpha(10, {"tau_m": 20.0}), r"by name, as with \*\*\{'tau_m': 20\.0\}"),
    (lambda: Spikes("c", interval=1.0), r"Spikes has no parameter 'interval'.*Spikes\(cells\)"),
    (lambda: States("c", "v", interval=1.0), "did you mean 'every'"),
    (
        lambda: jsnn.Projection("a", "b", AllToAll(), {"weight": 1.0, "delay": 1.0}),
        r"dictionary holds by name.*\*\*\{'weight': 1\.0.*Projection\(pre, post, rule, \*, weight",
    ),
    (
        lambda: jsnn.Projection("a", "b", AllToAll(), syn_spec={"weight": 1.0}),
        "no parameter 'syn_spec'; give what the dictionary holds.*weight, delay",
    ),
    (lambda: FixedIndegree(3, indegree=3), "FixedIndegree got 'indegree' twice"),
]


@pytest.mark.parametrize(("call", "message"), MEANT)
def test_what_is_meant(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_what_else_is_wrong_is_said_as_before():
    with pytest.raises(TypeError, match="^tau_m='x' is not a number"):
        LIF(tau_m="x")
    with pytest.raises(ValueError, match="^tau_m=-1.0 must be above 0"):
        LIF(tau_m=-1.0)

    class Own(LIF):
        """Of its own parameters."""

        def __init__(self, speed):
            super().__init__(tau_m=1 / speed)

    assert float(Own(0.25).tau_m) == 4
    with pytest.raises(TypeError, match="Own.*'slow'"):
        Own(slow=1.0)
    assert pickle.loads(pickle.dumps(jsnn.run)) is jsnn.run
    assert pickle.loads(pickle.dumps(FixedIndegree(3))) == FixedIndegree(3)


@pytest.mark.parametrize("model", list(models.DEFAULTS))
def test_states_by_their_names_in_nest(model):
    cells = getattr(models, model)(2)
    network = jsnn.Network({"cells": cells}, dt=0.1)
    names = {**STATES, "ge": "ex.g", "vm": "v"}
    known = {name: ours for name, ours in names.items() if ours in cells.states and name != ours}
    assert len(known) > (2 if "delta" not in model else 1)
    for name, ours in known.items():
        with pytest.raises(ValueError, match=f"'cells' '{name}': did you mean '{ours}'"):
            States("cells", name).check(network)


def test_names_of_nest_that_are_not_there():
    with pytest.raises(AttributeError, match="no 'stdp_synapse': there are.*'tsodyks2_synapse'"):
        _ = models.stdp_synapse
    with pytest.raises(AttributeError, match="did you mean 'poisson_generator'"):
        _ = models.poison_generator
    with pytest.raises(AttributeError, match="did you mean 'iaf_psc_exp'"):
        _ = models.iaf_psc_expo
    with pytest.raises(AttributeError, match="'static_synapse': use jsnn.Projection"):
        _ = models.static_synapse
    assert not hasattr(models, "__all__")


SI = {
    "i_e=3e-10 pA": (lambda: LIF(tau_m=0.02, i_e=3e-10), 1e-4),
    "tau_m=0.02 ms in steps of dt=0.0001 ms": (lambda: LIF(tau_m=0.02), 1e-4),
    "c_m=2.5e-10 pF": (lambda: LIF(c_m=250e-12), 0.1),
    "e_l=-0.07 mV, v_th=-0.05 mV": (lambda: LIF(e_l=-0.07, v_th=-0.05, v_reset=-0.07), 0.1),
    "c_m=2.81e-10 pF, g_l=3e-08 nS": (lambda: AdEx(c_m=281e-12, g_l=30e-9), 0.1),
    "g_l=3e-08 nS": (lambda: HodgkinHuxley.squid(g_l=[3e-8, 3e-8]), 0.1),
}


@pytest.mark.parametrize("what", SI)
def test_seconds_volts_and_amperes(what):
    law, dt = SI[what]
    with pytest.warns(UserWarning, match=f"population 'c': .*{what}.*units are ms, mV, pA") as seen:
        refusal = pytest.raises(ValueError, match="too fast for RK4")
        with refusal if what.startswith("c_m=2.81e-10") else contextlib.nullcontext():
            jsnn.Network({"c": jsnn.Population(law(), 2)}, dt=dt)
    assert [w.filename for w in seen] == [__file__]


@pytest.mark.parametrize(
    "source",
    [NoiseCurrent("c", 0.0, 3e-10), StepCurrent("c", [1.0, 2.0], [3e-10, 0.0])],
)
def test_currents_in_amperes(source):
    with pytest.warns(UserWarning, match="input 's': .*3e-10 pA"):
        jsnn.Network({"c": jsnn.Population(LIF(), 2)}, {}, {"s": source}, dt=0.1)


@pytest.mark.parametrize(
    ("law", "dt"),
    [
        (lambda: LIF(tau_m=20.0, c_m=1.0, e_l=0.0, v_th=1.0, v_reset=0.0), 0.1),
        (lambda: LIF(tau_m=1.0, c_m=1.0, e_l=0.0, v_th=1.0, v_reset=0.0, i_e=1e-3), 1e-3),
        (lambda: LIF(tau_m=0.05, t_ref=0.0), 0.01),
        (lambda: LIF(i_e=[0.0, 1e-9, 300.0]), 1e-4),
        (lambda: LIF(e_l=-0.1, v_th=0.1, v_reset=-0.1), 0.1),
        (lambda: HodgkinHuxley.squid(g_l=0.0), 1e-4),
    ],
)
def test_scaled_numbers_are_left_alone(law, dt):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jsnn.Network({"c": jsnn.Population(law(), 3)}, dt=dt)
