"""DWA: weights from how fast each loss fell over the last two epochs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _checks
from dbmtl_jax.core._loss_balancer import LossBalancer, loss_balancer, scaling_form
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import Array, Count, Int, Labels, PerTask, PyTree, Scalar, TaskCount


class DWAState(NamedTuple):
    """The losses of the current epoch and the mean losses of the two epochs before it."""

    step: Int[Array, ""]
    totals: PerTask  # sums of the losses of the current epoch
    counts: PerTask  # the number of losses in each sum
    last: PerTask  # mean losses of the last complete epoch
    before: PerTask  # mean losses of the epoch before that


def dwa(
    num_tasks: TaskCount,
    *,
    temperature: Scalar = 2.0,
    steps_per_epoch: Count = 1,
    labels: Labels = None,
) -> LossBalancer:
    r"""Dynamic Weight Averaging.

    .. math:: w = T \, \mathrm{softmax}(r / \tau), \qquad
        r_t = \bar\ell_t^{(e-1)} / \bar\ell_t^{(e-2)}

    with the mean losses of the last two epochs; w = 1 during the first two epochs.  A task that
    took no part in an epoch keeps its last mean.  A task's own parameters get their gradient
    times w_t.

    Args:
      num_tasks: T, or the names of the tasks.
      temperature: τ; larger values make the weights more equal.
      steps_per_epoch: the number of steps in an epoch.
      labels: see `dbmtl_jax.core`.

    Source: Liu et al., End-to-end multi-task learning with attention, CVPR 2019.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.dwa(num_tasks=2, steps_per_epoch=100)
      >>> _, state = tx.update(jnp.ones((2, 1)), tx.init(jnp.zeros(1)), losses=jnp.ones(2))
      >>> print(optax.tree.get(state, "loss_weights"))
      [1. 1.]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_range("temperature", temperature, 1e-6)
    _checks.check_count("steps_per_epoch", steps_per_epoch)

    def init(shared: PyTree) -> DWAState:
        means = (task_vector(num_tasks, value, shared) for value in (0, 0, 1, 1))
        return DWAState(jnp.zeros((), jnp.int32), *means)

    def weigh(tasks: Tasks, memory: DWAState) -> tuple[PerTask, DWAState]:
        step, totals, counts, last, before = memory
        rates = last / jnp.where(before != 0, before, 1)
        learnt = num_tasks * jax.nn.softmax(rates / temperature)
        weights = jnp.where(step >= 2 * steps_per_epoch, learnt, 1)

        totals = totals + jnp.where(tasks.present, tasks.losses, 0).astype(totals.dtype)
        counts = counts + tasks.present
        mean = jnp.where(counts > 0, totals / jnp.maximum(counts, 1), last)
        step = optax.safe_increment(step)
        ends = step % steps_per_epoch == 0
        return weights, DWAState(
            step,
            jnp.where(ends, 0, totals),
            jnp.where(ends, 0, counts),
            jnp.where(ends, mean, last),
            jnp.where(ends, last, before),
        )

    return loss_balancer(num_tasks, weigh, init=init, labels=labels, name="dwa")


scale_by_dwa = scaling_form(dwa)
