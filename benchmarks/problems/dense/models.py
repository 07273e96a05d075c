"""The networks for dense prediction with their losses, as functions of parameters and batches."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import dbmtl_jax as dbmtl
from benchmarks.networks import cross_stitch, deeplab, mtan, segnet, segnet_mtan
from benchmarks.problems.dense.settings import SHARED_REPRESENTATION, DenseConfig
from benchmarks.problems.images import (
    LossFun,
    Network,
    TaskGrads,
    network,
    shared_representation,
    side_by_side,
)
from benchmarks.problems.problem import Model, Variables
from benchmarks.tasks import Task

FIELDS = {"segmentation": "label", "depth": "depth", "normals": "normal"}
"""The target of each task, as the name of an array in a batch."""

_NETWORKS: dict[str, Callable[..., nnx.Module]] = {
    "deeplab": deeplab.DeepLab,
    "segnet": segnet.SegNet,
    "segnet_mtan": segnet_mtan.SegNetMTAN,
    "mtan": mtan.MTAN,
    "cross_stitch": cross_stitch.CrossStitch,
}

_ALONE = {"segnet_mtan": "segnet"}
"""What learns a single task beside a network: attention between one task and itself is none."""


def models(
    config: DenseConfig, tasks: Sequence[Task], num_outputs: Sequence[int]
) -> tuple[Model, Model]:
    """The multi-task network, and a single-task network for each task.

    Args:
      config: options of the network.
      tasks: the tasks.
      num_outputs: number of output channels of every task.
    """

    def make(name: str, outputs: Sequence[int]) -> Network:
        if name.startswith("segnet"):
            sizes: Any = [config.width * k for k in (1, 2, 4, 8, 8)]
        else:
            sizes = deeplab.Sizes(config.blocks, config.width, head_width=4 * config.width)
        cls = _NETWORKS[name]
        return network(lambda rngs: cls(outputs, sizes, rngs=rngs), config.weights)

    whole = make(config.network, num_outputs)
    alone = _ALONE.get(config.network, config.network)
    singles = [make(alone, [outputs]) for outputs in num_outputs]
    build = _shared if config.network in SHARED_REPRESENTATION else _joint
    grads = build(whole, tasks)

    def predict(params: Any, batch_stats: Any, batch: Any) -> list[Any]:
        return whole.outputs(params, batch_stats, batch["image"])[0]

    def predict_single(variables: list[Variables], batch: Any) -> list[Any]:
        return [
            single.outputs(*own, batch["image"])[0][0]
            for single, own in zip(singles, variables, strict=True)
        ]

    multi_task = Model(
        init=whole.init,
        losses=grads.losses,
        task_grads=grads.stacked,
        predict=predict,
        num_tasks=len(tasks),
        pending_task_grads=grads.pending,
        representation_task_grads=grads.of_representation,
    )
    single_losses = [
        _single_loss(single, task) for single, task in zip(singles, tasks, strict=True)
    ]
    return multi_task, side_by_side(singles, single_losses, predict_single)


def _shared(net: Network, tasks: Sequence[Task]) -> TaskGrads:
    """The losses and task gradients of a network with one representation for all heads."""
    return shared_representation(
        net,
        [functools.partial(_loss, task) for task in tasks],
        lambda batch: (batch["image"].shape[1:3],),
    )


def _joint(net: Network, tasks: Sequence[Task]) -> TaskGrads:
    """Like `_shared`, for a network with a representation for each task: there is none of all."""

    def losses(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        outputs, new = net.outputs(params, batch_stats, batch["image"], key)
        values = [_loss(task, out, batch) for task, out in zip(tasks, outputs, strict=True)]
        return jnp.stack(values), new

    labels = "shared", list(range(net.num_tasks))
    task_grads = functools.partial(dbmtl.value_and_task_grads, losses, labels=labels, has_aux=True)
    return TaskGrads(losses, task_grads(), task_grads(stream=True), None)


def _single_loss(net: Network, task: Task) -> LossFun:
    def loss(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        outputs, new = net.outputs(params, batch_stats, batch["image"], key)
        return _loss(task, outputs[0], batch), new

    return loss


def _loss(task: Task, output: jax.Array, batch: Any) -> jax.Array:
    return task.loss(output, batch[FIELDS[task.name]])
