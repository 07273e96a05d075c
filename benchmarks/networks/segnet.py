"""SegNet (Badrinarayanan et al., 2017) as in the MTAN benchmark: all but the heads is shared.

Convolutions and 2×2 max pooling reduce the image to 1/32 of its size; unpooling and convolutions
enlarge it again. Unpooling puts each value where the maximum was, and zero elsewhere. No softmax or
normalisation is applied to the predictions.

According to their sources, the results that Table 6 of the paper quotes are of this network with
MTAN's attention, see `benchmarks.networks.segnet_mtan`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.networks.layers import XAVIER, ConvNormReLU, conv
from benchmarks.networks.multi_task import check_counts
from benchmarks.networks.resize import resize_align_corners
from benchmarks.networks.resnet import run_blocks

WIDTHS = (64, 128, 256, 512, 512)
"""The number of channels of each of the five stages."""

_NUMBERS = (2, 2, 3, 3, 3)
"""The number of convolutions of each stage."""

STRIDE = 2 ** len(WIDTHS)
"""The sides of images must be multiples of this."""


class SegNet(nnx.Module):
    """Images `[B, H, W, 3]` to a list of T predictions, `[B, H, W, num_outputs[t]]`.

    `encoder` is the SegNet without the heads. With (13, 1, 3) outputs (NYUv2), the network has
    25,055,185 parameters, of which 24,943,296 are shared. With (13,) it has 24,981,069, as stated
    by the authors of MTAN. The output of task t is `heads[t](encoder(images), (H, W))`.

    Args:
      num_outputs: number of output channels of every task.
      widths: number of channels of the five stages; smaller in tests.
      rngs: source of the initial parameters.

    Raises:
      ValueError: when called with images whose sides are not multiples of 32.
    """

    backbones = ()

    def __init__(
        self, num_outputs: Sequence[int], widths: Sequence[int] = WIDTHS, *, rngs: nnx.Rngs
    ) -> None:
        num_outputs = check_counts("num_outputs", num_outputs)
        self.encoder = SegNetTrunk(widths, rngs=rngs)
        self.heads = nnx.List([SegNetHead(widths[0], n, rngs=rngs) for n in num_outputs])

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """The predictions of all tasks."""
        features = self.encoder(images)
        return [head(features, images.shape[1:3]) for head in self.heads]


class Stage(NamedTuple):
    """The features of one resolution of a SegNet, on the way down or up."""

    first: jax.Array  # after the first convolution (down), or before it (up)
    last: jax.Array  # after the last convolution


class SegNetTrunk(nnx.Module):
    """Images `[B, H, W, 3]` to features `[B, H, W, widths[0]]`."""

    def __init__(self, widths: Sequence[int] = WIDTHS, *, rngs: nnx.Rngs) -> None:
        if len(check_counts("widths", widths)) != len(WIDTHS):
            raise ValueError(f"widths: expected {len(WIDTHS)} integers, found {tuple(widths)}")

        def stage(source: int, target: int, number: int) -> nnx.List:
            return convolutions([source] + [target] * (number - 1), [target] * number, rngs)

        def stages(sources: Sequence[int], targets: Sequence[int]) -> nnx.List:
            return nnx.List(list(map(stage, sources, targets, _NUMBERS)))

        self.down = stages([3, *widths[:-1]], widths)
        self.up = stages(widths, [widths[0], *widths[:-1]])

    def __call__(self, images: jax.Array) -> jax.Array:
        """The features of the last stage."""
        return self.stages(images)[1][0].last

    def stages(self, images: jax.Array) -> tuple[list[Stage], list[Stage]]:
        """The stages on the way down and up, both from the finest to the coarsest."""
        if images.ndim != 4 or images.shape[-1] != 3 or any(n % STRIDE for n in images.shape[1:3]):
            raise ValueError(
                f"images: expected [B, H, W, 3] with H and W multiples of {STRIDE}, found shape "
                f"{images.shape}"
            )
        down, up, places = [], [], []
        x = images
        for convolutions in self.down:
            first = convolutions[0](x)
            last = run_blocks(convolutions[1:], first)
            down.append(Stage(first, last))
            x, place = pool_with_places(last)
            places.append(place)
        for convolutions, place in zip(reversed(self.up), reversed(places), strict=True):
            first = unpool(x, place)
            x = run_blocks(convolutions, first)
            up.append(Stage(first, x))
        return down, up[::-1]


class SegNetHead(nnx.Module):
    """Features `[B, h, w, width]` to a prediction `[B, *size, num_outputs]`.

    The head is a 3×3 and a 1×1 convolution without a nonlinearity in between. The features of the
    trunk already have the size of the image.
    """

    def __init__(self, width: int, num_outputs: int, *, rngs: nnx.Rngs) -> None:
        self.mix = conv(width, width, 3, bias=True, rngs=rngs)
        self.predict = conv(width, num_outputs, 1, bias=True, rngs=rngs)

    def __call__(self, features: jax.Array, size: Sequence[int]) -> jax.Array:
        """The prediction."""
        return resize_align_corners(self.predict(self.mix(features)), size)


def pool_with_places(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """2×2 max pooling that also returns the positions of the maxima.

    `[B, 2h, 2w, C]` to `[B, h, w, C]` and a mask `[B, h, 2, w, 2, C]`, which is 1 at the first
    maximum of each window and 0 elsewhere.
    """
    batch, height, width, channels = x.shape
    windows = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    ordered = windows.transpose(0, 1, 3, 5, 2, 4).reshape(
        batch, height // 2, width // 2, channels, 4
    )
    mask = jax.nn.one_hot(jnp.argmax(ordered, axis=-1), 4, dtype=x.dtype)
    places = mask.reshape(*mask.shape[:-1], 2, 2).transpose(0, 1, 4, 2, 5, 3)
    # Not `max`, whose derivative would be split between equal values.
    return (windows * places).sum(axis=(2, 4)), places


def unpool(x: jax.Array, places: jax.Array) -> jax.Array:
    """The inverse of `pool_with_places`, `[B, 2h, 2w, C]`, with 0 everywhere but at the maxima."""
    batch, height, width, channels = x.shape
    spread = x[:, :, None, :, None, :] * places
    return spread.reshape(batch, 2 * height, 2 * width, channels)


def convolutions(sources: Sequence[int], targets: Sequence[int], rngs: nnx.Rngs) -> nnx.List:
    """A 3×3 convolution for each pair of numbers of channels, with the initial values of MTAN."""
    return nnx.List(
        [
            ConvNormReLU(source, target, 3, bias=True, init=XAVIER, rngs=rngs)
            for source, target in zip(sources, targets, strict=True)
        ]
    )
