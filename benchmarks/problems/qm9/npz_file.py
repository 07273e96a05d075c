"""QM9 as one .npz file, for machines that have none of the packages that read its sources.

The file has the arrays of `Molecules`, the names of the tasks, a checksum of the arrays, and one of
the split of the paper's preset, by which the reader sees that it draws the same molecules.
"""

import hashlib
import os
import pathlib

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import UserError
from benchmarks.files.arrays import read_npz, write_npz
from benchmarks.files.disk import make_folder
from benchmarks.problems import qm9

_SPLIT_SEED = 0
_DTYPES = {"charges": np.int8, "positions": np.float32, "targets": np.float64}


def write(path: pathlib.Path, molecules: qm9.Molecules) -> None:
    """Writes molecules; after an error, no incomplete file is left."""
    make_folder(path.parent)
    about = {
        "tasks": np.array(qm9.TASKS, np.str_),
        "checksum": np.array(checksum(*molecules)),
        "split": np.array(split_identity(len(molecules.charges))),
    }
    write_npz(path, molecules._asdict() | about)


def read(path: pathlib.Path) -> qm9.Molecules:
    """Reads what `write` has written.

    Raises:
      UserError: if the file is missing, or anything in it is not as `write` writes it.
    """
    if not os.path.isfile(path):  # unlike `Path.is_file`, it takes a name of any length
        raise UserError(f"--data: {path} is not a file; `make kit` writes one")
    arrays = read_npz(path)
    expected = [*_DTYPES, "tasks", "checksum", "split"]
    if missing := [name for name in expected if name not in arrays]:
        raise UserError(
            f"--data: {path} has no array {', '.join(missing)}, found "
            f"{', '.join(sorted(arrays)) or 'none'}"
        )
    count = arrays["charges"].shape[0] if arrays["charges"].ndim else 0
    shapes = {
        "charges": (count, qm9.MAX_ATOMS),
        "positions": (count, qm9.MAX_ATOMS, 3),
        "targets": (count, len(qm9.TASKS)),
    }
    for name, shape in shapes.items():
        _check(path, name, arrays[name], shape)
    if tuple(arrays["tasks"].tolist()) != qm9.TASKS:
        raise UserError(
            f"--data: {path}: tasks: expected {', '.join(qm9.TASKS)}, found {arrays['tasks']}"
        )
    molecules = qm9.Molecules(*(arrays[name] for name in _DTYPES))
    for name, found in (
        ("checksum", checksum(*molecules)),
        ("split", split_identity(count)),
    ):
        if str(arrays[name]) != found:
            raise UserError(
                f"--data: {path}: {name} is {found[:8]} here, expected {str(arrays[name])[:8]}: "
                + (
                    "the file is damaged"
                    if name == "checksum"
                    else f"NumPy {np.__version__} draws another split"
                )
            )
    return molecules


def checksum(*arrays: NDArray[np.generic]) -> str:
    """The SHA-256 of arrays, one after the other."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def split_identity(num_molecules: int) -> str:
    """The SHA-256 of the order from which the split of the paper's preset is cut."""
    whole = qm9.split(num_molecules, seed=_SPLIT_SEED, validation=0, test=0)
    return checksum(whole.train)


def _check(path: pathlib.Path, name: str, array: NDArray[np.generic], shape: object) -> None:
    if array.shape != shape or array.dtype != _DTYPES[name]:
        raise UserError(
            f"--data: {path}: {name}: expected {np.dtype(_DTYPES[name])} {shape}, found "
            f"{array.dtype} {array.shape}"
        )
    if not np.isfinite(array.astype(np.float64)).all():
        where = np.argwhere(~np.isfinite(array.astype(np.float64)))[0].tolist()
        raise UserError(f"--data: {path}: {name}{where}: expected a finite number")
