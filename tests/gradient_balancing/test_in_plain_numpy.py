"""Methods with a memory against loops in plain NumPy, with tasks that are absent."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dbmtl_jax as dbmtl
from dbmtl_jax import testing


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


def test_meta_balance_waits_for_absent_tasks_and_leaves_zero_gradients():
    tx = dbmtl.meta_balance(3, relax=1.0, beta=0.5)
    grads = jnp.array([[8.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    update, state = tx.update(grads, tx.init(jnp.zeros(2)))
    np.testing.assert_allclose(update, [8, 8])  # the second one has the first one's norm
    _, state = tx.update(grads, state, task_mask=jnp.array([True, False, True]))
    np.testing.assert_allclose(state.aggregator, [6, 2, 0])
    assert not np.any(state.skipped)


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
