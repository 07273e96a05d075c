"""An MLP, the timed network whose step is little but products of matrices."""

import itertools

import jax
import jax.numpy as jnp

from benchmarks.perf.network import Network, encoder_with_heads, regression

_WIDTHS = (512, 1600, 1600, 1024)  # 5.0 million shared parameters
_BATCH = 256


def mlp(num_tasks: int, compute_dtype: str = "float32") -> Network:
    """An MLP with tanh, 5 million parameters, linear regression heads and batch size 256.

    Its encoder computes in `compute_dtype`, its heads in float32.
    """
    keys = iter(jax.random.split(jax.random.key(0), 3 + len(_WIDTHS) + num_tasks))

    def matrix(rows: int, columns: int) -> jax.Array:
        return jax.random.normal(next(keys), (rows, columns)) / rows**0.5

    encoder = [
        {"w": matrix(rows, columns), "b": jnp.zeros(columns)}
        for rows, columns in itertools.pairwise(_WIDTHS)
    ]
    heads = [matrix(_WIDTHS[-1], 1) for _ in range(num_tasks)]
    x = jax.random.normal(next(keys), (_BATCH, _WIDTHS[0]))
    y = jax.random.normal(next(keys), (_BATCH, num_tasks))

    def encode(params, batch):
        z = batch[0].astype(compute_dtype)
        for layer in params:
            w, b = (layer[name].astype(compute_dtype) for name in ("w", "b"))
            z = jnp.tanh(z @ w + b[None])
        return z.astype(jnp.float32)

    last_bias = f"0/{len(encoder) - 1}/b"  # its matrix is a third of all shared parameters
    return encoder_with_heads(
        (encoder, heads), (x, y), encode, regression(num_tasks), lambda path: path == last_bias
    )
