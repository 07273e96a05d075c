"""Norms, products and losses accumulate in float32, also those of bfloat16 gradients."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl

# In bfloat16 a square would be off by up to 0.4 %, and a sum stops growing at 256 times a term.
ENTRIES = np.asarray(jnp.array([0.1, 0.3, -0.7], jnp.bfloat16), np.float64)
ROWS = np.stack([np.tile(ENTRIES, 400), np.tile(ENTRIES[::-1], 400)])
GRADS = jnp.asarray(ROWS, jnp.bfloat16)


PARAMS = jnp.zeros(ROWS.shape[1], jnp.bfloat16)


def task_grads(kind):
    """These rows, stacked, or pending in a mode of the engine."""
    if kind == "stacked":
        return GRADS
    fun = dbmtl.value_and_task_grads(
        lambda w: [jnp.sum(GRADS[0] * w), jnp.sum(GRADS[1] * w)], stream=True, mode=kind
    )
    return fun(PARAMS)[1]


def seen_by(method, kind):
    """What a method sees of these rows, stacked or pending."""
    seen = {}

    def weigh(tasks, memory):
        seen.update(norms=tasks.norms)
        if method == "gramian":
            seen.update(matrix=tasks.gramian.matrix)
        return jnp.ones(2), memory

    tx = dbmtl.gradient_balancer(2, weigh, reads=method)
    _, state = tx.update(task_grads(kind), tx.init(PARAMS), PARAMS)
    return seen, state


@pytest.mark.parametrize("kind", ["stacked", "unroll", "loop"])
@pytest.mark.parametrize("method", ["norms", "gramian"])
def test_norms_and_products(method, kind):
    seen, state = seen_by(method, kind)
    matrix = ROWS @ ROWS.T
    norms = np.sqrt(np.diagonal(matrix))
    # Sums of 1,200 numbers in float32 differ by that much between processors.
    np.testing.assert_allclose(seen["norms"], norms, rtol=1e-5)
    np.testing.assert_allclose(dbmtl.diagnostics(state).norms, norms, rtol=1e-5)
    if method == "gramian":
        np.testing.assert_allclose(seen["matrix"], matrix, rtol=1e-5)


@pytest.mark.parametrize("kind", ["stacked", "loop"])
def test_losses_and_their_weights(kind):
    losses = jnp.array([3.0, 0.7], jnp.bfloat16)
    tx = optax.chain(dbmtl.scale_by_log_loss(2), dbmtl.sum_tasks(2))
    updates, state = tx.update(task_grads(kind), tx.init(PARAMS), losses=losses)
    expected = 1 / np.asarray(losses, np.float64)
    np.testing.assert_allclose(optax.tree.get(state, "loss_weights"), expected, rtol=1e-6)
    assert updates.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(updates, np.float64), expected @ ROWS, atol=2e-2)


@pytest.mark.parametrize("kind", ["stacked", "loop"])
def test_averages(kind):
    """Of rows that hardly change: in bfloat16 an average would stand still, a hundredth away."""
    tx = dbmtl.task_ema(2, 0.99)
    state = tx.init(PARAMS)
    for k in range(3):
        _, state = tx.update(task_grads(kind), state, PARAMS)
        np.testing.assert_allclose(state.ema, (1 - 0.99 ** (k + 1)) * ROWS, rtol=1e-5)
