"""Multi-Fashion as a multi-task problem: two classifications of one image."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.data import batching
from benchmarks.examples_file import Examples
from benchmarks.problems.images import NUM_EXAMPLES, check_batch_size
from benchmarks.problems.multi_fashion.data import CLASSES, FashionMNIST, load, pairs
from benchmarks.problems.multi_fashion.models import NUM_TASKS, models
from benchmarks.problems.multi_fashion.settings import MultiFashionConfig
from benchmarks.problems.problem import Metrics, Problem
from benchmarks.tasks import CLASSIFICATION

MEAN, STD = 0.277, 0.363
"""Mean and standard deviation of the pixels of the training images, which are in [0, 1]."""


class DeviceData(NamedTuple):
    """The images of all sets, on the device."""

    images: jax.Array  # [N, 36, 36] uint8
    labels: jax.Array  # [N, 2] uint8


class MultiFashionProblem(Problem):
    """The images with the multi-task network and the two single-task networks.

    Args:
      config: options of the data, the split and the network.
      batch_size: number of images in a batch.
      garments: garments to use; None: reads those of `config`.

    Raises:
      UserError: if the data are missing or damaged, or options do not go together.
    """

    name = "multi_fashion"
    tasks = ("top_left", "bottom_right")
    metric_names = (CLASSIFICATION.metric_names,) * NUM_TASKS
    higher_is_better = (CLASSIFICATION.higher_is_better,) * NUM_TASKS
    has_examples = True

    def __init__(
        self, config: MultiFashionConfig, batch_size: int, garments: FashionMNIST | None = None
    ) -> None:
        self.network, self._batch_size = config.network, batch_size
        if config.network == "resnet18":
            check_batch_size(batch_size)
        sets = pairs(load(config.data_dir) if garments is None else garments, config)
        ends = np.cumsum([len(own.labels) for own in sets.values()])
        self._indices = dict(zip(sets, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
        self.data = DeviceData(
            *(jnp.asarray(np.concatenate(arrays)) for arrays in zip(*sets.values(), strict=True))
        )
        self.multi_task, self.single_task = models(config)

    def batches(self, split: str, *, seed: int = 0, epoch: int = 0) -> list[tuple[Any, Any]]:
        """The batches as pairs (None, (indices [B], mask [B]))."""
        indices = self._indices[split]
        if split == "train":
            rows = batching.epoch_batches(indices, self._batch_size, seed=seed, epoch=epoch)
            valid = np.ones_like(rows, bool)
        else:
            rows, valid = batching.evaluation_batches(indices, self._batch_size)
        return [(None, arrays) for arrays in zip(rows.astype(np.int32), valid, strict=True)]

    def load(self, data: DeviceData, static: None, arrays: Any) -> dict[str, jax.Array]:
        """Gathers the images of the batch and normalises them."""
        index, valid = arrays
        pixels = data.images[index].astype(jnp.float32) / 255
        labels = data.labels[index].astype(jnp.int32)
        return {
            "image": ((pixels - MEAN) / STD)[..., None],
            "label": jnp.where(valid[:, None], labels, -1),
        }

    def totals(self, predictions: list[jax.Array], batch: Any) -> list[Any]:
        """The totals of both tasks."""
        return [
            CLASSIFICATION.totals(logits, batch["label"][:, t])
            for t, logits in enumerate(predictions)
        ]

    def examples(self, predictions: list[jax.Array], batch: Any) -> Examples:
        """Images with both classes."""
        count = min(NUM_EXAMPLES, int((np.asarray(batch["label"])[:, 0] >= 0).sum()))
        grey = np.asarray(batch["image"][:count]) * STD + MEAN
        images = np.broadcast_to(grey, (*grey.shape[:-1], 3))
        labels = np.asarray(batch["label"][:count])
        return Examples(
            dict.fromkeys(self.tasks, images),
            {name: labels[:, t] for t, name in enumerate(self.tasks)},
            {
                name: np.asarray(logits[:count]).argmax(-1)
                for name, logits in zip(self.tasks, predictions, strict=True)
            },
            CLASSES,
        )

    def metrics(self, totals: Any) -> Metrics:
        """The accuracy of both tasks."""
        return [CLASSIFICATION.metrics(own) for own in totals]
