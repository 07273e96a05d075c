"""IMTL: IMTL-L's balanced losses and IMTL-G's balanced gradients."""

import optax

from dbmtl_jax.core._transformation import TaskTransformation, fused
from dbmtl_jax.core._types import Labels, Measured, TaskCount
from dbmtl_jax.gradient_balancing import imtl_g
from dbmtl_jax.loss_balancing import scale_by_imtl_l


def imtl(
    num_tasks: TaskCount,
    *,
    weight_optimizer: optax.GradientTransformation | None = None,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Impartial Multi-Task Learning, the hybrid: `imtl_g` of the gradients scaled by `imtl_l`.

    .. math:: g_t = \nabla \big(e^{s_t} \ell_t - s_t\big), \qquad \text{update } g =
        \sum_t \alpha_t g_t, \quad \sum_t \alpha_t = 1,
        \quad \langle g, g_t / \|g_t\| \rangle \text{ the same for all } t

    with s learnt along with the model, starting at 0.  A task's own parameters get their gradient
    times :math:`e^{s_t}`.

    The arguments are those of `imtl_l`; for `labels` and `measured` see `dbmtl_jax.core`.

    Source: Liu et al., Towards impartial multi-task learning, ICLR 2021.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.imtl(num_tasks=2)
      >>> grads = jnp.array([[2.0, 0.0], [0.0, 2.0]])
      >>> update, _ = tx.update(grads, tx.init(jnp.zeros(2)), losses=jnp.ones(2))
      >>> print(update)
      [1. 1.]
    """
    losses = scale_by_imtl_l(num_tasks, weight_optimizer=weight_optimizer)
    return fused(losses, imtl_g(num_tasks), labels=labels, measured=measured, name="imtl")
