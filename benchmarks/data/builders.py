"""Builders of the four data sets for TensorFlow Datasets (TFDS), without TensorFlow.

Arrays are stored as raw bytes, as the default of TFDS, a list of numbers, takes several times as
long to read. The samples keep the order of the files.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from benchmarks.data import image_folder, npy_folder, specs

FILE_FORMAT = "array_record"
"""The only format with random access that TFDS writes and reads without TensorFlow."""

PART_BYTES = 400_000_000
"""Maximal size of a TFDS split. A split of a data set is divided into "train_00", "train_01" and so
on, as TFDS needs TensorFlow to sort splits that exceed its buffer of 1 GB."""


class _Builder(tfds.core.GeneratorBasedBuilder):
    """The base class of the four builders; the user's folder is the `manual_dir` of TFDS.

    Args:
      folder: the user's folder, already checked; None: checks `manual_dir`, which must contain the
        real data, as the image sizes of sample data differ.
      tick: called after each sample.
      kwargs: arguments of the TFDS builder.
    """

    VERSION = tfds.core.Version(specs.VERSION)

    def __init__(
        self, *, folder: Any = None, tick: Callable[[], None] = lambda: None, **kwargs: Any
    ) -> None:
        self._folder, self._tick = folder, tick
        super().__init__(file_format=FILE_FORMAT, **kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Otherwise the Cityscapes builder of TFDS could not be imported as well.
        super().__init_subclass__(skip_registration=True, **kwargs)

    def _dataset_info(self, features: dict[str, Any]) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _parts(self, split: str, count: int) -> Iterator[tuple[str, range]]:
        """The names of the TFDS splits, each with the indices of its samples."""
        size = sum(
            math.prod(feature.shape) * np.dtype(feature.np_dtype).itemsize
            for feature in self.info.features.values()
        )
        step = max(1, PART_BYTES // size)
        for k, start in enumerate(range(0, count, step)):
            yield f"{split}_{k:02d}", range(start, min(start + step, count))


class _DenseBuilder(_Builder):
    def _info(self) -> tfds.core.DatasetInfo:
        spec = specs.DENSE[self.name]
        size = self._folder.size if self._folder else spec.size
        return self._dataset_info(
            {f.name: _array((*size, *f.channels), f.dtype) for f in spec.fields}
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = self._folder or npy_folder.check(dl_manager.manual_dir, self.name)
        self.info.metadata.update(is_sample=folder.is_sample)
        return {
            name: self._generate_examples(folder, split, part)
            for split, count in folder.counts.items()
            for name, part in self._parts(split, count)
        }

    def _generate_examples(
        self, folder: npy_folder.DenseFolder, split: str, part: range
    ) -> Iterator[Any]:
        for i in part:
            yield i, folder.read(split, i)
            self._tick()


class _OfficeBuilder(_Builder):
    """Each domain is a split of TFDS; reading the data splits it into train and test."""

    def _info(self) -> tfds.core.DatasetInfo:
        size = self._folder.size if self._folder else specs.OFFICE[self.name].size
        return self._dataset_info({"image": _array((*size, 3), np.uint8)})

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = self._folder or image_folder.check(dl_manager.manual_dir, self.name)
        # Labels and paths are metadata, as splitting needs those of all images at once.
        self.info.metadata.update(
            is_sample=folder.is_sample,
            classes=folder.classes,
            labels={d: [folder.label(p) for p in paths] for d, paths in folder.files.items()},
            paths={d: [folder.relative(p) for p in paths] for d, paths in folder.files.items()},
        )
        return {
            name: self._generate_examples(folder, domain, part)
            for domain, count in folder.counts.items()
            for name, part in self._parts(domain, count)
        }

    def _generate_examples(
        self, folder: image_folder.OfficeFolder, domain: str, part: range
    ) -> Iterator[Any]:
        for i in part:
            yield i, {"image": folder.read(folder.files[domain][i])}
            self._tick()


class NYUv2(_DenseBuilder):
    """NYUv2: indoor scenes with segmentation, depth and surface normals."""

    name = "nyuv2"
    MANUAL_DOWNLOAD_INSTRUCTIONS = specs.DENSE[name].where


class Cityscapes(_DenseBuilder):
    """Cityscapes: street scenes with segmentation and disparity."""

    name = "cityscapes"
    MANUAL_DOWNLOAD_INSTRUCTIONS = specs.DENSE[name].where


class Office31(_OfficeBuilder):
    """Office-31: office objects in three domains."""

    name = "office31"
    MANUAL_DOWNLOAD_INSTRUCTIONS = specs.OFFICE[name].where


class OfficeHome(_OfficeBuilder):
    """Office-Home: objects of office and home in four domains."""

    name = "officehome"
    MANUAL_DOWNLOAD_INSTRUCTIONS = specs.OFFICE[name].where


BUILDERS: dict[str, type[_Builder]] = {
    builder.name: builder for builder in (NYUv2, Cityscapes, Office31, OfficeHome)
}


def _array(shape: tuple[int, ...], dtype: type[np.generic]) -> tfds.features.Tensor:
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=tfds.features.Encoding.BYTES)
