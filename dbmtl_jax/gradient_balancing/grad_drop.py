"""GradDrop: entries of inconsistent sign are dropped at random."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._parts import Aggregator, method
from dbmtl_jax._random import RandomState
from dbmtl_jax._stack import Stack
from dbmtl_jax._task_linalg import accumulation_dtype, per_task


def grad_drop(
    num_tasks: int, *, leak: float = 0.0, seed: int = 0, labels: _partition.Labels = None
) -> optax.GradientTransformationExtraArgs:
    r"""Gradient Sign Dropout.

    .. math:: P = \tfrac12 \Big(1 + \frac{\sum_t g_t}{\sum_t |g_t|}\Big)

    for each entry by itself; with U drawn from U(0, 1), the positive :math:`g_t` are kept where
    P > U and the negative ones where P < U.  The update is their sum.  Of the entries that are not
    kept a part `leak` remains.  The paper applies this to the gradients of a representation, here
    it is applied to those of the parameters.

    Args:
      num_tasks: T.
      leak: how much of a dropped entry remains, in [0, 1].
      seed: of U; the key is part of the state.
      labels: "shared" or a task index for each parameter, see `db_mtl`.  A task's own parameters
        keep their gradient.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its `update` takes
      `task_mask` [T].

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for gradients that
        are not stacked.

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
    num_tasks = _contract.check_num_tasks(num_tasks)
    _contract.check_range("leak", leak, 0.0, 1.0)

    def init(shared: Any) -> RandomState:
        return RandomState.from_seed(seed)

    def update(stack: Stack, state: RandomState, losses: Any) -> tuple[Any, Stack, RandomState]:
        state, draw = state.draw()
        leaves, structure = jax.tree.flatten(stack.tree)
        weights = jnp.where(stack.present, stack.weights, 0)

        def drop(leaf: jax.Array, draw: jax.Array) -> jax.Array:
            # As in every draw per leaf: the size of one leaf does not change those of the next.
            uniform = jax.random.uniform(draw, leaf.shape[1:], accumulation_dtype(leaf))
            rows = jnp.where(per_task(stack.present, leaf), per_task(weights, leaf) * leaf, 0)
            kept = keep_signs(rows, uniform)
            return jnp.sum(jnp.where(kept, rows, leak * rows), axis=0).astype(leaf.dtype)

        merged = map(drop, leaves, jax.random.split(draw, max(len(leaves), 1)))
        return jax.tree.unflatten(structure, merged), stack, state

    return method(num_tasks, (), Aggregator(init, update), labels)


def keep_signs(rows: jax.Array, uniform: jax.Array) -> jax.Array:
    """Which entries of rows [T, *shape] are kept, given U [*shape]."""
    total = jnp.sum(jnp.abs(rows), axis=0)
    purity = (1 + jnp.sum(rows, axis=0) / jnp.where(total > 0, total, 1)) / 2
    positive = purity > uniform
    return jnp.where(rows > 0, positive[None], (purity < uniform)[None])
