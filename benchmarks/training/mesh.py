"""The sharding of arrays over several devices.

A mesh has two axes: the parameters are copied along `data` and divided along `fsdp`; the batch is
divided along both. XLA divides a program according to the shardings of its arguments and results.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from benchmarks.errors import UserError

AXES = ("data", "fsdp")
"""The axes of every mesh."""

Spec = Callable[[tuple[int, ...]], PartitionSpec]
"""shape of an array -> its sharding"""


def parse(text: str) -> dict[str, int]:
    """Parses a text such as "data=4,fsdp=2" to sizes of axes; the default size is 1.

    Raises:
      UserError: if the text is not valid.
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


def make(text: str, batch_size: int, chunks: int = 1) -> Mesh:
    """Makes the mesh of the option `--mesh` from the first devices.

    Args:
      text: the option.
      batch_size: number of examples in a batch.
      chunks: number of chunks of a batch, each of which is divided among the devices.

    Raises:
      UserError: if there are too few devices, or the batch cannot be divided among them.
    """
    sizes = parse(text)
    # Keeps the devices of a process together, so that its rows of a batch are contiguous.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    count = math.prod(sizes.values())
    if count > len(devices):
        raise UserError(f"--mesh {text}: expected at most {len(devices)} devices, found {count}")
    if jax.process_count() > 1 and count < len(devices):
        raise UserError(
            f"--mesh {text}: expected all {len(devices)} devices of the processes, found {count}"
        )
    if batch_size % (count * chunks):
        times = f" times {chunks} (--chunks)" if chunks > 1 else ""
        raise UserError(
            f"--train.batch-size: expected a multiple of the mesh's {count} devices{times}, "
            f"found {batch_size}"
        )
    grid = np.array(devices[:count]).reshape(tuple(sizes.values()))
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


class Layout:
    """The shardings of the arrays of a model; without a mesh, arrays are not changed.

    Args:
      mesh: a mesh with the axes `AXES`, or None.
      num_tasks: number of tasks T; a leading axis T of arrays shaped [T, *parameter] is not
        divided.
      stacked: whether the parameters themselves have a leading axis T.
    """

    def __init__(self, mesh: Mesh | None, num_tasks: int, *, stacked: bool = False) -> None:
        self.mesh, self._num_tasks, self._stacked = mesh, num_tasks, stacked

    def divide(self, tree: Any, params: Any) -> Any:
        """Constrains, inside of a program, the sharding of a state with these parameters."""
        return self._constrain(tree, self._spec_beside(params))

    def copy(self, tree: Any) -> Any:
        """Constrains, inside of a program, a tree to be copied to every device."""
        return self._constrain(tree, _nowhere)

    def places(self, tree: Any, params: Any) -> Any:
        """The shardings of a state with these parameters, given at least by their shapes."""
        if self.mesh is None:
            raise ValueError("mesh: expected one, found None")
        mesh, spec = self.mesh, self._spec_beside(params)
        return jax.tree.map(lambda leaf: NamedSharding(mesh, spec(leaf.shape)), tree)

    def put_state(self, tree: Any, params: Any) -> Any:
        """Puts a state with these parameters, which every process has, on the devices."""
        return self._put(tree, self._spec_beside(params))

    def put_copies(self, tree: Any) -> Any:
        """Copies arrays that every process has to every device."""
        return self._put(tree, _nowhere)

    def own_rows(self, batch: Any, axis: int) -> Any:
        """The part of a batch that belongs to this process."""
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
        """Makes a batch that is divided over all devices from the rows of each process.

        Args:
          rows: arrays with a batch axis; arrays with fewer axes are copied to every device.
          axis: number of the batch axis.
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
        """The sharding of an array of the state: the largest divisible axis is divided."""
        shapes = {leaf.shape[self._stacked :] for leaf in jax.tree.leaves(params)}
        parts = 1 if self.mesh is None else self.mesh.shape["fsdp"]

        def spec(shape: tuple[int, ...]) -> PartitionSpec:
            # The axis of tasks is short, and inner products between tasks need all of it.
            if shape and shape[0] == self._num_tasks and shape[1:] in shapes:
                rest = spec(shape[1:])
                return PartitionSpec(None, *rest) if len(rest) else rest
            possible = [axis for axis, size in enumerate(shape) if size % parts == 0]
            if parts == 1 or shape not in shapes or not possible:
                return PartitionSpec()
            chosen = max(possible, key=lambda axis: shape[axis])
            # No trailing None: JAX would compile again for an equal sharding written differently.
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
            # A copy, as a program to which the array is donated must not overwrite the NumPy array.
            host = np.array(leaf)
            place = NamedSharding(mesh, spec(host.shape))
            return jax.make_array_from_callback(host.shape, place, lambda index: host[index])

        return jax.tree.map(put, tree)


def _nowhere(_: tuple[int, ...]) -> PartitionSpec:
    return PartitionSpec()
