"""A class for every pixel."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.tasks.task import Task, masked_mean, ratio


def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy over the pixels that have a label.

    Args:
      logits: [..., C]
      labels: [...] integers from 0 to C - 1; a negative one does not count.
    """
    labels = labels.astype(jnp.int32)
    errors = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), jnp.maximum(labels, 0)
    )
    return masked_mean(errors, labels >= 0)


def totals(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The confusion matrix [C, C]: how many pixels of class i (row) are taken for class j."""
    num_classes = logits.shape[-1]
    labels = labels.astype(jnp.int32)
    pairs = labels * num_classes + jnp.argmax(logits, axis=-1)
    pairs = jnp.where(labels >= 0, pairs, num_classes**2)  # a bin that is thrown away
    counts = jnp.bincount(pairs.ravel(), length=num_classes**2 + 1)
    return counts[:-1].reshape(num_classes, num_classes)


def metrics(confusion: Any) -> list[float]:
    """Mean intersection over union of the classes, and share of pixels that are right.

    A class that neither occurs nor is predicted has no IoU: the mean is over the others.  (Where
    the usual code divides 0 by 0, all would be NaN.)
    """
    confusion = np.asarray(confusion, np.float64)
    right = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - right
    present = union > 0
    iou = (right[present] / union[present]).sum()
    return [ratio(iou, present.sum()), ratio(right.sum(), confusion.sum())]


SEGMENTATION = Task("segmentation", ("mIoU", "PAcc"), (True, True), loss, totals, metrics)
