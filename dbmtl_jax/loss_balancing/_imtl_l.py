"""IMTL-L: learnt weights that bring all weighted losses to one."""

import jax.numpy as jnp
import optax

from dbmtl_jax.core._loss_balancer import LossBalancer, scaling_form
from dbmtl_jax.core._types import Labels, TaskCount
from dbmtl_jax.loss_balancing._learnt import learnt_loss_balancer


def imtl_l(
    num_tasks: TaskCount,
    *,
    weight_optimizer: optax.GradientTransformation | None = None,
    labels: Labels = None,
) -> LossBalancer:
    r"""Impartial Multi-Task Learning at the loss level.

    .. math:: \min_{\theta, s} \sum_t e^{s_t} \ell_t - s_t

    with s learnt along with the model, starting at 0.  The weights are :math:`w_t = e^{s_t}`, and
    after each step an optimizer moves s with the gradient :math:`e^{s_t} \ell_t - 1`.  At the exact
    minimum over s, the weight is 1/ℓ_t and the objective is Σ_t (1 + log ℓ_t): the logarithm of
    DB-MTL (the paper's Proposition 3.1).  A task's own parameters get their gradient times w_t.
    s_t stays within ±30.  A negative loss has no minimum over s: its task is absent from the step.

    Args:
      num_tasks: T, or the names of the tasks.
      weight_optimizer: the optimizer of s; None: `optax.adam(1e-4)`, with which s moves by about
        1e-4 a step, and a weight to a millionth in more than a hundred thousand steps: bring losses
        of very different units near 1 before.
      labels: see `dbmtl_jax.core`.

    Source: Liu et al., Towards impartial multi-task learning, ICLR 2021.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.imtl_l(num_tasks=2)
      >>> _, state = tx.update(jnp.ones((2, 1)), tx.init(jnp.zeros(1)), losses=jnp.ones(2))
      >>> print(optax.tree.get(state, "loss_weights"))
      [1. 1.]
    """
    return learnt_loss_balancer(
        num_tasks,
        0.0,
        weight_optimizer,
        weight=jnp.exp,
        slope=lambda s, losses: jnp.exp(s) * losses - 1,
        labels=labels,
        name="imtl_l",
    )


scale_by_imtl_l = scaling_form(imtl_l)
