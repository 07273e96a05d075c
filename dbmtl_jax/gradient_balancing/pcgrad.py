"""PCGrad: conflicting gradients projected out of each other."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._aggregation import weighted_sum_of_tasks
from dbmtl_jax._parts import method
from dbmtl_jax._random import RandomState
from dbmtl_jax._stack import Stack
from dbmtl_jax.gradient_balancing._pairwise import combine, random_orders


def pcgrad(
    num_tasks: int, *, seed: int = 0, labels: _partition.Labels = None
) -> optax.GradientTransformationExtraArgs:
    r"""Projecting Conflicting Gradients.

    For each task i, :math:`v_i = g_i` meets the other tasks j in a random order and, where
    :math:`\langle v_i, g_j \rangle < 0`, loses its component along them,

    .. math:: v_i \leftarrow v_i - \frac{\langle v_i, g_j \rangle}{\|g_j\|^2} g_j,
        \qquad \text{update } \sum_i v_i .

    The projections are carried out on [T, T] coefficients, not on the gradients.

    Args:
      num_tasks: T.
      seed: of the orders; the key is part of the state.
      labels: "shared" or a task index for each parameter, see `db_mtl`.  A task's own parameters
        keep their gradient.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` takes
      `task_mask` [T].

    Raises:
      TypeError, ValueError: for a bad `num_tasks`, and in `update`, while tracing, for gradients
        that are not stacked.

    Source: Yu et al., Gradient surgery for multi-task learning, NeurIPS 2020.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.pcgrad(num_tasks=2)
      >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> update, state = tx.update(grads, tx.init(jnp.zeros(3)))
      >>> with jnp.printoptions(precision=4):
      ...     print(update, optax.tree.get(state, "weights"))
      [0.5848 3.8012 3.8012] [2.2222 1.5789]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)

    def weigh(stack: Stack, losses: Any, memory: RandomState) -> tuple[jax.Array, RandomState]:
        memory, orders = random_orders(memory, num_tasks)
        coefficients = project_conflicts(stack.cosines, orders)
        return combine(stack.norms, coefficients), memory

    aggregator = weighted_sum_of_tasks(
        num_tasks,
        weigh,
        initial=lambda dtype: RandomState.from_seed(seed),
        reads="products",
    )
    return method(num_tasks, (), aggregator, labels)


def project_conflicts(cosines: jax.Array, orders: jax.Array) -> jax.Array:
    """What becomes of every unit gradient, in terms of all of them.

    Args:
      cosines: [T, T]; rows of zeros for absent tasks.
      orders: row i is the order in which task i meets the others (and itself, which it skips).

    Returns:
      Coefficients [T, T]: v_i = ‖g_i‖ Σ_j b_ij g_j / ‖g_j‖.
    """

    def one(i: jax.Array, order: jax.Array) -> jax.Array:
        def meet(k: jax.Array, b: jax.Array) -> jax.Array:
            j = order[k]
            product = cosines[j] @ b
            return b.at[j].add(jnp.where((product < 0) & (j != i), -product, 0))

        start = jax.nn.one_hot(i, len(cosines), dtype=cosines.dtype)
        return jax.lax.fori_loop(0, len(cosines), meet, start)

    return jax.vmap(one)(jnp.arange(len(cosines)), orders)
