"""Nash-MTL: its clip, and its solutions between two steps."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing


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


@pytest.mark.usefixtures("x64")
def test_nash_mtl_has_weights_of_the_parameters_dtype():
    for update_every in (1, 2):
        tx = dbmtl.nash_mtl(2, update_every=update_every)
        _, state = tx.update(jnp.eye(2, dtype=jnp.float64), tx.init(jnp.zeros(2, jnp.float32)))
        assert optax.tree.get(state, "alpha").dtype == jnp.float32


def test_a_task_without_a_gradient_keeps_its_weight():
    tx = dbmtl.nash_mtl(2)
    _, state = tx.update(jnp.diag(jnp.array([2.0, 4.0])), tx.init(jnp.zeros(2)))
    _, state = tx.update(jnp.diag(jnp.array([1.0, 0.0])), state)
    np.testing.assert_allclose(optax.tree.get(state, "alpha"), [1, 0.25], rtol=1e-5)


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
