"""Cells, and the edges onto them, divided over several devices.

A population is divided into contiguous parts of whole tiles of cells, one for each device of a
mesh; an edge is where its target is.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jsnn._math import shortened
from jsnn._random import TILE
from jsnn.edges import Edges, narrow

AXIS = "cells"  # of the mesh of devices that cells are divided over


def mesh_of(devices: int | Sequence[Any] | None) -> Mesh | None:
    """The mesh of so many devices, or of these; None for a single one."""
    there = jax.devices()
    if devices is None or (
        isinstance(devices, (int, np.integer)) and not isinstance(devices, bool)
    ):
        count = 1 if devices is None else int(devices)
        if count < 1:
            raise ValueError(f"devices={devices} must be at least 1")
        if count > len(there):
            raise ValueError(
                f"devices={devices}, but JAX has {len(there)}; on a CPU, set "
                f'jax.config.update("jax_num_cpu_devices", {devices}) before anything else'
            )
        devices = there[:count]
    elif not isinstance(devices, (Sequence, np.ndarray)) or not all(
        isinstance(device, jax.Device) for device in devices
    ):
        raise TypeError(
            f"devices={shortened(devices)}; give a number of devices, or a list of jax.devices()"
        )
    devices = list(devices)
    if not devices:
        raise ValueError("devices is an empty list; give at least one")
    if len(set(devices)) < len(devices):
        raise ValueError(f"devices={devices} holds one twice; give each once")
    return None if devices == there[:1] else Mesh(np.asarray(devices), (AXIS,))


class Split(eqx.Module):
    """Edges divided by target over devices, each array `[devices, ...]`, padded to the longest.

    `edge` tells which edge each is, and is made only where weights, delays or releases are of each.
    """

    row_ptr: Array
    post: Array
    edge: Array | None
    max_row: int = eqx.field(static=True)


def split_edges(edges: Edges, first: int, n_local: int, mesh: Mesh, per_edge: bool) -> Split:
    """Device d has the edges onto cells d * n_local .. (d + 1) * n_local - 1 of the population, in
    which the targets of the edges count from `first`."""
    post = np.asarray(edges.post)
    row_ptr = np.asarray(edges.row_ptr)
    pieces = []
    for device in range(mesh.size):
        low, high = (np.clip(d * n_local - first, 0, edges.n_post) for d in (device, device + 1))
        mine = (post >= low) & (post < high)
        upto = np.zeros(post.size + 1, np.int32)
        np.cumsum(mine, out=upto[1:])
        local = post[mine].astype(np.int32) + (first - device * n_local)
        edge = np.flatnonzero(mine).astype(np.int32) if per_edge else None
        pieces.append((upto[row_ptr], local.astype(narrow(n_local)), edge))
    place = NamedSharding(mesh, PartitionSpec(AXIS))
    row_ptrs, posts, edge_lists = zip(*pieces, strict=True)

    def placed(arrays: Sequence[np.ndarray]) -> Array:
        """Each array on its own device, so that none has to move when a run begins."""
        longest = max(x.size for x in arrays)
        return jax.device_put(np.stack([np.pad(x, (0, longest - x.size)) for x in arrays]), place)

    return Split(
        placed(row_ptrs),
        placed(posts),
        placed(edge_lists) if per_edge else None,
        max(int(np.diff(piece[0]).max(initial=0)) for piece in pieces),
    )


def padded(n: int, devices: int = 1) -> int:
    """The number of cells on each device: a whole number of tiles that holds n in all."""
    return TILE * -(-n // (TILE * devices))


def pad_cells(tree: Any, n: int, to: int, always: bool = False) -> Any:
    """Repeat the last cell up to `to` cells, in every leaf whose last axis is that of n cells."""

    def pad(leaf):
        if leaf.ndim == 0 or leaf.shape[-1] != n or (n == 1 and not always):
            return leaf
        return jnp.pad(leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, to - n)], mode="edge")

    return jax.tree.map(pad, tree)
