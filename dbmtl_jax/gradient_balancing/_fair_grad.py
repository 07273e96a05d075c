"""FairGrad: an α-fair allocation of the update among the tasks."""

import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._fair_allocation import fair_allocation
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._gramian import Gramian, as_gramian
from dbmtl_jax.core._precision import exact_products
from dbmtl_jax.core._preference import Preference, priorities, relative
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import (
    Array,
    Float,
    Labels,
    Measured,
    PerTask,
    PyTree,
    Scalar,
    TaskCount,
)
from dbmtl_jax.gradient_balancing._nash_mtl import clipped


def fair_grad(
    num_tasks: TaskCount,
    *,
    alpha: Scalar = 1.0,
    max_norm: Scalar | None = None,
    preference: Preference = None,
    scale_own: bool = True,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Fair resource allocation among the tasks.

    .. math:: (M w)_t = (u_t / w_t)^{1/a}, \quad w > 0, \qquad \text{update } \sum_t w_t g_t

    with the Gramian M and u = 1.  The update d maximises
    :math:`\sum_t \langle g_t, d \rangle^{1-a} / (1-a)`, a utility whose fairness is a: 1 is
    proportional fairness, Nash-MTL without clipping; 2 is the least delay; a → ∞ is max-min.  For
    a > 1 small gradients make large updates: multiplied by c, they multiply the update by
    :math:`c^{(1-a)/(1+a)}`, which `max_norm` bounds.  At a Pareto-stationary point there is no
    solution: w stays finite.  A task whose gradient is zero is left out.

    Args:
      num_tasks: T, or the names of the tasks.
      alpha: the fairness a > 0.
      max_norm: the largest norm of the update of the shared parameters; None (also 0 or infinity):
        no clipping.
      preference: a user's priorities u, [T] positive numbers of which only the ratios count, or by
        name.
      scale_own: whether the gradients of a task's own parameters are multiplied by w_t (before
        clipping), or left as they are.
      labels, measured: see `dbmtl_jax.core`.

    Source: Ban and Ji, Fair resource allocation in multi-task learning, ICML 2024, Eq. 4 and
    Algorithm 1.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.fair_grad(num_tasks=2, alpha=2.0)
      >>> _, state = tx.update(jnp.array([[2.0, 0.0], [0.0, 16.0]]), tx.init(jnp.zeros(2)))
      >>> with jnp.printoptions(precision=3):
      ...     print(optax.tree.get(state, "weights"))
      [0.397 0.025]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_range("alpha", alpha, 0.0, open_low=True)
    if max_norm is not None:
        _checks.check_range("max_norm", max_norm, 0.0, or_inf=True)
    wanted = priorities(preference, num_tasks)

    def init(shared: PyTree) -> PerTask:
        return task_vector(num_tasks, 1, shared)

    def weigh(tasks: Tasks, memory: PerTask) -> tuple[PerTask, PerTask]:
        gramian = tasks.gramian
        weights = fair_grad_weights(gramian, alpha=alpha, preference=wanted)
        return clipped(weights, gramian, max_norm), weights

    return gradient_balancer(
        num_tasks,
        weigh,
        init=init,
        reads="gramian",
        own_weights=(lambda weights, memory: memory) if scale_own else None,
        labels=labels,
        measured=measured,
        name="fair_grad",
    )


@exact_products
def fair_grad_weights(
    gramian: Gramian | Float[Array, "T T"],
    *,
    alpha: Scalar = 1.0,
    preference: Preference = None,
) -> PerTask:
    """The weights of `fair_grad` before clipping, for gradients with a given Gramian.

    Args:
      gramian: the inner products of the gradients, [T, T].
      alpha, preference: see `fair_grad`.

    Returns:
      w [T], positive; 1 for a task whose gradient is zero.

    Raises:
      ValueError: for a matrix that is not square, or an option out of range.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> with jnp.printoptions(precision=3):
      ...     print(dbmtl.fair_grad_weights(jnp.diag(jnp.array([4.0, 16.0]))))
      [0.5  0.25]
    """
    _checks.check_range("alpha", alpha, 0.0, open_low=True)
    gramian = as_gramian(gramian)
    wanted = priorities(preference, len(gramian.norms))
    norms, cosines, _ = gramian
    takes_part = norms > 0
    factors = relative(wanted, gramian.present).astype(norms.dtype)
    beta = fair_allocation(norms, cosines, factors, alpha, takes_part)
    return beta / jnp.where(takes_part, norms, 1)
