"""PCD against a quadratic and a linear programme of SciPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import dbmtl_jax as dbmtl

DTYPES = [jnp.float32, jnp.float64]
TAU = 0.02


def rows(kind, num_tasks, seed):
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(num_tasks, 6))
    if kind == "opposite":
        found[2] = -rng.uniform(0.1, 3) * found[1]
    if kind == "spanning":  # some positive combination of the secondary tasks is zero
        found[-1] = -rng.uniform(0.2, 1, num_tasks - 2) @ found[1:-1]
    return found


def solution(grads, tau=TAU):
    """The update, or None if no direction meets the conditions."""
    norms = np.linalg.norm(grads, axis=1)
    units = grads / norms[:, None]  # ε is nothing here
    first, others = units[0], units[1:]
    low = np.full(len(others), tau)
    feasible = scipy.optimize.linprog(
        np.zeros(grads.shape[1]), A_ub=-others, b_ub=-low, bounds=(None, None)
    )
    if feasible.status != 0:
        return None
    matrix, linear = others @ others.T, others @ first - low
    # min ½ xᵀAx + cᵀx over x ≥ 0 as a problem of least squares.
    root = np.linalg.cholesky(matrix + 1e-14 * np.eye(len(matrix)))
    x, _ = scipy.optimize.nnls(root.T, -np.linalg.solve(root, linear))
    d = first + x @ others
    return d * norms[0] / np.linalg.norm(d)


@functools.cache
def step(num_tasks, dtype, tau):
    """One compiled update of the first step for all seeds."""
    tx = dbmtl.pcd(num_tasks, tau=tau)
    return jax.jit(lambda grads: tx.update(grads, tx.init(grads[0]))[0])


def updated(grads, dtype, tau=TAU):
    with jax.enable_x64(dtype == jnp.float64):
        found = step(len(grads), dtype, tau)(jnp.asarray(grads, dtype))
        return np.asarray(found, np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_tasks", "tau"), [(2, TAU), (3, TAU), (5, TAU), (3, 0.0)])
def test_it_is_the_nearest_direction(num_tasks, tau, dtype):
    """With τ = 0 a condition that holds as an equation is met up to rounding."""
    for seed in range(40):
        grads = rows("any", num_tasks, seed)
        expected = solution(grads, tau)
        assert expected is not None
        np.testing.assert_allclose(
            updated(grads, dtype, tau), expected, atol=2e-3 if dtype == jnp.float32 else 1e-6
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "num_tasks"), [("opposite", 3), ("spanning", 4), ("spanning", 6)])
def test_without_a_direction_it_is_the_primary_gradient(kind, num_tasks, dtype):
    for seed in range(100):
        grads = rows(kind, num_tasks, seed)
        np.testing.assert_allclose(updated(grads, dtype), grads[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "tau"), [(1e-6, TAU), (1e-4, TAU), (1.0, 5e-4)])
def test_conditions_are_each_tasks_own(size, tau):
    grads = np.array([[1.0, 1, 0], [size, 0, 0], [-size, 0, 0]])
    np.testing.assert_allclose(updated(grads, jnp.float32, tau), grads[0], rtol=1e-5)


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e-6, 1e9, 1e15])
def test_gradients_of_any_size(size):
    grads = rows("any", 3, 1)
    lengths = np.linalg.norm(grads, axis=1) * size
    found = updated(grads * size, jnp.float32)
    if size >= 1:
        np.testing.assert_allclose(found, solution(grads) * size, atol=2e-3 * lengths[0])
    # ⟨s g_j, d⟩ ≥ τ ‖s g_j‖²: nothing conflicts.
    assert np.all(grads[1:] @ found >= 0)
    np.testing.assert_allclose(np.linalg.norm(found), lengths[0], rtol=1e-3)


def test_a_secondary_task_without_a_gradient_asks_for_nothing():
    for seed in range(3):
        grads = rows("any", 3, seed)
        grads[2] = 0
        found, expected = updated(grads, jnp.float32), updated(grads[:2], jnp.float32)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_primary_gradient_that_has_become_short_still_minds_the_others():
    tx = dbmtl.pcd(2)
    _, state = tx.update(jnp.array([[1e3, 0.0], [0.0, 1.0]]), tx.init(jnp.zeros(2)))
    grads = jnp.array([[1.0, 0.0], [-0.6, 0.8]])
    found, _ = tx.update(grads, state)
    assert grads[1] @ found > 0
    np.testing.assert_allclose(np.linalg.norm(found), 1, rtol=1e-5)


def test_tau_by_name():
    grads = {"w": jnp.asarray(rows("any", 3, 0))}
    for tau in ({"b": 0.1, "c": 0.3}, [0.1, 0.3]):
        tx = dbmtl.pcd(("c", "a", "b"), tau=tau)
        found, _ = tx.update(grads, tx.init({"w": grads["w"][0]}))
        unnamed = dbmtl.pcd(3, tau=[0.1, 0.3])
        expected, _ = unnamed.update(grads, unnamed.init({"w": grads["w"][0]}))
        np.testing.assert_array_equal(found["w"], expected["w"])
    with pytest.raises(ValueError, match="tau: expected the tasks b, c: missing 'c'; unknown 'a'"):
        dbmtl.pcd(("a", "b", "c"), tau={"a": 0.1, "b": 0.1})
    with pytest.raises(TypeError, match="tau: expected a number, or one for each of 2 tasks"):
        dbmtl.pcd(3, tau=[[0.1], [0.2, 0.3]])
