"""GLS: the geometric mean of the losses."""

import jax.numpy as jnp

from dbmtl_jax.core._loss_balancer import LossBalancer, loss_balancer, scaling_form
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._types import Labels, Memory, PerTask, TaskCount

# Compiled programs take a smaller number for 0, whose logarithm is -∞.
_SMALLEST = float(jnp.finfo(jnp.float32).tiny)


def gls(num_tasks: TaskCount, *, labels: Labels = None) -> LossBalancer:
    r"""Geometric Loss Strategy: descends the geometric mean of the losses.

    .. math:: \nabla \Big(\prod_t \ell_t\Big)^{1/T} = \sum_t w_t \nabla \ell_t, \qquad
        w_t = \frac{1}{T \ell_t} \Big(\prod_s \ell_s\Big)^{1/T}

    over the present tasks.  The mean is computed as exp(mean log ℓ), which does not overflow for
    many tasks.  A task's own parameters get their gradient times w_t.  A task whose loss is not
    positive is absent from the step, as the mean is not defined for it.

    Args:
      num_tasks: T, or the names of the tasks.
      labels: see `dbmtl_jax.core`.

    Source: Chennupati et al., MultiNet++, CVPR Workshops 2019.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.gls(num_tasks=2)
      >>> grads = jnp.array([[1.0], [1.0]])
      >>> updates, state = tx.update(grads, tx.init(jnp.zeros(1)), losses=jnp.array([1.0, 4.0]))
      >>> print(optax.tree.get(state, "loss_weights"))
      [1.   0.25]
    """

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        losses, present = tasks.losses, tasks.present
        count = jnp.maximum(jnp.sum(present), 1)
        mean = jnp.exp(jnp.sum(jnp.log(losses), where=present) / count)
        return mean / (count * losses), memory

    return loss_balancer(num_tasks, weigh, above=_SMALLEST, labels=labels, name="gls")


scale_by_gls = scaling_form(gls)
