"""Rows of norm 1, and rows of a largest norm, in front of a method."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from tests.helpers.samplers import flat, flat_update

T = 3
GRADS = testing.sample_task_grads(T)
PARAMS = testing.sample_params()


def rescaled(rows, max_norm=None):
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / norms if max_norm is None else rows * np.minimum(1, max_norm / norms)


@pytest.mark.parametrize("max_norm", [None, 0.0, 2.0, np.inf])
def test_rows_are_rescaled_over_all_parameters_together(max_norm):
    part = dbmtl.normalize_rows(T) if max_norm is None else dbmtl.clip_rows(T, max_norm)
    found, _ = part.update(GRADS, part.init(PARAMS), PARAMS)
    np.testing.assert_allclose(flat(found), rescaled(flat(GRADS), max_norm), rtol=1e-5)


def test_in_front_of_a_method():
    tx = dbmtl.chain(dbmtl.normalize_rows(T), dbmtl.sum_tasks(T))
    found, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(flat_update(found), rescaled(flat(GRADS)).sum(0), rtol=1e-4)


def test_own_parameters_pass_and_zero_rows_stay():
    labels = {"w": "shared", "head": 1}
    grads = {"w": jnp.array([[0.0, 0.0], [3.0, 4.0]]), "head": jnp.full(2, 7.0)}
    params = jax.tree.map(jnp.zeros_like, {"w": grads["w"][0], "head": grads["head"]})
    for tx in (dbmtl.normalize_rows(2, labels=labels), dbmtl.clip_rows(2, 1.0, labels=labels)):
        found, _ = tx.update(grads, tx.init(params), params)
        np.testing.assert_allclose(found["w"], [[0, 0], [0.6, 0.8]], rtol=1e-6)
        np.testing.assert_array_equal(found["head"], 7)


def test_pending_gradients_stay_pending():
    tx = dbmtl.normalize_rows(2)
    _, pending = dbmtl.value_and_task_grads(lambda p: [p.sum(), 3 * p[0]], stream=True)(jnp.ones(4))
    found, _ = tx.update(pending, tx.init(jnp.ones(4)))
    assert isinstance(found, dbmtl.PendingTaskGrads)
    np.testing.assert_allclose(found.stacked(), [[0.5] * 4, [1, 0, 0, 0]])


def test_options():
    assert dbmtl.normalize_rows(T).name == "normalize_rows"
    assert dbmtl.clip_rows(T, 1.0).name == "clip_rows"
    with pytest.raises(ValueError, match="max_norm: expected a number in"):
        dbmtl.clip_rows(T, -1.0)
    build = optax.inject_hyperparams(dbmtl.clip_rows, static_args=("num_tasks",))
    tx = build(T, max_norm=2.0)
    found, _ = jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(flat(found), rescaled(flat(GRADS), 2.0), rtol=1e-5)
