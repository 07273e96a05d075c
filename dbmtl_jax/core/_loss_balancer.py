"""Loss balancing: one weight per task, a function of the losses and the memory."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple, ParamSpec

import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import Weigh, defining_name, no_memory, sum_of_tasks, weighed
from dbmtl_jax.core._parts import Part
from dbmtl_jax.core._strict import strict
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation, counted, like, transformation
from dbmtl_jax.core._types import (
    Array,
    Int,
    Labels,
    Mask,
    Memory,
    PerTask,
    PyTree,
    Scalar,
    TaskCount,
)

Options = ParamSpec("Options")


class LossBalancingState(NamedTuple):
    """The loss weights of the last step, and what the method keeps between steps."""

    loss_weights: PerTask  # 0 for an absent task
    memory: Memory
    refused: Int[Array, " T"]  # in how many steps a loss was finite and yet could not be weighed


class LossBalancer(TaskTransformation):
    """A loss balancer; its `scale_by` is the same method without the sum at its end."""

    @property
    def scale_by(self) -> TaskTransformation:
        """Scales task gradients by the weights, [T, *shape] → [T, *shape], for use in chains."""
        name = f"scale_by_{self.name}"
        return transformation(self.num_tasks, self.parts, None, self.labels, name)


def loss_balancer(
    num_tasks: TaskCount,
    weigh: Weigh,
    *,
    init: Callable[[PyTree], Memory] = no_memory,
    above: Scalar | None = None,
    labels: Labels = None,
    name: str | None = None,
) -> LossBalancer:
    r"""Makes a method from a function that weighs the tasks by their losses.

    .. math:: \text{update } \sum_t w_t \nabla \ell_t, \qquad
        w, \text{memory} = \mathrm{weigh}(\text{tasks}, \text{memory})

    for the shared parameters; the gradients of a task's own parameters are multiplied by w_t, too.
    All loss balancers of this library are made with it.  No gradient of a single task is needed, so
    a step with pending gradients (`stream=True`) costs one backward pass.

    Args:
      num_tasks: T, or the names of the tasks.
      weigh: `(tasks, memory) -> (w [T], memory)`.  It runs inside the compiled step.  Of `tasks` (a
        `Tasks`) it may read `losses` [T], which are 1 for absent tasks, `present` [T] bool and
        `extra_args`.
      init: `shared -> memory`: the memory before the first step, a tree of arrays, given the
        shared parameters.
      above: a task whose loss is not greater than this is absent from the step; None: no bound.
      labels: which parameters are shared and which belong to one task; see `dbmtl_jax.core`.
      name: the method's name, for error messages; None: that of the function in which `weigh` is
        defined.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` needs
      `losses` [T].  Its attribute `scale_by` is the transformation [T, *shape] → [T, *shape] that
      scales without summing, to be chained in front of another method.

    Raises:
      TypeError: if num_tasks is no int, `weigh` or `init` no function, or `above` no number.
      ValueError: for num_tasks < 1.

    Example:
      Tasks with a larger loss count for more:

      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> def focus(num_tasks, labels=None):
      ...   def weigh(tasks, memory):
      ...     return tasks.losses / tasks.losses.sum(where=tasks.present), memory
      ...   return dbmtl.loss_balancer(num_tasks, weigh, above=0.0, labels=labels)
      >>> tx = optax.chain(focus(2).scale_by, dbmtl.pcgrad(2))
      >>> grads = jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> updates, _ = tx.update(grads, tx.init(jnp.zeros(2)), losses=jnp.array([1.0, 3.0]))
      >>> print(updates)
      [0.25 0.75]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_functions(weigh=weigh, init=init)
    if weigh is None:
        raise TypeError("weigh: expected a function, found None")
    if above is not None:
        _checks.check_range("above", above, -math.inf)
    part = _scaling(num_tasks, weigh, init, above)
    name = name or defining_name(weigh)
    method = transformation(num_tasks, (part,), sum_of_tasks(), labels, name)
    return LossBalancer(method.init, method.update, **vars(method))


def scaling_form(
    factory: Callable[Options, LossBalancer],
) -> Callable[Options, TaskTransformation]:
    """The factory `scale_by_…` of a loss balancer's factory, with the same arguments."""

    @functools.wraps(factory)
    def scale_by(*args: Options.args, **kwargs: Options.kwargs) -> TaskTransformation:
        return factory(*args, **kwargs).scale_by

    name = factory.__name__
    scale_by.__name__ = scale_by.__qualname__ = f"scale_by_{name}"
    scale_by.__doc__ = (
        f"Scales task gradients by the weights of `{name}`, [T, *shape] → [T, *shape].\n\n"
        f"To be chained in front of another method.  The arguments are those of `{name}`."
    )
    return scale_by


def _scaling(
    num_tasks: int, weigh: Weigh, init: Callable[[PyTree], Memory], above: Scalar | None
) -> Part:
    """Scales every task's gradients by its loss weight."""

    def first(shared: PyTree) -> LossBalancingState:
        refused = jnp.zeros((num_tasks,), jnp.int32)
        return LossBalancingState(task_vector(num_tasks, 0, shared), init(shared), refused)

    def update(tasks: Tasks, state: LossBalancingState) -> tuple[Tasks, LossBalancingState]:
        valid = jnp.isfinite(tasks.losses)
        if above is not None:
            valid &= tasks.losses > above
        present = tasks.present & valid
        losses = jnp.where(present, tasks.losses, 1)
        usable = tasks._replace(given_losses=losses, present=present)
        weights, memory = weighed(weigh, usable, state.memory)
        refused = tasks.present & jnp.isfinite(tasks.losses) & ~valid
        valid &= jnp.isfinite(weights)
        present &= valid
        recorded = jnp.where(present, weights, 0).astype(state.loss_weights.dtype)
        # NaN only for a task that is not masked: the loss of a masked task may be anything.
        scaled = tasks.scaled(jnp.where(valid | ~tasks.present, weights, jnp.nan))
        scaled = scaled._replace(refused=tasks.refused | refused)
        if not strict():
            scaled = scaled._replace(present=present)
        counts = counted(state.refused, refused)
        return scaled, LossBalancingState(recorded, like(memory, state.memory), counts)

    def settle(state: LossBalancingState, present: Mask) -> LossBalancingState:
        return state._replace(loss_weights=jnp.where(present, state.loss_weights, 0))

    return Part(first, update, settle=settle)
