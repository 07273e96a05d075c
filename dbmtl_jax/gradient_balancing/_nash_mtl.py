"""Nash-MTL: the update is the tasks' Nash bargaining solution."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

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
    Count,
    Float,
    Int,
    Labels,
    Mask,
    Measured,
    PerTask,
    PyTree,
    Scalar,
    TaskCount,
)


class NashMTLState(NamedTuple):
    """What Nash-MTL keeps between steps."""

    step: Int[Array, ""]
    alpha: PerTask  # the last solution
    solved: Mask  # the tasks that it was solved for


def nash_mtl(
    num_tasks: TaskCount,
    *,
    update_every: Count = 1,
    max_norm: Scalar | None = 1.0,
    preference: Preference = None,
    scale_own: bool = True,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Nash bargaining over the update direction.

    .. math:: M \alpha = 1 / \alpha, \quad \alpha > 0, \qquad \text{update } \sum_t \alpha_t g_t

    with the Gramian M.  The update d maximises :math:`\sum_t \log \langle g_t, d \rangle` among the
    directions of its norm, which is :math:`\sqrt T`.  Then the update of the shared parameters is
    clipped to the norm `max_norm`.  The equation holds at the minimum of
    :math:`\tfrac12 \alpha^\top M \alpha - \sum_t \log \alpha_t`, which damped Newton steps find for
    gradients of any scale.  At a Pareto-stationary point there is no solution: α stays finite and
    the update is about zero before clipping.  A task whose gradient is zero is left out.

    Args:
      num_tasks: T, or the names of the tasks.
      update_every: the number of steps for which a solution α is used.  Another one is found
        earlier if other tasks are present.
      max_norm: the largest norm of the update of the shared parameters; None (also 0 or infinity):
        no clipping.
      preference: a user's priorities u, [T] positive numbers of which only the ratios count, or by
        name: :math:`M \alpha = u / \alpha`, with u scaled to the sum T.
      scale_own: whether the gradients of a task's own parameters are multiplied by α_t (before
        clipping), as in Section 2.2 of the DB-MTL paper, or left as they are.
      labels, measured: see `dbmtl_jax.core`.

    An absent task keeps its α.  `optax.tree.get(state, "alpha")` is α before clipping, and
    `optax.tree.get(state, "weights")` after it.

    Source: Navon et al., Multi-task learning as a bargaining game, ICML 2022.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.nash_mtl(num_tasks=2, max_norm=None)
      >>> update, state = tx.update(jnp.array([[2.0, 0.0], [0.0, 4.0]]), tx.init(jnp.zeros(2)))
      >>> with jnp.printoptions(precision=3):
      ...     print(update, optax.tree.get(state, "alpha"))
      [1. 1.] [0.5  0.25]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_count("update_every", update_every)
    if max_norm is not None:
        _checks.check_range("max_norm", max_norm, 0.0, or_inf=True)
    wanted = priorities(preference, num_tasks)

    def init(shared: PyTree) -> NashMTLState:
        alpha = task_vector(num_tasks, 1, shared)
        return NashMTLState(jnp.zeros((), jnp.int32), alpha, jnp.zeros((num_tasks,), bool))

    def weigh(tasks: Tasks, memory: NashMTLState) -> tuple[PerTask, NashMTLState]:
        gramian = tasks.gramian

        def solve(alpha: PerTask) -> PerTask:
            found = nash_mtl_weights(gramian, preference=wanted)
            solved = jnp.where(gramian.norms > 0, found, alpha)
            return solved.astype(alpha.dtype)

        if isinstance(update_every, int) and update_every == 1:  # it may be traced
            alpha = solve(memory.alpha)
        else:
            is_due = memory.step % update_every == 0
            # α of another set of tasks is no solution for these.
            is_due |= jnp.any(tasks.present != memory.solved)
            alpha = jax.lax.cond(is_due, solve, lambda alpha: alpha, memory.alpha)
        step = optax.safe_increment(memory.step)
        return clipped(alpha, gramian, max_norm), NashMTLState(step, alpha, tasks.present)

    return gradient_balancer(
        num_tasks,
        weigh,
        init=init,
        reads="gramian",
        own_weights=(lambda weights, memory: memory.alpha) if scale_own else None,
        labels=labels,
        measured=measured,
        name="nash_mtl",
    )


def clipped(weights: PerTask, gramian: Gramian, max_norm: Scalar | None) -> PerTask:
    """The weights of an update that is no longer than `max_norm`; None or 0 for any length."""
    if max_norm is None:
        return weights
    beta = weights * gramian.norms
    norm = jnp.sqrt(jnp.maximum(beta @ gramian.cosines @ beta, 0))
    largest = jnp.where(jnp.asarray(max_norm) > 0, max_norm, jnp.inf)
    return weights * jnp.minimum(1, largest / jnp.where(norm > 0, norm, 1))


@exact_products
def nash_mtl_weights(
    gramian: Gramian | Float[Array, "T T"], *, preference: Preference = None
) -> PerTask:
    """The weights α of `nash_mtl` before clipping, for gradients with a given Gramian.

    Args:
      gramian: the inner products of the gradients, [T, T].
      preference: see `nash_mtl`.

    Returns:
      α [T], positive; 1 for a task whose gradient is zero.

    Raises:
      ValueError: for a matrix that is not square.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> with jnp.printoptions(precision=3):
      ...     print(dbmtl.nash_mtl_weights(jnp.diag(jnp.array([4.0, 16.0]))))
      [0.5  0.25]
    """
    gramian = as_gramian(gramian)
    wanted = priorities(preference, len(gramian.norms))
    norms, cosines, _ = gramian
    bargains = norms > 0
    factors = relative(wanted, gramian.present).astype(norms.dtype)
    beta = fair_allocation(norms, cosines, factors, 1.0, bargains)
    return beta / jnp.where(bargains, norms, 1)
