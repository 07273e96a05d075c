"""PCGrad: conflicting gradients projected out of each other."""

import jax
import jax.numpy as jnp

from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._gramian import Gramian, as_gramian
from dbmtl_jax.core._precision import exact_products
from dbmtl_jax.core._random import RandomState
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Array, Float, Int, Labels, Measured, PerTask, Seed, TaskCount
from dbmtl_jax.gradient_balancing._pairwise import combine, random_orders


def pcgrad(
    num_tasks: TaskCount, *, seed: Seed = 0, labels: Labels = None, measured: Measured = None
) -> TaskTransformation:
    r"""Projecting Conflicting Gradients.

    For each task i, :math:`v_i = g_i` meets the other tasks j in a random order.  Where
    :math:`\langle v_i, g_j \rangle < 0`, its component along :math:`g_j` is removed,

    .. math:: v_i \leftarrow v_i - \frac{\langle v_i, g_j \rangle}{\|g_j\|^2} g_j,
        \qquad \text{update } \sum_i v_i .

    The projections are carried out on [T, T] coefficients, not on the gradients.

    Args:
      num_tasks: T, or the names of the tasks.
      seed: the seed of the random orders, an int or a key; the key is part of the state.
      labels, measured: see `dbmtl_jax.core`.

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

    def weigh(tasks: Tasks, memory: RandomState) -> tuple[PerTask, RandomState]:
        memory, key = memory.draw()
        return pcgrad_weights(tasks.gramian, key), memory

    return gradient_balancer(
        num_tasks,
        weigh,
        init=lambda shared: RandomState.from_seed(seed),
        reads="gramian",
        labels=labels,
        measured=measured,
        name="pcgrad",
    )


@exact_products
def pcgrad_weights(gramian: Gramian | Float[Array, "T T"], key: Array) -> PerTask:
    """The weights of `pcgrad` for gradients with a given Gramian.

    Args:
      gramian: the inner products of the gradients, [T, T].
      key: the key of the random orders.

    Returns:
      The weights [T] of the update Σ_t w_t g_t.

    Raises:
      ValueError: for a matrix that is not square.

    Example:
      >>> import jax, jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> gramian = jnp.array([[18.0, -22.0], [-22.0, 38.0]])
      >>> with jnp.printoptions(precision=2):
      ...     print(dbmtl.pcgrad_weights(gramian, jax.random.key(0)))
      [2.22 1.58]
    """
    gramian = as_gramian(gramian)
    orders = random_orders(key, len(gramian.norms))
    return combine(gramian.norms, project_conflicts(gramian.cosines, orders))


def project_conflicts(
    cosines: Float[Array, "T T"], orders: Int[Array, "T T"]
) -> Float[Array, "T T"]:
    """The projected unit gradients as combinations of all of them.

    Args:
      cosines: [T, T]; rows of zeros for absent tasks.
      orders: row i is the order in which task i meets the others (and itself, which it skips).

    Returns:
      Coefficients [T, T]: v_i = ‖g_i‖ Σ_j b_ij g_j / ‖g_j‖.
    """

    def one(i: Array, order: Array) -> Array:
        def meet(k: Array, b: Array) -> Array:
            j = order[k]
            product = cosines[j] @ b
            return b.at[j].add(jnp.where((product < 0) & (j != i), -product, 0))

        start = jax.nn.one_hot(i, len(cosines), dtype=cosines.dtype)
        return jax.lax.fori_loop(0, len(cosines), meet, start)

    return jax.vmap(one)(jnp.arange(len(cosines)), orders)
