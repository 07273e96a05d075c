"""Surface normal estimation: predicts the normal of the surface in every pixel."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.tasks.task import Task, ratio

THRESHOLDS = (11.25, 22.5, 30.0)
"""Thresholds of the angular error in degrees."""

RESOLUTION = 0.01
"""The resolution of the median in degrees."""
_BINS = 18_000


class Totals(NamedTuple):
    """Sums over the pixels whose normal is known."""

    angles: jax.Array
    """sum of the angular errors in degrees"""
    within: jax.Array
    """[3], number of pixels whose error is below each threshold"""
    histogram: jax.Array
    """[18000], histogram of the errors in steps of 0.01 degrees"""
    known: jax.Array
    """number of pixels"""


def loss(predicted: jax.Array, normal: jax.Array) -> jax.Array:
    """1 - mean cosine over the pixels whose normal is known; 0 if there are none.

    Args:
      predicted: predicted vectors [..., H, W, 3] of any length.
      normal: true unit normals of the same shape, zero where unknown.
    """
    known = _known(normal)
    predicted = predicted.astype(jnp.float32)
    square = jnp.sum(predicted**2, axis=-1)
    # `where` on both sides of the root, whose derivative at zero is infinite.
    length = jnp.sqrt(jnp.where(square > 0, square, 1))
    cosine = jnp.where(square > 0, jnp.sum(predicted * normal, axis=-1) / length, 0)
    count = jnp.sum(known)
    mean = jnp.sum(cosine, where=known) / jnp.maximum(count, 1)
    return jnp.where(count > 0, 1 - mean, 0)


def totals(predicted: jax.Array, normal: jax.Array) -> Totals:
    """The totals of a batch; the arguments are those of `loss`."""
    known = _known(normal)
    predicted = predicted.astype(jnp.float32)
    # By half angles, as the arc cosine is inexact for small angles in single precision.
    a, b = _unit(predicted), _unit(normal)
    apart, together = (jnp.linalg.norm(v, axis=-1) for v in (a - b, a + b))
    angle = jnp.degrees(2 * jnp.arctan2(apart, together))
    step = jnp.clip(jnp.floor(angle / RESOLUTION).astype(jnp.int32), 0, _BINS - 1)
    counts = jnp.bincount(jnp.where(known, step, _BINS).ravel(), length=_BINS + 1)
    return Totals(
        jnp.sum(angle, where=known),
        jnp.stack([jnp.sum((angle < limit) & known) for limit in THRESHOLDS]),
        counts[:-1],
        jnp.sum(known),
    )


def metrics(totals: Any) -> list[float]:
    """The mean and median angle in degrees, and the share of pixels within each threshold."""
    angles, within, histogram, known = totals
    shares = [ratio(pixels, known) for pixels in np.asarray(within)]
    return [ratio(angles, known), _median(np.asarray(histogram)), *shares]


def _median(histogram: np.ndarray) -> float:
    """The median of a histogram; each error counts as the centre of its bin."""
    count = int(histogram.sum())
    if not count:
        return float("nan")
    ends = np.cumsum(histogram)
    middle = [np.searchsorted(ends, rank, side="right") for rank in ((count - 1) // 2, count // 2)]
    return float((np.mean(middle) + 0.5) * RESOLUTION)


def _known(normal: jax.Array) -> jax.Array:
    return jnp.sum(normal, axis=-1) != 0


def _unit(v: jax.Array) -> jax.Array:
    length = jnp.linalg.norm(v, axis=-1, keepdims=True)
    return v / jnp.where(length > 0, length, 1)


NORMALS = Task(
    "normals",
    ("mean", "median", *(f"<{limit:g}" for limit in THRESHOLDS)),
    (False, False, True, True, True),
    loss,
    totals,
    metrics,
)
