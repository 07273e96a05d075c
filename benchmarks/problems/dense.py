"""NYUv2 and Cityscapes: segmentation, depth and, for NYUv2, surface normals of every pixel."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import dbmtl_jax as dbmtl
from benchmarks import initial_weights
from benchmarks.data.vision import augment, source, specs
from benchmarks.data.vision.specs import DenseName
from benchmarks.errors import UserError
from benchmarks.examples_file import Examples
from benchmarks.models import cross_stitch, deeplab, mtan, segnet, segnet_mtan
from benchmarks.problems.problem import Metrics, Model, Problem, Variables
from benchmarks.problems.vision import (
    NUM_EXAMPLES,
    LossFun,
    Network,
    check_batch_size,
    network,
    side_by_side,
)
from benchmarks.settings import DenseConfig
from benchmarks.tasks import DEPTH, NORMALS, SEGMENTATION, Task

FIELDS = {"segmentation": "label", "depth": "depth", "normals": "normal"}
"""The target of each task, as the name of an array in a batch."""

_NETWORKS: dict[str, Callable[..., nnx.Module]] = {
    "deeplab": deeplab.DeepLab,
    "segnet": segnet.SegNet,
    "segnet_mtan": segnet_mtan.SegNetMTAN,
    "mtan": mtan.MTAN,
    "cross_stitch": cross_stitch.CrossStitch,
}
_SHARED_REPRESENTATION = {"deeplab", "segnet"}
"""The networks whose heads use only the output of the encoder, which is the same for all."""

_SIDES = {"segnet": segnet.STRIDE, "segnet_mtan": segnet.STRIDE, "mtan": 8}
"""The sides of the images must be multiples of these numbers."""


class DenseProblem(Problem):
    """The data set with the multi-task network and the T single-task networks of the same kind.

    Batches are dicts as `DenseSource.batch` gives them.

    Args:
      name: name of the data set.
      config: options of the data, the split and the network.
      batch_size: number of images in a batch.

    Raises:
      UserError: if the data are missing or unsuitable for the network.
    """

    has_examples = True

    def __init__(self, name: DenseName, config: DenseConfig, batch_size: int) -> None:
        self.name, self.network = name, config.network
        self._config, self._batch_size = config, batch_size
        opened = source.load(
            name,
            config.data_dir,
            split_seed=config.split_seed,
            validation_size=config.validation_size,
        )
        _check_size(config.network, opened.size)
        if not config.network.startswith("segnet"):
            check_batch_size(batch_size)
        elif config.weights is not None:
            raise UserError(f"--weights: {config.network} has no ResNet to load them into")
        self.initial_weights = initial_weights.provenance(config.network, config.weights)
        self._source, self.is_sample = opened, opened.is_sample
        tasks = [SEGMENTATION, DEPTH] + ([NORMALS] if name == "nyuv2" else [])
        self._tasks = tasks
        self.tasks = [task.name for task in tasks]
        self.metric_names = [task.metric_names for task in tasks]
        self.higher_is_better = [task.higher_is_better for task in tasks]
        channels = {"segmentation": opened.num_classes, "depth": 1, "normals": 3}
        self.multi_task, self.single_task = models(
            config, tasks, [channels[task.name] for task in tasks]
        )

    def batches(self, split: str, *, seed: int = 0, epoch: int = 0) -> list[tuple[Any, Any]]:
        """The batches as pairs (whether to augment, (indices [B], mask [B], augmentation seed))."""
        if split == "train":
            rows = self._source.train_batches(self._batch_size, seed=seed, epoch=epoch)
            numbers = np.random.default_rng([seed, epoch, 1]).integers(2**31, size=len(rows))
            every = np.ones(self._batch_size, bool)
            return [
                (self._config.augment, (row, every, number))
                for row, number in zip(rows, numbers.astype(np.uint32), strict=True)
            ]
        rows, valid = self._source.evaluation_batches(split, self._batch_size)
        return [
            (False, (row, counts, np.uint32(0))) for row, counts in zip(rows, valid, strict=True)
        ]

    def read(self, static: bool, arrays: Any) -> Any:
        """Reads the images and targets of a batch; the seed is unchanged."""
        indices, valid, number = arrays
        return self._source.batch(indices, valid), number

    def load(self, data: Any, static: bool, arrays: Any) -> Any:
        """Returns the batch, augmented if `static` is True."""
        batch, number = arrays
        return augment.augment(jax.random.key(number), batch) if static else batch

    def totals(self, predictions: list[jax.Array], batch: Any) -> list[Any]:
        """The totals of every task."""
        return [
            task.totals(output, batch[FIELDS[task.name]])
            for task, output in zip(self._tasks, predictions, strict=True)
        ]

    def examples(self, predictions: list[jax.Array], batch: Any) -> Examples:
        """Images with the targets and predictions of every task."""
        few = slice(NUM_EXAMPLES)
        shown = {
            name: np.asarray(output[few])
            for name, output in zip(self.tasks, predictions, strict=True)
        }
        shown["segmentation"] = shown["segmentation"].argmax(-1).astype(np.int8)
        targets = {name: np.asarray(batch[FIELDS[name]][few]) for name in self.tasks}
        images = np.asarray(batch["image"][few])
        return Examples(images, targets, shown, specs.DENSE[self.name].classes)

    def metrics(self, totals: Any) -> Metrics:
        """The metrics of every task."""
        return [task.metrics(own) for task, own in zip(self._tasks, totals, strict=True)]


def models(
    config: DenseConfig, tasks: Sequence[Task], num_outputs: Sequence[int]
) -> tuple[Model, Model]:
    """The multi-task network, and a single-task network for each task.

    Args:
      config: options of the network.
      tasks: the tasks.
      num_outputs: number of output channels of every task.
    """

    def make(outputs: Sequence[int]) -> Network:
        if config.network.startswith("segnet"):
            sizes: dict[str, Any] = {"widths": [config.width * k for k in (1, 2, 4, 8, 8)]}
        else:
            sizes = {
                "width": config.width,
                "head_width": 4 * config.width,
                "blocks": config.blocks,
            }
        cls = _NETWORKS[config.network]
        return network(lambda rngs: cls(outputs, **sizes, rngs=rngs), config.weights)

    whole = make(num_outputs)
    singles = [make([outputs]) for outputs in num_outputs]
    build = _shared if config.network in _SHARED_REPRESENTATION else _joint
    losses, *grads = build(whole, tasks)

    def predict(params: Any, batch_stats: Any, batch: Any) -> list[Any]:
        return whole.outputs(params, batch_stats, batch["image"])[0]

    def predict_single(variables: list[Variables], batch: Any) -> list[Any]:
        return [
            single.outputs(*own, batch["image"])[0][0]
            for single, own in zip(singles, variables, strict=True)
        ]

    multi_task = Model(
        init=whole.init,
        losses=losses,
        task_grads=grads[0],
        predict=predict,
        num_tasks=len(tasks),
        pending_task_grads=grads[1],
        representation_task_grads=grads[2],
    )
    single_losses = [
        _single_loss(single, task) for single, task in zip(singles, tasks, strict=True)
    ]
    return multi_task, side_by_side(singles, single_losses, predict_single)


def _check_size(name: str, size: tuple[int, int]) -> None:
    """Checks that the network can process images of this size.

    Raises:
      UserError: otherwise.
    """
    if any(side % _SIDES.get(name, 1) for side in size):
        raise UserError(
            f"--network {name} needs images whose sides are multiples of {_SIDES[name]}, and "
            f"these are {size[0]}×{size[1]}"
        )


def _shared(net: Network, tasks: Sequence[Task]) -> tuple[Any, Any, Any, Any]:
    """The losses of a network with one representation for all heads, and its task gradients.

    These are stacked, pending, and of the representation.

    The backward pass runs T times through the encoder and only once through each head.
    """

    def encode(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        rng = jax.random.fold_in(key, net.num_tasks)
        return net.encoder(params, batch_stats[0], batch["image"], train=True, rng=rng)

    def head(t: int) -> Callable[..., tuple[jax.Array, Any]]:
        def loss(params: Any, features: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
            output, new = net.heads[t](
                params,
                batch_stats[1][t],
                features,
                batch["image"].shape[1:3],
                train=True,
                rng=jax.random.fold_in(key, t),
            )
            return _loss(tasks[t], output, batch), new

        return loss

    heads = [head(t) for t in range(net.num_tasks)]

    def losses(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        features, encoder_stats = encode(params[0], batch_stats, batch, key)
        rows = [
            head(own, features, batch_stats, batch, key)
            for head, own in zip(heads, params[1], strict=True)
        ]
        return jnp.stack([row[0] for row in rows]), (encoder_stats, [row[1] for row in rows])

    task_grads = functools.partial(dbmtl.encoder_value_and_task_grads, encode, heads, has_aux=True)
    return losses, task_grads(), task_grads(stream=True), task_grads(wrt="representation")


def _joint(net: Network, tasks: Sequence[Task]) -> tuple[Any, Any, Any, Any]:
    """Like `_shared`, for a network with a representation for each task: there is none of all."""

    def losses(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        outputs, new = net.outputs(params, batch_stats, batch["image"], key)
        values = [_loss(task, out, batch) for task, out in zip(tasks, outputs, strict=True)]
        return jnp.stack(values), new

    labels = "shared", list(range(net.num_tasks))
    task_grads = functools.partial(dbmtl.value_and_task_grads, losses, labels=labels, has_aux=True)
    return losses, task_grads(), task_grads(stream=True), None


def _single_loss(net: Network, task: Task) -> LossFun:
    def loss(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        outputs, new = net.outputs(params, batch_stats, batch["image"], key)
        return _loss(task, outputs[0], batch), new

    return loss


def _loss(task: Task, output: jax.Array, batch: Any) -> jax.Array:
    return task.loss(output, batch[FIELDS[task.name]])
