"""IMTL: balanced losses and balanced gradients."""

import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._parts import method
from dbmtl_jax.gradient_balancing.imtl_g import equal_projections
from dbmtl_jax.loss_balancing.imtl_l import imtl_l_part


def imtl(
    num_tasks: int,
    *,
    weight_optimizer: optax.GradientTransformation | None = None,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Impartial Multi-Task Learning, the hybrid: `imtl_g` on the losses of `imtl_l`.

    .. math:: g_t = \nabla \big(e^{s_t} \ell_t - s_t\big), \qquad \text{update }
        \sum_t \alpha_t g_t, \quad \sum_t \alpha_t = 1,
        \quad \langle g, g_t / \|g_t\| \rangle \text{ the same for all } t

    with s learnt beside the model from s = 0.  A task's own parameters get their gradient times
    :math:`e^{s_t}`.

    Args:
      num_tasks: T.
      weight_optimizer: of s; None: `optax.adam(1e-4)`.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` needs
      `losses` [T] and takes `task_mask` [T].

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for missing losses
        or gradients that are not stacked.

    Source: Liu et al., Towards impartial multi-task learning, ICLR 2021.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.imtl(num_tasks=2)
      >>> grads = jnp.array([[2.0, 0.0], [0.0, 2.0]])
      >>> update, _ = tx.update(grads, tx.init(jnp.zeros(2)), losses=jnp.ones(2))
      >>> print(update)
      [1. 1.]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    part = imtl_l_part(num_tasks, weight_optimizer)
    return method(
        num_tasks, (part,), equal_projections(num_tasks), labels, losses_required_by="imtl"
    )
