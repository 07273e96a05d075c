"""Office-31 and Office-Home as multi-task problems."""

from typing import Any, cast

import jax
import numpy as np

from benchmarks import initial_weights
from benchmarks.data import source
from benchmarks.data.specs import OfficeName
from benchmarks.examples_file import Examples
from benchmarks.problems.images import NUM_EXAMPLES, check_batch_size
from benchmarks.problems.office.models import models
from benchmarks.problems.office.settings import OfficeConfig
from benchmarks.problems.problem import Metrics, Problem
from benchmarks.tasks import CLASSIFICATION


class OfficeProblem(Problem):
    """The data set with the multi-task network and the T single-task networks.

    Batches are dicts `image` [T, B, H, W, 3], `label` [T, B] and `active` [T]. An epoch is one pass
    over the largest domain. The multi-task network sees the images of the other domains several
    times, while their single-task networks stop after one pass, as if each were trained alone.

    Args:
      name: name of the data set.
      config: options of the data, the split and the network.
      batch_size: number of images of each task in a batch.

    Raises:
      UserError: if the data are missing.
    """

    network = "resnet18"
    has_examples = True
    batch_axis = 1

    def __init__(self, name: OfficeName, config: OfficeConfig, batch_size: int) -> None:
        self.name, self._batch_size = name, batch_size
        self.initial_weights = initial_weights.provenance(config.network, config.weights)
        check_batch_size(batch_size)
        opened = cast(
            source.OfficeSource,
            source.load(name, config.data_dir, split_seed=config.split_seed, lists=config.lists),
        )
        self._source, self.is_sample = opened, opened.is_sample
        self.tasks = opened.domains
        self.metric_names = [CLASSIFICATION.metric_names] * len(self.tasks)
        self.higher_is_better = [CLASSIFICATION.higher_is_better] * len(self.tasks)
        self.multi_task, self.single_task = models(config, len(self.tasks), opened.num_classes)

    def batches(self, split: str, *, seed: int = 0, epoch: int = 0) -> list[tuple[Any, Any]]:
        """The batches as pairs (None, (indices [T, B], mask [T, B], active [T])).

        `active` tells which single-task networks take the step.
        """
        if split == "train":
            rows = self._source.train_batches(self._batch_size, seed=seed, epoch=epoch)
            valid = np.ones_like(rows, bool)
            own_steps = self._source.train_steps(self._batch_size)
            active = np.arange(len(rows))[:, None] < np.asarray(own_steps)
        else:
            rows, valid = self._source.evaluation_batches(split, self._batch_size)
            active = np.ones((len(rows), len(self.tasks)), bool)
        return [(None, arrays) for arrays in zip(rows, valid, active, strict=True)]

    def read(self, static: None, arrays: Any) -> Any:
        """Reads the images and labels of a batch."""
        *images, active = arrays
        return {**self._source.batch(*images), "active": active}

    def load(self, data: Any, static: None, arrays: Any) -> Any:
        """Returns the batch unchanged."""
        return arrays

    def totals(self, predictions: list[jax.Array], batch: Any) -> list[Any]:
        """The totals of every domain."""
        return [
            CLASSIFICATION.totals(logits, labels)
            for logits, labels in zip(predictions, batch["label"], strict=True)
        ]

    def examples(self, predictions: list[jax.Array], batch: Any) -> Examples:
        """Some images of every domain, spread over the batch, as neighbours often share a class."""
        # Images that only fill up the last batch have a negative label.
        labelled = [np.flatnonzero(np.asarray(own) >= 0) for own in batch["label"]]
        few = [
            own[np.linspace(0, len(own) - 1, min(NUM_EXAMPLES, len(own))).astype(int)]
            for own in labelled
        ]

        def of_each(rows: Any) -> dict[str, Any]:
            return {
                name: np.asarray(row)[chosen]
                for name, row, chosen in zip(self.tasks, rows, few, strict=True)
            }

        guesses = {name: logits.argmax(-1) for name, logits in of_each(predictions).items()}
        return Examples(
            of_each(source.undo_normalisation(batch["image"])),
            of_each(batch["label"]),
            guesses,
            tuple(self._source.classes),
        )

    def metrics(self, totals: Any) -> Metrics:
        """The accuracy of every domain."""
        return [CLASSIFICATION.metrics(own) for own in totals]
