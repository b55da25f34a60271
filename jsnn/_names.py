"""Names that do not exist, and what is meant by them."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

_Public = TypeVar("_Public", bound=Callable[..., Any])

_SPELLINGS: dict[str, tuple[str, ...]] = {
    "v_th": ("threshold", "theta", "vt", "vth", "v_t", "v_thresh", "v_threshold"),
    "v_reset": ("reset", "vr", "v_r", "vreset"),
    "v_peak": ("v_cut", "vcut", "v_spike"),
    "t_ref": ("refractory", "tau_ref", "tau_rp", "t_refract", "refractory_period"),
    "tau_m": ("tau", "taum", "tau_mem", "tau_membrane"),
    "tau_w": ("tauw",),
    "c_m": ("c", "cm", "c_mem", "capacitance"),
    "g_l": ("gl", "g_leak", "gleak"),
    "e_l": ("el", "vl", "v_rest", "vrest", "e_leak", "e_rest"),
    "i_e": ("i", "i_ext", "i_inj", "i_app"),
    "e_rev": ("e_ex", "e_in", "erev", "e_syn", "v_rev"),
    "tau": ("tau_syn", "tau_syn_ex", "tau_syn_in", "tau_decay"),
    "every": ("interval", "dt", "record_every"),
    "state": ("variables", "variable", "record_from"),
    "cells": ("source", "population", "senders"),
    "pre": ("source", "sources"),
    "post": ("target", "targets"),
    "rule": ("conn_spec", "connector", "condition"),
    "weight": ("syn_spec", "weights", "w", "j", "on_pre"),
    "target": ("post", "population"),
    "low": ("min", "minimum", "lower"),
    "high": ("max", "maximum", "upper"),
    "mean": ("mu", "loc"),
    "std": ("sigma", "sd", "scale"),
    "mu": ("mean",),
    "sigma": ("std",),
    "dt": ("resolution", "timestep"),
    "conductance": ("weight", "g"),
    "times": ("spike_times", "amplitude_times"),
    "values": ("amplitude_values", "amplitudes"),
    # What NEST calls the states
    "v": ("v_m", "vm", "membrane"),
    "m": ("act_m",),
    "h": ("inact_h", "h_ip3r"),
    "n": ("act_n", "size", "number", "n_neurons", "n_cells"),
    "p": ("inact_p", "probability", "prob"),
    "ca": ("ca_astro", "calcium"),
    "ip3": ("ip_3",),
    **{
        f"{end}.{state}": (f"{theirs}_{end}", f"{theirs}{end[0]}", f"{state}_{end}")
        for end in ("ex", "in")
        for state, theirs in (("g", "g"), ("dg", "dg"), ("i", "i_syn"), ("di", "di_syn"))
    },
}
"""By name, how NEST, Brian 2 and others spell what it stands for, in small letters."""


def nearest(name: object, names: Iterable[object]) -> str | None:
    """Which of the names is meant by one that is none of them."""
    known = {str(known).lower(): str(known) for known in names}
    asked = str(name).lower()
    if asked in known:
        return known[asked]
    for ours, theirs in _SPELLINGS.items():
        if asked in theirs and ours in known:
            return known[ours]
    near = difflib.get_close_matches(asked, known, 1)
    return known[near[0]] if near else None


def explained(public: _Public) -> _Public:
    """A public function or class: calls that do not fit its parameters say which there are.

    For a decorator. Nothing else about it changes: its signature, what it does and what it raises
    are as they were.
    """
    if isinstance(public, type):
        setattr(public, "__init__", _explaining(public.__init__, public.__name__, 1))  # noqa: B010
        return public  # pyright: ignore[reportReturnType]
    of_class = next(iter(inspect.signature(public).parameters), "") == "cls"
    return _explaining(public, public.__name__, int(of_class))  # pyright: ignore[reportReturnType]


def _explaining(function: Callable[..., Any], name: str, own: int) -> Callable[..., Any]:
    """The function; of its positional arguments the first `own` are not the caller's."""

    of_class = function.__name__ == "__init__"

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except TypeError:
            what = type(args[0]).__name__ if of_class and args else name
            why = _misfit(what, inspect.signature(function), own, args, named)
            if why is None:  # it is something else
                raise
        raise TypeError(why)

    return call


def _misfit(
    name: str,
    signature: inspect.Signature,
    own: int,
    args: tuple[Any, ...],
    named: Mapping[str, Any],
) -> str | None:
    """Why arguments do not fit a signature; None if they do."""
    try:
        signature.bind(*args, **named)
        return None
    except TypeError:
        pass
    plain = inspect.Parameter.empty
    parameters = [
        p.replace(annotation=plain, default=_Named.instead_of(p.default))
        for p in signature.parameters.values()
    ][own:]
    shown = f"its call is {name}{signature.replace(parameters=parameters, return_annotation=plain)}"
    kinds = inspect.Parameter
    several = (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
    names = [p.name for p in parameters if p.kind not in several]
    by_place = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    in_order = [p.name for p in parameters if p.kind in by_place]
    values = args[own:]
    takes_any = any(p.kind is kinds.VAR_KEYWORD for p in parameters)
    for other, value in named.items():
        if other not in names and not takes_any:
            near = nearest(other, names)
            hint = f": did you mean {near!r}? " if near else "; "
            if isinstance(value, Mapping):
                hint = "; give what the dictionary holds as parameters of their own: "
            return f"{name} has no parameter {other!r}{hint}{shown}"
    if len(values) > len(in_order):
        value = values[len(in_order)]
        what, how = f"{name} does not know what {_short(value)} is", "give it with its name"
        if isinstance(value, Mapping):
            how = f"give what the dictionary holds by name, as with **{_short(value)}"
        return f"{what}; {how}: {shown}"
    for other in in_order[: len(values)]:
        if other in named:
            return f"{name} got {other!r} twice, by its place and by its name; {shown}"
    missing = [
        p.name
        for p in parameters
        if p.default is plain and p.kind not in several and p.name not in named
        if p.name not in in_order[: len(values)]
    ]
    return f"{name} lacks {' and '.join(map(repr, missing))}; {shown}"


class _Named:
    """A function as a default is shown: by its name, and not by where it is."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name

    @classmethod
    def instead_of(cls, default: Any) -> Any:
        return cls(default.__name__) if inspect.isfunction(default) else default


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:50]}..."
