import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing

GRADIENTS = testing.hard_gradients(3)
KEY = jax.random.split(jax.random.PRNGKey(0))[1]  # of the first draw of a method with seed 0
WEIGHTS = {
    "mgda": dbmtl.mgda_weights,
    "imtl_g": dbmtl.imtl_g_weights,
    "cagrad": dbmtl.cagrad_weights,
    "nash_mtl": dbmtl.nash_mtl_weights,
    "aligned_mtl": dbmtl.aligned_mtl_weights,
    "pcgrad": lambda gramian: dbmtl.pcgrad_weights(gramian, KEY),
    "grad_vac": lambda gramian: dbmtl.grad_vac_weights(gramian, jnp.zeros((3, 3)), KEY)[0],
}
OPTIONS = {"nash_mtl": {"max_norm": None}}


@pytest.mark.parametrize("kind", ["full rank", "one scale each", "a zero row", "tiny", "huge"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_a_gramian_are_those_of_the_method(name, kind):
    gradients = jnp.asarray(GRADIENTS[kind], jnp.float32)
    tx = dbmtl.METHODS[name](3, **OPTIONS.get(name, {}))
    _, state = tx.update(gradients, tx.init(gradients[0]))
    found = WEIGHTS[name](gradients @ gradients.T)
    expected = optax.tree.get(state, "weights")
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4 * np.abs(expected).max())


def test_a_matrix_is_taken_apart_and_put_together():
    gradients = GRADIENTS["a zero row"]
    matrix = gradients @ gradients.T
    gramian = dbmtl.Gramian.from_matrix(jnp.asarray(matrix, jnp.float32))
    np.testing.assert_allclose(gramian.norms, np.linalg.norm(gradients, axis=1), rtol=1e-5)
    np.testing.assert_allclose(gramian.matrix, matrix, rtol=1e-5)
    np.testing.assert_allclose(gramian.normalized, matrix / matrix.max(), rtol=1e-5)
    assert gramian.cosines[1, 1] == 0
    assert np.all(gramian.present)


def test_an_absent_task_is_none_of_zero():
    """MGDA's shortest vector is a gradient of zero, if there is one."""
    matrix = jnp.diag(jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(dbmtl.mgda_weights(matrix), [0, 1], atol=1e-6)
    alone = dbmtl.Gramian.from_matrix(matrix, jnp.array([True, False]))
    np.testing.assert_allclose(dbmtl.mgda_weights(alone), [1, 0], atol=1e-6)


@pytest.mark.parametrize("name", WEIGHTS)
def test_other_shapes_are_refused(name):
    with pytest.raises(ValueError, match=r"gramian: expected shape \(T, T\), found \(2, 3\)"):
        WEIGHTS[name](jnp.ones((2, 3)))
    for shape in ((2,), (2, 2, 1)):
        with pytest.raises(ValueError, match=r"gramian: expected shape \(T, T\)"):
            dbmtl.Gramian.from_matrix(jnp.ones(shape))


def test_a_mask_of_another_kind_is_refused():
    for present in (jnp.ones(2), jnp.ones(3, bool)):
        with pytest.raises(ValueError, match=r"present: expected a bool array of shape \(2,\)"):
            dbmtl.Gramian.from_matrix(jnp.eye(2), present)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_matrix_of_half_precision_is_widened(name):
    matrix = jnp.array([[2.0, -0.5, 0.0], [-0.5, 1.0, 0.25], [0.0, 0.25, 4.0]])
    found = WEIGHTS[name](matrix.astype(jnp.bfloat16))
    np.testing.assert_array_equal(found, WEIGHTS[name](matrix))
