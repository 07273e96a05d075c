"""GradVac: every pair of gradients brought to the cosine it usually has."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._aggregation import for_each_leaf, weighted_sum_of_tasks
from dbmtl_jax._parts import method
from dbmtl_jax._random import RandomState
from dbmtl_jax._stack import Stack
from dbmtl_jax.gradient_balancing._pairwise import combine, random_orders


class GradVacMemory(NamedTuple):
    """What GradVac keeps between steps."""

    random: RandomState
    targets: jax.Array  # φ̂_ij, the averaged cosines, [T, T]


def grad_vac(
    num_tasks: int,
    *,
    beta: float = 0.5,
    per_leaf: bool = False,
    seed: int = 0,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Gradient Vaccine.

    For each task i, :math:`v_i = g_i` meets the other tasks j in a random order.  Where its cosine
    φ with :math:`g_j` is below the average :math:`\hat\phi_{ij}`, it is brought to that,

    .. math:: v_i \leftarrow v_i + \frac{\|v_i\| \big(\hat\phi \sqrt{1 - \phi^2}
        - \phi \sqrt{1 - \hat\phi^2}\big)}{\|g_j\| \sqrt{1 - \hat\phi^2}} \, g_j,

    and the average moves on, :math:`\hat\phi_{ij} \leftarrow (1 - \beta) \hat\phi_{ij} + \beta\phi`
    from 0.  The update is :math:`\sum_i v_i`.

    Args:
      num_tasks: T.
      beta: β, how fast the averages follow.
      per_leaf: cosines of every parameter array by itself, instead of all shared parameters
        together.
      seed: of the orders; the key is part of the state.
      labels: "shared" or a task index for each parameter, see `db_mtl`.  A task's own parameters
        keep their gradient.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` takes
      `task_mask` [T]; averages of pairs with an absent task stand still.

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for gradients that
        are not stacked.

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
    num_tasks = _contract.check_num_tasks(num_tasks)
    _contract.check_range("beta", beta, 0.0, 1.0)

    def initial(dtype: Any) -> GradVacMemory:
        return GradVacMemory(RandomState.from_seed(seed), jnp.zeros((num_tasks, num_tasks), dtype))

    def weigh(stack: Stack, losses: Any, memory: GradVacMemory) -> tuple[jax.Array, GradVacMemory]:
        random, orders = random_orders(memory.random, num_tasks)
        coefficients, targets = vaccinate(stack.cosines, memory.targets, orders, beta)
        return combine(stack.norms, coefficients), GradVacMemory(random, targets)

    aggregator = weighted_sum_of_tasks(num_tasks, weigh, initial=initial, reads="products")
    return method(num_tasks, (), for_each_leaf(aggregator) if per_leaf else aggregator, labels)


def vaccinate(
    cosines: jax.Array, targets: jax.Array, orders: jax.Array, beta: float
) -> tuple[jax.Array, jax.Array]:
    """What becomes of every unit gradient, and of the averages.

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

    def sine(cosine: jax.Array) -> jax.Array:
        # Bounded below alike for φ and φ̂: for parallel gradients they cancel.
        return jnp.sqrt(jnp.maximum(1 - cosine**2, eps))

    def one(i: jax.Array, target: jax.Array, order: jax.Array) -> tuple[jax.Array, jax.Array]:
        def meet(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
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
