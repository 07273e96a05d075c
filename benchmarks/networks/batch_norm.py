"""Batch normalisation with the running statistics of PyTorch.

Flax's layer tracks the biased variance of a batch, PyTorch's the unbiased one, which is n/(n-1)
times as large for n values per channel. The difference is negligible for a feature map, but the
image pooling of DeepLab has one value per image: with a batch size of 8, the running variance
would be an eighth lower, and the activations at evaluation 7% larger, than in the reference.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

MOMENTUM = 0.9
"""The weight of the old running statistics; PyTorch's `momentum=0.1` is that of the new ones."""


class BatchNorm(nnx.Module):
    """Normalises every channel (the last axis) by its mean and variance over all other axes.

    Training mode normalises with the statistics of the batch (biased variance) and updates the
    running statistics with them (unbiased variance); evaluation mode normalises with the running
    statistics. Statistics are computed in float32 or a higher precision. The parameters are
    `scale` and `bias` `[C]`, the batch statistics `mean` and `var` `[C]`.

    Raises:
      ValueError: in training mode, when called with a single value per channel, which has no
        variance.
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5) -> None:
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(features, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(features, jnp.float32))
        self.epsilon = epsilon
        self.use_running_average = False  # set by `train()` and `eval()` of a module

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises `x` `[..., C]`; the result has the same shape and dtype."""
        dtype = x.dtype
        x = x.astype(jnp.promote_types(dtype, jnp.float32))
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mean, var = self._move(x)
        factor = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        return ((x - _last(mean, x)) * _last(factor, x) + _last(self.bias[...], x)).astype(dtype)

    def _move(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Updates the running statistics and returns those of the batch."""
        axes = tuple(range(x.ndim - 1))
        count = math.prod(x.shape[:-1])
        if count < 2:
            raise ValueError(
                "batch normalisation in training mode: expected more than one value per channel, "
                f"found the shape {x.shape}; use a larger batch"
            )
        mean = x.mean(axis=axes)
        # Not E[x²] - E[x]², which loses precision if the mean is large.
        var = jnp.square(x - _last(mean, x)).mean(axis=axes)
        unbiased = var * (count / (count - 1))
        # Assigning to `[...]` would write into the array of the caller if it is a NumPy array.
        self.mean.set_value(MOMENTUM * self.mean[...] + (1 - MOMENTUM) * mean)
        self.var.set_value(MOMENTUM * self.var[...] + (1 - MOMENTUM) * unbiased)
        return mean, var


def in_turn(before: Any, after: Any) -> Any:
    """The batch statistics after T sequential forward passes, computed from T parallel ones.

    Each task has its own batch. All tasks start from the same statistics s, and task t results in
    s_t = μ s + (1-μ) m_t. Running the tasks one after the other would result in
    μ^T s + (1-μ) Σ_t μ^(T-1-t) m_t, which this function computes.

    Args:
      before: tree of the statistics at the start.
      after: the same tree after the T forward passes, each leaf with a leading axis T.
    """

    def merge(start: jax.Array, ends: jax.Array) -> jax.Array:
        current = start
        for end in ends:
            current = MOMENTUM * current + (end - MOMENTUM * start)
        return current

    return jax.tree.map(merge, before, after)


def _last(values: jax.Array, x: jax.Array) -> jax.Array:
    """Reshapes `values` `[C]` to as many axes as `x` has."""
    return values.reshape((1,) * (x.ndim - 1) + (-1,))
