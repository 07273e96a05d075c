"""DualProj: the mean gradient, projected until it conflicts with no task's gradient."""

import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._gramian import Gramian, as_gramian
from dbmtl_jax.core._interior_point import nonnegative_qp
from dbmtl_jax.core._precision import exact_products
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
from dbmtl_jax.gradient_balancing._upgrad import with_ridge


def dual_proj(
    num_tasks: TaskCount,
    *,
    preference: Preference = None,
    ridge: Scalar = 0.0,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""The weighted mean of the gradients, projected onto the cone that conflicts with none.

    .. math:: \text{update } \pi\Big(\sum_t u_t g_t\Big), \qquad
        \pi(g) = \text{the nearest point to } g \text{ in }
        \{d : \langle g_t, d \rangle \ge 0 \text{ for all } t\}

    which is :math:`\sum_t v_t g_t` with the :math:`v \ge u` for which its norm is smallest.

    Args:
      num_tasks: T, or the names of the tasks.
      preference: a user's priorities u, [T] positive numbers of which only the ratios count, or by
        name; None: 1/T each.
      ridge: see `upgrad`.
      labels, measured: see `dbmtl_jax.core`.

    Source: Lopez-Paz and Ranzato, Gradient episodic memory for continual learning, NeurIPS 2017,
    Eq. 11, with all tasks in the place of those in the memory.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.dual_proj(num_tasks=2)
      >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> update, _ = tx.update(grads, tx.init(jnp.zeros(3)))
      >>> with jnp.printoptions(precision=4):
      ...     print(update)
      [0.5556 1.1111 1.1111]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    wanted = priorities(preference, num_tasks)
    _checks.check_range("ridge", ridge, 0.0)

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        return dual_proj_weights(tasks.gramian, preference=wanted, ridge=ridge), memory

    return gradient_balancer(
        num_tasks, weigh, reads="gramian", labels=labels, measured=measured, name="dual_proj"
    )


@exact_products
def dual_proj_weights(
    gramian: Gramian | Float[Array, "T T"],
    *,
    preference: Preference = None,
    ridge: Scalar = 0.0,
) -> PerTask:
    """The weights of `dual_proj` for gradients with a given Gramian.

    Args:
      gramian: the inner products of the gradients, [T, T].
      preference, ridge: see `dual_proj`.

    Returns:
      v [T], at least u; u_t for a task whose gradient is zero.

    Raises:
      ValueError: for a matrix that is not square, or a preference of another length.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> print(dbmtl.dual_proj_weights(jnp.array([[1.0, -2.0], [-2.0, 9.0]])))
      [1.  0.5]
    """
    gramian = as_gramian(gramian)
    wanted = priorities(preference, len(gramian.norms))
    # With x = d∘v, the x >= u∘d with the smallest xᵀCx.
    norms, _, present = gramian
    share = shares(wanted, present).astype(norms.dtype)
    matrix, free = with_ridge(gramian, ridge), norms > 0
    largest = jnp.max(norms)
    low = share * norms / jnp.where(largest > 0, largest, 1)
    excess = nonnegative_qp(matrix, matrix @ low, free)
    lengths = jnp.where(free, norms, 1)
    return share + jnp.where(free, excess * (largest / lengths), 0)
