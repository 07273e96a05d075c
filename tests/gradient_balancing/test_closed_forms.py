"""What each method must find: closed forms, optima and identities."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from dbmtl_jax.core import _simplex
from dbmtl_jax.gradient_balancing._grad_drop import keep_signs
from dbmtl_jax.gradient_balancing._grad_vac import vaccinate
from dbmtl_jax.gradient_balancing._pairwise import combine
from dbmtl_jax.gradient_balancing._pcgrad import project_conflicts


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("num_tasks", [2, 3, 11])
def test_mgda_finds_the_point_of_smallest_norm(num_tasks):
    """By SciPy's non-negative least squares: min ‖Gᵀw‖² + (1 - Σ w)² over w >= 0, then Σ w = 1."""
    update = jax.jit(lambda g: dbmtl.mgda(num_tasks).update(g, dbmtl.mgda(num_tasks).init(g[0]))[0])
    for kind, gradients in testing.hard_gradients(num_tasks).items():
        size = np.linalg.norm(gradients, axis=1).max()
        if size == 0:
            continue
        scaled = gradients / size
        rows = np.vstack([scaled.T, np.ones(num_tasks)])
        weights, _ = scipy.optimize.nnls(rows, np.append(np.zeros(scaled.shape[1]), 1.0))
        expected = np.linalg.norm(weights / weights.sum() @ scaled)
        ours = np.linalg.norm(update(jnp.asarray(gradients))) / size
        assert ours <= expected + 1e-8, kind


def test_mgda_normalizes_no_zero_gradient():
    """It is the point of smallest norm, and gets all the weight."""
    tx = dbmtl.mgda(2, normalization="l2")
    update, state = tx.update(jnp.array([[3.0, 4.0], [0.0, 0.0]]), tx.init(jnp.zeros(2)))
    np.testing.assert_array_equal(update, 0)
    np.testing.assert_allclose(state.weights, [0, 1], atol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("c", [0.4, 1.0])
@pytest.mark.parametrize("num_tasks", [2, 3, 11])
def test_cagrad_finds_the_best_direction_for_the_worst_task(num_tasks, c):
    """SciPy finds no better one by local search from ours, and the ball is kept."""
    tx = dbmtl.cagrad(num_tasks, c=c, rescale=0)
    rng = np.random.default_rng(0)
    for kind in ("full rank", "rank deficient", "one scale each"):
        gradients = testing.hard_gradients(num_tasks)[kind]
        g = jnp.asarray(gradients)
        d = np.asarray(tx.update(g, tx.init(g[0]))[0])
        mean = gradients.mean(axis=0)
        radius = c * np.linalg.norm(mean)
        assert np.linalg.norm(d - mean) <= radius * (1 + 1e-6)
        worst = np.min(gradients @ d)
        scale = np.linalg.norm(gradients, axis=1).max() * np.linalg.norm(mean)
        for _ in range(200):
            other = d + rng.normal(size=d.shape) * radius * 10.0 ** rng.uniform(-6, 0)
            step = other - mean
            other = mean + step * min(1, radius / np.linalg.norm(step))
            assert np.min(gradients @ other) <= worst + 1e-6 * scale, kind


def test_a_simplex_of_no_task_is_empty():
    none = jnp.zeros(3, bool)
    np.testing.assert_array_equal(_simplex.mean_weights(none), 0)
    np.testing.assert_array_equal(_simplex.project(jnp.ones(3), none), 0)


@settings(max_examples=50)
@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=6), st.integers(0, 63))
def test_simplex_projection_is_the_nearest_point(values, mask):
    """By its optimality condition: x = max(v - θ, 0) with one θ, and x sums to one."""
    present = np.array([bool(mask >> t & 1) for t in range(len(values))])
    point = np.asarray(_simplex.project(jnp.array(values, jnp.float32), jnp.array(present)))
    assert np.all(point[~present] == 0)
    assert np.all(point >= 0)
    if present.any():
        np.testing.assert_allclose(point.sum(), 1, rtol=1e-4)
        shift = (np.array(values) - point)[point > 0]
        np.testing.assert_allclose(shift, shift[0], atol=1e-4)
        assert np.all(np.array(values)[present & (point == 0)] <= shift[0] + 1e-4)


def test_aligned_mtl_leaves_out_small_eigenvalues():
    """Below 3 · 2⁻²³ = 3.6e-7 of the largest they count as zero."""
    for small, expected in ((2e-7, [1, 1, 0]), (1e-6, [1e-3, 1e-3, 1])):
        weights = dbmtl.aligned_mtl_weights(jnp.diag(jnp.array([1.0, 1.0, small])))
        np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-7)


def test_con_fig_leaves_out_what_is_rounded():
    """An eigenvalue below 2 · 2 · 2⁻²³ of the largest, and along others rounding errors."""
    close = 1 - 5 * 2.0**-24
    matrix = jnp.array([[1.0, close], [close, 1.0]])
    weights = dbmtl.con_fig_weights(matrix, preference=[3.0, 1.0])
    np.testing.assert_allclose(weights, 1, rtol=1e-5)
    # Of two gradients that are almost equal neither is preferred.
    for seed in range(3):
        rows = np.random.default_rng(seed).normal(size=(4, 6))
        units = rows[[0, 0, 1, 2, 3]] / np.linalg.norm(rows[[0, 0, 1, 2, 3]], axis=1)[:, None]
        cosines = units @ units.T
        cosines[0, 1] = cosines[1, 0] = 1 - 3e-6
        first, second, *_ = dbmtl.con_fig_weights(jnp.asarray(cosines, jnp.float32))
        np.testing.assert_allclose(first, second, rtol=1e-4)


def test_magnitudes_have_an_epsilon():
    grads = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    tx = dbmtl.balance_magnitudes(2, eps=0.5)
    _, state = tx.update(grads, tx.init(jnp.zeros(2)))
    np.testing.assert_allclose(state.weights, [5 / 5.5, 5 / 0.5], rtol=1e-6)


def test_cagrad_rescales_also_by_name():
    matrix = jnp.array([[1.0, -0.4], [-0.4, 2.0]])
    plain = dbmtl.cagrad_weights(matrix, c=0.5, rescale=0)
    for name, divisor in (("none", 1), ("paper", 1.25), ("sum", 1.5)):
        found = dbmtl.cagrad_weights(matrix, c=0.5, rescale=name)
        np.testing.assert_allclose(found, plain / divisor, rtol=1e-5)


def test_grad_drop_leaves_absent_tasks_out():
    grads = jnp.array([[3.0, 2.0], [5.0, -7.0]])
    tx = dbmtl.grad_drop(2)
    update, _ = tx.update(grads, tx.init(grads[0]), task_mask=jnp.array([True, False]))
    np.testing.assert_array_equal(update, grads[0])


def test_grad_drop_drops_both_signs_at_the_edge():
    rows = jnp.array([[1.0], [-1.0]])  # P is 1/2
    for uniform, expected in ((0.5, [False, False]), (0.4, [True, False]), (0.6, [False, True])):
        np.testing.assert_array_equal(keep_signs(rows, jnp.array([uniform]))[:, 0], expected)


def test_grad_vac_keeps_the_averages_of_pairs_with_an_absent_task():
    """Opposite gradients leave nothing of the first one, which then meets the third."""
    units = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    orders = jnp.array([[0, 1, 2]] * 3)
    before = jnp.array([[0.0, 0.1, 0.2], [0.3, 0.0, 0.4], [0.5, 0.6, 0.0]])
    cosines = jnp.asarray(units @ units.T, jnp.float32)
    assert np.all(np.isfinite(vaccinate(cosines, jnp.zeros((3, 3)), orders, 0.5)[1]))
    units[1] = 0
    cosines = jnp.asarray(units @ units.T, jnp.float32)
    _, targets = vaccinate(cosines, before.astype(jnp.float16), orders, 0.5)
    moved = np.asarray(before) != np.asarray(targets, np.float32).round(3)
    np.testing.assert_array_equal(moved, [[False, False, True], [False] * 3, [True, False, False]])


def test_pcgrad_projects_no_gradient_onto_its_own_normal():
    """Two projections may turn it by more than 90 degrees, and it still does not meet itself."""
    angles = np.radians([0.0, 100.0, 185.0])
    units = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    orders = np.array([[1, 2, 0], [2, 0, 1], [0, 1, 2]])
    found = project_conflicts(jnp.asarray(units @ units.T, jnp.float32), jnp.asarray(orders))
    expected = units.copy()
    for i, order in enumerate(orders):
        for j in order[order != i]:
            expected[i] -= min(expected[i] @ units[j], 0) * units[j]
    assert expected[0] @ units[0] < 0
    np.testing.assert_allclose(found @ units, expected, atol=1e-6)


def test_grad_vac_averages_cosines_with_its_beta():
    tx = dbmtl.grad_vac(2, beta=0.25)
    grads = jnp.array([[2.0, 0.0], [0.6, 0.8]])
    _, state = tx.update(grads, tx.init(grads[0]))
    np.testing.assert_allclose(state.aggregator.targets, [[0, 0.15], [0.15, 0]], rtol=1e-6)


def test_pairwise_weights_of_norms_far_apart_and_zero():
    weights = combine(jnp.array([1e30, 1e-30, 0.0]), jnp.eye(3))
    np.testing.assert_array_equal(weights, 1)


def test_imtl_g_vanishes_only_where_the_weights_cannot_sum_to_one():
    # Almost opposite, of almost one norm; and two equal gradients beside one of zero.
    for rows in ([1.0, -1.0022], [1e-8, 1e-8, 0.0]):
        weights = dbmtl.imtl_g_weights(jnp.outer(jnp.array(rows), jnp.array(rows)))
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-2)
    # The third gradient lies between the others: (C⁻¹ 1) is negative for it.
    units = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 0.0, 0.5]])
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    solved = np.linalg.solve(units @ units.T, np.ones(3))
    assert solved[2] < 0
    rows = units / np.array([[1], [1], [-solved[:2].sum() / solved[2]]])
    weights = dbmtl.imtl_g_weights(jnp.asarray(rows @ rows.T, jnp.float32))
    np.testing.assert_array_equal(weights, 0)


def test_grad_vac_per_leaf_is_grad_vac_on_every_leaf():
    grads = testing.sample_task_grads(2)  # of two tasks: the order does not matter
    params = testing.sample_params()
    tx = dbmtl.grad_vac(2, per_leaf=True)
    merged, _ = tx.update(grads, tx.init(params), params)
    alone = dbmtl.grad_vac(2)
    for leaf, update in zip(jax.tree.leaves(grads), jax.tree.leaves(merged), strict=True):
        expected, _ = alone.update(leaf, alone.init(leaf[0]))
        np.testing.assert_allclose(update, expected, rtol=1e-5)


def test_random_methods_draw_anew_and_reproducibly():
    for factory in (dbmtl.pcgrad, dbmtl.grad_vac, dbmtl.grad_drop):

        def updates(seed, factory=factory):
            tx = factory(6, seed=seed)
            update = jax.jit(tx.update)
            grads = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)
            state, rows = tx.init(grads[0]), []
            for _ in range(4):
                merged, state = update(grads, state)
                rows.append(merged)
            return np.array(rows)

        first = updates(0)
        np.testing.assert_array_equal(first, updates(0))
        assert len(np.unique(first.round(5), axis=0)) > 1
        assert np.any(first != updates(1))


def test_grad_drop_keeps_the_likelier_sign_as_often_as_it_should():
    tx = dbmtl.grad_drop(2)
    grads = jnp.stack([jnp.full(20_000, 3.0), jnp.full(20_000, -1.0)])
    merged, _ = tx.update(grads, tx.init(grads[0]))
    assert set(np.unique(merged)) == {-1.0, 3.0}
    assert np.mean(np.asarray(merged) == 3) == pytest.approx(0.75, abs=0.01)
    everything, _ = (leaky := dbmtl.grad_drop(2, leak=1.0)).update(grads, leaky.init(grads[0]))
    np.testing.assert_allclose(everything, 2.0, rtol=1e-6)


def test_a_chain_with_the_logarithm_is_the_method_on_the_logarithms():
    """Figure 1: log before PCGrad, GradVac, IMTL-G, CAGrad, Nash-MTL, Aligned-MTL."""
    params = testing.sample_params()
    grads, losses = testing.sample_task_grads(2, 4), testing.sample_losses(2, 4)
    logs = jax.tree.map(lambda g: g / losses.reshape(-1, *[1] * (g.ndim - 1)), grads)
    for name in ("pcgrad", "grad_vac", "imtl_g", "cagrad", "nash_mtl", "aligned_mtl"):
        method = dbmtl.METHODS[name](2)
        chain = optax.chain(dbmtl.scale_by_log_loss(2), method)
        got, _ = chain.update(grads, chain.init(params), params, losses=losses)
        expected, _ = method.update(logs, method.init(params), params)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
