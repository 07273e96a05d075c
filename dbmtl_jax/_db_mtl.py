"""DB-MTL, the paper's method: the logarithm of the losses, an average, one common magnitude."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._aggregation import weighted_sum_of_tasks
from dbmtl_jax._contract import ScalarOrSchedule
from dbmtl_jax._parts import Aggregator, Part, Stack, method, transformation
from dbmtl_jax._task_linalg import accumulation_dtype, per_task, squared_norms
from dbmtl_jax.loss_balancing.log_loss import log_loss

Scale = Literal["max", "min", "mean", "median"]


def db_mtl(
    num_tasks: int,
    beta: ScalarOrSchedule = 0.9,
    *,
    scale: Scale | float = "max",
    eps: float = 1e-8,
    log_losses: bool = True,
    debias: bool = False,
    ema_dtype: Any = None,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Dual-Balancing Multi-Task Learning.

    .. math::
        g_{t,k} &= \nabla \log(\ell_t + \epsilon) \\
        \hat g_{t,k} &= \beta_k \hat g_{t,k-1} + (1 - \beta_k) g_{t,k}, \qquad \hat g_{t,0} = 0 \\
        \tilde g_k &= \alpha_k \sum_t \frac{\hat g_{t,k}}{\|\hat g_{t,k}\| + \epsilon},
        \qquad \alpha_k = \max_t \|\hat g_{t,k}\|

    with steps k counted from 1 and norms over all shared parameters together (Algorithm 1;
    Eqs. 1 and 2).  It is the chain `scale_by_log_loss`, `task_ema`, `balance_magnitudes`.  A
    task's own parameters get ∇log(ℓ_t + ε), neither averaged nor rescaled.

    Args:
      num_tasks: T.
      beta: β_k, a number in [0, 1) or a schedule of k, e.g. `inverse_power_schedule(0.9, 0.5)`.
        With the number 0 there is no average and no [T, …] state.
      scale: α_k: "max" (the paper's), "min", "mean" or "median" of the norms, or a constant.
      eps: ε, in the logarithm and in the normalisation.
      log_losses: False where the loss function already takes the logarithm.
      debias: divide the average by 1 - Π β_k, which the paper does not.
      ema_dtype: dtype of the average; None: the parameter's, float32 at least.
      labels: "shared" or a task index for each parameter: a prefix tree of params or a callable
        of params; None: all are shared.

    Returns:
      A transformation of stacked gradients [T, *shape] (of the *raw* losses) into updates
      [*shape].  `update` needs `losses` [T] unless `log_losses=False`, and takes `task_mask`
      [T] bool.  A masked task, or one whose loss or gradient is not usable, keeps its average
      and is left out of the sum and of α.  Fields of the state, for `optax.tree.get`:
      `loss_weights`, `ema`, `norms`, `weights`, `skipped`.

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for missing losses
        or gradients that are not stacked.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = optax.chain(dbmtl.db_mtl(num_tasks=2, beta=0.0), optax.sgd(1.0))
      >>> params = jnp.zeros(2)
      >>> grads = jnp.array([[3.0, 0.0], [0.0, 500.0]])  # of losses 1 and 100
      >>> updates, _ = tx.update(grads, tx.init(params), params, losses=jnp.array([1.0, 100.0]))
      >>> print(updates)
      [-5. -5.]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    parts = [_ema(num_tasks, beta, debias, ema_dtype)]
    if log_losses:
        _contract.check_range("eps", eps, 0.0)
        parts.insert(0, log_loss(num_tasks, eps))
    return method(
        num_tasks,
        parts,
        _balance(num_tasks, scale, eps),
        labels,
        losses_required_by="db_mtl" if log_losses else None,
    )


class TaskEmaState(NamedTuple):
    """The moving average of every task's gradient."""

    count: jax.Array  # type: ignore[assignment]  # k, int32; optax's name for it
    ema: Any  # ĝ, the tree of params with shared leaves [T, *shape]; None where β is 0
    decay_product: jax.Array | None  # Π β_k over a task's steps, [T]; None without debias


def task_ema(
    num_tasks: int,
    beta: ScalarOrSchedule = 0.9,
    *,
    debias: bool = False,
    ema_dtype: Any = None,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Exponential moving average of each task's gradient over the steps it takes part in.

    .. math:: \hat g_{t,k} = \beta_k \hat g_{t,k-1} + (1 - \beta_k) g_{t,k}, \qquad \hat g_{t,0} = 0

    (Eq. 1).  Unlike `optax.ema` it is not debiased by default.  The average of an absent task
    (masked, or with a loss or a gradient that is not finite) stays exactly what it was.  A
    task's own parameters pass through.

    Args:
      num_tasks: T.
      beta: β_k, a number in [0, 1) or a schedule, called with k = 1 at the first step.  With the
        number 0 there is no average and no [T, …] state.
      debias: divide by 1 - Π β_k, over the steps the task took part in.
      ema_dtype: dtype of the average; None: the parameter's, float32 at least.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into stacked gradients.

    Raises:
      TypeError, ValueError: for a bad option, and in `update` for gradients that are not stacked.

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
    num_tasks = _contract.check_num_tasks(num_tasks)
    return transformation(num_tasks, _ema(num_tasks, beta, debias, ema_dtype), labels)


def _ema(num_tasks: int, beta: ScalarOrSchedule, debias: bool, ema_dtype: Any) -> Part:
    """`task_ema` as a part."""
    if not callable(beta):
        _contract.check_range("beta", beta, 0.0, 1.0, open_high=True)
    keeps_average = isinstance(beta, jax.Array) or callable(beta) or beta != 0

    def init(shared: Any) -> TaskEmaState:
        def zeros(param: jax.Array) -> jax.Array:
            dtype = accumulation_dtype(param) if ema_dtype is None else ema_dtype
            return jnp.zeros((num_tasks, *param.shape), dtype)

        dtype = accumulation_dtype(*jax.tree.leaves(shared))
        return TaskEmaState(
            count=jnp.zeros((), jnp.int32),
            ema=jax.tree.map(zeros, shared) if keeps_average else None,
            decay_product=jnp.ones((num_tasks,), dtype) if debias else None,
        )

    def update(stack: Stack, state: TaskEmaState, losses: Any) -> tuple[Stack, TaskEmaState]:
        del losses
        count = optax.safe_increment(state.count)
        if not keeps_average:
            return stack, state._replace(count=count)
        _check_shapes(stack.tree, state.ema)
        beta_k = beta(count) if callable(beta) else beta

        def average(leaf: jax.Array, ema: jax.Array) -> jax.Array:
            weights, present = per_task(stack.weights, ema), per_task(stack.present, ema)
            gradient = weights * leaf.astype(accumulation_dtype(leaf, ema))
            # g + β(ĝ - g), in this form, is bit for bit the reference implementation's average.
            moved = (gradient + beta_k * (ema - gradient)).astype(ema.dtype)
            return jnp.where(present, moved, ema)

        ema = jax.tree.map(average, stack.tree, state.ema)
        weights, product = jnp.ones_like(stack.weights), state.decay_product
        if product is not None:
            decayed = (product * beta_k).astype(product.dtype)
            product = jnp.where(stack.present, decayed, product)
            weights /= jnp.where(product < 1, 1 - product, 1)
        squares = squared_norms(jax.tree.leaves(ema), num_tasks)
        stack = stack._replace(tree=ema, squares=squares, weights=weights)
        return stack, TaskEmaState(count, ema, product)

    return Part(init, update)


def _check_shapes(gradients: Any, ema: Any) -> None:
    """The average knows the shapes: an unstacked gradient would broadcast into it."""
    _contract.check_same_tree("updates", gradients, "the state's average", ema)
    for (path, gradient), average in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(ema), strict=True
    ):
        if gradient.shape != average.shape:
            raise ValueError(
                f"updates{jax.tree_util.keystr(path)}: expected shape {average.shape} (that of the "
                f"state's average), found {gradient.shape}"
            )


def balance_magnitudes(
    num_tasks: int,
    *,
    scale: Scale | float = "max",
    eps: float = 1e-8,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Sums the tasks' gradients after giving them all the same norm.

    .. math:: \alpha \sum_t \frac{g_t}{\|g_t\| + \epsilon}, \qquad \alpha = \max_t \|g_t\|

    (Eq. 2; Algorithm 1, step 9).  The norm is over all shared parameters together; an absent
    task takes no part in the sum nor in α.  A task's own parameters keep their gradient.

    Args:
      num_tasks: T.
      scale: α: "max", "min", "mean" or "median" of the norms (the paper's Fig. 6), or a constant.
      eps: ε, added to each norm.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape].

    Raises:
      TypeError, ValueError: for a bad option, and in `update` for gradients that are not stacked.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.balance_magnitudes(num_tasks=2)
      >>> updates, state = tx.update(jnp.array([[3.0, 0.0], [0.0, 6.0]]), tx.init(jnp.zeros(2)))
      >>> print(updates, state.aggregator.weights)
      [6. 6.] [2. 1.]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    return method(num_tasks, (), _balance(num_tasks, scale, eps), labels)


def _balance(num_tasks: int, scale: Scale | float, eps: float) -> Aggregator:
    """`balance_magnitudes` as an aggregator."""
    alpha = _magnitude(scale)
    _contract.check_range("eps", eps, 0.0)

    def weigh(norms: jax.Array, present: jax.Array) -> jax.Array:
        # With ε = 0 a zero gradient would be 0/0; its weight is of no consequence.
        return alpha(norms, present) / jnp.where(norms + eps > 0, norms + eps, 1)

    return weighted_sum_of_tasks(num_tasks, weigh)


def _magnitude(scale: Any) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """α as a function of norms [T] and present [T]; finite also where no task is present."""
    if not isinstance(scale, str):
        _contract.check_range("scale", scale, 0.0)
        return lambda norms, present: scale
    strategies = {"max": _max, "min": _min, "mean": _mean, "median": _median}
    if scale not in strategies:
        raise ValueError(f"scale: expected a number or one of {get_args(Scale)}, found {scale!r}")
    return strategies[scale]


def _max(norms: jax.Array, present: jax.Array) -> jax.Array:
    return jnp.max(norms, where=present, initial=0)


def _min(norms: jax.Array, present: jax.Array) -> jax.Array:
    return jnp.min(norms, where=present, initial=jnp.max(norms))


def _mean(norms: jax.Array, present: jax.Array) -> jax.Array:
    return jnp.sum(norms, where=present) / jnp.maximum(jnp.sum(present), 1)


def _median(norms: jax.Array, present: jax.Array) -> jax.Array:
    # Absent tasks sort last; the middle is that of the tasks present.
    ordered = jnp.sort(jnp.where(present, norms, jnp.inf))
    count = jnp.sum(present)
    middle = (ordered[jnp.maximum(count - 1, 0) // 2] + ordered[count // 2]) / 2
    return jnp.where(count > 0, middle, 0)


def inverse_power_schedule(beta: float, sigma: float) -> Callable[[jax.Array], jax.Array]:
    r"""The forgetting rate :math:`\beta_k = \beta / k^\sigma`, steps k counted from 1.

    The paper searches β over {0.1, 0.5, 0.9} with σ = 0 and σ = 0.5 (Section 4.1; its k starts
    at 0, which would divide by zero).

    Args:
      beta: β in [0, 1).
      sigma: σ >= 0.

    Returns:
      A schedule: k, an int array [], to β_k.

    Raises:
      TypeError, ValueError: for β or σ out of range.

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> schedule = dbmtl.inverse_power_schedule(0.9, sigma=0.5)
      >>> print(schedule(1), schedule(4))
      0.9 0.45
    """
    _contract.check_range("beta", beta, 0.0, 1.0, open_high=True)
    _contract.check_range("sigma", sigma, 0.0)

    def schedule(count: jax.Array) -> jax.Array:
        return beta / jnp.asarray(count, dtype=float) ** sigma

    return schedule
