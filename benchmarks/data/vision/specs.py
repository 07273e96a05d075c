"""What the four data sets look like on disk."""

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
"""Of the prepared format."""


class Field(NamedTuple):
    """One kind of file of a sample, `{folder}/{i}.npy`."""

    name: str
    folders: tuple[str, ...]
    """the folder's possible names; the first one there is used"""
    channels: tuple[int, ...]
    """what follows (height, width) in the shape"""
    dtype: type[np.generic]
    """of the prepared array; files may have any numeric one"""
    low: float
    high: float
    """range of its values, with some room for resizing that overshoots"""


class Dense(NamedTuple):
    """A data set with labels for every pixel, in folders of npy files."""

    title: str
    size: tuple[int, int]
    counts: dict[str, int]
    """samples of the official set, by prepared split"""
    classes: tuple[str, ...]
    fields: tuple[Field, ...]
    where: str
    """where a user gets the folder"""

    @property
    def num_classes(self) -> int:
        """Their number."""
        return len(self.classes)


class Office(NamedTuple):
    """A data set of images in folders of classes, in several domains."""

    title: str
    size: tuple[int, int]
    counts: dict[str, int]
    """images of the official set, by domain; the domains are the tasks"""
    num_classes: int
    images_folder: str
    """between the domain's folder and those of the classes"""
    where: str


SOURCE_FOLDERS = {"train": "train", "test": "val"}
"""Prepared split -> folder. The community's `val` is the official test set of both."""


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
        # Only zero means invalid there; whether negative ones occur is not known.
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
