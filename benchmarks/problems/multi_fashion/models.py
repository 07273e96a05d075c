"""The networks of Multi-Fashion with their losses, as functions of parameters and batches.

A batch is a dict of `image` [B, 36, 36, 1] and `label` [B, 2], negative where an image only fills
up the batch.
"""

import functools
from typing import Any

import jax
from flax import nnx

from benchmarks.networks.classifier import Classifier, GreyResNet, LeNet
from benchmarks.problems.images import (
    LossFun,
    Network,
    network,
    shared_representation,
    side_by_side,
)
from benchmarks.problems.multi_fashion.data import CLASSES, SIDE
from benchmarks.problems.multi_fashion.settings import MultiFashionConfig
from benchmarks.problems.problem import Model, Variables
from benchmarks.tasks import CLASSIFICATION

NUM_TASKS = 2

_LAST_SHARED = {"lenet": "0/hidden/", "resnet18": "0/resnet/layer4/"}
"""How the paths of the parameters of the last shared layer begin."""


def models(config: MultiFashionConfig) -> tuple[Model, Model]:
    """The multi-task network, and a single-task network for each task."""

    def make(num_tasks: int) -> Network:
        return network(lambda rngs: _classifier(config, num_tasks, rngs), None)

    whole, single = make(NUM_TASKS), make(1)
    losses = [functools.partial(_loss, t) for t in range(NUM_TASKS)]
    grads = shared_representation(whole, losses)

    def predict(params: Any, batch_stats: Any, batch: Any) -> list[jax.Array]:
        return whole.outputs(params, batch_stats, batch["image"])[0]

    def predict_single(variables: list[Variables], batch: Any) -> list[jax.Array]:
        return [single.outputs(*own, batch["image"])[0][0] for own in variables]

    multi_task = Model(
        init=whole.init,
        losses=grads.losses,
        task_grads=grads.stacked,
        predict=predict,
        num_tasks=NUM_TASKS,
        pending_task_grads=grads.pending,
        representation_task_grads=grads.of_representation,
        last_shared=lambda path: path.startswith(_LAST_SHARED[config.network]),
    )
    single_losses = [_single_loss(single, t) for t in range(NUM_TASKS)]
    return multi_task, side_by_side([single] * NUM_TASKS, single_losses, predict_single)


def _classifier(config: MultiFashionConfig, num_tasks: int, rngs: nnx.Rngs) -> Classifier:
    encoder = (
        LeNet(SIDE, config.width, rngs=rngs)
        if config.network == "lenet"
        else GreyResNet(config.blocks, config.width, rngs=rngs)
    )
    return Classifier(encoder, num_tasks, len(CLASSES), rngs=rngs)


def _loss(t: int, logits: jax.Array, batch: Any) -> jax.Array:
    return CLASSIFICATION.loss(logits, batch["label"][:, t])


def _single_loss(net: Network, t: int) -> LossFun:
    def loss(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        outputs, new = net.outputs(params, batch_stats, batch["image"], key)
        return _loss(t, outputs[0], batch), new

    return loss
