"""The solvers of small convex problems, on problems with known solutions."""

import jax
import jax.numpy as jnp
import numpy as np

from dbmtl_jax.core._interior_point import minimize, nonnegative_qp


def test_steps_that_are_too_long_are_shortened():
    """Newton's method jumps over the minimum of √(1 + u²), again and again, from |u| > 1."""
    steepness, best, scale = 20.0, 0.4, 0.1

    def derivatives(x):
        """Of s √(1 + u²) / k with u = k (x₁ - best)."""
        u = steepness * (x[0] - best)
        length = jnp.sqrt(1 + u * u)
        slope, curvature = scale * u / length, scale * steepness / length**3
        return jnp.array([slope, 0.0]), jnp.diag(jnp.array([curvature, 0.0]))

    found = jax.jit(lambda: minimize(derivatives, jnp.ones(2), jnp.ones(2, bool)))()
    np.testing.assert_allclose(found, [best, 1 - best], atol=1e-3)


def test_entries_that_are_not_free_do_not_matter():
    free = jnp.array([True, True, False])
    linear = jnp.array([-2.0, 1.0, -1e30])
    found = jax.jit(nonnegative_qp)(jnp.eye(3), linear, free)
    np.testing.assert_allclose(found, [2, 0, 0], rtol=1e-6)
