"""CAGrad: the best direction for the worst-off task, near the mean gradient."""

from typing import Literal, get_args

import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._gramian import Gramian, as_gramian
from dbmtl_jax.core._interior_point import minimize
from dbmtl_jax.core._precision import exact_products
from dbmtl_jax.core._preference import Preference, priorities, shares
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Array, Float, Labels, Measured, Memory, PerTask, Scalar, TaskCount

Rescale = Literal["none", "paper", "sum", 0, 1, 2]


def cagrad(
    num_tasks: TaskCount,
    *,
    c: Scalar = 0.5,
    rescale: Rescale = "paper",
    preference: Preference = None,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Conflict-Averse Gradient descent.

    .. math::
        \max_d \min_t \langle g_t, d \rangle \quad \text{s.t. } \|d - g_0\| \le c \|g_0\|,
        \qquad g_0 = \tfrac{1}{T} \sum_t g_t

    solved through its dual: with :math:`g_w = \sum_t w_t g_t` and w on the simplex minimising
    :math:`\langle g_w, g_0 \rangle + c \|g_0\| \|g_w\|`, the update is
    :math:`d = g_0 + c \|g_0\| \, g_w / \|g_w\|`, divided by 1 + c² (see `rescale`).  The update
    is about as long as the mean gradient, not the sum.  With c >= 1 it conflicts with no task.

    Args:
      num_tasks: T, or the names of the tasks.
      c: how far d may be from the mean gradient; with 0, d is the mean gradient.
      rescale: what d is divided by: 1 with "none", 1 + c² with "paper", 1 + c with "sum".  The
        numbers 0, 1 and 2 stand for these three, in this order.
      preference: a user's priorities u, [T] positive numbers of which only the ratios count, or by
        name: d is near to :math:`\sum_t u_t g_t` in the place of the mean, with u of sum 1.
      labels, measured: see `dbmtl_jax.core`.

    Source: Liu et al., Conflict-averse gradient descent for multi-task learning, NeurIPS 2021.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.cagrad(num_tasks=2, c=0.5, rescale="none")
      >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> _, state = tx.update(grads, tx.init(jnp.zeros(3)))
      >>> with jnp.printoptions(precision=3):
      ...     print(optax.tree.get(state, "weights"))
      [0.704 0.5  ]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _check_options(c, rescale)
    wanted = priorities(preference, num_tasks)

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        return cagrad_weights(tasks.gramian, c=c, rescale=rescale, preference=wanted), memory

    return gradient_balancer(
        num_tasks, weigh, reads="gramian", labels=labels, measured=measured, name="cagrad"
    )


@exact_products
def cagrad_weights(
    gramian: Gramian | Float[Array, "T T"],
    *,
    c: Scalar = 0.5,
    rescale: Rescale = "paper",
    preference: Preference = None,
) -> PerTask:
    """The weights of `cagrad` for gradients with a given Gramian.

    The norm ‖g_w‖ in the dual is not differentiable at g_w = 0, which is the solution at
    Pareto-stationary points.  So the solver minimises over one more variable λ, in which
    c ‖g_w‖ = min_λ (‖g_w‖² / λ + c² λ) / 2, and d = g_0 + ‖g_0‖ g_w / λ.

    Args:
      gramian: the inner products of the gradients, [T, T].
      c: see `cagrad`.
      rescale: see `cagrad`.
      preference: see `cagrad`.

    Returns:
      The weights [T] of d = Σ_t w_t g_t.

    Raises:
      ValueError: for a matrix that is not square, or an option out of range.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> print(dbmtl.cagrad_weights(jnp.eye(2), c=0.0))
      [0.5 0.5]
    """
    _check_options(c, rescale)
    gramian = as_gramian(gramian)
    wanted = priorities(preference, len(gramian.norms))
    divisor = {"none": 1, 0: 1, "paper": 1 + c**2, 1: 1 + c**2, "sum": 1 + c, 2: 1 + c}[rescale]
    present, matrix = gramian.present, gramian.normalized
    eps = jnp.finfo(matrix.dtype).eps
    # With c = 0 λ would be unbounded; its solution is not used then.
    radius = jnp.maximum(c, 1e-3)
    matrix /= jnp.maximum(jnp.trace(matrix), 1)
    mean = shares(wanted, present).astype(matrix.dtype)
    products = matrix @ mean
    length = jnp.sqrt(jnp.maximum(mean @ products, 0))  # ‖g_0‖
    slopes = products / jnp.where(length > 0, length, 1)

    def derivatives(x: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
        w, lam = x[:-1], x[-1]
        direction = matrix @ w / lam
        # The ε, about what a Gramian of trace 1 can resolve, keeps λ off zero.
        square = (w @ direction + eps / lam) / lam
        gradient = jnp.append(slopes + direction, (radius**2 - square) / 2)
        hessian = jnp.block(
            [
                [matrix / lam, -direction[:, None] / lam],
                [-direction[None, :] / lam, jnp.reshape(square / lam, (1, 1))],
            ]
        )
        return gradient, hessian

    costs = jnp.append(jnp.ones_like(mean), 0)
    x = minimize(derivatives, costs, jnp.append(present, True))
    w, lam = x[:-1], x[-1]
    return (mean + c / radius * length * w / lam) / divisor


def _check_options(c: Scalar, rescale: Rescale) -> None:
    """Checks the options of `cagrad`.

    Raises:
      TypeError, ValueError: for an option out of range.
    """
    _checks.check_range("c", c, 0.0)
    _checks.check_option("rescale", rescale, get_args(Rescale))
