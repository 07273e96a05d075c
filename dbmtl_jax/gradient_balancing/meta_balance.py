"""MetaBalance: auxiliary gradients brought to the magnitude of the target task's."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._aggregation import for_each_leaf, weighted_sum_of_tasks
from dbmtl_jax._parts import method
from dbmtl_jax._stack import Stack


def meta_balance(
    num_tasks: int,
    *,
    relax: float = 0.7,
    beta: float = 0.9,
    target: int = 0,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""MetaBalance.

    For every parameter array by itself,

    .. math:: n_t \leftarrow \beta n_t + (1 - \beta) \|g_t\|, \qquad
        \text{update } \sum_t \Big( r \frac{n_0}{n_t} + (1 - r) \Big) g_t

    with n = 0 before the first step and the target task 0.

    Args:
      num_tasks: T.
      relax: r, how far the magnitudes are brought together: 0 is the plain sum.
      beta: β, of the averages of the norms.
      target: the task to whose magnitude the others are brought.
      labels: "shared" or a task index for each parameter, see `db_mtl`.  A task's own parameters
        keep their gradient.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` takes
      `task_mask` [T]; the averages of an absent task stand still.

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for gradients that
        are not stacked.

    Source: He et al., MetaBalance: Improving multi-task recommendations via adapting gradient
    magnitudes of auxiliary tasks, WWW 2022.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.meta_balance(num_tasks=2, relax=1.0)
      >>> update, _ = tx.update(jnp.array([[2.0, 0.0], [0.0, 500.0]]), tx.init(jnp.zeros(2)))
      >>> print(update)
      [2. 2.]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    _contract.check_range("relax", relax, 0.0, 1.0)
    _contract.check_range("beta", beta, 0.0, 1.0, open_high=True)
    _contract.check_option("target", target, range(num_tasks))

    def weigh(stack: Stack, losses: Any, averages: jax.Array) -> tuple[jax.Array, jax.Array]:
        moved = beta * averages + (1 - beta) * stack.norms
        averages = jnp.where(stack.present, moved, averages)
        # A gradient that was always zero has no magnitude to be changed; nor has the target's
        # before its first step any that the others could be brought to.
        known = (averages > 0) & (averages[target] > 0)
        ratios = jnp.where(known, averages[target] / jnp.where(known, averages, 1), 1)
        return relax * ratios + (1 - relax), averages

    aggregator = weighted_sum_of_tasks(
        num_tasks, weigh, initial=lambda dtype: jnp.zeros((num_tasks,), dtype)
    )
    return method(num_tasks, (), for_each_leaf(aggregator), labels)
