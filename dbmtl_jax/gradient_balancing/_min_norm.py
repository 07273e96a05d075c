"""The point of smallest norm in the convex hull of the tasks' gradients."""

import jax
import jax.numpy as jnp

from dbmtl_jax.gradient_balancing._interior_point import minimize


def min_norm_weights(norms: jax.Array, cosines: jax.Array, present: jax.Array) -> jax.Array:
    """The convex weights w [T] with the smallest ‖Σ_t w_t g_t‖.

    Solved for β_t = w_t ‖g_t‖ / min_s ‖g_s‖, which turns the Gramian into the cosines: tasks whose
    gradients differ by any factor are as easy as tasks of one scale.

    Args:
      norms: ‖g_t‖ [T].
      cosines: [T, T].
      present: [T] bool, the tasks among which to choose.
    """
    zero = present & (norms == 0)
    smallest = jnp.min(norms, where=present & ~zero, initial=jnp.inf)
    costs = jnp.where(present & ~zero, smallest / jnp.where(norms > 0, norms, 1), 0)
    beta = minimize(lambda x: (cosines @ x, cosines), costs, present & ~zero)
    weights = costs * beta
    # A zero gradient is the point of smallest norm.
    some_zero = jnp.any(zero)
    return jnp.where(some_zero, zero / jnp.maximum(jnp.sum(zero), 1), weights)
