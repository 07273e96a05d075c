"""UW: weights from learnt homoscedastic uncertainty."""

import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._parts import Part
from dbmtl_jax.loss_balancing._weights import (
    as_method,
    as_transformation,
    default_weight_optimizer,
    learnt_weights,
)


def uw(
    num_tasks: int,
    *,
    initial: float = -0.5,
    weight_optimizer: optax.GradientTransformation | None = None,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Uncertainty Weighting.

    .. math:: \min_{\theta, s} \sum_t \frac{\ell_t}{2 e^{s_t}} + \frac{s_t}{2}

    with the log-variances s learnt beside the model: the weights are :math:`1 / (2 e^{s_t})`, and
    after each step s descends :math:`-\ell_t / (2 e^{s_t}) + 1/2`.  A task's own parameters get
    their gradient times the weight.

    Args:
      num_tasks: T.
      initial: the first s_t.
      weight_optimizer: of s; None: `optax.adam(1e-4)`.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; `update` needs
      `losses` [T] and takes `task_mask` [T].

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for missing losses
        or gradients that are not stacked.

    Source: Kendall et al., Multi-task learning using uncertainty to weigh losses, CVPR 2018.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.uw(num_tasks=2, initial=0.0)
      >>> _, state = tx.update(jnp.ones((2, 1)), tx.init(jnp.zeros(1)), losses=jnp.ones(2))
      >>> print(optax.tree.get(state, "loss_weights"))
      [0.5 0.5]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    return as_method(num_tasks, _part(num_tasks, initial, weight_optimizer), labels, "uw")


def scale_by_uw(
    num_tasks: int,
    *,
    initial: float = -0.5,
    weight_optimizer: optax.GradientTransformation | None = None,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    """The weights of `uw` on stacked gradients, [T, *shape] → [T, *shape], for chains."""
    num_tasks = _contract.check_num_tasks(num_tasks)
    part = _part(num_tasks, initial, weight_optimizer)
    return as_transformation(num_tasks, part, labels, "scale_by_uw")


def _part(num_tasks: int, initial: float, optimizer: optax.GradientTransformation | None) -> Part:
    return learnt_weights(
        num_tasks,
        initial,
        optimizer or default_weight_optimizer(),
        weight=lambda s: jnp.exp(-s) / 2,
        gradient=lambda s, losses: (1 - losses * jnp.exp(-s)) / 2,
    )
