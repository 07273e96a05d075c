"""Every method compiles for TPUs and GPUs, into a program that stays there, with exact products."""

import jax
import jax.numpy as jnp
import pytest

import dbmtl_jax as dbmtl
from benchmarks.accelerators import figures, products

T = 3


@pytest.mark.parametrize("name", sorted(dbmtl.METHODS))
def test_the_update_of_every_method(compile_for, name):
    tx = dbmtl.METHODS[name](T)
    grads = {"w": jnp.ones((T, 256, 256)), "b": jnp.ones((T, 256))}
    params = jax.tree.map(lambda g: g[0], grads)
    extra = {"other_grads": [grads]} if name == "modo" else {}

    def update(grads, state, losses, mask, extra):
        return tx.update(grads, state, losses=losses, task_mask=mask, **extra)

    program = compile_for(update, grads, tx.init(params), jnp.ones(T), jnp.ones(T, bool), extra)
    assert figures.host_transfers(program) == []
    assert "f64" not in figures.dtypes(program)
    rounded = [product for product in products.products(program) if not product.is_exact]
    assert rounded == []


def test_a_product_that_is_not_exact_is_found(compile_for):
    program = compile_for(lambda x: x @ x.T, jnp.ones((256, 512)))
    (product,) = products.products(program)
    assert not product.is_exact
    assert product.flops == 2 * 256 * 256 * 512
    exact = compile_for(lambda x: jnp.matmul(x, x.T, precision="highest"), jnp.ones((256, 512)))
    assert all(product.is_exact for product in products.products(exact))
