"""What the examples with astrocytes share."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jsnn import plot


def compare(
    spikes: Iterable[tuple[Any, int]], frozen: Mapping[str, Any], steps: int
) -> dict[str, int]:
    """How many spikes of either simulator have one of the other on the same step or next to it, of
    spikes of populations and the number of the first neuron of each."""
    mine = {
        (int(step), int(cell) + first)
        for own, first in spikes
        for step, cell in zip(own.steps, own.index, strict=True)
    }
    pairs = zip(frozen["spike_step"].tolist(), frozen["spike_neuron"].tolist(), strict=True)
    theirs = {(step, cell) for step, cell in pairs if step < steps}
    near = [(s, c) for s, c in mine if {(s - 1, c), (s, c), (s + 1, c)} & theirs]
    return {
        "n_spikes": len(theirs),
        "n_own": len(mine),
        "same_step": len(mine & theirs),
        "next_step": len(near),
    }


def show_compared(compared: Mapping[str, int] | None) -> None:
    if compared is not None:
        print(
            f"Against the file    : {compared['same_step']} of {compared['n_spikes']} spikes on "
            f"the same step; {compared['next_step']} of {compared['n_own']} within one step"
        )


def synapses(network: Any) -> dict[str, int]:
    """The number of edges by projection, and of slow currents as `third_out`."""
    found = {name: own.edges.n_edges for name, own in network.synapses.items()}
    return {**found, "third_out": network.slow["I_SIC"].n_edges}


def show(
    network: Any, primary: int, means: Mapping[str, float | None], units: Mapping[str, str]
) -> None:
    """Print how many edges there are, of which `primary` between neurons, and means of traces."""
    n = synapses(network)
    print(f"Synapses of neurons : {primary}")
    print(f"  onto astrocytes   : {n['third_in']}")
    merged = network.slow["I_SIC"].pre.size
    print(f"Slow inward currents: {n['third_out']}, of {merged} pairs")
    for name, mean in means.items():
        if mean is not None:
            print(f"{name:<20}: {mean:.4g} {units[name]} on average")


def arrays(
    records: Mapping[str, Any], spikes: Mapping[str, Any], traces: Iterable[str]
) -> dict[str, Any]:
    """Spikes and traces under the names that `--save` gives them."""
    found = {f"t_{kind}": own.times for kind, own in spikes.items()}
    found |= {f"i_{kind}": own.index for kind, own in spikes.items()}
    for name in traces:
        found |= {name: records[name].values, f"{name}_t": records[name].times}
    return found


def means(records: Mapping[str, Any], names: Iterable[str]) -> dict[str, float | None]:
    """Of traces, the mean over cells and samples; None where there are no samples."""
    values = {name: records[name].values for name in names}
    return {name: float(np.mean(own)) if own.size else None for name, own in values.items()}


def draw_dynamics(records: Mapping[str, Any], neurons: str) -> Any:
    """IP3 and calcium of astrocytes, and the slow inward current of neurons."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    ip3, ca, sic = (records[name] for name in ("IP3", "Ca_astro", "I_SIC"))
    plot.dynamics(
        *(ip3.times, ip3.values),
        right=ca.values,
        label=r"IP$_{3}$ ($\mu$M)",
        right_label=r"Ca$^{2+}$ ($\mu$M)",
        title=f"IP$_{{3}}$ and Ca$^{{2+}}$ in astrocytes (n={ip3.values.shape[1]})",
        ax=upper,
    )
    upper.set_xlabel("")
    plot.dynamics(
        *(sic.times, sic.values),
        label="SIC (pA)",
        color="tab:purple",
        title=f"SIC in {neurons} (n={sic.values.shape[1]})",
        ax=lower,
    )
    return figure


def solver(network: Any, neurons: str) -> str:
    """How the cells are integrated, as `--json` says it."""
    pieces = network.populations[neurons].solver.n_pieces
    return (
        f"RK4 with resets within the step, {pieces} substep(s) for neurons and astrocytes, "
        f"steps of {network.dt:g} ms"
    )
