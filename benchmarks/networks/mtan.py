"""MTAN (Liu et al., 2019) on the dilated ResNet-50, with DeepLab's heads.

All tasks use one ResNet. Every task multiplies the output of each of its four layers by an
attention mask. A bottleneck block, which all tasks share, converts the result to the width of the
next layer, whose attention uses it together with the features of the ResNet.

**Shared parameters.** `encoder` contains the ResNet and the three blocks between the layers.
`heads[t]` contains the four attention masks and the ASPP head of task t.

**Difference from LibMTL.** In LibMTL only the parameters of the ResNet are shared. Although all
tasks use the three blocks, they get the plain sum of the gradients of the losses (with DB-MTL, of
their logarithms), whatever the method. Here they are shared parameters like all others, so that
methods balance their gradients as well.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.networks.deeplab import RESNET50, ASPPHead, Sizes
from benchmarks.networks.layers import TORCH_DEFAULT, AttentionMask, halve
from benchmarks.networks.multi_task import check_counts
from benchmarks.networks.resnet import Bottleneck, run_blocks


class Stage(NamedTuple):
    """The features of one layer of the ResNet that attention uses."""

    before: jax.Array  # the input of the layer's last block
    after: jax.Array  # the output of the layer's last block


class MTAN(nnx.Module):
    """Images `[B, H, W, 3]` to a list of T predictions, `[B, H, W, num_outputs[t]]`.

    With (13, 1, 3) outputs (NYUv2), the network has 92,347,921 parameters, of which 31,439,424 are
    shared. The heads use the blocks of the encoder as well as its output, so that encoder and
    heads cannot run separately. As in the reference, a block between layers runs once for each
    task and updates its running statistics each time.

    Args:
      num_outputs: number of output channels of every task.
      sizes: sizes of the ResNet and the heads; at least two blocks in a layer.
      rngs: source of the initial parameters and of dropout.

    Raises:
      ValueError: when called with images whose sides are not multiples of the output stride.
    """

    backbones = (("encoder", "trunk"),)

    def __init__(
        self, num_outputs: Sequence[int], sizes: Sizes = RESNET50, *, rngs: nnx.Rngs
    ) -> None:
        num_outputs = check_counts("num_outputs", num_outputs)
        if min(sizes.blocks) < 2:
            raise ValueError(
                f"blocks: expected at least two in a layer, found {tuple(sizes.blocks)}"
            )
        self.encoder = MTANEncoder(sizes, rngs=rngs)
        self.heads = nnx.List([MTANHead(n, sizes, rngs=rngs) for n in num_outputs])

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """The predictions of all tasks."""
        _check_sides(images, self.encoder.output_stride)
        stages = self.encoder(images)
        return [head(stages, self.encoder.between, images.shape[1:3]) for head in self.heads]


class MTANEncoder(nnx.Module):
    """Images `[B, H, W, 3]` to the four `Stage`s of the ResNet, and the blocks between them."""

    def __init__(self, sizes: Sizes, *, rngs: nnx.Rngs) -> None:
        self.output_stride = sizes.output_stride
        self.trunk = sizes.resnet(rngs=rngs)
        features = _features(sizes.width)
        self.between = nnx.List(
            [
                Bottleneck(
                    features[i],
                    features[i + 1] // Bottleneck.expansion,
                    init=TORCH_DEFAULT,
                    rngs=rngs,
                )
                for i in range(3)
            ]
        )

    def __call__(self, images: jax.Array) -> list[Stage]:
        """Computes the stages."""
        x = self.trunk.stem(images)
        stages = []
        for layer in self.trunk.layers:
            before = run_blocks(layer[:-1], x)
            x = layer[-1](before)
            stages.append(Stage(before, x))
        return stages


class MTANHead(nnx.Module):
    """The task-specific part of the network: four attention masks and the ASPP head."""

    def __init__(self, num_outputs: int, sizes: Sizes, *, rngs: nnx.Rngs) -> None:
        features = _features(sizes.width)
        self.attention = nnx.List(
            [
                AttentionMask(
                    channels if i == 0 else 2 * channels,
                    channels // Bottleneck.expansion,
                    channels,
                    rngs=rngs,
                )
                for i, channels in enumerate(features)
            ]
        )
        self.decoder = ASPPHead(features[-1], num_outputs, width=sizes.head_width, rngs=rngs)

    def __call__(
        self, stages: Sequence[Stage], between: nnx.List, size: Sequence[int]
    ) -> jax.Array:
        """The prediction `[B, *size, num_outputs]`.

        Args:
          stages: the encoder's output.
          between: the blocks of the encoder between its layers.
          size: size of the images.
        """
        attended = self.attention[0](stages[0].before) * stages[0].after
        for i in (1, 2, 3):
            attended = between[i - 1](attended)
            if attended.shape[1:3] != stages[i].before.shape[1:3]:
                attended = halve(attended)
            seen = jnp.concatenate([stages[i].before, attended], axis=-1)
            attended = self.attention[i](seen) * stages[i].after
        return self.decoder(attended, size)


def _features(width: int) -> list[int]:
    """The number of output channels of each of the four layers."""
    return [Bottleneck.expansion * width * 2**layer for layer in range(4)]


def _check_sides(images: jax.Array, output_stride: int) -> None:
    """Checks the size of the images: pooling rounds odd sizes down, but strides round them up."""
    if images.ndim != 4 or any(side % output_stride for side in images.shape[1:3]):
        raise ValueError(
            f"images: expected [B, H, W, 3] with H and W multiples of {output_stride}, "
            f"found shape {images.shape}"
        )
