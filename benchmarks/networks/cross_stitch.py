"""Cross-stitch networks on dilated ResNet-50s (Misra et al., 2016), with DeepLab's heads.

Every task has its own encoder. The input of the layers 2, 3 and 4 is a learnt combination of the
outputs of all encoders one layer before: x_t = Σ_j α[i, t, j] z_j.

**Shared parameters.** As in LibMTL, these are all encoders and all α. A gradient-balancing method
sees the gradient of every task with respect to every encoder; only the heads are task-specific.
(No other task uses `layer4` of encoder t, so that their gradients of it are 0; LibMTL counts it as
shared, and so does this implementation.)

**Difference from LibMTL.** LibMTL has a fourth T×T matrix α, which is never used and gets no
gradient; it is left out here. All α are initialised to 1, as in LibMTL.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.networks.deeplab import RESNET50, Sizes, aspp_heads
from benchmarks.networks.multi_task import check_counts
from benchmarks.networks.resnet import run_blocks


class CrossStitch(nnx.Module):
    """Images `[B, H, W, 3]` to a list of T predictions, `[B, H, W, num_outputs[t]]`.

    With (13, 1, 3) outputs (NYUv2), the network has 118,904,812 parameters: 70,524,123 shared ones
    in `encoder` (23,508,032 per task, and 3 T² for the matrices), and the heads of `DeepLab`. The
    output of task t is `heads[t](encoder(images)[t], (H, W))`.

    Args:
      num_outputs: number of output channels of every task.
      sizes: sizes of the ResNets and the heads.
      rngs: source of the initial parameters and of dropout.
    """

    def __init__(
        self, num_outputs: Sequence[int], sizes: Sizes = RESNET50, *, rngs: nnx.Rngs
    ) -> None:
        num_outputs = check_counts("num_outputs", num_outputs)
        self.encoder = CrossStitchEncoder(len(num_outputs), sizes, rngs=rngs)
        self.heads = aspp_heads(self.encoder.out_features, num_outputs, sizes, rngs=rngs)

    @property
    def backbones(self) -> tuple[tuple[str, ...], ...]:
        """The paths of the ResNets in the functional trees."""
        return tuple(("encoder", "branches", str(task)) for task in range(len(self.heads)))

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """The predictions of all tasks."""
        representations = self.encoder(images)
        return [
            head(features, images.shape[1:3])
            for head, features in zip(self.heads, representations, strict=True)
        ]


class CrossStitchEncoder(nnx.Module):
    """Images `[B, H, W, 3]` to one representation per task, shaped as the output of `ResNet`."""

    def __init__(self, num_tasks: int, sizes: Sizes, *, rngs: nnx.Rngs) -> None:
        self.branches = nnx.List([sizes.resnet(rngs=rngs) for _ in range(num_tasks)])
        self.stitches = nnx.Param(jnp.ones((3, num_tasks, num_tasks), jnp.float32))
        self.out_features = self.branches[0].out_features

    def __call__(self, images: jax.Array) -> tuple[jax.Array, ...]:
        """The representations of all tasks."""
        outputs = [run_blocks(branch.layers[0], branch.stem(images)) for branch in self.branches]
        for layer in (1, 2, 3):
            alpha = self.stitches[...][layer - 1]
            outputs = [
                run_blocks(branch.layers[layer], _combine(alpha[task], outputs))
                for task, branch in enumerate(self.branches)
            ]
        return tuple(outputs)


def _combine(weights: jax.Array, values: Sequence[jax.Array]) -> jax.Array:
    """The weighted sum Σ_j weights[j] values[j]."""
    total = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total += weight * value
    return total
