"""What a function keeps for each member of a batch, told from its trace."""

from typing import Any

import numpy as np

Flags = tuple[bool, ...]


def bytes_a_member(jaxpr: Any, vary: Flags) -> float:
    """The most bytes that arrays which differ between members take at one time, where the inputs
    that `vary` differ.

    Every value of the trace is counted until its last use. XLA melts many of them into one kernel,
    so that this is an upper bound. Arrays that all members share, such as the edges of a network,
    do not count.
    """
    return _Trace().follow(jaxpr, tuple(vary))[0]


class _Trace:
    """Remembers what it found of a part, since loops look at theirs several times."""

    def __init__(self):
        self.known: dict[tuple[int, Flags], tuple[float, Flags]] = {}

    def follow(self, jaxpr: Any, vary: Flags) -> tuple[float, Flags]:
        """The peak over a part of a trace, and which of its outputs vary."""
        asked = (id(jaxpr), vary)
        if asked not in self.known:
            self.known[asked] = self._follow(jaxpr, vary)
        return self.known[asked]

    def _follow(self, jaxpr: Any, vary: Flags) -> tuple[float, Flags]:
        last = {v: i for i, own in enumerate(jaxpr.eqns) for v in own.invars if _is_variable(v)}
        last |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if _is_variable(v)}
        varying = {v for v, own in zip(jaxpr.invars, vary, strict=True) if own}
        ends: dict[int, list[Any]] = {}
        for v in varying:
            ends.setdefault(last.get(v, -1), []).append(v)
        alive = peak = sum(map(_bytes, varying))
        for i, equation in enumerate(jaxpr.eqns):
            inputs = tuple(_is_variable(v) and v in varying for v in equation.invars)
            if any(inputs):
                inner, outputs = self._within(equation, inputs)
                outvars = zip(equation.outvars, outputs, strict=True)
                made = [v for v, own in outvars if own and v in last]
                varying.update(made)
                alive += sum(map(_bytes, made))
                peak = max(peak, alive + inner)
                for v in made:
                    ends.setdefault(last[v], []).append(v)
            alive -= sum(map(_bytes, ends.pop(i, [])))
        return peak, tuple(_is_variable(v) and v in varying for v in jaxpr.outvars)

    def _within(self, equation: Any, inputs: Flags) -> tuple[float, Flags]:
        """The peak inside an equation, of loops, branches and calls, and which outputs vary."""
        name, params, everything = equation.primitive.name, equation.params, len(equation.outvars)
        if name == "scan":
            # What is scanned has an axis more outside than within; JAX's own counts have moved
            (body,) = _traces(params["jaxpr"])
            scanned = sum(map(_is_scanned, equation.invars, body.invars))
            carried = everything - sum(map(_is_scanned, equation.outvars, body.outvars))
            return self._loop(body, inputs, len(inputs) - scanned - carried, carried)
        if name == "while":
            consts = params["body_nconsts"]
            inputs = inputs[params["cond_nconsts"] :]
            (body,) = _traces(params["body_jaxpr"])
            return self._loop(body, inputs, consts, len(inputs) - consts)
        parts = [part for own in params.values() for part in _traces(own)]
        if name == "cond":
            given = inputs[1:] if not inputs[0] else (True,) * (len(inputs) - 1)
        else:
            given = inputs
        found = [
            self.follow(own, given if len(own.invars) == len(given) else (True,) * len(own.invars))
            for own in parts
        ]
        peak = max((own for own, _ in found), default=0.0)
        flags = [own for _, own in found if len(own) == everything]
        if not flags:
            return peak, (True,) * everything
        return peak, tuple(map(any, zip(*flags, strict=True)))

    def _loop(self, jaxpr: Any, inputs: Flags, consts: int, carried: int) -> tuple[float, Flags]:
        """A carry varies once anything that is put there does."""
        while True:
            peak, outputs = self.follow(jaxpr, inputs)
            carry = inputs[consts : consts + carried]
            new = tuple(map(any, zip(carry, outputs[:carried], strict=True)))
            if new == carry:
                return peak, new + outputs[carried:]
            inputs = inputs[:consts] + new + inputs[consts + carried :]


def _traces(parameter: Any) -> list[Any]:
    """Those among the parameters of an equation."""
    parts = parameter if isinstance(parameter, (list, tuple)) else [parameter]
    parts = [getattr(part, "jaxpr", part) for part in parts]
    return [part for part in parts if hasattr(part, "eqns")]


def _is_scanned(outside: Any, within: Any) -> bool:
    return len(outside.aval.shape) > len(within.aval.shape)


def _is_variable(v: Any) -> bool:
    return not hasattr(v, "val")


def _bytes(v: Any) -> float:
    dtype = getattr(v.aval, "dtype", None)
    return 0.0 if dtype is None else np.prod(v.aval.shape, dtype=float) * dtype.itemsize
