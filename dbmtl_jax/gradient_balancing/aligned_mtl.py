"""Aligned-MTL: gradients made orthogonal and of one length."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._aggregation import weighted_sum_of_tasks
from dbmtl_jax._parts import method
from dbmtl_jax._stack import Stack

Scale = Literal["min", "median", "rmse"]


def aligned_mtl(
    num_tasks: int, *, scale: Scale = "min", labels: _partition.Labels = None
) -> optax.GradientTransformationExtraArgs:
    r"""Aligned Multi-Task Learning: the nearest system of gradients whose condition number is one.

    .. math:: M = V \Lambda V^\top, \qquad
        \alpha = \sigma \, V \Lambda^{-1/2} V^\top \mathbf 1, \qquad
        \text{update } \sum_t \alpha_t g_t

    with the Gramian M and σ the smallest of its singular values √λ.  Eigenvalues below
    :math:`T \epsilon \lambda_{\max}` (ε of the dtype) count as zero and are left out.  The update
    is the sum over tasks of the aligned gradients, not their mean.

    Args:
      num_tasks: T.
      scale: σ: "min" (the paper's), "median", or "rmse", their root mean square.
      labels: "shared" or a task index for each parameter, see `db_mtl`.  A task's own parameters
        keep their gradient.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` takes
      `task_mask` [T].

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for gradients that
        are not stacked.

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
    num_tasks = _contract.check_num_tasks(num_tasks)
    _contract.check_option("scale", scale, get_args(Scale))

    def weigh(stack: Stack, losses: Any, memory: Any) -> tuple[jax.Array, Any]:
        # The weights do not depend on the scale of M.
        eigenvalues, vectors = jnp.linalg.eigh(stack.gramian)
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
        return vectors @ (inverse * jnp.sum(vectors * stack.present[:, None], axis=0)), memory

    aggregator = weighted_sum_of_tasks(num_tasks, weigh, reads="products")
    return method(num_tasks, (), aggregator, labels)
