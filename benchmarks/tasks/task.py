"""The form of a task."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Task(NamedTuple):
    """A loss and the metrics that go with it."""

    name: str
    metric_names: tuple[str, ...]
    higher_is_better: tuple[bool, ...]
    """for every metric"""
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    """(prediction, target) -> [], 0 where nothing in the target counts"""
    totals: Callable[[jax.Array, jax.Array], Any]
    """(prediction, target) -> arrays to be summed over batches"""
    metrics: Callable[[Any], list[float]]
    """(summed totals) -> a figure for each metric; NaN where nothing counted"""


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean of the values that count; 0 where none does, with a gradient of 0."""
    return jnp.sum(values, where=mask) / jnp.maximum(jnp.sum(mask), 1)


def ratio(total: Any, count: Any) -> float:
    """A mean out of summed totals; NaN if nothing counted."""
    return float(total) / float(count) if count else float("nan")
