"""Loss-scale balancing by the logarithm (DB-MTL, Section 3.1)."""

import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._parts import Part
from dbmtl_jax.loss_balancing._weights import as_transformation, balance_losses


def scale_by_log_loss(
    num_tasks: int, *, eps: float = 1e-8, labels: _partition.Labels = None
) -> optax.GradientTransformationExtraArgs:
    r"""Turns the gradients of the losses into those of their logarithms.

    .. math:: \nabla \log(\ell_t + \epsilon) = \frac{\nabla \ell_t}{\ell_t + \epsilon}

    for the shared parameters and for each task's own alike (DB-MTL, Algorithm 1, steps 6 and
    12).  The logarithm makes the update independent of the scale of every loss, and is what
    IMTL-L's learnt scale converges to (Proposition 3.1).

    A loss that is not finite or is at most -ε has no logarithm; dividing by it would flip the
    gradient's sign and *maximise* the loss.  Such a task's gradients become NaN, which the
    transformations of this library that follow take as "absent in this step".

    Args:
      num_tasks: T.
      eps: ε, added to the loss.
      labels: which parameters are shared ("shared") and which belong to one task (its index): a
        prefix tree of params or a callable of params; None means that all are shared.

    Returns:
      A transformation of stacked gradients [T, *shape] into stacked gradients; its `update`
      needs `losses` [T], the raw losses at which the gradients were taken, and takes
      `task_mask` [T].

    Raises:
      TypeError, ValueError: in `update`, while tracing, for missing losses or a wrong shape.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.scale_by_log_loss(num_tasks=2)
      >>> grads = jnp.array([[2.0, 4.0], [300.0, 0.0]])
      >>> updates, _ = tx.update(grads, tx.init(jnp.zeros(2)), losses=jnp.array([2.0, 100.0]))
      >>> print(updates)
      [[1. 2.]
       [3. 0.]]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    _contract.check_range("eps", eps, 0.0)

    return as_transformation(num_tasks, log_loss(num_tasks, eps), labels, "scale_by_log_loss")


def log_loss(num_tasks: int, eps: float) -> Part:
    """`scale_by_log_loss` as a part."""
    return balance_losses(
        num_tasks, lambda losses, present, memory: (1 / (losses + eps), memory), above=-eps
    )
