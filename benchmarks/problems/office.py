"""Office-31 and Office-Home: each domain is a classification task with its own images."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

import dbmtl_jax as dbmtl
from benchmarks import initial_weights
from benchmarks.data.vision import source
from benchmarks.data.vision.specs import OfficeName
from benchmarks.examples_file import Examples
from benchmarks.models.batch_norm import in_turn
from benchmarks.models.office import OfficeNetwork
from benchmarks.problems.problem import Metrics, Model, Problem, Variables
from benchmarks.problems.vision import (
    NUM_EXAMPLES,
    LossFun,
    Network,
    check_batch_size,
    network,
    side_by_side,
)
from benchmarks.settings import OfficeConfig
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


def models(config: OfficeConfig, num_tasks: int, num_classes: int) -> tuple[Model, Model]:
    """The multi-task network, and a single-task network for each task."""

    def make(tasks: int) -> Network:
        return network(
            lambda rngs: OfficeNetwork(
                tasks,
                num_classes,
                blocks=config.blocks,
                width=config.width,
                hidden=8 * config.width,
                rngs=rngs,
            ),
            config.weights,
        )

    whole, single = make(num_tasks), make(1)

    def loss_of(net: Network, t: int) -> Any:
        def loss(params: Any, batch_stats: Any, images: Any, labels: Any, key: jax.Array) -> Any:
            features, new = net.encoder(params[0], batch_stats[0], images, train=True, rng=key)
            logits, _ = net.heads[t](params[1][t], batch_stats[1][t], features, train=True)
            return CLASSIFICATION.loss(logits, labels), new

        return loss

    task_losses = [loss_of(whole, t) for t in range(num_tasks)]

    def after(before: Any, encoders: Any) -> Any:
        """The batch statistics as if the tasks had run one after the other."""
        return in_turn(before[0], encoders), before[1]

    def losses(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        keys = jax.random.split(key, num_tasks)
        rows = [
            loss(params, batch_stats, *own)
            for loss, *own in zip(task_losses, batch["image"], batch["label"], keys, strict=True)
        ]
        encoders = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(new for _, new in rows))
        return jnp.stack([loss for loss, _ in rows]), after(batch_stats, encoders)

    def task_grads(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        def fun(t: int) -> Any:
            return lambda p, *own: task_losses[t](p, batch_stats, *own)

        value_and_grads = dbmtl.per_task_value_and_grads(
            [fun(t) for t in range(num_tasks)],
            labels=("shared", list(range(num_tasks))),
            has_aux=True,
        )
        keys = jax.random.split(key, num_tasks)
        (values, encoders), grads = value_and_grads(params, batch["image"], batch["label"], keys)
        return (values, after(batch_stats, encoders)), grads

    def predict(net: Network, variables: Variables, images: Any, t: int) -> jax.Array:
        (encoder, heads), (encoder_stats, head_stats) = variables
        features, _ = net.encoder(encoder, encoder_stats, images)
        return net.heads[t](heads[t], head_stats[t], features)[0]

    def predict_all(params: Any, batch_stats: Any, batch: Any) -> list[jax.Array]:
        return [
            predict(whole, (params, batch_stats), images, t)
            for t, images in enumerate(batch["image"])
        ]

    def single_loss(t: int) -> LossFun:
        loss = loss_of(single, 0)

        def of_batch(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
            value, new = loss(params, batch_stats, batch["image"][t], batch["label"][t], key)
            return value, (new, batch_stats[1])

        return of_batch

    def predict_single(variables: list[Variables], batch: Any) -> list[jax.Array]:
        return [
            predict(single, own, images, 0)
            for own, images in zip(variables, batch["image"], strict=True)
        ]

    multi_task = Model(
        init=whole.init,
        losses=losses,
        task_grads=task_grads,
        predict=predict_all,
        num_tasks=num_tasks,
    )
    return multi_task, side_by_side(
        [single] * num_tasks,
        [single_loss(t) for t in range(num_tasks)],
        predict_single,
        active=lambda batch: batch["active"],
    )
