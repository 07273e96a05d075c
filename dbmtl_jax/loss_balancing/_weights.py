"""What the loss-balancing methods have in common: losses and state to one weight per task."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _partition
from dbmtl_jax._aggregation import sum_of_tasks
from dbmtl_jax._parts import Part, method, transformation
from dbmtl_jax._stack import Stack
from dbmtl_jax._strict import strict
from dbmtl_jax._task_linalg import accumulation_dtype


class LossBalancingState(NamedTuple):
    """The weights of the last step, and what the method keeps between steps."""

    loss_weights: jax.Array  # [T], 0 for an absent task
    memory: Any


def balance_losses(
    num_tasks: int,
    weigh: Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]],
    *,
    initial: Callable[[Any], Any] = lambda dtype: (),
    above: float | None = None,
) -> Part:
    """Scales every task by weights of the losses.

    Args:
      num_tasks: T.
      weigh: (losses [T], present [T], memory) -> (weights [T], memory).  The losses of absent
        tasks read 1.
      initial: dtype -> the first memory.
      above: losses must be greater than this; a task whose loss is not is absent.
    """

    def init(shared: Any) -> LossBalancingState:
        dtype = accumulation_dtype(*jax.tree.leaves(shared))
        return LossBalancingState(jnp.zeros((num_tasks,), dtype), initial(dtype))

    def update(
        stack: Stack, state: LossBalancingState, losses: jax.Array
    ) -> tuple[Stack, LossBalancingState]:
        valid = jnp.isfinite(losses)
        if above is not None:
            valid &= losses > above
        present = stack.present & valid
        weights, memory = weigh(jnp.where(present, losses, 1), present, state.memory)
        recorded = jnp.where(present, weights, 0).astype(state.loss_weights.dtype)
        # NaN only for a task that nobody masked: a masked one's loss may be anything.
        scaled = stack.scaled(jnp.where(valid | ~stack.present, weights, jnp.nan))
        if not strict():
            scaled = scaled._replace(present=present)
        return scaled, LossBalancingState(recorded, memory)

    def settle(state: LossBalancingState, present: jax.Array) -> LossBalancingState:
        return state._replace(loss_weights=jnp.where(present, state.loss_weights, 0))

    return Part(init, update, settle=settle)


def as_transformation(
    num_tasks: int, part: Part, labels: _partition.Labels, name: str
) -> optax.GradientTransformationExtraArgs:
    """The part alone, [T, *shape] → [T, *shape]."""
    return transformation(num_tasks, part, labels, losses_required_by=name)


def as_method(
    num_tasks: int, part: Part, labels: _partition.Labels, name: str
) -> optax.GradientTransformationExtraArgs:
    """The part and a sum, [T, *shape] → [*shape]."""
    return method(num_tasks, (part,), sum_of_tasks(num_tasks), labels, losses_required_by=name)


class LearntState(NamedTuple):
    """Parameters that a method learns beside the model's."""

    values: jax.Array  # s, [T]
    opt_state: Any


def learnt_weights(
    num_tasks: int,
    initial: float,
    optimizer: optax.GradientTransformation,
    weight: Callable[[jax.Array], jax.Array],
    gradient: Callable[[jax.Array, jax.Array], jax.Array],
) -> Part:
    """Weights `weight(s)` of parameters s that descend `gradient(s, losses)` after each step.

    The parameter of an absent task stands still.
    """

    def first(dtype: Any) -> LearntState:
        values = jnp.full((num_tasks,), initial, dtype)
        return LearntState(values, optimizer.init(values))

    def weigh(
        losses: jax.Array, present: jax.Array, memory: LearntState
    ) -> tuple[jax.Array, LearntState]:
        s = memory.values
        slope = jnp.where(present, gradient(s, losses), 0).astype(s.dtype)
        updates, opt_state = optimizer.update(slope, memory.opt_state, s)
        moved = optax.apply_updates(s, updates)
        return weight(s), LearntState(jnp.where(present, moved, s), opt_state)

    return balance_losses(num_tasks, weigh, initial=first)


def default_weight_optimizer() -> optax.GradientTransformation:
    """Adam at the learning rate of most of the paper's experiments."""
    return optax.adam(1e-4)


__all__ = [
    "LearntState",
    "LossBalancingState",
    "as_method",
    "as_transformation",
    "balance_losses",
    "default_weight_optimizer",
    "learnt_weights",
]
