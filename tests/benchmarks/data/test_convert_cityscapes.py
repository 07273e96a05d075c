import pathlib

import numpy as np
import pytest
from PIL import Image

from benchmarks.config import ConvertCityscapes
from benchmarks.data import npy_folder, specs
from benchmarks.data.convert_cityscapes import LABEL_OF_ID
from benchmarks.errors import UserError
from tests.benchmarks.data.conftest import run

HEIGHT, WIDTH = specs.DENSE["cityscapes"].size
# The categories of the official list of labels: flat, construction, object, nature, sky, human,
# vehicle.
CATEGORIES = [
    [7, 8, 9, 10],
    [11, 12, 13, 14, 15, 16],
    [17, 18, 19, 20],
    [21, 22],
    [23],
    [24, 25],
    [26, 27, 28, 29, 30, 31, 32, 33],
]


def write(root: pathlib.Path, split: str, city: str, name: str, image, ids, disparity) -> None:
    for folder, suffix, array in (
        ("leftImg8bit", "leftImg8bit", image),
        ("gtFine", "gtFine_labelIds", ids),
        ("disparity", "disparity", disparity),
    ):
        path = root / folder / split / city / f"{city}_{name}_{suffix}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


@pytest.fixture
def official(tmp_path) -> tuple[pathlib.Path, dict[str, tuple]]:
    """Twice the size of the result, two images of train and one of val."""
    rng = np.random.default_rng(0)
    root, arrays = tmp_path / "official", {}
    for split, city, name in (
        ("train", "ulm", "1"),
        ("train", "aachen", "2"),
        ("val", "bonn", "3"),
    ):
        shape = (2 * HEIGHT, 2 * WIDTH)
        image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
        ids = rng.choice([*range(34), 255], shape).astype(np.uint8)
        disparity = rng.integers(0, 2**16, shape).astype(np.uint16)
        write(root, split, city, name, image, ids, disparity)
        arrays[city] = (image, ids, disparity)
    return root, arrays


def test_classes_are_the_official_categories():
    expected = np.full(256, -1)
    for label, ids in enumerate(CATEGORIES):
        expected[ids] = label
    np.testing.assert_array_equal(LABEL_OF_ID, expected)


def test_files(official, tmp_path):
    root, arrays = official
    out = tmp_path / "out"
    assert "2 train, 1 val" in run(ConvertCityscapes(root, out))
    for city, split, i in (("aachen", "train", 0), ("ulm", "train", 1), ("bonn", "val", 0)):
        image, ids, disparity = arrays[city]
        read = {f: np.load(out / split / f / f"{i}.npy") for f in ("image", "label", "depth")}
        mean = image.reshape(HEIGHT, 2, WIDTH, 2, 3).mean((1, 3)) / 255
        # Rounded to 8 bits along one axis and then along the other.
        np.testing.assert_allclose(read["image"], mean, atol=1.01 / 255)
        np.testing.assert_array_equal(read["label"], LABEL_OF_ID[ids[1::2, 1::2]])
        np.testing.assert_allclose(read["depth"][..., 0], disparity[1::2, 1::2] / 65535, rtol=1e-6)
    folder = npy_folder.check(out, "cityscapes")  # what `prepare` does with it
    assert folder.counts == {"train": 2, "test": 1}
    folder.read("train", 1)


@pytest.mark.parametrize(
    ("ruin", "expected"),
    [
        (lambda r: (r / "gtFine/val/bonn/bonn_3_gtFine_labelIds.png").unlink(), "gtFine_labelIds"),
        (lambda r: (r / "disparity/train/ulm/ulm_1_disparity.png").unlink(), "ulm_1_disparity"),
        (lambda r: (r / "leftImg8bit/val").rename(r / "elsewhere"), "leftImg8bit/val"),
        (
            lambda r: (r / "leftImg8bit/val/bonn/bonn_3_leftImg8bit.png").write_bytes(b"\x89PNG"),
            "bonn_3_leftImg8bit.png: damaged",
        ),
        (
            lambda r: Image.new("L", (4, 2), 40).save(
                r / "gtFine/val/bonn/bonn_3_gtFine_labelIds.png"
            ),
            "label id 40, expected 0 to 33",
        ),
        (
            lambda r: Image.new("L", (4, 2)).save(r / "disparity/val/bonn/bonn_3_disparity.png"),
            "mode L, expected I;16",
        ),
    ],
)
def test_bad_folder_is_named(official, tmp_path, ruin, expected):
    root, _ = official
    ruin(root)
    with pytest.raises(UserError) as caught:
        run(ConvertCityscapes(root, tmp_path / "out"))
    assert expected in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"official"}
