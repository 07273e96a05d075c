"""SegNet with MTAN's attention (Liu et al., 2019): the network behind Table 6.

The SegNet runs once for all tasks. At each of its five resolutions, on the way down and up, every
task multiplies the features by an attention mask, and passes the result to the next resolution
through a convolution that all tasks share.

**Shared parameters.** As in LibMTL and the Nash-MTL benchmark, everything but the two layers of the
heads counts as shared, including the attention of each task. Its gradients of the other tasks are
0, but it contributes to the norm of the gradient of its own task.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.networks.layers import XAVIER, AttentionMask, halve
from benchmarks.networks.multi_task import check_counts
from benchmarks.networks.resize import resize_align_corners
from benchmarks.networks.segnet import WIDTHS, SegNetHead, SegNetTrunk, Stage, convolutions


class SegNetMTAN(nnx.Module):
    """Images `[B, H, W, 3]` to a list of T predictions, `[B, H, W, num_outputs[t]]`.

    With (13, 1, 3) outputs (NYUv2), the network has 44,229,073 parameters, of which 44,117,184 are
    shared. The output of task t is `heads[t](encoder(images)[t], (H, W))`. As in the reference,
    the convolutions between resolutions run once for each task and update their running
    statistics each time.

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
        self.encoder = SegNetMTANEncoder(len(num_outputs), widths, rngs=rngs)
        self.heads = nnx.List([SegNetHead(widths[0], n, rngs=rngs) for n in num_outputs])

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """The predictions of all tasks."""
        representations = self.encoder(images)
        return [
            head(features, images.shape[1:3])
            for head, features in zip(self.heads, representations, strict=True)
        ]


class SegNetMTANEncoder(nnx.Module):
    """Images `[B, H, W, 3]` to one representation per task, `[B, H, W, widths[0]]`."""

    def __init__(self, num_tasks: int, widths: Sequence[int], *, rngs: nnx.Rngs) -> None:
        self.trunk = SegNetTrunk(widths, rngs=rngs)
        coarser = [*widths[1:], widths[-1]]
        finer = [widths[0], *widths[:-1]]
        self.down = convolutions(widths, coarser, rngs)
        self.up = convolutions(widths, finer, rngs)
        self.attention = nnx.List([TaskAttention(widths, rngs=rngs) for _ in range(num_tasks)])

    def __call__(self, images: jax.Array) -> tuple[jax.Array, ...]:
        """The representations of all tasks."""
        down, up = self.trunk.stages(images)
        return tuple(attend(down, up, self.down, self.up) for attend in self.attention)


class TaskAttention(nnx.Module):
    """The attention masks of one task, five on the way down and five on the way up."""

    def __init__(self, widths: Sequence[int], *, rngs: nnx.Rngs) -> None:
        finer = [widths[0], *widths[:-1]]
        self.down = nnx.List(
            [
                AttentionMask(width if i == 0 else 2 * width, width, width, init=XAVIER, rngs=rngs)
                for i, width in enumerate(widths)
            ]
        )
        self.up = nnx.List(
            [
                AttentionMask(width + target, target, target, init=XAVIER, rngs=rngs)
                for width, target in zip(widths, finer, strict=True)
            ]
        )

    def __call__(
        self,
        down: Sequence[Stage],
        up: Sequence[Stage],
        between_down: nnx.List,
        between_up: nnx.List,
    ) -> jax.Array:
        """The representation of the task from the stages of the trunk and shared convolutions."""
        seen = down[0].first
        for i, mask in enumerate(self.down):
            attended = halve(between_down[i](mask(seen) * down[i].last))
            if i + 1 < len(down):
                seen = jnp.concatenate([down[i + 1].first, attended], axis=-1)
        for stage, mask, between in reversed(list(zip(up, self.up, between_up, strict=True))):
            attended = between(resize_align_corners(attended, stage.first.shape[1:3]))
            seen = jnp.concatenate([stage.first, attended], axis=-1)
            attended = mask(seen) * stage.last
        return attended
