"""Batch normalisation with the running statistics of PyTorch.

Flax's layer keeps the biased variance of a batch, PyTorch's the unbiased one: n/(n-1) times as
much, for n values per channel. Over a feature map that is nothing, but the image pooling of
DeepLab sees one value per image: at a batch size of 8 its running variance would be an eighth
lower and its activations at evaluation 7% larger than in the reference.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

MOMENTUM = 0.9
"""Weight of the old running statistics; PyTorch's `momentum=0.1` is that of the new ones."""


class BatchNorm(nnx.Module):
    """Normalises every channel (the last axis) by its mean and variance over all other axes.

    Training mode normalises with the batch's own statistics (biased variance) and moves the
    running ones towards them (unbiased variance); eval mode normalises with the running ones.
    Statistics are computed in float32 at least. The parameters are `scale` and `bias` `[C]`, the
    batch statistics `mean` and `var` `[C]`.

    Raises:
      ValueError: in training mode, when called with a single value per channel, of which there
        is no variance.
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5) -> None:
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(features, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(features, jnp.float32))
        self.epsilon = epsilon
        self.use_running_average = False  # `train()` and `eval()` of a module set it

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., C]` to `[..., C]`, in the dtype of `x`."""
        dtype = x.dtype
        x = x.astype(jnp.promote_types(dtype, jnp.float32))
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mean, var = self._move(x)
        factor = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        return ((x - _last(mean, x)) * _last(factor, x) + _last(self.bias[...], x)).astype(dtype)

    def _move(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Moves the running statistics; returns those of the batch."""
        axes = tuple(range(x.ndim - 1))
        count = math.prod(x.shape[:-1])
        if count < 2:
            raise ValueError(
                "batch normalisation in training mode: expected more than one value per channel, "
                f"found the shape {x.shape}; use a larger batch"
            )
        mean = x.mean(axis=axes)
        # Not E[x²] - E[x]²: that cancels where the mean is large.
        var = jnp.square(x - _last(mean, x)).mean(axis=axes)
        unbiased = var * (count / (count - 1))
        # Not assigned to `[...]`: that would write into the caller's array if it is NumPy's.
        self.mean.set_value(MOMENTUM * self.mean[...] + (1 - MOMENTUM) * mean)
        self.var.set_value(MOMENTUM * self.var[...] + (1 - MOMENTUM) * unbiased)
        return mean, var


def in_turn(before: Any, after: Any) -> Any:
    """The batch statistics after T forwards in turn, from T forwards that all began alike.

    Tasks with a batch each run side by side from the same statistics s, and task t arrives at
    s_t = μ s + (1-μ) m_t. One after the other they would have arrived at
    μ^T s + (1-μ) Σ_t μ^(T-1-t) m_t, which this computes.

    Args:
      before: the statistics at the start, a tree of arrays.
      after: the same tree with the statistics of the T forwards, each leaf with a leading axis T.
    """

    def merge(start: jax.Array, ends: jax.Array) -> jax.Array:
        current = start
        for end in ends:
            current = MOMENTUM * current + (end - MOMENTUM * start)
        return current

    return jax.tree.map(merge, before, after)


def _last(values: jax.Array, x: jax.Array) -> jax.Array:
    """`values` `[C]` with as many axes as `x` has."""
    return values.reshape((1,) * (x.ndim - 1) + (-1,))
