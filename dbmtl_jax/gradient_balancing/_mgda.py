"""MGDA: the convex combination of the gradients with the smallest norm."""

from typing import Literal, get_args

import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._gramian import Gramian, as_gramian
from dbmtl_jax.core._min_norm import min_norm_weights
from dbmtl_jax.core._precision import exact_products
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Array, Float, Labels, Measured, Memory, PerTask, TaskCount

Normalization = Literal["none", "l2", "loss", "loss+"]


def mgda(
    num_tasks: TaskCount,
    *,
    normalization: Normalization = "none",
    scale_own: bool = True,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Multiple-Gradient Descent Algorithm.

    .. math:: \min_{w \ge 0,\, \sum_t w_t = 1} \Big\| \sum_t w_t g_t \Big\|,
        \qquad \text{update } \sum_t w_t g_t

    The update conflicts with no task's gradient and is zero at Pareto-stationary points.  The
    weights are found on the [T, T] Gramian by an interior-point method.

    Args:
      num_tasks: T, or the names of the tasks.
      normalization: what g_t is divided by first: nothing with "none", ‖g_t‖ with "l2", ℓ_t with
        "loss", ℓ_t ‖g_t‖ with "loss+".  The update is the combination of the divided gradients.
      scale_own: whether the gradients of a task's own parameters are multiplied by w_t, as in
        Section 2.2 of the DB-MTL paper, or left as they are.
      labels, measured: see `dbmtl_jax.core`.

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
    _checks.check_option("normalization", normalization, get_args(Normalization))

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        gramian = tasks.gramian
        divisors = jnp.ones_like(gramian.norms)
        if normalization in ("l2", "loss+"):
            divisors *= gramian.norms
        if normalization in ("loss", "loss+"):
            divisors *= tasks.losses
        # With a zero gradient, or a loss that is not positive, nothing is divided.
        divisors = jnp.where(divisors > 0, divisors, 1)
        divided = gramian._replace(norms=gramian.norms / divisors)
        return mgda_weights(divided) / divisors, memory

    return gradient_balancer(
        num_tasks,
        weigh,
        reads="gramian",
        own_weights=(lambda weights, memory: weights) if scale_own else None,
        labels=labels,
        measured=measured,
        name="mgda",
    )


@exact_products
def mgda_weights(gramian: Gramian | Float[Array, "T T"]) -> PerTask:
    """The weights of `mgda` for gradients with a given Gramian.

    Args:
      gramian: the inner products of the gradients, [T, T].

    Returns:
      w [T], convex: nonnegative, with the sum 1.

    Raises:
      ValueError: for a matrix that is not square.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> with jnp.printoptions(precision=3):
      ...     print(dbmtl.mgda_weights(jnp.diag(jnp.array([1.0, 3.0]))))
      [0.75 0.25]
    """
    return min_norm_weights(as_gramian(gramian))
