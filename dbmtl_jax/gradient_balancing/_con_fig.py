"""ConFIG: a direction at the same angle to all tasks' gradients."""

import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._gramian import Gramian, as_gramian
from dbmtl_jax.core._precision import exact_products
from dbmtl_jax.core._preference import Preference, priorities, relative
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Array, Float, Labels, Measured, Memory, PerTask, TaskCount


def con_fig(
    num_tasks: TaskCount,
    *,
    preference: Preference = None,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Conflict-Free Inverse Gradients.

    .. math:: x = B^{+} r, \qquad
        \text{update } \Big(\sum_t \langle g_t, \hat x \rangle\Big) \hat x, \qquad
        \hat x = x / \|x\|

    where the rows of B are the unit gradients and r = 1: the cosines between the update and all
    gradients are the same, and its length is the sum of the projections on it.  For linearly
    independent gradients the direction is that of `imtl_g`, up to the sign.  For others x is a
    least squares solution, which may conflict.  Opposite gradients give zero.

    Args:
      num_tasks: T, or the names of the tasks.
      preference: a user's priorities r, [T] positive numbers of which only the ratios count, or by
        name: the cosines are in proportion to them.
      labels, measured: see `dbmtl_jax.core`.

    Source: Liu, Chu and Thuerey, ConFIG: Towards conflict-free training of physics informed neural
    networks, ICLR 2025, Eq. 2.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.con_fig(num_tasks=2)
      >>> update, _ = tx.update(jnp.array([[3.0, 0.0], [0.0, 1.0]]), tx.init(jnp.zeros(2)))
      >>> with jnp.printoptions(precision=4):
      ...     print(update)
      [2. 2.]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    wanted = priorities(preference, num_tasks)

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        return con_fig_weights(tasks.gramian, preference=wanted), memory

    return gradient_balancer(
        num_tasks, weigh, reads="gramian", labels=labels, measured=measured, name="con_fig"
    )


@exact_products
def con_fig_weights(
    gramian: Gramian | Float[Array, "T T"], *, preference: Preference = None
) -> PerTask:
    """The weights of `con_fig` for gradients with a given Gramian.

    Args:
      gramian: the inner products of the gradients, [T, T].
      preference: see `con_fig`.

    Returns:
      α [T]; 0 for a task whose gradient is zero.  Some may be negative.

    Raises:
      ValueError: for a matrix that is not square, or a preference of another length.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> print(dbmtl.con_fig_weights(jnp.diag(jnp.array([4.0, 16.0]))))
      [1.5  0.75]
    """
    gramian = as_gramian(gramian)
    wanted = priorities(preference, len(gramian.norms))
    # β = C⁺ r, of the unit gradients; α = (β/d) dᵀCβ / βᵀCβ.
    norms, cosines, _ = gramian
    size, eps = len(norms), jnp.finfo(norms.dtype).eps
    nonzero = norms > 0
    target = relative(wanted, nonzero).astype(norms.dtype)
    eigenvalues, vectors = jnp.linalg.eigh(cosines)
    kept = eigenvalues > jnp.max(eigenvalues) * size * eps
    parts = vectors.T @ target
    # What rounding leaves of a target outside of the range of C is no direction.
    kept &= jnp.abs(parts) > 4 * size * eps * jnp.max(jnp.abs(target))
    beta = vectors @ jnp.where(kept, parts / jnp.where(kept, eigenvalues, 1), 0)
    products = cosines @ beta
    square = beta @ products
    # Ratios of norms: their squares need not be in range.
    ratios = norms[None, :] / jnp.where(nonzero, norms, 1)[:, None]
    along = jnp.where(nonzero, ratios @ products, 0)
    return beta * along / jnp.where(square > 0, square, 1)
