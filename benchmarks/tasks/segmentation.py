"""Semantic segmentation: predicts the class of every pixel."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.tasks.task import Task, masked_mean, ratio


def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy over the pixels that have a label.

    Args:
      logits: logits [..., C] of C classes.
      labels: integers [...] from 0 to C - 1; pixels with a negative label do not count.
    """
    labels = labels.astype(jnp.int32)
    errors = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), jnp.maximum(labels, 0)
    )
    return masked_mean(errors, labels >= 0)


def totals(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The confusion matrix [C, C]: number of pixels of class i (row) predicted as class j."""
    num_classes = logits.shape[-1]
    labels = labels.astype(jnp.int32)
    pairs = labels * num_classes + jnp.argmax(logits, axis=-1)
    pairs = jnp.where(labels >= 0, pairs, num_classes**2)  # a bin that is discarded
    counts = jnp.bincount(pairs.ravel(), length=num_classes**2 + 1)
    return counts[:-1].reshape(num_classes, num_classes)


def metrics(confusion: Any) -> list[float]:
    """The mean intersection over union (mIoU) of the classes, and the pixel accuracy.

    Classes that neither occur nor are predicted have no IoU and are left out of the mean, which
    would be NaN otherwise.
    """
    confusion = np.asarray(confusion, np.float64)
    right = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - right
    present = union > 0
    iou = (right[present] / union[present]).sum()
    return [ratio(iou, present.sum()), ratio(right.sum(), confusion.sum())]


SEGMENTATION = Task("segmentation", ("mIoU", "PAcc"), (True, True), loss, totals, metrics)
