"""The DeepLabV3+-style network of the NYUv2 and Cityscapes benchmarks.

All tasks share a dilated ResNet-50, and every task has an ASPP head (Chen et al., "Encoder-decoder
with atrous separable convolution for semantic image segmentation", 2018). As in the LibMTL
benchmark, there is no skip connection from `layer1`, unlike in V3+. No softmax or normalisation is
applied to the predictions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.networks.layers import ConvNormReLU, conv
from benchmarks.networks.multi_task import check_counts
from benchmarks.networks.resize import resize_align_corners
from benchmarks.networks.resnet import RESNET50_BLOCKS, Bottleneck, OutputStride, ResNet

RATES = (12, 24, 36)
"""The dilations of the atrous convolutions."""


class Sizes(NamedTuple):
    """The sizes of dilated ResNets and the heads on them; smaller in tests."""

    blocks: Sequence[int] = RESNET50_BLOCKS  # in each of the four layers of a ResNet
    width: int = 64  # number of channels of a ResNet's stem
    output_stride: OutputStride = 8  # ratio of the sizes of the images and the features
    head_width: int = 256  # number of channels inside the heads

    def resnet(self, *, rngs: nnx.Rngs) -> ResNet:
        """A ResNet of this size."""
        return ResNet(
            Bottleneck, self.blocks, width=self.width, output_stride=self.output_stride, rngs=rngs
        )


RESNET50 = Sizes()
"""The sizes of the benchmarks."""


class DeepLab(nnx.Module):
    """Images `[B, H, W, 3]` to a list of T predictions, `[B, H, W, num_outputs[t]]`.

    `encoder` is the ResNet with 23,508,032 shared parameters. `heads[t]` has 16,125,440 parameters
    and 257 more for each output channel. In total there are 71,888,721 with (13, 1, 3) outputs
    (NYUv2), and 55,760,968 with (7, 1) (Cityscapes). The output of task t is
    `heads[t](encoder(images), (H, W))`.

    Args:
      num_outputs: number of output channels of every task.
      sizes: sizes of the ResNet and the heads.
      rngs: source of the initial parameters and of dropout.
    """

    backbones = (("encoder",),)

    def __init__(
        self, num_outputs: Sequence[int], sizes: Sizes = RESNET50, *, rngs: nnx.Rngs
    ) -> None:
        num_outputs = check_counts("num_outputs", num_outputs)
        self.encoder = sizes.resnet(rngs=rngs)
        self.heads = aspp_heads(self.encoder.out_features, num_outputs, sizes, rngs=rngs)

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """The predictions of all tasks."""
        features = self.encoder(images)
        return [head(features, images.shape[1:3]) for head in self.heads]


class ASPPHead(nnx.Module):
    """Features `[B, h, w, in_features]` to a prediction `[B, *size, num_outputs]`.

    The head consists of atrous spatial pyramid pooling, a 3×3 and a 1×1 convolution, and bilinear
    upsampling with aligned corners.
    """

    def __init__(
        self, in_features: int, num_outputs: int, *, width: int = 256, rngs: nnx.Rngs
    ) -> None:
        self.pyramid = ASPP(in_features, width, rngs=rngs)
        self.mix = ConvNormReLU(width, width, 3, rngs=rngs)
        self.predict = conv(width, num_outputs, 1, bias=True, rngs=rngs)

    def __call__(self, features: jax.Array, size: Sequence[int]) -> jax.Array:
        """The prediction, at the size of the images."""
        return resize_align_corners(self.predict(self.mix(self.pyramid(features))), size)


def aspp_heads(
    in_features: int, num_outputs: Sequence[int], sizes: Sizes, *, rngs: nnx.Rngs
) -> nnx.List:
    """A head for each task."""
    return nnx.List(
        [ASPPHead(in_features, n, width=sizes.head_width, rngs=rngs) for n in num_outputs]
    )


class ASPP(nnx.Module):
    """Atrous spatial pyramid pooling, `[B, h, w, in_features]` to `[B, h, w, width]`.

    Concatenates a 1×1 convolution, a 3×3 convolution for each dilation in `RATES`, and a 1×1
    convolution of the mean over the image; then applies a projection and dropout.
    """

    def __init__(self, in_features: int, width: int, *, rngs: nnx.Rngs) -> None:
        self.local = ConvNormReLU(in_features, width, 1, rngs=rngs)
        self.atrous = nnx.List(
            [ConvNormReLU(in_features, width, 3, dilation=rate, rngs=rngs) for rate in RATES]
        )
        self.image = ConvNormReLU(in_features, width, 1, rngs=rngs)
        self.project = ConvNormReLU((2 + len(RATES)) * width, width, 1, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Applies the pyramid, the projection and dropout."""
        views = [self.local(features), *(atrous(features) for atrous in self.atrous)]
        image = self.image(features.mean(axis=(1, 2), keepdims=True))
        views.append(jnp.broadcast_to(image, views[0].shape))
        return self.dropout(self.project(jnp.concatenate(views, axis=-1)))
