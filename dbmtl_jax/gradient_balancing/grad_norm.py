"""GradNorm: learnt weights that give all gradients similar norms."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._aggregation import weighted_sum_of_tasks
from dbmtl_jax._parts import method
from dbmtl_jax._stack import Stack
from dbmtl_jax.loss_balancing._weights import LearntState, default_weight_optimizer


class GradNormMemory(NamedTuple):
    """What GradNorm keeps between steps."""

    learnt: LearntState  # θ
    step: jax.Array  # int32
    totals: jax.Array  # the losses of the first epoch, summed, [T]
    counts: jax.Array  # over how many steps, [T]


def grad_norm(
    num_tasks: int,
    *,
    alpha: float = 1.5,
    steps_per_epoch: int = 1,
    weight_optimizer: optax.GradientTransformation | None = None,
    scale_own: bool = True,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Gradient Normalization.

    .. math:: w = T \, \mathrm{softmax}(\theta), \qquad n_t = w_t \|g_t\|, \qquad
        \theta \text{ descends } \sum_t \big| n_t - \bar n \, r_t^{\,\alpha} \big|,
        \qquad r_t = \frac{\ell_t / \ell_t^{(0)}}{\mathrm{mean}_s \, \ell_s / \ell_s^{(0)}}

    where the goals :math:`\bar n r_t^\alpha` (with the mean n̄ of the norms) count as constants and
    :math:`\ell^{(0)}` are the mean losses of the first epoch, during which w = 1.  The update is
    :math:`\sum_t w_t g_t`.

    Args:
      num_tasks: T.
      alpha: how much faster tasks that lag behind are to be trained.
      steps_per_epoch: the length of the first epoch, in steps.
      weight_optimizer: of θ, which starts at 1; None: `optax.adam(1e-4)`.
      scale_own: whether a task's own parameters get their gradient times w_t, as in the paper
        (Section 2.2), or as it is.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` needs
      `losses` [T] and takes `task_mask` [T]; the θ of an absent task stands still.

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for missing losses
        or gradients that are not stacked.

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
    num_tasks = _contract.check_num_tasks(num_tasks)
    _contract.check_range("alpha", alpha, 0.0)
    _contract.check_range("steps_per_epoch", steps_per_epoch, 1)
    optimizer = weight_optimizer or default_weight_optimizer()

    def initial(dtype: Any) -> GradNormMemory:
        theta = jnp.ones((num_tasks,), dtype)
        return GradNormMemory(
            learnt=LearntState(theta, optimizer.init(theta)),
            step=jnp.zeros((), jnp.int32),
            totals=jnp.zeros((num_tasks,), dtype),
            counts=jnp.zeros((num_tasks,), dtype),
        )

    def weights_of(theta: jax.Array) -> jax.Array:
        return num_tasks * jax.nn.softmax(theta)

    def weigh(
        stack: Stack, losses: jax.Array, memory: GradNormMemory
    ) -> tuple[jax.Array, GradNormMemory]:
        (theta, opt_state), step, totals, counts = memory
        norms, present = stack.norms, stack.present
        number = jnp.maximum(jnp.sum(present), 1)
        losses = jnp.where(present, losses, 0)

        first_losses = totals / jnp.maximum(counts, 1)
        # A task that the first epoch had not, or whose loss was zero, counts as training at the
        # usual rate.
        rates = jnp.where(
            first_losses > 0, losses / jnp.where(first_losses > 0, first_losses, 1), 1
        )
        mean_rate = jnp.sum(rates, where=present) / number
        # A negative loss has no rate whose power could be taken.
        relative = jnp.maximum(rates / jnp.where(mean_rate > 0, mean_rate, 1), 0)

        def objective(theta: jax.Array) -> jax.Array:
            scaled = weights_of(theta) * norms
            goals = jnp.sum(scaled, where=present) / number * relative**alpha
            return jnp.sum(jnp.abs(scaled - jax.lax.stop_gradient(goals)), where=present)

        slope = jnp.where(present, jax.grad(objective)(theta), 0).astype(theta.dtype)
        updates, new_opt_state = optimizer.update(slope, opt_state, theta)
        moved = jnp.where(present, optax.apply_updates(theta, updates), theta)
        learnt = LearntState(moved, new_opt_state)

        first_epoch = step < steps_per_epoch
        learnt = jax.tree.map(lambda a, b: jnp.where(first_epoch, a, b), memory.learnt, learnt)
        weights = jnp.where(first_epoch, 1, weights_of(theta))
        totals = totals + jnp.where(first_epoch, losses, 0)
        counts = counts + (present & first_epoch)
        return weights, GradNormMemory(learnt, optax.safe_increment(step), totals, counts)

    aggregator = weighted_sum_of_tasks(
        num_tasks,
        weigh,
        initial=initial,
        own=(lambda weights, memory: weights) if scale_own else None,
    )
    return method(num_tasks, (), aggregator, labels, losses_required_by="grad_norm")
