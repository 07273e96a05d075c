"""MoCo: averages of the gradients, with weights that move towards MGDA's step by step."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._parts import Part
from dbmtl_jax.core._simplex import mean_weights, project
from dbmtl_jax.core._task_ema import task_ema
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation, fused, transformation
from dbmtl_jax.core._types import (
    Array,
    Int,
    Labels,
    Memory,
    PerTask,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    TaskCount,
)

Projection = Literal["simplex", "softmax"]


class MoCoState(NamedTuple):
    """What MoCo keeps between steps besides its averages, which are in a `TaskEmaState`."""

    count: Int[Array, ""]  # type: ignore[assignment]  # k; optax's name for it
    lam: PerTask  # λ


def moco(
    num_tasks: TaskCount,
    *,
    beta: ScalarOrSchedule = 0.5,
    beta_power: Scalar = 0.5,
    gamma: ScalarOrSchedule = 0.1,
    gamma_power: Scalar = 0.5,
    rho: Scalar = 0.0,
    normalize: bool = False,
    projection: Projection = "simplex",
    labels: Labels = None,
) -> TaskTransformation:
    r"""Multi-objective gradient Correction.

    .. math::
        y_t &\leftarrow y_t - \beta_k (y_t - g_t), & \beta_k &= \beta / k^{\sigma_\beta} \\
        \lambda &\leftarrow \Pi\big(\lambda - \gamma_k (Y Y^\top + \rho I) \lambda\big),
        & \gamma_k &= \gamma / k^{\sigma_\gamma}

    with steps k counted from 1, y = 0 and λ = 1/T before the first step, and Π the projection onto
    the simplex.  The update is :math:`\sum_t \lambda_t y_t`.  An absent task keeps its average and
    takes no part in the update.  Its λ is shared out equally among the present tasks, and it
    returns with λ = 0.

    Args:
      num_tasks: T, or the names of the tasks.
      beta: β in [0, 1], the step size of the averages y; or a schedule, k -> β_k.
      beta_power: σ_β; not used with a schedule.
      gamma: γ, the step size of the weights λ; or a schedule, k -> γ_k.
      gamma_power: σ_γ; not used with a schedule.
      rho: ρ, the strength of the regularisation.
      normalize: whether to average :math:`\ell_t \, g_t / (\|g_t\| + 10^{-8})` in place of g_t.
      projection: Π: "simplex" for the projection, or "softmax" to use a softmax instead.
      labels: see `dbmtl_jax.core`.

    Source: Fernando et al., Mitigating gradient bias in multi-objective learning, ICLR 2023.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.moco(num_tasks=2, gamma=0.0)
      >>> update, state = tx.update(jnp.array([[4.0, 0.0], [0.0, 8.0]]), tx.init(jnp.zeros(2)))
      >>> print(update, optax.tree.get(state, "weights"))
      [1. 2.] [0.5 0.5]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    if not callable(beta):
        _checks.check_range("beta", beta, 0.0, 1.0)
    if not callable(gamma):
        _checks.check_range("gamma", gamma, 0.0)
    _checks.check_range("rho", rho, 0.0)
    _checks.check_range("beta_power", beta_power, 0.0)
    _checks.check_range("gamma_power", gamma_power, 0.0)
    _checks.check_option("projection", projection, get_args(Projection))

    def init(shared: PyTree) -> MoCoState:
        return MoCoState(jnp.zeros((), jnp.int32), task_vector(num_tasks, 1 / num_tasks, shared))

    def weigh(tasks: Tasks, memory: MoCoState) -> tuple[PerTask, MoCoState]:
        present = tasks.present
        count = optax.safe_increment(memory.count)
        # The λ of absent tasks is shared out equally among the others.
        lam = jnp.where(present, memory.lam, 0)
        missing = jnp.sum(memory.lam) - jnp.sum(lam)
        lam += missing * mean_weights(present)
        slopes = tasks.gramian.matrix @ lam + rho * lam
        lam -= _at(gamma, gamma_power, count.astype(lam.dtype)) * slopes
        if projection == "simplex":
            lam = project(lam, present)
        else:
            lam = jax.nn.softmax(lam, where=present | ~jnp.any(present))
        # If no task is present, the weights stay what they were.
        kept = jnp.where(jnp.any(present), jnp.where(present, lam, 0), memory.lam)
        return lam, MoCoState(count, kept)

    # y - β (y - g) is the moving average of `task_ema` with 1 - β for β.
    averages = task_ema(num_tasks, lambda count: 1 - _at(beta, beta_power, count))
    method = gradient_balancer(num_tasks, weigh, init=init, reads="gramian", of_parameters=True)
    parts = (_scale_by_loss_over_norm(num_tasks), averages) if normalize else (averages,)
    return fused(*parts, method, labels=labels, name="moco")


def _at(rate: ScalarOrSchedule, power: Scalar, count: Array) -> Array:
    """A rate at step k: number / k^power, or what the schedule says."""
    return rate(count) if callable(rate) else rate / jnp.asarray(count, float) ** power


def _scale_by_loss_over_norm(num_tasks: int) -> TaskTransformation:
    """Scales each row to the norm ℓ_t; the gradients of own parameters stay as they are."""

    def update(tasks: Tasks, state: Memory) -> tuple[Tasks, Memory]:
        return tasks.rescaled(tasks.losses / (tasks.norms + 1e-8)), state

    part = Part(lambda shared: (), update, reads="norms")
    return transformation(num_tasks, (part,), None, None, "moco")
