"""Equal weighting: the sum of the tasks' gradients."""

import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._aggregation import sum_of_tasks
from dbmtl_jax._parts import method


def sum_tasks(
    num_tasks: int, *, labels: _partition.Labels = None
) -> optax.GradientTransformationExtraArgs:
    r"""Sums the tasks' gradients: the gradient of :math:`\sum_t \ell_t` (not of the mean).

    Equal weighting (EW) by itself, and the end of every chain that balances losses alone.  An
    absent task (masked, or with a loss or a gradient that is not finite) is left out.

    Args:
      num_tasks: T.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape].

    Raises:
      TypeError, ValueError: for a bad `num_tasks`, and in `update` for gradients that are not
        stacked.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.sum_tasks(num_tasks=2)
      >>> updates, _ = tx.update(jnp.array([[1.0, 0.0], [2.0, 5.0]]), tx.init(jnp.zeros(2)))
      >>> print(updates)
      [3. 5.]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    return method(num_tasks, (), sum_of_tasks(num_tasks), labels)


def ew(
    num_tasks: int, *, labels: _partition.Labels = None
) -> optax.GradientTransformationExtraArgs:
    """Equal weighting, the baseline: `sum_tasks` under the name it has in tables.

    With pending gradients (`stream=True`) it takes one backward pass, as `jax.grad` of the sum of
    the losses does.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.ew(num_tasks=2)
      >>> updates, _ = tx.update(jnp.array([[1.0], [2.0]]), tx.init(jnp.zeros(1)))
      >>> print(updates)
      [3.]
    """
    return sum_tasks(num_tasks, labels=labels)
