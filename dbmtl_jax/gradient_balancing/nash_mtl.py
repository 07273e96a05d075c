"""Nash-MTL: the tasks bargain for the update."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._aggregation import weighted_sum_of_tasks
from dbmtl_jax._parts import method
from dbmtl_jax._stack import Stack

_MAX_ITERATIONS = 60


class NashMemory(NamedTuple):
    """What Nash-MTL keeps between steps."""

    step: jax.Array  # int32
    alpha: jax.Array  # the last solution, [T]


def nash_mtl(
    num_tasks: int,
    *,
    update_every: int = 1,
    max_norm: float = 1.0,
    scale_own: bool = True,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Nash bargaining over the update direction.

    .. math:: M \alpha = 1 / \alpha, \quad \alpha > 0, \qquad \text{update } \sum_t \alpha_t g_t

    with the Gramian M; the solution maximises :math:`\sum_t \log \langle g_t, d \rangle` and
    :math:`\|\sum_t \alpha_t g_t\| = \sqrt T`.  Then the update of the shared parameters is clipped
    to the norm `max_norm`.  The equation is where :math:`\tfrac12 \alpha^\top M \alpha - \sum_t
    \log \alpha_t` is smallest, which damped Newton steps find for gradients of any scale.  At a
    Pareto-stationary point there is no solution: α stays finite and the update is about zero
    before clipping.  A task whose gradient is zero cannot bargain and is left out.

    Args:
      num_tasks: T.
      update_every: after how many steps α is solved for anew.
      max_norm: of the update of the shared parameters; 0 or infinity: not clipped.
      scale_own: whether a task's own parameters get their gradient times α_t (not clipped), as in
        the paper (Section 2.2), or as it is.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` takes
      `task_mask` [T].  An absent task keeps its α.  `optax.tree.get(state, "alpha")` is α,
      "weights" what it is after clipping.

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for gradients that
        are not stacked.

    Source: Navon et al., Multi-task learning as a bargaining game, ICML 2022.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.nash_mtl(num_tasks=2, max_norm=0)
      >>> update, state = tx.update(jnp.array([[2.0, 0.0], [0.0, 4.0]]), tx.init(jnp.zeros(2)))
      >>> with jnp.printoptions(precision=3):
      ...     print(update, optax.tree.get(state, "alpha"))
      [1. 1.] [0.5  0.25]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    _contract.check_range("update_every", update_every, 1)
    _contract.check_range("max_norm", max_norm, 0.0)

    def initial(dtype: Any) -> NashMemory:
        return NashMemory(jnp.zeros((), jnp.int32), jnp.ones((num_tasks,), dtype))

    def weigh(stack: Stack, losses: Any, memory: NashMemory) -> tuple[jax.Array, NashMemory]:
        norms, cosines = stack.norms, stack.cosines

        def solve(alpha: jax.Array) -> jax.Array:
            bargains = norms > 0
            beta = bargain(cosines, bargains)
            return jnp.where(bargains, beta / jnp.where(bargains, norms, 1), alpha).astype(
                alpha.dtype
            )

        is_due = memory.step % update_every == 0
        alpha = jax.lax.cond(is_due, solve, lambda alpha: alpha, memory.alpha)
        weights = alpha
        if max_norm > 0:
            beta = alpha * norms
            norm = jnp.sqrt(jnp.maximum(beta @ cosines @ beta, 0))
            weights = alpha * jnp.minimum(1, max_norm / jnp.where(norm > 0, norm, 1))
        return weights, NashMemory(optax.safe_increment(memory.step), alpha)

    aggregator = weighted_sum_of_tasks(
        num_tasks,
        weigh,
        initial=initial,
        reads="products",
        own=(lambda weights, memory: memory.alpha) if scale_own else None,
    )
    return method(num_tasks, (), aggregator, labels)


def bargain(cosines: jax.Array, bargains: jax.Array) -> jax.Array:
    """β > 0 with C β = 1/β, [T]; one for tasks that do not bargain.

    Newton's method for ½ βᵀCβ - Σ log β in log β, where the Hessian is nowhere below the identity;
    its steps are damped as for any self-concordant function (Boyd and Vandenberghe, Section 9.6).
    """
    size, dtype = len(cosines), cosines.dtype
    eps = jnp.finfo(dtype).eps
    both = bargains[:, None] & bargains[None, :]
    # The ridge bounds β where a positive combination of the gradients vanishes.
    matrix = jnp.where(both, cosines, 0) + 4 * size * eps * jnp.eye(size, dtype=dtype)

    def unfinished(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, decrement, count = carry
        return (decrement > 4 * eps) & (count < _MAX_ITERATIONS)

    def step(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Any, Any, Any]:
        beta, _, count = carry
        hessian = beta[:, None] * matrix * beta[None, :] + jnp.eye(size, dtype=dtype)
        gradient = jnp.where(bargains, beta * (matrix @ beta) - 1, 0)
        change = -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(hessian), gradient)
        decrement = jnp.sqrt(jnp.maximum(-change @ gradient, 0))
        length = jnp.where(decrement > 0.25, 1 / (1 + decrement), 1)
        moved = beta * (1 + length * change)
        finite = jnp.all(jnp.isfinite(moved)) & jnp.all(moved > 0)
        return (
            jnp.where(finite, moved, beta).astype(dtype),
            jnp.where(finite, decrement, 0).astype(dtype),
            count + 1,
        )

    # The solution for T orthogonal gradients.
    start = (jnp.ones((size,), dtype), jnp.full((), jnp.inf, dtype), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, step, start)[0]
