"""What PCGrad and GradVac share: every task meets every other task in a random order.

They work on coefficients of the unit gradients u_j = g_j / ‖g_j‖, and need only their cosines.
"""

import jax
import jax.numpy as jnp

from dbmtl_jax.core._types import Array, Float, Int, PerTask


def random_orders(key: Array, num_tasks: int) -> Int[Array, "T T"]:
    """A random permutation of the tasks for each task."""
    permute = jax.vmap(lambda k: jax.random.permutation(k, num_tasks))
    return permute(jax.random.split(key, num_tasks))


def combine(norms: PerTask, coefficients: Float[Array, "T T"]) -> PerTask:
    """The weights [T] of Σ_i v_i = Σ_t w_t g_t, where v_i = ‖g_i‖ Σ_j b_ij u_j."""
    nonzero = norms > 0
    # Ratios of norms before the sum: they are in range where their product with 1/‖g_t‖ is not.
    ratios = norms[:, None] / jnp.where(nonzero, norms, 1)[None, :]
    return jnp.where(nonzero, jnp.sum(jnp.where(coefficients != 0, coefficients * ratios, 0), 0), 1)
