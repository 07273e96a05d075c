"""Random access to the records of a prepared data set."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.data import specs
from benchmarks.errors import UserError


class Records:
    """The splits of a prepared data set as one sequence of records.

    Several threads may read at the same time.

    Args:
      data_dir: folder of the prepared data sets.
      name: name of the data set.
      parts: splits of the data set; each consists of TFDS splits (see `builders.PART_BYTES`).
    """

    def __init__(self, data_dir: pathlib.Path, name: str, parts: Sequence[str]) -> None:
        self._folder = data_dir / name / specs.VERSION
        if not self._folder.is_dir():
            raise UserError(
                f"no prepared {name} in {data_dir}: run "
                f"`python -m benchmarks prepare {name} --source FOLDER --out {data_dir}` first"
            )
        try:
            import tensorflow_datasets as tfds  # imported late, as QM9 does not need it

            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            builder = tfds.builder_from_directory(self._folder)
            names = {p: [n for n in builder.info.splits if n.startswith(f"{p}_")] for p in parts}
            self._sources = [
                builder.as_data_source(name, deserialize_method=raw)
                for part in parts
                for name in sorted(names[part])
            ]
            splits = builder.info.splits
            self.counts = [sum(splits[n].num_examples for n in names[part]) for part in parts]
            if not all(self.counts):
                raise ValueError(f"no records of {parts[self.counts.index(0)]}")
            self.metadata: dict[str, Any] = dict(builder.info.metadata)
            self.is_sample = bool(self.metadata["is_sample"])
        except ImportError as error:
            raise UserError(
                f"{name} needs the package {error.name}, which is not installed: {specs.INSTALL}"
            ) from error
        except Exception as error:  # TFDS does not document its errors for damaged data
            raise self._damaged(error) from error
        self._features = builder.info.features
        self.shapes = {key: feature.shape for key, feature in self._features.items()}
        self._starts = np.cumsum([0, *map(len, self._sources)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def check_images(self, parts: Sequence[str], num_classes: int) -> None:
        """Checks that the metadata have a label and a path of every image, and the classes.

        Raises:
          UserError: otherwise.
        """
        known = range(num_classes)
        try:
            names, labels, paths = (self.metadata[name] for name in ("classes", "labels", "paths"))
            fits = len(names) == num_classes and all(isinstance(name, str) for name in names)
            for part, count in zip(parts, self.counts, strict=True):
                fits &= len(labels[part]) == len(paths[part]) == count
                fits &= all(type(label) is int and label in known for label in labels[part])
                fits &= all(isinstance(path, str) for path in paths[part])
            if not fits:
                raise ValueError("the metadata do not fit the images")
        except (TypeError, KeyError, ValueError) as error:
            raise self._damaged(error) from error

    def read(self, indices: ArrayLike) -> dict[str, NDArray[Any]]:
        """Reads records; the shape of every array begins with that of `indices`."""
        indices = np.asarray(indices)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"indices must be from 0 to {len(self) - 1}")
        arrays = {
            key: np.empty((indices.size, *feature.shape), feature.np_dtype)
            for key, feature in self._features.items()
        }
        for row, index in enumerate(indices.ravel()):
            k = int(np.searchsorted(self._starts, index, side="right")) - 1
            try:
                raw = self._sources[k][int(index - self._starts[k])]
                record = self._features.deserialize_example_np(raw)
            except Exception as error:  # as above
                raise self._damaged(error) from error
            for key, array in arrays.items():
                array[row] = record[key]
        return {key: a.reshape(indices.shape + a.shape[1:]) for key, a in arrays.items()}

    def _damaged(self, error: Exception) -> UserError:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        return UserError(
            f"the data in {self._folder} cannot be read ({line}): delete that folder and prepare "
            "them again"
        )
