"""Aligned-MTL: gradients made orthogonal and equally long."""

from typing import Literal, get_args

import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._gramian import Gramian, as_gramian
from dbmtl_jax.core._precision import exact_products
from dbmtl_jax.core._preference import Preference, priorities, relative
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Array, Float, Labels, Measured, Memory, PerTask, TaskCount

Scale = Literal["min", "median", "rmse"]


def aligned_mtl(
    num_tasks: TaskCount,
    *,
    scale: Scale = "min",
    preference: Preference = None,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Aligned Multi-Task Learning: sums the nearest gradients that have condition number one.

    .. math:: M = V \Lambda V^\top, \qquad
        \alpha = \sigma \, V \Lambda^{-1/2} V^\top \mathbf 1, \qquad
        \text{update } \sum_t \alpha_t g_t

    with the Gramian M, its eigenvalues λ on the diagonal of Λ, and σ the smallest singular value √λ
    of the matrix of gradients.  Eigenvalues below :math:`T \epsilon \lambda_{\max}` (with the ε of
    the dtype) count as zero and are left out.  The update is the sum of the aligned gradients, not
    their mean.

    Args:
      num_tasks: T, or the names of the tasks.
      scale: σ, of the singular values: "min" (as in the formula), "median", or "rmse", their root
        mean square.
      preference: a user's priorities u, [T] positive numbers of which only the ratios count, or by
        name, which take the place of the ones in α, scaled to the sum T.
      labels, measured: see `dbmtl_jax.core`.

    Source: Senushkin et al., Independent component alignment for multi-task learning, CVPR 2023.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.aligned_mtl(num_tasks=2)
      >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> _, state = tx.update(grads, tx.init(jnp.zeros(3)))
      >>> with jnp.printoptions(precision=2):
      ...     print(optax.tree.get(state, "weights"))
      [1.12 0.82]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_option("scale", scale, get_args(Scale))
    wanted = priorities(preference, num_tasks)

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        return aligned_mtl_weights(tasks.gramian, scale=scale, preference=wanted), memory

    return gradient_balancer(
        num_tasks, weigh, reads="gramian", labels=labels, measured=measured, name="aligned_mtl"
    )


@exact_products
def aligned_mtl_weights(
    gramian: Gramian | Float[Array, "T T"],
    *,
    scale: Scale = "min",
    preference: Preference = None,
) -> PerTask:
    """The weights α of `aligned_mtl` for gradients with a given Gramian.

    Args:
      gramian: the inner products of the gradients, [T, T].
      scale, preference: see `aligned_mtl`.

    Returns:
      α [T].

    Raises:
      ValueError: for a matrix that is not square, or an unknown scale.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> print(dbmtl.aligned_mtl_weights(jnp.diag(jnp.array([1.0, 4.0]))))
      [1.  0.5]
    """
    _checks.check_option("scale", scale, get_args(Scale))
    gramian = as_gramian(gramian)
    wanted = priorities(preference, len(gramian.norms))
    num_tasks = len(gramian.norms)
    # The weights do not depend on the scale of M.
    eigenvalues, vectors = jnp.linalg.eigh(gramian.normalized)
    kept = eigenvalues > jnp.max(eigenvalues) * num_tasks * jnp.finfo(eigenvalues.dtype).eps
    roots = jnp.sqrt(jnp.where(kept, eigenvalues, 1))
    count = jnp.sum(kept)
    if scale == "min":
        sigma = jnp.min(roots, where=kept, initial=jnp.inf)
    elif scale == "median":
        # The lower of the two middle ones; those left out sort first.
        sigma = jnp.sort(jnp.where(kept, roots, -1))[num_tasks - 1 - count // 2]
    else:
        sigma = jnp.sqrt(jnp.sum(roots**2, where=kept) / jnp.maximum(count, 1))
    inverse = jnp.where(kept, sigma / roots, 0)
    target = relative(wanted, gramian.present).astype(vectors.dtype)
    return vectors @ (inverse * jnp.sum(vectors * target[:, None], axis=0))
