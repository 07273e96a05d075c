"""DB-MTL, the paper's method: the logarithm of the losses, an average, one common magnitude."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._aggregation import weighted_sum_of_tasks
from dbmtl_jax._contract import ScalarOrSchedule
from dbmtl_jax._parts import Aggregator, method
from dbmtl_jax._stack import Stack
from dbmtl_jax._task_ema import ema
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
    parts = [ema(num_tasks, beta, debias, ema_dtype)]
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

    def weigh(stack: Stack, losses: Any, memory: Any) -> tuple[jax.Array, Any]:
        lengths = stack.norms + eps
        # With ε = 0 a zero gradient would be 0/0; its weight is of no consequence.
        return alpha(stack.norms, stack.present) / jnp.where(lengths > 0, lengths, 1), memory

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
