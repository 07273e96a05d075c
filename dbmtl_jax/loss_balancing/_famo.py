"""FAMO: weights that learn to make all losses fall at the same rate."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _checks
from dbmtl_jax.core._learnt_weights import LearntState, LearntWeights
from dbmtl_jax.core._loss_balancer import LossBalancer, loss_balancer, scaling_form
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import Labels, Mask, PerTask, PyTree, Scalar, TaskCount

_EPS = 1e-8


class FAMOState(NamedTuple):
    """What FAMO keeps between steps."""

    learnt: LearntState  # ξ
    before: PerTask  # the losses of the last step, 1 for a task that was absent
    known: Mask  # which tasks took part in the last step


def famo(
    num_tasks: TaskCount,
    *,
    gamma: Scalar = 1e-3,
    weight_optimizer: optax.GradientTransformation | None = None,
    labels: Labels = None,
) -> LossBalancer:
    r"""Fast Adaptive Multitask Optimization.

    .. math:: z = \mathrm{softmax}(\xi), \qquad
        w_t = \frac{z_t / \ell_t}{\sum_s z_s / \ell_s}, \qquad
        \xi \text{ descends along } z \circ (\delta - \langle z, \delta \rangle) + \gamma \xi,
        \qquad \delta_t = \log \ell_t - \log \ell_t^{+}

    with the losses ℓ⁺ after the step, for which those of the next step are taken, and ℓ + 1e-8 for
    ℓ throughout.  The weights sum to 1.  Losses must be positive.  The ξ of an absent task does not
    change.  A task's own parameters get their gradient times w_t.

    Args:
      num_tasks: T, or the names of the tasks.
      gamma: γ >= 0, the decay of ξ.
      weight_optimizer: the optimizer of ξ, which starts at 0; None: `optax.adam(0.025)`.
      labels: see `dbmtl_jax.core`.

    Source: Liu et al., FAMO: Fast adaptive multitask optimization, NeurIPS 2023, Algorithm 2.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.famo(num_tasks=2)
      >>> losses = jnp.array([1.0, 3.0])
      >>> update, _ = tx.update(jnp.eye(2), tx.init(jnp.zeros(2)), losses=losses)
      >>> print(update)
      [0.75 0.25]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_range("gamma", gamma, 0.0)
    optimizer = optax.adam(0.025) if weight_optimizer is None else weight_optimizer
    xi = LearntWeights.make(num_tasks, 0.0, optimizer)

    def init(shared: PyTree) -> FAMOState:
        before = task_vector(num_tasks, 1, shared)
        return FAMOState(xi.init(shared), before, jnp.zeros((num_tasks,), bool))

    def weigh(tasks: Tasks, memory: FAMOState) -> tuple[PerTask, FAMOState]:
        learnt, before, known = memory
        losses, present = tasks.losses + _EPS, tasks.present
        # What the last step has changed, for the tasks of both steps.
        both = known & present
        fell = jnp.where(both, jnp.log(before) - jnp.log(losses), 0)
        z = _softmax(learnt.values, known)
        slope = z * (fell - jnp.sum(z * fell)) + gamma * learnt.values
        moved = xi.descend(learnt, slope, both)
        some = jnp.any(both)
        learnt = jax.tree.map(lambda new, old: jnp.where(some, new, old), moved, learnt)
        # In units of the smallest loss, as 1/ℓ may be smaller than any number.
        smallest = jnp.min(losses, where=present, initial=jnp.finfo(losses.dtype).max)
        shares = _softmax(learnt.values, present) * (smallest / losses)
        shares = jnp.where(present, shares, 0)
        total = jnp.sum(shares)
        weights = shares / jnp.where(total > 0, total, 1)
        return weights, FAMOState(learnt, jnp.where(present, losses, 1), present)

    return loss_balancer(num_tasks, weigh, init=init, above=0.0, labels=labels, name="famo")


scale_by_famo = scaling_form(famo)


def _softmax(values: PerTask, present: Mask) -> PerTask:
    """Over the present tasks; 0 for the others."""
    everyone = ~jnp.any(present)
    return jnp.where(present, jax.nn.softmax(values, where=present | everyone), 0)
