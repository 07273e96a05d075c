"""`python -m benchmarks convert-cityscapes`: converts the official images to .npy files.

The result imitates the pre-processed files that MTAN and later work use. The program that made
those is not published; two choices are inferred: depth is the 16-bit disparity divided by 65,535,
and the seven classes are the official categories.
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from benchmarks.config import ConvertCityscapes
from benchmarks.data import specs
from benchmarks.data.new_folder import new_folder
from benchmarks.errors import UserError
from benchmarks.files import images
from benchmarks.progress_bar import counting

_FIRST_IDS = (7, 11, 17, 21, 23, 24, 26)  # flat, construction, object, nature, sky, human, vehicle
_NUM_IDS = 34

LABEL_OF_ID = np.full(256, -1, np.int8)
"""The class (0 to 6) of each official label id; -1 for the ids that are not scored."""
for _label, (_first, _end) in enumerate(zip(_FIRST_IDS, (*_FIRST_IDS[1:], _NUM_IDS), strict=True)):
    LABEL_OF_ID[_first:_end] = _label


class _Official(NamedTuple):
    image: pathlib.Path
    label: pathlib.Path
    disparity: pathlib.Path


def convert(config: ConvertCityscapes, console: Console) -> None:
    """Converts the sets train and val, as the labels of the official test set are not public."""
    splits = {split: _find(config.source, split) for split in ("train", "val")}
    total = sum(map(len, splits.values()))
    with new_folder(config.out) as temporary, counting(console, "Cityscapes", total) as tick:
        for split, samples in splits.items():
            for field in ("image", "label", "depth"):
                (temporary / "done" / split / field).mkdir(parents=True)
            for i, sample in enumerate(samples):
                for field, array in _read(sample).items():
                    np.save(temporary / "done" / split / field / f"{i}.npy", array)
                tick()
    counts = ", ".join(f"{len(samples):,} {split}" for split, samples in splits.items())
    console.print(f"Cityscapes converted to {config.out}: {counts}", soft_wrap=True)


def _find(root: pathlib.Path, split: str) -> list[_Official]:
    folder = root / "leftImg8bit" / split
    images = sorted(folder.glob("*/*_leftImg8bit.png"))
    if not images:
        raise UserError(
            f"no images in {folder}: expected CITY/*_leftImg8bit.png, with gtFine/ and disparity/ "
            f"beside leftImg8bit/, from the archives of cityscapes-dataset.com"
        )
    samples = []
    for image in images:
        city, name = image.parent.name, image.name.removesuffix("_leftImg8bit.png")
        sample = _Official(
            image,
            root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png",
            root / "disparity" / split / city / f"{name}_disparity.png",
        )
        for path in sample:
            if not path.is_file():
                raise UserError(f"{path} is missing: expected one for {image}")
        samples.append(sample)
    return samples


def _read(sample: _Official) -> dict[str, NDArray[Any]]:
    height, width = specs.DENSE["cityscapes"].size
    image = _open(sample.image, "RGB")
    label = _open(sample.label, "L")
    disparity = _open(sample.disparity, "I;16")
    # Averages over pixels when shrinking; the official images are eight times as large.
    small = image.resize((width, height), Image.Resampling.BOX)
    ids = np.asarray(label.resize((width, height), Image.Resampling.NEAREST))
    if (bad := (ids >= _NUM_IDS) & (ids != 255)).any():
        raise UserError(
            f"{sample.label}: label id {ids[bad][0]}, expected 0 to {_NUM_IDS - 1}, or 255"
        )
    far = np.asarray(disparity)[_nearest(disparity.height, height)][
        :, _nearest(disparity.width, width)
    ]
    return {
        "image": np.asarray(small, np.float32) / 255,
        "label": LABEL_OF_ID[ids],
        "depth": far[..., None].astype(np.float32) / 65535,
    }


def _open(path: pathlib.Path, mode: str) -> Image.Image:
    with images.opened(path) as image:
        image.load()
    if mode == "RGB":
        return image.convert("RGB")
    # The name of 16-bit greyscale depends on the version of Pillow.
    if image.mode not in ((mode,) if mode == "L" else ("I;16", "I;16B", "I")):
        raise UserError(f"{path}: an image of mode {image.mode}, expected {mode}")
    return image


def _nearest(length: int, wanted: int) -> NDArray[np.intp]:
    """The indices of `wanted` pixels that are evenly spaced among `length`."""
    return ((np.arange(wanted) + 0.5) * length / wanted).astype(np.intp)
