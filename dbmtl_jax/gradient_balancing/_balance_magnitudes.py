"""Equal magnitudes: the gradient balancing of DB-MTL."""

from collections.abc import Callable
from typing import Literal, get_args

import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._preference import Preference, priorities, relative
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import (
    Array,
    Float,
    Labels,
    Mask,
    Measured,
    Memory,
    PerTask,
    Scalar,
    TaskCount,
)

Scale = Literal["max", "min", "mean", "median"]


def balance_magnitudes(
    num_tasks: TaskCount,
    *,
    scale: Scale | float = "max",
    eps: Scalar = 1e-8,
    preference: Preference = None,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Sums the tasks' gradients after giving them all the same norm.

    .. math:: \alpha \sum_t \frac{g_t}{\|g_t\| + \epsilon}, \qquad \alpha = \max_t \|g_t\|

    (the paper's Eq. 2; Algorithm 1, step 9).  The norm is over all shared parameters together.  An
    absent task takes no part in the sum or in α.  The gradients of a task's own parameters stay as
    they are.

    Args:
      num_tasks: T, or the names of the tasks.
      scale: α: "max", "min", "mean" or "median" of the norms (the paper's Fig. 6), or a constant.
      eps: ε, added to each norm.
      preference: a user's priorities u, [T] positive numbers of which only the ratios count, or by
        name: task t's gradient gets the norm α u_t, with u scaled to the sum T.  Equal ones are the
        same as None.
      labels, measured: see `dbmtl_jax.core`.

    Source: DB-MTL, Eq. 2 and Section 4.4.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.balance_magnitudes(num_tasks=2)
      >>> updates, state = tx.update(jnp.array([[3.0, 0.0], [0.0, 6.0]]), tx.init(jnp.zeros(2)))
      >>> print(updates, state.weights)
      [6. 6.] [2. 1.]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    alpha = _magnitude(scale)
    wanted = priorities(preference, num_tasks)
    _checks.check_range("eps", eps, 0.0)

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        norms = tasks.norms
        # With ε = 0 a zero gradient would give 0/0; any finite weight will do for it.
        lengths = jnp.where(norms + eps > 0, norms + eps, 1)
        weights = alpha(norms, tasks.present) / lengths
        return weights * relative(wanted, tasks.present).astype(norms.dtype), memory

    return gradient_balancer(
        num_tasks, weigh, labels=labels, measured=measured, name="balance_magnitudes"
    )


def _magnitude(scale: Scale | Scalar) -> Callable[[PerTask, Mask], Scalar]:
    """α as a function of norms [T] and present [T]; finite also where no task is present.

    Raises:
      TypeError, ValueError: for another scale.
    """
    if not isinstance(scale, str):
        _checks.check_range("scale", scale, 0.0)
        return lambda norms, present: scale
    strategies = {"max": _max, "min": _min, "mean": _mean, "median": _median}
    if scale not in strategies:
        raise ValueError(f"scale: expected a number or one of {get_args(Scale)}, found {scale!r}")
    return strategies[scale]


def _max(norms: PerTask, present: Mask) -> Float[Array, ""]:
    return jnp.max(norms, where=present, initial=0)


def _min(norms: PerTask, present: Mask) -> Float[Array, ""]:
    return jnp.min(norms, where=present, initial=jnp.max(norms))


def _mean(norms: PerTask, present: Mask) -> Float[Array, ""]:
    return jnp.sum(norms, where=present) / jnp.maximum(jnp.sum(present), 1)


def _median(norms: PerTask, present: Mask) -> Float[Array, ""]:
    # Absent tasks sort last; the middle is that of the tasks present.
    ordered = jnp.sort(jnp.where(present, norms, jnp.inf))
    count = jnp.sum(present)
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return jnp.where(count > 0, middle, 0)
