"""Depth estimation: predicts the depth or disparity of every pixel."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.tasks.task import Task, masked_mean, ratio


class Totals(NamedTuple):
    """Sums over the pixels whose depth is known."""

    absolute: jax.Array
    """sum of the absolute errors"""
    relative: jax.Array
    """sum of the relative errors"""
    known: jax.Array
    """number of pixels"""


def loss(predicted: jax.Array, depth: jax.Array) -> jax.Array:
    """Mean absolute error over the pixels whose depth is known.

    Args:
      predicted: predicted depth [..., H, W, 1].
      depth: true depth of the same shape, 0 where unknown.
    """
    return masked_mean(jnp.abs(predicted.astype(jnp.float32) - depth), depth != 0)


def totals(predicted: jax.Array, depth: jax.Array) -> Totals:
    """The totals of a batch; the arguments are those of `loss`."""
    known = depth != 0
    errors = jnp.abs(predicted.astype(jnp.float32) - depth)
    return Totals(
        jnp.sum(errors, where=known),
        jnp.sum(errors / jnp.where(known, jnp.abs(depth), 1), where=known),
        jnp.sum(known),
    )


def metrics(totals: Any) -> list[float]:
    """The mean absolute and mean relative error over all pixels whose depth is known."""
    absolute, relative, known = totals
    return [ratio(absolute, known), ratio(relative, known)]


DEPTH = Task("depth", ("AErr", "RErr"), (False, False), loss, totals, metrics)
