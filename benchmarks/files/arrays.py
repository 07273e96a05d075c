"""Arrays in `.npy` and `.npz` files, whose heads are compared with their sizes.

A damaged head may promise more than any machine can hold. What zipfile, zlib and NumPy raise
depends on where a file is damaged, and is not documented: so every error is one of the file.
"""

import math
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike, NDArray

from benchmarks.errors import UserError
from benchmarks.files.disk import in_a_line, write_with


def write_npz(path: pathlib.Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Writes a compressed `.npz` file; after an error, no incomplete file is left."""
    write_with(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def read_npz(path: pathlib.Path) -> dict[str, NDArray[Any]]:
    """Reads all arrays of an `.npz` file.

    Raises:
      UserError: if it is missing or damaged, or has anything but arrays of plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                info.filename.removesuffix(".npy"): _read_member(archive, info)
                for info in archive.infolist()
            }
    except Exception as error:
        raise UserError(
            f"{path}: damaged, or not an .npz file of values ({in_a_line(error)})"
        ) from error


def open_npy(path: pathlib.Path) -> NDArray[Any]:
    """Memory-maps the array of an `.npy` file, without reading its values.

    Raises:
      UserError: if it is missing or damaged, or is not an array of plain values.
    """
    try:
        with path.open("rb") as file:
            _check_head(file, os.fstat(file.fileno()).st_size)
        return npy.open_memmap(path, mode="r")
    except Exception as error:
        raise UserError(
            f"{path}: damaged, or not an .npy file of values ({in_a_line(error)})"
        ) from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as file:
        _check_head(file, info.file_size)
    with archive.open(info) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        file.read()  # to the end, where zipfile compares the checksum
    return array


def _check_head(file: IO[bytes], size: int) -> None:
    """Raises ValueError unless a file of this size has the values that its head promises."""
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the format, expected 1.0 or 2.0")
    shape, _, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("Python objects, expected plain values")
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"shape {shape}, expected lengths")
    promised, found = math.prod(shape) * dtype.itemsize, size - file.tell()
    if promised != found:
        raise ValueError(f"{found:,} bytes of values, expected {promised:,} for {dtype} {shape}")
