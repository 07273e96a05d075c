import chex
import jax.numpy as jnp
import numpy as np
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from tests.helpers import samplers


@pytest.mark.parametrize("num_tasks", [1, 2, 5])
def test_norms_and_cosines(num_tasks):
    grads = testing.sample_task_grads(num_tasks)
    rows = samplers.flat(grads)
    norms = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(dbmtl.task_norms(grads), norms, rtol=1e-5)
    cosines = rows @ rows.T / norms[:, None] / norms[None]
    np.testing.assert_allclose(dbmtl.task_cosine_similarity(grads), cosines, atol=1e-5)


def test_long_leaves_and_complex_ones():
    """Long rows are summed by row, and long products in blocks; |z|² is x² + y²."""
    rng = np.random.default_rng(0)
    leaves = {
        "kernel": rng.normal(size=(2, 3, 70)),
        "long": rng.normal(size=(2, 2**16 + 7)),
        "complex": rng.normal(size=(2, 4)) + 1j * rng.normal(size=(2, 4)),
    }
    rows = np.concatenate([leaf.reshape(2, -1) for leaf in leaves.values()], axis=1)
    products = np.real(rows @ rows.conj().T)
    norms = np.sqrt(np.diagonal(products))
    grads = {
        name: jnp.asarray(leaf, jnp.complex64 if name == "complex" else jnp.float32)
        for name, leaf in leaves.items()
    }
    np.testing.assert_allclose(dbmtl.task_norms(grads), norms, rtol=1e-5)
    cosines = products / norms[:, None] / norms[None]
    np.testing.assert_allclose(dbmtl.task_cosine_similarity(grads), cosines, atol=1e-5)


def test_a_zero_gradient_has_no_direction():
    cosines = dbmtl.task_cosine_similarity(jnp.array([[0.0, 0.0], [1.0, 2.0]]))
    np.testing.assert_allclose(cosines, [[0, 0], [0, 1]], atol=1e-6)


def test_bfloat16_accumulates_in_float32():
    norms = dbmtl.task_norms(jnp.full((1, 4096), 1 / 64, jnp.bfloat16))
    chex.assert_type(norms, jnp.float32)
    np.testing.assert_allclose(norms, 1.0, rtol=1e-3)


def test_leaves_must_agree_on_the_number_of_tasks():
    for tree in ({"a": jnp.ones((2, 3)), "b": jnp.ones((3, 3))}, jnp.ones(()), {}):
        with pytest.raises(ValueError, match=r"task_grads: expected leaves of shape \(T, ...\)"):
            dbmtl.task_norms(tree)
