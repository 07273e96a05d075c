"""MGDA: the gradient of smallest norm."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._aggregation import weighted_sum_of_tasks
from dbmtl_jax._parts import method
from dbmtl_jax._stack import Stack
from dbmtl_jax.gradient_balancing._min_norm import min_norm_weights

Normalization = Literal["none", "l2", "loss", "loss+"]


def mgda(
    num_tasks: int,
    *,
    normalization: Normalization = "none",
    scale_own: bool = True,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Multiple-Gradient Descent Algorithm.

    .. math:: \min_{w \ge 0,\, \sum_t w_t = 1} \Big\| \sum_t w_t g_t \Big\|,
        \qquad \text{update } \sum_t w_t g_t

    a convex combination that conflicts with no task's gradient, and is zero at Pareto-stationary
    points.  The weights are found on the [T, T] Gramian by an interior-point method.

    Args:
      num_tasks: T.
      normalization: what g_t is divided by first: "none", "l2" ‖g_t‖, "loss" ℓ_t, or "loss+"
        ℓ_t ‖g_t‖.  The update is the combination of the divided gradients.
      scale_own: whether a task's own parameters get their gradient times w_t, as in the paper
        (Section 2.2), or as it is.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` needs
      `losses` [T] for "loss" and "loss+", and takes `task_mask` [T].

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for missing losses
        or gradients that are not stacked.

    Source: Désidéri, Multiple-gradient descent algorithm, C. R. Math. 2012; Sener and Koltun,
    Multi-task learning as multi-objective optimization, NeurIPS 2018.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.mgda(num_tasks=2)
      >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> _, state = tx.update(grads, tx.init(jnp.zeros(3)))
      >>> with jnp.printoptions(precision=3):
      ...     print(optax.tree.get(state, "weights"))
      [0.6 0.4]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    _contract.check_option("normalization", normalization, get_args(Normalization))

    def weigh(stack: Stack, losses: Any, memory: Any) -> tuple[jax.Array, Any]:
        norms = stack.norms
        divisors = jnp.ones_like(norms)
        if normalization in ("l2", "loss+"):
            divisors *= norms
        if normalization in ("loss", "loss+"):
            divisors *= losses
        # A zero gradient, or a loss of zero, stays as it is.
        divisors = jnp.where(divisors > 0, divisors, 1)
        weights = min_norm_weights(norms / divisors, stack.cosines, stack.present)
        return weights / divisors, memory

    aggregator = weighted_sum_of_tasks(
        num_tasks,
        weigh,
        reads="products",
        own=(lambda weights, memory: weights) if scale_own else None,
    )
    return method(
        num_tasks,
        (),
        aggregator,
        labels,
        losses_required_by="mgda" if normalization in ("loss", "loss+") else None,
    )
