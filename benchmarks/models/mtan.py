"""MTAN (Liu et al., 2019) on the dilated ResNet-50, with DeepLab's heads.

One ResNet serves all tasks. After each of its four layers every task masks the layer's output by
attention; a bottleneck block, one for all tasks, takes what is left to the width of the next
layer, where it is attended to beside the ResNet's own features.

**What is shared.** `encoder`: the ResNet and the three blocks between layers. `heads[t]`: the
task's four attention masks and its ASPP head.

**Difference from LibMTL.** There the shared parameters are those of the ResNet alone. The three
blocks are neither shared nor any task's own: whatever the method, they get the plain sum of the
gradients of the losses (under DB-MTL, of their logarithms), even though all tasks use them. Here
they are shared parameters like any other, so that methods balance their gradients too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.models.deeplab import ASPPHead
from benchmarks.models.layers import TORCH_DEFAULT, AttentionMask, halve
from benchmarks.models.multi_task import check_counts
from benchmarks.models.resnet import (
    RESNET50_BLOCKS,
    Bottleneck,
    OutputStride,
    ResNet,
    run_blocks,
)


class Stage(NamedTuple):
    """What attention sees of one layer of the ResNet."""

    before: jax.Array  # the input of the layer's last block
    after: jax.Array  # its output


class MTAN(nnx.Module):
    """Images `[B, H, W, 3]` to a list of T predictions, `[B, H, W, num_outputs[t]]`.

    With (13, 1, 3) outputs (NYUv2) 92,347,921 parameters, 31,439,424 of them shared. The
    heads read the encoder's blocks as well as its output, so that the network runs as a whole
    only. As in the reference, a block between layers runs once for each task, and so do its
    running statistics move.

    Args:
      num_outputs: channels of every task's prediction.
      blocks, width, output_stride, head_width: as in `DeepLab`; at least two blocks in a layer.
      rngs: source of the initial parameters and of dropout.

    Raises:
      ValueError: when called with images whose sides do not halve evenly as often as the ResNet
        halves them.
    """

    backbones = (("encoder", "trunk"),)

    def __init__(
        self,
        num_outputs: Sequence[int],
        *,
        blocks: Sequence[int] = RESNET50_BLOCKS,
        width: int = 64,
        output_stride: OutputStride = 8,
        head_width: int = 256,
        rngs: nnx.Rngs,
    ) -> None:
        num_outputs = check_counts("num_outputs", num_outputs)
        if min(blocks) < 2:
            raise ValueError(f"blocks: expected at least two in a layer, found {tuple(blocks)}")
        self.encoder = MTANEncoder(
            blocks=blocks, width=width, output_stride=output_stride, rngs=rngs
        )
        self.heads = nnx.List(
            [MTANHead(width, outputs, head_width=head_width, rngs=rngs) for outputs in num_outputs]
        )

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """The predictions of all tasks."""
        _check_sides(images, self.encoder.output_stride)
        stages = self.encoder(images)
        return [head(stages, self.encoder.between, images.shape[1:3]) for head in self.heads]


class MTANEncoder(nnx.Module):
    """Images `[B, H, W, 3]` to the four `Stage`s of the ResNet, and the blocks between them."""

    def __init__(
        self,
        *,
        blocks: Sequence[int],
        width: int,
        output_stride: OutputStride,
        rngs: nnx.Rngs,
    ) -> None:
        self.output_stride = output_stride
        self.trunk = ResNet(Bottleneck, blocks, width=width, output_stride=output_stride, rngs=rngs)
        features = _features(width)
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
        """The stages."""
        x = self.trunk.stem(images)
        stages = []
        for layer in self.trunk.layers:
            before = run_blocks(layer[:-1], x)
            x = layer[-1](before)
            stages.append(Stage(before, x))
        return stages


class MTANHead(nnx.Module):
    """All that one task has of its own: four attention masks and the ASPP head."""

    def __init__(self, width: int, num_outputs: int, *, head_width: int, rngs: nnx.Rngs) -> None:
        features = _features(width)
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
        self.decoder = ASPPHead(features[-1], num_outputs, width=head_width, rngs=rngs)

    def __call__(
        self, stages: Sequence[Stage], between: nnx.List, size: Sequence[int]
    ) -> jax.Array:
        """The prediction `[B, *size, num_outputs]`.

        Args:
          stages: the encoder's output.
          between: the encoder's blocks between layers.
          size: that of the images.
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
    """Channels of the four layers' outputs."""
    return [Bottleneck.expansion * width * 2**layer for layer in range(4)]


def _check_sides(images: jax.Array, output_stride: int) -> None:
    """Pooling rounds down where the ResNet's strides round up."""
    if images.ndim != 4 or any(side % output_stride for side in images.shape[1:3]):
        raise ValueError(
            f"images: expected [B, H, W, 3] with H and W multiples of {output_stride}, "
            f"found shape {images.shape}"
        )
