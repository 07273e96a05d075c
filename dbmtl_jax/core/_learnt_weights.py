"""Weights that a method learns along with the model's parameters."""

from typing import NamedTuple

import jax.numpy as jnp
import optax

from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._types import Mask, PerTask, PyTree, Scalar

LARGEST = 30.0
"""Of learnt values, whose exponentials are weights: e^30 is 10^13."""


class LearntState(NamedTuple):
    """The values that a method learns, one for each task, and their optimizer's state."""

    values: PerTask
    opt_state: optax.OptState


class LearntWeights(NamedTuple):
    """Values, one for each task, that an optimizer updates after each step."""

    num_tasks: int
    initial: Scalar
    optimizer: optax.GradientTransformation

    @classmethod
    def make(
        cls, num_tasks: int, initial: Scalar, optimizer: optax.GradientTransformation | None
    ) -> "LearntWeights":
        """By default with Adam at the learning rate of most of the paper's experiments.

        Raises:
          TypeError: for an optimizer that is none.
        """
        if optimizer is not None and not isinstance(optimizer, optax.GradientTransformation):
            raise TypeError(
                f"weight_optimizer: expected an optax optimizer or None, found {optimizer!r}"
            )
        return cls(num_tasks, initial, optax.adam(1e-4) if optimizer is None else optimizer)

    def init(self, shared: PyTree) -> LearntState:
        """The values before the first step."""
        values = task_vector(self.num_tasks, self.initial, shared)
        return LearntState(values, self.optimizer.init(values))

    def descend(self, state: LearntState, slope: PerTask, present: Mask) -> LearntState:
        """A step of the optimizer.

        The value of an absent task does not change, nor does one whose slope has a square that
        overflows: Adam would never forget it.  Values stay where their exponential and the squares
        of gradients times it are finite.
        """
        values, opt_state = state
        slope = slope.astype(values.dtype)
        usable = present & jnp.isfinite(jnp.square(slope))
        slope = jnp.where(usable, slope, 0)
        updates, opt_state = self.optimizer.update(slope, opt_state, values)
        moved = jnp.clip(optax.apply_updates(values, updates), -LARGEST, LARGEST)
        return LearntState(jnp.where(usable, moved, values), opt_state)
