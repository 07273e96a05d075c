"""T tasks in one step, as a method sees them.

Scaling is postponed until rows are summed or averaged, because a reduction over scaled or selected
rows does not vectorise on CPUs and runs several times slower than one over plain arrays.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dbmtl_jax.core._gramian import Gramian, cosines_of
from dbmtl_jax.core._rows import Blend, Rows, StackedRows
from dbmtl_jax.core._task_linalg import per_task
from dbmtl_jax.core._types import Array, Float, Mask, PerTask, PyTree


class Summed(NamedTuple):
    """The rows that are summed, where other rows only say with which weights."""

    rows: Rows
    scales: PerTask


class Tasks(NamedTuple):
    """T tasks in one step: the gradient of task t is `scales[t]` times row t of `rows`.

    A method reads `losses`, `norms`, `cosines`, `gramian`, `task_grads`, `present` and
    `extra_args`; the other fields are for the library.
    """

    rows: Rows  # read, and summed
    squares: PerTask | None  # ‖row t‖²; None if not computed yet
    products: Float[Array, "T T"] | None  # the rows' inner products; None if not computed yet
    scales: PerTask
    own_scales: PerTask  # factors of the gradients of the tasks' own parameters
    present: Mask  # the tasks that take part in this step
    refused: Mask  # those that do not because a loss balancer cannot weigh their loss
    given_losses: PerTask | None  # as passed to `update`, float32 at least
    extra_args: Mapping[str, Any]  # the other keywords of `update`
    method: str  # the method's name, for error messages
    summed: Summed | None = None  # what is summed in the place of `rows`, which are then only read

    @property
    def num_tasks(self) -> int:
        """T."""
        return self.present.shape[0]

    @property
    def losses(self) -> PerTask:
        """The raw losses at which the gradients were taken, float32 at least.

        Raises:
          TypeError: if `update` was called without them.
        """
        if self.given_losses is None:
            raise TypeError(
                f"losses: {self.method} needs the raw task losses, found None; pass them to "
                f"`tx.update(..., losses=losses)` as an array of shape ({self.num_tasks},); Flax's "
                "TrainState.apply_gradients drops them (see docs/guides/frameworks.md)"
            )
        return self.given_losses

    @property
    def norms(self) -> PerTask:
        """The norm of each gradient over all shared parameters together; 0 for absent tasks."""
        return self._lengths * jnp.where(self.present, jnp.abs(self.scales), 0)

    @property
    def cosines(self) -> Float[Array, "T T"]:
        """The cosines between the gradients; 0 for absent tasks and for zero gradients."""
        products = self.rows.gramian() if self.products is None else self.products
        return cosines_of(products, self._lengths, jnp.sign(self.scales))

    @property
    def gramian(self) -> Gramian:
        """The inner products of the gradients, as norms and cosines."""
        return Gramian(self.norms, self.cosines, self.present)

    @property
    def task_grads(self) -> PyTree:
        """The gradients with regard to the shared parameters, [T, *shape]; 0 for absent tasks."""

        def scaled(leaf: Array) -> Array:
            gradient = (per_task(self.scales, leaf) * leaf).astype(leaf.dtype)
            return jnp.where(per_task(self.present, leaf), gradient, 0)

        return jax.tree.map(scaled, self.rows.tree())

    @property
    def _lengths(self) -> PerTask:
        """‖row t‖ without its scale; 0 for absent tasks."""
        squares = self.rows.squared_norms() if self.squares is None else self.squares
        return jnp.sqrt(jnp.where(self.present, squares, 0))

    def scaled(self, weights: PerTask) -> "Tasks":
        """The tasks with all gradients of task t, own parameters included, times `weights[t]`."""
        return self.rescaled(weights)._replace(own_scales=self.own_scales * weights)

    def rescaled(self, factors: PerTask) -> "Tasks":
        """The tasks with the shared parameters' gradients of task t times `factors[t]`."""
        summed = self.summed
        if summed is not None:
            summed = summed._replace(scales=summed.scales * factors)
        return self._replace(scales=self.scales * factors, summed=summed)

    def sum(self, weights: PerTask) -> PyTree:
        """Σ_t w_t g_t over the present tasks: the tree of updates [*shape]."""
        rows, scales = self.summed or Summed(self.rows, self.scales)
        return rows.sum(jnp.where(self.present, scales * weights, 0), self.present)

    def with_norms(self, norms: PerTask) -> "Tasks":
        """The tasks with gradients that are read as if these were their norms, but summed as is."""
        lengths = self._lengths
        scales = jnp.where(lengths > 0, norms / jnp.where(lengths > 0, lengths, 1), 1)
        signs = jnp.where(self.scales < 0, -1, 1)
        summed = self.summed or Summed(self.rows, self.scales)
        return self._replace(scales=signs * scales, summed=summed)

    def averaged(self, averages: PyTree, blend: Blend) -> tuple[PyTree, "Tasks"]:
        """Moves the averages of the present tasks towards their gradients.

        Returns:
          The new averages, and the tasks with the averages in place of their gradients.
        """
        averages, squares, present = self.rows.averaged(averages, self.scales, self.present, blend)
        tasks = self._replace(
            rows=StackedRows(averages, len(present)),
            squares=squares,
            products=None,
            scales=jnp.ones_like(self.scales),
            present=present,
        )
        return averages, tasks
