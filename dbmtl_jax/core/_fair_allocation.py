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

    With α = β/d that is :math:`(M \alpha)_t = (u_t / \alpha_t)^{1/a}`.  Solved for γ = β/β⁰, where
    β⁰ is the solution for orthogonal gradients: there the equation is
    :math:`\sum_s \beta^0_s \beta^0_t C_{st} \gamma_s = (\beta^0_t)^2 \gamma_t^{-1/a}`, the slope of
    a strictly convex function, whose minimum Newton's method finds with a line search.

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

    def slope_of(gamma: Array) -> tuple[Array, Array]:
        """The gradient, and the part of the Hessian that is diagonal."""
        price = start**2 * gamma**-power
        gradient = start * (matrix @ (start * gamma)) - price
        return jnp.where(takes_part, gradient, 0), power * price / gamma

    def objective(gamma: Array) -> Array:
        beta = start * gamma
        exponent_of = 1 - power
        near_log = jnp.abs(exponent_of) < 1e-6
        divisor = jnp.where(near_log, 1, exponent_of)
        utility = jnp.where(near_log, jnp.log(gamma), (gamma**divisor - 1) / divisor)
        return beta @ matrix @ beta / 2 - jnp.sum(start**2 * utility, where=takes_part)

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        _, decrement, count = carry
        return (decrement > 4 * eps) & (count < _MAX_ITERATIONS)

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        gamma, _, count = carry
        gradient, diagonal = slope_of(gamma)
        hessian = start[:, None] * matrix * start[None, :] + jnp.diag(diagonal)
        hessian = jnp.where(both, hessian, jnp.eye(size, dtype=dtype))
        scale = jax.lax.rsqrt(jnp.diagonal(hessian))
        scaled = scale[:, None] * hessian * scale[None, :]
        factor = jax.scipy.linalg.cho_factor(scaled)
        change = -scale * jax.scipy.linalg.cho_solve(factor, scale * gradient)
        # Relative changes: near the solution they are the error.
        decrement = jnp.max(jnp.abs(change / gamma))
        shrinks = change < 0
        longest = jnp.min(-gamma / jnp.where(shrinks, change, -1), where=shrinks, initial=jnp.inf)
        lengths = jnp.minimum(1, 0.95 * longest) * 0.5 ** jnp.arange(_HALVINGS, dtype=dtype)
        values = jax.vmap(lambda length: objective(gamma + length * change))(lengths)
        best = jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))
        # There differences of the objective are rounding errors.
        length = jnp.where(decrement < 0.1, 1, lengths[best])
        moved = gamma + length * change
        finite = jnp.all(jnp.isfinite(moved)) & jnp.all(moved > 0)
        return (
            jnp.where(finite, moved, gamma).astype(dtype),
            jnp.where(finite, decrement, 0).astype(dtype),
            count + 1,
        )

    first = jnp.ones((size,), dtype), jnp.full((), jnp.inf, dtype), jnp.zeros((), jnp.int32)
    gamma, _, _ = jax.lax.while_loop(unfinished, step, first)
    return jnp.where(takes_part, jnp.exp(logs) * gamma, 1)
