"""The equation of Nash-MTL and FairGrad, a fair allocation of the update among the tasks."""

import jax
import jax.numpy as jnp

from dbmtl_jax.core._types import Array, Float, Mask, PerTask, Scalar

_MAX_ITERATIONS = 60
_HALVINGS = 12


def fair_allocation(
    norms: PerTask,
    cosines: Float[Array, "T T"],
    shares: PerTask,
    exponent: Scalar,
    takes_part: Mask,
) -> PerTask:
    r"""The β > 0 with :math:`(C \beta)_t \, d_t = (u_t d_t / \beta_t)^{1/a}`, [T].

    With α = β/d that is :math:`(M \alpha)_t = (u_t / \alpha_t)^{1/a}`.  Solved for γ = β/β⁰, where β⁰
    is the solution for orthogonal gradients: there the equation is
    :math:`\sum_s \beta^0_s \beta^0_t C_{st} \gamma_s = (\beta^0_t)^2 \gamma_t^{-1/a}`, the slope of a
    strictly convex function, whose minimum Newton's method finds with a line search on the residual.

    Args:
      norms: d [T].
      cosines: C [T, T].
      shares: u [T].
      exponent: a > 0.
      takes_part: [T]; the others get β = 1.
    """
    size, dtype = len(norms), norms.dtype
    eps = jnp.finfo(dtype).eps
    both = takes_part[:, None] & takes_part[None, :]
    lengths = jnp.where(takes_part, norms, 1)
    # β⁰ in logarithms, and over its largest: norms of any size.
    power = 1 / exponent
    logs = (jnp.log(jnp.where(takes_part, shares, 1)) * power + (power - 1) * jnp.log(lengths)) / (
        1 + power
    )
    logs = logs.astype(dtype)
    largest = jnp.max(logs, where=takes_part, initial=-jnp.inf)
    largest = jnp.where(jnp.isfinite(largest), largest, 0)
    start = jnp.where(takes_part, jnp.exp(logs - largest), 1)
    # The ridge bounds β where a positive combination of the gradients vanishes.
    matrix = jnp.where(both, cosines, 0) + 4 * size * eps * jnp.eye(size, dtype=dtype)

    def residual(gamma: Array) -> Array:
        """Relative to the right side of each equation."""
        found = matrix @ (start * gamma) * gamma**power / start
        return jnp.where(takes_part, found - 1, 0)

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        _, error, count = carry
        return (error > 4 * eps) & (count < _MAX_ITERATIONS)

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        gamma, error, count = carry
        # In log γ, with each equation divided by its right side: its Jacobian.
        products = matrix * (start * gamma)[None, :] * (gamma**power / start)[:, None]
        now = residual(gamma)
        jacobian = products + jnp.diag(power * (1 + now))
        jacobian = jnp.where(both, jacobian, jnp.eye(size, dtype=dtype))
        change = jnp.clip(-jnp.linalg.solve(jacobian, now), -8, 8)
        factors = 0.5 ** jnp.arange(_HALVINGS, dtype=dtype)
        tried = gamma * jnp.exp(factors[:, None] * change[None, :])
        errors = jnp.max(jnp.abs(jax.vmap(residual)(tried)), axis=1)
        best = jnp.argmin(jnp.where(jnp.isfinite(errors), errors, jnp.inf))
        moved, found = tried[best], errors[best]
        better = found < error
        stopped = jnp.where(better, count + 1, _MAX_ITERATIONS)
        return jnp.where(better, moved, gamma), jnp.where(better, found, error), stopped

    gamma = jnp.ones((size,), dtype)
    error = jnp.max(jnp.abs(residual(gamma)))
    gamma, _, _ = jax.lax.while_loop(unfinished, step, (gamma, error, jnp.zeros((), jnp.int32)))
    return jnp.where(takes_part, jnp.exp(logs) * gamma, 1)
