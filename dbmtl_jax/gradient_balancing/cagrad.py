"""CAGrad: the best direction for the worst task, near the mean gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._aggregation import weighted_sum_of_tasks
from dbmtl_jax._parts import method
from dbmtl_jax._stack import Stack
from dbmtl_jax.gradient_balancing._interior_point import minimize
from dbmtl_jax.gradient_balancing._simplex import mean_weights


def cagrad(
    num_tasks: int, *, c: float = 0.5, rescale: int = 1, labels: _partition.Labels = None
) -> optax.GradientTransformationExtraArgs:
    r"""Conflict-Averse Gradient descent.

    .. math::
        \max_d \min_t \langle g_t, d \rangle \quad \text{s.t. } \|d - g_0\| \le c \|g_0\|,
        \qquad g_0 = \tfrac{1}{T} \sum_t g_t

    solved through its dual: with :math:`g_w = \sum_t w_t g_t` and w on the simplex minimising
    :math:`\langle g_w, g_0 \rangle + c \|g_0\| \|g_w\|`, the update is
    :math:`d = g_0 + c \|g_0\| \, g_w / \|g_w\|`, divided by 1 + c² (or not, see `rescale`).  It is
    of the size of the mean gradient, not of the sum.  With c >= 1 it conflicts with no task.

    Args:
      num_tasks: T.
      c: how far d may be from the mean gradient; 0 is the mean gradient itself.
      rescale: what d is divided by: 0 nothing, 1 the paper's 1 + c², 2 1 + c.
      labels: "shared" or a task index for each parameter, see `db_mtl`.  A task's own parameters
        keep their gradient.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` takes
      `task_mask` [T].

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for gradients that
        are not stacked.

    Source: Liu et al., Conflict-averse gradient descent for multi-task learning, NeurIPS 2021.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.cagrad(num_tasks=2, c=0.5, rescale=0)
      >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> _, state = tx.update(grads, tx.init(jnp.zeros(3)))
      >>> with jnp.printoptions(precision=3):
      ...     print(optax.tree.get(state, "weights"))
      [0.704 0.5  ]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    _contract.check_range("c", c, 0.0)
    _contract.check_option("rescale", rescale, (0, 1, 2))
    divisor = (1.0, 1 + c**2, 1 + c)[rescale]

    def weigh(stack: Stack, losses: Any, memory: Any) -> tuple[jax.Array, Any]:
        return _weights(stack.gramian, stack.present, c) / divisor, memory

    aggregator = weighted_sum_of_tasks(num_tasks, weigh, reads="products")
    return method(num_tasks, (), aggregator, labels)


def _weights(gramian: jax.Array, present: jax.Array, c: Any) -> jax.Array:
    """The weights [T] of d = Σ_t w_t g_t.

    The square root in c ‖g_0‖ ‖g_w‖ has no slope where g_w = 0, which is the solution at
    Pareto-stationary points.  Hence c ‖g_w‖ = min_λ (‖g_w‖² / λ + c² λ) / 2 with λ as one variable
    more, and d = g_0 + ‖g_0‖ g_w / λ.
    """
    eps = jnp.finfo(gramian.dtype).eps
    # With c = 0 nothing would hold λ back; its solution is not used.
    radius = jnp.maximum(c, 1e-3)
    gramian /= jnp.maximum(jnp.trace(gramian), 1)
    mean = mean_weights(present).astype(gramian.dtype)
    products = gramian @ mean
    length = jnp.sqrt(jnp.maximum(mean @ products, 0))  # ‖g_0‖
    slopes = products / jnp.where(length > 0, length, 1)

    def derivatives(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        w, lam = x[:-1], x[-1]
        direction = gramian @ w / lam
        # The ε, about what a Gramian of trace 1 can resolve, keeps λ off zero.
        square = (w @ direction + eps / lam) / lam
        gradient = jnp.append(slopes + direction, (radius**2 - square) / 2)
        hessian = jnp.block(
            [
                [gramian / lam, -direction[:, None] / lam],
                [-direction[None, :] / lam, jnp.reshape(square / lam, (1, 1))],
            ]
        )
        return gradient, hessian

    costs = jnp.append(jnp.ones_like(mean), 0)
    x = minimize(derivatives, costs, jnp.append(present, True))
    w, lam = x[:-1], x[-1]
    return mean + c / radius * length * w / lam
