"""What a method is made of.

**The contract.**  T tasks have a fixed order; T is static.  A method is an optax transformation:
its `update` takes task gradients, a tree like the parameters in which a *shared* leaf is
[T, *shape], row t being the gradient of the raw loss of task t, and gives updates [*shape].
Three keywords are understood by all: `losses` [T], the raw losses at which the gradients were
taken (a method that reads them raises TypeError without), `task_mask` [T] bool, the tasks that
take part in this step (None: all), and `params`, with which shapes are checked.  Other keywords are
ignored, or read by a method of your own.

**Labels** say which parameters are shared and which belong to one task: a prefix tree of the
parameters, or a function of them, whose leaves are ``"shared"`` or a task index; None: all are
shared.  The leaf of a task's own parameter comes in without the task axis, as the gradient of its
task alone, and leaves times the scale that the method gives it.

**Errors.**  Static mistakes raise ValueError or TypeError while tracing, with the name of the
argument or the path of the leaf, what was found and what was expected: leaves that are not
[T, *shape], another tree than the parameters', missing losses, T < 1, an option out of range.

**Words**, each with one meaning:

row
  the gradient of one task with regard to the shared parameters, as it came in.
scale
  what a row is multiplied by before it is merged: the product of what the loss balancers chose.
weight
  w_t of the update Σ_t w_t g_t, where g_t is the scaled row.
own
  of a parameter: belonging to one task alone.
masked
  of a task: left out of a step by the user's `task_mask`.
present
  of a task: neither masked nor found unusable.  A task is unusable if its loss or gradient is
  not finite, or if its loss has no logarithm where one is taken; it is then as if masked.
skipped
  of a task: not masked and not present.
memory
  what a method keeps between steps.
part
  a step of a method that maps [T, *shape] to [T, *shape]: it scales or averages.
aggregator
  the end of a method, which maps [T, *shape] to [*shape].
"""

from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._gramian import Gramian
from dbmtl_jax.core._learnt_weights import LearntState
from dbmtl_jax.core._loss_balancer import LossBalancer, LossBalancingState, loss_balancer
from dbmtl_jax.core._random import RandomState
from dbmtl_jax.core._task_ema import TaskEmaState, inverse_power_schedule, task_ema
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import MultiTaskState, TaskTransformation
from dbmtl_jax.core._types import Labels

__all__ = [
    "Gramian",
    "Labels",
    "LearntState",
    "LossBalancer",
    "LossBalancingState",
    "MultiTaskState",
    "RandomState",
    "TaskEmaState",
    "TaskTransformation",
    "Tasks",
    "gradient_balancer",
    "inverse_power_schedule",
    "loss_balancer",
    "task_ema",
]
