"""ResNet-18 and ResNet-50 without classifier, defined and initialised as in torchvision.

The 3×3 convolution of a bottleneck has the stride. Submodules are named as in torchvision, so that
the path of a weight is its name in torchvision, see `benchmarks.networks.pretrained`.
"""

from collections.abc import Sequence
from typing import Literal

import jax
from flax import nnx

from benchmarks.networks.batch_norm import BatchNorm
from benchmarks.networks.layers import KAIMING_FAN_OUT, Initializer, conv

RESNET18_BLOCKS = (2, 2, 2, 2)
RESNET50_BLOCKS = (3, 4, 6, 3)

OutputStride = Literal[8, 16, 32]

_DILATED_LAYERS = {32: (), 16: (4,), 8: (3, 4)}


class BasicBlock(nnx.Module):
    """Two 3×3 convolutions and a shortcut: `[B, H, W, in]` to `[B, ⌈H/s⌉, ⌈W/s⌉, width]`."""

    expansion = 1

    def __init__(
        self,
        in_features: int,
        width: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        init: Initializer = KAIMING_FAN_OUT,
        rngs: nnx.Rngs,
    ) -> None:
        if dilation != 1:
            raise ValueError(f"dilation: basic blocks have none, expected 1, found {dilation}")
        self.conv1 = conv(in_features, width, 3, stride=stride, init=init, rngs=rngs)
        self.bn1 = BatchNorm(width)
        self.conv2 = conv(width, width, 3, init=init, rngs=rngs)
        self.bn2 = BatchNorm(width)
        self.downsample = _shortcut(in_features, width, stride, init, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the block."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nnx.relu(y + _shorten(self.downsample, x))


class Bottleneck(nnx.Module):
    """Convolutions 1×1, 3×3, 1×1 and a shortcut: `[B, H, W, in]` to `[B, ⌈H/s⌉, ⌈W/s⌉, 4 width]`.

    The 3×3 convolution has the stride s and the dilation.
    """

    expansion = 4

    def __init__(
        self,
        in_features: int,
        width: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        init: Initializer = KAIMING_FAN_OUT,
        rngs: nnx.Rngs,
    ) -> None:
        out_features = self.expansion * width
        self.conv1 = conv(in_features, width, 1, init=init, rngs=rngs)
        self.bn1 = BatchNorm(width)
        self.conv2 = conv(width, width, 3, stride=stride, dilation=dilation, init=init, rngs=rngs)
        self.bn2 = BatchNorm(width)
        self.conv3 = conv(width, out_features, 1, init=init, rngs=rngs)
        self.bn3 = BatchNorm(out_features)
        self.downsample = _shortcut(in_features, out_features, stride, init, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the block."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = nnx.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return nnx.relu(y + _shorten(self.downsample, x))


class ResNet(nnx.Module):
    """Images `[B, H, W, 3]` to features `[B, ⌈H/s⌉, ⌈W/s⌉, out_features]`, s the output stride.

    With an output stride of 16, `layer4` keeps the size; with 8, `layer3` does too. Such a layer
    has stride 1; its first block has the dilation of the layer before, the others twice that. In
    torchvision, this is `replace_stride_with_dilation` (False, False, True) and (False, True,
    True).

    Args:
      block: the class of the blocks.
      blocks: number of blocks in each of the four layers.
      width: number of channels of the stem; the blocks of layer i have the width width·2^(i-1).
      output_stride: ratio of the sizes of the images and the features; values below 32 need
        bottlenecks.
      rngs: source of the initial parameters.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: Sequence[int],
        *,
        width: int = 64,
        output_stride: OutputStride = 32,
        rngs: nnx.Rngs,
    ) -> None:
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"blocks: expected four positive integers, found {tuple(blocks)}")
        if width < 1:
            raise ValueError(f"width: expected a positive integer, found {width}")
        if output_stride not in _DILATED_LAYERS:
            raise ValueError(f"output_stride: expected 8, 16 or 32, found {output_stride}")
        self.conv1 = conv(3, width, 7, stride=2, init=KAIMING_FAN_OUT, rngs=rngs)
        self.bn1 = BatchNorm(width)
        features, dilation = width, 1
        for layer, count in enumerate(blocks, start=1):
            stride = 1 if layer == 1 else 2
            first_dilation = dilation
            if layer in _DILATED_LAYERS[output_stride]:
                dilation, stride = 2 * dilation, 1
            made = []
            for index in range(count):
                made.append(
                    block(
                        features,
                        width * 2 ** (layer - 1),
                        stride=stride if index == 0 else 1,
                        dilation=first_dilation if index == 0 else dilation,
                        rngs=rngs,
                    )
                )
                features = width * 2 ** (layer - 1) * block.expansion
            setattr(self, f"layer{layer}", nnx.List(made))
        self.out_features = features

    @property
    def layers(self) -> list[nnx.List]:
        """The blocks of the four layers."""
        return [getattr(self, f"layer{layer}") for layer in range(1, 5)]

    def stem(self, images: jax.Array) -> jax.Array:
        """Applies the layers before `layer1`: `[B, H, W, 3]` to `[B, ⌈H/4⌉, ⌈W/4⌉, width]`."""
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images: expected [B, H, W, 3], found shape {images.shape}")
        x = nnx.relu(self.bn1(self.conv1(images)))
        return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

    def __call__(self, images: jax.Array) -> jax.Array:
        """The features of the last layer."""
        x = self.stem(images)
        for layer in self.layers:
            x = run_blocks(layer, x)
        return x


def resnet18(*, rngs: nnx.Rngs) -> ResNet:
    """ResNet-18 with 11,176,512 parameters: `[B, H, W, 3]` to `[B, ⌈H/32⌉, ⌈W/32⌉, 512]`."""
    return ResNet(BasicBlock, RESNET18_BLOCKS, rngs=rngs)


def resnet50(*, output_stride: OutputStride = 32, rngs: nnx.Rngs) -> ResNet:
    """ResNet-50 with 23,508,032 parameters: `[B, H, W, 3]` to `[B, ⌈H/s⌉, ⌈W/s⌉, 2048]`."""
    return ResNet(Bottleneck, RESNET50_BLOCKS, output_stride=output_stride, rngs=rngs)


def run_blocks(blocks: Sequence[nnx.Module] | nnx.List, x: jax.Array) -> jax.Array:
    """Applies modules one after the other."""
    for block in blocks:
        x = block(x)
    return x


def _shortcut(
    in_features: int, out_features: int, stride: int, init: Initializer, rngs: nnx.Rngs
) -> nnx.List | None:
    """A 1×1 convolution with batch normalisation if the shapes differ, else None."""
    if stride == 1 and in_features == out_features:
        return None
    return nnx.List(
        [
            conv(in_features, out_features, 1, stride=stride, init=init, rngs=rngs),
            BatchNorm(out_features),
        ]
    )


def _shorten(shortcut: nnx.List | None, x: jax.Array) -> jax.Array:
    return x if shortcut is None else run_blocks(shortcut, x)
