"""QM9 as a multi-task problem: eleven regression tasks.

Training minimises the mean squared error; the metric is the mean absolute error (MAE).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.errors import UserError
from benchmarks.problems import qm9
from benchmarks.problems.problem import Metrics, Problem
from benchmarks.problems.qm9 import batching
from benchmarks.problems.qm9.models import MoleculeBatch, models
from benchmarks.problems.qm9.settings import QM9Config


class DeviceData(NamedTuple):
    """All molecules of the experiment, on the device."""

    charges: jax.Array  # [N, 29] int8
    positions: jax.Array  # [N, 29, 3] Å
    targets: jax.Array  # [N, 11] normalised


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
