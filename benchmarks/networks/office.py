"""The network of Office-31 and Office-Home: ResNet-18, a shared hidden layer, linear heads."""

import jax
from flax import nnx

from benchmarks.networks.batch_norm import BatchNorm
from benchmarks.networks.layers import linear
from benchmarks.networks.multi_task import check_counts
from benchmarks.networks.resnet import RESNET18_BLOCKS, BasicBlock, ResNet


class OfficeNetwork(nnx.Module):
    """Images `[B, H, W, 3]` to a list of T logits `[B, num_classes]`.

    `encoder` has 11,440,192 shared parameters, and each head 513 per class. In total there are
    11,487,901 with three tasks of 31 classes (Office-31), and 11,573,572 with four tasks of 65
    classes (Office-Home). The output of task t is `heads[t](encoder(images))`.

    Every task has its own images: training runs the encoder separately on the batch of each task,
    so that batch normalisation sees one domain at a time (`batch_norm.in_turn` combines the
    statistics).

    Args:
      num_tasks: number of tasks (heads) T.
      num_classes: number of classes of each task.
      blocks, width, hidden: sizes of the ResNet and the hidden layer; smaller in tests.
      rngs: source of the initial parameters and of dropout.
    """

    backbones = (("encoder", "resnet"),)

    def __init__(
        self,
        num_tasks: int,
        num_classes: int,
        *,
        blocks: tuple[int, ...] = RESNET18_BLOCKS,
        width: int = 64,
        hidden: int = 512,
        rngs: nnx.Rngs,
    ) -> None:
        check_counts("num_tasks, num_classes, hidden", (num_tasks, num_classes, hidden))
        self.encoder = OfficeEncoder(blocks=blocks, width=width, hidden=hidden, rngs=rngs)
        self.heads = nnx.List([linear(hidden, num_classes, rngs=rngs) for _ in range(num_tasks)])

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """The logits of all tasks, for the same images."""
        representation = self.encoder(images)
        return [head(representation) for head in self.heads]


class OfficeEncoder(nnx.Module):
    """Images `[B, H, W, 3]` to representations `[B, hidden]`.

    It consists of ResNet-18, the mean over positions, and a linear layer with batch normalisation,
    ReLU and dropout.
    """

    def __init__(self, *, blocks: tuple[int, ...], width: int, hidden: int, rngs: nnx.Rngs) -> None:
        self.resnet = ResNet(BasicBlock, blocks, width=width, rngs=rngs)
        # The initial values of the benchmark.
        self.hidden = nnx.Linear(
            self.resnet.out_features,
            hidden,
            kernel_init=nnx.initializers.normal(0.005),
            bias_init=nnx.initializers.constant(0.1),
            rngs=rngs,
        )
        self.norm = BatchNorm(hidden)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """The representations."""
        features = self.resnet(images).mean(axis=(1, 2))
        return self.dropout(nnx.relu(self.norm(self.hidden(features))))
