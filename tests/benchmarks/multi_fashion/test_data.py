"""Fashion-MNIST's files, and pairs of garments."""

import dataclasses
import gzip

import chex
import numpy as np
import pytest

from benchmarks.errors import UserError
from benchmarks.problems.multi_fashion import data
from benchmarks.problems.multi_fashion.settings import DEBIAN_FOLDER
from tests.benchmarks.multi_fashion.garments import FASHION, TINY, write


@pytest.mark.parametrize("packed", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_files_come_back_as_they_were(tmp_path, packed):
    chex.assert_trees_all_equal(data.read(write(tmp_path, packed=packed)), FASHION)


def test_what_a_user_can_mend_is_one_line(tmp_path):
    def refused(match, train=FASHION.train):
        folder = write(tmp_path / str(len(list(tmp_path.iterdir()))), FASHION._replace(train=train))
        with pytest.raises(UserError, match=match) as error:
            data.load(folder)
        assert "\n" not in str(error.value)

    images, labels = FASHION.train
    form = r"train-images-idx3-ubyte\.gz: expected images of 28 × 28 pixels, found an array "
    refused(form + r"\[40, 28, 27\]", data.Garments(images[:, :, 1:], labels))
    refused(form + r"\[0, 28, 28\]", data.Garments(images[:0], labels[:0]))
    refused("expected 40 labels, as .* found 39", data.Garments(images, labels[1:]))
    refused("label 9: expected 0 to 9, found 11", data.Garments(images, labels + 2))
    # Digits have the same form.
    refused(r"\(SHA-256\) of Fashion-MNIST's images and labels, found .*apt-get install")


def test_a_missing_file_is_told_with_where_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"--data-dir: no train-images-idx3-ubyte\.gz in .*apt-get"):
        data.load(tmp_path / "none")
    (write(tmp_path / "some") / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"--data-dir: no t10k-labels-idx1-ubyte\.gz in .*apt-get"):
        data.load(tmp_path / "some")


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_real_files_are_those_of_the_checksum():
    fashion = data.load(DEBIAN_FOLDER)
    assert [len(own.labels) for own in fashion] == [60_000, 10_000]


def test_an_image_has_both_garments_at_their_places():
    """Garments of one bright pixel in each corner show where they lie."""
    corners = np.zeros((10, 28, 28), np.uint8)
    corners[:, ::27, ::27] = np.arange(1, 11, dtype=np.uint8)[:, None, None]
    source = data.Garments(corners, np.arange(10, dtype=np.uint8))
    found = data.overlaid(source, 500, seed=(0,))
    assert found.images.shape == (500, 36, 36)
    places = np.zeros((2, 500, 2), int)
    for k, (image, labels) in enumerate(zip(found.images, found.labels, strict=True)):
        expected = np.zeros_like(image)
        for task, label in enumerate(labels):
            at = np.argwhere(image == label + 1)
            places[task, k] = at.min(0)
            top, left = places[task, k]
            window = expected[top : top + 28, left : left + 28]
            np.maximum(window, corners[label], out=window)
        np.testing.assert_array_equal(image, expected)
    for task, lowest in enumerate((0, 4)):
        # A garment may hide a corner of the other: of those the place is not known.
        assert (places[task] >= lowest).all()
        for axis in range(2):
            assert set(range(lowest, lowest + 5)) <= set(places[task, :, axis])
    assert (found.labels[:, 0] != found.labels[:, 1]).all()


def test_the_brighter_pixel_is_seen():
    images = np.full((2, 28, 28), 10, np.uint8)
    images[1] = 20
    found = data.overlaid(data.Garments(images, np.array([0, 1], np.uint8)), 20, seed=(1,))
    assert (found.images[:, 8:28, 8:28] == 20).all(), "where both lie, whatever their places"
    assert set(np.unique(found.images)) == {0, 10, 20}


def test_every_garment_is_equally_often_first():
    found = data.overlaid(FASHION.train, 80, seed=(0,))
    assert (np.bincount(found.labels[:, 0], minlength=10) == 8).all()


def test_sets_share_no_garment_and_follow_from_the_seed():
    first = data.pairs(FASHION, TINY)
    chex.assert_trees_all_equal(first, data.pairs(FASHION, TINY))
    other = data.pairs(FASHION, dataclasses.replace(TINY, split_seed=1))
    assert any((first[name].images != other[name].images).any() for name in first)
    assert {name: len(own.labels) for name, own in first.items()} == {
        "train": 50, "validation": 9, "test": 7,
    }  # fmt: skip
    larger = data.pairs(FASHION, dataclasses.replace(TINY, train_size=200, test_size=60))
    for name, own in first.items():
        chex.assert_trees_all_equal(own, data.Pairs(*(a[: len(own.labels)] for a in larger[name])))


def test_no_garment_of_validation_is_trained_on(monkeypatch):
    used = {}

    def overlaid(own, size, *, seed, name):
        used[name] = set(own.images[:, 0, 0])
        return data.Pairs(np.zeros((size, 36, 36), np.uint8), np.zeros((size, 2), np.uint8))

    monkeypatch.setattr(data, "overlaid", overlaid)
    data.pairs(FASHION, TINY)
    assert len(used["validation"]) == 4
    assert used["train"] | used["validation"] == set(range(1, 41))
    assert not used["train"] & used["validation"]
    data.pairs(FASHION, dataclasses.replace(TINY, validation_size=0))
    assert used["train"] == set(range(1, 41))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"train_size": 0}, "--train-size: expected at least 1, found 0"),
        ({"validation_size": -1}, "--validation-size: expected at least 0, found -1"),
        ({"test_size": 0}, "--test-size: expected at least 1, found 0"),
    ],
)
def test_numbers_of_images_that_cannot_be_made(options, match):
    with pytest.raises(UserError, match=match):
        data.pairs(FASHION, dataclasses.replace(TINY, **options))


def test_garments_of_one_class_make_no_pairs():
    one = data.Garments(FASHION.train.images, np.zeros(40, np.uint8))
    with pytest.raises(UserError, match="train: expected garments of two classes, found one"):
        data.pairs(data.FashionMNIST(one, FASHION.test), TINY)
