"""Batches of molecules of similar size.

A batch is padded to a size, its number of atom slots, and every size is compiled once. The cost of
a molecule grows with the square of that size, as every pair of atoms is an edge: sorting molecules
into a few buckets by size saves most of what padding to the largest molecule would waste.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BUCKET_SIZES = (18, 21, 29)
"""For QM9, whose molecules have 3 to 29 atoms, 18 on average. Over the whole data set, the sum of
squared sizes is 25% above that of squared numbers of atoms; (29,) alone would be 152% above,
(21, 29) 45%, (17, 20, 23, 29) 16%. These are the best choices of one to four sizes."""


class Batch(NamedTuple):
    """B molecules, as indices, to be padded to `size` atoms."""

    size: int
    index: NDArray[np.int32]  # type: ignore[assignment]  # hides tuple.index
    """[B]"""
    valid: NDArray[np.bool_]
    """[B], False for filling, whose index is 0."""


def bucket_batches(
    num_atoms: ArrayLike,
    indices: ArrayLike,
    *,
    batch_size: int,
    bucket_sizes: Sequence[int] = BUCKET_SIZES,
    rng: np.random.Generator | None,
) -> list[Batch]:
    """Divides molecules into the batches of an epoch, each molecule in exactly one.

    Every molecule goes to the smallest bucket that holds it. What does not fill a batch there moves
    on to the next larger bucket, so that at most one batch is incomplete: the last one cut.

    With `rng`, members and order of the batches are random; `np.random.default_rng([seed, epoch])`
    makes (seed, epoch) the whole state of a loader. With None all is in the order given, smallest
    bucket first, as evaluation needs it.

    Args:
      num_atoms: [N] of all molecules.
      indices: [M] the molecules to divide, indices into `num_atoms`.
      batch_size: B, the same for all buckets.
      bucket_sizes: ascending; the last one must hold the largest molecule.
      rng: for shuffling, or None.
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
        size = sizes[bucket_of[rest].max()]  # maybe all of the rest came from smaller buckets
        batches.append(Batch(int(size), index, np.arange(batch_size) < rest.size))
    if rng is not None:
        rng.shuffle(batches)
    return batches
