"""IMTL-G: an update with equal projections on all tasks' gradients."""

import jax.numpy as jnp

from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._gramian import Gramian, as_gramian
from dbmtl_jax.core._precision import exact_products
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Array, Float, Labels, Measured, Memory, PerTask, TaskCount


def imtl_g(
    num_tasks: TaskCount, *, labels: Labels = None, measured: Measured = None
) -> TaskTransformation:
    r"""Impartial Multi-Task Learning at the gradient level.

    .. math:: g = \sum_t \alpha_t g_t, \quad \sum_t \alpha_t = 1, \qquad
        \langle g, g_t / \|g_t\| \rangle \text{ the same for all } t

    With the Gramian M and the norms d, the solution is :math:`\alpha \propto M^{+} d`.  Weights may
    be negative.  If :math:`M^{+} d` sums to zero (opposite gradients), the update is zero.

    Args:
      num_tasks: T, or the names of the tasks.
      labels, measured: see `dbmtl_jax.core`.

    Source: Liu et al., Towards impartial multi-task learning, ICLR 2021.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.imtl_g(num_tasks=2)
      >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> _, state = tx.update(grads, tx.init(jnp.zeros(3)))
      >>> with jnp.printoptions(precision=4):
      ...     print(optax.tree.get(state, "weights"))
      [0.5923 0.4077]
    """

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        return imtl_g_weights(tasks.gramian), memory

    return gradient_balancer(
        num_tasks, weigh, reads="gramian", labels=labels, measured=measured, name="imtl_g"
    )


@exact_products
def imtl_g_weights(gramian: Gramian | Float[Array, "T T"]) -> PerTask:
    """The weights α of `imtl_g` for gradients with a given Gramian.

    Args:
      gramian: the inner products of the gradients, [T, T].

    Returns:
      α [T], with the sum 1, or zeros if no such weights exist.

    Raises:
      ValueError: for a matrix that is not square.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> with jnp.printoptions(precision=3):
      ...     print(dbmtl.imtl_g_weights(jnp.diag(jnp.array([1.0, 9.0]))))
      [0.75 0.25]
    """
    gramian = as_gramian(gramian)
    norms, cosines = gramian.norms, gramian.cosines
    tolerance = 10 * len(norms) * jnp.finfo(norms.dtype).eps
    nonzero = norms > 0
    smallest = jnp.min(norms, where=nonzero, initial=jnp.inf)
    ratios = jnp.where(nonzero, smallest / jnp.where(nonzero, norms, 1), 0)

    # With full rank, M⁺ d = D⁻¹ C⁻¹ 1, which is exact however much the norms differ.
    padded = cosines + jnp.diag(jnp.where(nonzero, 0, 1).astype(cosines.dtype))
    eigenvalues, vectors = jnp.linalg.eigh(padded)
    deficient = eigenvalues[0] <= tolerance
    inverse = 1 / jnp.where(deficient, 1, eigenvalues)
    alpha = ratios * (vectors @ (inverse * (nonzero @ vectors)))
    size = jnp.sum(jnp.abs(alpha))

    # Otherwise the pseudo-inverse, of M over its largest entry.
    unit = norms / jnp.where(jnp.any(nonzero), jnp.max(norms), 1)
    least_squares = jnp.linalg.pinv(gramian.normalized, hermitian=True) @ unit
    # There M⁺ d is of the order of one, unless it is nothing but rounding errors.
    least_size = jnp.maximum(jnp.sum(jnp.abs(least_squares)), 1 / len(norms))

    alpha = jnp.where(deficient, least_squares, alpha)
    size = jnp.where(deficient, least_size, size)
    total = jnp.sum(alpha)
    vanishes = jnp.abs(total) <= tolerance * size
    return jnp.where(vanishes, 0, alpha / jnp.where(vanishes, 1, total))
