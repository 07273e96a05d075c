"""Gradient balancing as a weighted sum: [T, *shape] gradients in, [*shape] updates out."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._presence import squared_norms_and_presence
from dbmtl_jax._task_linalg import accumulation_dtype, weighted_sum


class AggregationState(NamedTuple):
    """What the last step of an aggregation saw and did, each [T]."""

    skipped: jax.Array  # int32: steps in which the task was unmasked but not finite
    norms: jax.Array  # ‖g_t‖ of the incoming shared gradients, 0 for an absent task
    weights: jax.Array  # w_t of Σ_t w_t g_t, 0 for an absent task


def weighted_aggregation(
    num_tasks: int,
    weigh: Callable[[jax.Array, jax.Array], jax.Array],
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    """Σ_t w_t g_t with w = weigh(norms [T], present [T]) over the shared leaves.

    A task's own parameters get their gradient as it comes in; those of an absent task get zero.
    """
    num_tasks = _contract.check_num_tasks(num_tasks)

    def init(params: optax.Params) -> AggregationState:
        labels_ = _partition.resolve(labels, params, num_tasks)
        dtype = accumulation_dtype(*_partition.shared_leaves(labels_, params))
        return AggregationState(
            skipped=jnp.zeros((num_tasks,), jnp.int32),
            norms=jnp.zeros((num_tasks,), dtype),
            weights=jnp.zeros((num_tasks,), dtype),
        )

    def update(updates, state, params=None, *, losses=None, task_mask=None, **extra_args):
        del extra_args
        labels_, losses, mask = _contract.check_update(
            num_tasks, labels, updates, params, losses, task_mask
        )
        squares, present = squared_norms_and_presence(updates, labels_, mask, losses)
        norms = jnp.sqrt(jnp.where(present, squares, 0))
        weights = jnp.where(present, weigh(norms, present), 0)

        def aggregate(label, leaf):
            if label == _partition.SHARED:
                return weighted_sum(weights, present, leaf)
            return jnp.where(present[label], leaf, 0)

        new_state = AggregationState(
            skipped=state.skipped + (mask & ~present),
            norms=norms.astype(state.norms.dtype),
            weights=weights.astype(state.weights.dtype),
        )
        return jax.tree.map(aggregate, labels_, updates), new_state

    return optax.GradientTransformationExtraArgs(init, update)
