"""SDMGrad: MGDA with a regularisation towards a preferred direction."""

import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._gramian import Gramian, as_gramian
from dbmtl_jax.core._interior_point import minimize
from dbmtl_jax.core._min_norm import min_norm_weights
from dbmtl_jax.core._preference import Preference, priorities, shares
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import (
    Array,
    Float,
    Labels,
    Measured,
    Memory,
    PerTask,
    Scalar,
    TaskCount,
)


def sdmgrad(
    num_tasks: TaskCount,
    *,
    lambda_: Scalar = 0.3,
    preference: Preference = None,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Stochastic Direction-oriented Multi-objective Gradient descent, on one batch.

    .. math:: w = \arg\min_{w \in \Delta} \Big\| \sum_t (w_t + \lambda u_t) g_t \Big\|^2, \qquad
        \text{update } \frac{1}{1 + \lambda} \sum_t (w_t + \lambda u_t) g_t

    with the simplex Δ.  λ = 0 is MGDA, and λ → ∞ the mean :math:`\sum_t u_t g_t`.  The weights are
    found exactly.

    Args:
      num_tasks: T, or the names of the tasks.
      lambda_: λ >= 0.
      preference: a user's priorities u, [T] positive numbers of which only the ratios count, or by
        name; None: 1/T each.
      labels, measured: see `dbmtl_jax.core`.

    Source: Xiao, Ban and Ji, Direction-oriented multi-objective learning, NeurIPS 2023.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.sdmgrad(num_tasks=2)
      >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> _, state = tx.update(grads, tx.init(jnp.zeros(3)))
      >>> with jnp.printoptions(precision=3):
      ...     print(optax.tree.get(state, "weights"))
      [0.6 0.4]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_range("lambda_", lambda_, 0.0)
    wanted = priorities(preference, num_tasks)

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        return _weights(tasks.gramian, lambda_, wanted), memory

    return gradient_balancer(
        num_tasks, weigh, reads="gramian", labels=labels, measured=measured, name="sdmgrad"
    )


def sdmgrad_weights(
    gramian: Gramian | Float[Array, "T T"],
    *,
    lambda_: Scalar = 0.3,
    preference: Preference = None,
) -> PerTask:
    """The weights of `sdmgrad` for gradients with a given Gramian.

    Args:
      gramian: the inner products of the gradients, [T, T].
      lambda_, preference: see `sdmgrad`.

    Returns:
      (w + λu) / (1 + λ), [T], convex.

    Raises:
      ValueError: for a matrix that is not square, or an option out of range.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> with jnp.printoptions(precision=3):
      ...     print(dbmtl.sdmgrad_weights(jnp.diag(jnp.array([1.0, 3.0]))))
      [0.75 0.25]
    """
    _checks.check_range("lambda_", lambda_, 0.0)
    gramian = as_gramian(gramian)
    wanted = priorities(preference, _checks.check_num_tasks(len(gramian.norms)))
    return _weights(gramian, lambda_, wanted)


def _weights(gramian: Gramian, lambda_: Scalar, wanted: PerTask | None) -> PerTask:
    present = gramian.present
    share = shares(wanted, present).astype(gramian.norms.dtype)
    matrix = gramian.normalized
    low = lambda_ * share
    # In the lengths of the gradients where the solution lies: that of the preferred direction.
    slopes = matrix @ low
    weights = minimize(
        lambda x: (matrix @ x + slopes, matrix), jnp.ones_like(share), present
    )
    # Without the preferred direction gradients of any scale are as easy as those of one.
    weights = jnp.where(jnp.asarray(lambda_) > 0, weights, min_norm_weights(gramian))
    return (weights + low) / (1 + lambda_)
