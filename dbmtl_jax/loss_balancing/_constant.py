"""Constant weights."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from dbmtl_jax.core import _checks
from dbmtl_jax.core._loss_balancer import LossBalancer, loss_balancer, scaling_form
from dbmtl_jax.core._names import numbers
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import Array, Labels, Memory, PerTask, TaskCount


def constant(
    num_tasks: TaskCount,
    *,
    weights: Array | Sequence[float] | Mapping[str, float] | None = None,
    labels: Labels = None,
) -> LossBalancer:
    r"""The weighted sum of the losses with given weights.

    .. math:: \text{update } \sum_t c_t \nabla \ell_t

    A task's own parameters get their gradient times c_t.  `scale_by_constant` in front of another
    method weighs the losses that this one sees.

    Args:
      num_tasks: T, or the names of the tasks.
      weights: c, [T] numbers, or by name; None: 1 each.
      labels: see `dbmtl_jax.core`.

    Raises:
      TypeError, ValueError: for weights that are not one finite number for each task.

    Source: the weighted sum of the losses, also called linear scalarization.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.constant(num_tasks=2, weights=[1.0, 0.5])
      >>> grads, losses = jnp.array([[1.0], [4.0]]), jnp.ones(2)
      >>> update, _ = tx.update(grads, tx.init(jnp.zeros(1)), losses=losses)
      >>> print(update)
      [3.]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    given = np.ones(num_tasks) if weights is None else numbers("weights", weights, num_tasks)

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        return jnp.asarray(given, tasks.scales.dtype), memory

    return loss_balancer(num_tasks, weigh, labels=labels, name="constant")


scale_by_constant = scaling_form(constant)
