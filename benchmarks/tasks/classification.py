"""Classification: predicts the class of an image."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.tasks import segmentation
from benchmarks.tasks.task import Task, ratio


class Totals(NamedTuple):
    """Numbers of correctly classified images, and of all images, that have a label."""

    right: jax.Array
    images: jax.Array


def totals(logits: jax.Array, labels: jax.Array) -> Totals:
    """The totals of logits [..., C] and labels [...]; images with a negative label do not count."""
    valid = labels >= 0
    right = jnp.argmax(logits, axis=-1) == labels  # never where the label is negative
    return Totals(jnp.sum(right), jnp.sum(valid))


def metrics(totals: Any) -> list[float]:
    """The accuracy: the share of images that are classified correctly."""
    right, images = totals
    return [ratio(right, images)]


CLASSIFICATION = Task("classification", ("Acc",), (True,), segmentation.loss, totals, metrics)
