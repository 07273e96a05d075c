"""Batches of images as a function of seed and epoch, so that a resumed run has the same batches."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.splits import Indices
from benchmarks.errors import UserError


def epoch_batches(indices: Indices, batch_size: int, *, seed: int, epoch: int) -> Indices:
    """Shuffles indices [N] into batches [S, B]; images that do not fill a batch are left out."""
    _check_size(indices, batch_size)
    order = np.random.default_rng([seed, epoch]).permutation(indices)
    return _cut(order, batch_size)


def per_task_epoch_batches(
    indices: Sequence[Indices], batch_size: int, *, seed: int, epoch: int
) -> Indices:
    """Shuffles the indices of each task, [N_t], into one batch per task and step, [S, T, B].

    An epoch is one pass over the task with the most batches; the other tasks repeat their images,
    each time in a new order.
    """
    for task in indices:
        _check_size(task, batch_size)
    own_steps = per_task_steps(indices, batch_size)
    steps = max(own_steps)
    stacks = []
    for t, (task, own) in enumerate(zip(indices, own_steps, strict=True)):
        passes = -(-steps // own)
        orders = [
            np.random.default_rng([seed, epoch, t, p]).permutation(task) for p in range(passes)
        ]
        stacks.append(np.concatenate([_cut(order, batch_size) for order in orders])[:steps])
    return np.stack(stacks, axis=1)


def per_task_steps(indices: Sequence[Indices], batch_size: int) -> list[int]:
    """The number of batches in one pass over the images of each task."""
    return [len(task) // batch_size for task in indices]


def evaluation_batches(indices: Indices, batch_size: int) -> tuple[Indices, NDArray[np.bool_]]:
    """Batches [S, B] of indices [N] in order, and a mask [S, B], False for padding with index 0."""
    steps = -(-len(indices) // batch_size)
    padded = np.zeros(steps * batch_size, np.int64)
    padded[: len(indices)] = indices
    valid = np.arange(steps * batch_size) < len(indices)
    return padded.reshape(steps, batch_size), valid.reshape(steps, batch_size)


def per_task_evaluation_batches(
    indices: Sequence[Indices], batch_size: int
) -> tuple[Indices, NDArray[np.bool_]]:
    """Like `evaluation_batches`, but with a batch of each task in every step: [S, T, B]."""
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
