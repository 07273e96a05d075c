"""A network with heads whose gradients stream, for the tests of streaming."""

import functools

import jax
import jax.numpy as jnp

import dbmtl_jax as dbmtl
from tests.helpers import samplers

T = 3
SUMS = {name for name, promises in dbmtl.PROPERTIES.items() if promises.passes == "1"}
"""Methods that never look at a task's gradient."""
METHODS = samplers.METHODS | {
    "db_mtl, beta 0": functools.partial(dbmtl.db_mtl, beta=0.0),
    "db_mtl, debias": functools.partial(
        dbmtl.db_mtl, beta=dbmtl.inverse_power_schedule(0.9, 0.5), debias=True
    ),
    "moco, normalize": functools.partial(dbmtl.moco, normalize=True),
}


def init(dtype=jnp.float32):
    keys = iter(jax.random.split(jax.random.key(0), 2 + T))
    normal = functools.partial(jax.random.normal, dtype=dtype)
    return {
        "encoder": {"w": normal(next(keys), (4, 5)), "b": normal(next(keys), (5,))},
        "heads": [normal(next(keys), (5, 2)) for _ in range(T)],
    }


def encode(params, x, ill):
    return jnp.tanh(x @ params["w"] + params["b"][None])


def head(task):
    def loss(params, z, x, ill):
        error = jnp.mean((z @ params - task) ** 2) * 10.0 ** (task - 1)
        # Adds nothing to the loss, and to the gradient ill², which overflows.
        return error + jnp.sum(ill[task] * (ill[task] * (z - jax.lax.stop_gradient(z))))

    return loss


def losses_fn(params, x, ill):
    z = encode(params["encoder"], x, ill)
    return [head(task)(params["heads"][task], z, x, ill) for task in range(T)]
