"""Parts in front of a method that change how long the tasks' gradients are."""

from collections.abc import Callable

import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._parts import Part
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation, transformation
from dbmtl_jax.core._types import (
    Labels,
    Measured,
    Memory,
    PerTask,
    Scalar,
    TaskCount,
)


def normalize_rows(
    num_tasks: TaskCount, *, labels: Labels = None, measured: Measured = None
) -> TaskTransformation:
    r"""Gives every task's gradient the norm 1.

    .. math:: g_t \leftarrow g_t / \|g_t\|

    with the norm over all shared parameters together.  A zero gradient stays zero.  The gradients
    of a task's own parameters pass through unchanged.

    Args:
      num_tasks: T, or the names of the tasks.
      labels, measured: see `dbmtl_jax.core`.

    Returns:
      A transformation of stacked gradients [T, *shape] into stacked gradients, to be chained in
      front of a method.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.normalize_rows(num_tasks=2)
      >>> updates, _ = tx.update(jnp.array([[3.0, 4.0], [0.0, 500.0]]), tx.init(jnp.zeros(2)))
      >>> print(updates)
      [[0.6 0.8]
       [0.  1. ]]
    """
    return _rescaling(num_tasks, lambda norms: 1 / norms, labels, measured, "normalize_rows")


def clip_rows(
    num_tasks: TaskCount,
    max_norm: Scalar,
    *,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Shortens every task's gradient to a largest norm.

    .. math:: g_t \leftarrow g_t \min(1, c / \|g_t\|)

    with the norm over all shared parameters together.  The gradients of a task's own parameters
    pass through unchanged.

    Args:
      num_tasks: T, or the names of the tasks.
      max_norm: c >= 0.
      labels, measured: see `dbmtl_jax.core`.

    Returns:
      A transformation of stacked gradients [T, *shape] into stacked gradients, to be chained in
      front of a method.

    Raises:
      TypeError, ValueError: for a max_norm that is no number or negative.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.clip_rows(num_tasks=2, max_norm=10.0)
      >>> updates, _ = tx.update(jnp.array([[3.0, 4.0], [0.0, 500.0]]), tx.init(jnp.zeros(2)))
      >>> print(updates)
      [[ 3.  4.]
       [ 0. 10.]]
    """
    _checks.check_range("max_norm", max_norm, 0.0, or_inf=True)

    def factor(norms: PerTask) -> PerTask:
        return jnp.minimum(1, max_norm / norms)

    return _rescaling(num_tasks, factor, labels, measured, "clip_rows")


def _rescaling(
    num_tasks: TaskCount,
    factor: Callable[[PerTask], PerTask],
    labels: Labels,
    measured: Measured,
    name: str,
) -> TaskTransformation:
    """Multiplies the gradients of the shared parameters by a function of their norms."""
    num_tasks = _checks.check_num_tasks(num_tasks)

    def update(tasks: Tasks, state: Memory) -> tuple[Tasks, Memory]:
        norms = tasks.norms
        return tasks.rescaled(factor(jnp.where(norms > 0, norms, 1))), state

    part = Part(lambda shared: (), update, reads="norms")
    return transformation(num_tasks, (part,), None, labels, name, measured)
