"""MoDo: MGDA's weights, moved step by step by gradients of two independent batches."""

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._other_batches import combined, finite_rows, other_batches, products
from dbmtl_jax.core._parts import Aggregator, Merged
from dbmtl_jax.core._simplex import mean_weights, project
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation, transformation
from dbmtl_jax.core._types import Labels, PerTask, PyTree, Scalar, TaskCount


def modo(
    num_tasks: TaskCount, *, gamma: Scalar = 0.1, rho: Scalar = 0.1, labels: Labels = None
) -> TaskTransformation:
    r"""Multi-objective gradient with Double sampling.

    .. math::
        \lambda \leftarrow \Pi\big(\lambda - \gamma (G_1 G_2^\top \lambda + \rho \lambda)\big),
        \qquad \text{update } \tfrac12 \lambda^\top (G_1 + G_2)

    with gradients G₁ and G₂ of two independent batches, of whose products the mean is that of the
    Gramian without the noise on its diagonal, λ = 1/T before the first step, and Π the projection
    onto the simplex.  With a third batch the update is :math:`\lambda^\top G_3`.  An absent task
    takes no part in the update; its λ is shared out equally among the present tasks, and it returns
    with λ = 0.

    `update` takes G₁ and the extra argument `other_grads`, a sequence of G₂ and, if need be, G₃:
    trees like G₁, with gradients [T, *shape].  A task whose gradient is not finite in one of them
    is absent.  Parts in front of the method scale G₁ alone.

    Args:
      num_tasks: T, or the names of the tasks.
      gamma: γ >= 0, the step size of λ.
      rho: ρ >= 0, the strength of the regularisation.
      labels: see `dbmtl_jax.core`.

    Source: Chen et al., Three-way trade-off in multi-objective learning: Optimization,
    generalization and conflict-avoidance, NeurIPS 2023, Eq. 2.9.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.modo(num_tasks=2)
      >>> first, second = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[1.0, 0.0], [0.0, 3.0]])
      >>> update, state = tx.update(first, tx.init(jnp.zeros(2)), other_grads=[second])
      >>> print(update, state.aggregator)
      [0.625 0.9375] [0.625 0.375]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_range("gamma", gamma, 0.0)
    _checks.check_range("rho", rho, 0.0)

    def update(tasks: Tasks, lam: PerTask) -> Merged:
        others = other_batches(tasks, 1, 2)
        present = tasks.present & finite_rows(others, num_tasks)
        rows = tasks.task_grads
        first, second = jax.tree.leaves(rows), others[0]
        kept = jnp.where(present, lam, 0)
        kept += (jnp.sum(lam) - jnp.sum(kept)) * mean_weights(present)
        slopes = products(first, second, present) @ kept + rho * kept
        weights = project((kept - gamma * slopes).astype(lam.dtype), present)
        batches = [others[1]] if len(others) == 2 else [first, second]
        moved = jnp.where(jnp.any(present), weights, lam)
        return Merged(combined(weights, present, batches, rows), moved, present=present)

    def init(shared: PyTree) -> PerTask:
        return task_vector(num_tasks, 1 / num_tasks, shared)

    return transformation(
        num_tasks, (), Aggregator(init, update, of_parameters=True), labels, "modo"
    )
