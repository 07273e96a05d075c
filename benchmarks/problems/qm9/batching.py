"""Batches of molecules, sorted by size into chunks to save padding.

Molecules that one array holds are padded to the same number of atoms, and a program is compiled for
every combination of padded sizes. The cost of a molecule grows with the square of the size, as
every pair of atoms is an edge. Batches of molecules of similar size would save the most, but
training suffers from them: batches are random, and the molecules of a batch are sorted and divided
into a few chunks, each with its own padded size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Padding = tuple[int, ...]
"""The padded numbers of atoms of the K chunks of a batch."""

_SAMPLES = 1_000
"""The number of random batches from which `training_paddings` learns how large chunks are."""
_USUAL = 0.9
"""The quantile of every chunk's size which the first padding of `training_paddings` holds."""
_EVALUATION = (0.5, 0.85, 1.0)
"""The quantiles of molecules' sizes to which evaluation pads: 18, 21 and 29 atoms for QM9."""


class Batch(NamedTuple):
    """A batch of B molecules in K chunks, given by their indices."""

    padding: Padding
    index: NDArray[np.int32]  # type: ignore[assignment]  # hides tuple.index
    """[K, C], indices of the molecules; C is B / K, rounded up"""
    valid: NDArray[np.bool_]
    """[K, C], False for the entries that only fill up the chunks; their index is 0"""


def cut(
    num_atoms: ArrayLike, order: ArrayLike, *, batch_size: int, paddings: Sequence[Padding]
) -> list[Batch]:
    """Cuts an order of molecules into batches; only the last one may be incomplete.

    Every batch is sorted by size and divided into chunks. It has the first padding whose chunks
    hold all of its own.

    Args:
      num_atoms: [N] number of atoms of every molecule of the data set.
      order: [M] indices of the molecules.
      batch_size: number of molecules in a batch, B.
      paddings: the possible paddings, all of the same number of chunks; the last one holds any
        molecule.
    """
    num_atoms, order = np.asarray(num_atoms), np.asarray(order, np.int32)
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, found {batch_size}")
    held = np.asarray(paddings, np.int64)  # [paddings, K]
    if held.ndim != 2 or held.size == 0 or (held < 1).any():
        raise ValueError(f"paddings: expected sizes of at least 1, found {list(paddings)}")
    if order.size == 0:
        return []
    atoms = num_atoms[order]
    if atoms.max() > held[-1].min():
        raise ValueError(
            f"paddings: molecule {order[atoms.argmax()]} has {atoms.max()} atoms, more than the "
            f"last one, {tuple(paddings[-1])}, holds in every chunk"
        )
    slots = _sorted_chunks(num_atoms, order, batch_size, held.shape[1])
    sizes = _chunk_sizes(num_atoms, slots)
    first = (sizes[:, None] <= held).all(axis=2).argmax(axis=1)
    return [
        Batch(tuple(map(int, held[padding])), np.maximum(own, 0), own >= 0)
        for padding, own in zip(first, slots, strict=True)
    ]


def training_paddings(num_atoms: ArrayLike, *, batch_size: int, chunks: int) -> list[Padding]:
    """The paddings for random batches of molecules with these numbers of atoms.

    The first one holds nine tenths of the sizes that each chunk has in random batches, and so most
    batches (of QM9 84% with 128 molecules in 4 chunks); the second one the largest that were drawn.
    The last one holds any batch, and is hardly ever needed.
    """
    num_atoms = np.asarray(num_atoms)
    if chunks < 1:
        raise ValueError(f"chunks: expected at least 1, found {chunks}")
    rng = np.random.default_rng(0)
    per_epoch = -(-len(num_atoms) // batch_size)
    epochs = [
        _sorted_chunks(num_atoms, rng.permutation(len(num_atoms)), batch_size, chunks)
        for _ in range(-(-_SAMPLES // per_epoch))
    ]
    sizes = _chunk_sizes(num_atoms, np.concatenate(epochs)).clip(min=1)
    found = [np.quantile(sizes, share, axis=0, method="higher") for share in (_USUAL, 1.0)]
    found.append(np.full(chunks, num_atoms.max()))
    return list(dict.fromkeys(tuple(map(int, padding)) for padding in found))


def evaluation_paddings(num_atoms: ArrayLike) -> list[Padding]:
    """The paddings for batches of a single chunk, of molecules that are sorted by size."""
    sizes = np.quantile(np.asarray(num_atoms), _EVALUATION, method="higher")
    return [(int(size),) for size in dict.fromkeys(sizes)]


def _sorted_chunks(
    num_atoms: NDArray[np.integer], order: NDArray[np.integer], batch_size: int, chunks: int
) -> NDArray[np.int32]:
    """[batches, K, C] indices of molecules, by size within each batch, -1 for filling in front."""
    rows, batches = -(-batch_size // chunks), -(-len(order) // batch_size)
    slots = np.full((batches, batch_size), -1, np.int32)
    slots.reshape(-1)[: len(order)] = order
    slots = np.pad(slots, ((0, 0), (rows * chunks - batch_size, 0)), constant_values=-1)
    sizes = np.where(slots < 0, 0, num_atoms[slots])
    by_size = np.argsort(sizes, axis=1, kind="stable")
    return np.take_along_axis(slots, by_size, axis=1).reshape(batches, chunks, rows)


def _chunk_sizes(num_atoms: NDArray[np.integer], slots: NDArray[np.int32]) -> NDArray[np.integer]:
    """[batches, K] the largest number of atoms in each chunk; 0 without molecules."""
    return np.where(slots < 0, 0, num_atoms[slots]).max(axis=2)
