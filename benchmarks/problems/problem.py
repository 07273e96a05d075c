"""The interface between learning problems and the training loop."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from benchmarks.examples_file import Examples

Metrics = list[list[float]]
"""A list of metrics for every task."""

Variables = tuple[Any, Any]
"""The parameters and the batch statistics of a network."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A network with its losses, as functions of its parameters and batch statistics.

    The parameters of a network are a pair (encoder, list of T heads). If T single-task networks are
    trained at once, `independent` says how their parameters form one tree: "stacked" if every
    array has a leading axis T for the tasks, or "listed" for a list of T pairs, if the networks
    have different shapes.

    Random numbers of training come from `key`; `stateless` makes a model from functions without
    keys and batch statistics.
    """

    init: Callable[[jax.Array], Variables]
    """PRNG key -> parameters and batch statistics; it is not jitted, so that it can read files"""
    losses: Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, Any]]
    """(params, batch_stats, batch, key) -> (losses [T], new batch statistics), in training mode"""
    task_grads: Callable[[Any, Any, Any, jax.Array], tuple[tuple[jax.Array, Any], Any]]
    """(params, batch_stats, batch, key) -> ((losses [T], new batch statistics), task gradients)"""
    predict: Callable[[Any, Any, Any], Any]
    """(params, batch_stats, batch) -> predictions for `Problem.totals`, in evaluation mode"""
    num_tasks: int
    """number of tasks T"""
    independent: Literal["", "stacked", "listed"] = ""
    """empty for a multi-task network; otherwise how T single-task networks form one tree"""
    active: Callable[[Any], jax.Array] | None = None
    """batch -> which of the "listed" networks [T] take this step, the others stay as they are;
    None: all do, always"""
    pending_task_grads: Callable[[Any, Any, Any, jax.Array], tuple[Any, Any]] | None = None
    """like `task_grads`, but with gradients that are not computed yet (`stream=True`); None if the
    model does not support it"""
    representation_task_grads: Callable[[Any, Any, Any, jax.Array], tuple[Any, Any]] | None = None
    """like `task_grads`, but with gradients of the representation; None if the heads do not share
    one"""
    last_shared: Callable[[str], bool] | None = None
    """whether the path of a parameter is one of the last shared layer; None if there is none"""

    @property
    def labels(self) -> Any:
        """Labels for `dbmtl_jax`: the encoder is shared, head t belongs to task t."""
        return "shared", list(range(self.num_tasks))

    @property
    def num_models(self) -> int:
        """The number of separate networks; each has its own learning rate and best epoch."""
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
    representation_task_grads: Callable[[Any, Any], tuple[jax.Array, Any]] | None = None,
    last_shared: Callable[[str], bool] | None = None,
) -> Model:
    """A `Model` without batch statistics and dropout.

    Args:
      init: PRNG key -> params.
      losses: (params, batch) -> losses [T].
      task_grads: (params, batch) -> (losses [T], task gradients).
      predict: (params, batch) -> predictions.
      num_tasks, independent, last_shared: as in `Model`.
      pending_task_grads: like `task_grads`, but with gradients that are not computed yet.
      representation_task_grads: like `task_grads`, but with gradients of the representation.
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
        representation_task_grads=with_statistics(representation_task_grads),
        last_shared=last_shared,
    )


class Problem(abc.ABC):
    """A data set with its tasks and networks."""

    name: str
    """name of the data set, as on the command line"""
    network: str
    """name of the network, as on the command line"""
    tasks: Sequence[str]
    """names of the tasks"""
    metric_names: Sequence[Sequence[str]]
    """names of the metrics of every task"""
    higher_is_better: Sequence[Sequence[bool]]
    """whether higher is better, for every metric of every task"""
    is_sample: bool = False
    """whether the data are rendered sample data, which results must say"""
    initial_weights: Any = None
    """what the network begins with, see `benchmarks.initial_weights.provenance`"""
    has_examples: bool = False
    """whether `examples` gives examples to look at"""
    multi_task: Model
    """the multi-task network"""
    single_task: Model
    """the T single-task networks, trained at once"""
    batch_axis: int = 0
    """batch axis of the arrays of a batch; arrays with fewer axes apply to the whole batch"""
    data: Any = ()
    """arrays on the device that are passed to every step"""

    @abc.abstractmethod
    def batches(self, split: str, *, seed: int = 0, epoch: int = 0) -> list[tuple[Any, Any]]:
        """The batches of "train", "validation" or "test", as pairs (static, arrays).

        `static` is a static argument of the compiled step. Seed and epoch determine the batches of
        "train". If the validation set is empty, the last epochs count.
        """

    def read(self, static: Any, arrays: Any) -> Any:
        """Reads data of a batch on the host, ahead of time in threads; by default nothing."""
        return arrays

    def join(self, batches: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
        """Combines batches of several seeds, after `read`, by stacking their arrays.

        A single batch is not changed.
        """
        if len(batches) == 1:
            return batches[0]
        static = self.common_static([static for static, _ in batches])
        return static, jax.tree.map(lambda *rows: np.stack(rows), *(own for _, own in batches))

    def common_static(self, statics: Sequence[Any]) -> Any:
        """The `static` for batches of several seeds; by default all must have the same."""
        if any(static != statics[0] for static in statics):
            raise ValueError(f"expected batches of one kind, found {list(statics)}")
        return statics[0]

    @abc.abstractmethod
    def load(self, data: Any, static: Any, arrays: Any) -> Any:
        """Makes a batch from `data` and the arrays of `read`, on the device inside of the step."""

    @abc.abstractmethod
    def totals(self, predictions: Any, batch: Any) -> Any:
        """Arrays that are summed over batches to compute metrics; runs on the device."""

    @abc.abstractmethod
    def metrics(self, totals: Any) -> Metrics:
        """The metrics of every task from the summed totals of a split."""

    def examples(self, predictions: Any, batch: Any) -> Examples:
        """Some inputs with targets and predictions; only if `has_examples`."""
        raise NotImplementedError
