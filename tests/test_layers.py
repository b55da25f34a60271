"""A file imports only from floors below its own, and nothing inside the package its `__init__`."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

PACKAGE = Path(__file__).parent.parent / "jsnn"

FLOORS = [
    {"_files", "_content", "_interrupts"},
    {"_names"},
    {"_math", "_derivatives", "_random", "_draw", "_one_kernel", "_sorting", "spikes"},
    {"surrogate", "adjoint", "solvers", "receptors", "distributions", "edges", "_spike_checks"},
    {"_points", "_slots", "_working_set", "transforms"},
    {"growth", "analysis", "distances", "losses", "delays", "export", "_plot_checks", "_swept"},
    {"_coordinates"},
    {
        "neurons.lif",
        "neurons.adex",
        "neurons.hodgkin_huxley",
        "neurons",
        "astrocytes.li_rinzel",
        "astrocytes",
        "_resets",
        "_system",
        "inputs._common",
        "connect",
        "_divide",
        "release",
        "rewire",
        "_store",
    },
    {"inputs._time"},
    {"inputs.poisson", "inputs.spike_list", "inputs.currents", "inputs", "tripartite"},
    {"_population_checks", "_pairing", "order"},
    {"_law_checks"},
    {"population", "_rows"},
    {"_spike_rows", "_sums"},
    {"_one_by_one"},
    {"coupling"},
    {"_event_driven", "exchange", "_slow"},
    {"_gradient_rows"},
    {"delivery", "state"},
    {"projection", "_synapses", "records"},
    {"_external", "_memory"},
    {"_build", "_advance", "_parts", "_rewire", "_units"},
    {"network"},
    {"_samples", "_status"},
    {"_synapse_states"},
    {"record"},
    {"_block", "_checkpoint", "_lesion", "_updates"},
    {"_walk"},
    {"_reverse"},
    {"_loop"},
    {"_simulate"},
    {"_run", "_sweep", "_descent"},
    {"_fit"},
    {"_nest_growth"},
    {"_nest_defaults", "_nest_devices"},
    {"plot", "nest"},
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if name != "__init__":
            yield name.removesuffix(".__init__"), path


def imported(path):
    """The modules of the package that a file imports, in whichever way it is written."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "." * node.level + (node.module or "")
        elif isinstance(node, ast.ImportFrom) and node.module == "jsnn":
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jsnn."):
            yield node.module.removeprefix("jsnn.")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "jsnn" or alias.name.startswith("jsnn."):
                    yield alias.name.removeprefix("jsnn").removeprefix(".") or "__init__"


def test_every_module_has_a_floor():
    assert {name for name, _ in modules()} == set(FLOOR)


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value))
def test_imports_go_down(name, path):
    for other in imported(path):
        assert other in FLOOR, f"{name} imports {other}, which is no module of the package"
        if other.startswith(f"{name}."):
            continue  # a package only hands its names on
        assert FLOOR[other] < FLOOR[name], f"{name} imports {other} from no lower floor"


def test_packages_only_hand_names_on():
    for init in PACKAGE.rglob("__init__.py"):
        for node in ast.parse(init.read_text()).body:
            assert isinstance(node, ast.ImportFrom), f"{init}: {ast.unparse(node)}"
            assert all(alias.asname in (None, alias.name) for alias in node.names)
