"""UPGrad: the mean of the tasks' gradients, each projected until it conflicts with none."""

import jax
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
from dbmtl_jax.gradient_balancing._pairwise import combine


def upgrad(
    num_tasks: TaskCount,
    *,
    preference: Preference = None,
    ridge: Scalar = 0.0,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Unconflicting Projection of Gradients.

    .. math:: \text{update } \sum_i u_i \, \pi(g_i), \qquad
        \pi(g) = \text{the nearest point to } g \text{ in }
        \{d : \langle g_t, d \rangle \ge 0 \text{ for all } t\}

    The update conflicts with no task's gradient, and is linear in the lengths of the gradients.
    Each projection is :math:`\sum_t v_t g_t` with the :math:`v \ge e_i` for which its norm is
    smallest; all T problems are solved at once, on the cosines of the gradients.  For two tasks the
    update is half of PCGrad's.  Where no gradients conflict it is their weighted mean.

    Args:
      num_tasks: T, or the names of the tasks.
      preference: a user's priorities u, [T] positive numbers of which only the ratios count, or by
        name; None: 1/T each.
      ridge: ρ in M + ρ tr(M) I, in the place of the Gramian M.  0 is exact; other libraries have
        1e-4, which leaves conflicts where the norms differ.
      labels, measured: see `dbmtl_jax.core`.

    Source: Quinton and Rey, Jacobian descent for multi-objective optimization, arXiv:2406.16232,
    Eq. 3 and Proposition 1.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.upgrad(num_tasks=2)
      >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> update, _ = tx.update(grads, tx.init(jnp.zeros(3)))
      >>> with jnp.printoptions(precision=4):
      ...     print(update, jnp.round(grads @ update, 3) >= 0)
      [0.2924 1.9006 1.9006] [ True  True]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    wanted = priorities(preference, num_tasks)
    _checks.check_range("ridge", ridge, 0.0)

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        return upgrad_weights(tasks.gramian, preference=wanted, ridge=ridge), memory

    return gradient_balancer(
        num_tasks, weigh, reads="gramian", labels=labels, measured=measured, name="upgrad"
    )


@exact_products
def upgrad_weights(
    gramian: Gramian | Float[Array, "T T"],
    *,
    preference: Preference = None,
    ridge: Scalar = 0.0,
) -> PerTask:
    """The weights of `upgrad` for gradients with a given Gramian.

    Args:
      gramian: the inner products of the gradients, [T, T].
      preference, ridge: see `upgrad`.

    Returns:
      w [T], nonnegative; u_t for a task whose gradient is zero.

    Raises:
      ValueError: for a matrix that is not square, or a preference of another length.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> print(dbmtl.upgrad_weights(jnp.array([[1.0, -0.5], [-0.5, 1.0]])))
      [0.75 0.75]
    """
    gramian = as_gramian(gramian)
    wanted = priorities(preference, len(gramian.norms))
    # For each task i the y >= e_i with the smallest yᵀCy, of unit gradients; then their sum.
    norms, _, present = gramian
    share = shares(wanted, present).astype(norms.dtype)
    matrix, free = with_ridge(gramian, ridge), norms > 0
    unit = jnp.eye(len(norms), dtype=norms.dtype)
    rows = unit + jax.vmap(lambda linear: nonnegative_qp(matrix, linear, free))(matrix)
    return jnp.where(free, combine(norms, share[:, None] * rows), share)


def with_ridge(gramian: Gramian, ridge: Scalar) -> Float[Array, "T T"]:
    """The cosines of M + ρ tr(M) I, up to the diagonal."""
    norms = gramian.norms
    positive = jnp.where(norms > 0, norms, 1)
    # Where a gradient is that much shorter than another its weight is 0 already.
    ratios = jnp.minimum(norms[None, :] / positive[:, None], 1e9)
    excess = jnp.sum(ratios**2, axis=1)
    return gramian.cosines + jnp.diag(jnp.where(norms > 0, ridge * excess, 0))
