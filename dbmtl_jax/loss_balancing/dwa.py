"""DWA: weights from how fast each loss fell over the last two epochs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._parts import Part
from dbmtl_jax.loss_balancing._weights import as_method, as_transformation, balance_losses


class EpochMeans(NamedTuple):
    """Mean losses of the epoch under way and of the last two, over each task's own steps."""

    step: jax.Array  # int32
    totals: jax.Array  # [T], of the epoch under way
    counts: jax.Array  # [T]
    last: jax.Array  # [T]
    before: jax.Array  # [T]


def dwa(
    num_tasks: int,
    *,
    temperature: float = 2.0,
    steps_per_epoch: int = 1,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Dynamic Weight Averaging.

    .. math:: w = T \, \mathrm{softmax}(r / \tau), \qquad
        r_t = \bar\ell_t^{(e-1)} / \bar\ell_t^{(e-2)}

    with the mean losses of the last two epochs; w = 1 in the first two.  A task that took no part
    in an epoch keeps its last mean.  A task's own parameters get their gradient times w_t.

    Args:
      num_tasks: T.
      temperature: τ; larger is more even.
      steps_per_epoch: after how many steps an epoch ends; all is kept on the device.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; `update` needs
      `losses` [T] and takes `task_mask` [T].

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for missing losses
        or gradients that are not stacked.

    Source: Liu et al., End-to-end multi-task learning with attention, CVPR 2019.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.dwa(num_tasks=2, steps_per_epoch=100)
      >>> _, state = tx.update(jnp.ones((2, 1)), tx.init(jnp.zeros(1)), losses=jnp.ones(2))
      >>> print(optax.tree.get(state, "loss_weights"))
      [1. 1.]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    return as_method(num_tasks, _part(num_tasks, temperature, steps_per_epoch), labels, "dwa")


def scale_by_dwa(
    num_tasks: int,
    *,
    temperature: float = 2.0,
    steps_per_epoch: int = 1,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    """The weights of `dwa` on stacked gradients, [T, *shape] → [T, *shape], for chains."""
    num_tasks = _contract.check_num_tasks(num_tasks)
    part = _part(num_tasks, temperature, steps_per_epoch)
    return as_transformation(num_tasks, part, labels, "scale_by_dwa")


def _part(num_tasks: int, temperature: float, steps_per_epoch: int) -> Part:
    _contract.check_range("temperature", temperature, 1e-6)
    _contract.check_range("steps_per_epoch", steps_per_epoch, 1)

    def initial(dtype: jnp.dtype) -> EpochMeans:
        def fill(value: float) -> jax.Array:
            return jnp.full((num_tasks,), value, dtype)

        return EpochMeans(jnp.zeros((), jnp.int32), fill(0), fill(0), fill(1), fill(1))

    def weigh(
        losses: jax.Array, present: jax.Array, memory: EpochMeans
    ) -> tuple[jax.Array, EpochMeans]:
        step, totals, counts, last, before = memory
        rates = last / jnp.where(before != 0, before, 1)
        learnt = num_tasks * jax.nn.softmax(rates / temperature)
        weights = jnp.where(step >= 2 * steps_per_epoch, learnt, 1)

        totals = totals + jnp.where(present, losses, 0).astype(totals.dtype)
        counts = counts + present
        mean = jnp.where(counts > 0, totals / jnp.maximum(counts, 1), last)
        step = optax.safe_increment(step)
        ends = step % steps_per_epoch == 0
        return weights, EpochMeans(
            step,
            jnp.where(ends, 0, totals),
            jnp.where(ends, 0, counts),
            jnp.where(ends, mean, last),
            jnp.where(ends, last, before),
        )

    return balance_losses(num_tasks, weigh, initial=initial)
