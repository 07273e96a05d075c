"""Images of two garments of Fashion-MNIST each, made from a seed.

They follow Lin et al., "Pareto Multi-Task Learning" (NeurIPS 2019), Section 6.1: two images of
different classes are put into one, the first at the top left corner and the second at the bottom
right, and each may be moved by up to 4 pixels, as in the MultiMNIST of Sabour et al., "Dynamic
Routing Between Capsules" (NeurIPS 2017). Their files hold 120,000 + 20,000 images of 36 × 36
pixels, but not how they were made: here a garment moves from its corner towards the middle, and the
brighter pixel is taken where two overlap, as in Sener and Koltun's code for MultiMNIST.

Fashion-MNIST is by Xiao, Rasul and Vollgraf (arXiv:1708.07747).
"""

import hashlib
import os
import pathlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import splits
from benchmarks.errors import UserError
from benchmarks.files.idx import read_idx
from benchmarks.problems.multi_fashion.settings import MultiFashionConfig

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip

GARMENT = 28
"""Height and width of a garment in pixels."""
SHIFT = 4
"""The largest number of pixels that a garment is away from its corner, in each direction."""
SIDE = GARMENT + 2 * SHIFT
"""Height and width of an image in pixels."""

CHECKSUM = "ca3ab2a37f845e1b8ae23cab1b51749a3011ba3bf1d9016176d75cbaabac376f"
"""The SHA-256 of the arrays of Fashion-MNIST, one after the other."""

_INSTALL = (
    "`apt-get install dataset-fashion-mnist` (Debian, Ubuntu) has them in the default folder, and "
    "github.com/zalandoresearch/fashion-mnist in its data/fashion"
)


class Garments(NamedTuple):
    """N images of one garment each."""

    images: NDArray[np.uint8]
    """[N, 28, 28]"""
    labels: NDArray[np.uint8]
    """[N], from 0 to 9"""


class FashionMNIST(NamedTuple):
    """The two sets of the data set."""

    train: Garments
    test: Garments


class Pairs(NamedTuple):
    """K images of two garments each."""

    images: NDArray[np.uint8]
    """[K, 36, 36]"""
    labels: NDArray[np.uint8]
    """[K, 2], the classes of the garment at the top left and of that at the bottom right"""


def load(folder: pathlib.Path) -> FashionMNIST:
    """Reads Fashion-MNIST.

    Raises:
      UserError: if a file is missing or damaged, or has other images, such as those of MNIST.
    """
    data = read(folder)
    if (found := checksum(data)) != CHECKSUM:
        raise UserError(
            f"{folder}: expected the {CHECKSUM[:12]} … (SHA-256) of Fashion-MNIST's images and "
            f"labels, found {found[:12]} …: {_INSTALL}"
        )
    return data


def read(folder: pathlib.Path) -> FashionMNIST:
    """Reads files in the form of Fashion-MNIST's.

    Raises:
      UserError: if one is missing, damaged or in another form.
    """
    return FashionMNIST(_read_set(folder, "train"), _read_set(folder, "t10k"))


def checksum(data: FashionMNIST) -> str:
    """The SHA-256 of all arrays, one after the other."""
    total = hashlib.sha256()
    for garments in data:
        for array in garments:
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def pairs(data: FashionMNIST, config: MultiFashionConfig) -> dict[str, Pairs]:
    """The images of "train", "validation" and "test".

    No garment is in two of them. With the same seed, a larger set contains every smaller one.

    Raises:
      UserError: for a number of images that cannot be made.
    """
    for option, size, least in (
        ("--train-size", config.train_size, 1),
        ("--validation-size", config.validation_size, 0),
        ("--test-size", config.test_size, 1),
    ):
        if size < least:
            raise UserError(f"{option}: expected at least {least}, found {size}")
    held_out = None if config.holds_out() else 0  # None: a tenth
    own, held = splits.hold_out(len(data.train.labels), held_out, config.split_seed)
    garments = {
        "train": (_select(data.train, own), config.train_size),
        "validation": (_select(data.train, held), config.validation_size),
        "test": (data.test, config.test_size),
    }
    return {
        name: overlaid(source, size, seed=(config.split_seed, number), name=name)
        for number, (name, (source, size)) in enumerate(garments.items())
    }


def overlaid(garments: Garments, size: int, *, seed: tuple[int, ...], name: str = "") -> Pairs:
    """Images of two garments of different classes each; every garment is equally often first.

    Raises:
      UserError: if all garments are of one class.
    """
    result = Pairs(np.zeros((size, SIDE, SIDE), np.uint8), np.zeros((size, 2), np.uint8))
    count = len(garments.labels)
    if not size:
        return result
    if len(np.unique(garments.labels)) < 2:
        raise UserError(f"Fashion-MNIST, {name}: expected garments of two classes, found one")
    for turn, start in enumerate(range(0, size, count)):
        rows = slice(start, min(start + count, size))
        _overlay(garments, np.random.default_rng([*seed, turn]), Pairs(*(a[rows] for a in result)))
    return result


def _overlay(garments: Garments, rng: np.random.Generator, into: Pairs) -> None:
    """Fills at most as many images as there are garments, each of which is first in one."""
    count = len(garments.labels)
    first, second = rng.permutation(count), rng.integers(count, size=count)
    while (same := garments.labels[first] == garments.labels[second]).any():
        second[same] = rng.integers(count, size=same.sum())
    places = rng.integers(SHIFT + 1, size=(2, count, 2))  # from the top left
    places[1] += SHIFT
    kept = len(into.labels)
    for task, chosen in enumerate((first[:kept], second[:kept])):
        into.labels[:, task] = garments.labels[chosen]
        for top, left in np.unique(places[task], axis=0):
            here = np.flatnonzero((places[task, :kept] == (top, left)).all(axis=1))
            window = (here, slice(top, top + GARMENT), slice(left, left + GARMENT))
            into.images[window] = np.maximum(into.images[window], garments.images[chosen[here]])


def _select(garments: Garments, index: NDArray[np.int64]) -> Garments:
    return Garments(garments.images[index], garments.labels[index])


def _read_set(folder: pathlib.Path, name: str) -> Garments:
    images_path, labels_path = (
        _existing(folder, f"{name}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")
    )
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (GARMENT, GARMENT) or not len(images):
        raise UserError(
            f"{images_path}: expected images of {GARMENT} × {GARMENT} pixels, found an array "
            f"{list(images.shape)}"
        )
    if len(labels) != len(images):
        raise UserError(
            f"{labels_path}: expected {len(images):,} labels, as {images_path.name} has images, "
            f"found {len(labels):,}"
        )
    if labels.max() >= len(CLASSES):
        where = int(labels.argmax())
        raise UserError(
            f"{labels_path}: label {where}: expected 0 to {len(CLASSES) - 1}, found {labels[where]}"
        )
    return Garments(images, labels)


def _existing(folder: pathlib.Path, name: str) -> pathlib.Path:
    for path in (folder / f"{name}.gz", folder / name):
        if os.path.isfile(path):  # unlike `Path.is_file`, it takes a name of any length
            return path
    raise UserError(f"--data-dir: no {name}.gz in {folder}: {_INSTALL}")
