"""What objects hold, as digests that do not depend on where in memory they lie."""

import dataclasses
import enum
import functools
import hashlib
import re
import sys
import types
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), PurePath, np.dtype)
# What these hold is told by their versions
_LIBRARIES = {"jsnn", "jax", "jaxlib", "numpy", "scipy", "equinox", "optax", "ml_dtypes", "chex"}
_LIBRARIES |= set(sys.stdlib_module_names) - {"__main__"}
# Of classes, what says nothing about what they do
_SKIPPED = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__hash__"}
_SKIPPED |= {"__dataclass_fields__", "__dataclass_params__", "__abstractmethods__", "_abc_impl"}
_SKIPPED |= {"__firstlineno__", "__static_attributes__", "__match_args__", "__slots__"}


def digests(name: str, value: Any, depth: int = 4) -> dict[str, str]:
    """A digest of every part of a tree of modules and dictionaries, by the name of its place."""
    if depth and dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {name: digest(type(value))}
        for field in dataclasses.fields(value):
            part = getattr(value, field.name, None)
            found |= digests(f"{name}.{field.name}", part, depth - 1)
        return found
    if depth and isinstance(value, Mapping):
        found = {name: digest(list(value))}
        for key, part in value.items():
            found |= digests(f"{name}[{key!r}]", part, depth - 1)
        return found
    return {name: digest(value)}


def digest(value: Any) -> str:
    """A digest of arrays, of the fields of objects, and of the code of functions and classes that
    are no library's, with the variables that the code uses."""
    content = _Content()
    content.add(value)
    return content.hash.hexdigest()[:24]


class _Content:
    def __init__(self):
        self.hash = hashlib.sha256()
        self.seen: dict[int, tuple[int, Any]] = {}  # with the object, whose id is in use then

    def add(self, value: Any) -> None:
        if isinstance(value, _PLAIN):
            self._text(type(value).__name__, repr(value))
        elif _is_array(value):
            self._array(value)
        elif isinstance(value, (tuple, list)) and all(type(own) in _PLAIN for own in value):
            self._text(type(value).__name__, repr(value))
        elif id(value) in self.seen:
            self._text("seen", str(self.seen[id(value)][0]))
        else:
            self.seen[id(value)] = (len(self.seen), value)
            self._add_new(value)

    def _add_new(self, value: Any) -> None:
        if isinstance(value, (tuple, list)):
            self._text(type(value).__name__, str(len(value)))
            self._all(value)
        elif isinstance(value, Mapping):
            self._text(type(value).__name__, str(len(value)))
            for key, own in value.items():
                self._all((key, own))
        elif isinstance(value, (set, frozenset)):
            self._text("set", repr(sorted(digest(own) for own in value)))
        elif isinstance(value, types.ModuleType):
            self._text("module", value.__name__)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.CodeType):
            self._code(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType):
            self._all(("method", value.__func__, value.__self__))
        elif isinstance(value, (staticmethod, classmethod)):
            self._all((type(value).__name__, value.__func__))
        elif isinstance(value, property):
            self._all(("property", value.fget, value.fset))
        elif isinstance(value, functools.partial):
            self._all(("partial", value.func, value.args, value.keywords))
        elif isinstance(value, enum.Enum):
            self._all((type(value), value.name))
        elif callable(value) and hasattr(value, "__wrapped__"):  # jit and its like
            self._all((type(value).__name__, value.__wrapped__))
        else:
            self._object(value)

    def _object(self, value: Any) -> None:
        self.add(type(value))
        if dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                self._all((field.name, getattr(value, field.name, None)))
        elif getattr(value, "__dict__", None) or hasattr(type(value), "__slots__"):
            slots = [name for own in type(value).__mro__ for name in _slots(own)]
            for name in [*getattr(value, "__dict__", {}), *slots]:
                self._all((name, getattr(value, name, None)))
        else:
            try:
                self._all(value.__reduce_ex__(2)[1:])
            except Exception:  # it may be anything, and do as it likes
                self._text("repr", re.sub(" at 0x[0-9a-f]+", "", repr(value)))

    def _function(self, function: types.FunctionType) -> None:
        self._text("function", f"{function.__module__}.{function.__qualname__}")
        self._all((function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                self.add(cell.cell_contents)
            except ValueError:  # empty as yet
                self._text("cell", "empty")
        if _is_librarys(function.__module__):
            return
        self.add(function.__code__)
        for name in _names(function.__code__):
            if name in function.__globals__:
                self._all((name, function.__globals__[name]))

    def _class(self, own: type) -> None:
        self._text("class", f"{own.__module__}.{own.__qualname__}")
        if _is_librarys(own.__module__):
            return
        self._all(own.__bases__)
        for name, attribute in vars(own).items():
            if name not in _SKIPPED and not isinstance(attribute, types.MemberDescriptorType):
                self._all((name, attribute))

    def _code(self, code: types.CodeType) -> None:
        self._text("code", str(sys.version_info[:2]))
        self.hash.update(code.co_code)
        self._all((code.co_names, code.co_varnames, code.co_freevars, code.co_consts))

    def _array(self, value: Any) -> None:
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            self._text("key", str(value.dtype))
            value = jax.random.key_data(value)
        array = np.ascontiguousarray(value)
        self._text("array", f"{array.dtype}{array.shape}")
        if array.dtype.hasobject:
            self._all(array.ravel().tolist())
        else:
            self.hash.update(array.data if array.dtype.kind in "biufc" else array.tobytes())

    def _all(self, values: Any) -> None:
        for value in values:
            self.add(value)

    def _text(self, kind: str, text: str) -> None:
        self.hash.update(f"{kind}:{len(text)}:{text};".encode(errors="surrogatepass"))


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic, jax.Array))


def _is_librarys(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _LIBRARIES


def _names(code: types.CodeType) -> list[str]:
    """The names that a function and those inside it look up."""
    inner = [own for own in code.co_consts if isinstance(own, types.CodeType)]
    names = [*code.co_names, *(name for own in inner for name in _names(own))]
    return list(dict.fromkeys(names))


def _slots(own: type) -> tuple[str, ...]:
    slots = vars(own).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
