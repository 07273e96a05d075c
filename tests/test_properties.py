"""What every method promises, on gradients of every kind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import dbmtl_jax as dbmtl
from tests.helpers import properties, samplers
from tests.helpers.properties import Promises

TASKS = (1, 2, 3, 11)
PROMISES = {
    "ew": Promises(linear=True),
    "gls": Promises(linear=True),
    "rlw": Promises(equivariant=False, linear=True),
    "uw": Promises(linear=True),
    "dwa": Promises(linear=True),
    "imtl_l": Promises(linear=True),
    "igbv2": Promises(equivariant=False, linear=True),
    "mgda": Promises(),
    "grad_norm": Promises(linear=True),
    "pcgrad": Promises(equivariant=False, linear=True),
    "grad_drop": Promises(equivariant=False),
    "grad_vac": Promises(equivariant=False, linear=True),
    "imtl_g": Promises(),
    "cagrad": Promises(),
    "mtadam": Promises(equivariant=False, degree=0.0),
    "nash_mtl": Promises(degree=0.0),
    "meta_balance": Promises(equivariant=False),
    "moco": Promises(degree=None),
    "aligned_mtl": Promises(),
    "imtl": Promises(),
    "db_mtl": Promises(),
}
"""Of a first step, when all that a method learns or averages is where it starts."""


@functools.cache
def build(name, num_tasks, **options):
    """The first update [P] of a fresh instance, compiled once."""
    tx = samplers.METHODS[name](num_tasks, **options)
    params = jax.tree.map(jnp.zeros, samplers.MATRIX_SHAPES, is_leaf=samplers.is_shape)
    state = tx.init(params)
    jitted = jax.jit(lambda grads, losses: tx.update(grads, state, params, losses=losses))

    def update(gradients, losses=None):
        losses = np.ones(num_tasks) if losses is None else losses
        merged, new_state = jitted(samplers.unflatten(gradients), jnp.asarray(losses, jnp.float32))
        update.state = new_state
        # The order of the leaves is that of a dict: bias before kernel.
        return np.concatenate([np.ravel(merged["kernel"]), merged["bias"]]).astype(np.float64)

    return update


def test_every_method_says_what_it_promises():
    assert set(PROMISES) == set(dbmtl.METHODS)


@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize("name", PROMISES)
def test_finite_for_every_kind_of_gradients(name, num_tasks):
    update = build(name, num_tasks)
    for kind, gradients in samplers.matrices(num_tasks).items():
        result = update(gradients)
        assert result.shape == (16,)
        assert np.all(np.isfinite(result)), kind
        for leaf in jax.tree.leaves(update.state):
            assert np.all(np.isfinite(leaf)), kind
        if kind == "zero":
            np.testing.assert_array_equal(result, 0)


@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize("name", PROMISES)
def test_symmetry_and_scaling(name, num_tasks):
    update, promises = build(name, num_tasks), PROMISES[name]
    losses = np.random.default_rng(3).uniform(0.3, 3, num_tasks)
    kinds = samplers.matrices(num_tasks)
    for kind in ("full rank", "collinear"):
        if promises.equivariant:
            properties.assert_permutation_equivariant(update, kinds[kind], losses, 1e-4)
    if promises.linear:
        properties.assert_linear_under_scaling(update, kinds["full rank"], losses, 1e-4)
    if promises.degree is not None:
        properties.assert_homogeneous(update, kinds["full rank"], losses, promises.degree, 1e-4)


@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize(
    ("name", "options"),
    [("mgda", {}), ("cagrad", {"c": 1.0}), ("cagrad", {"c": 1.5}), ("nash_mtl", {})],
)
def test_non_conflicting(name, options, num_tasks):
    update = build(name, num_tasks, **options)
    for seed in range(3):
        for gradients in samplers.matrices(num_tasks, seed).values():
            if name == "nash_mtl" and vanishes(gradients):
                continue  # a direction of rounding errors, clipped to the norm 1
            properties.assert_non_conflicting(update, gradients, 2e-3)


def vanishes(gradients):
    """Whether some convex combination is zero, by SciPy's non-negative least squares."""
    size = np.linalg.norm(gradients, axis=1).max() or 1.0
    rows = np.vstack([gradients.T / size, np.ones(len(gradients))])
    _, distance = scipy.optimize.nnls(rows, np.append(np.zeros(rows.shape[0] - 1), 1.0))
    return distance < 1e-6


@pytest.mark.parametrize("num_tasks", TASKS)
def test_mgda_vanishes_where_nothing_improves_all_tasks(num_tasks):
    kinds = samplers.matrices(num_tasks)
    for kind in {"opposite", "Pareto-stationary", "a zero row", "zero"} & set(kinds):
        update = build("mgda", num_tasks)(kinds[kind])
        assert np.linalg.norm(update) <= 1e-4 * np.linalg.norm(kinds[kind]), kind


@pytest.mark.parametrize("num_tasks", TASKS)
def test_imtl_g_has_equal_projections_and_weights_that_sum_to_one(num_tasks):
    update = build("imtl_g", num_tasks)
    for kind in ("full rank", "one scale each", "tiny", "huge", "collinear"):
        gradients = samplers.matrices(num_tasks)[kind]
        properties.assert_equal_projections(update, gradients, 1e-3)
        weights = np.asarray(optax.tree.get(update.state, "weights"), np.float64)
        np.testing.assert_allclose(weights.sum(), 1, atol=1e-4 * np.abs(weights).sum())


@pytest.mark.parametrize("num_tasks", TASKS)
def test_nash_mtl_solves_its_equation_at_every_scale(num_tasks):
    """M α = 1/α; hence ‖Σ α g‖ = √T before the clip, also for T = 1 and scales of 1e±15."""
    update = build("nash_mtl", num_tasks, max_norm=0)
    for kind in ("full rank", "one scale each", "tiny", "huge", "collinear"):
        gradients = samplers.matrices(num_tasks)[kind]
        result = update(gradients)
        np.testing.assert_allclose(np.linalg.norm(result), np.sqrt(num_tasks), rtol=1e-4)
        alpha = np.asarray(optax.tree.get(update.state, "alpha"), np.float64)
        np.testing.assert_allclose(alpha * (gradients @ result), 1, rtol=2e-3, err_msg=kind)
    clipped = build("nash_mtl", num_tasks, max_norm=0.25)(samplers.matrices(num_tasks)["huge"])
    np.testing.assert_allclose(np.linalg.norm(clipped), 0.25, rtol=1e-4)


@pytest.mark.parametrize("num_tasks", TASKS)
def test_aligned_mtl_gives_orthogonal_gradients_of_one_length(num_tasks):
    """Its update is σ times the sum of the rows of the orthogonal polar factor of G."""
    gradients = samplers.matrices(num_tasks)["full rank"]
    left, singular, right = np.linalg.svd(gradients, full_matrices=False)
    expected = singular[-1] * np.sum(left @ right, axis=0)
    np.testing.assert_allclose(build("aligned_mtl", num_tasks)(gradients), expected, atol=1e-4)
