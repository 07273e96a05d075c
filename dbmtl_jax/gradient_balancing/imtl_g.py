"""IMTL-G: equal projections on every task's gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._aggregation import weighted_sum_of_tasks
from dbmtl_jax._parts import Aggregator, method
from dbmtl_jax._stack import Stack


def imtl_g(
    num_tasks: int, *, labels: _partition.Labels = None
) -> optax.GradientTransformationExtraArgs:
    r"""Impartial Multi-Task Learning at the gradient level.

    .. math:: g = \sum_t \alpha_t g_t, \quad \sum_t \alpha_t = 1, \qquad
        \langle g, g_t / \|g_t\| \rangle \text{ the same for all } t

    With the Gramian M and the norms d that is :math:`\alpha \propto M^{+} d`.  Weights may be
    negative.  Where they sum to zero (opposite gradients) the update is zero.

    Args:
      num_tasks: T.
      labels: "shared" or a task index for each parameter, see `db_mtl`.  A task's own parameters
        keep their gradient.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` takes
      `task_mask` [T].

    Raises:
      TypeError, ValueError: for a bad `num_tasks`, and in `update`, while tracing, for gradients
        that are not stacked.

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
    num_tasks = _contract.check_num_tasks(num_tasks)
    return method(num_tasks, (), equal_projections(num_tasks), labels)


def equal_projections(num_tasks: int) -> Aggregator:
    """`imtl_g` as an aggregator."""
    return weighted_sum_of_tasks(num_tasks, _weigh, reads="products")


def _weigh(stack: Stack, losses: Any, memory: Any) -> tuple[jax.Array, Any]:
    norms, cosines = stack.norms, stack.cosines
    tolerance = 10 * len(norms) * jnp.finfo(norms.dtype).eps
    nonzero = norms > 0
    smallest = jnp.min(norms, where=nonzero, initial=jnp.inf)
    ratios = jnp.where(nonzero, smallest / jnp.where(nonzero, norms, 1), 0)

    # Of full rank, M⁺ d = D⁻¹ C⁻¹ 1, which is exact however much the norms differ.
    padded = cosines + jnp.diag(jnp.where(nonzero, 0, 1).astype(cosines.dtype))
    eigenvalues, vectors = jnp.linalg.eigh(padded)
    deficient = eigenvalues[0] <= tolerance
    inverse = 1 / jnp.where(deficient, 1, eigenvalues)
    alpha = ratios * (vectors @ (inverse * (nonzero @ vectors)))
    size = jnp.sum(jnp.abs(alpha))

    # Otherwise the pseudo-inverse, of M over its largest entry.
    unit = norms / jnp.where(jnp.any(nonzero), jnp.max(norms), 1)
    least_squares = jnp.linalg.pinv(stack.gramian, hermitian=True) @ unit
    # There M⁺ d is of the order of one, unless it is nothing but rounding errors.
    least_size = jnp.maximum(jnp.sum(jnp.abs(least_squares)), 1 / len(norms))

    alpha = jnp.where(deficient, least_squares, alpha)
    size = jnp.where(deficient, least_size, size)
    total = jnp.sum(alpha)
    vanishes = jnp.abs(total) <= tolerance * size
    return jnp.where(vanishes, 0, alpha / jnp.where(vanishes, 1, total)), memory
