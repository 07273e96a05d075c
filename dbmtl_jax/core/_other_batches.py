"""The same tasks' gradients on other batches: the extra argument `other_grads` of `update`."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _checks
from dbmtl_jax.core._rows import TaskGrads
from dbmtl_jax.core._task_linalg import (
    accumulation_dtype,
    cross_products,
    per_task,
    squared_norms,
    wide_dtype,
)
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import Array, Float, Mask, PerTask, PyTree


def other_batches(tasks: Tasks, least: int, most: int) -> list[list[Array]]:
    """The shared leaves [T, *shape] of each further batch, in the order of the tasks' own.

    Raises:
      TypeError: unless `update` was called with a sequence of them, for pending ones, and with
        gradients of a representation.
      ValueError: for another number of batches, or a tree that differs from that of the updates.
    """
    given = tasks.extra_args.get("other_grads")
    if not isinstance(given, list | tuple):
        found = "None" if given is None else type(given).__name__
        raise TypeError(
            f"other_grads: {tasks.method} needs a sequence of the task gradients of {least} to "
            f"{most} other batches, found {found}"
        )
    if not least <= len(given) <= most:
        raise ValueError(f"other_grads: expected {least} to {most} batches, found {len(given)}")
    if not tasks.rows.of_parameters:
        raise TypeError(
            "other_grads: expected None with gradients of a representation, found a sequence"
        )
    rows, structure = jax.tree.flatten(tasks.rows.shapes, is_leaf=_is_masked)
    batches = []
    for i, tree in enumerate(given):
        if any(isinstance(x, TaskGrads) for x in (tree, *jax.tree.leaves(tree, is_leaf=_pending))):
            raise TypeError(
                f"other_grads[{i}]: expected stacked gradients, found pending ones (stream=True); "
                "pass what their method `stacked()` returns"
            )
        leaves, found = jax.tree.flatten(tree)
        if found != structure:
            raise ValueError(
                f"other_grads[{i}]: expected a tree like the updates, {structure}, found {found}"
            )
        shared = [x for x, row in zip(leaves, rows, strict=True) if not _is_masked(row)]
        expected = [row for row in rows if not _is_masked(row)]
        _checks.check_same_shapes(f"other_grads[{i}]", shared, "the updates", expected)
        batches.append(shared)
    return batches


def finite_rows(batches: Sequence[Sequence[Array]], num_tasks: int) -> Mask:
    """The tasks whose gradients are finite in every batch."""
    return jnp.isfinite(sum(squared_norms(batch, num_tasks) for batch in batches))


def products(first: Sequence[Array], second: Sequence[Array], present: Mask) -> Float[Array, "T T"]:
    """G₁ G₂ᵀ, with zeros for absent tasks."""
    total = jnp.zeros((len(present), len(present)), accumulation_dtype(*first, *second))
    for pair in zip(first, second, strict=True):
        total += cross_products(*(jnp.where(per_task(present, x), x, 0) for x in pair))
    return total


def combined(
    weights: PerTask, present: Mask, batches: Sequence[Sequence[Array]], like: PyTree
) -> PyTree:
    """The mean over batches of Σ_t w_t g_t, as a tree of updates."""
    count = len(batches)

    def one(*leaves: Array) -> Array:
        dtype = wide_dtype(*leaves)
        mean = sum(jnp.where(per_task(present, x), x, 0).astype(dtype) for x in leaves) / count
        return jnp.sum(per_task(weights, leaves[0]) * mean, axis=0).astype(leaves[0].dtype)

    merged = [one(*leaves) for leaves in zip(*batches, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(like), merged)


def _pending(x: object) -> bool:
    return isinstance(x, TaskGrads)


def _is_masked(x: object) -> bool:
    return isinstance(x, optax.MaskedNode)
