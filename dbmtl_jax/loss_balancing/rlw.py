"""RLW: random weights."""

import jax
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._parts import Part
from dbmtl_jax._random import RandomState
from dbmtl_jax.loss_balancing._weights import as_method, as_transformation, balance_losses


def rlw(
    num_tasks: int, *, seed: int = 0, labels: _partition.Labels = None
) -> optax.GradientTransformationExtraArgs:
    r"""Random Loss Weighting.

    .. math:: w = \mathrm{softmax}(z), \qquad z \sim \mathcal N(0, I)

    drawn anew at every step over the present tasks; the weights sum to 1 (not to T).  A task's own
    parameters get their gradient times w_t.

    Args:
      num_tasks: T.
      seed: of the draws; the key is part of the state.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; `update` needs
      `losses` [T] and takes `task_mask` [T].

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for missing losses
        or gradients that are not stacked.

    Source: Lin et al., Reasonable effectiveness of random weighting, TMLR 2022.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.rlw(num_tasks=3, seed=1)
      >>> _, state = tx.update(jnp.ones((3, 1)), tx.init(jnp.zeros(1)), losses=jnp.ones(3))
      >>> print(optax.tree.get(state, "loss_weights").sum().round(5))
      1.0
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    return as_method(num_tasks, _part(num_tasks, seed), labels, "rlw")


def scale_by_rlw(
    num_tasks: int, *, seed: int = 0, labels: _partition.Labels = None
) -> optax.GradientTransformationExtraArgs:
    """The weights of `rlw` on stacked gradients, [T, *shape] → [T, *shape], for chains."""
    num_tasks = _contract.check_num_tasks(num_tasks)
    return as_transformation(num_tasks, _part(num_tasks, seed), labels, "scale_by_rlw")


def _part(num_tasks: int, seed: int) -> Part:
    def weigh(
        losses: jax.Array, present: jax.Array, memory: RandomState
    ) -> tuple[jax.Array, RandomState]:
        memory, draw = memory.draw()
        z = jax.random.normal(draw, (num_tasks,), losses.dtype)
        # All tasks absent: softmax of nothing is 0/0.
        weights = jax.nn.softmax(z, where=present | ~present.any())
        return weights, memory

    return balance_losses(num_tasks, weigh, initial=lambda dtype: RandomState.from_seed(seed))
