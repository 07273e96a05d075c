"""The gradients of T tasks as a method sees them: rows, and for every row a weight.

Where the rows come from is the business of `Rows`: `StackedRows` are arrays [T, *shape],
`_pending.PendingRows` are pulled back when they are asked for.  Weighting is postponed until rows
are summed or averaged, because a reduction over scaled or selected rows does not vectorise on CPUs
and runs several times slower than one over plain arrays.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp

from dbmtl_jax._task_linalg import (
    accumulation_dtype,
    gramian,
    per_task,
    squared_norms,
    weighted_sum,
)

Blend = Callable[[jax.Array, jax.Array], jax.Array]
"""(weighted gradient, old average) -> new average, entry by entry."""


class Rows(Protocol):
    """T gradients without weights."""

    @property
    def shapes(self) -> Any:
        """The tree of leaves [T, *shape], arrays or `jax.ShapeDtypeStruct`."""

    def tree(self) -> Any:
        """All rows as arrays [T, *shape]."""

    def squares(self) -> jax.Array:
        """‖row t‖² over all leaves together, [T]."""

    def products(self) -> jax.Array:
        """G Gᵀ, [T, T]."""

    def sum(self, weights: jax.Array, present: jax.Array) -> Any:
        """Σ_t w_t row_t over the present tasks."""

    def averaged(
        self, averages: Any, weights: jax.Array, present: jax.Array, blend: Blend
    ) -> tuple[Any, jax.Array, jax.Array]:
        """Every present row, times its weight, blended into its average.

        Returns:
          The averages [T, *shape], their squared norms [T], and the tasks that were present [T].
        """


class StackedRows(NamedTuple):
    """Rows that are there already."""

    stacked: Any  # leaves [T, *shape], `optax.MaskedNode` in the place of tasks' own
    num_tasks: int

    @property
    def shapes(self) -> Any:
        return self.stacked

    def tree(self) -> Any:
        return self.stacked

    def squares(self) -> jax.Array:
        return squared_norms(jax.tree.leaves(self.stacked), self.num_tasks)

    def products(self) -> jax.Array:
        return gramian(jax.tree.leaves(self.stacked), self.num_tasks)

    def sum(self, weights: jax.Array, present: jax.Array) -> Any:
        return jax.tree.map(lambda leaf: weighted_sum(weights, present, leaf), self.stacked)

    def averaged(
        self, averages: Any, weights: jax.Array, present: jax.Array, blend: Blend
    ) -> tuple[Any, jax.Array, jax.Array]:
        def average(leaf: jax.Array, old: jax.Array) -> jax.Array:
            gradient = per_task(weights, old) * leaf.astype(accumulation_dtype(leaf, old))
            return jnp.where(per_task(present, old), blend(gradient, old).astype(old.dtype), old)

        averages = jax.tree.map(average, self.stacked, averages)
        return averages, squared_norms(jax.tree.leaves(averages), self.num_tasks), present


class Stack(NamedTuple):
    """The gradients of T tasks: row t is `weights[t]` times row t of `rows`."""

    rows: Rows
    squares: jax.Array | None  # ‖row t‖² without its weight, [T]; None where nobody asked for it
    products: jax.Array | None  # the rows' inner products without weights, [T, T], if asked for
    weights: jax.Array  # [T]
    own_weights: jax.Array  # [T], of the tasks' own parameters
    present: jax.Array  # [T] bool: the tasks that take part in this step

    @property
    def tree(self) -> Any:
        """The rows without weights, leaves [T, *shape]."""
        return self.rows.tree()

    @property
    def lengths(self) -> jax.Array:
        """‖row t‖ without its weight, [T]; 0 for absent tasks."""
        squares = self.rows.squares() if self.squares is None else self.squares
        return jnp.sqrt(jnp.where(self.present, squares, 0))

    @property
    def norms(self) -> jax.Array:
        """‖row t‖ with its weight, [T]; 0 for absent tasks."""
        return self.lengths * jnp.where(self.present, jnp.abs(self.weights), 0)

    @property
    def cosines(self) -> jax.Array:
        """C_ij = cos(row i, row j), [T, T]; 0 for absent rows and for zero ones.

        With the norms d, the Gramian G Gᵀ is d_i d_j C_ij.  Kept apart, float32 holds the two
        for tasks of any scale, where the Gramian itself would lose the small ones.
        """
        products = self.rows.products() if self.products is None else self.products
        lengths = self.lengths
        usable = lengths > 0
        signs = jnp.where(usable, jnp.sign(self.weights) / jnp.where(usable, lengths, 1), 0)
        products = jnp.where(usable[:, None] & usable[None, :], products, 0)
        # One factor at a time: their product may overflow.
        cosines = products * signs[:, None] * signs[None, :]
        return jnp.fill_diagonal(cosines, usable.astype(cosines.dtype), inplace=False)

    @property
    def gramian(self) -> jax.Array:
        """G Gᵀ [T, T] over the square of the largest norm, which no dtype overflows with."""
        largest = jnp.max(self.norms)
        unit = self.norms / jnp.where(largest > 0, largest, 1)
        return self.cosines * unit[:, None] * unit[None, :]

    def scaled(self, weights: jax.Array) -> Self:
        """Every row, and the task's own parameters, times a weight [T]."""
        return self._replace(weights=self.weights * weights, own_weights=self.own_weights * weights)

    def sum(self, weights: jax.Array) -> Any:
        """Σ_t w_t row_t over the present tasks: the tree of updates."""
        combined = jnp.where(self.present, self.weights * weights, 0)
        return self.rows.sum(combined, self.present)

    def averaged(self, averages: Any, blend: Blend) -> tuple[Any, Self]:
        """Blends the present rows into averages; the new averages, and the stack of them."""
        averages, squares, present = self.rows.averaged(averages, self.weights, self.present, blend)
        stack = self._replace(
            rows=StackedRows(averages, len(present)),
            squares=squares,
            products=None,
            weights=jnp.ones_like(self.weights),
            present=present,
        )
        return averages, stack
