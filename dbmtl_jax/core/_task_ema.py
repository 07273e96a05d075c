"""The moving average of every task's gradient (DB-MTL, Eq. 1)."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _checks
from dbmtl_jax.core._parts import Part
from dbmtl_jax.core._task_linalg import stacked_zeros, task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation, transformation
from dbmtl_jax.core._types import (
    Array,
    DTypeLike,
    Int,
    Labels,
    PerTask,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    TaskCount,
)

Average = Literal["gradients", "norms"]
"""What is averaged."""


class TaskEmaState(NamedTuple):
    """The moving average of every task's gradient."""

    count: Int[Array, ""]  # type: ignore[assignment]  # k; optax's name for it
    ema: PyTree | None  # ĝ, the tree of params with shared leaves [T, *shape]; None if β is 0
    decay_product: PerTask | None  # Π β_k over the steps of each task; None if β is 0
    norm_ema: PerTask | None  # the average of ‖g_t‖, where it takes the place of ĝ; None if β is 0


def task_ema(
    num_tasks: TaskCount,
    beta: ScalarOrSchedule = 0.9,
    *,
    debias: bool = False,
    ema_dtype: DTypeLike | None = None,
    labels: Labels = None,
) -> TaskTransformation:
    r"""Exponential moving average of each task's gradient over the steps it takes part in.

    .. math:: \hat g_{t,k} = \beta_k \hat g_{t,k-1} + (1 - \beta_k) g_{t,k}, \qquad \hat g_{t,0} = 0

    (Eq. 1 of the paper).  Unlike `optax.ema` it is not debiased by default.  The average of an
    absent task (masked, or with a loss or a gradient that is not finite) stays exactly what it
    was.  The gradients of a task's own parameters pass through unchanged.

    Gradients of a representation (`wrt="representation"`) belong to their batch and have no
    average.  In their place the norms ‖g_t‖ are averaged, debiased, which methods behind this one
    then read.

    Args:
      num_tasks: T, or the names of the tasks.
      beta: β_k, a number in [0, 1) or a schedule, called with k = 1 at the first step.  With the
        number 0 there is no average and no [T, *shape] state.
      debias: divide the average by 1 - Π β_k, the product taken over the steps in which the task
        took part.
      ema_dtype: dtype of the average; None: the parameter's, float32 at least.
      labels: see `dbmtl_jax.core`.

    Returns:
      A transformation of stacked gradients [T, *shape] into stacked gradients.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.task_ema(num_tasks=2, beta=0.75)
      >>> state = tx.init(jnp.zeros(1))
      >>> _, state = tx.update(jnp.array([[8.0], [4.0]]), state)
      >>> averages, state = tx.update(jnp.array([[8.0], [jnp.nan]]), state)
      >>> print(state.ema)
      [[3.5]
       [1. ]]
    """
    return averaging(num_tasks, beta, debias=debias, ema_dtype=ema_dtype, labels=labels)


def averaging(
    num_tasks: TaskCount,
    beta: ScalarOrSchedule,
    *,
    debias: bool = False,
    ema_dtype: DTypeLike | None = None,
    average: Average = "gradients",
    labels: Labels = None,
) -> TaskTransformation:
    """`task_ema`, of gradients or of their norms alone.

    Raises:
      TypeError, ValueError: for a bad option.
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    if not callable(beta):
        _checks.check_range("beta", beta, 0.0, 1.0, open_high=True)
    _checks.check_option("average", average, get_args(Average))
    keeps_average = isinstance(beta, jax.Array) or beta != 0  # which no schedule is
    of_gradients = average == "gradients"

    def init(shared: PyTree) -> TaskEmaState:
        ema = keeps_average and of_gradients
        return TaskEmaState(
            count=jnp.zeros((), jnp.int32),
            ema=stacked_zeros(num_tasks, shared, ema_dtype) if ema else None,
            decay_product=task_vector(num_tasks, 1, shared) if keeps_average else None,
            norm_ema=task_vector(num_tasks, 0, shared) if keeps_average else None,
        )

    def update(tasks: Tasks, state: TaskEmaState) -> tuple[Tasks, TaskEmaState]:
        count = optax.safe_increment(state.count)
        if not keeps_average:
            return tasks, state._replace(count=count)
        beta_k = _below_one(beta(count) if callable(beta) else beta)

        # g + β(ĝ - g), in this form, is bit for bit the reference implementation's average.
        def move(gradient: Array, ema: Array) -> Array:
            return gradient + beta_k * (ema - gradient)

        averages, norms = state.ema, state.norm_ema
        is_summed = of_gradients and tasks.summed is None and tasks.rows.of_parameters
        if is_summed:
            # An unstacked gradient would be broadcast into the average.
            _checks.check_same_shapes("updates", tasks.rows.shapes, "the state's average", averages)
            averages, tasks = tasks.averaged(averages, move)
        elif norms is not None:
            moved = move(tasks.norms, norms).astype(norms.dtype)
            norms = jnp.where(tasks.present, moved, norms)
            tasks = tasks.with_norms(norms)
        product = state.decay_product
        if product is not None:
            decayed = (product * beta_k).astype(product.dtype)
            product = jnp.where(tasks.present, decayed, product)
            # A short average that is summed makes small updates at first; one that is only read
            # must have the norm of the gradients that are summed in its place.
            if debias or not is_summed:
                factors = 1 / jnp.where(product < 1, 1 - product, 1)
                tasks = tasks._replace(scales=tasks.scales * factors)
        return tasks, TaskEmaState(count, averages, product, norms)

    part = Part(
        init,
        update,
        reads="sum" if of_gradients else "norms",
        averages=keeps_average and of_gradients,
    )
    return transformation(num_tasks, (part,), None, labels, "task_ema")


def _below_one(beta: Scalar) -> Scalar:
    """A β that is computed, by a schedule or under `optax.inject_hyperparams`, kept in [0, 1)."""
    if not isinstance(beta, jax.Array):
        return beta
    return jnp.clip(beta, 0, 1 - jnp.finfo(beta.dtype).epsneg)


def inverse_power_schedule(beta: float, sigma: float) -> Callable[[Array], Array]:
    r"""The forgetting rate :math:`\beta_k = \beta / k^\sigma`, steps k counted from 1.

    The paper searches β over {0.1, 0.5, 0.9} with σ = 0 and σ = 0.5 (Section 4.1; its k starts
    at 0, which would divide by zero).

    Args:
      beta: β in [0, 1).
      sigma: σ >= 0.

    Returns:
      A schedule: a function that maps k, an int array [], to β_k.  For k = 0 it gives β, so a
      counter that starts at 0, as that of `optax.inject_hyperparams`, sees β twice.

    Raises:
      TypeError, ValueError: for a β or σ that is no number or out of range.

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> schedule = dbmtl.inverse_power_schedule(0.9, sigma=0.5)
      >>> print(schedule(1), schedule(4))
      0.9 0.45
    """
    _checks.check_range("beta", beta, 0.0, 1.0, open_high=True)
    _checks.check_range("sigma", sigma, 0.0)

    def schedule(count: Array | int) -> Array:
        return beta / jnp.maximum(jnp.asarray(count, dtype=float), 1) ** sigma

    return schedule
