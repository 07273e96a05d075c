"""What methods are made of, the contract that they keep, and a glossary.

**The contract.**  The T tasks have a fixed order, and T is static.  A method is an optax
transformation.  Its `update` takes task gradients: a tree like the parameters in which a *shared*
leaf is [T, *shape], and row t is the gradient of the raw loss of task t.  It returns updates
[*shape].  Every method understands three arguments: `losses` [T], the raw losses at which the
gradients were taken (a method that reads them raises TypeError if they are missing); `task_mask`
[T] bool, the tasks that take part in this step (None: all); and `params`, against which shapes are
checked.  Other keywords are ignored, unless a method of your own reads them.

**Labels** say which parameters all tasks share, which belong to one task and which do not move.
They are a prefix tree of the parameters, or a function that maps the parameters to one, whose
leaves are ``"shared"``, a task's index or name, or ``"frozen"``; None: all parameters are shared.
A frozen parameter (integers allowed) is not differentiated.  Its gradient and its update are zeros
[*shape], and norms and inner products leave it out.  The gradient of a task's own
parameter has no task axis: it is the gradient of that task's loss.  Most methods leave it as it is
or multiply it by a factor for that task; the table of methods in `docs/guide.md` says which.

**Measured** parameters are those of which norms, inner products and averages are read, by every
method that reads them.  `measured` is a prefix tree of the parameters, or a function that maps the
parameters to one, whose leaves are bools (`labels_by_path` makes such a function, too); None: all
shared parameters.  The update is a sum over all parameters, of the gradients of the step.  With
`stream=True` a backward pass for each task then ends at the measured parameters, for example the
last shared layer, and one pass goes all the way.  A gradient that is not finite elsewhere is found
nevertheless.

**Errors.**  Static mistakes raise ValueError or TypeError during tracing: a leaf that is not
[T, *shape], a tree that differs from the parameters', missing losses, T < 1, an option out of
range.  The message names the argument or the path of the leaf, what was found and what was
expected.

**Words**, each with one meaning:

the paper
  Lin et al., Dual-balancing for multi-task learning (DB-MTL), arXiv:2308.12029.
raw loss
  a task's loss as the model computes it, before any weight or logarithm.
row
  the gradient of one task with regard to the shared parameters, as it came in.
loss weight
  what a loss balancer multiplies a row by; w_t in the docstrings of loss balancers.
scale
  what a row is multiplied by before it is merged: the product of its loss weights.
weight
  w_t of the update Σ_t w_t g_t, where g_t is the scaled row; 1 if only losses are balanced.
own
  of a parameter: belonging to one task alone.
masked
  of a task: left out of a step by the user's `task_mask`.
unusable
  of a task: its loss or gradient is not finite, or its loss has no logarithm where a method takes
  one.  The task is then treated as if it were masked.  The guide and the tests say "bad".
absent
  of a task: masked or unusable.
present
  of a task: not absent.
skipped
  of a task: unusable, and not masked.
read
  of gradients: what a method looks at to weigh the tasks: all shared parameters, the measured ones,
  or a representation.
pending
  of task gradients: not computed yet, as the engine returns them with `stream=True`.
memory
  what a method keeps between steps.
part
  a stage of a method that maps [T, *shape] to [T, *shape]: it scales or averages.
aggregator
  the last stage of a method, which maps [T, *shape] to [*shape].
"""

from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._gramian import Gramian
from dbmtl_jax.core._labels import labels_by_path
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
    "labels_by_path",
    "loss_balancer",
    "task_ema",
]
