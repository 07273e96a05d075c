"""GLS: the geometric mean of the losses."""

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._parts import Part
from dbmtl_jax.loss_balancing._weights import as_method, as_transformation, balance_losses


def gls(
    num_tasks: int, *, labels: _partition.Labels = None
) -> optax.GradientTransformationExtraArgs:
    r"""Geometric Loss Strategy: descends the geometric mean of the losses.

    .. math:: \nabla \Big(\prod_t \ell_t\Big)^{1/T} = \sum_t w_t \nabla \ell_t, \qquad
        w_t = \frac{1}{T \ell_t} \Big(\prod_s \ell_s\Big)^{1/T}

    over the present tasks, taken as exp(mean log ℓ), which does not overflow for many tasks.  A
    task's own parameters get their gradient times w_t.  A loss that is not positive has no place
    in the mean: its task is absent from the step.

    Args:
      num_tasks: T.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; `update` needs
      `losses` [T] and takes `task_mask` [T].

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for missing losses
        or gradients that are not stacked.

    Source: Chennupati et al., MultiNet++, CVPR Workshops 2019.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.gls(num_tasks=2)
      >>> grads = jnp.array([[1.0], [1.0]])
      >>> updates, state = tx.update(grads, tx.init(jnp.zeros(1)), losses=jnp.array([1.0, 4.0]))
      >>> print(optax.tree.get(state, "loss_weights"))
      [1.   0.25]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    return as_method(num_tasks, _part(num_tasks), labels, "gls")


def scale_by_gls(
    num_tasks: int, *, labels: _partition.Labels = None
) -> optax.GradientTransformationExtraArgs:
    """The weights of `gls` on stacked gradients, [T, *shape] → [T, *shape], for chains."""
    num_tasks = _contract.check_num_tasks(num_tasks)
    return as_transformation(num_tasks, _part(num_tasks), labels, "scale_by_gls")


def _part(num_tasks: int) -> Part:
    def weigh(
        losses: jax.Array, present: jax.Array, memory: tuple[()]
    ) -> tuple[jax.Array, tuple[()]]:
        count = jnp.maximum(jnp.sum(present), 1)
        mean = jnp.exp(jnp.sum(jnp.log(losses), where=present) / count)
        return mean / (count * losses), memory

    return balance_losses(num_tasks, weigh, above=0.0)
