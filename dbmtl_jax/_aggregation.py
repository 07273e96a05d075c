"""Gradient balancing as a weighted sum of the rows: the end of almost every method."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dbmtl_jax._parts import Aggregator, Reads
from dbmtl_jax._stack import Stack, StackedRows
from dbmtl_jax._strict import strict
from dbmtl_jax._task_linalg import accumulation_dtype, squared_norms


class AggregationState(NamedTuple):
    """What the last step saw and did, both [T], and what the method keeps between steps."""

    norms: jax.Array  # ‖g_t‖ of the rows that came in; 0 for an absent task, or if nobody saw them
    weights: jax.Array  # w_t of Σ_t w_t g_t, 0 for an absent task
    inner: Any


def weighted_sum_of_tasks(
    num_tasks: int,
    weigh: Callable[[Stack, Any, Any], tuple[jax.Array, Any]],
    *,
    initial: Callable[[Any], Any] = lambda dtype: (),
    reads: Reads = "norms",
    own: Callable[[jax.Array, Any], jax.Array] | None = None,
) -> Aggregator:
    """Σ_t w_t g_t.

    Args:
      num_tasks: T.
      weigh: (stack, losses [T] or None, memory) -> (w [T], memory).  What it returns for absent
        tasks does not matter, as long as it is finite.
      initial: dtype -> the first memory.
      reads: "sum" where `weigh` uses neither norms nor cosines, "products" for `stack.cosines`.
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
    ) -> tuple[Any, Stack, AggregationState]:
        weights, memory = weigh(stack, losses, state.inner)
        merged = stack.sum(weights)
        norms = jnp.zeros_like(state.norms)
        if stack.squares is not None:
            norms = stack.norms.astype(norms.dtype)
        elif not strict():
            # Nobody saw a single row: if the sum is not finite, any task may be to blame.
            finite = jnp.isfinite(squared_norms([x[None] for x in jax.tree.leaves(merged)], 1)[0])
            merged = jax.tree.map(lambda x: jnp.where(finite, x, 0), merged)
            stack = stack._replace(present=stack.present & finite)
        weights = jnp.where(stack.present, weights, 0)
        if own is not None:
            stack = stack._replace(own_weights=stack.own_weights * own(weights, memory))
        memory = jax.tree.map(lambda new, old: new.astype(old.dtype), memory, state.inner)
        return merged, stack, AggregationState(norms, weights.astype(state.weights.dtype), memory)

    return Aggregator(init, update, reads)


def sum_of_tasks(num_tasks: int) -> Aggregator:
    """Σ_t g_t."""
    return weighted_sum_of_tasks(
        num_tasks,
        lambda stack, losses, memory: (jnp.ones_like(stack.weights), memory),
        reads="sum",
    )


def for_each_leaf(aggregator: Aggregator) -> Aggregator:
    """Balances every leaf by itself; the state is the tree of params with a state as each leaf."""

    def init(shared: Any) -> Any:
        return jax.tree.map(aggregator.init, shared)

    def update(stack: Stack, state: Any, losses: Any) -> tuple[Any, Stack, Any]:
        def balance(leaf: jax.Array, leaf_state: Any) -> tuple[Any, Any]:
            rows = StackedRows(leaf, len(stack.weights))
            part = stack._replace(rows=rows, squares=rows.squares(), products=None)
            update, _, leaf_state = aggregator.update(part, leaf_state, losses)
            return update, leaf_state

        pairs = jax.tree.map(balance, stack.tree, state)
        merged, state = (
            jax.tree.map(lambda _, pair, i=i: pair[i], stack.tree, pairs) for i in range(2)
        )
        return merged, stack, state

    return Aggregator(init, update)
