"""MetaBalance: auxiliary gradients brought to the norm of the target task's gradient."""

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Labels, PerTask, Scalar, TaskCount


def meta_balance(
    num_tasks: TaskCount,
    *,
    relax: Scalar = 0.7,
    beta: Scalar = 0.9,
    target: int = 0,
    labels: Labels = None,
) -> TaskTransformation:
    r"""MetaBalance: gradients brought to the norm of the target task's.

    For every parameter array by itself,

    .. math:: n_t \leftarrow \beta n_t + (1 - \beta) \|g_t\|, \qquad
        \text{update } \sum_t \Big( r \frac{n_0}{n_t} + (1 - r) \Big) g_t

    with n = 0 before the first step, and n_0 that of the target task.  The averages of an absent
    task do not change.

    Args:
      num_tasks: T, or the names of the tasks.
      relax: r, how far the norms are brought together: with 0 the update is the plain sum, with 1
        all gradients get the target's averaged norm.
      beta: β, the decay of the averages of the norms.
      target: the index of the target task.
      labels: see `dbmtl_jax.core`.

    Source: He et al., MetaBalance: Improving multi-task recommendations via adapting gradient
    magnitudes of auxiliary tasks, WWW 2022.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.meta_balance(num_tasks=2, relax=1.0)
      >>> update, _ = tx.update(jnp.array([[2.0, 0.0], [0.0, 500.0]]), tx.init(jnp.zeros(2)))
      >>> print(update)
      [2. 2.]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_range("relax", relax, 0.0, 1.0)
    _checks.check_range("beta", beta, 0.0, 1.0, open_high=True)
    if not isinstance(target, jax.Array):
        _checks.check_option("target", target, range(num_tasks))

    def weigh(tasks: Tasks, averages: PerTask) -> tuple[PerTask, PerTask]:
        moved = beta * averages + (1 - beta) * tasks.norms
        averages = jnp.where(tasks.present, moved, averages)
        # A gradient that was always zero cannot be rescaled, and before the target's first step
        # there is no norm to which the others could be brought.
        known = (averages > 0) & (averages[target] > 0)
        ratios = jnp.where(known, averages[target] / jnp.where(known, averages, 1), 1)
        return relax * ratios + (1 - relax), averages

    return gradient_balancer(
        num_tasks,
        weigh,
        init=lambda leaf: task_vector(num_tasks, 0, leaf),
        per_leaf=True,
        labels=labels,
        name="meta_balance",
    )
