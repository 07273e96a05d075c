"""Batches of molecules of similar size.

All molecules of a batch are padded to the same number of atoms, and a program is compiled for each
such size. The cost of a molecule grows with the square of the size, as every pair of atoms is an
edge. Sorting the molecules into a few buckets by size avoids most of the padding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BUCKET_SIZES = (18, 21, 29)
"""The padded sizes for QM9, whose molecules have 3 to 29 atoms, 18 on average. Padding to these
sizes raises the cost of the data set by 25%. The best one, two and four sizes raise it by 152%
(29), 45% (21, 29) and 16% (17, 20, 23, 29)."""


class Batch(NamedTuple):
    """A batch of B molecules, given by their indices, to be padded to `size` atoms."""

    size: int
    index: NDArray[np.int32]  # type: ignore[assignment]  # hides tuple.index
    """[B], indices of the molecules"""
    valid: NDArray[np.bool_]
    """[B], False for the entries that only fill up the batch; their index is 0"""


def bucket_batches(
    num_atoms: ArrayLike,
    indices: ArrayLike,
    *,
    batch_size: int,
    bucket_sizes: Sequence[int] = BUCKET_SIZES,
    rng: np.random.Generator | None,
) -> list[Batch]:
    """Divides molecules into the batches of an epoch; each molecule is in exactly one batch.

    Every molecule goes to the smallest bucket that it fits. Molecules that do not fill a batch of
    their bucket move to the next larger one, so that at most one batch is incomplete.

    With `rng`, the batches are random; `np.random.default_rng([seed, epoch])` gives the same
    batches for the same seed and epoch. Without it, the molecules keep their order within a bucket,
    and the smallest bucket comes first.

    Args:
      num_atoms: [N] number of atoms of every molecule of the data set.
      indices: [M] indices of the molecules to divide.
      batch_size: number of molecules in a batch, B.
      bucket_sizes: padded sizes in ascending order; the largest molecule must fit the last one.
      rng: generator for shuffling; None: no shuffling.
    """
    indices = np.asarray(indices, np.int32)
    sizes = np.asarray(bucket_sizes, np.int64)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if indices.size == 0:
        raise ValueError("there are no indices to divide into batches")
    if sizes.size == 0 or (np.diff(sizes, prepend=0) <= 0).any():
        raise ValueError(f"bucket_sizes must be positive and ascending, not {tuple(bucket_sizes)}")
    atoms = np.asarray(num_atoms)[indices]
    if atoms.max() > sizes[-1]:
        raise ValueError(
            f"molecule {indices[atoms.argmax()]} has {atoms.max()} atoms, "
            f"more than the largest bucket holds: {sizes[-1]}"
        )

    bucket_of = np.searchsorted(sizes, atoms)
    batches: list[Batch] = []
    rest = np.empty(0, np.int64)  # positions in `indices`
    for bucket, size in enumerate(sizes):
        members = np.concatenate([rest, np.flatnonzero(bucket_of == bucket)])
        if rng is not None:
            rng.shuffle(members)
        full, rest = np.split(members, [len(members) // batch_size * batch_size])
        for batch in full.reshape(-1, batch_size):
            batches.append(Batch(int(size), indices[batch], np.ones(batch_size, bool)))
    if rest.size:
        index = np.zeros(batch_size, np.int32)
        index[: rest.size] = indices[rest]
        size = sizes[bucket_of[rest].max()]  # the smallest size that the remaining molecules fit
        batches.append(Batch(int(size), index, np.arange(batch_size) < rest.size))
    if rng is not None:
        rng.shuffle(batches)
    return batches
