"""The interface of tasks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Task(NamedTuple):
    """A loss with its metrics."""

    name: str
    """name of the task"""
    metric_names: tuple[str, ...]
    """names of the metrics"""
    higher_is_better: tuple[bool, ...]
    """whether higher is better, for every metric"""
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    """(prediction, target) -> scalar loss; 0 if all of the target is unknown"""
    totals: Callable[[jax.Array, jax.Array], Any]
    """(prediction, target) -> arrays that are summed over batches"""
    metrics: Callable[[Any], list[float]]
    """(summed totals) -> the value of each metric; NaN if all targets are unknown"""


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean of the values where `mask` is True; 0, with gradient 0, if there are none."""
    return jnp.sum(values, where=mask) / jnp.maximum(jnp.sum(mask), 1)


def ratio(total: Any, count: Any) -> float:
    """The mean, given a sum and a count; NaN if the count is 0."""
    return float(total) / float(count) if count else float("nan")
