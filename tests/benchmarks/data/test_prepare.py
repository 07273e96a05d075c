import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from benchmarks.config import MakeSample, Prepare
from benchmarks.data import builders, mark, npy_folder, source, specs
from benchmarks.errors import UserError
from tests.benchmarks.data.conftest import OFFICE_IMAGES, SIZE, TEST, TRAIN, run


@pytest.fixture
def nyu(sample, tmp_path) -> pathlib.Path:
    shutil.copytree(sample / "nyuv2", tmp_path / "nyu")
    return tmp_path / "nyu"


@pytest.fixture
def office(sample, tmp_path) -> pathlib.Path:
    shutil.copytree(sample / "office31", tmp_path / "office")
    return tmp_path / "office"


def change(path: pathlib.Path, how) -> None:
    np.save(path, how(np.load(path)))


def refused(name: str, folder: pathlib.Path) -> str:
    """The one line that preparing ends with; nothing may be left of it."""
    out = folder.parent / "out"
    with pytest.raises(UserError) as caught:
        run(Prepare(name, folder, out))
    assert not list(out.rglob("*.*"))
    assert not (out / name / specs.VERSION).exists()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["nyuv2", "cityscapes"])
def test_records_are_the_files_in_their_order(sample, prepared, name):
    data = source.load(name, prepared, validation_size=0)
    assert len(data) == TRAIN + TEST
    assert data.is_sample
    assert data.size == SIZE
    batch = data.batch(np.arange(len(data)))
    for field in specs.DENSE[name].fields:
        for i in range(len(data)):
            folder, k = ("train", i) if i < TRAIN else ("val", i - TRAIN)
            expected = np.load(sample / name / folder / field.folders[-1] / f"{k}.npy")
            np.testing.assert_array_equal(batch[field.name][i], expected)
    dtypes = {key: array.dtype for key, array in batch.items()}
    assert dtypes.pop("label") == np.int32
    assert set(dtypes.values()) == {np.dtype(np.float32)}


def test_any_numeric_dtype_is_cast(nyu, tmp_path):
    change(nyu / "train/image/0.npy", lambda x: x.astype(np.float64))
    change(nyu / "train/image/1.npy", lambda x: np.round(255 * x).astype(np.uint8))
    change(nyu / "train/label/0.npy", lambda x: x.astype(np.int64))
    change(nyu / "train/depth/0.npy", lambda x: x.astype(np.float16))
    change(nyu / "val/depth/0.npy", lambda x: np.round(x).astype(np.uint16))
    run(Prepare("nyuv2", nyu, tmp_path / "out"))
    batch = source.load("nyuv2", tmp_path / "out").batch([0, 1, TRAIN])
    np.testing.assert_array_equal(batch["label"][0], np.load(nyu / "train/label/0.npy"))
    eight_bit = np.load(nyu / "train/image/1.npy")
    np.testing.assert_allclose(batch["image"][1], eight_bit / 255, rtol=1e-6)
    assert eight_bit.max() > 100  # else the scale would not show
    np.testing.assert_array_equal(batch["depth"][2], np.load(nyu / "val/depth/0.npy"))


@pytest.mark.parametrize(
    ("file", "how", "expected"),
    [
        ("train/label/2.npy", lambda x: x * 0 + 13, "values from 13 to 13, expected -1 to 12"),
        ("train/label/2.npy", lambda x: x * 0 - 2, "values from -2 to -2, expected -1 to 12"),
        ("train/label/2.npy", lambda x: x * 0 + 0.5, "label 0.5, expected whole numbers"),
        ("val/image/0.npy", lambda x: 255 * x, r"expected 0 to 1"),
        ("val/image/0.npy", lambda x: x.astype(str), "<U.*expected a numeric array"),
        ("val/image/0.npy", lambda x: x.astype(object), "damaged, or not an .npy file"),
        ("val/image/0.npy", lambda x: x + 1j, "complex.*expected a numeric array"),
        ("val/normal/1.npy", lambda x: x[..., :2], r"shape \(24, 32, 2\), expected \(24, 32, 3\)"),
        ("train/depth/1.npy", lambda x: x[..., 0], r"shape \(24, 32\), expected \(24, 32, 1\)"),
        ("train/depth/1.npy", lambda x: x * np.nan, "values that are not finite"),
        ("train/depth/1.npy", lambda x: -x, "expected none below 0"),
    ],
)
def test_bad_array_is_named(nyu, file, how, expected):
    with np.errstate(invalid="ignore"):
        change(nyu / file, how)
    message = refused("nyuv2", nyu)
    assert str(nyu / file) in message
    assert re.search(expected, message), message


@pytest.mark.parametrize(
    ("ruin", "expected"),
    [
        (lambda r: (r / "val/depth/1.npy").unlink(), ("val/depth/1.npy", "0.npy to 2.npy")),
        (lambda r: (r / "train/image/5.npy").unlink(), ("train/image/5.npy", "0.npy to 5.npy")),
        (
            lambda r: shutil.rmtree(r / "train/normal"),
            ("train/normal", "{image,label,depth,normal}"),
        ),
        (lambda r: shutil.rmtree(r / "val"), ("val/image", "lorenmt/mtan")),
        (
            lambda r: (r / "train/image/3.npy").write_bytes(
                (r / "train/image/3.npy").read_bytes()[:-9]
            ),
            ("train/image/3.npy", "damaged"),
        ),
        (lambda r: (r / "train/image/3.npy").write_bytes(b""), ("train/image/3.npy", "damaged")),
        (lambda r: (r / mark.FILE).write_text("{}"), (mark.FILE, "expected dataset")),
    ],
)
def test_bad_folder_is_named(nyu, ruin, expected):
    ruin(nyu)
    message = refused("nyuv2", nyu)
    assert all(part in message for part in expected), message


def test_heads_are_checked_before_anything_is_read(nyu):
    change(nyu / "train/label/0.npy", lambda x: x * 0 + 13)  # found on reading, and first
    change(nyu / "val/normal/2.npy", lambda x: x[:-1])
    assert "val/normal/2.npy" in refused("nyuv2", nyu)


def test_folder_that_is_not_there(tmp_path):
    assert "--source" in refused("nyuv2", tmp_path / "nothing")


def test_sample_of_another_set(sample, tmp_path):
    shutil.copytree(sample / "cityscapes", tmp_path / "x")
    assert "sample data of cityscapes, not of nyuv2" in refused("nyuv2", tmp_path / "x")


def test_real_data_have_the_real_size(nyu):
    (nyu / mark.FILE).unlink()
    assert "expected (288, 384, 3)" in refused("nyuv2", nyu)


def test_incomplete_real_data_are_noted(nyu, tmp_path, monkeypatch):
    (nyu / mark.FILE).unlink()
    small = specs.DENSE["nyuv2"]._replace(size=SIZE)
    monkeypatch.setitem(specs.DENSE, "nyuv2", small)
    printed = run(Prepare("nyuv2", nyu, tmp_path / "out"))
    assert "note: 6 images of train, where NYUv2 has 795" in printed
    assert not source.load("nyuv2", tmp_path / "out").is_sample


def test_prepared_data_are_not_overwritten(sample, prepared):
    with pytest.raises(UserError, match=r"is there already: remove it"):
        run(Prepare("nyuv2", sample / "nyuv2", prepared))


def test_cityscapes_takes_label_7(sample, tmp_path):
    shutil.copytree(sample / "cityscapes", tmp_path / "x")
    for split in ("train", "val"):
        (tmp_path / "x" / split / "label").rename(tmp_path / "x" / split / "label_7")
    folder = npy_folder.check(tmp_path / "x", "cityscapes")
    assert folder.files["test"]["label"][0] == tmp_path / "x/val/label_7/0.npy"


def test_office_records_are_the_images(sample, prepared):
    data = source.load("office31", prepared)
    assert len(data) == 3 * OFFICE_IMAGES
    assert data.is_sample
    batch = data.batch([0, OFFICE_IMAGES, len(data) - 1])
    folders = [sorted((sample / "office31" / d / "images").glob("*/*")) for d in data.domains]
    paths = [folders[0][0], folders[1][0], folders[2][-1]]
    for image, label, path in zip(batch["image"], batch["label"], paths, strict=True):
        raw = np.asarray(Image.open(path)) / 255
        restored = image * specs.IMAGENET_STD + specs.IMAGENET_MEAN
        np.testing.assert_allclose(restored, raw, atol=1e-6)
        assert data.classes[label] == path.parent.name


def test_office_images_are_resized(sample, tmp_path):
    shutil.copytree(sample / "office31", tmp_path / "x")
    odd = next((tmp_path / "x/amazon/images").glob("*/*"))
    Image.new("L", (50, 20), 77).save(odd)
    run(Prepare("office31", tmp_path / "x", tmp_path / "out"))
    data = source.load("office31", tmp_path / "out")
    assert data.batch(np.arange(OFFICE_IMAGES))["image"].shape == (OFFICE_IMAGES, 16, 16, 3)


@pytest.mark.parametrize(
    ("ruin", "expected"),
    [
        (lambda r: shutil.rmtree(r / "dslr"), ("dslr/images", "amazon,dslr,webcam")),
        (
            lambda r: shutil.rmtree(next((r / "webcam/images").iterdir())),
            ("webcam", "30 folders of classes, expected 31"),
        ),
        (
            lambda r: next((r / "webcam/images").iterdir()).rename(r / "webcam/images/other"),
            ("other", "amazon and webcam"),
        ),
        (
            lambda r: (r / "dslr/images/plain_ball/frame_0001.jpg").write_bytes(b"no image"),
            ("dslr/images/plain_ball/frame_0001.jpg", "damaged"),
        ),
        (
            lambda r: (r / "dslr/images/plain_ball/frame_0001.jpg").write_bytes(
                (r / "dslr/images/plain_ball/frame_0001.jpg").read_bytes()[:400]
            ),
            ("dslr/images/plain_ball/frame_0001.jpg", "damaged"),
        ),
    ],
)
def test_bad_office_folder_is_named(office, ruin, expected):
    ruin(office)
    message = refused("office31", office)
    assert all(part in message for part in expected), message


def test_officehome_with_the_archives_folder_names(tmp_path):
    run(MakeSample("officehome", tmp_path / "s", 60, 5, height=8, width=8))
    assert (tmp_path / "s/Real World/plain_ball/frame_0001.jpg").is_file()
    run(Prepare("officehome", tmp_path / "s", tmp_path / "out"))
    data = source.load("officehome", tmp_path / "out")
    assert data.domains == ("Art", "Clipart", "Product", "Real_World")
    assert data.num_classes == 65
    assert len(data) == 4 * 65


def test_no_part_is_too_large_for_tfds(sample, tmp_path, monkeypatch):
    """What does not fit in TFDS's buffer is sorted by TensorFlow, which is not there."""
    shuffle = pytest.importorskip("tensorflow_datasets.core.shuffle")
    assert builders.PART_BYTES < 0.8 * shuffle.MAX_MEM_BUFFER_SIZE
    record = 24 * 32 * (7 * 4 + 1)
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 3 * record)
    with pytest.raises(UserError, match="tensorflow"):
        run(Prepare("nyuv2", sample / "nyuv2", tmp_path / "large"))
    monkeypatch.setattr(builders, "PART_BYTES", 2 * record)
    run(Prepare("nyuv2", sample / "nyuv2", tmp_path / "out"))
    data = source.load("nyuv2", tmp_path / "out", validation_size=0)
    assert [len(data.splits[name]) for name in ("train", "test")] == [TRAIN, TEST]
    files = [sample / f"nyuv2/train/depth/{i}.npy" for i in range(TRAIN)]
    files += [sample / f"nyuv2/val/depth/{i}.npy" for i in range(TEST)]
    expected = np.stack([np.load(path) for path in files])
    np.testing.assert_array_equal(data.batch(np.arange(TRAIN + TEST))["depth"], expected)


def test_not_prepared(tmp_path):
    with pytest.raises(UserError, match=r"no prepared nyuv2 in .*prepare nyuv2 --source"):
        source.load("nyuv2", tmp_path)


def test_damaged_prepared_data(prepared, tmp_path):
    shutil.copytree(prepared / "nyuv2", tmp_path / "nyuv2")
    (tmp_path / "nyuv2" / specs.VERSION / "features.json").unlink()
    with pytest.raises(UserError, match=r"cannot be read .*delete that folder"):
        source.load("nyuv2", tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("labels"),
        lambda m: m.update(labels=[]),
        lambda m: m["labels"].update(dslr=[0]),
        lambda m: m["labels"]["dslr"].__setitem__(0, 31),
        lambda m: m["labels"]["dslr"].__setitem__(0, 10**30),
        lambda m: m["paths"]["dslr"].__setitem__(0, None),
        lambda m: m.update(classes=None),
    ],
)
def test_damaged_metadata(prepared, tmp_path, change):
    shutil.copytree(prepared / "office31", tmp_path / "office31")
    path = tmp_path / "office31" / specs.VERSION / "metadata.json"
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))
    with pytest.raises(UserError, match=r"cannot be read .*delete that folder"):
        source.load("office31", tmp_path)
