"""RLW: random weights."""

import jax

from dbmtl_jax.core._loss_balancer import LossBalancer, loss_balancer, scaling_form
from dbmtl_jax.core._random import RandomState
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import Labels, PerTask, Seed, TaskCount


def rlw(num_tasks: TaskCount, *, seed: Seed = 0, labels: Labels = None) -> LossBalancer:
    r"""Random Loss Weighting.

    .. math:: w = \mathrm{softmax}(z), \qquad z \sim \mathcal N(0, I)

    with z drawn anew in every step and the softmax over the present tasks, so the weights sum to 1
    (not to T).  A task's own parameters get their gradient times w_t.

    Args:
      num_tasks: T, or the names of the tasks.
      seed: the seed of the draws, an int or a key; the key is part of the state.
      labels: see `dbmtl_jax.core`.

    Source: Lin et al., Reasonable effectiveness of random weighting, TMLR 2022.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.rlw(num_tasks=3, seed=1)
      >>> _, state = tx.update(jnp.ones((3, 1)), tx.init(jnp.zeros(1)), losses=jnp.ones(3))
      >>> print(optax.tree.get(state, "loss_weights").sum().round(5))
      1.0
    """

    def weigh(tasks: Tasks, memory: RandomState) -> tuple[PerTask, RandomState]:
        memory, key = memory.draw()
        z = jax.random.normal(key, (tasks.num_tasks,), tasks.losses.dtype)
        # If all tasks are absent, the softmax over none of them would be 0/0.
        weights = jax.nn.softmax(z, where=tasks.present | ~tasks.present.any())
        return weights, memory

    return loss_balancer(
        num_tasks,
        weigh,
        init=lambda shared: RandomState.from_seed(seed),
        labels=labels,
        name="rlw",
    )


scale_by_rlw = scaling_form(rlw)
