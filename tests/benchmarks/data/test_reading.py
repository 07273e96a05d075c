import numpy as np
import pytest

from benchmarks.config import MakeSample, Prepare
from benchmarks.data import batching, source
from benchmarks.errors import UserError
from benchmarks.training.prefetch import Prefetch
from tests.benchmarks.data.conftest import TEST, TRAIN, run
from tests.helpers.processes import printed_by


def test_epoch_has_every_image_once_and_drops_the_rest():
    indices = np.arange(100, 117)
    batches = batching.epoch_batches(indices, 5, seed=0, epoch=0)
    assert batches.shape == (3, 5)
    assert len(set(batches.ravel())) == 15
    assert set(batches.ravel()) <= set(indices)
    order = np.random.default_rng([0, 0]).permutation(indices)
    np.testing.assert_array_equal(batches.ravel(), order[:15])
    again = batching.epoch_batches(indices, 5, seed=0, epoch=0)
    np.testing.assert_array_equal(batches, again)
    for other in ({"seed": 1, "epoch": 0}, {"seed": 0, "epoch": 1}):
        assert (batching.epoch_batches(indices, 5, **other) != batches).any()


def test_short_tasks_start_over():
    tasks = [np.arange(0, 23), np.arange(100, 107), np.arange(200, 211)]
    batches = batching.per_task_epoch_batches(tasks, 3, seed=2, epoch=4)
    assert batches.shape == (7, 3, 3)  # the longest has 23 // 3 batches
    for t, task in enumerate(tasks):
        assert np.isin(batches[:, t], task).all()
        steps = len(task) // 3
        for start in range(0, 7, steps):  # no image twice in one pass
            seen = batches[start : start + steps, t].ravel()
            assert len(set(seen)) == len(seen)
    assert (batches[:2, 1] != batches[2:4, 1]).any()  # another order the second time
    assert (batches != batching.per_task_epoch_batches(tasks, 3, seed=2, epoch=5)).any()


def test_batch_larger_than_the_set():
    with pytest.raises(UserError, match="a batch of 8 cannot be made of 7"):
        batching.per_task_epoch_batches([np.arange(20), np.arange(7)], 8, seed=0, epoch=0)


def test_evaluation_has_every_image_once():
    index, valid = batching.evaluation_batches(np.arange(10, 17), 3)
    np.testing.assert_array_equal(index[valid], np.arange(10, 17))
    assert valid.shape == (3, 3)
    tasks = [np.arange(4), np.arange(10, 11)]
    index, valid = batching.per_task_evaluation_batches(tasks, 2)
    assert index.shape == (2, 2, 2)
    for t, task in enumerate(tasks):
        np.testing.assert_array_equal(index[:, t][valid[:, t]], task)


def test_filling_has_no_labels(prepared):
    data = source.load("nyuv2", prepared)
    (index,), (valid,) = data.evaluation_batches("test", 5)
    assert valid.sum() == TEST
    batch = data.batch(index, valid)
    assert (batch["label"][~valid] == -1).all()
    assert (batch["depth"][~valid] == 0).all()
    assert (batch["normal"][~valid] == 0).all()
    plain = data.batch(index[valid])
    for name, array in plain.items():
        np.testing.assert_array_equal(batch[name][valid], array)
    office = source.load("office31", prepared)
    index, valid = office.evaluation_batches("test", 5)
    label = office.batch(index[1], valid[1])["label"]
    assert label.shape == (3, 5)
    assert ((label == -1) == ~valid[1]).all()


def test_shape_of_the_indices_leads(prepared):
    data = source.load("office31", prepared)
    indices = data.train_batches(4, seed=0, epoch=0)
    assert indices.shape == (6, 3, 4)
    batch = data.batch(indices[0])
    assert batch["image"].shape == (3, 4, 16, 16, 3)
    np.testing.assert_array_equal(batch["image"][1, 2], data.batch(indices[0, 1, 2])["image"])
    with pytest.raises(IndexError):
        data.batch([len(data)])


def test_threads_read_the_same(prepared):
    data = source.load("nyuv2", prepared, validation_size=0)
    order = np.random.default_rng(0).integers(0, TRAIN, (60, 4))
    with Prefetch(data.batch, order, workers=4, ahead=8) as prefetch:
        for indices, batch in zip(order, prefetch, strict=True):
            np.testing.assert_array_equal(batch["depth"], data.batch(indices)["depth"])


_READ = """
import itertools, resource, sys
from benchmarks.data import source
from benchmarks.training.prefetch import Prefetch

data = source.load("nyuv2", sys.argv[1], validation_size=0)
epochs = (data.train_batches(4, seed=0, epoch=epoch) for epoch in itertools.count())

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

with Prefetch(data.batch, itertools.chain.from_iterable(epochs)) as batches:
    for step in range(2_600):
        next(batches)
        if step == 100:
            before = peak()
print(peak() - before)
"""


@pytest.mark.slow
def test_ten_thousand_records_do_not_grow_memory(tmp_path):
    run(MakeSample("nyuv2", tmp_path / "s", 8, 1, height=96, width=128))
    run(Prepare("nyuv2", tmp_path / "s", tmp_path / "p"))
    # A process of its own, as the peak counts from its start.
    more = float(printed_by("-c", _READ, str(tmp_path / "p")))
    # 10,000 records are 3.4 GB.
    assert more < 64, f"{more} MiB more"
