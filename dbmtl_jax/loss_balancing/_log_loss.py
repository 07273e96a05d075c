"""Loss-scale balancing by the logarithm (DB-MTL, Section 3.1)."""

from dbmtl_jax.core import _checks
from dbmtl_jax.core._loss_balancer import loss_balancer
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Labels, Memory, PerTask, Scalar, TaskCount


def scale_by_log_loss(
    num_tasks: TaskCount, *, eps: Scalar = 1e-8, labels: Labels = None
) -> TaskTransformation:
    r"""Turns the gradients of the losses into those of their logarithms.

    .. math:: \nabla \log(\ell_t + \epsilon) = \frac{\nabla \ell_t}{\ell_t + \epsilon}

    for the shared parameters and for each task's own alike (the paper's Algorithm 1, steps 6 and
    12).  The logarithm makes the update independent of the scale of every loss.  IMTL-L with s at
    its exact minimum gives the same gradients (Proposition 3.1).

    A loss that is not finite or is at most -ε has no logarithm; dividing by a negative number would
    flip the gradient's sign and *maximise* the loss.  The gradients of such a task become NaN,
    which tells the transformations that follow that the task is absent from this step.

    Args:
      num_tasks: T, or the names of the tasks.
      eps: ε, added to the loss.
      labels: see `dbmtl_jax.core`.

    Returns:
      A transformation of stacked gradients [T, *shape] into stacked gradients; its `update`
      needs `losses` [T].

    Source: DB-MTL, Section 3.1.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.scale_by_log_loss(num_tasks=2)
      >>> grads = jnp.array([[2.0, 4.0], [300.0, 0.0]])
      >>> updates, _ = tx.update(grads, tx.init(jnp.zeros(2)), losses=jnp.array([2.0, 100.0]))
      >>> print(updates)
      [[1. 2.]
       [3. 0.]]
    """
    _checks.check_range("eps", eps, 0.0)

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        return 1 / (tasks.losses + eps), memory

    return loss_balancer(num_tasks, weigh, above=-eps, labels=labels, name="log_loss").scale_by
