"""What the problems on images have in common: networks, and single-task models side by side."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.errors import UserError
from benchmarks.models.functional import Apply, Arrays, functional
from benchmarks.models.multi_task import join_tasks, split_tasks
from benchmarks.models.pretrained import load_backbones
from benchmarks.problems.problem import Model, Variables

_RUNS_ONCE = {"xla_backend_optimization_level": 0}
"""To compile the many random numbers of an initialisation in a fifth of the time."""

NUM_EXAMPLES = 4
"""Images of the test set that are kept with their predictions (of each task that has its own)."""

LossFun = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Any]]
"""(params, batch_stats, batch, key) -> loss, new statistics"""


class Network(NamedTuple):
    """A vision network in functional form. Its trees are pairs (encoder, list of heads)."""

    init: Callable[[jax.Array], Variables]
    apply: Apply
    """of the whole network"""
    encoder: Apply
    heads: list[Apply]
    """each is given the encoder's output and the size of the images, or the output alone"""

    @property
    def num_tasks(self) -> int:
        """T."""
        return len(self.heads)

    def outputs(
        self, params: Any, batch_stats: Any, images: jax.Array, key: jax.Array | None = None
    ) -> tuple[list[jax.Array], Any]:
        """The T outputs for the same images, and new statistics; a key: in training mode."""
        outputs, new = self.apply(
            join_tasks(params), join_tasks(batch_stats), images, train=key is not None, rng=key
        )
        return outputs, split_tasks(new, self.num_tasks)


def network(make: Callable[[nnx.Rngs], nnx.Module], weights: pathlib.Path | None) -> Network:
    """Takes a network apart.

    Args:
      make: makes it.
      weights: of ImageNet, for its ResNets; None: they start from scratch.
    """
    # Any: all networks have `encoder`, `heads` and `backbones`, which no class says.
    skeleton = cast(Any, nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    num_tasks = len(skeleton.heads)

    @functools.partial(jax.jit, compiler_options=_RUNS_ONCE)
    def initial(key: jax.Array) -> tuple[Arrays, Arrays]:
        _, params, batch_stats = functional(make(nnx.Rngs(key)))
        return params, batch_stats

    def init(key: jax.Array) -> Variables:
        params, batch_stats = initial(key)
        if weights is not None:
            params, batch_stats = load_backbones(weights, params, batch_stats, skeleton.backbones)
        return split_tasks(params, num_tasks), split_tasks(batch_stats, num_tasks)

    return Network(
        init,
        functional(skeleton).apply,
        functional(skeleton.encoder).apply,
        [functional(head).apply for head in skeleton.heads],
    )


def side_by_side(
    networks: Sequence[Network],
    losses: Sequence[LossFun],
    predict: Callable[[list[Variables], Any], Any],
) -> Model:
    """T single-task networks as one model, trained in the same steps.

    One program runs the T networks one after the other: their shapes differ, so that they cannot
    be stacked. The loop, the run's log and each task's best epoch are then those of any other run.

    Args:
      networks: one per task, each with one head.
      losses: (params, batch_stats, batch, key) of task t's network -> its loss, new statistics.
      predict: (variables of all networks, batch) -> predictions.
    """

    def init(key: jax.Array) -> Variables:
        keys = jax.random.split(key, len(networks))
        made = [own.init(k) for own, k in zip(networks, keys, strict=True)]
        return [params for params, _ in made], [stats for _, stats in made]

    def all_losses(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        keys = jax.random.split(key, len(networks))
        rows = [
            loss(own, stats, batch, k)
            for loss, own, stats, k in zip(losses, params, batch_stats, keys, strict=True)
        ]
        return jnp.stack([loss for loss, _ in rows]), [stats for _, stats in rows]

    def task_grads(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        # Network t has a part in loss t alone: the gradient of the sum is each one's own.
        def total(p: Any) -> Any:
            values, stats = all_losses(p, batch_stats, batch, key)
            return values.sum(), (values, stats)

        (_, aux), grads = jax.value_and_grad(total, has_aux=True)(params)
        return aux, grads

    return Model(
        init=init,
        losses=all_losses,
        task_grads=task_grads,
        predict=lambda params, stats, batch: predict(list(zip(params, stats, strict=True)), batch),
        num_tasks=len(networks),
        independent="listed",
    )


def check_batch_size(batch_size: int) -> None:
    """Batch normalisation needs two images.

    Raises:
      UserError: if there is one.
    """
    if batch_size < 2:
        raise UserError(f"--train.batch-size: expected at least 2, found {batch_size}")
