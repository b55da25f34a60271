"""NEST's stimulating devices as inputs, with its parameter names and defaults.

    noise = jsnn.nest.noise_generator("cells", mean=200.0, std=50.0, delay=1.0)

is `nest.Create("noise_generator", params={"mean": 200.0, "std": 50.0})` with a connection to each
of the cells. `weight` and `delay` are those of the connection, 1 and 1 ms unless said otherwise.

| name | parameters (NEST's defaults) | input |
|---|---|---|
| `dc_generator` | `amplitude` (0 pA) | `StepCurrent` |
| `step_current_generator` | `amplitude_times` (ms), `amplitude_values` (pA) | `StepCurrent` |
| `noise_generator` | `mean`, `std` (0 pA), `dt` (1 ms) | `NoiseCurrent` |
| `poisson_generator` | `rate` (0 Hz) | `Poisson` |
| `spike_generator` | `spike_times` (ms), `spike_weights`, `spike_multiplicities` | `SpikeList` |

and `start` (0 ms), `stop` (never) and `origin` (0 ms), which is added to both, and to the times of
spikes, not to those of amplitudes. When they act, measured with NEST 3.10 at steps of dt:

- a current moves the membrane in (start + delay, stop + delay]. One with a start of 0 begins a step
  late, at delay + dt, since NEST's would have to be sent before the first step;
- a noise current takes a new value for each cell at its beginning, and every `dt` from there;
- spikes of a `poisson_generator` are stamped in (start + dt, stop + dt], and arrive a delay later;
- those of a `spike_generator` are sent if their times are in (start, stop].
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jsnn._math import check_number, concrete, known, unknown
from jsnn._names import explained
from jsnn.inputs import NoiseCurrent, Poisson, SpikeList, StepCurrent

_FOREVER = float(np.finfo(np.float64).max)
_WINDOW = {"start": 0.0, "stop": _FOREVER, "origin": 0.0}
DEVICE_DEFAULTS: dict[str, dict[str, Any]] = {
    "dc_generator": {"amplitude": 0.0, **_WINDOW},
    "step_current_generator": {"amplitude_times": (), "amplitude_values": (), **_WINDOW},
    "noise_generator": {"mean": 0.0, "std": 0.0, "dt": 1.0, **_WINDOW},
    "poisson_generator": {"rate": 0.0, **_WINDOW},
    "spike_generator": {
        "spike_times": (),
        "spike_weights": (),
        "spike_multiplicities": (),
        **_WINDOW,
    },
}
"""By device, the parameters that its constructor takes, with NEST's defaults."""

_EVERY_DEVICE = {"frozen": False, "label": "", "stimulus_source": ""}
_OFF_GRID = {**_EVERY_DEVICE, "allow_offgrid_times": False}
UNSUPPORTED_OF_DEVICES: dict[str, dict[str, Any]] = {
    "dc_generator": _EVERY_DEVICE,
    "step_current_generator": _OFF_GRID,
    "noise_generator": {**_EVERY_DEVICE, "std_mod": 0.0, "frequency": 0.0, "phase": 0.0},
    "poisson_generator": _EVERY_DEVICE,
    "spike_generator": {**_OFF_GRID, "precise_times": False, "shift_now_spikes": False},
}
"""By device, the parameters of NEST that are accepted at their default only."""


@explained
def dc_generator(
    target: str, *, weight: ArrayLike = 1.0, delay: float = 1.0, **params: Any
) -> StepCurrent:
    """A constant current (pA) into each cell of a population or slice; its amplitude or weight may
    be one number for each. Parameters and defaults: the module's table."""
    values, start, stop = _parameters("dc_generator", params)
    amplitude = _product("amplitude", values["amplitude"], weight)
    return _pieces(target, np.asarray([start]), amplitude[None], start, stop, delay)


@explained
def step_current_generator(
    target: str, *, weight: ArrayLike = 1.0, delay: float = 1.0, **params: Any
) -> StepCurrent:
    """A current of `amplitude_values[k]` (pA) from `amplitude_times[k]` on, into each cell of a
    population or slice. Parameters and defaults: the module's table."""
    values, start, stop = _parameters("step_current_generator", params)
    times = _list("amplitude_times", values["amplitude_times"], low=0.0, strict=True)
    amplitudes = values["amplitude_values"]
    if np.shape(amplitudes) != times.shape or not times.size:
        raise ValueError(
            f"amplitude_times has shape {times.shape} and amplitude_values {np.shape(amplitudes)}; "
            "give two equal lists of at least one"
        )
    if np.any(np.diff(times) <= 0):
        raise ValueError(f"amplitude_times={times} must increase")
    if np.ndim(weight):
        amplitudes, weight = np.asarray(amplitudes)[:, None], np.asarray(weight)[None]
    amplitudes = _product("amplitude_values", amplitudes, weight)
    return _pieces(target, times, amplitudes, start, stop, delay)


@explained
def noise_generator(
    target: str, *, weight: ArrayLike = 1.0, delay: float = 1.0, **params: Any
) -> NoiseCurrent:
    """Gaussian white noise (pA), drawn anew for every cell and every `dt` (ms, 1 unless said
    otherwise, whatever the step). Parameters and defaults: the module's table."""
    values, start, stop = _parameters("noise_generator", params)
    check_number("std", values["std"], low=0.0)
    return NoiseCurrent(
        target,
        _product("mean", values["mean"], weight),
        abs(_product("std", values["std"], weight)),
        interval=values["dt"],
        start=start,
        stop=None if stop >= _FOREVER else stop,
        delay=delay,
        as_nest=True,
    )


@explained
def poisson_generator(
    target: str,
    *,
    weight: ArrayLike = 1.0,
    delay: float = 1.0,
    receptor: str | None = None,
    **params: Any,
) -> Poisson:
    """Poisson spikes of `rate` (Hz) to each cell of a population or slice, each its own.
    Parameters and defaults: the module's table."""
    values, start, stop = _parameters("poisson_generator", params)
    return Poisson(
        *(target, values["rate"], weight, receptor),
        delay=delay,
        start=start,
        stop=None if stop >= _FOREVER else stop,
        as_nest=True,
    )


@explained
def spike_generator(
    target: str,
    cells: int | Sequence[int] | np.ndarray,
    *,
    weight: float = 1.0,
    delay: float = 1.0,
    receptor: str | None = None,
    **params: Any,
) -> SpikeList:
    """Given spikes, all of them to each of the `cells`, which are counted from the target's first.

    The weight of a spike is that of the connection, times its `spike_weights` if there are any,
    times its `spike_multiplicities` if there are any. Parameters and defaults: the module's table.
    """
    values, start, stop = _parameters("spike_generator", params)
    times = _list("spike_times", values["spike_times"], low=0.0, strict=True)
    origin = float(params.get("origin", 0.0))
    weights = np.full(times.shape, weight, np.float64)
    for name in ("spike_weights", "spike_multiplicities"):
        factors = _list(name, values[name])
        if factors.size not in (0, times.size):
            raise ValueError(
                f"{name} has {factors.size} numbers and spike_times {times.size}; give as many"
            )
        weights = weights * factors if factors.size else weights
    times = times + origin
    sent = (times > start) & (times <= stop)
    cells = np.atleast_1d(np.asarray(cells))
    return SpikeList(
        target,
        np.repeat(times[sent], cells.size),
        np.tile(cells, int(sent.sum())),
        np.repeat(weights[sent], cells.size),
        receptor,
        delay=delay,
    )


def _parameters(model: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], float, float]:
    """NEST's defaults with what is given in their place, and when the device begins and ends."""
    defaults, unsupported = DEVICE_DEFAULTS[model], UNSUPPORTED_OF_DEVICES[model]
    for name, value in given.items():
        if name in unsupported:
            if not np.all(np.asarray(value) == unsupported[name]):
                raise ValueError(
                    f"{name}={value!r}: {model} has this parameter in NEST, but it is not "
                    f"supported here; only its default {unsupported[name]!r} is"
                )
        elif name not in defaults:
            raise unknown(f"parameter of {model}", name, defaults)
    values = {**defaults, **given}
    for name in _WINDOW:
        check_number(name, values[name], low=0.0, finite=False)
    origin, start = float(values["origin"]), float(values["start"])
    stop = float(values["stop"])
    if not start < stop:
        raise ValueError(f"stop={stop} ms must be after start={start} ms")
    return values, origin + start, min(origin + stop, _FOREVER)


def _list(name: str, values: Any, *, low: float | None = None, strict: bool = False) -> np.ndarray:
    values = np.atleast_1d(np.asarray(known(name, values), np.float64))
    check_number(name, values, low=low, strict=strict)
    if values.ndim != 1:
        raise ValueError(f"{name} has shape {values.shape}; give a list")
    return values


def _product(name: str, value: Any, weight: Any) -> Any:
    """As an array; of JAX where one of them is traced."""
    check_number(name, value)
    check_number("weight", weight)
    own = [x if (seen := concrete(x)) is None else seen for x in (value, weight)]
    return own[0] * own[1]


def _pieces(
    target: str, times: np.ndarray, values: Any, start: float, stop: float, delay: float
) -> StepCurrent:
    """What a device sends from its start to its stop of currents that are `values[j]`, `[k]` or
    `[k, n]`, from `times[j]` on."""
    before = times <= start
    if np.any(before):  # what holds when it begins
        times, values = np.append(start, times[~before]), values[before.sum() - 1 :]
    within = times < stop
    times, values = times[within], values[: within.sum()]
    if stop < _FOREVER:
        end = np.zeros((1, *values.shape[1:]))
        kind = np if isinstance(values, np.ndarray) else jnp
        times, values = np.append(times, stop), kind.concatenate([values, end])
    return StepCurrent(target, times, values, delay=delay, as_nest=True)
