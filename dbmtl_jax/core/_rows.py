"""Where the tasks' gradients come from: from arrays, or from something that computes them.

The core knows the two protocols `TaskGrads` and `Rows`, and gradients that are arrays: plain trees
and `StackedRows`.  `dbmtl_jax.engine` implements the protocols for pending gradients.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _labels
from dbmtl_jax.core._task_linalg import (
    gramian,
    per_task,
    scale_tasks,
    squared_norms,
    weighted_sum,
    wide_dtype,
)
from dbmtl_jax.core._types import Array, Float, Label, Mask, PerTask, PyTree

Blend = Callable[[Array, Array], Array]
"""(scaled gradient, old average) -> new average, entry by entry."""


@runtime_checkable
class TaskGrads(Protocol):
    """Task gradients that are not a tree of arrays but can be turned into one."""

    @property
    def template(self) -> PyTree:
        """The tree: `jax.ShapeDtypeStruct` [T, *shape] for shared leaves, arrays for the others."""

    def rows(self) -> "Rows":
        """The shared leaves."""

    def stacked(self) -> PyTree:
        """The tree with arrays [T, *shape] as its shared leaves."""

    @property
    def readings(self) -> PerTask | None:
        """Factors of the rows where they are read, but not where they are summed; None: 1."""

    def read_as(self, factors: PerTask) -> "TaskGrads":
        """The same gradients with other `readings`."""

    def in_tree(self, structure: jax.tree_util.PyTreeDef) -> "TaskGrads":
        """The same gradients in another tree with as many leaves."""


@runtime_checkable
class Rows(Protocol):
    """T gradients, one row for each task, without scales.

    They are gradients with regard to the shared parameters, or to a representation, of which
    `sum` makes those of the parameters.
    """

    @property
    def shapes(self) -> PyTree:
        """The tree of leaves [T, *shape], arrays or `jax.ShapeDtypeStruct`."""

    @property
    def of_parameters(self) -> bool:
        """Whether rows and their sum are gradients of the same thing, the parameters."""

    @property
    def are_computed(self) -> bool:
        """Whether reading the rows costs no backward pass."""

    @property
    def sources_tell(self) -> bool:
        """Whether `squared_sources` tells of most rows that are not finite."""

    def computed(self) -> "Rows":
        """The same rows as arrays."""

    def tree(self) -> PyTree:
        """All rows as arrays [T, *shape]."""

    def squared_sources(self) -> PerTask:
        """Squared norms of what each row is computed from; not finite if the row cannot be."""

    def squared_norms(self) -> PerTask:
        """‖row t‖² over all leaves together."""

    def gramian(self) -> Float[Array, "T T"]:
        """The inner products of the rows."""

    def sum(self, weights: PerTask, present: Mask) -> PyTree:
        """Σ_t w_t row_t over the present tasks, as a gradient of the shared parameters."""

    def to_parameters(self, merged: PyTree) -> PyTree:
        """A gradient like one row as a gradient of the shared parameters."""

    def measured(self, which: PyTree) -> "Rows":
        """The rows with those leaves alone for which the tree `which` says True."""

    def in_branch(self) -> "Rows":
        """The same rows, to be read within a branch of the program."""

    def computed_anew(self) -> "Rows":
        """The rows as gradients of the shared parameters, by a program that keeps no cotangents.

        They are read within a branch, for the case of need.
        """

    def averaged(
        self, averages: PyTree, scales: PerTask, present: Mask, blend: Blend
    ) -> tuple[PyTree, PerTask, Mask]:
        """Every present row, times its scale, blended into its average.

        Returns:
          The averages [T, *shape], their squared norms [T], and the tasks that were present [T].
        """

    def task_grads(
        self, labels: PyTree, template: PyTree, scales: PerTask, own_scales: PerTask
    ) -> TaskGrads | PyTree:
        """Task gradients for the next transformation, row t times its scale.

        Args:
          labels: the tree of labels, one per leaf.
          template: of the task gradients; the tasks' own leaves are taken from it.
          scales: of the rows.
          own_scales: of the tasks' own leaves.
        """


class PendingLeaf:
    """Stands for one leaf of task gradients that are not computed yet, in a tree of such leaves.

    Wrappers that take a tree apart and put it together again (`flax.nnx.Optimizer`) keep it.
    """

    def __init__(self, whole: TaskGrads, index: int) -> None:
        self.whole, self.index = whole, index

    def __repr__(self) -> str:
        return f"PendingLeaf({self.index})"


def gathered(updates: TaskGrads | PyTree) -> TaskGrads | PyTree:
    """Task gradients as a method reads them: those that came in as a tree of leaves in one piece.

    Raises:
      TypeError: for a tree that does not have all leaves of one set of task gradients.
    """
    if isinstance(updates, TaskGrads):
        return updates
    leaves, structure = jax.tree.flatten(updates)
    if not any(isinstance(leaf, PendingLeaf) for leaf in leaves):
        return updates
    first = next(leaf for leaf in leaves if isinstance(leaf, PendingLeaf))
    number = len(jax.tree.leaves(first.whole.template))
    found = [leaf.index if isinstance(leaf, PendingLeaf) else None for leaf in leaves]
    if found != list(range(number)) or any(leaf.whole is not first.whole for leaf in leaves):
        raise TypeError(
            "updates: expected all leaves of pending task gradients (stream=True), which cannot be "
            "divided among transformations or mixed with arrays, found another tree; use "
            "stream=False"
        )
    return first.whole.in_tree(structure)


def template_of(updates: TaskGrads | PyTree) -> PyTree:
    """The tree of task gradients, of which only shapes and the tasks' own leaves may be read."""
    return updates.template if isinstance(updates, TaskGrads) else updates


def rows_of(updates: TaskGrads | PyTree, labels: PyTree, num_tasks: int) -> Rows:
    """The rows of task gradients, stacked or pending."""
    if isinstance(updates, TaskGrads):
        return updates.rows()
    return StackedRows(_labels.shared(labels, updates), num_tasks)


def scaled_own_leaf(task: Label, leaf: Array, own_scales: PerTask) -> Array:
    """The gradient of a task's own parameter times its scale, in the gradient's dtype."""
    if task == _labels.FROZEN:
        return leaf
    return (own_scales[task] * leaf).astype(leaf.dtype)


def measured_leaves(which: PyTree, tree: PyTree) -> PyTree:
    """The tree with `optax.MaskedNode` in the place of leaves that are not measured."""
    return jax.tree.map(lambda here, leaf: leaf if here else optax.MaskedNode(), which, tree)


class StackedRows(NamedTuple):
    """Rows that are arrays."""

    stacked: PyTree  # leaves [T, *shape], `optax.MaskedNode` in the place of tasks' own
    num_tasks: int

    @property
    def shapes(self) -> PyTree:
        return self.stacked

    @property
    def are_computed(self) -> bool:
        return True

    @property
    def of_parameters(self) -> bool:
        return True

    @property
    def sources_tell(self) -> bool:
        return True

    def computed(self) -> "StackedRows":
        return self

    def tree(self) -> PyTree:
        return self.stacked

    def squared_sources(self) -> PerTask:
        return jnp.zeros((self.num_tasks,))

    def squared_norms(self) -> PerTask:
        return squared_norms(jax.tree.leaves(self.stacked), self.num_tasks)

    def gramian(self) -> Float[Array, "T T"]:
        return gramian(jax.tree.leaves(self.stacked), self.num_tasks)

    def sum(self, weights: PerTask, present: Mask) -> PyTree:
        return jax.tree.map(lambda leaf: weighted_sum(weights, present, leaf), self.stacked)

    def to_parameters(self, merged: PyTree) -> PyTree:
        return merged

    def measured(self, which: PyTree) -> "StackedRows":
        return self._replace(stacked=measured_leaves(which, self.stacked))

    def in_branch(self) -> "StackedRows":
        return self

    def computed_anew(self) -> "StackedRows":
        return self

    def averaged(
        self, averages: PyTree, scales: PerTask, present: Mask, blend: Blend
    ) -> tuple[PyTree, PerTask, Mask]:
        def average(leaf: Array, old: Array) -> Array:
            gradient = per_task(scales, old) * leaf.astype(wide_dtype(leaf, old))
            return jnp.where(per_task(present, old), blend(gradient, old).astype(old.dtype), old)

        averages = jax.tree.map(average, self.stacked, averages)
        return averages, squared_norms(jax.tree.leaves(averages), self.num_tasks), present

    def task_grads(
        self, labels: PyTree, template: PyTree, scales: PerTask, own_scales: PerTask
    ) -> PyTree:
        def place(label: Label, leaf: PyTree, row: PyTree) -> Array:
            if label == _labels.SHARED:
                return scale_tasks(scales, row).astype(leaf.dtype)
            return scaled_own_leaf(label, leaf, own_scales)

        return jax.tree.map(place, labels, template, self.stacked)
