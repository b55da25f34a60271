"""A random structure of a network: what of it is static, written as the lines that build it.

Everything is drawn from the number of the structure. What it holds are calls, so that a network
that fails can be shown, and cut down, as a few lines of Python.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

STEPS = 256  # of a run; `jsnn.run` makes room for a power of two


@dataclass
class Call:
    """`name(*args, **options)`. Options can be left out; `args` may hold calls and dictionaries."""

    name: str
    args: list[Any] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = [f"{key}={_text(value)}" for key, value in self.options.items()]
        return f"{self.name}({', '.join([*map(_text, self.args), *options])})"

    def inner(self) -> Iterator["Call"]:
        """This call and all in it."""
        yield self
        for value in (*self.args, *self.options.values()):
            several = value.values() if isinstance(value, dict) else [value]
            for one in several:
                if isinstance(one, Call):
                    yield from one.inner()


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_text(own)}" for key, own in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


@dataclass
class Structure:
    """The parts of a network by name, what is recorded, and of which kinds they are."""

    number: int
    dt: float
    double: bool
    populations: dict[str, Call]
    projections: dict[str, Call]
    inputs: dict[str, Call]
    couplings: dict[str, Call]
    options: dict[str, Call]
    record: dict[str, Call]
    adjoint: Call
    features: set[str]

    def __str__(self) -> str:
        """Python that builds it, in the names of `build.NAMES`."""
        lines = [f"dt = {self.dt}  # {'float64' if self.double else 'float32'}"]
        for part in ("populations", "projections", "inputs", "couplings"):
            if own := getattr(self, part):
                lines += [f"{part} = {{"]
                lines += [f"    {name!r}: {call}," for name, call in own.items()] + ["}"]
        given = [f"{part}={part}" for part in ("couplings",) if getattr(self, part)]
        given += [f"{key}={value}" for key, value in self.options.items()]
        parts = [part if getattr(self, part) else "{}" for part in ("projections", "inputs")]
        lines += [
            f"network = Network(populations, {', '.join(parts)}, "
            f"{', '.join(['dt=dt', 'key=key', *given])})",
            f"record = {_text(self.record)}",
            f"adjoint = {self.adjoint}",
        ]
        return "\n".join(lines)


def structure(number: int) -> Structure:
    """The structure of this number."""
    return _Draw(number).made()


class _Draw:
    """Draws the parts in turn; later ones look at what there is."""

    def __init__(self, number: int):
        self.number, self.rng = number, np.random.default_rng([7, number])
        self.features: set[str] = set()
        self.populations: dict[str, Call] = {}
        self.sizes: dict[str, int] = {}
        self.laws: dict[str, str] = {}
        self.receptors: dict[str, dict[str, str]] = {}  # kinds by name
        self.slices: dict[str, dict[str, tuple[int, int]]] = {}
        self.projections: dict[str, Call] = {}
        self.inputs: dict[str, Call] = {}
        self.couplings: dict[str, Call] = {}
        self.options: dict[str, Call] = {}
        self.record: dict[str, Call] = {}
        self.least_delay = STEPS
        self.released: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.growing: list[str] = []

    # Draws

    def seed(self) -> int:
        return int(self.rng.integers(1000))

    def between(self, low: float, high: float) -> float:
        return float(f"{self.rng.uniform(low, high):.3g}")

    def whole(self, low: int, high: int) -> int:
        """From low to high, both among them."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def one_of(self, kind: str, choices: dict[str, float]) -> str:
        """One of the choices, by their weights; it is a feature."""
        names = list(choices)
        weights = np.array(list(choices.values()), float)
        found = names[self.rng.choice(len(names), p=weights / weights.sum())]
        self.features.add(f"{kind}: {found}")
        return found

    def often(self, kind: str, p: float) -> bool:
        """Whether something is there; it is a feature then."""
        if not self.chance(p):
            return False
        self.features.add(kind)
        return True

    def number_or_each(self, low: float, high: float, n: int, p: float = 0.4) -> Any:
        """A parameter: a number, one for each cell, or a distribution of them."""
        if not self.chance(p):
            return self.between(low, high)
        a = self.between(low, high)
        b = self.between(a, high)
        if b <= a or self.chance(0.6):
            self.features.add("parameters: of each cell")
            return f"spread({self.seed()}, {a:.4g}, {b:.4g}, {n})"
        self.features.add("parameters: drawn")
        return f"Uniform({a:.4g}, {b:.4g})"

    # Parts

    def made(self) -> Structure:
        rng = self.rng
        self.double = self.one_of("precision", {"float64": 0.55, "float32": 0.45}) == "float64"
        several = self.whole(1, 3)
        self.joined = self.often("coupling: gap junctions", 0.25)
        astrocytes = self.often("law: LiRinzel", 0.25)
        grows = not self.joined and self.often("growing", 0.25)
        self.solver_of_joined: str | None = None
        laws = {"LIF": 0.6, "AdEx": 0.25, "HodgkinHuxley": 0.15}
        names = ["a", "b", "c"][:several]
        chosen = [self.one_of("law", laws) for _ in names]
        if self.joined:
            chosen = ["LIF" if own == "AdEx" else own for own in chosen]
            self.features -= {"law: AdEx"}
            if "HodgkinHuxley" in chosen:  # one solver for all
                self.solver_of_joined = "Splitting((2, 4))"
            else:
                solvers = {"RK4()": 1, "RK4(2)": 1, "Splitting((2, 4))": 1, "Euler()": 0.5}
                self.solver_of_joined = str(rng.choice(list(solvers)))
            for own in chosen:
                self.features.add(f"law: {own}")
        steep = {"AdEx", "HodgkinHuxley"} & set(chosen)
        self.dt = 0.1 if steep or self.joined else float(rng.choice([0.1, 0.2, 0.25]))
        for name, law in zip(names, chosen, strict=True):
            self.population(name, law, grows)
        if astrocytes:
            self.astrocytes()
        if grows:
            self.grown(names)
        for k in range(self.whole(2, 4) - grows):
            self.projection(f"p{k}", names)
        if astrocytes:
            self.third_factor(names)
        if self.joined:
            self.gap_junctions(names)
        for k in range(self.whole(1, 3)):
            self.source(f"i{k}", names)
        self.network_options()
        self.recorders(names)
        return Structure(
            self.number,
            self.dt,
            self.double,
            self.populations,
            self.projections,
            self.inputs,
            self.couplings,
            self.options,
            self.record,
            self.adjoint(),
            self.features,
        )

    def size(self, name: str) -> int:
        sizes = {"1": 0.1, "below 32": 0.3, "up to 128": 0.3, "above 128": 0.3}
        which = self.one_of("cells", sizes)
        low, high = {"1": (1, 1), "below 32": (3, 31)}.get(which, (33, 127))
        low, high = (130, 270) if which == "above 128" else (low, high)
        self.sizes[name] = n = self.whole(low, high)
        self.slices[name] = {}
        if n > 8:
            at = self.whole(2, n - 3)
            self.slices[name] = {"low": (0, at), "high": (at, n)}
        return n

    def population(self, name: str, law: str, grows: bool) -> None:
        n = self.size(name)
        receptors, kinds = {}, {}
        filters = {"Delta": 0.3, "Exponential": 0.4, "Alpha": 0.3}
        for k in range(self.whole(1, 3)):
            kind = self.one_of("receptor", filters)
            own = f"r{k}"
            if kind == "Delta":
                if "Delta" in kinds.values():
                    continue
                receptors[own], kinds[own] = Call("Delta"), "Delta"
                continue
            made = Call(kind, [self.number_or_each(0.6, 6.0, n)])
            kinds[own] = "current"
            if self.chance(0.45):
                kinds[own] = "excitation" if self.chance(0.6) else "inhibition"
                e_rev = 0.0 if kinds[own] == "excitation" else -80.0
                made.options["e_rev"] = e_rev
                self.features.add(f"receptor: conductance {kind}")
            receptors[own] = made
        self.receptors[name], self.laws[name] = kinds, law
        conductances = {"excitation", "inhibition"} & set(kinds.values())
        options: dict[str, Any] = {}
        # Refractory times: none, one, of each cell
        most = self.whole(1, 25)
        t_ref: Any = {0: "0.0", 1: f"{most} * dt", 2: f"steps({self.seed()}, 0, {most}, {n}) * dt"}[
            self.whole(0, 2)
        ]
        self.features.add("t_ref: " + ("none" if t_ref == "0.0" else "some"))
        if law == "LIF":
            c_m, tau_m = self.between(100, 300), self.between(4.0, 10.0)
            rheobase = 15.0 * c_m / tau_m
            i_e: Any = rheobase * self.between(1.2, 2.5)
            if self.chance(0.6):
                i_e = f"spread({self.seed()}, {0.6 * rheobase:.4g}, {2.6 * rheobase:.4g}, {n})"
            given = {"c_m": c_m, "tau_m": tau_m, "i_e": i_e, "t_ref": t_ref}
            given["v_reset"] = self.number_or_each(-75.0, -62.0, n, 0.3)
            if self.chance(0.2):
                given["tau_m"] = self.number_or_each(4.0, 10.0, n, 1.0)
            solvers = {"RK4()": 1, "RK4(2)": 0.5, "ExponentialEuler()": 1, "Euler()": 0.7}
            solvers["Splitting((2, 4))"] = 0.3
            if not conductances:
                solvers["Exact()"] = 4
        elif law == "AdEx":
            given = {"t_ref": t_ref, "i_e": f"spread({self.seed()}, 600, 1700, {n})"}
            given["b"] = self.between(10, 80)
            if self.chance(0.3):
                given["a"] = self.number_or_each(2.0, 6.0, n)
            solvers = {"RK4()": 2, "RK4(2)": 1, "ExponentialEuler()": 1, "Euler()": 1}
        else:
            i_e = f"spread({self.seed()}, 200, 700, {n})"
            given = {"i_e": i_e, "t_ref": t_ref if t_ref != "0.0" else "10 * dt"}
            spike = self.one_of("spike", {"AtMaximum": 2, "Crossing": 1, "Above": 1})
            given["spike"] = Call(spike)
            if spike != "AtMaximum":
                given["v_th"] = -20.0
            solvers = {"Splitting((2, 4))": 2, "ExponentialEuler()": 1, "RK4(16)": 0.5}
        if self.joined:
            solver = self.solver_of_joined
            self.features.add("solver: " + str(solver).partition("(")[0])
        else:
            solver = self.drawn_solver(solvers)
        if solver is not None:
            options["solver"] = solver
        if self.slices[name]:
            own = {key: f"slice({a}, {b})" for key, (a, b) in self.slices[name].items()}
            options["slices"] = own
        rest = -65.0 if law == "HodgkinHuxley" else -70.0
        if self.often("initial: drawn", 0.5):
            options["initial"] = {"v": f"Uniform({rest}, {rest + 12})"}
        elif self.chance(0.4):
            self.features.add("initial: of each cell")
            options["initial"] = {"v": f"spread({self.seed()}, {rest}, {rest + 12}, {n})"}
        if self.chance(0.4):
            names = {"Triangular": 1, "Boxcar": 1, "SuperSpike": 1, "Arctan": 1, "Sigmoid": 1}
            which = self.one_of("surrogate", names)
            path = "surrogate." if which == "Sigmoid" else ""
            options["surrogate"] = Call(path + which)
        if grows or self.often("calcium", 0.15):
            calcium = Call("Calcium", [self.between(20, 200), self.between(0.01, 0.08)])
            if self.often("calcium: as_nest", 0.3):
                calcium.options["as_nest"] = "True"
            options["calcium"] = calcium
        if grows:
            curves = {"Linear": [0.3], "Gaussian": [0.0, 0.3], "Sigmoid": [0.3, 0.1]}
            options["elements"] = {}
            for element in ("axon", "dendrite"):
                curve = self.one_of("growth", {key: 1.0 for key in curves})
                path = "growth." if curve == "Sigmoid" else ""
                own = Call("SynapticElements", [Call(path + curve, curves[curve])])
                own.args.append(self.between(0.05, 0.3))
                options["elements"][element] = own
                options.setdefault("initial", {})[element] = "Uniform(0.0, 3.0)"
        if law == "LIF" and not self.joined and self.often("compensated", 0.15):
            options["compensated"] = "True"
        path = "HodgkinHuxley.interneuron" if law == "HodgkinHuxley" else law
        self.populations[name] = Call("Population", [Call(path, [], given), n, receptors], options)

    def drawn_solver(self, solvers: dict[str, float]) -> str:
        names, weights = list(solvers), np.array(list(solvers.values()))
        found = names[self.rng.choice(len(names), p=weights / weights.sum())]
        self.features.add("solver: " + found.partition("(")[0])
        return found

    def astrocytes(self) -> None:
        n = self.size("glia")
        self.laws["glia"], self.receptors["glia"] = "LiRinzel", {"x": "Delta"}
        given = {"delta_ip3": self.number_or_each(0.05, 0.3, n), "sic_th": 0.1}
        options = {"initial": {"ca": f"spread({self.seed()}, 0.1, 0.6, {n})"}}
        if self.slices["glia"]:
            own = {key: f"slice({a}, {b})" for key, (a, b) in self.slices["glia"].items()}
            options["slices"] = own
        if self.chance(0.3):
            options["compensated"] = "True"
        law = Call("LiRinzel", [], given)
        self.populations["glia"] = Call("Population", [law, n, {"x": Call("Delta")}], options)

    def address(self, names: list[str], p: float = 0.35) -> tuple[str, str, int]:
        """An address, its population, and how many cells it means."""
        name = names[self.whole(0, len(names) - 1)]
        if self.slices[name] and self.often("slices", p):
            part = ("low", "high")[self.whole(0, 1)]
            low, high = self.slices[name][part]
            return f"{name}.{part}", name, high - low
        return name, name, self.sizes[name]

    def rule(self, n_pre: int, n_post: int, same: bool) -> tuple[Any, int | None]:
        """A rule, and how many edges it makes if that is known."""
        rules = {"FixedIndegree": 3, "FixedOutdegree": 1, "FixedTotalNumber": 1.5, "Pairs": 2}
        rules |= {"PairwiseBernoulli": 1.5, "Edges": 0.7}
        if n_pre * n_post < 900:
            rules["AllToAll"] = 1
        if n_pre == n_post:
            rules["OneToOne"] = 2
        which = self.one_of("rule", rules)
        options = {}
        if same and n_pre > 10 and which not in ("Pairs", "Edges", "OneToOne") and self.chance(0.3):
            self.features.add("autapses: none")
            options["autapses"] = "False"
        few = min(n_pre, n_post) > 12 and which.startswith("Fixed")
        if few and self.often("multapses: none", 0.3):
            options["multapses"] = "False"
        number = self.whole(1, 5 * max(n_pre, n_post)) if max(n_pre, n_post) > 1 else 3
        if which == "FixedIndegree":
            k = self.whole(1, 8)
            return Call(which, [k], options), k * n_post
        if which == "FixedOutdegree":
            k = self.whole(1, 8)
            return Call(which, [k], options), k * n_pre
        if which == "FixedTotalNumber":
            number = min(number, n_pre * n_post // 2 + 1)
            return Call(which, [number], options), number
        if which in ("Pairs", "Edges"):
            name = "pairs" if which == "Pairs" else "edges"
            return Call(name, [self.seed(), n_pre, n_post, number]), number
        if which == "PairwiseBernoulli":
            return Call(which, [f"{min(0.9, 4 / n_pre + 0.02):.3f}"], options), None
        return Call(which, [], options if which == "AllToAll" else {}), None

    def weights(self, kind: str, n_edges: int | None) -> Any:
        """One weight, one drawn for each edge, or given ones."""
        low, high = {"Delta": (0.2, 1.5), "current": (20, 250)}.get(kind, (0.5, 5.0))
        sign = -1 if kind in ("Delta", "current") and self.chance(0.3) else 1
        low, high = sorted((sign * low, sign * high))
        kinds = {"one": 1.0, "drawn": 0.8} | ({} if n_edges is None else {"given": 0.8})
        which = self.one_of("weight", kinds)
        if which == "one":
            return self.between(low, high)
        if which == "drawn":
            if self.chance(0.5):
                return f"Uniform({low:.4g}, {high:.4g})"
            mean, width = (low + high) / 2, abs(high - low) / 4
            return f"Normal({mean:.4g}, {width:.4g}, {low:.4g}, {high:.4g})"
        return f"spread({self.seed()}, {low:.4g}, {high:.4g}, {n_edges})"

    def delays(self, n_edges: int | None, *, between: bool = True, zero: bool = True) -> Any:
        kinds = {"one step": 1, "some steps": 3, "beyond a block": 0.7, "drawn": 2.5}
        kinds |= {} if n_edges is None else {"given": 1.5}
        if between:
            kinds["between steps"] = 0.8
        if zero:
            kinds["none"] = 0.8
            if n_edges is not None and n_edges > 1:
                kinds["none and some"] = 0.8
        which = self.one_of("delay", kinds)
        least = {"one step": 1, "none": 0, "none and some": 0}.get(which)
        if which in ("one step", "none"):
            made: Any = f"{least} * dt"
        elif which == "none and some":
            made = f"steps({self.seed()}, 0, {self.whole(1, 12)}, {n_edges}) * dt"
        elif which == "some steps":
            least = self.whole(2, 20)
            made = f"{least} * dt"
        elif which == "beyond a block":
            least = self.whole(65, 80)
            made = f"{least} * dt"
        elif which == "drawn":
            least = self.whole(1, 8)
            made = f"Uniform({least} * dt, {self.whole(least + 1, 40)} * dt)"
        elif which == "given":
            least = self.whole(1, 8)
            made = f"steps({self.seed()}, {least}, {self.whole(least + 1, 40)}, {n_edges}) * dt"
        else:
            least = self.whole(1, 6)
            most = self.whole(least + 1, 20)
            value: Any = f"{self.between(least, most)} * dt"
            if n_edges is not None and self.chance(0.6):
                value = f"spread({self.seed()}, {least}, {most}, {n_edges}) * dt"
            elif self.chance(0.5):
                value = f"Uniform({least} * dt, {most} * dt)"
            made = Call("Interpolated", [value, f"{least} * dt", f"{most} * dt"])
        self.least_delay = min(self.least_delay, least if least is not None else 1)
        return made

    def release(self, n_pre: int, n_edges: int | None) -> Call:
        which = self.one_of("release", {"TsodyksMarkram": 1, "MaassMarkram": 1, "Tsodyks": 1})
        kinds = {"all": 1.0, "edges": 1.3}
        if n_edges != n_pre and n_edges is not None:  # or nobody knows which are meant
            kinds["sources"] = 1.0
        per = self.one_of("release of", kinds)
        U: Any = self.between(0.2, 0.8)
        if per == "sources":
            U = f"spread({self.seed()}, 0.2, 0.8, {n_pre})"
        elif per == "edges":
            U = "Uniform(0.2, 0.8)"
            if "sources" in kinds and self.chance(0.5):
                U = f"spread({self.seed()}, 0.2, 0.8, {n_edges})"
        options: dict[str, Any] = {"tau_rec": self.between(5, 80)}
        if self.chance(0.6):
            options["tau_fac"] = self.between(5, 80)
        if which == "Tsodyks":
            options["tau_psc"] = self.between(1, 5)
        return Call(which, [U], options)

    def projection(self, name: str, names: list[str]) -> None:
        pre, source, n_pre = self.address(names)
        post, target, n_post = self.address(names)
        several = len(names) > 1 and self.often("lists of populations", 0.15)
        kinds = self.receptors[target]
        receptor = list(kinds)[self.whole(0, len(kinds) - 1)]
        if several:
            pre, n_pre = str(list(names)), sum(self.sizes[own] for own in names)
        rule, n_edges = self.rule(n_pre, n_post, pre == post)
        options: dict[str, Any] = {}
        released = self.chance(0.35)
        if released:
            options["release"] = self.release(n_pre, None if several else n_edges)
        known = None if several else n_edges
        weight, delay = self.weights(kinds[receptor], known), self.delays(known)
        made = Call("Projection", [pre if several else repr(pre), repr(post), rule], options)
        made.options |= {"weight": weight, "delay": delay, "receptor": repr(receptor)}
        self.projections[name] = made
        if released and not several:
            states = {"Tsodyks": ("u", "x", "y", "r")}.get(options["release"].name, ("u", "x", "r"))
            self.released[name] = (source, states)

    def grown(self, names: list[str]) -> None:
        post = names[self.whole(0, len(names) - 1)]
        lists = len(names) > 1 and self.often("growing: lists", 0.4)
        pre = str(list(names)) if lists else repr(names[self.whole(0, len(names) - 1)])
        kinds = self.receptors[post]
        receptor = list(kinds)[self.whole(0, len(kinds) - 1)]
        grow = Call("Growing", ["'axon'", "'dendrite'"])
        options: dict[str, Any] = {"growing": grow}
        rule = "NoEdges()" if self.chance(0.5) else "FixedIndegree(1)"
        weight: Any = self.weights(kinds[receptor], None)
        if isinstance(weight, str):
            low, high = {"Delta": (0.2, 1.5), "current": (20, 250)}.get(kinds[receptor], (0.5, 5.0))
            grow.options["weight"] = self.between(low, high)
        for key in ("autapses", "multapses"):
            if self.often(f"growing: no {key}", 0.3):
                grow.options[key] = "False"
        if not lists and self.sizes[post] > 2 and self.often("growing: by distance", 0.25):
            n_pre = self.sizes[pre.strip("'")]
            places = [f"spread({self.seed()}, 0, 1, {n})" for n in (n_pre, self.sizes[post])]
            grow.options["pairing"] = Call("ByDistance", [0.3, *places])
        least = self.whole(1, 12)
        delay: Any = f"{least} * dt"
        if rule != "NoEdges()" and self.chance(0.4):
            delay = f"Uniform({least} * dt, {least + 9} * dt)"
            grow.options["delay"] = f"{least + 2} * dt"
        self.least_delay = min(self.least_delay, least)
        made = Call("Projection", [pre, repr(post), rule], options)
        made.options |= {"weight": weight, "delay": delay, "receptor": repr(receptor)}
        self.projections["grows"] = made
        self.growing.append("grows")
        interval = self.whole(11, 70)
        self.options["rewiring"] = Call("Rewiring", [f"{interval} * dt"])

    def third_factor(self, names: list[str]) -> None:
        """Spikes onto astrocytes, and their slow currents."""
        pre, _, n_pre = self.address(names)
        n = self.sizes["glia"]
        rule, n_edges = self.rule(n_pre, n, False)
        weight, delay = self.between(0.3, 1.0), self.delays(n_edges, between=False)
        made = Call("Projection", [repr(pre), "'glia'", rule])
        made.options |= {"weight": weight, "delay": delay, "receptor": "'x'"}
        self.projections["third"] = made
        if not self.often("coupling: slow currents", 0.85):
            return
        post, _, n_post = self.address(names)
        least = self.whole(1, 9)
        spread_delay = f"Uniform({least} * dt, {least + self.whole(1, 3)} * dt)"
        delay = spread_delay if self.often("slow: several delays", 0.5) else f"{least} * dt"
        weight = "Uniform(1.0, 20.0)" if self.chance(0.5) else self.between(5.0, 30.0)
        rule = Call("FixedIndegree", [self.whole(1, 3)])
        made = Call("SlowInwardCurrent", ["'glia'", repr(post), rule])
        made.options |= {"weight": weight, "delay": delay}
        self.couplings["sic"] = made
        self.least_delay = min(self.least_delay, least)

    def gap_junctions(self, names: list[str]) -> None:
        for k in range(self.whole(1, 2)):
            pre, source, n_pre = self.address(names, 0.2)
            post, target, n_post = self.address(names, 0.2)
            self.features.add("gaps: " + ("within" if source == target else "between"))
            number = self.whole(2, max(3, min(3 * n_pre, n_pre * n_post)))
            forms = {"few": 1, "all": 1 if n_pre * n_post < 1500 else 0, "a star": 0.5}
            form = self.one_of("gaps of", forms)
            rule = Call("FixedTotalNumber", [number])
            if form == "all":
                rule = Call("AllToAll")
            if form == "a star":
                rule = Call("star", [n_pre, n_post])
            g = "Uniform(0.1, 1.0)" if self.chance(0.5) else self.between(0.1, 1.0)
            made = Call("GapJunction", [repr(pre), repr(post), rule], {"conductance": g})
            if self.often("gaps: one way", 0.25):
                made.options["symmetric"] = "False"
            self.couplings[f"gap{k}"] = made
        both = "sic" in self.couplings  # which relaxed waveforms do not know of
        if not both and self.often("exchange: WaveformRelaxation", 0.4):
            longest = max(min(self.least_delay, 10), 1)
            interval = f"{self.whole(1, longest)} * dt"
            order = str(self.rng.choice([0, 1, 3]))
            tol = "None" if self.chance(0.5) else "1e-5"
            rounds = 4 if tol == "None" else 60
            made = Call("WaveformRelaxation", [interval, tol, rounds, order])
            self.options["exchange"] = made

    def source(self, name: str, names: list[str]) -> None:
        to, target, n = self.address([*names, *(["glia"] if "glia" in self.sizes else [])], 0.4)
        kinds = self.receptors[target]
        receptor = list(kinds)[self.whole(0, len(kinds) - 1)]
        sources = {"Poisson": 1.5, "SpikeList": 1, "StepCurrent": 1, "NoiseCurrent": 1}
        if target == "glia":
            sources = {"Poisson": 1, "SpikeList": 1}
        which = self.one_of("input", sources)
        low, high = {"Delta": (0.2, 1.0), "current": (20, 150)}.get(kinds[receptor], (0.5, 3.0))
        start, stop = self.whole(1, 40), self.whole(100, STEPS)
        if which == "Poisson":
            rate: Any = self.number_rate(n)
            made = Call(which, [repr(to), rate, self.number_of_cells(low, high, n)])
            made.options |= {"receptor": repr(receptor)}
            if "lambda" in str(rate) or self.chance(0.3):
                made.options["max_rate"] = "4000.0"
            if self.often("Poisson: as_nest", 0.2):
                made.options["as_nest"] = "True"
        elif which == "SpikeList":
            k = self.whole(1, 120)
            times = f"steps({self.seed()}, 1, {STEPS - 20}, {k}) * dt"
            cells = f"steps({self.seed()}, 0, {n - 1}, {k})"
            weight: Any = self.between(low, high)
            if self.often("SpikeList: weights of each", 0.4):
                weight = f"spread({self.seed()}, {low:.4g}, {high:.4g}, {k})"
            made = Call(which, [repr(to), times, cells, weight])
            made.options |= {"receptor": repr(receptor)}
        elif which == "StepCurrent":
            k = self.whole(1, 5)
            times = f"{self.whole(1, 30)} * dt * np.arange(1, {k + 1})"
            values = f"spread({self.seed()}, -200, 300, {k})"
            if self.often("StepCurrent: of each cell", 0.4):
                values = f"spread({self.seed()}, -200, 300, {k}, {n})"
            made = Call(which, [repr(to), times, values])
        else:
            made = Call(which, [repr(to), self.between(-50, 50), self.between(20, 200)])
            made.options |= {"interval": f"{self.whole(1, 9)} * dt"}
            if self.often("NoiseCurrent: as_nest", 0.3):
                made.options["as_nest"] = "True"
        if which in ("Poisson", "NoiseCurrent"):
            if self.often("start and stop", 0.3):
                made.options |= {"start": f"{start} * dt", "stop": f"{stop} * dt"}
        if self.often("delay of an input", 0.4):
            made.options["delay"] = f"{self.whole(1, 9)} * dt"
        self.inputs[name] = made

    def number_rate(self, n: int) -> Any:
        which = self.one_of("rate", {"one": 1, "of each cell": 1, "a function": 1})
        if which == "one":
            return self.between(200, 3000)
        if which == "of each cell":
            return f"spread({self.seed()}, 0, 3000, {n})"
        return f"lambda t: {self.between(500, 1500)} + {self.between(10, 60)} * t"

    def number_of_cells(self, low: float, high: float, n: int) -> Any:
        if self.chance(0.3):
            return f"spread({self.seed()}, {low:.4g}, {high:.4g}, {n})"
        return self.between(low, high)

    def network_options(self) -> None:
        if self.often("order: AsInBrian", 0.2):
            self.options["order"] = Call("AsInBrian")
        if self.often("delivery: small rounds", 0.3):
            self.options["delivery"] = Call("EventDriven", [self.whole(1, 7)])

    def recorders(self, names: list[str]) -> None:
        every = f"{self.whole(2, 30)} * dt"
        for name in self.sizes:
            if name != "glia":
                self.record[f"spikes {name}"] = Call("Spikes", [repr(name)])
            state = "ca" if name == "glia" else "v"
            self.record[f"{state} {name}"] = Call("States", [repr(name), repr(state)])
        name = names[self.whole(0, len(names) - 1)]
        if self.slices[name]:
            self.record["part"] = Call("Spikes", [repr(f"{name}.high")])
        if self.often("record: Counts", 0.4):
            self.record["counts"] = Call("Counts", [repr(name), every])
        if self.often("record: States of some", 0.5):
            index = f"[{self.sizes[name] - 1}, 0]"
            state = "refractory"
            filters = [r for r, kind in self.receptors[name].items() if kind != "Delta"]
            if filters and self.chance(0.6):
                own = filters[0]
                state = own + (".i" if self.receptors[name][own] == "current" else ".g")
            made = Call("States", [repr(name), repr(state)], {"index": index, "every": every})
            self.record["some"] = made
        for own, (_, states) in self.released.items():
            if self.often("record: SynapseStates", 0.6):
                state = states[self.whole(0, len(states) - 1)]
                options = {"at_spikes": "True"} if self.chance(0.5) else {"every": every}
                self.record[f"{state} {own}"] = Call(
                    "SynapseStates", [repr(own), repr(state)], options
                )
        if "sic" in self.couplings:
            to = self.couplings["sic"].args[1]
            self.record["sic"] = Call("States", [to, "'sic'"])
        for own in self.growing:
            to = self.projections[own].args[1]
            for state in ("ca", "dendrite", "dendrite.connected"):
                self.record[f"grown {state}"] = Call("States", [to, repr(state)], {"every": every})

    def adjoint(self) -> Call:
        options: dict[str, Any] = {}
        reset = self.one_of("adjoint reset", {"Cut": 1, "Kept": 1, "Scaled": 0.6})
        options["reset"] = Call(reset, [0.4] if reset == "Scaled" else [])
        if self.often("adjoint: synapses scaled", 0.3):
            options["synapses"] = Call("Scaled", [0.5])
        if self.often("adjoint: fading", 0.2):
            options["between"] = Call("Fading", [self.between(5, 30)])
        if self.often("adjoint: little memory", 0.35):
            options["memory"] = "1e3"
        return Call("Backprop", [], options)
