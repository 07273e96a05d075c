"""The weighted sum of many tasks' gradients, whose program must not grow with their number."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax.core import _task_linalg
from dbmtl_jax.core._task_linalg import weighted_sum


@pytest.mark.parametrize("num_tasks", [1, 3, 16, 17, 40])
@pytest.mark.parametrize("shape", [(), (5,), (4, 1100)])
def test_absent_tasks_count_for_nothing_whatever_their_rows_contain(num_tasks, shape):
    rng = np.random.default_rng(num_tasks)
    leaf = rng.normal(size=(num_tasks, *shape)).astype(np.float32)
    weights = rng.normal(size=num_tasks).astype(np.float32)
    present = np.arange(num_tasks) % 3 != 1
    expected = np.tensordot(np.where(present, weights, 0), leaf, 1)
    leaf[~present] = np.nan
    found = jax.jit(weighted_sum)(jnp.asarray(weights), jnp.asarray(present), jnp.asarray(leaf))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_summed_in_float32():
    num_tasks = 40
    leaf = jnp.full((num_tasks, 3), 1.0, jnp.bfloat16).at[0].set(256)
    total = weighted_sum(jnp.ones(num_tasks), jnp.ones(num_tasks, bool), leaf)
    assert total.dtype == jnp.bfloat16
    np.testing.assert_allclose(total.astype(np.float32), 256 + 39, rtol=4e-3)


def lines(num_tasks, shape):
    """The length of the program of a step, before it is compiled."""
    params = [jnp.zeros(shape) for _ in range(3)]
    grads = [jnp.zeros((num_tasks, *shape)) for _ in params]
    tx = dbmtl.ew(num_tasks)
    state = tx.init(params)
    return jax.jit(tx.update).lower(grads, state, params).as_text().count("\n")


@pytest.mark.parametrize("shape", [(8, 8), (100, 100)])
def test_the_program_of_many_tasks_is_short(shape):
    assert lines(40, shape) < 2 * lines(8, shape)
    assert lines(400, shape) < 1.5 * lines(40, shape)


def test_on_a_mesh_accelerators_reduce_over_the_tasks():
    """A slice of each row would be sent to where the sum lies; the figures are the same."""
    leaf = jax.random.normal(jax.random.key(0), (3, 4, 5)).at[1].set(jnp.nan)
    weights, present = jnp.array([0.5, 1.0, 2.0]), jnp.array([True, False, True])

    def total(weights, present, leaf):
        return weighted_sum(weights, present, 1 * leaf)

    traced = jax.jit(total).trace(weights, present, leaf)
    assert "platform_index" not in str(traced.jaxpr)
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((2,), ("data",))):
        divided = jax.jit(total).trace(weights, present, leaf)
    assert "platform_index" in str(divided.jaxpr)
    expected = _task_linalg._sum_of_rows(weights, present, leaf)
    chex.assert_trees_all_close(_task_linalg._reduced(weights, present, leaf), expected, rtol=1e-6)
