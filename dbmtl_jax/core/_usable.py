"""Which tasks of a step are usable, and why the others are not."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _checks, _labels
from dbmtl_jax.core._parts import Merged, Reads
from dbmtl_jax.core._rows import Rows, TaskGrads, rows_of, template_of
from dbmtl_jax.core._strict import strict
from dbmtl_jax.core._task_linalg import squared_norm
from dbmtl_jax.core._tasks import Summed, Tasks
from dbmtl_jax.core._types import Array, Float, Int, Mask, PerTask, PyTree

CAUSES = ("none", "loss", "gradient", "weight", "refused")
"""Why a task was skipped: what was not finite, or "refused" for a loss that cannot be weighed."""


def tasks_of(
    updates: TaskGrads | PyTree,
    step: _checks.Step,
    num_tasks: int,
    reads: Reads,
    extra_args: Mapping[str, Any],
    method: str,
    measured: PyTree | None = None,
) -> Tasks:
    """The tasks of a step, without those that are masked or not finite.

    The sum of squares finds a NaN or an infinity: a pass of `isfinite` does not vectorise on CPUs.
    A gradient whose squared norm overflows (‖g_t‖ > 1.8e19 in float32) therefore counts as not
    finite.  Pending gradients that the method does not read are checked by their cotangents.
    """
    whole = rows_of(updates, step.labels, num_tasks)
    checked = whole.squared_sources()
    ones = jnp.ones((num_tasks,), checked.dtype)
    rows, summed = whole, None
    if measured is not None:
        rows, summed = _measured(whole, measured, method), Summed(whole, ones)
        if whole.are_computed:
            checked += whole.squared_norms()
    rows, squares, products = _read(rows, reads)
    if squares is not None:
        checked = squares + checked
    present = step.mask
    if not strict():
        present &= jnp.isfinite(checked)
        if step.losses is not None:
            present &= jnp.isfinite(step.losses)
        for task, leaf in _labels.own_leaves(step.labels, template_of(updates)):
            finite = jnp.isfinite(squared_norm([leaf]))
            present = present.at[task].set(present[task] & finite)
    scales = ones
    readings = updates.readings if isinstance(updates, TaskGrads) else None
    if readings is not None:
        scales, summed = readings.astype(ones.dtype), Summed(whole, ones)
        present &= jnp.isfinite(readings)
    return Tasks(
        rows,
        squares,
        products,
        scales=scales,
        own_scales=ones,
        present=present,
        refused=jnp.zeros((num_tasks,), bool),
        given_losses=step.losses,
        extra_args=extra_args,
        method=method,
        summed=summed,
    )


def _measured(rows: Rows, which: PyTree, method: str) -> Rows:
    """The measured leaves of the rows."""
    if not rows.of_parameters:
        raise TypeError(
            f"measured: {method} measures parameters, found gradients of a representation "
            '(wrt="representation"), which has none; use one of the two'
        )
    return rows.measured(which)


def _read(rows: Rows, reads: Reads) -> tuple[Rows, PerTask | None, Float[Array, "T T"] | None]:
    """Rows, their squared norms and their inner products, as far as they are read or known."""
    if reads == "rows":
        rows = rows.computed()
    products = rows.gramian() if reads == "gramian" else None
    if products is not None:
        return rows, jnp.diagonal(products), products
    if reads != "sum" or rows.are_computed:
        return rows, rows.squared_norms(), None
    return rows, None, None


def reading(tasks: Tasks, reads: Reads) -> Tasks:
    """The tasks with more that is read of their rows, and without those that are not finite."""
    rows, squares, products = _read(tasks.rows, reads)
    present = tasks.present
    if squares is not None and not strict():
        present &= jnp.isfinite(squares)
    return tasks._replace(rows=rows, squares=squares, products=products, present=present)


def sum_of_usable(tasks: Tasks, weights: PerTask) -> tuple[PyTree, Mask]:
    """Σ_t w_t g_t, and which tasks took part, where what was read does not tell that it is finite.

    Only a sum that is not finite makes it necessary to compute all rows, to find whose fault it is.
    """
    updates = tasks.sum(weights)
    if strict():
        return updates, tasks.present

    rows, scales = tasks.summed or Summed(tasks.rows, tasks.scales)
    rows = rows.computed_anew()

    def without_bad_rows(updates: PyTree) -> tuple[PyTree, Mask]:
        present = tasks.present & jnp.isfinite(rows.squared_norms())
        found = rows.sum(jnp.where(present, scales * weights, 0), present)
        finite = jnp.isfinite(squared_norm(jax.tree.leaves(found)))
        return jax.tree.map(lambda x: jnp.where(finite, x, 0), found), present & finite

    finite = jnp.isfinite(squared_norm(jax.tree.leaves(updates)))
    return jax.lax.cond(finite, lambda x: (x, tasks.present), without_bad_rows, updates)


def without_a_bad_sum(merged: Merged, tasks: Tasks) -> tuple[PyTree, Mask]:
    """The updates, and which tasks took part.

    If no single row was computed and the sum is not finite, any task may be the cause: then no task
    is present, and the update is zero.  Pulled back, even a zero cotangent may become NaN.
    """
    updates = merged.updates
    if strict() or merged.checked:
        return updates, tasks.present
    if tasks.squares is None or not tasks.rows.of_parameters:
        usable = jnp.isfinite(squared_norm(jax.tree.leaves(updates)))
    elif not tasks.rows.are_computed:
        usable = jnp.any(tasks.present)
    else:
        return updates, tasks.present
    return jax.tree.map(lambda x: jnp.where(usable, x, 0), updates), tasks.present & usable


def poisoned(updates: PyTree, tasks: Tasks, step: _checks.Step) -> PyTree:
    """The updates, NaN if a task is not usable: `jax_debug_nans` finds a NaN, but no infinity."""
    bad = ~jnp.isfinite(squared_norm(jax.tree.leaves(updates)))
    for values in (tasks.squares, step.losses):
        if values is not None:
            bad |= jnp.any(step.mask & ~jnp.isfinite(values))
    return jax.tree.map(lambda x: jnp.where(bad, jnp.nan, x), updates)


def cause_of(step: _checks.Step, tasks: Tasks, weights: PerTask | None) -> Int[Array, " T"]:
    """What would be the cause if a task is skipped, as an index into `CAUSES`."""
    cause = jnp.full(tasks.present.shape, CAUSES.index("gradient"), jnp.int32)
    if weights is not None:
        cause = jnp.where(jnp.isfinite(weights), cause, CAUSES.index("weight"))
    cause = jnp.where(jnp.isfinite(tasks.scales), cause, CAUSES.index("weight"))
    if step.losses is not None:
        usable = jnp.isfinite(step.losses)
        cause = jnp.where(usable, cause, CAUSES.index("loss"))
    return jnp.where(tasks.refused, CAUSES.index("refused"), cause)
