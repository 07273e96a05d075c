"""Splits of images into training, validation and test set."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.errors import UserError

Indices = NDArray[np.int64]

_LIST_NAMES = {"train": "train", "validation": "val", "test": "test"}


def hold_out(num_train: int, validation_size: int | None, seed: int) -> tuple[Indices, Indices]:
    """Splits the training images into those for training and for validation, both ascending.

    Args:
      num_train: number of images to choose from.
      validation_size: number of images for validation; None: a tenth; 0: none, so that all
        train.
      seed: seed of the random choice.
    """
    size = num_train // 10 if validation_size is None else validation_size
    if not 0 <= size < num_train:
        raise UserError(
            f"cannot hold {size:,} images for validation out of {num_train:,} for training"
        )
    order = np.random.default_rng(seed).permutation(num_train)
    return np.sort(order[size:]), np.sort(order[:size])


def sixty_twenty_twenty(labels: ArrayLike, seed: int | Sequence[int]) -> dict[str, Indices]:
    """Splits images at random 60/20/20, each class in about the same proportions.

    Args:
      labels: [N], the class of each image.
      seed: seed of the random split.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    # Each image gets a position in (0, 1); the positions of each class are spread evenly.
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (rng.permutation(len(members)) + rng.random()) / len(members)
    order = np.argsort(place, kind="stable")
    ends = np.round(np.array([0.6, 0.8]) * len(labels)).astype(int)
    parts = np.split(order, ends)
    return {split: np.sort(part) for split, part in zip(_LIST_NAMES, parts, strict=True)}


def read_lists(
    folder: pathlib.Path, domain: str, paths: Sequence[str], num_classes: int
) -> tuple[dict[str, Indices], dict[int, int]]:
    """Reads a split from `{domain}_{train,val,test}.txt`, whose lines are `path.jpg label`.

    Args:
      folder: folder of the three files.
      domain: name of the domain.
      paths: paths of the images of the domain, in the order of their indices.
      num_classes: number of classes; labels are smaller than this.

    Returns:
      The indices of each split in the order of its file, and the label of each index.
    """
    index_of = {_normal(path): i for i, path in enumerate(paths)}
    labels: dict[int, int] = {}
    indices: dict[str, Indices] = {}
    for split, name in _LIST_NAMES.items():
        file = folder / f"{domain}_{name}.txt"
        found = []
        for number, line in enumerate(_lines(file), start=1):
            path, _, label = line.rpartition(" ")
            where = f"{file}, line {number}"
            index = index_of.get(_normal(path))
            if index is None:
                raise UserError(f"{where}: {path!r} is not among the {len(paths):,} of {domain}")
            # Python would refuse to convert a label of 5,000 digits.
            if not label.isdecimal() or len(label) > 9 or int(label) >= num_classes:
                raise UserError(f"{where}: label {label[:20]!r}, expected 0 to {num_classes - 1}")
            if index in labels:
                raise UserError(f"{where}: {path!r} is listed a second time")
            labels[index] = int(label)
            found.append(index)
        if not found:
            raise UserError(f"{file} lists no images")
        indices[split] = np.array(found, np.int64)
    return indices, labels


def check_same_classes(
    labels: Mapping[str, Mapping[int, int]], classes: Mapping[str, Sequence[int]]
) -> None:
    """Checks that the lists give each class the same label in all domains.

    Args:
      labels: domain -> index -> label in the lists.
      classes: domain -> class of each index, given by its folder.
    """
    label_of: dict[int, int] = {}
    for domain, given in labels.items():
        for index, label in given.items():
            known = label_of.setdefault(classes[domain][index], label)
            if known != label:
                raise UserError(
                    f"the lists of {domain} give label {label} to images of a class that has label "
                    f"{known} elsewhere"
                )


def _lines(file: pathlib.Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from error


def _normal(path: str) -> str:
    # List files say "Real_World"; the folder in the official archive is "Real World".
    return path.strip().replace(" ", "_")
