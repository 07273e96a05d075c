"""The point of smallest norm in the convex hull of the tasks' gradients."""

import jax.numpy as jnp

from dbmtl_jax.core._gramian import Gramian
from dbmtl_jax.core._interior_point import minimize
from dbmtl_jax.core._types import PerTask


def min_norm_weights(gramian: Gramian) -> PerTask:
    """The convex weights w [T] with the smallest ‖Σ_t w_t g_t‖.

    Solved for β_t = w_t ‖g_t‖ / min_s ‖g_s‖, which turns the Gramian into the cosines: tasks whose
    gradients differ by any factor are as easy as tasks of one scale.
    """
    norms, cosines, present = gramian
    zero = present & (norms == 0)
    smallest = jnp.min(norms, where=present & ~zero, initial=jnp.inf)
    costs = jnp.where(present & ~zero, smallest / jnp.where(norms > 0, norms, 1), 0)
    beta = minimize(lambda x: (cosines @ x, cosines), costs, present & ~zero)
    weights = costs * beta
    # A zero gradient is the point of smallest norm.
    some_zero = jnp.any(zero)
    return jnp.where(some_zero, zero / jnp.maximum(jnp.sum(zero), 1), weights)
