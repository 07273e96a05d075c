"""float16: weights such as 1/ℓ are larger than its largest number, 65,504."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl

T = 3
X = jax.random.normal(jax.random.key(0), (4, 3))
PARAMS = {"w": jax.random.normal(jax.random.key(1), (3, 5)), "b": jnp.ones(5)}
HEADS = jax.random.normal(jax.random.key(2), (T, 5))
# What is left of the distance to the targets.
RESIDUALS = (2e-6, 1e-3, 1.0)


def distances(outputs):
    """Losses that are these residuals, with gradients that do not depend on them."""
    return [
        jnp.mean((y - jax.lax.stop_gradient(y)).astype(jnp.float32) + residual)
        for y, residual in zip(outputs, RESIDUALS, strict=True)
    ]


def network(params):
    """Losses that part behind what they share."""
    dtype = params["w"].dtype
    z = jnp.tanh(X.astype(dtype) @ params["w"] + params["b"][None])
    return distances([z @ head for head in HEADS.astype(dtype)])


def parting_at_parameters(params):
    """Losses that share nothing but parameters."""
    dtype = params["w"].dtype
    return distances([params["w"] * head[None] + params["b"][None] for head in HEADS.astype(dtype)])


METHODS = {
    "balance_magnitudes": functools.partial(dbmtl.balance_magnitudes, scale="min"),
    "average, balance": lambda num_tasks: optax.chain(
        dbmtl.task_ema(num_tasks, 0.9), dbmtl.balance_magnitudes(num_tasks, scale="min")
    ),
}


@pytest.mark.parametrize("losses_of", [network, parting_at_parameters])
@pytest.mark.parametrize("method", METHODS)
def test_large_scales_do_not_overflow(losses_of, method):
    tx = optax.chain(dbmtl.scale_by_log_loss(T), METHODS[method](T))

    @jax.jit
    def step(params):
        losses, grads = dbmtl.value_and_task_grads(losses_of, stream=True)(params)
        return tx.update(grads, tx.init(params), params, losses=losses)[0]

    half = jax.tree.map(lambda p: p.astype(jnp.float16), PARAMS)
    expected = step(jax.tree.map(lambda p: p.astype(jnp.float32), half))
    found = step(half)
    for leaf, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert leaf.dtype == jnp.float16
        np.testing.assert_allclose(
            leaf.astype(np.float32), right, atol=1e-2 * np.max(np.abs(right))
        )


def test_a_row_of_zeros_is_one():
    """There is nothing to bring it to the size of."""
    params = jnp.ones(2, jnp.float16)
    _, grads = dbmtl.value_and_task_grads(lambda w: [jnp.sum(w**2), jnp.sum(0 * w)], stream=True)(
        params
    )
    np.testing.assert_array_equal(grads.stacked(), [[2, 2], [0, 0]])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_only_float16_needs_cotangents_of_a_size(dtype):
    """The powers of two are in no other program."""
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    program = jax.make_jaxpr(
        lambda p: dbmtl.value_and_task_grads(network, stream=True)(p)[1].stacked()
    )(params)
    assert ("exp2" in str(program)) == (dtype == jnp.float16)
