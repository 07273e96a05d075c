"""Which part of the arguments belongs to which task, when every task has a batch of its own."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dbmtl_jax.core._types import Array, PyTree

Axes = int | Sequence[Any] | None


class Slices(NamedTuple):
    """Arguments that are stacked: task t's are slices of the arrays."""

    num_tasks: int
    mapped: list[Array]  # what has an axis of tasks, which is the first here
    whole: list[Any]  # every leaf of the arguments
    is_mapped: list[bool]
    structure: Any

    def arguments(self, mapped: Sequence[Array]) -> tuple[Any, ...]:
        """The arguments of one task, of whose mapped leaves these are the slices."""
        rest = iter(mapped)
        leaves = [
            next(rest) if here else leaf
            for here, leaf in zip(self.is_mapped, self.whole, strict=True)
        ]
        return jax.tree.unflatten(self.structure, leaves)

    def of_task(self, task: int) -> tuple[Any, ...]:
        return self.arguments([leaf[task] for leaf in self.mapped])


def by_task(
    args: tuple[Any, ...], in_axes: Axes, num_tasks: int | None
) -> Slices | list[tuple[Any, ...]]:
    """The arguments of each task: slices of arrays, or entries of sequences.

    Args:
      args: the positional arguments behind the parameters.
      in_axes: as given; "auto" to infer which of the two readings fits.
      num_tasks: T if it is known, from the number of functions.

    Raises:
      ValueError: if none fits, or both do and `in_axes` is "auto".
    """
    if in_axes == "sequence":
        _check_sequences(args, num_tasks)
        return _entries(args)
    if in_axes != "auto":
        return _sliced(args, in_axes, num_tasks)
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(args)]
    first = {shape[:1] for shape in shapes}
    expected = {(num_tasks,)} if num_tasks is not None else first
    is_stacked = len(first) == 1 and () not in first and first == expected
    lengths = {len(arg) if isinstance(arg, list | tuple) else None for arg in args}
    is_sequence = len(lengths) == 1 and None not in lengths
    if is_sequence and num_tasks is not None:
        is_sequence = lengths == {num_tasks}
    if is_stacked and is_sequence:
        raise ValueError(
            f"in_axes: expected 0 or 'sequence', as the arguments can be read in two ways: as "
            f"arrays [T, ...] whose slices are the tasks', with T = {shapes[0][0]}, or as "
            f"sequences of T entries, with T = {len(args[0])}; found neither"
        )
    if is_stacked:
        return _sliced(args, 0, num_tasks)
    if is_sequence:
        return _entries(args)
    tasks = "T" if num_tasks is None else f"T = {num_tasks} (the number of functions)"
    raise ValueError(
        f"args: expected arrays of shape (T, ...) or sequences of T entries with one {tasks}, "
        f"found arrays of shapes {shapes}"
    )


def _check_sequences(args: tuple[Any, ...], num_tasks: int | None) -> None:
    for i, arg in enumerate(args):
        if not isinstance(arg, list | tuple):
            raise ValueError(
                f"args[{i}]: expected a list or tuple with an entry for each task, as in_axes is "
                f"'sequence', found {type(arg).__name__}"
            )
    lengths = [len(arg) for arg in args] + ([] if num_tasks is None else [num_tasks])
    if len(set(lengths)) != 1 or lengths[0] < 1:
        raise ValueError(f"args: expected sequences of T entries with one T, found {lengths}")


def _entries(args: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return list(zip(*args, strict=True))


def _sliced(args: tuple[Any, ...], in_axes: Axes, num_tasks: int | None) -> Slices:
    """The arguments whose leaves are sliced along axes, as `jax.vmap` takes `in_axes`."""
    axes = _for_leaves(args, in_axes)
    leaves, structure = jax.tree.flatten(args)
    for leaf, axis in zip(leaves, axes, strict=True):
        if axis is not None and not -jnp.ndim(leaf) <= axis < jnp.ndim(leaf):
            raise ValueError(
                f"in_axes: expected axes of the arguments, found {axis} for an array of shape "
                f"{jnp.shape(leaf)}"
            )
    mapped = [
        jnp.moveaxis(jnp.asarray(x), axis, 0)
        for x, axis in zip(leaves, axes, strict=True)
        if axis is not None
    ]
    sizes = {x.shape[0] for x in mapped} | (set() if num_tasks is None else {num_tasks})
    if len(sizes) != 1 or not mapped:
        found = [jnp.shape(x) for x in leaves]
        tasks = "T" if num_tasks is None else f"T = {num_tasks} (the number of functions)"
        raise ValueError(
            f"args: expected arrays with one {tasks} at the axes in_axes={in_axes!r}, found "
            f"shapes {found}"
        )
    if 0 in sizes:
        raise ValueError("args: expected the slices of at least one task, found none")
    return Slices(sizes.pop(), mapped, leaves, [axis is not None for axis in axes], structure)


def _for_leaves(args: tuple[Any, ...], in_axes: Axes) -> list[int | None]:
    """The axis of every leaf."""
    if isinstance(in_axes, str):
        raise ValueError(
            f"in_axes: expected 'sequence', or axes as for jax.vmap, found {in_axes!r}"
        )

    def spread(axis: int | None, subtree: PyTree) -> list[int | None]:
        return [axis] * len(jax.tree.leaves(subtree))

    if in_axes is None or isinstance(in_axes, int):
        return spread(in_axes, args)
    try:
        found = jax.tree.map(spread, tuple(in_axes), args, is_leaf=lambda x: x is None)
    except ValueError as error:
        raise ValueError(f"in_axes: expected a prefix of the arguments: {error}") from error
    return [
        axis
        for axes in jax.tree.leaves(found, is_leaf=lambda x: isinstance(x, list))
        for axis in axes
    ]
