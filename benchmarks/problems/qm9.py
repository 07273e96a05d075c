"""QM9 as a multi-task problem: eleven regression tasks.

Training minimises the mean squared error; the metric is the mean absolute error (MAE).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import dbmtl_jax as dbmtl
from benchmarks.data import batching, qm9
from benchmarks.errors import UserError
from benchmarks.models.functional import functional
from benchmarks.models.qm9 import QM9Network
from benchmarks.problems.problem import Metrics, Model, Problem, stateless
from benchmarks.settings import QM9Config


class DeviceData(NamedTuple):
    """All molecules of the experiment, on the device."""

    charges: jax.Array  # [N, 29] int8
    positions: jax.Array  # [N, 29, 3] Å
    targets: jax.Array  # [N, 11] normalised


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


class QM9Problem(Problem):
    """The split and normalised data set with the multi-task and the single-task networks.

    Args:
      config: options of the data, the split and the network.
      batch_size: number of molecules in a batch.
      molecules: molecules to use; None: reads those of `config`.
      compute_dtype: dtype of the messages in training, see `models`.
      tasks: indices of the targets to learn; None: all.
    """

    name = "qm9"
    network = "nnconv"
    batch_axis = 1  # of [K, C]: devices and the halves of a batch each have a part of every chunk

    def __init__(
        self,
        config: QM9Config,
        batch_size: int,
        molecules: qm9.Molecules | None = None,
        *,
        compute_dtype: str = "float32",
        tasks: Sequence[int] | None = None,
    ) -> None:
        if config.chunks < 1:
            raise UserError(f"--chunks: expected at least 1, found {config.chunks}")
        self._batch_size = batch_size
        chosen = list(range(len(qm9.TASKS)) if tasks is None else tasks)
        self.tasks = tuple(qm9.TASKS[task] for task in chosen)
        self.metric_names = (("MAE",),) * len(chosen)
        self.higher_is_better = ((False,),) * len(chosen)
        if molecules is None:
            molecules = qm9.load(config.source, config.data_dir)
        split = qm9.split(
            len(molecules.charges),
            seed=config.split_seed,
            train=config.train_size,
            validation=config.validation_size,
            test=config.test_size,
        )
        # Only molecules of the split go to the device; from here on, indices refer to these.
        used = molecules.select(np.concatenate(split))
        ends = np.cumsum([len(part) for part in split])
        self._indices = dict(
            zip(split._fields, np.split(np.arange(ends[-1]), ends[:-1]), strict=True)
        )
        self._num_atoms = used.num_atoms
        self._paddings = batching.training_paddings(
            self._num_atoms[self._indices["train"]],
            batch_size=batch_size,
            chunks=config.chunks,
        )
        self._evaluation_paddings = batching.evaluation_paddings(self._num_atoms)
        of_all = qm9.Normalizer.fit(used.targets[self._indices["train"]])
        self._normalizer = qm9.Normalizer(of_all.mean[chosen], of_all.std[chosen])
        self.data = DeviceData(
            jnp.asarray(used.charges),
            jnp.asarray(used.positions),
            jnp.asarray(self._normalizer.normalize(used.targets[:, chosen]), jnp.float32),
        )
        self.multi_task, self.single_task = models(
            config, len(chosen), compute_dtype=compute_dtype, keys=chosen
        )

    def batches(self, split: str, *, seed: int = 0, epoch: int = 0) -> list[tuple[Any, Any]]:
        """The batches as pairs (padding, (indices [K, C], mask [K, C])).

        Those of training are random, the others are sorted by size and have a single chunk.
        """
        indices, paddings = self._indices[split], self._paddings
        if split == "train":
            order = np.random.default_rng([seed, epoch]).permutation(indices)
        else:
            order = indices[np.argsort(self._num_atoms[indices], kind="stable")]
            paddings = self._evaluation_paddings
        cut = batching.cut(self._num_atoms, order, batch_size=self._batch_size, paddings=paddings)
        return [(batch.padding, (batch.index, batch.valid)) for batch in cut]

    def num_atoms(self, split: str) -> np.ndarray:
        """The number of atoms of every molecule of a split."""
        return self._num_atoms[self._indices[split]]

    def common_static(self, statics: Sequence[batching.Padding]) -> batching.Padding:
        """The larger padding of every chunk."""
        return tuple(map(max, zip(*statics, strict=True)))

    def load(self, data: DeviceData, static: batching.Padding, arrays: Any) -> MoleculeBatch:
        """Gathers the molecules of the batch, each chunk padded to its size in `static`."""
        index, valid = arrays
        chunks = list(zip(index, static, strict=True))
        return MoleculeBatch(
            tuple(data.charges[own, :size].astype(jnp.int32) for own, size in chunks),
            tuple(data.positions[own, :size] for own, size in chunks),
            data.targets[index],
            valid,
        )

    def totals(self, predictions: jax.Array, batch: MoleculeBatch) -> Any:
        """The sum of absolute errors of every task, and the number of molecules."""
        errors = jnp.abs(predictions - batch.targets)
        present = batch.valid[..., None]
        return jnp.sum(errors, axis=(0, 1), where=present), jnp.sum(batch.valid)

    def metrics(self, totals: tuple[np.ndarray, np.ndarray]) -> Metrics:
        """The mean absolute error of every task in its unit."""
        absolute_errors, count = totals
        errors = self._normalizer.mae_in_units(np.asarray(absolute_errors, float) / float(count))
        return [[float(error)] for error in errors]


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
    own_keys = np.asarray(range(num_tasks) if keys is None else keys)

    def network(num_heads: int, rngs: nnx.Rngs, dtype: Any = None) -> QM9Network:
        return QM9Network(
            num_heads,
            width=config.width,
            edge_width=config.edge_width,
            message_steps=config.message_steps,
            message_dtype=dtype,
            rngs=rngs,
        )

    def initial(num_heads: int, key: jax.Array) -> Any:
        module = network(num_heads, nnx.Rngs(key))
        return functional(module.encoder).params, [functional(h).params for h in module.heads]

    Encode = Callable[[Any, MoleculeBatch], jax.Array]

    def encoder(dtype: Any) -> Encode:
        skeleton = nnx.eval_shape(lambda: network(1, nnx.Rngs(0), dtype))
        apply = functional(skeleton.encoder).apply

        def encode(params: Any, batch: MoleculeBatch) -> jax.Array:
            chunks = zip(batch.charges, batch.positions, strict=True)
            return jnp.stack([apply(params, {}, *chunk)[0] for chunk in chunks])  # [K, C, width]

        return encode

    apply_head = functional(nnx.eval_shape(lambda: network(1, nnx.Rngs(0))).heads[0]).apply
    evaluate = encoder(None)
    encode = evaluate if compute_dtype == "float32" else encoder(compute_dtype)

    def decode(params: Any, representation: jax.Array) -> jax.Array:
        return apply_head(params, {}, representation)[0][..., 0]

    def predict(params: Any, batch: MoleculeBatch, encode: Encode = evaluate) -> jax.Array:
        representation = encode(params[0], batch)
        return jnp.stack([decode(head, representation) for head in params[1]], axis=-1)

    def predict_single(params: Any, batch: MoleculeBatch, encode: Encode = evaluate) -> jax.Array:
        one = functools.partial(predict, encode=encode)
        return jax.vmap(one, in_axes=(0, None), out_axes=-1)(params, batch)[..., 0, :]

    def head_loss(task: int) -> Any:
        def loss(params: Any, representation: jax.Array, batch: MoleculeBatch) -> jax.Array:
            errors = decode(params, representation) - batch.targets[..., task]
            return _mean_square(errors, batch.valid)

        return loss

    def losses_of(predict: Any) -> Any:
        def losses(params: Any, batch: MoleculeBatch) -> jax.Array:
            errors = predict(params, batch, encode) - batch.targets[..., :num_tasks]
            return jax.vmap(_mean_square, in_axes=(-1, None))(errors, batch.valid)

        return losses

    single_losses = losses_of(predict_single)

    def single_task_grads(params: Any, batch: MoleculeBatch) -> tuple[jax.Array, Any]:
        # Row t of every parameter only affects loss t: the gradient of the sum is already stacked.
        losses, pullback = jax.vjp(lambda p: single_losses(p, batch), params)
        return losses, pullback(jnp.ones_like(losses))[0]

    task_grads = functools.partial(
        dbmtl.encoder_value_and_task_grads, encode, [head_loss(task) for task in range(num_tasks)]
    )
    multi_task = stateless(
        init=jax.jit(functools.partial(initial, num_tasks)),
        losses=losses_of(predict),
        task_grads=task_grads(mode=mode),
        pending_task_grads=task_grads(stream=True),
        representation_task_grads=task_grads(wrt="representation"),
        last_shared=lambda path: path.startswith("0/project/"),
        predict=predict,
        num_tasks=num_tasks,
    )
    single_task = stateless(
        init=jax.jit(
            lambda key: jax.vmap(functools.partial(initial, 1))(
                jax.random.split(key, len(qm9.TASKS))[own_keys]
            )
        ),
        losses=single_losses,
        task_grads=single_task_grads,
        predict=predict_single,
        num_tasks=num_tasks,
        independent="stacked",
    )
    return multi_task, single_task


def _mean_square(errors: jax.Array, valid: jax.Array) -> jax.Array:
    """The mean of the squared errors [K, C] over the valid molecules [K, C]."""
    return jnp.sum(errors**2, where=valid) / jnp.sum(valid)
