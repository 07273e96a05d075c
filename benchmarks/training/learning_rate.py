"""The schedules of the learning rate."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.settings import TrainConfig


class LearningRate:
    """The learning rate of every epoch, for several networks that are trained at once.

    Args:
      config: options of the schedule.
      num_models: number of networks; each has its own learning rate.
    """

    def __init__(self, config: TrainConfig, num_models: int) -> None:
        self._config, self._num_models = config, num_models
        # PyTorch reduces the rate when more than `patience` epochs brought no improvement, optax
        # when `patience` epochs did not.
        plateau = optax.contrib.reduce_on_plateau(
            factor=config.plateau_factor,
            patience=config.plateau_patience + 1,
            rtol=0.0,
            atol=1e-6,
            min_scale=config.min_learning_rate / config.learning_rate,
        )
        self._init = jax.jit(jax.vmap(lambda _: plateau.init(jnp.zeros(())), axis_size=num_models))
        self._update = jax.jit(
            jax.vmap(lambda state, score: plateau.update((), state, value=-score)[1])
        )

    def init(self) -> Any:
        """The state before the first epoch."""
        return self._init(None)

    def update(self, state: Any, scores: Any) -> Any:
        """The state after an epoch with the validation scores [num_models]."""
        return self._update(state, jnp.asarray(scores))

    def value(self, state: Any, epoch: int) -> jax.Array:
        """The learning rates [num_models] of an epoch."""
        config = self._config
        if config.schedule == "plateau":
            return config.learning_rate * state.scale
        halved = config.schedule == "halve" and epoch >= config.epochs // 2
        return jnp.full(self._num_models, config.learning_rate * (0.5 if halved else 1.0))
