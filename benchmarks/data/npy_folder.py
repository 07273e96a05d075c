"""The pre-processed folders of NYUv2 and Cityscapes: `{train,val}/{field}/{i}.npy`."""

import pathlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import mark, specs
from benchmarks.errors import UserError
from benchmarks.files.arrays import open_npy


class DenseFolder(NamedTuple):
    """A checked folder, in which no file is missing and all arrays have the right shapes."""

    name: str
    """name of the data set"""
    size: tuple[int, int]
    """height and width of the images"""
    is_sample: bool
    """whether the images are rendered sample data"""
    files: dict[str, dict[str, list[pathlib.Path]]]
    """split -> field -> files in the order of their numbers"""

    @property
    def counts(self) -> dict[str, int]:
        """The number of samples of each split."""
        return {split: len(fields["image"]) for split, fields in self.files.items()}

    def read(self, split: str, index: int) -> dict[str, NDArray[np.generic]]:
        """Reads and checks all fields of a sample, in the dtypes of the prepared data."""
        fields = specs.DENSE[self.name].fields
        return {f.name: _read(self.files[split][f.name][index], f, self.size) for f in fields}


def check(root: pathlib.Path, name: str) -> DenseFolder:
    """Finds the files of all samples; none may be missing, truncated or of a wrong shape.

    Only the headers of the files are read; their values are checked when a sample is read.
    """
    spec = specs.DENSE[name]
    found = mark.read(root, name)
    size = found.size if found else spec.size
    files = {
        split: _files(root / folder, spec, root) for split, folder in specs.SOURCE_FOLDERS.items()
    }
    for fields in files.values():
        for field in spec.fields:
            for path in fields[field.name]:
                _open(path, field, size)
    return DenseFolder(name, size, found is not None, files)


def _files(folder: pathlib.Path, spec: specs.Dense, root: pathlib.Path) -> dict[str, list]:
    names = [f.folders[-1] for f in spec.fields]
    expected = f"{{train,val}}/{{{','.join(names)}}}/0.npy, 1.npy, ..."
    folders, indices = {}, set()
    for field in spec.fields:
        there = [folder / n for n in field.folders if (folder / n).is_dir()]
        if not there:
            missing = folder / " or ".join(reversed(field.folders))
            raise UserError(f"{missing} is not there: expected {expected} in {root}, {spec.where}")
        folders[field.name] = there[0]
        indices |= {int(p.stem) for p in there[0].glob("*.npy") if p.stem.isdecimal()}
    if not indices:
        raise UserError(f"no .npy files in {folder}: expected {expected} in {root}, {spec.where}")
    files = {}
    for name, place in folders.items():
        files[name] = [place / f"{i}.npy" for i in range(max(indices) + 1)]
        for missing in (path for path in files[name] if not path.is_file()):
            raise UserError(
                f"{missing} is missing: expected 0.npy to {max(indices)}.npy in each of "
                f"{', '.join(sorted(f.name for f in folders.values()))}"
            )
    return files


def _open(path: pathlib.Path, field: specs.Field, size: tuple[int, int]) -> NDArray[np.generic]:
    """Memory-maps a file and checks its dtype and shape, without reading its values."""
    array = open_npy(path)
    if array.dtype.kind not in "iuf":
        raise UserError(f"{path}: {array.dtype}, expected a numeric array")
    if array.shape != (expected := (*size, *field.channels)):
        raise UserError(f"{path}: shape {array.shape}, expected {expected}")
    return array


def _read(path: pathlib.Path, field: specs.Field, size: tuple[int, int]) -> NDArray[np.generic]:
    array = np.asarray(_open(path, field, size))
    if field.name == "image" and array.dtype == np.uint8:
        array = array.astype(np.float32) / 255
    low, high = array.min(), array.max()  # NaN if any value is NaN
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{path}: values that are not finite")
    if low < field.low or high > field.high:
        raise UserError(f"{path}: values from {low:g} to {high:g}, expected {_range(field)}")
    cast = array.astype(field.dtype)
    if field.name == "label" and (bad := cast != array).any():
        raise UserError(f"{path}: label {array[bad][0]:g}, expected whole numbers")
    return cast


def _range(field: specs.Field) -> str:
    if field.name == "depth":
        return "none below 0"
    low, high = (round(x) for x in (field.low, field.high))
    return f"{low} to {high}"
