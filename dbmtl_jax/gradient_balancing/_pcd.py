"""PCD: the primary task's descent, in which the others take part as far as they do not conflict."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._interior_point import nonnegative_qp
from dbmtl_jax.core._names import NumTasks, as_numbers, in_order
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Array, Int, Labels, Measured, PerTask, PyTree, Scalar, TaskCount


class PCDState(NamedTuple):
    """What PCD keeps between steps."""

    counts: Int[Array, " T"]  # the steps in which each task took part
    squares: PerTask  # the average of ‖g_t‖², not debiased


def pcd(
    num_tasks: TaskCount,
    *,
    tau: Scalar | Sequence[float] | Mapping[str, float] = 0.02,
    decay: Scalar = 0.999,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Primary-task constrained descent: the nearest direction to task 0's that helps all others.

    .. math:: s_t = 1 / \sqrt{\hat v_t + \epsilon}, \qquad
        d = \arg\min_d \| d - s_0 g_0 \|^2
        \text{ with } \langle s_t g_t, d \rangle \ge \tau_t \| s_t g_t \|^2 \text{ for } t > 0,
        \qquad \text{update } d \, \| g_0 \| / \| d \|

    with the debiased moving averages v̂ of the squared norms and ε = 1e-8.  If no d fulfils the
    conditions, as far as the dtype can tell, the update is g_0, and if g_0 is zero, or task 0
    absent, it is zero.

    Args:
      num_tasks: T, or the names of the tasks.  Task 0, with names the first in sorted order, is
        the primary one.
      tau: τ >= 0, a number, or one for each of the T - 1 other tasks, in their order or by name.
      decay: the decay of the averages, in [0, 1).
      labels, measured: see `dbmtl_jax.core`.

    Source: Varam and AlHajri, TMLR 2026, arXiv:2606.29521.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.pcd(num_tasks=2)
      >>> update, _ = tx.update(jnp.array([[2.0, 0.0], [0.0, 9.0]]), tx.init(jnp.zeros(2)))
      >>> with jnp.printoptions(precision=2):
      ...     print(update)
      [2.   0.04]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_range("decay", decay, 0.0, 1.0, open_high=True)
    others = NumTasks(num_tasks - 1, num_tasks.names[1:] if num_tasks.names else None)
    given = in_order("tau", tau, others) if isinstance(tau, Mapping) else tau
    taus = as_numbers("tau", given, f"a number, or one for each of {num_tasks - 1} tasks")
    if taus.shape not in ((), (num_tasks - 1,)):
        raise ValueError(
            f"tau: expected a number, or one for each of {num_tasks - 1} tasks, found shape "
            f"{taus.shape}"
        )
    if isinstance(taus, np.ndarray) and not np.all(taus >= 0):
        raise ValueError(f"tau: expected numbers of at least 0, found {tau}")
    eps = 1e-8

    def init(shared: PyTree) -> PCDState:
        return PCDState(jnp.zeros((num_tasks,), jnp.int32), task_vector(num_tasks, 0, shared))

    def weigh(tasks: Tasks, memory: PCDState) -> tuple[PerTask, PCDState]:
        norms, cosines, present = tasks.gramian
        moved = decay * memory.squares + (1 - decay) * norms**2
        squares = jnp.where(present, moved, memory.squares)
        counts = jnp.where(present, optax.safe_increment(memory.counts), memory.counts)
        weight = 1 - jnp.asarray(decay, norms.dtype) ** jnp.maximum(counts, 1)
        scales = 1 / jnp.sqrt(squares / weight + eps)
        lengths = norms * scales
        lengths = lengths / jnp.maximum(jnp.max(lengths), jnp.finfo(lengths.dtype).tiny)
        usable = norms > 0
        others = usable & (jnp.arange(num_tasks) > 0)
        # x ‖s_j g_j‖ for x: the cosines in the place of the Gramian.
        first = cosines[0] * lengths[0]
        low = jnp.zeros_like(norms).at[1:].set(taus) * lengths
        x = nonnegative_qp(cosines, first - low, others)
        x = x.at[0].set(lengths[0])
        projections = cosines @ x
        # Of optimal x: it is positive only where a condition holds as an equation.
        square = x[0] * projections[0] + jnp.sum(jnp.where(others, x * low, 0))
        # Without a d, x grows until it is rounded by more than what the conditions ask for.
        rounding = 8 * num_tasks * jnp.finfo(x.dtype).eps * jnp.max(x)
        asked = jnp.max(jnp.where(others, low, 0))
        resolved = (asked == 0) | (rounding <= asked / 2)
        met = projections >= low - rounding
        good = resolved & jnp.all(met | ~others) & (square > rounding * x[0])
        x = jnp.where(good, x, jnp.zeros_like(x).at[0].set(lengths[0]))
        square = jnp.where(good, square, lengths[0] ** 2)
        scale = norms[0] / jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 1)
        weights = x * scale / jnp.where(usable, norms, 1)
        return jnp.where(usable[0], weights, 0), PCDState(counts, squares)

    return gradient_balancer(
        num_tasks,
        weigh,
        init=init,
        reads="gramian",
        labels=labels,
        measured=measured,
        name="pcd",
    )
