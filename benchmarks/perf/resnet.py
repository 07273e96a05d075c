"""ResNet-18 on random images, the timed network with convolutions."""

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.networks.functional import functional
from benchmarks.networks.resnet import resnet18
from benchmarks.perf.network import Network, encoder_with_heads, regression

_SIDE = 128
_BATCH = 8


def resnet(num_tasks: int, compute_dtype: str = "float32") -> Network:
    """ResNet-18 in training mode with linear regression heads and 8 images of 128 × 128 pixels.

    Its convolutions are computed in `compute_dtype`, statistics of the batch and heads in float32.
    """
    init = jax.jit(lambda: functional(resnet18(rngs=nnx.Rngs(0)))[1:])
    params, batch_stats = init()
    apply = functional(nnx.eval_shape(lambda: resnet18(rngs=nnx.Rngs(0)))).apply
    image_key, target_key, head_key = jax.random.split(jax.random.key(0), 3)
    batch = (
        jax.random.normal(image_key, (_BATCH, _SIDE, _SIDE, 3)),
        jax.random.normal(target_key, (_BATCH, num_tasks)),
    )
    heads = [
        jax.random.normal(k, (512, 1)) / 512**0.5 for k in jax.random.split(head_key, num_tasks)
    ]

    def rounded(params):
        # Kernels alone: batch normalisation has vectors, and float32.
        return jax.tree.map(lambda x: x.astype(compute_dtype) if x.ndim > 1 else x, params)

    def encode(params, batch):
        images = batch[0].astype(compute_dtype)
        features, _ = apply(rounded(params), batch_stats, images, train=True)
        return jnp.mean(features.astype(jnp.float32), axis=(1, 2))

    return encoder_with_heads((params, heads), batch, encode, regression(num_tasks), _is_last)


def _is_last(path: str) -> bool:
    """Whether the path is one of the last convolution."""
    return path.startswith("0/layer4/1/conv2/")
