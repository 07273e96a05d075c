"""UW: weights from learnt homoscedastic uncertainty."""

import jax.numpy as jnp
import optax

from dbmtl_jax.core._loss_balancer import LossBalancer, scaling_form
from dbmtl_jax.core._types import Labels, Scalar, TaskCount
from dbmtl_jax.loss_balancing._learnt import learnt_loss_balancer


def uw(
    num_tasks: TaskCount,
    *,
    initial: Scalar = -0.5,
    weight_optimizer: optax.GradientTransformation | None = None,
    labels: Labels = None,
) -> LossBalancer:
    r"""Uncertainty Weighting.

    .. math:: \min_{\theta, s} \sum_t \frac{\ell_t}{2 e^{s_t}} + \frac{s_t}{2}

    with the log-variances s learnt along with the model.  The weights are
    :math:`w_t = 1 / (2 e^{s_t})`, and after each step an optimizer moves s with the gradient
    :math:`-\ell_t / (2 e^{s_t}) + 1/2`.  A task's own parameters get their gradient times w_t.
    s_t stays within ±30.  A negative loss has no minimum over s: its task is absent from the step.

    Args:
      num_tasks: T, or the names of the tasks.
      initial: s_t before the first step.
      weight_optimizer: the optimizer of s; None: `optax.adam(1e-4)`, with which s moves by about
        1e-4 a step, and a weight to a millionth in more than a hundred thousand steps: bring losses
        of very different units near 1 before.
      labels: see `dbmtl_jax.core`.

    Source: Kendall et al., Multi-task learning using uncertainty to weigh losses, CVPR 2018.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.uw(num_tasks=2, initial=0.0)
      >>> _, state = tx.update(jnp.ones((2, 1)), tx.init(jnp.zeros(1)), losses=jnp.ones(2))
      >>> print(optax.tree.get(state, "loss_weights"))
      [0.5 0.5]
    """
    return learnt_loss_balancer(
        num_tasks,
        initial,
        weight_optimizer,
        weight=lambda s: jnp.exp(-s) / 2,
        slope=lambda s, losses: (1 - losses * jnp.exp(-s)) / 2,
        labels=labels,
        name="uw",
    )


scale_by_uw = scaling_form(uw)
