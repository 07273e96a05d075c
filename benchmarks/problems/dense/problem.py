"""NYUv2 and Cityscapes as multi-task problems."""

from typing import Any

import jax
import numpy as np

from benchmarks import initial_weights
from benchmarks.data import augment, source, specs
from benchmarks.data.specs import DenseName
from benchmarks.errors import UserError
from benchmarks.examples_file import Examples
from benchmarks.networks import segnet
from benchmarks.problems.dense.models import FIELDS, models
from benchmarks.problems.dense.settings import DenseConfig
from benchmarks.problems.images import NUM_EXAMPLES, check_batch_size
from benchmarks.problems.problem import Metrics, Problem
from benchmarks.tasks import DEPTH, NORMALS, SEGMENTATION

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
