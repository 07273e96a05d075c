"""The equation of Nash-MTL and FairGrad: (M α)_t = (u_t / α_t)^{1/a}."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dbmtl_jax import testing
from dbmtl_jax.core._fair_allocation import fair_allocation


def at_angles(*degrees):
    """The cosines between vectors of the plane."""
    angles = np.deg2rad(degrees)
    return np.cos(angles[:, None] - angles[None])


@functools.lru_cache
def solver():
    return jax.jit(fair_allocation)


def solved(cosines, exponent, norms=None, shares=None):
    ones = jnp.ones(len(cosines))
    norms = ones if norms is None else jnp.asarray(norms)
    shares = ones if shares is None else jnp.asarray(shares)
    return np.asarray(solver()(norms, jnp.asarray(cosines), shares, exponent, norms > 0))


def residual(beta, cosines, exponent, norms, shares):
    return np.abs((cosines @ beta) * norms / (shares * norms / beta) ** (1 / exponent) - 1).max()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize(
    "cosines",
    [
        at_angles(0, 60, 100),
        # The first full step from β = 1 would leave the positive numbers.
        at_angles(120, 130, 130, 180, 230, 250),
        # β is 10⁴ and 10⁵ for a = 1.
        np.array([[1, 1e-8 - 1], [1e-8 - 1, 1]]),
        np.array([[1, 1e-10 - 1], [1e-10 - 1, 1]]),
    ],
    ids=["easy", "damped", "far", "very far"],
)
def test_it_is_solved_up_to_rounding(cosines, exponent):
    size = len(cosines)
    condition = np.linalg.cond(cosines) if size == 2 else 1
    beta = solved(cosines, exponent)
    assert (
        residual(beta, cosines, exponent, np.ones(size), np.ones(size)) <= 1e-11 * condition * size
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 5.0])
def test_norms_and_shares_of_any_size(exponent):
    """In float64: for a = 5 a β is 10⁻²³ of another, and for more float32 has no number."""
    cosines, shares = at_angles(0, 60, 100), np.array([1.0, 5.0, 0.2])
    for norms in ([1e-6, 1.0, 1e6], [3.0, 1e-6, 1e4]):
        beta = solved(cosines, exponent, norms, shares)
        # (C β)_t almost cancels here, which magnifies rounding errors and the ridge.
        assert residual(beta, cosines, exponent, np.array(norms), shares) < 1e-5


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 5.0])
def test_norms_a_hundred_times_apart_in_float32(exponent):
    cosines, shares = at_angles(0, 60, 100), np.array([1.0, 5.0, 0.2])
    beta = solved(cosines, exponent, [0.1, 1.0, 10.0], shares).astype(float)
    assert residual(beta, cosines, exponent, np.array([0.1, 1.0, 10.0]), shares) < 1e-4


@pytest.mark.parametrize("exponent", [0.5, 5.0])
@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_a_factor_of_all_norms_in_float32(factor, exponent):
    """M grows by c², so the sums of α do by c^(-2a/(1+a)), and β = α d by c^((1-a)/(1+a))."""
    norms = np.array([0.5, 1.0, 3.0])
    found, expected = (solved(at_angles(0, 60, 100), exponent, c * norms) for c in (factor, 1.0))
    scale = factor ** ((1 - exponent) / (1 + exponent))
    np.testing.assert_allclose(found / np.float64(scale), expected, rtol=1e-3)


def test_a_task_that_takes_no_part_leaves_the_smaller_problem():
    norms, shares = np.array([2.0, 0.0, 0.5]), np.array([1.0, 3.0, 5.0])
    whole = solved(at_angles(0, 60, 100), 2.0, norms, shares)
    expected = solved(at_angles(0, 100), 2.0, norms[::2], shares[::2])
    np.testing.assert_allclose(whole[::2], expected, rtol=1e-5)
    assert whole[1] == 1


def test_without_a_solution_it_is_bounded():
    """Opposite gradients: β² r = 1 with the ridge r; without it β would grow without bound."""
    beta = solved(np.array([[1.0, -1.0], [-1.0, 1.0]]), 1.0)
    ridge = 8 * np.finfo(np.float32).eps
    np.testing.assert_allclose(beta, 1 / np.sqrt(ridge), rtol=0.3)


@pytest.mark.parametrize("num_tasks", [1, 3, 11])
def test_hard_gradients_have_a_finite_answer(num_tasks):
    for kind, rows in testing.hard_gradients(num_tasks).items():
        norms = np.linalg.norm(np.float64(rows), axis=1)
        unit = rows / np.where(norms > 0, norms, 1)[:, None]
        for exponent in (0.5, 1.0, 5.0):
            beta = solved(unit @ unit.T, exponent, norms.astype(np.float32))
            assert np.all(np.isfinite(beta)), (kind, exponent)
            assert np.all(beta >= 0), (kind, exponent)
            np.testing.assert_array_equal(beta[norms == 0], 1)
