"""The file of molecules gives back what was written, and says what is wrong with another one."""

import numpy as np
import pytest

from benchmarks.errors import UserError
from benchmarks.problems import qm9
from benchmarks.problems.qm9 import npz_file as qm9_npz
from tests.benchmarks.conftest import make_molecules


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "new" / "qm9.npz"
    qm9_npz.write(path, make_molecules())
    return path


def test_molecules_come_back(path):
    found = qm9_npz.read(path)
    for ours, theirs in zip(found, make_molecules(), strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)


def changed(path, **arrays):
    with np.load(path) as file:
        found = {name: file[name] for name in file.files} | arrays
    np.savez(path, **{name: array for name, array in found.items() if array is not None})


def with_nan(molecules):
    targets = molecules.targets.copy()
    targets[3, 4] = np.nan
    return targets


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"targets": None}, "has no array targets, found charges, checksum, positions"),
        ({"charges": np.zeros((40, 28), np.int8)}, r"charges: expected int8 \(40, 29\), found"),
        ({"positions": np.zeros((39, 29, 3), np.float32)}, r"float32 \(40, 29, 3\), found"),
        ({"positions": np.zeros((40, 29, 3))}, r"found float64 \(40, 29, 3\)"),
        ({"targets": with_nan(make_molecules())}, r"targets\[3, 4\]: expected a finite number"),
        ({"targets": make_molecules(1).targets}, "checksum is .* expected .*the file is damaged"),
        ({"tasks": np.array(["mu"])}, "tasks: expected mu, alpha"),
        ({"split": np.array("0" * 64)}, "split is .* draws another split"),
    ],
)
def test_what_is_wrong_is_named(path, arrays, said):
    changed(path, **arrays)
    with pytest.raises(UserError, match=said):
        qm9_npz.read(path)


def test_another_file_is_refused(path):
    with pytest.raises(UserError, match="is not a file; `make kit` writes one"):
        qm9_npz.read(path.parent)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"damaged, or not an \.npz file"):
        qm9_npz.read(path)


def test_the_split_is_that_of_training():
    """Its identity is of the order that all sizes of the sets are cut from."""
    parts = qm9.split(100, seed=0, validation=20, test=30)
    order = np.concatenate([parts.test, parts.validation, parts.train])
    assert qm9_npz.split_identity(100) == qm9_npz.checksum(order)
    assert qm9_npz.split_identity(100) != qm9_npz.split_identity(101)
