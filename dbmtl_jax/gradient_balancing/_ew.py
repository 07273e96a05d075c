"""Equal weighting: the sum of the tasks' gradients."""

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import sum_of_tasks
from dbmtl_jax.core._transformation import TaskTransformation, transformation
from dbmtl_jax.core._types import Labels, TaskCount


def sum_tasks(num_tasks: TaskCount, *, labels: Labels = None) -> TaskTransformation:
    r"""Sums the tasks' gradients: the gradient of :math:`\sum_t \ell_t` (not of the mean).

    By itself this is equal weighting (EW).  It also ends a chain of `scale_by_…` transformations.

    Args:
      num_tasks: T, or the names of the tasks.
      labels: see `dbmtl_jax.core`.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.sum_tasks(num_tasks=2)
      >>> updates, _ = tx.update(jnp.array([[1.0, 0.0], [2.0, 5.0]]), tx.init(jnp.zeros(2)))
      >>> print(updates)
      [3. 5.]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    return transformation(num_tasks, (), sum_of_tasks(), labels, "sum_tasks")


def ew(num_tasks: TaskCount, *, labels: Labels = None) -> TaskTransformation:
    """Equal weighting, the baseline: `sum_tasks` under the name that papers use.

    With pending gradients (`stream=True`) it takes one backward pass, as `jax.grad` of the sum of
    the losses does.  The arguments are those of `sum_tasks`.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.ew(num_tasks=2)
      >>> updates, _ = tx.update(jnp.array([[1.0], [2.0]]), tx.init(jnp.zeros(1)))
      >>> print(updates)
      [3.]
    """
    return sum_tasks(num_tasks, labels=labels)
