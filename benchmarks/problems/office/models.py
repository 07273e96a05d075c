"""The networks for Office with their losses, as functions of parameters and batches."""

from typing import Any

import jax
import jax.numpy as jnp

import dbmtl_jax as dbmtl
from benchmarks.networks.batch_norm import in_turn
from benchmarks.networks.office import OfficeNetwork
from benchmarks.problems.images import LossFun, Network, network, side_by_side
from benchmarks.problems.office.settings import OfficeConfig
from benchmarks.problems.problem import Model, Variables
from benchmarks.tasks import CLASSIFICATION


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

    single = make(1)
    return _multi_task(make(num_tasks)), side_by_side(
        [single] * num_tasks,
        [_single_loss(single, t) for t in range(num_tasks)],
        lambda variables, batch: [
            _predict(single, own, images, 0)
            for own, images in zip(variables, batch["image"], strict=True)
        ],
        active=lambda batch: batch["active"],
    )


def _loss_of(net: Network, t: int) -> Any:
    """The loss of head t on images and labels, with the encoder's new batch statistics."""

    def loss(params: Any, batch_stats: Any, images: Any, labels: Any, key: jax.Array) -> Any:
        features, new = net.encoder(params[0], batch_stats[0], images, train=True, rng=key)
        logits, _ = net.heads[t](params[1][t], batch_stats[1][t], features, train=True)
        return CLASSIFICATION.loss(logits, labels), new

    return loss


def _predict(net: Network, variables: Variables, images: Any, t: int) -> jax.Array:
    (encoder, heads), (encoder_stats, head_stats) = variables
    features, _ = net.encoder(encoder, encoder_stats, images)
    return net.heads[t](heads[t], head_stats[t], features)[0]


def _multi_task(net: Network) -> Model:
    num_tasks = net.num_tasks
    task_losses = [_loss_of(net, t) for t in range(num_tasks)]

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

    def predict(params: Any, batch_stats: Any, batch: Any) -> list[jax.Array]:
        return [
            _predict(net, (params, batch_stats), images, t)
            for t, images in enumerate(batch["image"])
        ]

    return Model(
        init=net.init, losses=losses, task_grads=task_grads, predict=predict, num_tasks=num_tasks
    )


def _single_loss(net: Network, t: int) -> LossFun:
    loss = _loss_of(net, 0)

    def of_batch(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        value, new = loss(params, batch_stats, batch["image"][t], batch["label"][t], key)
        return value, (new, batch_stats[1])

    return of_batch
