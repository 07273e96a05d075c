"""The formats of the four data sets of images on disk."""

import math
from typing import Literal, NamedTuple

import numpy as np

from benchmarks.errors import how_to_install

DenseName = Literal["nyuv2", "cityscapes"]
OfficeName = Literal["office31", "officehome"]
Name = Literal["nyuv2", "cityscapes", "office31", "officehome"]

INSTALL = how_to_install("vision")
"""What error messages say if a package for reading images is missing."""
VERSION = "1.0.0"
"""The version of the format that `prepare` writes."""


class Field(NamedTuple):
    """One array of a sample, in the file `{folder}/{i}.npy`."""

    name: str
    folders: tuple[str, ...]
    """possible names of the folder; the first that exists is used"""
    channels: tuple[int, ...]
    """the shape after (height, width)"""
    dtype: type[np.generic]
    """dtype of the prepared array; files may have any numeric dtype"""
    low: float
    """smallest allowed value, with a tolerance for resizing that overshoots"""
    high: float
    """largest allowed value, with the same tolerance"""


class Dense(NamedTuple):
    """A data set with labels for every pixel, in folders of .npy files."""

    title: str
    size: tuple[int, int]
    counts: dict[str, int]
    """number of samples of each split of the official data set"""
    classes: tuple[str, ...]
    fields: tuple[Field, ...]
    where: str
    """where to get the folder, for error messages"""

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)


class Office(NamedTuple):
    """A data set of images in folders of classes, in several domains."""

    title: str
    size: tuple[int, int]
    counts: dict[str, int]
    """number of images of each domain of the official data set; the domains are the tasks"""
    num_classes: int
    images_folder: str
    """folder between that of the domain and those of the classes; empty if there is none"""
    where: str
    """where to get the folder, for error messages"""


SOURCE_FOLDERS = {"train": "train", "test": "val"}
"""The folder of each prepared split; the folder `val` holds what is used as the test set."""


def _fields(num_classes: int, lowest_depth: float) -> tuple[Field, ...]:
    return (
        Field("image", ("image",), (3,), np.float32, -0.1, 1.1),
        Field("label", ("label_7", "label"), (), np.int8, -1, num_classes - 1),
        Field("depth", ("depth",), (1,), np.float32, lowest_depth, math.inf),
    )


_NORMAL = Field("normal", ("normal",), (3,), np.float32, -1.1, 1.1)

_NYUV2_CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa",
    "table", "TV", "wall", "window",
)  # fmt: skip

DENSE: dict[str, Dense] = {
    "nyuv2": Dense(
        title="NYUv2",
        size=(288, 384),
        counts={"train": 795, "test": 654},
        classes=_NYUV2_CLASSES,
        fields=(*_fields(13, 0.0), _NORMAL),
        where="the pre-processed NYUv2 that github.com/lorenmt/mtan links to",
    ),
    "cityscapes": Dense(
        title="Cityscapes",
        size=(128, 256),
        counts={"train": 2975, "test": 500},
        classes=("flat", "construction", "object", "nature", "sky", "human", "vehicle"),
        # Only zero means invalid; whether negative values occur is not known.
        fields=_fields(7, -math.inf),
        where="the pre-processed Cityscapes that github.com/lorenmt/mtan links to, or "
        "`python -m benchmarks convert-cityscapes` on the official files",
    ),
}
OFFICE: dict[str, Office] = {
    "office31": Office(
        title="Office-31",
        size=(224, 224),
        counts={"amazon": 2817, "dslr": 498, "webcam": 795},
        num_classes=31,
        images_folder="images",
        where="the Office-31 archive (domain_adaptation_images)",
    ),
    "officehome": Office(
        title="Office-Home",
        size=(224, 224),
        counts={"Art": 2427, "Clipart": 4365, "Product": 4439, "Real_World": 4357},
        num_classes=65,
        images_folder="",
        where="the Office-Home archive of hemanthdv.github.io/officehome-dataset",
    ),
}
NAMES = (*DENSE, *OFFICE)

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
