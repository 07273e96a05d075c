"""The probability simplex over the present tasks."""

import jax.numpy as jnp

from dbmtl_jax.core._types import Mask, PerTask


def mean_weights(present: Mask) -> PerTask:
    """1/n for the n present tasks, [T]."""
    return present / jnp.maximum(jnp.sum(present), 1)


def project(vector: PerTask, present: Mask) -> PerTask:
    """The point of the simplex nearest to a vector [T]; zero where not present.

    Sorted from the largest entry down, the entries that stay positive are those that exceed the
    threshold which the entries before them would set (Duchi et al., ICML 2008).
    """
    # A large number would swallow the 1.
    largest = jnp.max(vector, where=present, initial=-jnp.inf)
    vector = vector - jnp.where(jnp.isfinite(largest), largest, 0)
    ordered = -jnp.sort(-jnp.where(present, vector, -jnp.inf))
    usable = jnp.isfinite(ordered)
    ordered = jnp.where(usable, ordered, 0)
    count = jnp.arange(1, vector.shape[0] + 1, dtype=vector.dtype)
    thresholds = (jnp.cumsum(ordered) - 1) / count
    kept = jnp.sum(usable & (ordered > thresholds))
    threshold = thresholds[jnp.maximum(kept - 1, 0)]
    return jnp.where(present, jnp.maximum(vector - threshold, 0), 0)
