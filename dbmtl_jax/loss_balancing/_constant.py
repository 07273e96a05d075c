"""Constant weights."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._loss_balancer import LossBalancer, loss_balancer, scaling_form
from dbmtl_jax.core._names import in_order
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import Array, Labels, Memory, PerTask, TaskCount


def constant(
    num_tasks: TaskCount,
    *,
    weights: Array | Sequence[float] | Mapping[str, float],
    labels: Labels = None,
) -> LossBalancer:
    r"""The weighted sum of the losses with given weights.

    .. math:: \text{update } \sum_t c_t \nabla \ell_t

    A task's own parameters get their gradient times c_t.  `scale_by_constant` in front of another
    method weighs the losses that this one sees.

    Args:
      num_tasks: T, or the names of the tasks.
      weights: c, [T] numbers, or by name.
      labels: see `dbmtl_jax.core`.

    Raises:
      TypeError, ValueError: for weights that are not one number for each task.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.constant(num_tasks=2, weights=[1.0, 0.5])
      >>> grads, losses = jnp.array([[1.0], [4.0]]), jnp.ones(2)
      >>> update, _ = tx.update(grads, tx.init(jnp.zeros(1)), losses=losses)
      >>> print(update)
      [3.]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    given = jnp.asarray(in_order("weights", weights, num_tasks), dtype=float)
    if given.shape != (num_tasks,):
        raise ValueError(f"weights: expected shape ({num_tasks},), found {given.shape}")

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        return given, memory

    return loss_balancer(num_tasks, weigh, labels=labels, name="constant")


scale_by_constant = scaling_form(constant)
