"""Small convex problems over weights, solved on the device."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dbmtl_jax.core._types import Array, Bool, Float, Int, Scalar

_MAX_ITERATIONS = 40
_HALVINGS = 10


class _Iterate(NamedTuple):
    x: Float[Array, " n"]  # the weights, > 0
    z: Float[Array, " n"]  # the multipliers of x >= 0, > 0
    nu: Float[Array, ""]  # the multiplier of costs @ x = 1
    gap: Float[Array, ""]  # the mean of x z: how far from complementary
    iteration: Int[Array, ""]


def minimize(
    derivatives: Callable[[Array], tuple[Array, Array]],
    costs: Float[Array, " n"],
    free: Bool[Array, " n"],
    *,
    total: Scalar = 1.0,
) -> Float[Array, " n"]:
    r"""Minimises a convex f over :math:`\{x \ge 0,\; \textstyle\sum_i c_i x_i = \text{total}\}`.

    A primal-dual interior-point method with Mehrotra's predictor and corrector and a line search
    on the residual.  About ten iterations, each with one factorisation of an [n, n] matrix; unlike
    Frank-Wolfe or projected gradients that number hardly depends on how well the tasks are scaled.
    Of several solutions it finds the most central one, so that permuting the tasks permutes the
    solution.

    Args:
      derivatives: x [n] -> (gradient [n], Hessian [n, n]) of f, scaled so that they are of the
        order of one.
      costs: c [n], not negative, the largest of the order of one.
      free: [n] bool; the other entries of x are zero.
      total: what the costs sum to; 0 with costs of zero for no such condition.

    Returns:
      x, [n].

    Source: Boyd and Vandenberghe, Convex optimization, 2004, Section 11.7; Mehrotra, On the
    implementation of a primal-dual interior point method, SIAM J. Optim. 1992.
    """
    dtype, eps, size = costs.dtype, jnp.finfo(costs.dtype).eps, costs.shape[0]
    costs = jnp.where(free, costs, 0)
    number = jnp.maximum(jnp.sum(free), 1).astype(dtype)

    # An entry that is not free stands at one, with a row of the identity for an equation.
    def only_free(vector: Array) -> Array:
        return jnp.where(free, vector, 0)

    def slopes(x: Array) -> tuple[Array, Array]:
        gradient, hessian = derivatives(only_free(x))
        return only_free(gradient), jnp.where(free[:, None] & free[None, :], hessian, 0)

    def mean_gap(x: Array, z: Array) -> Array:
        return jnp.sum(only_free(x * z)) / number

    def longest(vector: Array, change: Array) -> Array:
        """The longest step that keeps a positive vector positive, one at most."""
        shrinks = free & (change < 0)
        return jnp.min(-vector / jnp.where(shrinks, change, -1), where=shrinks, initial=1)

    def residual(x: Array, z: Array, nu: Array, target: Array) -> Array:
        dual = only_free(slopes(x)[0] - z - nu * costs)
        centre = only_free(x * z) - only_free(target)
        primal = total - costs @ only_free(x)
        return jnp.sqrt(dual @ dual + centre @ centre + primal * primal)

    def step(now: _Iterate) -> _Iterate:
        x, z, nu, gap, iteration = now
        gradient, hessian = slopes(x)
        matrix = hessian + jnp.diag(jnp.where(free, z / x, 1))
        # Scaled to a unit diagonal; the ridge is of the size of the rounding errors.
        scale = jax.lax.rsqrt(jnp.diagonal(matrix))
        scaled = matrix * scale[:, None] * scale[None, :]
        factor = jax.scipy.linalg.cho_factor(scaled + 8 * size * eps * jnp.eye(size, dtype=dtype))

        def solve(vector: Array) -> Array:
            return scale * jax.scipy.linalg.cho_solve(factor, scale * vector)

        solved_costs = solve(costs)
        curvature = costs @ solved_costs
        dual = only_free(gradient - z - nu * costs)
        primal = total - costs @ only_free(x)

        def direction(target: Array) -> tuple[Array, Array, Array]:
            """Newton's step towards x z = target."""
            to_go = only_free(target - x * z)
            solved = solve(to_go / x - dual)
            dnu = (primal - costs @ solved) / jnp.where(curvature > 0, curvature, 1)
            dx = solved + dnu * solved_costs
            return dx, only_free((to_go - z * dx) / x), dnu

        dx, dz, _ = direction(jnp.zeros_like(x))
        length = jnp.minimum(longest(x, dx), longest(z, dz))
        centring = jnp.clip((mean_gap(x + length * dx, z + length * dz) / gap) ** 3, 0.01, 1)
        target = centring * gap - dx * dz
        dx, dz, dnu = direction(target)
        length = jnp.minimum(1, 0.99 * jnp.minimum(longest(x, dx), longest(z, dz)))

        lengths = length * 0.5 ** jnp.arange(_HALVINGS, dtype=dtype)
        centre = jnp.broadcast_to(centring * gap, x.shape)
        before = residual(x, z, nu, centre)
        after = jax.vmap(lambda a: residual(x + a * dx, z + a * dz, nu + a * dnu, centre))(lengths)
        descends = after <= (1 - 0.01 * lengths) * before
        length = lengths[jnp.where(jnp.any(descends), jnp.argmax(descends), jnp.argmin(after))]

        x, z, nu = x + length * dx, z + length * dz, nu + length * dnu
        new = _Iterate(x, z, nu, mean_gap(x, z), iteration + 1)
        finite = jnp.all(jnp.isfinite(x)) & jnp.all(jnp.isfinite(z)) & jnp.isfinite(nu)
        stopped = now._replace(iteration=jnp.full_like(iteration, _MAX_ITERATIONS))
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b).astype(b.dtype), new, stopped)

    def unfinished(now: _Iterate) -> Array:
        return (now.gap > eps) & (now.iteration < _MAX_ITERATIONS)

    sum_of_costs = jnp.sum(costs)
    x = jnp.where(free, 1 / jnp.where(sum_of_costs > 0, sum_of_costs, 1), 1)
    # The square root keeps z positive where the gradient is zero.
    z = jnp.where(free, jnp.max(jnp.abs(slopes(x)[0])) + jnp.sqrt(eps), 1)
    start = _Iterate(x, z, jnp.zeros((), dtype), mean_gap(x, z), jnp.zeros((), jnp.int32))
    return only_free(jax.lax.while_loop(unfinished, step, start).x)


def nonnegative_qp(
    matrix: Float[Array, "n n"], linear: Float[Array, " n"], free: Bool[Array, " n"]
) -> Float[Array, " n"]:
    """The s >= 0 with the smallest ½ sᵀAs + cᵀs.

    Args:
      matrix: A [n, n], positive semidefinite, with a diagonal of ones or so.
      linear: c [n].
      free: [n] bool; the other entries of s are zero.

    Returns:
      s, [n].
    """
    # s is proportional to c, and the tolerances are those of numbers about 1.
    scale = jnp.max(jnp.where(free, jnp.abs(linear), 0))
    scale = jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1)
    linear = linear / scale
    nothing = jnp.zeros_like(linear)
    found = minimize(lambda s: (matrix @ s + linear, matrix), nothing, free, total=0.0)

    # Which entries are positive is clear by now: their equations are solved exactly.
    size, eps = len(linear), jnp.finfo(linear.dtype).eps
    positive = free & (found > matrix @ found + linear)
    both = positive[:, None] & positive[None, :]
    equations = jnp.where(both, matrix, jnp.eye(size, dtype=matrix.dtype))
    factor = jax.scipy.linalg.cho_factor(equations)
    exact = jax.scipy.linalg.cho_solve(factor, jnp.where(positive, -linear, 0))
    slopes = matrix @ exact + linear
    tolerance = 16 * size * eps * (1 + jnp.max(jnp.abs(exact)))
    # Not where the matrix is singular, or an entry that is almost zero was taken for another.
    is_solution = jnp.all(jnp.isfinite(exact)) & jnp.all(exact >= 0)
    is_solution &= jnp.all(jnp.where(free, slopes, 0) >= -tolerance)
    return scale * jnp.where(is_solution, exact, found)
