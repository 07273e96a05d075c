"""DB-MTL, the paper's method: log-losses, averaged gradients, and a common gradient norm."""

from dbmtl_jax.core._preference import Preference
from dbmtl_jax.core._task_ema import Average, averaging, inverse_power_schedule
from dbmtl_jax.core._transformation import TaskTransformation, fused
from dbmtl_jax.core._types import DTypeLike, Labels, Measured, Scalar, ScalarOrSchedule, TaskCount
from dbmtl_jax.gradient_balancing import balance_magnitudes
from dbmtl_jax.gradient_balancing._balance_magnitudes import Scale
from dbmtl_jax.loss_balancing import scale_by_log_loss

_BETA = inverse_power_schedule(0.9, 0.5)


def db_mtl(
    num_tasks: TaskCount,
    beta: ScalarOrSchedule = _BETA,
    *,
    scale: Scale | float = "max",
    eps: Scalar = 1e-8,
    log_losses: bool = True,
    debias: bool = False,
    ema_dtype: DTypeLike | None = None,
    average: Average = "gradients",
    preference: Preference = None,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Dual-Balancing Multi-Task Learning.

    .. math::
        g_{t,k} &= \nabla \log(\ell_t + \epsilon) \\
        \hat g_{t,k} &= \beta_k \hat g_{t,k-1} + (1 - \beta_k) g_{t,k}, \qquad \hat g_{t,0} = 0 \\
        \tilde g_k &= \alpha_k \sum_t \frac{\hat g_{t,k}}{\|\hat g_{t,k}\| + \epsilon},
        \qquad \alpha_k = \max_t \|\hat g_{t,k}\|

    with steps k counted from 1 and norms over all shared parameters together (Algorithm 1;
    Eqs. 1 and 2).  The update is g̃.  The method is the chain of `scale_by_log_loss`, `task_ema` and
    `balance_magnitudes`.  A task's own parameters get ∇log(ℓ_t + ε), neither averaged nor rescaled.

    Args:
      num_tasks: T, or the names of the tasks.
      beta: β_k, a number in [0, 1) or a schedule of k; by default 0.9/√k, one of those that the
        paper searches.  With the number 0 there is no average and no [T, *shape] state.
      scale: α_k: "max" (as in the formula), "min", "mean" or "median" of the norms, or a constant.
      eps: ε, in the logarithm and in the normalisation.
      log_losses: whether to take the logarithm; False if your loss function already does.
      debias: divide the average by 1 - Π β_k, which the paper does not.
      ema_dtype: dtype of the average; None: the parameter's, float32 at least.
      average: "gradients" for ĝ as in the formula, or "norms": then ‖ĝ_t‖ is a debiased average of
        norms, there is no [T, *shape] state, and the sum is of the gradients g_t of the step.
      preference: a user's priorities, [T] positive numbers or by name; see `balance_magnitudes`.
        The tasks' own parameters do not depend on it.
      labels, measured: see `dbmtl_jax.core`.  With `measured`, norms are averaged.

    With gradients of a representation (`wrt="representation"`) and within `refresh_weights` norms
    are averaged, and average="norms" only saves the memory for ĝ.  `update` needs the raw `losses`
    [T] unless `log_losses=False`.  An absent task (masked or unusable) keeps its average and is
    left out of the sum and of α.

    Source: Lin et al., Dual-balancing for multi-task learning, arXiv:2308.12029.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = optax.chain(dbmtl.db_mtl(num_tasks=2, beta=0.0), optax.sgd(1.0))
      >>> params = jnp.zeros(2)
      >>> grads = jnp.array([[3.0, 0.0], [0.0, 500.0]])  # of losses 1 and 100
      >>> updates, _ = tx.update(grads, tx.init(params), params, losses=jnp.array([1.0, 100.0]))
      >>> print(updates)
      [-5. -5.]
    """
    log = (scale_by_log_loss(num_tasks, eps=eps),) if log_losses else ()
    if measured is not None:
        average = "norms"
    ema = averaging(num_tasks, beta, debias=debias, ema_dtype=ema_dtype, average=average)
    balance = balance_magnitudes(num_tasks, scale=scale, eps=eps, preference=preference)
    return fused(*log, ema, balance, labels=labels, measured=measured, name="db_mtl")
