"""The distance of every pixel, or its disparity."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.tasks.task import Task, masked_mean, ratio


class Totals(NamedTuple):
    """Sums over the pixels whose depth is known."""

    absolute: jax.Array
    relative: jax.Array
    known: jax.Array


def loss(predicted: jax.Array, depth: jax.Array) -> jax.Array:
    """Mean absolute error over the pixels whose depth is known.

    Args:
      predicted: [..., H, W, 1]
      depth: the same shape, 0 where it is not known.
    """
    return masked_mean(jnp.abs(predicted.astype(jnp.float32) - depth), depth != 0)


def totals(predicted: jax.Array, depth: jax.Array) -> Totals:
    """Of arrays as for `loss`."""
    known = depth != 0
    errors = jnp.abs(predicted.astype(jnp.float32) - depth)
    return Totals(
        jnp.sum(errors, where=known),
        jnp.sum(errors / jnp.where(known, jnp.abs(depth), 1), where=known),
        jnp.sum(known),
    )


def metrics(totals: Any) -> list[float]:
    """Absolute and relative error, means over all pixels of the split whose depth is known."""
    absolute, relative, known = totals
    return [ratio(absolute, known), ratio(relative, known)]


DEPTH = Task("depth", ("AErr", "RErr"), (False, False), loss, totals, metrics)
