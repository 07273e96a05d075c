"""Where arrays lie on several devices.

A mesh has two axes: `data` holds copies of the parameters, `fsdp` divides them, and both divide the
batch. XLA derives from the places of a program's arguments and results how to divide the program.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from benchmarks.errors import UserError

AXES = ("data", "fsdp")

Spec = Callable[[tuple[int, ...]], PartitionSpec]
"""shape -> which of its axes are divided"""


def parse(text: str) -> dict[str, int]:
    """The sizes of the axes in "data=4,fsdp=2"; an axis that is not named has one device.

    Raises:
      UserError: for anything else.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        if name not in AXES or name in sizes:
            raise UserError(f"--mesh: expected the axes data and fsdp once each, found {part!r}")
        if not size.isdecimal() or int(size) < 1:
            raise UserError(f"--mesh: expected a size of at least 1 for {name}, found {size!r}")
        sizes[name] = int(size)
    return {name: sizes.get(name, 1) for name in AXES}


def make(text: str, batch_size: int) -> Mesh:
    """The mesh of a `--mesh` option, of the first devices that there are.

    Raises:
      UserError: if there are too few devices, or they cannot share a batch.
    """
    sizes = parse(text)
    # A process's devices in a row, so that its rows of a batch are.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    count = math.prod(sizes.values())
    if count > len(devices):
        raise UserError(f"--mesh {text}: expected at most {len(devices)} devices, found {count}")
    if jax.process_count() > 1 and count < len(devices):
        raise UserError(
            f"--mesh {text}: expected all {len(devices)} devices of the processes, found {count}"
        )
    if batch_size % count:
        raise UserError(
            f"--train.batch-size: expected a multiple of the mesh's {count} devices, "
            f"found {batch_size}"
        )
    grid = np.array(devices[:count]).reshape(tuple(sizes.values()))
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


class Layout:
    """Places of a model's arrays; without a mesh everything stays where it is.

    Args:
      mesh: with the axes `AXES`.
      num_tasks: T; an axis [T, ...] in front of a parameter's shape is not divided.
      stacked: the parameters themselves have that axis.
    """

    def __init__(self, mesh: Mesh | None, num_tasks: int, *, stacked: bool = False) -> None:
        self.mesh, self._num_tasks, self._stacked = mesh, num_tasks, stacked

    def divide(self, tree: Any, params: Any) -> Any:
        """Says inside a program where a state of these parameters lies."""
        return self._constrain(tree, self._spec_beside(params))

    def copy(self, tree: Any) -> Any:
        """Says inside a program that every device has all of the tree."""
        return self._constrain(tree, _nowhere)

    def places(self, tree: Any, params: Any) -> Any:
        """The places of a state of these parameters, of which shapes are enough; on a mesh."""
        if self.mesh is None:
            raise ValueError("mesh: expected one, found None")
        mesh, spec = self.mesh, self._spec_beside(params)
        return jax.tree.map(lambda leaf: NamedSharding(mesh, spec(leaf.shape)), tree)

    def put_state(self, tree: Any, params: Any) -> Any:
        """Arrays that every process has, in the places of a state of these parameters."""
        return self._put(tree, self._spec_beside(params))

    def put_copies(self, tree: Any) -> Any:
        """Arrays that every process has, on every device."""
        return self._put(tree, _nowhere)

    def own_rows(self, batch: Any, axis: int) -> Any:
        """This process's part of a batch that every process could have."""
        count, index = jax.process_count(), jax.process_index()
        if self.mesh is None or count == 1:
            return batch

        def cut(leaf: Any) -> Any:
            if np.ndim(leaf) <= axis:
                return leaf
            size = leaf.shape[axis] // count
            rows = slice(index * size, (index + 1) * size)
            return leaf[(slice(None),) * axis + (rows,)]

        return jax.tree.map(cut, batch)

    def put_batch(self, rows: Any, axis: int) -> Any:
        """The whole batch, divided, out of each process's rows of it.

        Args:
          rows: arrays with the batch's axis; those of fewer axes are copied to every device.
          axis: the batch's.
        """
        mesh = self.mesh
        if mesh is None:
            return rows

        def put(leaf: Any) -> jax.Array:
            shape, spec = list(np.shape(leaf)), PartitionSpec()
            if len(shape) > axis:
                spec = PartitionSpec(*[None] * axis, AXES)
                shape[axis] *= jax.process_count()
            place = NamedSharding(mesh, spec)
            return jax.make_array_from_process_local_data(place, np.asarray(leaf), tuple(shape))

        return jax.tree.map(put, rows)

    def _spec_beside(self, params: Any) -> Spec:
        """Which axis of an array of the state is divided: a parameter's largest that can be."""
        shapes = {leaf.shape[self._stacked :] for leaf in jax.tree.leaves(params)}
        parts = 1 if self.mesh is None else self.mesh.shape["fsdp"]

        def spec(shape: tuple[int, ...]) -> PartitionSpec:
            # Tasks are few, and their rows must meet in every inner product.
            if shape and shape[0] == self._num_tasks and shape[1:] in shapes:
                rest = spec(shape[1:])
                return PartitionSpec(None, *rest) if len(rest) else rest
            possible = [axis for axis, size in enumerate(shape) if size % parts == 0]
            if parts == 1 or shape not in shapes or not possible:
                return PartitionSpec()
            chosen = max(possible, key=lambda axis: shape[axis])
            # Nothing behind it: JAX compiles again for an equal place in other words.
            return PartitionSpec(*[None] * chosen, "fsdp")

        return spec

    def _constrain(self, tree: Any, spec: Spec) -> Any:
        mesh = self.mesh
        if mesh is None:
            return tree
        places = jax.tree.map(lambda leaf: NamedSharding(mesh, spec(leaf.shape)), tree)
        return jax.lax.with_sharding_constraint(tree, places)

    def _put(self, tree: Any, spec: Spec) -> Any:
        mesh = self.mesh
        if mesh is None:
            return tree

        def put(leaf: Any) -> jax.Array:
            # A copy: the program that the array is donated to must not write into NumPy's.
            host = np.array(leaf)
            place = NamedSharding(mesh, spec(host.shape))
            return jax.make_array_from_callback(host.shape, place, lambda index: host[index])

        return jax.tree.map(put, tree)


def _nowhere(_: tuple[int, ...]) -> PartitionSpec:
    return PartitionSpec()
