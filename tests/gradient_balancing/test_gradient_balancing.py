"""The gradient-balancing methods against the reference implementations and closed forms."""

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
from dbmtl_jax.gradient_balancing._nash_mtl import bargain
from dbmtl_jax.gradient_balancing._pairwise import combine
from dbmtl_jax.gradient_balancing._pcgrad import project_conflicts
from tests.helpers import oracles, samplers

SGD = optax.sgd(0.1)  # how the recorded runs update the learnt parameters
GOLDEN = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])

# case: (method, relative tolerance, how many times the recorded update ours is)
CASES = {
    "libmtl/IMTL": (lambda T: dbmtl.imtl(T, weight_optimizer=SGD), 1e-9, 1),
    "libmtl/GradNorm": (lambda T: dbmtl.grad_norm(T, weight_optimizer=SGD), 1e-13, 1),
    "libmtl/MoCo": (
        lambda T: dbmtl.moco(T, normalize=True, projection="softmax"),
        1e-13,
        1,
    ),
    "libmtl/Aligned_MTL": (dbmtl.aligned_mtl, 1e-9, 1),
    "torchjd/IMTLG": (dbmtl.imtl_g, 1e-9, 1),
    # TorchJD's preference is 1/T, ours 1.
    "torchjd/AlignedMTL": (dbmtl.aligned_mtl, 1e-9, "T"),
    "torchjd/AlignedMTL_median": (lambda T: dbmtl.aligned_mtl(T, scale="median"), 1e-9, "T"),
    "torchjd/AlignedMTL_rmse": (lambda T: dbmtl.aligned_mtl(T, scale="rmse"), 1e-9, "T"),
    "torchjd/CAGrad_c0.5": (lambda T: dbmtl.cagrad(T, c=0.5, rescale=0), 1e-3, 1),
    "torchjd/CAGrad_c1": (lambda T: dbmtl.cagrad(T, c=1.0, rescale=0), 1e-3, 1),
    "torchjd/MGDA_tight": (dbmtl.mgda, 5e-3, 1),
    "torchjd/NashMTL": (dbmtl.nash_mtl, 1e-3, 1),
    # These solvers stop early; `test_objectives` compares what they minimise.
    "libmtl/MGDA_l2": (lambda T: dbmtl.mgda(T, normalization="l2"), 5e-3, 1),
    "libmtl/MGDA_loss": (lambda T: dbmtl.mgda(T, normalization="loss"), 5e-3, 1),
    "libmtl/MGDA_loss+": (lambda T: dbmtl.mgda(T, normalization="loss+"), 5e-3, 1),
    "libmtl/CAGrad_r0": (lambda T: dbmtl.cagrad(T, rescale=0), 1e-3, 1),
    "libmtl/CAGrad_r1": (lambda T: dbmtl.cagrad(T, rescale=1), 1e-3, 1),
    "libmtl/CAGrad_r2": (lambda T: dbmtl.cagrad(T, c=0.2, rescale=2), 1e-3, 1),
    "libmtl/Nash_MTL": (dbmtl.nash_mtl, 1e-3, 1),
    "libmtl/Nash_MTL_every3_noclip": (
        lambda T: dbmtl.nash_mtl(T, update_every=3, max_norm=0),
        1e-3,
        1,
    ),
}


def relative_error(actual, expected):
    return np.linalg.norm(np.asarray(actual) - expected) / np.linalg.norm(expected)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("file", oracles.FILES)
@pytest.mark.parametrize("case", CASES)
def test_reference(file, case):
    oracle = oracles.load(file)
    factory, tolerance, times = CASES[case]
    tx = factory(oracle.num_tasks)
    params = oracle.params(jnp.float64)
    state = tx.init(params)
    update = jax.jit(tx.update)
    times = oracle.num_tasks if times == "T" else times
    for k, (gradients, losses) in enumerate(zip(oracle.gradients, oracle.losses, strict=True)):
        learnt = f"{case}/loss_scale_before"
        if learnt in oracle.arrays:
            values = optax.tree.get(state, "values")
            np.testing.assert_allclose(values, oracle.arrays[learnt][k], rtol=1e-12)
        stacked = oracle.split(gradients, jnp.float64)
        merged, state = update(stacked, state, params, losses=jnp.asarray(losses))
        expected = times * oracle.arrays[f"{case}/grad"][k]
        assert relative_error(samplers.flat_update(merged), expected) <= tolerance, k
    if case == "libmtl/MoCo":
        averages = samplers.flat(optax.tree.get(state, "ema"))
        np.testing.assert_allclose(averages, oracle.arrays[f"{case}/y_final"], rtol=1e-12)
        weights = oracle.arrays[f"{case}/lambd_final"]
        np.testing.assert_allclose(optax.tree.get(state, "weights"), weights, rtol=1e-12)


def shares(weights, mean=False):
    """The point of the simplex that weights stand for, `mean`: after 1/T has been taken off."""
    weights = np.asarray(weights, float) - (1 / len(weights) if mean else 0)
    weights = np.maximum(weights, 0)
    return weights / weights.sum()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("file", oracles.FILES)
def test_objectives(file):
    """What MGDA and CAGrad minimise is never larger than with the references' weights."""
    oracle = oracles.load(file)
    T = oracle.num_tasks

    def weights_with(tx):
        @jax.jit
        def weights_of(stacked):
            _, state = tx.update(stacked, tx.init(stacked[0]))
            return optax.tree.get(state, "weights")

        return weights_of

    def mgda_objective(gradients, w):
        return np.sum((w @ gradients) ** 2)

    def cagrad_objective(c):
        def objective(gradients, w):
            g0, gw = gradients.mean(axis=0), w @ gradients
            return gw @ g0 + c * np.linalg.norm(g0) * np.linalg.norm(gw)

        return objective

    for tx, cases in (
        (dbmtl.mgda(T), [("libmtl/MGDA_none", 0), ("torchjd/MGDA", 0), ("torchjd/MGDA_tight", 0)]),
        (dbmtl.cagrad(T, c=0.5, rescale=0), [("libmtl/CAGrad_r0", 0), ("torchjd/CAGrad_c0.5", 1)]),
        (dbmtl.cagrad(T, c=0.2, rescale=0), [("libmtl/CAGrad_r2", 0)]),
        (dbmtl.cagrad(T, c=1.0, rescale=0), [("torchjd/CAGrad_c1", 1)]),
    ):
        is_cagrad = "CAGrad" in cases[0][0]
        c = {"libmtl/CAGrad_r0": 0.5, "libmtl/CAGrad_r2": 0.2}.get(cases[0][0], 1.0)
        objective = cagrad_objective(c) if is_cagrad else mgda_objective
        weights_of = weights_with(tx)
        for k, gradients in enumerate(oracle.gradients):
            ours = objective(gradients, shares(weights_of(gradients), mean=is_cagrad))
            for case, mean in cases:
                theirs = shares(oracle.arrays[f"{case}/w"][k], mean=bool(mean))
                assert ours <= objective(gradients, theirs) + 1e-8, (case, k)


def grad_vac_orders(recorded, library):
    """Rows of all tasks, from rows without the task itself; TorchJD's count without it as well."""
    rows = []
    for i, row in enumerate(recorded):
        others = [int(j) for j in row[:-1]]
        if library == "torchjd":
            others = [j + (j >= i) for j in others]
        rows.append([*others, i])
    return jnp.array(rows)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("library", ["libmtl", "torchjd"])
@pytest.mark.parametrize("file", oracles.FILES)
def test_pairwise_methods_in_the_recorded_orders(file, library):
    oracle = oracles.load(file)
    targets = jnp.zeros((oracle.num_tasks,) * 2)
    for k, gradients in enumerate(oracle.gradients):
        norms = np.linalg.norm(gradients, axis=1)
        units = gradients / norms[:, None]
        cosines = jnp.asarray(units @ units.T)
        orders = jnp.asarray(oracle.arrays[f"{library}/PCGrad/perm"][k])
        weights = combine(jnp.asarray(norms), project_conflicts(cosines, orders))
        expected = oracle.arrays[f"{library}/PCGrad/grad"][k]
        # LibMTL adds 1e-8 to its denominators, also below.
        tolerance = 1e-13 if library == "torchjd" else 1e-8
        assert relative_error(weights @ gradients, expected) <= tolerance

        orders = grad_vac_orders(oracle.arrays[f"{library}/GradVac/perm"][k], library)
        coefficients, targets = vaccinate(cosines, targets, orders, beta=0.5)
        weights = combine(jnp.asarray(norms), coefficients)
        expected = oracle.arrays[f"{library}/GradVac/grad"][k]
        assert relative_error(weights @ gradients, expected) <= 1e-8
    if library == "libmtl":
        recorded = oracle.arrays["libmtl/GradVac/rho_final"]
        np.testing.assert_allclose(targets, recorded, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("file", oracles.FILES)
@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_grad_drop_on_a_representation(file, leak):
    """As in the paper: per feature, on gradients times the representation's sign, summed over
    the batch."""
    oracle = oracles.load(file)
    case = f"libmtl/GradDrop_leak{leak}"
    representation = oracle.arrays[f"{case}/rep"]
    for k, gradients in enumerate(oracle.gradients):
        rows = gradients.reshape(-1, *representation.shape)
        uniform = oracle.arrays[f"{case}/uniform"][k]
        kept = keep_signs(
            jnp.asarray((rows * np.sign(representation)).sum(axis=1)), jnp.asarray(uniform)
        )
        factors = leak + (1 - leak) * np.asarray(kept)
        merged = (rows * factors[:, None, :]).sum(axis=0).ravel()
        assert relative_error(merged, oracle.arrays[f"{case}/grad"][k]) <= 1e-12


@pytest.mark.parametrize(
    ("tx", "weights"),
    [
        (dbmtl.mgda(2), [0.6, 0.4]),
        (dbmtl.imtl_g(2), [0.5923, 0.4077]),
        (dbmtl.cagrad(2, c=0.5, rescale=0), [0.7041, 0.5]),
        (dbmtl.aligned_mtl(2), [2 * 0.5591, 2 * 0.4083]),
        (dbmtl.pcgrad(2), [2.2222, 1.5789]),
        (dbmtl.db_mtl(2, 0.0, log_losses=False), [1.45297, 1.0]),
    ],
    ids=["mgda", "imtl_g", "cagrad", "aligned_mtl", "pcgrad", "db_mtl"],
)
def test_golden_values(tx, weights):
    _, state = tx.update(jnp.asarray(GOLDEN, jnp.float32), tx.init(jnp.zeros(3)))
    np.testing.assert_allclose(optax.tree.get(state, "weights"), weights, atol=1.1e-4)


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


@settings(max_examples=50, deadline=None)
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


def steps(tx, count=4, num_tasks=3, **kwargs):
    """Updates of one instance over different gradients, with these."""
    params = testing.sample_params()
    state = tx.init(params)
    update = jax.jit(tx.update)
    seen = []
    for k in range(count):
        grads, losses = testing.sample_task_grads(num_tasks, k), testing.sample_losses(num_tasks, k)
        merged, state = update(grads, state, params, losses=losses, **kwargs)
        seen.append((grads, losses, merged))
    return seen, state


def test_meta_balance_in_plain_numpy():
    relax, beta = 0.6, 0.8
    seen, _ = steps(dbmtl.meta_balance(3, relax=relax, beta=beta, target=1))
    averages = [np.zeros(3) for _ in jax.tree.leaves(seen[0][0])]
    for grads, _, merged in seen:
        leaves = zip(jax.tree.leaves(grads), jax.tree.leaves(merged), strict=True)
        for i, (leaf, update) in enumerate(leaves):
            rows = np.asarray(leaf).reshape(3, -1)
            averages[i] = beta * averages[i] + (1 - beta) * np.linalg.norm(rows, axis=1)
            factors = relax * averages[i][1] / averages[i] + (1 - relax)
            np.testing.assert_allclose(np.ravel(update), factors @ rows, rtol=1e-4, atol=1e-4)


MASKS = np.array([[0, 1, 1], [1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1]], bool)
"""The tasks of three that are present, step by step; the first one comes later."""


def masked_steps(tx):
    """(rows of every leaf [3, n], losses, mask, the update's leaves, state) of every step."""
    params = testing.sample_params()
    state = tx.init(params)
    update = jax.jit(tx.update)
    for k, mask in enumerate(MASKS):
        grads, losses = testing.sample_task_grads(3, k), testing.sample_losses(3, k)
        merged, state = update(grads, state, params, losses=losses, task_mask=jnp.asarray(mask))
        rows = [np.asarray(leaf, float).reshape(3, -1) for leaf in jax.tree.leaves(grads)]
        yield rows, np.asarray(losses, float), mask, jax.tree.leaves(merged), state


def test_mtadam_in_plain_numpy():
    """With an ε that counts, and tasks that are absent: their moments wait."""
    b1, b2, b3, eps = 0.8, 0.9, 0.7, 0.05
    memory, counts = None, np.zeros(3)
    for rows, _, mask, merged, _ in masked_steps(
        dbmtl.scale_by_mtadam(3, b1=b1, b2=b2, b3=b3, eps=eps)
    ):
        memory = memory or [[np.zeros(3), np.zeros_like(g), np.zeros_like(g)] for g in rows]
        counts += mask
        for state, g, update in zip(memory, rows, merged, strict=True):
            n, m, v = state
            norms = np.linalg.norm(g, axis=1)
            n[mask] = np.where(counts > 1, b3 * n + (1 - b3) * norms, norms)[mask]
            # Before the first step of the first task there is no norm to go by.
            g = (n[0] / np.maximum(n, 1e-30))[:, None] * g if n[0] else g
            m[mask], v[mask] = (b1 * m + (1 - b1) * g)[mask], (b2 * v + (1 - b2) * g**2)[mask]
            m_hat = (m / (1 - b1 ** np.maximum(counts, 1))[:, None])[mask]
            v_hat = (v / (1 - b2 ** np.maximum(counts, 1))[:, None])[mask]
            expected = m_hat.sum(axis=0) / (np.sqrt(v_hat.max(axis=0)) + eps)
            np.testing.assert_allclose(np.ravel(update), expected, rtol=1e-4, atol=1e-5)


def test_grad_norm_in_plain_numpy():
    """With tasks that are absent, also from the first epoch: means are over those present."""
    alpha, rate = 1.5, 0.1
    tx = dbmtl.grad_norm(3, alpha=alpha, steps_per_epoch=2, weight_optimizer=optax.sgd(rate))
    theta, totals, counts = np.ones(3), np.zeros(3), np.zeros(3)
    for k, (rows, losses, mask, merged, state) in enumerate(masked_steps(tx)):
        norms = np.linalg.norm(np.concatenate(rows, axis=1), axis=1)
        shares = np.exp(theta) / np.exp(theta).sum()
        weights = np.ones(3) if k < 2 else 3 * shares
        np.testing.assert_allclose(state.weights, weights * mask, rtol=1e-5)
        for g, update in zip(rows, merged, strict=True):
            expected = (weights * mask) @ g
            np.testing.assert_allclose(np.ravel(update), expected, rtol=1e-4, atol=1e-4)
        if k < 2:
            totals, counts = totals + losses * mask, counts + mask
            continue
        rates = losses / (totals / counts)
        goals = np.mean((weights * norms)[mask]) * (rates / rates[mask].mean()) ** alpha
        slope = np.sign(weights * norms - goals) * norms * mask
        jacobian = 3 * (np.diag(shares) - np.outer(shares, shares))
        theta = theta - rate * (jacobian @ slope) * mask
        np.testing.assert_allclose(optax.tree.get(state, "values"), theta, rtol=1e-4)


def test_mtadam_of_one_task_is_adam():
    """Also of the parameters that belong to one task."""
    options = {"b1": 0.8, "b2": 0.9}
    labels = {"dense": "shared", "scale": 0}
    tx, adam = dbmtl.scale_by_mtadam(1, labels=labels, **options), optax.scale_by_adam(**options)
    params = testing.sample_params()
    state, adam_state = tx.init(params), adam.init(params)
    for k in range(3):
        stacked = testing.sample_task_grads(1, k)
        single = jax.tree.map(lambda g: g[0], stacked)
        merged, state = tx.update(stacked | {"scale": single["scale"]}, state, params)
        expected, adam_state = adam.update(single, adam_state)
        for a, b in zip(jax.tree.leaves(merged), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_grad_norm_measures_rates_against_the_first_epoch():
    """One descent step of θ by hand: signs of the distances, through the softmax."""
    tx = dbmtl.grad_norm(2, alpha=1.0, steps_per_epoch=2, weight_optimizer=optax.sgd(0.5))
    grads = jnp.array([[3.0, 0.0], [0.0, 1.0]])
    state = tx.init(jnp.zeros(2))
    for losses in ([2.0, 4.0], [4.0, 4.0], [1.5, 2.0]):
        _, state = tx.update(grads, state, losses=jnp.array(losses))
        np.testing.assert_allclose(optax.tree.get(state, "weights"), 1)  # θ as before the step
    # L0 = (3, 4), so both tasks are at half of it: goals of the mean norm, 2.
    slope = np.array([3.0, -1.0])  # sign(3 - 2) 3, sign(1 - 2) 1
    jacobian = 2 * (np.diag([0.5, 0.5]) - 0.25)
    theta = 1 - 0.5 * jacobian @ slope
    np.testing.assert_allclose(optax.tree.get(state, "values"), theta, rtol=1e-6)


def test_moco_projects_onto_the_simplex():
    tx = dbmtl.moco(2, beta=1.0, beta_power=0.0, gamma=0.5, gamma_power=0.0, rho=0.25)
    grads = jnp.array([[1.0, 0.0], [0.0, 0.5]])
    merged, state = tx.update(grads, tx.init(jnp.zeros(2)))
    # λ - γ (M + ρ) λ = (.5 - .5·1.25·.5, .5 - .5·.5·.5), then the same shift on both.
    moved = np.array([0.1875, 0.375])
    expected = moved + (1 - moved.sum()) / 2
    np.testing.assert_allclose(optax.tree.get(state, "weights"), expected, rtol=1e-6)
    np.testing.assert_allclose(merged, expected * np.array([1.0, 0.5]), rtol=1e-6)


def test_grad_norm_takes_its_means_over_the_tasks_present():
    """Norms 1 and 1.2 lie on both sides of their mean; a sum over three has both on one side."""
    tx = dbmtl.grad_norm(3, weight_optimizer=optax.sgd(0.1))
    grads = jnp.array([[1.0, 0.0], [0.0, 1.2], [50.0, 0.0]])
    state, mask = tx.init(jnp.zeros(2)), jnp.array([True, True, False])
    for _ in range(2):  # the first of which is the first epoch
        _, state = tx.update(grads, state, losses=jnp.array([2.0, 3.0, 9.0]), task_mask=mask)
    # The weights are 1, so the slope is (-1, 1.2), through 3 (I/3 - 1/9).
    slope = np.array([-1, 1.2]) - 0.2 / 3
    expected = [*(1 - 0.1 * slope), 1]
    np.testing.assert_allclose(optax.tree.get(state, "values"), expected, rtol=1e-5)


def test_grad_norm_has_no_rate_for_losses_that_started_at_zero():
    """Such a task counts as training at the usual rate: both goals are the mean norm, 1.1."""
    tx = dbmtl.grad_norm(2, weight_optimizer=optax.sgd(0.1))
    grads, state = jnp.array([[1.2, 0.0], [0.0, 1.0]]), tx.init(jnp.zeros(2))
    for losses in ([0.0, 2.0], [5.0, 2.0]):
        _, state = tx.update(grads, state, losses=jnp.array(losses))
    slope = np.array([1.2, -1.0]) - 0.2 / 2  # through 2 (I/2 - 1/4)
    np.testing.assert_allclose(optax.tree.get(state, "values"), 1 - 0.1 * slope, rtol=1e-5)


def simplex_projection(vector):
    """By bisection of the threshold."""
    low, high = vector.min() - 1, vector.max()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(vector - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(vector - low, 0)


def test_moco_in_plain_numpy():
    """With tasks that are absent, whose λ the others share out."""
    beta, gamma, rho = 0.8, 0.002, 0.3
    tx = dbmtl.moco(3, beta=beta, gamma=gamma, rho=rho, beta_power=0.6, gamma_power=0.7)
    averages, lam = 0, np.full(3, 1 / 3)
    for k, (rows, _, mask, merged, state) in enumerate(masked_steps(tx), start=1):
        g = np.concatenate(rows, axis=1)
        averages = averages - (beta / k**0.6 * (averages - g)) * mask[:, None]
        lam = np.where(mask, lam + lam[~mask].sum() / mask.sum(), 0)
        y = averages * mask[:, None]
        moved = lam - gamma / k**0.7 * (y @ y.T + rho * np.eye(3)) @ lam
        lam[mask] = simplex_projection(moved[mask])
        np.testing.assert_allclose(state.weights, lam, rtol=1e-3, atol=1e-5)
        update = np.concatenate([np.ravel(leaf) for leaf in merged])
        np.testing.assert_allclose(update, lam @ y, rtol=1e-3, atol=1e-3)


def test_moco_has_a_softmax_over_the_tasks_present():
    tx = dbmtl.moco(3, gamma=0.0, projection="softmax")
    grads, mask = jnp.ones((3, 2)), jnp.array([True, False, True])
    _, state = tx.update(grads, tx.init(grads[0]), task_mask=mask)
    np.testing.assert_allclose(state.weights, [0.5, 0, 0.5], rtol=1e-6)


def test_moco_divides_by_norms_that_are_not_zero():
    tx = dbmtl.moco(1, beta=1.0, beta_power=0.0, normalize=True)
    update, _ = tx.update(jnp.array([[1e-8]]), tx.init(jnp.zeros(1)), losses=jnp.ones(1))
    np.testing.assert_allclose(update, 0.5, rtol=1e-3)


def test_aligned_mtl_leaves_out_small_eigenvalues():
    """Below 3 · 2⁻²³ = 3.6e-7 of the largest they count as zero."""
    for small, expected in ((2e-7, [1, 1, 0]), (1e-6, [1e-3, 1e-3, 1])):
        weights = dbmtl.aligned_mtl_weights(jnp.diag(jnp.array([1.0, 1.0, small])))
        np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-7)


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


def at_angles(*degrees):
    """The cosines between vectors of the plane."""
    angles = np.deg2rad(degrees)
    return np.cos(angles[:, None] - angles[None])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "cosines",
    [
        at_angles(0, 60, 100),
        # The first full step from β = 1 would leave the positive numbers.
        at_angles(120, 130, 130, 180, 230, 250),
        # β is 10⁴ and 10⁵; every step doubles it at most.
        np.array([[1, 1e-8 - 1], [1e-8 - 1, 1]]),
        np.array([[1, 1e-10 - 1], [1e-10 - 1, 1]]),
    ],
    ids=["easy", "damped", "far", "very far"],
)
def test_bargains_are_solved_up_to_rounding(cosines):
    """C β = 1/β."""
    matrix = jnp.asarray(cosines)
    beta = np.asarray(bargain(matrix, jnp.ones(len(matrix), bool)))
    condition = np.linalg.cond(cosines) if len(cosines) == 2 else 1
    residual = np.abs(beta * (cosines @ beta) - 1).max()
    assert residual <= 1e-12 * max(condition, 1) * len(cosines) * 10


def test_a_bargain_without_a_solution_is_bounded():
    """Opposite gradients: β² r = 1 with the ridge r; without it β would grow to 2⁶⁰."""
    beta = bargain(jnp.array([[1.0, -1.0], [-1.0, 1.0]]), jnp.ones(2, bool))
    ridge = 8 * np.finfo(np.float32).eps
    np.testing.assert_allclose(beta, 1 / np.sqrt(ridge), rtol=0.3)


def test_nash_mtl_only_ever_shortens():
    grads = jnp.array([[2.0, 0.0], [0.0, 4.0]])  # the update is (1, 1)
    for max_norm, factor in ((5.0, 1.0), (0.5, 0.5 / np.sqrt(2))):
        tx = dbmtl.nash_mtl(2, max_norm=max_norm, update_every=2)
        update, state = tx.update(grads, tx.init(jnp.zeros(2)))
        np.testing.assert_allclose(update, factor, rtol=1e-5)
    # With weights from before, an update may be shorter than √T, and still be too long.
    update, _ = tx.update(grads / 2, state)
    np.testing.assert_allclose(update, 0.5 / np.sqrt(2), rtol=1e-5)
    update, _ = tx.update(grads / 20, state)
    np.testing.assert_allclose(update, 0.05, rtol=1e-5)


def test_nash_mtl_keeps_its_weights_between_solutions():
    tx = dbmtl.nash_mtl(3, update_every=2, max_norm=0)
    params = testing.sample_params()
    state, seen = tx.init(params), []
    for k in range(4):
        _, state = tx.update(testing.sample_task_grads(3, k), state, params)
        seen.append(np.asarray(optax.tree.get(state, "alpha")))
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[2], seen[3])
    assert np.all(seen[1] != seen[2])


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


WEIGHTED_HEADS = {"gls", "rlw", "uw", "dwa", "imtl_l", "igbv2", "imtl", "db_mtl"}
"""Heads get the gradient times a weight of the losses (methods.md's W, or a log's)."""
BALANCED_HEADS = {"mgda", "grad_norm", "nash_mtl"}
"""Heads get the gradient times the weight of the balancing."""


@pytest.mark.parametrize("name", dbmtl.METHODS)
def test_every_parameter_of_a_two_head_network_moves(name):
    """And a head by the weight that the method gives it."""
    labels = ("shared", [0, 1])
    rng = np.random.default_rng(0)
    params = (jnp.zeros(4), [jnp.zeros(2), jnp.zeros(2)])
    head_grads = [jnp.array([0.5, 2.0]), jnp.array([1.0, 3.0])]
    grads = (jnp.asarray(rng.normal(size=(2, 4)), jnp.float32), head_grads)
    tx = samplers.METHODS[name](2, labels=labels)
    (shared, heads), state = tx.update(grads, tx.init(params), params, losses=jnp.array([0.5, 2.0]))
    assert np.all(np.asarray(shared) != 0)
    for task in range(2):
        assert np.all(np.asarray(heads[task]) != 0)
        if name == "mtadam":
            np.testing.assert_allclose(heads[task], 1, rtol=1e-4)  # Adam's first step
            continue
        if name in WEIGHTED_HEADS:
            factor = optax.tree.get(state, "loss_weights")[task]
        elif name == "nash_mtl":
            factor = optax.tree.get(state, "alpha")[task]
        elif name in BALANCED_HEADS:
            factor = optax.tree.get(state, "weights")[task]
        else:
            factor = 1
        np.testing.assert_allclose(heads[task], factor * head_grads[task], rtol=1e-5)


@pytest.mark.parametrize("name", ["mgda", "grad_norm", "nash_mtl"])
def test_heads_may_be_left_unweighted(name):
    tx = dbmtl.METHODS[name](2, labels=("shared", [0, 1]), scale_own=False)
    grads = (jnp.array([[1.0, 0.0], [0.0, 3.0]]), [jnp.ones(2), jnp.ones(2)])
    params = jax.tree.map(lambda g: g, (jnp.zeros(2), grads[1]))
    (_, heads), _ = tx.update(grads, tx.init(params), params, losses=jnp.ones(2))
    for head in heads:
        np.testing.assert_array_equal(head, 1)


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


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mgda", {"normalization": "l1"}, "normalization: expected one of 'none', 'l2'"),
        ("cagrad", {"c": -0.1}, "c: expected a number in"),
        ("cagrad", {"rescale": 3}, "rescale: expected one of 'none', .*2, found 3"),
        ("nash_mtl", {"update_every": 0}, "update_every: expected an int of at least 1"),
        ("nash_mtl", {"max_norm": -1.0}, "max_norm: expected a number in"),
        ("grad_drop", {"leak": 1.5}, "leak: expected a number in"),
        ("grad_vac", {"beta": 2.0}, "beta: expected a number in"),
        ("grad_norm", {"alpha": -1.0}, "alpha: expected a number in"),
        ("meta_balance", {"relax": 1.1}, "relax: expected a number in"),
        ("meta_balance", {"target": 2}, "target: expected one of 0, 1, found 2"),
        ("moco", {"projection": "box"}, "projection: expected one of 'simplex', 'softmax'"),
        ("aligned_mtl", {"scale": "max"}, "scale: expected one of 'min', 'median', 'rmse'"),
        ("mtadam", {"b3": 1.0}, "b3: expected a number in"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        dbmtl.METHODS[name](2, **options)


@pytest.mark.parametrize(
    ("tx", "who"),
    [
        (dbmtl.mgda(2, normalization="loss"), "mgda"),
        (dbmtl.grad_norm(2), "grad_norm"),
        (dbmtl.moco(2, normalize=True), "moco"),
        (dbmtl.imtl(2), "imtl"),
    ],
)
def test_missing_losses_are_named(tx, who):
    with pytest.raises(TypeError, match=f"losses: {who} needs the raw task losses"):
        tx.update(jnp.ones((2, 3)), tx.init(jnp.zeros(3)))
