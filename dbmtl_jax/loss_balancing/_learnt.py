"""Loss balancers whose weights are functions of learnt values."""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from dbmtl_jax.core import _checks
from dbmtl_jax.core._learnt_weights import LearntState, LearntWeights
from dbmtl_jax.core._loss_balancer import LossBalancer, loss_balancer
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import Array, Labels, PerTask, Scalar, TaskCount


def learnt_loss_balancer(
    num_tasks: TaskCount,
    initial: Scalar,
    optimizer: optax.GradientTransformation | None,
    *,
    weight: Callable[[Array], Array],
    slope: Callable[[Array, Array], Array],
    labels: Labels,
    name: str,
) -> LossBalancer:
    """Weights `weight(s)`, where an optimizer moves s [T] with `slope(s, losses)` after each step.

    Args:
      num_tasks: T, or the names of the tasks.
      initial: s_t before the first step.
      optimizer: the optimizer of s; None: `optax.adam(1e-4)`.
      weight: s [T] -> the weights [T] of this step.
      slope: (s [T], losses [T]) -> the derivative [T] of the objective with regard to s.
      labels: see `dbmtl_jax.core`.
      name: the method's name.
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    learnt = LearntWeights.make(num_tasks, initial, optimizer)

    def weigh(tasks: Tasks, memory: LearntState) -> tuple[PerTask, LearntState]:
        s = memory.values
        return weight(s), learnt.descend(memory, slope(s, tasks.losses), tasks.present)

    # A negative loss has no minimum over s.
    above = -float(jnp.finfo(jnp.float32).tiny)
    return loss_balancer(num_tasks, weigh, init=learnt.init, above=above, labels=labels, name=name)
