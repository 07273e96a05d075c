"""Size-bucketed batches: each molecule once, where it fits, with at most one incomplete batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.data.batching import BUCKET_SIZES, Batch, bucket_batches

# Numbers of atoms of all molecules, and the bucket sizes that hold them.
SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=60).map(np.array)
BUCKETS = st.sets(st.integers(1, 11)).map(lambda smaller: (*sorted(smaller), 12))
BATCH_SIZES = st.integers(1, 9)
SEEDS = st.none() | st.integers(0, 2**32 - 1)


def rng_of(seed: int | None, epoch: int = 0) -> np.random.Generator | None:
    return None if seed is None else np.random.default_rng([seed, epoch])


def molecules_of(batches: list[Batch]) -> list[int]:
    return [int(i) for batch in batches for i in batch.index[batch.valid]]


@given(SIZES, BUCKETS, BATCH_SIZES, SEEDS, st.data())
def test_each_molecule_once_where_it_fits(num_atoms, buckets, batch_size, seed, data):
    every = st.lists(st.sampled_from(range(len(num_atoms))), min_size=1, unique=True)
    indices = data.draw(every)
    batches = bucket_batches(
        num_atoms, indices, batch_size=batch_size, bucket_sizes=buckets, rng=rng_of(seed)
    )

    assert sorted(molecules_of(batches)) == sorted(indices)
    assert len(batches) == -(-len(indices) // batch_size), "no more batches than needed"
    assert sum(not batch.valid.all() for batch in batches) <= 1
    for batch in batches:
        assert batch.index.shape == batch.valid.shape == (batch_size,)
        assert (batch.index.dtype, batch.valid.dtype) == (np.int32, bool)
        assert (batch.index[~batch.valid] == 0).all()
        assert batch.size in buckets
        assert (num_atoms[batch.index[batch.valid]] <= batch.size).all()


@given(SIZES, BUCKETS, BATCH_SIZES, SEEDS)
def test_only_what_does_not_fill_a_batch_moves_up(num_atoms, buckets, batch_size, seed):
    batches = bucket_batches(
        num_atoms,
        range(len(num_atoms)),
        batch_size=batch_size,
        bucket_sizes=buckets,
        rng=rng_of(seed),
    )
    for size in buckets:
        small_enough = int((num_atoms <= size).sum())
        in_buckets_up_to_size = sum(b.valid.sum() for b in batches if b.size <= size)
        assert small_enough - batch_size < in_buckets_up_to_size <= small_enough
    for batch in batches:  # no bucket is larger than all that is in it and in those below it
        fitting = [size for size in buckets if size >= num_atoms[batch.index[batch.valid]].max()]
        if not batch.valid.all():
            assert batch.size == fitting[0]


@given(SIZES, BUCKETS, BATCH_SIZES, st.integers(0, 99), st.integers(0, 99))
def test_seed_and_epoch_determine_all(num_atoms, buckets, batch_size, seed, epoch):
    first, second = (
        bucket_batches(
            num_atoms,
            range(len(num_atoms)),
            batch_size=batch_size,
            bucket_sizes=buckets,
            rng=rng_of(seed, epoch),
        )
        for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        assert a.size == b.size
        np.testing.assert_array_equal(a.index, b.index)
        np.testing.assert_array_equal(a.valid, b.valid)


def test_epochs_differ_in_members_and_in_order_of_batches():
    num_atoms = np.random.default_rng(0).integers(3, 30, size=500)

    def epoch(seed: int, number: int) -> list[Batch]:
        return bucket_batches(num_atoms, range(500), batch_size=20, rng=rng_of(seed, number))

    first, second, other_seed = epoch(0, 0), epoch(0, 1), epoch(1, 0)
    assert molecules_of(first) != molecules_of(second) != molecules_of(other_seed)
    assert [batch.size for batch in first] != [batch.size for batch in second]
    memberships = [{frozenset(b.index.tolist()) for b in batches} for batches in (first, second)]
    assert not memberships[0] & memberships[1]


def test_without_rng_the_given_order_is_kept():
    num_atoms = [3, 9, 4, 8, 5, 2, 7]
    batches = bucket_batches(
        num_atoms, [6, 5, 4, 3, 2, 1], batch_size=2, bucket_sizes=(4, 9), rng=None
    )
    assert [(b.size, b.index.tolist()) for b in batches] == [(4, [5, 2]), (9, [6, 4]), (9, [3, 1])]


def test_few_small_molecules_are_not_padded_to_the_largest():
    (batch,) = bucket_batches([3, 4], [0, 1], batch_size=8, bucket_sizes=(4, 29), rng=None)
    assert batch.size == 4
    assert batch.valid.tolist() == [True] * 2 + [False] * 6


def test_default_holds_the_largest_molecule_of_qm9():
    assert BUCKET_SIZES[-1] == 29


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"indices": []}, "no indices"),
        ({"bucket_sizes": (3, 4)}, "molecule 2 has 5 atoms.* holds: 4"),
        ({"bucket_sizes": (9, 5)}, r"ascending, not \(9, 5\)"),
        ({"bucket_sizes": (5, 5)}, "ascending"),
        ({"bucket_sizes": (0, 5)}, "positive"),
        ({"bucket_sizes": ()}, "bucket_sizes"),
    ],
)
def test_mistakes_are_named(changes, message):
    arguments = {"indices": [1, 2], "batch_size": 2, "bucket_sizes": (5,), "rng": None, **changes}
    with pytest.raises(ValueError, match=message):
        bucket_batches([3, 4, 5], **arguments)
