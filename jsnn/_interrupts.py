"""Ctrl-C between two calls of the device, and not within one."""

import functools
import signal
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_waiting: list[int] = []


def between_calls(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, in which an interruption waits until it calls `check`, or ends.

    Raised where JAX traces, it would leave JAX tracing for ever: whatever is computed afterwards in
    that process is then a tracer. A second one does not wait. Handlers of a user's own are left as
    they are.
    """

    @functools.wraps(function)
    def patient(*given: P.args, **named: P.kwargs) -> R:
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return function(*given, **named)
        signal.signal(signal.SIGINT, _wait)
        try:
            return function(*given, **named)
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            check()

    return patient


def check() -> None:
    """Raise `KeyboardInterrupt` if there was one."""
    if _waiting:
        _waiting.clear()
        raise KeyboardInterrupt


def _wait(number: int, frame: Any) -> None:
    if _waiting:
        check()
    _waiting.append(number)
