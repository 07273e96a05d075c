"""Which images train, which choose the epoch and which are tested on."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.errors import UserError

Indices = NDArray[np.int64]

_LIST_NAMES = {"train": "train", "validation": "val", "test": "test"}


def hold_out(num_train: int, validation_size: int | None, seed: int) -> tuple[Indices, Indices]:
    """Training images, and those held out of them to choose the epoch, both ascending.

    Args:
      num_train: the number of images to choose from.
      validation_size: how many to hold out; None: a tenth; 0: none, for the rule that the last
        epoch counts.
      seed: which ones.
    """
    size = num_train // 10 if validation_size is None else validation_size
    if not 0 <= size < num_train:
        raise UserError(
            f"cannot hold {size:,} images for validation out of {num_train:,} for training"
        )
    order = np.random.default_rng(seed).permutation(num_train)
    return np.sort(order[size:]), np.sort(order[:size])


def sixty_twenty_twenty(labels: ArrayLike, seed: int | Sequence[int]) -> dict[str, Indices]:
    """Divides images at random, every class in about the same proportions.

    Args:
      labels: [N], the class of each image.
      seed: the division.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    # Every image gets a place in (0, 1) that is spread evenly within its class.
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
    """The user's own division: `{domain}_{train,val,test}.txt`, with `path.jpg label` in each line.

    Args:
      folder: of the three files.
      domain: which domain.
      paths: of the domain's images, in the order of their indices.
      num_classes: labels are 0 to one less.

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
            if not label.isdecimal() or int(label) >= num_classes:
                raise UserError(f"{where}: label {label!r}, expected 0 to {num_classes - 1}")
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
    """Checks that lists give one label to each class, in all domains.

    Args:
      labels: domain -> index -> label of the lists.
      classes: domain -> the class of each index, by its folder.
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
    # Lists say Real_World where the official archive has "Real World".
    return path.strip().replace(" ", "_")
