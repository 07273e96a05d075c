"""What every method promises, on gradients of every kind."""

import jax
import numpy as np
import optax
import pytest
import scipy.optimize

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from tests.helpers.samplers import METHODS

TASKS = (1, 2, 3, 11)


@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize("name", dbmtl.PROPERTIES)
def test_finite_for_every_kind_of_gradients(name, num_tasks):
    update = testing.first_update(METHODS[name], num_tasks)
    for kind, gradients in testing.hard_gradients(num_tasks).items():
        result = update(gradients)
        assert result.shape == (16,)
        assert np.all(np.isfinite(result)), kind
        for leaf in jax.tree.leaves(update.state):
            assert np.all(np.isfinite(leaf)), kind
        if kind == "zero":
            np.testing.assert_array_equal(result, 0)


@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize("name", dbmtl.PROPERTIES)
def test_symmetry_and_scaling(name, num_tasks):
    factory, promises = METHODS[name], dbmtl.PROPERTIES[name]
    if promises.permutation_equivariant:
        testing.assert_permutation_equivariant(factory, num_tasks, kinds=["full rank", "collinear"])
    if promises.linear_under_scaling:
        testing.assert_linear_under_scaling(factory, num_tasks)
    if promises.scale_invariant:
        testing.assert_scale_invariant(factory, num_tasks)
    if promises.degree is not None:
        testing.assert_homogeneous(factory, num_tasks, degree=promises.degree)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (dbmtl.meta_balance, testing.assert_permutation_equivariant),
        (dbmtl.mgda, testing.assert_linear_under_scaling),
        (dbmtl.nash_mtl, testing.assert_homogeneous),
        (dbmtl.ew, testing.assert_scale_invariant),
        (dbmtl.ew, testing.assert_non_conflicting),
        (dbmtl.ew, testing.assert_equal_projections),
    ],
)
def test_asserts_fail_where_a_promise_is_not_kept(broken, check):
    with pytest.raises(AssertionError, match="gradients"):
        check(broken)


def cagrad_1(num_tasks):
    return dbmtl.cagrad(num_tasks, c=1.0)


def cagrad_2(num_tasks):
    return dbmtl.cagrad(num_tasks, c=1.5)


NON_CONFLICTING = [f for n, f in METHODS.items() if dbmtl.PROPERTIES[n].non_conflicting]


@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize("factory", [*NON_CONFLICTING, cagrad_1, cagrad_2])
def test_non_conflicting(factory, num_tasks):
    for seed in range(3):
        kinds = [
            kind
            for kind, gradients in testing.hard_gradients(num_tasks, seed).items()
            # The direction of these is then one of rounding errors.
            if not (factory in (dbmtl.nash_mtl, dbmtl.fair_grad) and vanishes(gradients))
        ]
        testing.assert_non_conflicting(factory, num_tasks, kinds=kinds, seed=seed)


def vanishes(gradients):
    """Whether some convex combination is zero, by SciPy's non-negative least squares."""
    size = np.linalg.norm(gradients, axis=1).max() or 1.0
    rows = np.vstack([gradients.T / size, np.ones(len(gradients))])
    _, distance = scipy.optimize.nnls(rows, np.append(np.zeros(rows.shape[0] - 1), 1.0))
    return distance < 1e-6


@pytest.mark.parametrize("num_tasks", TASKS)
def test_mgda_vanishes_where_nothing_improves_all_tasks(num_tasks):
    kinds = testing.hard_gradients(num_tasks)
    for kind in {"opposite", "Pareto-stationary", "a zero row", "zero"} & set(kinds):
        update = testing.first_update(dbmtl.mgda, num_tasks)(kinds[kind])
        assert np.linalg.norm(update) <= 1e-4 * np.linalg.norm(kinds[kind]), kind


@pytest.mark.parametrize("num_tasks", TASKS)
def test_imtl_g_has_equal_projections_and_weights_that_sum_to_one(num_tasks):
    kinds = ("full rank", "one scale each", "tiny", "huge", "collinear")
    testing.assert_equal_projections(dbmtl.imtl_g, num_tasks, kinds=kinds)
    update = testing.first_update(dbmtl.imtl_g, num_tasks)
    for kind in kinds:
        update(testing.hard_gradients(num_tasks)[kind])
        weights = np.asarray(dbmtl.diagnostics(update.state).weights, np.float64)
        np.testing.assert_allclose(weights.sum(), 1, atol=1e-4 * np.abs(weights).sum())


def unclipped(num_tasks):
    return dbmtl.nash_mtl(num_tasks, max_norm=None)


def clipped(num_tasks):
    return dbmtl.nash_mtl(num_tasks, max_norm=0.25)


@pytest.mark.parametrize("num_tasks", TASKS)
def test_nash_mtl_solves_its_equation_at_every_scale(num_tasks):
    """M α = 1/α; hence ‖Σ α g‖ = √T before the clip, also for T = 1 and scales of 1e±15."""
    update = testing.first_update(unclipped, num_tasks)
    for kind in ("full rank", "one scale each", "tiny", "huge", "collinear"):
        gradients = testing.hard_gradients(num_tasks)[kind]
        result = update(gradients)
        np.testing.assert_allclose(np.linalg.norm(result), np.sqrt(num_tasks), rtol=1e-4)
        alpha = np.asarray(optax.tree.get(update.state, "alpha"), np.float64)
        np.testing.assert_allclose(alpha * (gradients @ result), 1, rtol=2e-3, err_msg=kind)
    short = testing.first_update(clipped, num_tasks)(testing.hard_gradients(num_tasks)["huge"])
    np.testing.assert_allclose(np.linalg.norm(short), 0.25, rtol=1e-4)


@pytest.mark.parametrize("num_tasks", TASKS)
def test_aligned_mtl_gives_orthogonal_gradients_of_one_length(num_tasks):
    """Its update is σ times the sum of the rows of the orthogonal polar factor of G."""
    gradients = testing.hard_gradients(num_tasks)["full rank"]
    left, singular, right = np.linalg.svd(gradients, full_matrices=False)
    expected = singular[-1] * np.sum(left @ right, axis=0)
    found = testing.first_update(dbmtl.aligned_mtl, num_tasks)(gradients)
    np.testing.assert_allclose(found, expected, atol=1e-4)
