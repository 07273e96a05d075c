"""Which tasks of a step are usable, and why the others are not."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _checks, _labels
from dbmtl_jax.core._parts import Reads
from dbmtl_jax.core._rows import TaskGrads, rows_of, template_of
from dbmtl_jax.core._strict import strict
from dbmtl_jax.core._task_linalg import squared_norm
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import Array, Int, Mask, PerTask, PyTree

CAUSES = ("none", "loss", "gradient", "weight", "refused")
"""Why a task was skipped: what was not finite, or "refused" for a loss that cannot be weighed."""


def tasks_of(
    updates: TaskGrads | PyTree,
    step: _checks.Step,
    num_tasks: int,
    reads: Reads,
    extra_args: Mapping[str, Any],
    method: str,
) -> Tasks:
    """The tasks of a step, without those that are masked or not finite.

    The sum of squares finds a NaN or an infinity: a pass of `isfinite` does not vectorise on CPUs.
    A gradient whose squared norm overflows (‖g_t‖ > 1.8e19 in float32) therefore counts as not
    finite.  Pending gradients that the method does not read are checked by their cotangents.
    """
    rows = rows_of(updates, step.labels, num_tasks)
    checked = rows.squared_sources()
    if reads == "rows":
        rows = rows.computed()
    products = rows.gramian() if reads == "gramian" else None
    squares = None
    if products is not None:
        squares = jnp.diagonal(products)
    elif reads != "sum" or rows.are_computed:
        squares = rows.squared_norms()
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
    ones = jnp.ones((num_tasks,), checked.dtype)
    return Tasks(
        rows,
        squares,
        products,
        scales=ones,
        own_scales=ones,
        present=present,
        refused=jnp.zeros((num_tasks,), bool),
        given_losses=step.losses,
        extra_args=extra_args,
        method=method,
    )


def without_a_bad_sum(updates: PyTree, tasks: Tasks) -> tuple[PyTree, Mask]:
    """The updates, and which tasks took part.

    If no single row was computed and the sum is not finite, any task may be the cause: then no task
    is present, and the update is zero.  Pulled back, even a zero cotangent may become NaN.
    """
    if strict():
        return updates, tasks.present
    if tasks.squares is None:
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
