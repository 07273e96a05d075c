"""The Jacobian of T losses as functions, of which nothing is computed until it is asked for.

Row t of the Jacobian J is a pullback of a cotangent, J_t = f(c_t), and f is linear.  So a weighted
sum of rows is one pullback of the weighted cotangent, norms need one row at a time, and the
Gramian J Jᵀ is made of columns J J_tᵀ, each a row pushed forward again.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._types import Array, PerTask, PyTree
from dbmtl_jax.engine._task_map import Mode, map_tasks


@dataclasses.dataclass(frozen=True)
class Jacobian:
    """T gradients with regard to the shared leaves, as functions."""

    pull: Callable[[Sequence[Array]], list[Array]]  # a cotangent to the shared leaves
    rows: Sequence[Sequence[Array]]  # row t of the Jacobian is pull(rows[t])
    push: Callable[[Sequence[Array]], Sequence[Array]]  # tangents of the shared leaves forward
    unroll: bool  # whether tasks follow each other in the program; else they run in a loop

    @functools.cached_property
    def cotangents(self) -> list[Array]:
        """The cotangents of all tasks, [T, ...] each."""
        return [jnp.stack(column) for column in zip(*self.rows, strict=True)]

    def scaled(self, scales: PerTask) -> "Jacobian":
        """Row t times a scale."""
        rows = [
            [(scales[task] * c).astype(c.dtype) for c in row] for task, row in enumerate(self.rows)
        ]
        return dataclasses.replace(self, rows=rows)

    def stacked(self, chosen: tuple[Mode, int | None]) -> list[Array]:
        """Every row, computed as chosen: the shared leaves [T, *shape]."""
        if chosen[0] != "unroll":
            return map_tasks(self.pull, self.cotangents, chosen)
        computed = [self.pull(row) for row in self.rows]
        return [jnp.stack(column) for column in zip(*computed, strict=True)]


def assemble(labels: PyTree, shared: Sequence[PyTree], own: Sequence[PyTree]) -> PyTree:
    """The tree of params with these shared leaves, and the others out of `own`, one per leaf."""
    flat_labels, structure = jax.tree.flatten(labels)
    rest = iter(shared)
    leaves = [
        next(rest) if label == _labels.SHARED else leaf
        for label, leaf in zip(flat_labels, own, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)


def row_structs(labels: PyTree, params: PyTree, num_tasks: int) -> list[jax.ShapeDtypeStruct]:
    """The shared leaves of stacked gradients, [T, *shape], as shapes."""
    return [
        jax.ShapeDtypeStruct((num_tasks, *jnp.shape(leaf)), jnp.result_type(leaf))
        for label, leaf in zip(jax.tree.leaves(labels), jax.tree.leaves(params), strict=True)
        if label == _labels.SHARED
    ]
