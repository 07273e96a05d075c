"""The rows of pending gradients, computed one after the other."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core._rows import Blend, StackedRows, TaskGrads, measured_leaves
from dbmtl_jax.core._strict import strict
from dbmtl_jax.core._task_linalg import (
    accumulation_dtype,
    real_leaves,
    squared_norm,
    stacked_zeros,
    wide_dtype,
)
from dbmtl_jax.core._types import Array, Float, Mask, PerTask, PyTree
from dbmtl_jax.engine._jacobian import Jacobian
from dbmtl_jax.engine._jaxpr import contains
from dbmtl_jax.engine._task_map import Way


class PendingRows(NamedTuple):
    """Rows that are computed on demand, one task after the other."""

    jacobian: Jacobian
    shapes: PyTree  # leaves `jax.ShapeDtypeStruct` [T, *shape]
    scaled: Callable[
        [PerTask, PerTask], TaskGrads
    ]  # (scales, own scales) -> task grads, still pending

    @property
    def of_parameters(self) -> bool:
        return True

    @property
    def are_computed(self) -> bool:
        return False

    @property
    def sources_tell(self) -> bool:
        return self.jacobian.sources_tell

    def computed(self) -> StackedRows:
        return StackedRows(self.tree(), self._num_tasks)

    def tree(self) -> PyTree:
        empty = [stacked_zeros(self._num_tasks, leaf, leaf.dtype) for leaf in self.jacobian.leaves]

        def write(task: int | Array, row: list[Array], stacked: PyTree) -> tuple[PyTree, Array]:
            return _write(stacked, row, task), squared_norm(row)

        return self._unflatten(self._fold(write, empty))

    def squared_sources(self) -> PerTask:
        return self.jacobian.squared_norms()

    def squared_norms(self) -> PerTask:
        def square(task: int | Array, row: list[Array], squares: Array) -> tuple[PyTree, Array]:
            value = _square(row)
            return squares.at[task].set(value), value

        return self._fold(square, jnp.zeros((self._num_tasks,), self._dtype))

    def gramian(self) -> Float[Array, "T T"]:
        if not self._can_push():
            return self.computed().gramian()

        def column(task: int | Array, row: list[Array], matrix: Array) -> tuple[PyTree, Array]:
            values = self.jacobian.along(row).astype(matrix.dtype)
            # The row's own norm is more precise than one pushed forward and back.
            square = _square(row)
            return matrix.at[task].set(values.at[task].set(square)), square

        size = self._num_tasks
        matrix = self._fold(column, jnp.zeros((size, size), self._dtype))
        return (matrix + matrix.T) / 2

    def sum(self, weights: PerTask, present: Mask) -> PyTree:
        return self.pulled(self.jacobian.weighted(weights, present))

    def to_parameters(self, merged: PyTree) -> PyTree:
        return merged

    def pulled(self, cotangents: Sequence[Array]) -> PyTree:
        """A cotangent as a gradient of the parameters."""
        return self._unflatten(self.jacobian.pull(cotangents, unrolled=True))

    def measured(self, which: PyTree) -> "PendingRows":
        shapes = measured_leaves(which, self.shapes)
        here = [
            here
            for here, leaf in zip(jax.tree.leaves(which), _all_leaves(self.shapes), strict=True)
            if not isinstance(leaf, optax.MaskedNode)
        ]
        return self._replace(jacobian=self.jacobian.restricted(here), shapes=shapes)

    def in_branch(self) -> "PendingRows":
        return self._replace(jacobian=self.jacobian.in_branch())

    def computed_anew(self) -> "PendingRows":
        return self._replace(jacobian=self.jacobian.computed_anew())

    def averaged(
        self, averages: PyTree, scales: PerTask, present: Mask, blend: Blend
    ) -> tuple[PyTree, PerTask, Mask]:
        leaves, structure = jax.tree.flatten(averages)

        def average(task: int | Array, row: list[Array], carry: PyTree) -> tuple[PyTree, Array]:
            leaves, squares = carry
            new = []
            for gradient, leaf in zip(row, leaves, strict=True):
                old = jax.lax.dynamic_index_in_dim(leaf, task, keepdims=False)
                wide = scales[task] * gradient.astype(wide_dtype(gradient, leaf))
                new.append(blend(wide, old).astype(leaf.dtype))
            square = _square(new)
            usable = present[task]
            if not strict():
                usable &= jnp.isfinite(square)
            leaves = _write_if(usable, leaves, new, task)
            return (leaves, squares.at[task].set(square)), square

        squares = jnp.zeros((self._num_tasks,), accumulation_dtype(*leaves))
        leaves, squares = self._fold(average, (leaves, squares))
        if not strict():
            present &= jnp.isfinite(squares)
        return jax.tree.unflatten(structure, leaves), squares, present

    def task_grads(
        self, labels: PyTree, template: PyTree, scales: PerTask, own_scales: PerTask
    ) -> PyTree:
        return self.scaled(scales, own_scales)

    @property
    def _num_tasks(self) -> int:
        return self.jacobian.num_tasks

    @property
    def _dtype(self) -> jnp.dtype:
        return accumulation_dtype(*jax.tree.leaves(self.shapes))

    def _unflatten(self, leaves: list[Array]) -> PyTree:
        structs, structure = jax.tree.flatten(self.shapes)
        cast = [x.astype(struct.dtype) for x, struct in zip(leaves, structs, strict=True)]
        return jax.tree.unflatten(structure, cast)

    def _fold(
        self, body: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]], carry: PyTree
    ) -> PyTree:
        """`carry, square = body(t, row t, carry)` for one task after the other."""
        row = self.jacobian.row_reader()
        nothing = jnp.zeros((), jnp.int32)

        def loop(t: Array, carry: PyTree) -> PyTree:
            return body(t, row(t, nothing, False), carry)[0]

        def folded(way: Way) -> PyTree:
            if way.mode != "unroll":
                return jax.lax.fori_loop(0, self._num_tasks, loop, carry)
            now, wait = carry, nothing
            for task in range(self._num_tasks):
                now, square = body(task, row(task, wait, True), now)
                # Always 0.  The next row cannot be computed before this one is used up; the
                # compiler would otherwise start them all, and keep them all.
                wait = (square < -1).astype(jnp.int32)
            return now

        return self.jacobian.chosen.run(folded)

    def _can_push(self) -> bool:
        """Whether forward mode exists (not behind `jax.custom_vjp`), and is precise enough."""
        structs = jax.tree.leaves(self.shapes)
        if not self.jacobian.can_push:
            return False
        if any(accumulation_dtype(struct) != struct.dtype for struct in structs):
            return False
        row = [jax.ShapeDtypeStruct(struct.shape[1:], struct.dtype) for struct in structs]
        return not contains(jax.make_jaxpr(self.jacobian.along)(row).jaxpr, "custom_lin")


def _all_leaves(tree: PyTree) -> list[Any]:
    """The leaves, also those that are masked."""
    return jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, optax.MaskedNode))


def _wide(array: Array) -> Array:
    return array.astype(accumulation_dtype(array))


def _square(row: list[Array]) -> Array:
    """‖row‖² over all leaves together, a scalar."""
    total = jnp.zeros((), accumulation_dtype(*row))
    for leaf in map(_wide, real_leaves(row)):
        total += jnp.sum(leaf * leaf)
    return total


def _write_if(
    usable: Array, stacked: list[Array], row: list[Array], task: int | Array
) -> list[Array]:
    """`_write`, unless the row is not to be written."""
    on_gpu = functools.partial(write_selected, usable, task=task)
    elsewhere = functools.partial(write_in_loop, usable, task=task)
    return jax.lax.platform_dependent(stacked, row, cuda=on_gpu, rocm=on_gpu, default=elsewhere)


def write_in_loop(
    usable: Array, stacked: list[Array], row: list[Array], task: int | Array
) -> list[Array]:
    """A loop of one or no iterations writes in place; a `where` would read the old row again."""
    return jax.lax.fori_loop(
        0, usable.astype(jnp.int32), lambda _, leaves: _write(leaves, row, task), stacked
    )


def write_selected(
    usable: Array, stacked: list[Array], row: list[Array], task: int | Array
) -> list[Array]:
    """Without a loop whose length depends on data, about which a GPU asks its host."""
    kept = [
        jnp.where(usable, new, jax.lax.dynamic_index_in_dim(old, task, keepdims=False))
        for old, new in zip(stacked, row, strict=True)
    ]
    return _write(stacked, kept, task)


def _write(stacked: list[Array], row: list[Array], task: int | Array) -> list[Array]:
    return [
        jax.lax.dynamic_update_index_in_dim(leaf, new.astype(leaf.dtype), task, 0)
        for leaf, new in zip(stacked, row, strict=True)
    ]
