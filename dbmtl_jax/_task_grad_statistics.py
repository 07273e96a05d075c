"""Statistics of stacked task gradients: their norms and the angles between them."""

import jax
import jax.numpy as jnp

from dbmtl_jax.core._gramian import cosines_of
from dbmtl_jax.core._task_linalg import gramian, squared_norms
from dbmtl_jax.core._types import Array, Float, PerTask, PyTree


def _stack(task_grads: PyTree) -> tuple[list[Array], int]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(task_grads)]
    sizes = {leaf.shape[:1] for leaf in leaves}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            "task_grads: expected leaves of shape (T, ...) with one T, "
            f"found {[leaf.shape for leaf in leaves]}; with labels only gradients of shared "
            "parameters have a task axis, pass those"
        )
    return leaves, leaves[0].shape[0]


def task_norms(task_grads: PyTree) -> PerTask:
    r"""The norms :math:`\|g_t\|` of stacked task gradients, over all leaves together.

    Args:
      task_grads: a tree of arrays [T, *shape], of the shared parameters only: with labels,
        `grads["encoder"]` for one, as gradients of a task's own parameters have no task axis.

    Returns:
      [T], float32 at least.

    Raises:
      ValueError: unless all leaves have the same leading axis.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> print(dbmtl.task_norms({"w": jnp.array([[3.0, 4.0], [0.0, 2.0]])}))
      [5. 2.]
    """
    return jnp.sqrt(squared_norms(*_stack(task_grads)))


def task_cosine_similarity(task_grads: PyTree) -> Float[Array, "T T"]:
    r"""The cosines :math:`g_s \cdot g_t / (\|g_s\| \|g_t\|)` between task gradients.

    They are negative where two tasks conflict (the paper's Fig. 10).  A zero gradient has the
    cosine 0 with every gradient, itself included.

    Args:
      task_grads: a tree of arrays [T, *shape], of the shared parameters only: with labels,
        `grads["encoder"]` for one, as gradients of a task's own parameters have no task axis.

    Returns:
      [T, T], float32 at least, symmetric.

    Raises:
      ValueError: unless all leaves have the same leading axis.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> print(dbmtl.task_cosine_similarity(jnp.array([[1.0, 0.0], [-2.0, 0.0]])))
      [[ 1. -1.]
       [-1.  1.]]
    """
    products = gramian(*_stack(task_grads))
    return jnp.clip(cosines_of(products, jnp.sqrt(jnp.diagonal(products))), -1, 1)
