"""Prepared data sets of images, with random access by index."""

import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.data import batching, specs, splits
from benchmarks.data.records import Records
from benchmarks.data.splits import Indices
from benchmarks.errors import UserError

Arrays = dict[str, NDArray[Any]]

_SCALE = 1 / (255 * specs.IMAGENET_STD)
_OFFSET = -specs.IMAGENET_MEAN / specs.IMAGENET_STD


def undo_normalisation(image: ArrayLike) -> NDArray[Any]:
    """Turns normalised images of Office back into images in [0, 1], for display."""
    shown: NDArray[Any] = np.asarray(image) * specs.IMAGENET_STD + specs.IMAGENET_MEAN
    return np.clip(shown, 0, 1)


class Source(Protocol):
    """A data set with its splits; every image has one index, whatever its split."""

    name: str
    """name of the data set"""
    is_sample: bool
    """whether the data are rendered by `make-sample`, which results must say"""
    num_classes: int
    """number of classes"""
    size: tuple[int, int]
    """height and width of the images"""

    def __len__(self) -> int: ...

    def batch(self, indices: ArrayLike, valid: ArrayLike | None = None) -> Arrays:
        """Reads images and their targets.

        Args:
          indices: indices of any shape; the shape of every array begins with it.
          valid: bool of the same shape; where False, the targets are set to unknown (-1, or 0 for
            depth and normals).
        """
        ...

    def train_batches(self, batch_size: int, *, seed: int, epoch: int) -> Indices:
        """The indices of all training batches of an epoch, [S, ...]."""
        ...

    def evaluation_batches(self, split: str, batch_size: int) -> tuple[Indices, NDArray[np.bool_]]:
        """The indices of a split, and a mask, False for padding, [S, ...].

        Args:
          split: "train", "validation" or "test".
          batch_size: number of images in a batch.
        """
        ...


def load(
    name: str,
    data_dir: str | pathlib.Path,
    *,
    split_seed: int = 0,
    validation_size: int | None = None,
    lists: str | pathlib.Path | None = None,
) -> "DenseSource | OfficeSource":
    """Opens a data set that `python -m benchmarks prepare` has written.

    Args:
      name: "nyuv2", "cityscapes", "office31" or "officehome".
      data_dir: the `--out` of `prepare`.
      split_seed: seed of the validation set (NYUv2, Cityscapes) or the 60/20/20 split (Office).
      validation_size: number of training images to hold out for validation; None: a tenth; 0:
        none, so that all train. For NYUv2 and Cityscapes only.
      lists: folder of list files that define the split. For Office only.

    Raises:
      UserError: if the data are missing or damaged, or cannot be split in this way.
    """
    if name not in specs.NAMES:
        raise ValueError(f"name must be one of {', '.join(specs.NAMES)}, not {name!r}")
    data_dir = pathlib.Path(data_dir)
    if name in specs.DENSE:
        if lists is not None:
            raise UserError(f"{name} has fixed sets for training and test: it takes no lists")
        return DenseSource(name, data_dir, split_seed, validation_size)
    if validation_size is not None:
        raise UserError(f"{name} is divided 60/20/20 or by lists: it takes no size of validation")
    return OfficeSource(name, data_dir, split_seed, pathlib.Path(lists) if lists else None)


class DenseSource:
    """NYUv2 or Cityscapes.

    A batch has `image` [..., H, W, 3] float32 in [0, 1], `label` [..., H, W] int32, -1 where
    unknown, `depth` [..., H, W, 1] float32, 0 where unknown, and for NYUv2 `normal` [..., H, W, 3]
    float32, zero where unknown.
    """

    def __init__(
        self, name: str, data_dir: pathlib.Path, split_seed: int, validation_size: int | None
    ) -> None:
        spec = specs.DENSE[name]
        self.name, self.num_classes = name, spec.num_classes
        self._records = Records(data_dir, name, list(spec.counts))
        self.is_sample = self._records.is_sample
        self.size = self._records.shapes["image"][:2]
        num_train, num_test = self._records.counts
        train, validation = splits.hold_out(num_train, validation_size, split_seed)
        self.splits: dict[str, Indices] = {
            "train": train,
            "validation": validation,
            "test": np.arange(num_train, num_train + num_test),
        }

    def __len__(self) -> int:
        return len(self._records)

    def batch(self, indices: ArrayLike, valid: ArrayLike | None = None) -> Arrays:
        """Reads images and their targets, see `Source.batch`."""
        arrays = self._records.read(indices)
        arrays["label"] = arrays["label"].astype(np.int32)
        if valid is not None and (filling := ~np.asarray(valid, bool)).any():
            for name, array in arrays.items():
                if name != "image":
                    array[filling] = -1 if name == "label" else 0
        return arrays

    def train_batches(self, batch_size: int, *, seed: int, epoch: int) -> Indices:
        """The indices of all training batches of an epoch, [S, B]."""
        return batching.epoch_batches(self.splits["train"], batch_size, seed=seed, epoch=epoch)

    def evaluation_batches(self, split: str, batch_size: int) -> tuple[Indices, NDArray[np.bool_]]:
        """The indices of a split, and a mask, False for padding, [S, B]."""
        return batching.evaluation_batches(self.splits[split], batch_size)


class OfficeSource:
    """Office-31 or Office-Home; each domain is a task with its own images.

    A batch has `image` [..., H, W, 3] float32, normalised by the mean and standard deviation of
    ImageNet, and `label` [...] int32.
    """

    def __init__(
        self, name: str, data_dir: pathlib.Path, split_seed: int, lists: pathlib.Path | None
    ) -> None:
        spec = specs.OFFICE[name]
        self.name, self.num_classes = name, spec.num_classes
        self.domains = tuple(spec.counts)
        self._records = Records(data_dir, name, list(self.domains))
        self.is_sample = self._records.is_sample
        self.size = self._records.shapes["image"][:2]
        self._records.check_images(self.domains, spec.num_classes)
        self.classes: Sequence[str] = self._records.metadata["classes"]
        starts = np.cumsum([0, *self._records.counts[:-1]])
        classes = self._records.metadata["labels"]
        self._labels = np.concatenate([np.asarray(classes[d], np.int32) for d in self.domains])
        parts, given = [], {}
        for t, domain in enumerate(self.domains):
            if lists is None:
                # With the same seed, domains of equal size would be split alike.
                part = splits.sixty_twenty_twenty(classes[domain], [split_seed, t])
            else:
                paths = self._records.metadata["paths"][domain]
                part, given[domain] = splits.read_lists(lists, domain, paths, spec.num_classes)
            parts.append(part)
        if lists is not None:
            splits.check_same_classes(given, classes)
            for start, domain in zip(starts, self.domains, strict=True):
                for index, label in given[domain].items():
                    self._labels[start + index] = label
        self.splits: dict[str, tuple[Indices, ...]] = {
            split: tuple(start + part[split] for start, part in zip(starts, parts, strict=True))
            for split in ("train", "validation", "test")
        }

    def __len__(self) -> int:
        return len(self._records)

    def batch(self, indices: ArrayLike, valid: ArrayLike | None = None) -> Arrays:
        """Reads images and their targets, see `Source.batch`."""
        indices = np.asarray(indices)
        image = self._records.read(indices)["image"].astype(np.float32)
        image *= _SCALE
        image += _OFFSET
        label = self._labels[indices]
        if valid is not None:
            label = np.where(valid, label, np.int32(-1))
        return {"image": image, "label": label}

    def train_batches(self, batch_size: int, *, seed: int, epoch: int) -> Indices:
        """The indices of all training batches of an epoch, [S, T, B]: one batch per domain."""
        return batching.per_task_epoch_batches(
            self.splits["train"], batch_size, seed=seed, epoch=epoch
        )

    def train_steps(self, batch_size: int) -> list[int]:
        """The number of steps of one pass over each domain, the first steps of an epoch."""
        return batching.per_task_steps(self.splits["train"], batch_size)

    def evaluation_batches(self, split: str, batch_size: int) -> tuple[Indices, NDArray[np.bool_]]:
        """The indices of a split, and a mask, False for padding, [S, T, B]."""
        return batching.per_task_evaluation_batches(self.splits[split], batch_size)
