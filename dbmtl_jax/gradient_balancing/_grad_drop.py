"""GradDrop: for each entry one sign is drawn, and gradients of the other sign are dropped."""

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._random import RandomState
from dbmtl_jax.core._task_linalg import accumulation_dtype, per_task
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Array, Bool, Float, Labels, PyTree, Scalar, Seed, TaskCount


def grad_drop(
    num_tasks: TaskCount, *, leak: Scalar = 0.0, seed: Seed = 0, labels: Labels = None
) -> TaskTransformation:
    r"""Gradient Sign Dropout.

    .. math:: P = \tfrac12 \Big(1 + \frac{\sum_t g_t}{\sum_t |g_t|}\Big)

    for each entry by itself.  With U drawn from U(0, 1), the positive :math:`g_t` are kept where
    P > U and the negative ones where P < U; the others are multiplied by `leak`.  The update is the
    sum over tasks.  Chen et al. apply this to the gradients of a representation, as this method
    does with `wrt="representation"`; otherwise it is applied to those of the parameters.

    Args:
      num_tasks: T, or the names of the tasks.
      leak: the fraction of a dropped entry that remains, in [0, 1].
      seed: the seed of the draws of U, an int or a key; the key is part of the state.
      labels: see `dbmtl_jax.core`.

    Source: Chen et al., Just pick a sign: Optimizing deep multitask models with gradient sign
    dropout, NeurIPS 2020.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.grad_drop(num_tasks=2)
      >>> grads = jnp.array([[1.0, 2.0], [3.0, -2.0]])
      >>> update, _ = tx.update(grads, tx.init(jnp.zeros(2)))
      >>> print(update[0], abs(update[1]))
      4.0 2.0
    """
    _checks.check_range("leak", leak, 0.0, 1.0)

    def merge(tasks: Tasks, memory: RandomState) -> tuple[PyTree, RandomState]:
        memory, key = memory.draw()
        leaves, structure = jax.tree.flatten(tasks.rows.tree())

        def drop(leaf: Array, key: Array) -> Array:
            # A key for each leaf: the size of one leaf does not change the draws of the next.
            uniform = jax.random.uniform(key, leaf.shape[1:], accumulation_dtype(leaf))
            rows = jnp.where(per_task(tasks.present, leaf), per_task(tasks.scales, leaf) * leaf, 0)
            kept = keep_signs(rows, uniform)
            return jnp.sum(jnp.where(kept, rows, leak * rows), axis=0).astype(leaf.dtype)

        merged = map(drop, leaves, jax.random.split(key, max(len(leaves), 1)))
        return jax.tree.unflatten(structure, merged), memory

    return gradient_balancer(
        num_tasks,
        merge=merge,
        init=lambda shared: RandomState.from_seed(seed),
        of_parameters=False,
        labels=labels,
        name="grad_drop",
    )


def keep_signs(rows: Float[Array, "T ..."], uniform: Float[Array, "..."]) -> Bool[Array, "T ..."]:
    """Which entries of rows [T, *shape] are kept, given U [*shape]."""
    total = jnp.sum(jnp.abs(rows), axis=0)
    purity = (1 + jnp.sum(rows, axis=0) / jnp.where(total > 0, total, 1)) / 2
    positive = purity > uniform
    return jnp.where(rows > 0, positive[None], (purity < uniform)[None])
