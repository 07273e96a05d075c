"""Gradient balancing as a weighted sum of the rows: the end of almost every method."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dbmtl_jax._parts import Aggregator, Stack
from dbmtl_jax._task_linalg import accumulation_dtype, squared_norms


class AggregationState(NamedTuple):
    """What the last step saw and did, both [T], and what the method keeps between steps."""

    norms: jax.Array  # ‖g_t‖ of the rows that came in, 0 for an absent task
    weights: jax.Array  # w_t of Σ_t w_t g_t, 0 for an absent task
    inner: Any


def weighted_sum_of_tasks(
    num_tasks: int,
    weigh: Callable[[Stack, Any, Any], tuple[jax.Array, Any]],
    *,
    initial: Callable[[Any], Any] = lambda dtype: (),
    gramian: bool = False,
    own: Callable[[jax.Array, Any], jax.Array] | None = None,
) -> Aggregator:
    """Σ_t w_t g_t.

    Args:
      num_tasks: T.
      weigh: (stack, losses [T] or None, memory) -> (w [T], memory).  What it returns for absent
        tasks does not matter, as long as it is finite.
      initial: dtype -> the first memory.
      gramian: whether `weigh` uses `stack.cosines`.
      own: (w, new memory) -> factors [T] of the tasks' own parameters; None leaves them alone.
    """

    def init(shared: Any) -> AggregationState:
        dtype = accumulation_dtype(*jax.tree.leaves(shared))
        # Two arrays: one buffer cannot be donated twice.
        return AggregationState(
            norms=jnp.zeros((num_tasks,), dtype),
            weights=jnp.zeros((num_tasks,), dtype),
            inner=initial(dtype),
        )

    def update(
        stack: Stack, state: AggregationState, losses: Any
    ) -> tuple[Any, jax.Array, AggregationState]:
        weights, memory = weigh(stack, losses, state.inner)
        weights = jnp.where(stack.present, weights, 0)
        own_weights = stack.own_weights
        if own is not None:
            own_weights = own_weights * own(weights, memory)
        memory = jax.tree.map(lambda new, old: new.astype(old.dtype), memory, state.inner)
        new_state = AggregationState(
            stack.norms.astype(state.norms.dtype), weights.astype(state.weights.dtype), memory
        )
        return stack.sum(weights), own_weights, new_state

    return Aggregator(init, update, gramian)


def sum_of_tasks(num_tasks: int) -> Aggregator:
    """Σ_t g_t."""
    return weighted_sum_of_tasks(
        num_tasks, lambda stack, losses, memory: (jnp.ones_like(stack.norms), memory)
    )


def for_each_leaf(aggregator: Aggregator) -> Aggregator:
    """Balances every leaf by itself; the state is the tree of params with a state as each leaf."""

    def init(shared: Any) -> Any:
        return jax.tree.map(aggregator.init, shared)

    def update(stack: Stack, state: Any, losses: Any) -> tuple[Any, jax.Array, Any]:
        def balance(leaf: jax.Array, leaf_state: Any) -> tuple[Any, Any]:
            squares = squared_norms([leaf], len(stack.weights))
            part = stack._replace(tree=leaf, squares=squares, products=None)
            update, _, leaf_state = aggregator.update(part, leaf_state, losses)
            return update, leaf_state

        pairs = jax.tree.map(balance, stack.tree, state)
        merged, state = (
            jax.tree.map(lambda _, pair, i=i: pair[i], stack.tree, pairs) for i in range(2)
        )
        return merged, stack.own_weights, state

    return Aggregator(init, update)
