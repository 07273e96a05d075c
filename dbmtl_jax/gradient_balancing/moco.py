"""MoCo: MGDA's weights, tracked along with averages of the gradients."""

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._parts import Aggregator, method
from dbmtl_jax._stack import Stack
from dbmtl_jax._task_linalg import accumulation_dtype
from dbmtl_jax.gradient_balancing._simplex import mean_weights, project

Projection = Literal["simplex", "softmax"]


class MoCoState(NamedTuple):
    """What MoCo keeps between steps."""

    count: jax.Array  # type: ignore[assignment]  # k, int32; optax's name for it
    averages: Any  # y, the tree of params with shared leaves [T, *shape]
    weights: jax.Array  # λ, [T]


def moco(
    num_tasks: int,
    *,
    beta: float = 0.5,
    beta_power: float = 0.5,
    gamma: float = 0.1,
    gamma_power: float = 0.5,
    rho: float = 0.0,
    normalize: bool = False,
    projection: Projection = "simplex",
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Multi-objective gradient Correction.

    .. math::
        y_t &\leftarrow y_t - \beta_k (y_t - g_t), & \beta_k &= \beta / k^{\sigma_\beta} \\
        \lambda &\leftarrow \Pi\big(\lambda - \gamma_k (Y Y^\top + \rho I) \lambda\big),
        & \gamma_k &= \gamma / k^{\sigma_\gamma}

    with k from 1, y = 0 and λ = 1/T before the first step, and Π the projection onto the simplex.
    The update is :math:`\sum_t \lambda_t y_t`.

    Args:
      num_tasks: T.
      beta: β, how fast the averages y follow.
      beta_power: σ_β.
      gamma: γ, the step size of the weights λ.
      gamma_power: σ_γ.
      rho: ρ, the regularisation.
      normalize: average :math:`\ell_t \, g_t / (\|g_t\| + 10^{-8})` in the place of g_t.
      projection: Π: "simplex", or "softmax" in its place.
      labels: "shared" or a task index for each parameter, see `db_mtl`.  A task's own parameters
        keep their gradient.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` needs
      `losses` [T] with `normalize`, and takes `task_mask` [T].  An absent task keeps its average,
      has no part in the update, and what the others have of the simplex they divide anew.

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for missing losses
        or gradients that are not stacked.

    Source: Fernando et al., Mitigating gradient bias in multi-objective learning, ICLR 2023.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.moco(num_tasks=2, gamma=0.0)
      >>> update, state = tx.update(jnp.array([[4.0, 0.0], [0.0, 8.0]]), tx.init(jnp.zeros(2)))
      >>> print(update, optax.tree.get(state, "weights"))
      [1. 2.] [0.5 0.5]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    _contract.check_range("beta", beta, 0.0, 1.0)
    _contract.check_range("gamma", gamma, 0.0)
    _contract.check_range("rho", rho, 0.0)
    _contract.check_range("beta_power", beta_power, 0.0)
    _contract.check_range("gamma_power", gamma_power, 0.0)
    _contract.check_option("projection", projection, get_args(Projection))

    def init(shared: Any) -> MoCoState:
        def zeros(param: jax.Array) -> jax.Array:
            return jnp.zeros((num_tasks, *param.shape), accumulation_dtype(param))

        dtype = accumulation_dtype(*jax.tree.leaves(shared))
        return MoCoState(
            count=jnp.zeros((), jnp.int32),
            averages=jax.tree.map(zeros, shared),
            weights=jnp.full((num_tasks,), 1 / num_tasks, dtype),
        )

    def update(stack: Stack, state: MoCoState, losses: Any) -> tuple[Any, Stack, MoCoState]:
        count = optax.safe_increment(state.count)
        k = count.astype(state.weights.dtype)
        if normalize:
            # The tasks' own parameters keep their gradient.
            stack = stack._replace(weights=stack.weights * losses / (stack.norms + 1e-8))

        def move(gradient: jax.Array, y: jax.Array) -> jax.Array:
            return y - (beta / k**beta_power) * (y - gradient)

        averages, stack = stack.averaged(state.averages, move)
        present = stack.present
        products = stack.rows.products()
        products += rho * jnp.eye(num_tasks, dtype=products.dtype)
        # Absent tasks lend their part to the others for this step.
        lam = jnp.where(present, state.weights, 0)
        missing = jnp.sum(state.weights) - jnp.sum(lam)
        lam += missing * mean_weights(present)
        lam -= gamma / k**gamma_power * (products @ lam)
        if projection == "simplex":
            lam = project(lam, present)
        else:
            lam = jax.nn.softmax(lam, where=present | ~jnp.any(present))
        lam = jnp.where(present, lam, 0)
        merged = stack.sum(lam)
        # With nobody there the weights stay what they were.
        kept = jnp.where(jnp.any(present), lam, state.weights).astype(state.weights.dtype)
        return merged, stack, MoCoState(count, averages, kept)

    return method(
        num_tasks,
        (),
        # The averages see every row by themselves.
        Aggregator(init, update, reads="norms" if normalize else "sum"),
        labels,
        losses_required_by="moco" if normalize else None,
    )
