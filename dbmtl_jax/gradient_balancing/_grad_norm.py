"""GradNorm: learnt weights that give all gradients similar norms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._learnt_weights import LearntState, LearntWeights
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import (
    Array,
    Count,
    Float,
    Int,
    Labels,
    Measured,
    PerTask,
    PyTree,
    Scalar,
    TaskCount,
)


class GradNormState(NamedTuple):
    """What GradNorm keeps between steps."""

    learnt: LearntState  # θ
    step: Int[Array, ""]
    totals: PerTask  # the losses of the first epoch, summed
    counts: PerTask  # the number of losses in each sum


def grad_norm(
    num_tasks: TaskCount,
    *,
    alpha: Scalar = 1.5,
    steps_per_epoch: Count = 1,
    weight_optimizer: optax.GradientTransformation | None = None,
    scale_own: bool = True,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Gradient Normalization.

    .. math:: w = T \, \mathrm{softmax}(\theta), \qquad n_t = w_t \|g_t\|, \qquad
        \theta \text{ descends } \sum_t \big| n_t - \bar n \, r_t^{\,\alpha} \big|,
        \qquad r_t = \frac{\ell_t / \ell_t^{(0)}}{\mathrm{mean}_s \, \ell_s / \ell_s^{(0)}}

    The update is :math:`\sum_t w_t g_t`.  n̄ is the mean of the n_t over tasks; the goals
    :math:`\bar n r_t^\alpha` count as constants.  :math:`\ell^{(0)}` are the mean losses of the
    first epoch, during which w = 1.  The θ of an absent task does not change.

    Args:
      num_tasks: T, or the names of the tasks.
      alpha: α; larger values train the tasks that lag behind faster.
      steps_per_epoch: the length of the first epoch, in steps.
      weight_optimizer: the optimizer of θ, which starts at 1; None: `optax.adam(1e-4)`.
      scale_own: whether the gradients of a task's own parameters are multiplied by w_t, as in
        Section 2.2 of the DB-MTL paper, or left as they are.
      labels, measured: see `dbmtl_jax.core`.

    Source: Chen et al., GradNorm: Gradient normalization for adaptive loss balancing in deep
    multitask networks, ICML 2018.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.grad_norm(num_tasks=2, weight_optimizer=optax.sgd(0.1))
      >>> grads, losses, state = jnp.array([[1.0], [3.0]]), jnp.ones(2), tx.init(jnp.zeros(1))
      >>> for _ in range(3):
      ...     _, state = tx.update(grads, state, losses=losses)
      >>> with jnp.printoptions(precision=2):
      ...     print(optax.tree.get(state, "weights"))
      [1.2 0.8]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_range("alpha", alpha, 0.0)
    _checks.check_count("steps_per_epoch", steps_per_epoch)
    theta = LearntWeights.make(num_tasks, 1.0, weight_optimizer)

    def init(shared: PyTree) -> GradNormState:
        return GradNormState(
            learnt=theta.init(shared),
            step=jnp.zeros((), jnp.int32),
            totals=task_vector(num_tasks, 0, shared),
            counts=task_vector(num_tasks, 0, shared),
        )

    def weights_of(theta: PerTask) -> PerTask:
        return num_tasks * jax.nn.softmax(theta)

    def weigh(tasks: Tasks, memory: GradNormState) -> tuple[PerTask, GradNormState]:
        learnt, step, totals, counts = memory
        norms, present = tasks.norms, tasks.present
        number = jnp.maximum(jnp.sum(present), 1)
        losses = jnp.where(present, tasks.losses, 0)

        first_losses = totals / jnp.maximum(counts, 1)
        # A task that was absent from the first epoch, or whose losses were zero there, counts as
        # training at the usual rate.
        rates = jnp.where(
            first_losses > 0, losses / jnp.where(first_losses > 0, first_losses, 1), 1
        )
        mean_rate = jnp.sum(rates, where=present) / number
        # A negative loss has no rate whose power could be taken.
        relative = jnp.maximum(rates / jnp.where(mean_rate > 0, mean_rate, 1), 0)

        def objective(theta: PerTask) -> Float[Array, ""]:
            scaled = weights_of(theta) * norms
            goals = jnp.sum(scaled, where=present) / number * relative**alpha
            return jnp.sum(jnp.abs(scaled - jax.lax.stop_gradient(goals)), where=present)

        # A task alone is at its goal; what is left is a rounding error with a slope of ±‖g‖.
        learns = present & (number > 1)
        moved = theta.descend(learnt, jax.grad(objective)(learnt.values), learns)
        first_epoch = step < steps_per_epoch
        weights = jnp.where(first_epoch, 1, weights_of(learnt.values))
        learnt = jax.tree.map(lambda a, b: jnp.where(first_epoch, a, b), learnt, moved)
        totals = totals + jnp.where(first_epoch, losses, 0)
        counts = counts + (present & first_epoch)
        return weights, GradNormState(learnt, optax.safe_increment(step), totals, counts)

    return gradient_balancer(
        num_tasks,
        weigh,
        init=init,
        own_weights=(lambda weights, memory: weights) if scale_own else None,
        labels=labels,
        measured=measured,
        name="grad_norm",
    )
