"""Gradient balancing as a weighted sum of the rows."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dbmtl_jax._parts import Aggregator, Stack
from dbmtl_jax._task_linalg import accumulation_dtype


class AggregationState(NamedTuple):
    """What the last step saw and did, both [T]."""

    norms: jax.Array  # ‖g_t‖ of the rows that came in, 0 for an absent task
    weights: jax.Array  # w_t of Σ_t w_t g_t, 0 for an absent task


def weighted_sum_of_tasks(
    num_tasks: int, weigh: Callable[[jax.Array, jax.Array], jax.Array]
) -> Aggregator:
    """Σ_t w_t g_t with w = weigh(norms [T], present [T]); tasks' own parameters are left alone."""

    def init(shared: Any) -> AggregationState:
        dtype = accumulation_dtype(*jax.tree.leaves(shared))
        # Two arrays: one buffer cannot be donated twice.
        return AggregationState(
            norms=jnp.zeros((num_tasks,), dtype), weights=jnp.zeros((num_tasks,), dtype)
        )

    def update(
        stack: Stack, state: AggregationState, losses: Any
    ) -> tuple[Any, jax.Array, AggregationState]:
        del losses
        norms = stack.norms
        weights = jnp.where(stack.present, weigh(norms, stack.present), 0)
        new_state = AggregationState(
            norms.astype(state.norms.dtype), weights.astype(state.weights.dtype)
        )
        return stack.sum(weights), stack.own_weights, new_state

    return Aggregator(init, update)
