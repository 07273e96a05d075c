"""Convolutions and linear layers with the padding and the initial values of PyTorch.

The padding is explicit, as `"SAME"` pads strided convolutions on the other side than PyTorch.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.networks.batch_norm import BatchNorm

Initializer = nnx.initializers.Initializer

TORCH_DEFAULT: Initializer = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""U(±1/√fan_in), the initial values of `torch.nn.Conv2d` and `torch.nn.Linear`."""

KAIMING_FAN_OUT: Initializer = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
"""N(0, 2/fan_out), the initial values of convolutions in torchvision's ResNets."""

XAVIER: Initializer = nnx.initializers.variance_scaling(1.0, "fan_avg", "normal")
"""N(0, 2/(fan_in + fan_out)), the initial values of convolutions in MTAN's SegNet."""


def conv(
    in_features: int,
    out_features: int,
    size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: int | None = None,
    bias: bool = False,
    init: Initializer = TORCH_DEFAULT,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A square convolution that keeps the image's size, or divides it by the stride, rounding up.

    With `padding` there are this many pixels around the image instead of as many as it takes. With
    the default `init`, the bias is initialised as in PyTorch, with any other `init` to 0.
    """
    if padding is None:
        padding = dilation * (size // 2)
    return nnx.Conv(
        in_features,
        out_features,
        kernel_size=(size, size),
        strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        kernel_dilation=(dilation, dilation),
        use_bias=bias,
        kernel_init=init,
        bias_init=_bias_init(in_features * size**2, init),
        rngs=rngs,
    )


def linear(in_features: int, out_features: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    """A linear layer with PyTorch's initial values."""
    return nnx.Linear(
        in_features,
        out_features,
        kernel_init=TORCH_DEFAULT,
        bias_init=_bias_init(in_features, TORCH_DEFAULT),
        rngs=rngs,
    )


class ConvNormReLU(nnx.Module):
    """A convolution, batch normalisation and ReLU: `[B, H, W, in]` to `[B, H, W, out]`."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        size: int,
        *,
        dilation: int = 1,
        bias: bool = False,
        init: Initializer = TORCH_DEFAULT,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = conv(
            in_features, out_features, size, dilation=dilation, bias=bias, init=init, rngs=rngs
        )
        self.norm = BatchNorm(out_features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the three layers."""
        return nnx.relu(self.norm(self.conv(x)))


class AttentionMask(nnx.Module):
    """MTAN's attention: `[B, H, W, in_features]` to a mask in (0, 1), `[B, H, W, out_features]`.

    It consists of two 1×1 convolutions with batch normalisation, a ReLU in between and a final
    sigmoid.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        out_features: int,
        *,
        init: Initializer = TORCH_DEFAULT,
        rngs: nnx.Rngs,
    ) -> None:
        self.squeeze = ConvNormReLU(in_features, hidden, 1, bias=True, init=init, rngs=rngs)
        self.expand = conv(hidden, out_features, 1, bias=True, init=init, rngs=rngs)
        self.norm = BatchNorm(out_features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Computes the mask."""
        return nnx.sigmoid(self.norm(self.expand(self.squeeze(x))))


def halve(x: jax.Array) -> jax.Array:
    """2×2 max pooling, `[B, H, W, C]` to `[B, H // 2, W // 2, C]`."""
    return nnx.max_pool(x, (2, 2), strides=(2, 2))


def _bias_init(fan_in: int, init: Initializer) -> Initializer:
    if init is not TORCH_DEFAULT:
        return nnx.initializers.zeros_init()
    bound = fan_in**-0.5

    def uniform(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return uniform
