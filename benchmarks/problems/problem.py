"""What the training loop takes: a data set with what is to be learnt from it."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from benchmarks.examples_file import Examples

Metrics = list[list[float]]
"""One list of metrics per task."""

Variables = tuple[Any, Any]
"""What defines a network's output: its parameters and its batch statistics."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A network with its losses, as functions of its parameters and batch statistics.

    The parameters of a network are a pair (encoder, list of T heads). Where T single-task
    networks are trained at once, `independent` says how they lie in one tree: "stacked", every
    array having a leading axis T whose row t is task t's, or "listed", a list of T pairs, for
    networks of different shapes.

    Where training draws random numbers, they come from `key`; `stateless` makes a model out of
    functions that know neither keys nor statistics.
    """

    init: Callable[[jax.Array], Variables]
    """PRNG key -> parameters and statistics; not traced, so that it may read files"""
    losses: Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Any]]
    """(params, batch_stats, batch, key) -> losses [T], new statistics; in training mode"""
    task_grads: Callable[[Any, Any, Any, jax.Array], tuple[tuple[jax.Array, Any], Any]]
    """the same arguments -> (losses [T], new statistics), task gradients"""
    predict: Callable[[Any, Any, Any], Any]
    """(params, batch_stats, batch) -> predictions, as `Problem.totals` takes them; in evaluation
    mode"""
    num_tasks: int
    independent: Literal["", "stacked", "listed"] = ""
    pending_task_grads: Callable[[Any, Any, Any, jax.Array], tuple[Any, Any]] | None = None
    """like `task_grads`, with gradients that are not computed yet (`stream=True`); None: there is
    no such thing"""

    @property
    def labels(self) -> Any:
        """For `dbmtl_jax`: the encoder is shared, head t is task t's."""
        return "shared", list(range(self.num_tasks))

    @property
    def num_models(self) -> int:
        """How many models are trained: each has a learning rate and a best epoch of its own."""
        return self.num_tasks if self.independent else 1


def stateless(
    *,
    init: Callable[[jax.Array], Any],
    losses: Callable[[Any, Any], jax.Array],
    task_grads: Callable[[Any, Any], tuple[jax.Array, Any]],
    predict: Callable[[Any, Any], Any],
    num_tasks: int,
    independent: Literal["", "stacked", "listed"] = "",
    pending_task_grads: Callable[[Any, Any], tuple[jax.Array, Any]] | None = None,
) -> Model:
    """A `Model` without batch statistics or dropout.

    Args:
      init: PRNG key -> params.
      losses: (params, batch) -> losses [T].
      task_grads: (params, batch) -> losses [T], task gradients.
      predict: (params, batch) -> predictions.
      num_tasks, independent, pending_task_grads: as in `Model`, without statistics and key.
    """

    def with_statistics(task_grads: Callable[[Any, Any], tuple[jax.Array, Any]] | None) -> Any:
        if task_grads is None:
            return None

        def both(params: Any, _: Any, batch: Any, key: jax.Array) -> Any:
            values, grads = task_grads(params, batch)
            return (values, {}), grads

        return both

    return Model(
        init=lambda key: (init(key), {}),
        losses=lambda params, _, batch, key: (losses(params, batch), {}),
        task_grads=with_statistics(task_grads),
        predict=lambda params, _, batch: predict(params, batch),
        num_tasks=num_tasks,
        independent=independent,
        pending_task_grads=with_statistics(pending_task_grads),
    )


class Problem(abc.ABC):
    """A data set with what is to be learnt from it."""

    name: str
    """as on the command line"""
    network: str
    """as on the command line; of the multi-task model"""
    tasks: Sequence[str]
    """the names of the tasks"""
    metric_names: Sequence[Sequence[str]]
    """of every task"""
    higher_is_better: Sequence[Sequence[bool]]
    """for every metric of every task"""
    is_sample: bool = False
    """rendered data: results must say so"""
    has_examples: bool = False
    """whether there is something to see for people: `examples`"""
    multi_task: Model
    single_task: Model
    batch_axis: int = 0
    """of the arrays of a batch, where they have it; those of fewer axes are about all of it"""
    data: Any = ()
    """arrays on the device, passed to every step"""

    @abc.abstractmethod
    def batches(self, split: str, *, seed: int = 0, epoch: int = 0) -> list[tuple[Any, Any]]:
        """The batches of "train", "validation" or "test", as pairs (static, arrays).

        Seed and epoch determine those of "train". An empty validation split means that the last
        epoch counts.
        """

    def read(self, static: Any, arrays: Any) -> Any:
        """What else of a batch lies on the host; runs ahead, in threads. By default nothing."""
        return arrays

    def join(self, batches: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
        """Batches of several seeds, after `read`, as one whose arrays have a leading axis.

        A single one stays as it is.
        """
        if len(batches) == 1:
            return batches[0]
        static = self.common_static([static for static, _ in batches])
        return static, jax.tree.map(lambda *rows: np.stack(rows), *(own for _, own in batches))

    def common_static(self, statics: Sequence[Any]) -> Any:
        """What suits batches of several seeds; by default they all have the same."""
        if any(static != statics[0] for static in statics):
            raise ValueError(f"expected batches of one kind, found {list(statics)}")
        return statics[0]

    @abc.abstractmethod
    def load(self, data: Any, static: Any, arrays: Any) -> Any:
        """Makes a batch out of `data` and what was read; on the device, inside the step."""

    @abc.abstractmethod
    def totals(self, predictions: Any, batch: Any) -> Any:
        """What metrics are made of, arrays to be summed over batches; on the device."""

    @abc.abstractmethod
    def metrics(self, totals: Any) -> Metrics:
        """Every task's metrics from the totals summed over a split."""

    def examples(self, predictions: Any, batch: Any) -> Examples:
        """Some inputs with what is right and what was predicted; where `has_examples`."""
        raise NotImplementedError
