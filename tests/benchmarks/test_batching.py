"""Batches of molecules: each molecule once, in a chunk that holds it, in random order."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.problems.qm9.batching import Batch, cut, evaluation_paddings, training_paddings

# Numbers of atoms of all molecules, and paddings of two chunks that hold them.
SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=60).map(np.array)
PADDINGS = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=3).map(
    lambda others: [*others, (12, 12)]
)
BATCH_SIZES = st.integers(1, 9)


def molecules_of(batches: list[Batch]) -> list[int]:
    return [int(i) for batch in batches for i in batch.index[batch.valid]]


@given(SIZES, PADDINGS, BATCH_SIZES, st.randoms(use_true_random=False))
def test_each_molecule_once_where_it_fits(num_atoms, paddings, batch_size, random):
    order = random.sample(range(len(num_atoms)), random.randint(1, len(num_atoms)))
    batches = cut(num_atoms, order, batch_size=batch_size, paddings=paddings)
    assert len(batches) == -(-len(order) // batch_size), "no more batches than needed"
    for k, batch in enumerate(batches):
        own = order[k * batch_size : (k + 1) * batch_size]
        assert sorted(molecules_of([batch])) == sorted(own), "the order is cut, not changed"
        assert batch.index.shape == batch.valid.shape == (2, -(-batch_size // 2))
        assert (batch.index.dtype, batch.valid.dtype) == (np.int32, bool)
        assert (batch.index[~batch.valid] == 0).all()
        sizes = np.where(batch.valid, num_atoms[batch.index], 0)
        assert (np.diff(sizes.reshape(-1)) >= 0).all(), "sorted by size"
        held = [p for p in paddings if (sizes.max(axis=1) <= p).all()]
        assert batch.padding == held[0], "the first padding that holds all chunks"


@given(SIZES, BATCH_SIZES, st.integers(1, 4), st.integers(0, 99))
def test_training_paddings_hold_every_batch(num_atoms, batch_size, chunks, seed):
    paddings = training_paddings(num_atoms, batch_size=batch_size, chunks=chunks)
    assert 1 <= len(paddings) <= 3
    assert (np.diff(paddings, axis=0) >= 0).all(), "any two of them have a larger one"
    order = np.random.default_rng(seed).permutation(len(num_atoms))
    batches = cut(num_atoms, order, batch_size=batch_size, paddings=paddings)
    assert sorted(molecules_of(batches)) == list(range(len(num_atoms)))


@pytest.mark.parametrize(("batch_size", "chunks"), [(16, 4), (128, 4), (128, 2), (30, 4)])
def test_most_batches_have_the_same_padding(batch_size, chunks):
    """So that nearly all steps run one program, with less padding than a single size needs."""
    rng = np.random.default_rng(0)
    num_atoms = rng.normal(18, 3, size=12_000).round().clip(3, 29).astype(int)  # as in QM9
    paddings = training_paddings(num_atoms, batch_size=batch_size, chunks=chunks)
    order = rng.permutation(len(num_atoms))
    batches = cut(num_atoms, order, batch_size=batch_size, paddings=paddings)
    used = collections.Counter(batch.padding for batch in batches)
    assert used[paddings[0]] > 0.7 * len(batches)
    assert used[paddings[-1]] < 0.01 * len(batches)
    work = np.mean([np.square(b.padding).mean() for b in batches]) / np.square(num_atoms).mean()
    assert work < {2: 1.8, 4: 1.5}[chunks]


def test_evaluation_needs_few_sizes():
    num_atoms = np.random.default_rng(0).integers(3, 30, size=500)
    paddings = evaluation_paddings(num_atoms)
    assert len(paddings) == 3
    assert paddings[-1] == (29,)
    assert evaluation_paddings([5, 5, 5]) == [(5,)]


def test_nothing_has_no_batches():
    assert cut([3, 4], [], batch_size=2, paddings=[(4,)]) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected at least 1, found 0"),
        ({"paddings": [(9, 4)]}, r"molecule 2 has 5 atoms, more than the last one, \(9, 4\)"),
        ({"paddings": [(0, 5)]}, r"paddings: expected sizes of at least 1, found \[\(0, 5\)\]"),
        ({"paddings": []}, r"found \[\]"),
    ],
)
def test_mistakes_are_named(changes, message):
    arguments = {"order": [1, 2], "batch_size": 2, "paddings": [(5, 5)], **changes}
    with pytest.raises(ValueError, match=message):
        cut([3, 4, 5], **arguments)


def test_chunks_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="chunks: expected at least 1, found 0"):
        training_paddings([3, 4], batch_size=2, chunks=0)
