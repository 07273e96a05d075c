"""The networks of QM9 with their losses, as functions of parameters and batches.

Training minimises the mean squared error.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import dbmtl_jax as dbmtl
from benchmarks.networks.functional import functional
from benchmarks.networks.qm9 import QM9Network
from benchmarks.problems import qm9
from benchmarks.problems.problem import Model, stateless
from benchmarks.problems.qm9.settings import QM9Config


class MoleculeBatch(NamedTuple):
    """A batch of K chunks of C molecules; those of chunk k are padded to A_k atoms."""

    charges: tuple[jax.Array, ...]  # K arrays [C, A_k]
    positions: tuple[jax.Array, ...]  # K arrays [C, A_k, 3]
    targets: jax.Array  # [K, C, 11]
    valid: jax.Array  # [K, C] bool, False for entries that only fill up the batch


def one_chunk(charges: jax.Array, positions: jax.Array, targets: jax.Array) -> MoleculeBatch:
    """A batch of a single chunk, of arrays [B, A], [B, A, 3] and [B, 11], without filling."""
    valid = jnp.ones((1, len(charges)), bool)
    return MoleculeBatch((charges,), (positions,), targets[None], valid)


class Network:
    """A network in functional form. Its parameters are a pair (encoder, list of heads).

    Args:
      config: size of the network.
      dtype: dtype of the messages between atoms; None: float32.
    """

    def __init__(self, config: QM9Config, dtype: Any = None) -> None:
        self._config, self._dtype = config, dtype
        skeleton = nnx.eval_shape(lambda: self._module(1, nnx.Rngs(0)))
        self._encoder = functional(skeleton.encoder).apply
        self._head = functional(skeleton.heads[0]).apply

    def _module(self, num_heads: int, rngs: nnx.Rngs) -> QM9Network:
        return QM9Network(
            num_heads,
            width=self._config.width,
            edge_width=self._config.edge_width,
            message_steps=self._config.message_steps,
            message_dtype=self._dtype,
            rngs=rngs,
        )

    def init(self, num_heads: int, key: jax.Array) -> Any:
        """The initial parameters."""
        module = self._module(num_heads, nnx.Rngs(key))
        return functional(module.encoder).params, [functional(h).params for h in module.heads]

    def encode(self, params: Any, batch: MoleculeBatch) -> jax.Array:
        """The representations [K, C, width], of the parameters of the encoder."""
        chunks = zip(batch.charges, batch.positions, strict=True)
        return jnp.stack([self._encoder(params, {}, *chunk)[0] for chunk in chunks])

    def decode(self, params: Any, representation: jax.Array) -> jax.Array:
        """The predictions [K, C] of a head, of its parameters."""
        return self._head(params, {}, representation)[0][..., 0]

    def predict(self, params: Any, batch: MoleculeBatch) -> jax.Array:
        """The predictions [K, C, heads]."""
        representation = self.encode(params[0], batch)
        return jnp.stack([self.decode(head, representation) for head in params[1]], axis=-1)

    def predict_each(self, params: Any, batch: MoleculeBatch) -> jax.Array:
        """The predictions [K, C, T] of T networks of one head, whose parameters are stacked."""
        return jax.vmap(self.predict, in_axes=(0, None), out_axes=-1)(params, batch)[..., 0, :]


def _mean_square(errors: jax.Array, valid: jax.Array) -> jax.Array:
    """The mean of the squared errors [K, C] over the valid molecules [K, C]."""
    return jnp.sum(errors**2, where=valid) / jnp.sum(valid)


def _losses(predictions: jax.Array, batch: MoleculeBatch) -> jax.Array:
    """The losses [T] of predictions [K, C, T]."""
    errors = predictions - batch.targets[..., : predictions.shape[-1]]
    return jax.vmap(_mean_square, in_axes=(-1, None))(errors, batch.valid)


def models(
    config: QM9Config,
    num_tasks: int = len(qm9.TASKS),
    mode: Literal["auto", "unroll", "loop", "vmap"] = "auto",
    compute_dtype: str = "float32",
    keys: Sequence[int] | None = None,
) -> tuple[Model, Model]:
    """The multi-task network, and T single-task networks, for the first T targets.

    Parameters are pairs (encoder, list of heads). Those of the single-task networks have a leading
    axis for the tasks, and one head.

    Args:
      config: size of the network.
      num_tasks: number of tasks T.
      mode: mode in which the engine computes stacked task gradients.
      compute_dtype: dtype of the messages between atoms in training, forward and backward; the
        rest, and evaluation, uses float32.
      keys: which of the eleven tasks' random keys each single-task network begins with; None: those
        of the first T.
    """
    evaluated = Network(config)
    trained = evaluated if compute_dtype == "float32" else Network(config, compute_dtype)
    own_keys = np.arange(num_tasks) if keys is None else np.asarray(keys)
    return (
        _multi_task(trained, evaluated, num_tasks, mode),
        _single_task(trained, evaluated, own_keys),
    )


def _multi_task(trained: Network, evaluated: Network, num_tasks: int, mode: Any) -> Model:
    def head_loss(task: int) -> Any:
        def loss(params: Any, representation: jax.Array, batch: MoleculeBatch) -> jax.Array:
            errors = trained.decode(params, representation) - batch.targets[..., task]
            return _mean_square(errors, batch.valid)

        return loss

    task_grads = functools.partial(
        dbmtl.encoder_value_and_task_grads,
        trained.encode,
        [head_loss(task) for task in range(num_tasks)],
    )
    return stateless(
        init=jax.jit(functools.partial(evaluated.init, num_tasks)),
        losses=lambda params, batch: _losses(trained.predict(params, batch), batch),
        task_grads=task_grads(mode=mode),
        pending_task_grads=task_grads(stream=True),
        representation_task_grads=task_grads(wrt="representation"),
        last_shared=lambda path: path.startswith("0/project/"),
        predict=evaluated.predict,
        num_tasks=num_tasks,
    )


def _single_task(trained: Network, evaluated: Network, keys: np.ndarray) -> Model:
    def init(key: jax.Array) -> Any:
        own = jax.random.split(key, len(qm9.TASKS))[keys]
        return jax.vmap(functools.partial(evaluated.init, 1))(own)

    def losses(params: Any, batch: MoleculeBatch) -> jax.Array:
        return _losses(trained.predict_each(params, batch), batch)

    def task_grads(params: Any, batch: MoleculeBatch) -> tuple[jax.Array, Any]:
        targets = jnp.moveaxis(batch.targets[..., : len(keys)], -1, 0)

        def of_one(own: tuple[Any, jax.Array]) -> tuple[jax.Array, Any]:
            def loss(params: Any) -> jax.Array:
                return _mean_square(trained.predict(params, batch)[..., 0] - own[1], batch.valid)

            return jax.value_and_grad(loss)(own[0])

        # On CPUs a network after the other takes half the time of all side by side.
        one_by_one = functools.partial(jax.lax.map, of_one)
        grads: tuple[jax.Array, Any] = jax.lax.platform_dependent(
            (params, targets), cpu=one_by_one, default=jax.vmap(of_one)
        )
        return grads

    return stateless(
        init=jax.jit(init),
        losses=losses,
        task_grads=task_grads,
        predict=evaluated.predict_each,
        num_tasks=len(keys),
        independent="stacked",
    )
