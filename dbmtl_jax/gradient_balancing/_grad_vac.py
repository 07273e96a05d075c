"""GradVac: the cosine of each pair of gradients is raised to its moving average."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._gramian import Gramian, as_gramian
from dbmtl_jax.core._precision import exact_products
from dbmtl_jax.core._random import RandomState
from dbmtl_jax.core._task_linalg import accumulation_dtype
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import (
    Array,
    Float,
    Int,
    Labels,
    Measured,
    PerTask,
    PyTree,
    Scalar,
    Seed,
    TaskCount,
)
from dbmtl_jax.gradient_balancing._pairwise import combine, random_orders


class GradVacState(NamedTuple):
    """What GradVac keeps between steps."""

    random: RandomState
    targets: Float[Array, "T T"]  # φ̂_ij, the averaged cosines


def grad_vac(
    num_tasks: TaskCount,
    *,
    beta: Scalar = 0.5,
    per_leaf: bool = False,
    seed: Seed = 0,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Gradient Vaccine.

    For each task i, :math:`v_i = g_i` meets the other tasks j in a random order.  Where the cosine
    φ of :math:`v_i` and :math:`g_j` is below its average :math:`\hat\phi_{ij}`, it is raised to the
    average,

    .. math:: v_i \leftarrow v_i + \frac{\|v_i\| \big(\hat\phi \sqrt{1 - \phi^2}
        - \phi \sqrt{1 - \hat\phi^2}\big)}{\|g_j\| \sqrt{1 - \hat\phi^2}} \, g_j .

    Then the average, which starts at 0, is updated:
    :math:`\hat\phi_{ij} \leftarrow (1 - \beta) \hat\phi_{ij} + \beta\phi`.  The update of the
    parameters is :math:`\sum_i v_i`.  Averages of pairs with an absent task do not change.

    Args:
      num_tasks: T, or the names of the tasks.
      beta: β in [0, 1]; larger values make the averages follow faster.
      per_leaf: whether to do this for every parameter array by itself, instead of for all shared
        parameters together.
      seed: the seed of the random orders, an int or a key; the key is part of the state.
      labels, measured: see `dbmtl_jax.core`.

    Source: Wang et al., Gradient vaccine, ICLR 2021.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.grad_vac(num_tasks=2)
      >>> grads = jnp.array([[1.0, 0.0], [0.6, 0.8]])
      >>> _, state = tx.update(grads, tx.init(jnp.zeros(2)))
      >>> print(optax.tree.get(state, "targets"))
      [[0.  0.3]
       [0.3 0. ]]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_range("beta", beta, 0.0, 1.0)

    def init(shared: PyTree) -> GradVacState:
        dtype = accumulation_dtype(*jax.tree.leaves(shared))
        return GradVacState(RandomState.from_seed(seed), jnp.zeros((num_tasks, num_tasks), dtype))

    def weigh(tasks: Tasks, memory: GradVacState) -> tuple[PerTask, GradVacState]:
        random, key = memory.random.draw()
        weights, targets = grad_vac_weights(tasks.gramian, memory.targets, key, beta=beta)
        return weights, GradVacState(random, targets)

    return gradient_balancer(
        num_tasks,
        weigh,
        init=init,
        reads="gramian",
        per_leaf=per_leaf,
        labels=labels,
        measured=measured,
        name="grad_vac",
    )


@exact_products
def grad_vac_weights(
    gramian: Gramian | Float[Array, "T T"],
    targets: Float[Array, "T T"],
    key: Array,
    *,
    beta: Scalar = 0.5,
) -> tuple[PerTask, Float[Array, "T T"]]:
    """The weights of `grad_vac` for gradients with a given Gramian.

    Args:
      gramian: the inner products of the gradients, [T, T].
      targets: φ̂ [T, T], the averaged cosines; zeros before the first step.
      key: the key of the random orders.
      beta: see `grad_vac`.

    Returns:
      The weights [T] of the update Σ_t w_t g_t, and the new φ̂.

    Raises:
      ValueError: for a matrix that is not square.

    Example:
      >>> import jax, jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> gramian = jnp.array([[1.0, 0.6], [0.6, 1.0]])
      >>> weights, targets = dbmtl.grad_vac_weights(gramian, jnp.zeros((2, 2)), jax.random.key(0))
      >>> print(weights, targets[0])
      [1. 1.] [0.  0.3]
    """
    gramian = as_gramian(gramian)
    orders = random_orders(key, len(gramian.norms))
    coefficients, targets = vaccinate(gramian.cosines, targets, orders, beta)
    return combine(gramian.norms, coefficients), targets


def vaccinate(
    cosines: Float[Array, "T T"],
    targets: Float[Array, "T T"],
    orders: Int[Array, "T T"],
    beta: Scalar,
) -> tuple[Float[Array, "T T"], Float[Array, "T T"]]:
    """The changed unit gradients as combinations of all of them, and the new averages.

    Args:
      cosines: [T, T]; rows of zeros for absent tasks.
      targets: φ̂ [T, T].
      orders: row i is the order in which task i meets the others (and itself, which it skips).
      beta: β.

    Returns:
      Coefficients [T, T], v_i = ‖g_i‖ Σ_j b_ij g_j / ‖g_j‖, and the new φ̂.
    """
    eps = jnp.finfo(cosines.dtype).eps
    usable = jnp.diagonal(cosines) > 0

    def sine(cosine: Array) -> Array:
        # The same lower bound for φ and φ̂: for parallel gradients the two sines cancel.
        return jnp.sqrt(jnp.maximum(1 - cosine**2, eps))

    def one(i: Array, target: Array, order: Array) -> tuple[Array, Array]:
        def meet(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            b, target = carry
            j = order[k]
            products = cosines @ b
            length = jnp.sqrt(jnp.maximum(b @ products, 0))
            phi = jnp.clip(products[j] / jnp.where(length > 0, length, 1), -1, 1)
            goal = target[j]
            meets = (j != i) & usable[i] & usable[j]
            change = length * (goal * sine(phi) / sine(goal) - phi)
            b = b.at[j].add(jnp.where(meets & (phi < goal), change, 0))
            moved = (1 - beta) * goal + beta * phi
            return b, target.at[j].set(jnp.where(meets, moved, goal))

        start = jax.nn.one_hot(i, len(cosines), dtype=cosines.dtype)
        return jax.lax.fori_loop(0, len(cosines), meet, (start, target.astype(cosines.dtype)))

    return jax.vmap(one)(jnp.arange(len(cosines)), targets, orders)
