import numpy as np
import pytest

from benchmarks.data import source, splits
from benchmarks.errors import UserError
from tests.benchmarks.data.conftest import OFFICE_IMAGES, TEST, TRAIN


def test_hold_out():
    train, validation = splits.hold_out(50, 12, seed=1)
    assert len(validation) == 12
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(50))
    again, other = splits.hold_out(50, 12, 1), splits.hold_out(50, 12, 2)
    np.testing.assert_array_equal(again[1], validation)
    assert set(other[1]) != set(validation)
    assert len(splits.hold_out(50, None, 0)[1]) == 5
    assert len(splits.hold_out(50, 0, 0)[0]) == 50
    with pytest.raises(UserError, match="cannot hold 50 images"):
        splits.hold_out(50, 50, 0)


def test_sixty_twenty_twenty():
    labels = np.repeat([0, 1, 2], [30, 50, 20])
    parts = splits.sixty_twenty_twenty(labels, seed=3)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 60,
        "validation": 20,
        "test": 20,
    }
    np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(100))
    for label, size in ((0, 30), (1, 50), (2, 20)):
        for name, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
            assert abs((labels[parts[name]] == label).sum() - share * size) <= 2
    assert set(splits.sixty_twenty_twenty(labels, 3)["test"]) == set(parts["test"])
    assert set(splits.sixty_twenty_twenty(labels, 4)["test"]) != set(parts["test"])


def test_test_split_is_all_of_val_and_nothing_else(prepared):
    data = source.load("nyuv2", prepared, validation_size=2)
    np.testing.assert_array_equal(data.splits["test"], np.arange(TRAIN, TRAIN + TEST))
    assert len(data.splits["validation"]) == 2
    chosen = np.concatenate([data.splits["train"], data.splits["validation"]])
    np.testing.assert_array_equal(np.sort(chosen), np.arange(TRAIN))
    assert len(source.load("nyuv2", prepared, validation_size=0).splits["train"]) == TRAIN


def test_office_splits_are_of_their_domain(prepared):
    data = source.load("office31", prepared)
    for t in range(3):
        parts = [data.splits[name][t] for name in ("train", "validation", "test")]
        assert [len(part) for part in parts] == [24, 8, 8]
        everything = np.sort(np.concatenate(parts))
        np.testing.assert_array_equal(everything, t * OFFICE_IMAGES + np.arange(OFFICE_IMAGES))


@pytest.fixture
def lists(prepared, tmp_path):
    """Lists of six images a domain, the labels in another order than the alphabet's."""
    paths = source.load("office31", prepared)._records.metadata["paths"]
    classes = source.load("office31", prepared).classes
    for domain, names in paths.items():
        for k, part in enumerate(("train", "val", "test")):
            lines = [
                f"{names[i]} {30 - classes.index(names[i].split('/')[-2])}\n"
                for i in (5 + k, 2 + 9 * k)
            ]
            (tmp_path / f"{domain}_{part}.txt").write_text("".join(lines))
    return tmp_path


def test_lists(prepared, lists):
    data, plain = source.load("office31", prepared, lists=lists), source.load("office31", prepared)
    for t in range(3):
        start = t * OFFICE_IMAGES
        np.testing.assert_array_equal(data.splits["train"][t], [start + 5, start + 2])
        np.testing.assert_array_equal(data.splits["validation"][t], [start + 6, start + 11])
        np.testing.assert_array_equal(data.splits["test"][t], [start + 7, start + 20])
        chosen = data.splits["test"][t]
        given = data.batch(chosen)["label"]
        np.testing.assert_array_equal(given, 30 - plain.batch(chosen)["label"])


def test_lists_may_spell_spaces_as_underscores(tmp_path):
    for part, i in (("train", 1), ("val", 0), ("test", 2)):
        (tmp_path / f"Real_World_{part}.txt").write_text(f"Real_World/Bed/{i}.jpg 7\n")
    paths = [f"Real World/Bed/{i}.jpg" for i in range(3)]
    indices, labels = splits.read_lists(tmp_path, "Real_World", paths, 65)
    assert {name: list(part) for name, part in indices.items()} == {
        "train": [1],
        "validation": [0],
        "test": [2],
    }
    assert labels == {0: 7, 1: 7, 2: 7}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.replace("frame_0001.jpg", "frame_9999.jpg", 1), "line 1.*is not among the 40"),
        (lambda t: t + t.splitlines()[0] + "\n", "line 3.*listed a second time"),
        (lambda t: t.replace(".jpg ", ".jpg 9", 1), "line 1.*label '9.*expected 0 to 30"),
        (lambda t: t.replace(".jpg ", ".jpg x", 1), "line 1.*label 'x"),
        (lambda t: "", "lists no images"),
        (lambda t: None, "cannot be read"),
    ],
)
def test_bad_list_is_named(prepared, lists, change, expected):
    path = lists / "dslr_val.txt"
    text = change(path.read_text())
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=rf"dslr_val\.txt.*{expected}"):
        source.load("office31", prepared, lists=lists)


def test_same_image_in_two_lists(prepared, lists):
    train, test = (lists / f"amazon_{part}.txt" for part in ("train", "test"))
    test.write_text(test.read_text() + train.read_text())
    with pytest.raises(UserError, match=r"amazon_test\.txt, line 3.*a second time"):
        source.load("office31", prepared, lists=lists)


def test_lists_must_agree_about_labels(prepared, lists):
    path = lists / "webcam_train.txt"
    path.write_text("".join(f"{line.split()[0]} 3\n" for line in path.read_text().splitlines()))
    with pytest.raises(UserError, match="lists of webcam give label 3"):
        source.load("office31", prepared, lists=lists)


def test_options_that_do_not_apply(prepared, tmp_path):
    with pytest.raises(UserError, match="takes no lists"):
        source.load("nyuv2", prepared, lists=tmp_path)
    with pytest.raises(UserError, match="takes no size of validation"):
        source.load("office31", prepared, validation_size=3)
    with pytest.raises(ValueError, match="'nyu'"):
        source.load("nyu", prepared)
