"""Classifiers of small grey images: LeNet or a ResNet, and a linear head for each task."""

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.networks.layers import conv, halve, linear
from benchmarks.networks.multi_task import check_counts
from benchmarks.networks.resnet import RESNET18_BLOCKS, BasicBlock, ResNet

_KERNEL = 5


class Classifier(nnx.Module):
    """Images `[B, H, W, 1]` to a list of T logits `[B, num_classes]`.

    The output of task t is `heads[t](encoder(images))`.

    Args:
      encoder: images to representations `[B, encoder.out_features]`.
      num_tasks: number of tasks (heads) T.
      num_classes: number of classes of each task.
      rngs: source of the initial parameters.
    """

    backbones = ()  # none begins from pretrained weights

    def __init__(
        self,
        encoder: "LeNet | GreyResNet",
        num_tasks: int,
        num_classes: int,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        check_counts("num_tasks, num_classes", (num_tasks, num_classes))
        self.encoder = encoder
        self.heads = nnx.List(
            [linear(encoder.out_features, num_classes, rngs=rngs) for _ in range(num_tasks)]
        )

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """The logits of all tasks."""
        representation = self.encoder(images)
        return [head(representation) for head in self.heads]


class LeNet(nnx.Module):
    """Images `[B, side, side, 1]` to representations `[B, 5 width]`.

    Two 5×5 convolutions without padding, each with 2×2 max pooling and ReLU, and a linear layer
    with ReLU: the encoder of Sener and Koltun, "Multi-Task Learning as Multi-Objective
    Optimization" (NeurIPS 2018), Section 5.1, without dropout. It has 10, 20 and 50 units there;
    with images of 36 × 36 pixels these are 41,330 parameters.

    Args:
      side: height and width of the images, at least 16.
      width: number of channels of the first convolution.
      rngs: source of the initial parameters.
    """

    def __init__(self, side: int, width: int = 10, *, rngs: nnx.Rngs) -> None:
        check_counts("width", (width,))
        if side < 16:
            raise ValueError(f"side: expected at least 16, found {side}")
        self.side, self.out_features = side, 5 * width
        self.conv1 = conv(1, width, _KERNEL, padding=0, bias=True, rngs=rngs)
        self.conv2 = conv(width, 2 * width, _KERNEL, padding=0, bias=True, rngs=rngs)
        for _ in range(2):
            side = (side - _KERNEL + 1) // 2
        self.hidden = linear(2 * width * side**2, self.out_features, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """The representations."""
        if images.shape[1:] != (self.side, self.side, 1):
            raise ValueError(
                f"images: expected [B, {self.side}, {self.side}, 1], found shape {images.shape}"
            )
        x = images
        for layer in (self.conv1, self.conv2):
            x = nnx.relu(halve(layer(x)))
        return nnx.relu(self.hidden(x.reshape(len(x), -1)))


class GreyResNet(nnx.Module):
    """Images `[B, H, W, 1]` to the mean features of a ResNet, `[B, 8 width]`.

    The ResNet gets the image as each of its three channels.

    Args:
      blocks: number of blocks in each of the four layers.
      width: number of channels of the first layer.
      rngs: source of the initial parameters.
    """

    def __init__(
        self, blocks: tuple[int, ...] = RESNET18_BLOCKS, width: int = 64, *, rngs: nnx.Rngs
    ) -> None:
        self.resnet = ResNet(BasicBlock, blocks, width=width, rngs=rngs)
        self.out_features = self.resnet.out_features

    def __call__(self, images: jax.Array) -> jax.Array:
        """The representations."""
        coloured = jnp.broadcast_to(images, (*images.shape[:-1], 3))
        return self.resnet(coloured).mean(axis=(1, 2))
