"""Which images make which batch: a function of (seed, epoch), so that a run resumes exactly."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.vision.splits import Indices
from benchmarks.errors import UserError


def epoch_batches(indices: Indices, batch_size: int, *, seed: int, epoch: int) -> Indices:
    """The batches of an epoch in random order: [N] -> [S, B]; what fills no batch is left out."""
    _check_size(indices, batch_size)
    order = np.random.default_rng([seed, epoch]).permutation(indices)
    return _cut(order, batch_size)


def per_task_epoch_batches(
    indices: Sequence[Indices], batch_size: int, *, seed: int, epoch: int
) -> Indices:
    """One batch per task in each step: [N_t] per task -> [S, T, B].

    An epoch is one pass over the task with most batches; the others start over, in another order,
    as often as they need to.
    """
    for task in indices:
        _check_size(task, batch_size)
    steps = max(len(task) // batch_size for task in indices)
    stacks = []
    for t, task in enumerate(indices):
        passes = -(-steps // (len(task) // batch_size))
        orders = [
            np.random.default_rng([seed, epoch, t, p]).permutation(task) for p in range(passes)
        ]
        stacks.append(np.concatenate([_cut(order, batch_size) for order in orders])[:steps])
    return np.stack(stacks, axis=1)


def evaluation_batches(indices: Indices, batch_size: int) -> tuple[Indices, NDArray[np.bool_]]:
    """Every image once, in order: [N] -> [S, B] and which of them count; filling is image 0."""
    steps = -(-len(indices) // batch_size)
    padded = np.zeros(steps * batch_size, np.int64)
    padded[: len(indices)] = indices
    valid = np.arange(steps * batch_size) < len(indices)
    return padded.reshape(steps, batch_size), valid.reshape(steps, batch_size)


def per_task_evaluation_batches(
    indices: Sequence[Indices], batch_size: int
) -> tuple[Indices, NDArray[np.bool_]]:
    """Every image once, in a batch of its task: -> [S, T, B] and which of them count."""
    parts = [evaluation_batches(task, batch_size) for task in indices]
    shape = (max(len(index) for index, _ in parts), len(parts), batch_size)
    padded, valid = np.zeros(shape, np.int64), np.zeros(shape, bool)
    for t, (index, counts) in enumerate(parts):
        padded[: len(index), t], valid[: len(index), t] = index, counts
    return padded, valid


def _cut(order: Indices, batch_size: int) -> Indices:
    return order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)


def _check_size(indices: Indices, batch_size: int) -> None:
    if not 1 <= batch_size <= len(indices):
        raise UserError(
            f"a batch of {batch_size} cannot be made of {len(indices):,} training images: choose a "
            "smaller batch"
        )
