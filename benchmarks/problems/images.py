"""The common parts of problems on images: networks, and T single-task networks as one model."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx

import dbmtl_jax as dbmtl
from benchmarks.errors import UserError
from benchmarks.networks.functional import Apply, Arrays, functional
from benchmarks.networks.multi_task import join_tasks, split_tasks
from benchmarks.networks.pretrained import load_backbones
from benchmarks.problems.problem import Model, Variables

_RUNS_ONCE = {"xla_backend_optimization_level": 0}
"""Compiler options for initialisation, which compiles five times as fast without optimisation."""

NUM_EXAMPLES = 4
"""The number of test images (per task for Office) that are stored with their predictions."""

LossFun = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Any]]
"""(params, batch_stats, batch, key) -> (loss, new batch statistics)"""


class Network(NamedTuple):
    """A vision network in functional form. Its trees are pairs (encoder, list of heads)."""

    init: Callable[[jax.Array], Variables]
    """PRNG key -> initial parameters and batch statistics"""
    apply: Apply
    """the whole network"""
    encoder: Apply
    """the encoder"""
    heads: list[Apply]
    """the heads; their arguments are the output of the encoder and, except for Office, the image
    size"""

    @property
    def num_tasks(self) -> int:
        """The number of tasks T."""
        return len(self.heads)

    def outputs(
        self, params: Any, batch_stats: Any, images: jax.Array, key: jax.Array | None = None
    ) -> tuple[list[jax.Array], Any]:
        """The T outputs and the new batch statistics; with a key, in training mode."""
        outputs, new = self.apply(
            join_tasks(params), join_tasks(batch_stats), images, train=key is not None, rng=key
        )
        return outputs, split_tasks(new, self.num_tasks)


def network(make: Callable[[nnx.Rngs], nnx.Module], weights: pathlib.Path | None) -> Network:
    """Converts a network to its functional form.

    Args:
      make: function that makes the network.
      weights: file of ImageNet weights for the ResNets; None: random initial weights.
    """
    # Any: all networks have `encoder`, `heads` and `backbones`, but no common base class.
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


class TaskGrads(NamedTuple):
    """The losses of a network's tasks and their gradients, in the forms that `Model` has."""

    losses: Callable[..., Any]
    stacked: Callable[..., Any]
    pending: Callable[..., Any]
    of_representation: Callable[..., Any] | None
    """None if the heads share no representation"""


def shared_representation(
    net: Network,
    losses: Sequence[Callable[[jax.Array, Any], jax.Array]],
    further: Callable[[Any], tuple[Any, ...]] = lambda batch: (),
) -> TaskGrads:
    """The losses and task gradients of a network with one representation for all heads.

    The backward pass runs T times through the encoder and only once through each head.

    Args:
      net: the network, whose encoder reads `batch["image"]`.
      losses: for each task, (output of its head, batch) -> loss.
      further: batch -> what the heads take besides the representation.
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
                *further(batch),
                train=True,
                rng=jax.random.fold_in(key, t),
            )
            return losses[t](output, batch), new

        return loss

    heads = [head(t) for t in range(net.num_tasks)]

    def all_losses(params: Any, batch_stats: Any, batch: Any, key: jax.Array) -> Any:
        features, encoder_stats = encode(params[0], batch_stats, batch, key)
        rows = [
            head(own, features, batch_stats, batch, key)
            for head, own in zip(heads, params[1], strict=True)
        ]
        return jnp.stack([row[0] for row in rows]), (encoder_stats, [row[1] for row in rows])

    task_grads = functools.partial(dbmtl.encoder_value_and_task_grads, encode, heads, has_aux=True)
    return TaskGrads(
        all_losses, task_grads(), task_grads(stream=True), task_grads(wrt="representation")
    )


def side_by_side(
    networks: Sequence[Network],
    losses: Sequence[LossFun],
    predict: Callable[[list[Variables], Any], Any],
    active: Callable[[Any], jax.Array] | None = None,
) -> Model:
    """T single-task networks as one model, trained in the same steps.

    One program runs the T networks one after the other, as their shapes differ and they cannot be
    stacked. The training loop treats them like any other model.

    Args:
      networks: a network with one head for each task.
      losses: for each task, (params, batch_stats, batch, key) of its network -> (loss, new batch
        statistics).
      predict: (variables of all networks, batch) -> predictions.
      active: batch -> which networks take the step, see `Model`.
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
        # Loss t only depends on network t, so that the gradient of the sum contains all gradients.
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
        active=active,
    )


def check_batch_size(batch_size: int) -> None:
    """Checks that a batch has at least two images, which batch normalisation needs.

    Raises:
      UserError: otherwise.
    """
    if batch_size < 2:
        raise UserError(f"--train.batch-size: expected at least 2, found {batch_size}")
