"""IMTL-L: learnt scales that bring all losses to one."""

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


def imtl_l(
    num_tasks: int,
    *,
    weight_optimizer: optax.GradientTransformation | None = None,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Impartial Multi-Task Learning at the loss level.

    .. math:: \min_{\theta, s} \sum_t e^{s_t} \ell_t - s_t

    with s learnt beside the model from s = 0: the weights are :math:`e^{s_t}`, and after each step
    s descends :math:`e^{s_t} \ell_t - 1`.  At the exact minimum over s the weight is 1/ℓ_t and the
    objective 1 + Σ log ℓ_t, the logarithm of DB-MTL (Proposition 3.1).  A task's own parameters
    get their gradient times the weight.

    Args:
      num_tasks: T.
      weight_optimizer: of s; None: `optax.adam(1e-4)`.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; `update` needs
      `losses` [T] and takes `task_mask` [T].

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for missing losses
        or gradients that are not stacked.

    Source: Liu et al., Towards impartial multi-task learning, ICLR 2021.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.imtl_l(num_tasks=2)
      >>> _, state = tx.update(jnp.ones((2, 1)), tx.init(jnp.zeros(1)), losses=jnp.ones(2))
      >>> print(optax.tree.get(state, "loss_weights"))
      [1. 1.]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    return as_method(num_tasks, imtl_l_part(num_tasks, weight_optimizer), labels, "imtl_l")


def scale_by_imtl_l(
    num_tasks: int,
    *,
    weight_optimizer: optax.GradientTransformation | None = None,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    """The weights of `imtl_l` on stacked gradients, [T, *shape] → [T, *shape], for chains."""
    num_tasks = _contract.check_num_tasks(num_tasks)
    part = imtl_l_part(num_tasks, weight_optimizer)
    return as_transformation(num_tasks, part, labels, "scale_by_imtl_l")


def imtl_l_part(num_tasks: int, optimizer: optax.GradientTransformation | None) -> Part:
    """`scale_by_imtl_l` as a part."""
    return learnt_weights(
        num_tasks,
        0.0,
        optimizer or default_weight_optimizer(),
        weight=jnp.exp,
        gradient=lambda s, losses: jnp.exp(s) * losses - 1,
    )
