"""QM9: eleven quantum-chemical targets of 130,831 small organic molecules.

The data set is that of Ramakrishnan et al., "Quantum chemistry structures and properties of 134
kilo molecules", Scientific Data 1 (2014), without the 3,054 molecules whose geometry did not
converge. It is read from one of two sources that give the same arrays:

- the PyPI package `qm9pack`, which holds all of it as three CSV files (no network needed), or
- the `qm9` builder of TensorFlow Datasets, which downloads the original files from figshare.
"""

from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.errors import UserError

TASKS = ("mu", "alpha", "eps_HOMO", "eps_LUMO", "R2", "ZPVE", "U0", "U", "H", "G", "c_v")
"""The targets, in the order of the paper's Table 3."""

UNITS = ("D", "a0^3", "meV", "meV", "a0^2", "meV", "meV", "meV", "meV", "meV", "cal/mol/K")
"""The unit of each target."""

ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
"""The elements that occur, with their atomic numbers."""

NUM_MOLECULES = 130_831
MAX_ATOMS = 29
INSTALL = 'pip install "dbmtl_jax[qm9]"'

_MEV_PER_HARTREE = 27211.3825435
_UNIT_PER_SOURCE_UNIT = np.array([_MEV_PER_HARTREE if unit == "meV" else 1.0 for unit in UNITS])


class Molecules(NamedTuple):
    """N molecules, padded to the data set's largest number of atoms."""

    charges: NDArray[np.int8]
    """[N, 29] atomic numbers; the atoms come first, 0 is padding."""
    positions: NDArray[np.float32]
    """[N, 29, 3] in Angstrom; 0 where padded."""
    targets: NDArray[np.float64]
    """[N, 11] in the order of `TASKS` and the units of `UNITS`. U0, U, H and G are energies of
    atomisation: the energies of the free atoms are subtracted."""

    @property
    def num_atoms(self) -> NDArray[np.int32]:
        """[N] without padding."""
        num_atoms: NDArray[np.int32] = (self.charges > 0).sum(axis=1, dtype=np.int32)
        return num_atoms

    def select(self, indices: ArrayLike) -> "Molecules":
        """The molecules at `indices`, in their order."""
        return Molecules(*(array[np.asarray(indices)] for array in self))


def load(
    source: Literal["qm9pack", "tfds"] = "qm9pack", data_dir: str | Path | None = None
) -> Molecules:
    """Reads all molecules, in the order of their number in the data set.

    Both give the same arrays, up to the float32 in which TFDS stores the targets; "qm9pack" takes
    seconds, "tfds" longer, as it decodes molecule by molecule.

    Args:
      source: "qm9pack", the CSV files of the PyPI package, or "tfds", which downloads and prepares
        the data first where `data_dir` does not have them.
      data_dir: for "qm9pack" the folder of the CSV files, by default that of the installed
        package; for "tfds" the folder of its data sets, by default TFDS's own.

    Raises:
      UserError: something is not installed, missing, incomplete or damaged.
    """
    try:  # Each source needs packages that the other does not.
        if source == "qm9pack":
            from benchmarks.data.qm9_csv import read
        elif source == "tfds":
            from benchmarks.data.qm9_tfds import read
        else:
            raise ValueError(f'source must be "qm9pack" or "tfds", not {source!r}')
    except ImportError as error:
        raise UserError(
            f"QM9 from {source} needs the package {error.name}, which is not installed: {INSTALL}"
        ) from error
    molecules = read(data_dir)
    if (found := len(molecules.charges)) != NUM_MOLECULES:
        raise UserError(
            f"QM9 from {source} is incomplete: {found:,} molecules, expected {NUM_MOLECULES:,}"
        )
    return molecules


def to_units(source_targets: NDArray[np.floating]) -> NDArray[np.float64]:
    """Converts targets [N, 11] to `UNITS` from those of both sources: Hartree for energies."""
    targets: NDArray[np.float64] = source_targets.astype(np.float64) * _UNIT_PER_SOURCE_UNIT
    return targets


class Split(NamedTuple):
    """Disjoint indices of molecules."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split(
    num_molecules: int,
    *,
    seed: int,
    train: int | None = None,
    validation: int = 10_000,
    test: int = 10_000,
) -> Split:
    """Splits molecules at random.

    For one seed, the molecules of test and validation do not depend on how many are asked for
    training, and a smaller training set is part of every larger one.

    Args:
      num_molecules: the number of molecules to choose from.
      seed: determines the split, together with the sizes of validation and test.
      train, validation, test: sizes; `train=None` is all that the others leave.
    """
    if train is None:
        train = num_molecules - validation - test
    if train < 1 or validation < 0 or test < 0 or train + validation + test > num_molecules:
        raise UserError(
            f"cannot split {num_molecules:,} molecules into {train:,} for training, "
            f"{validation:,} for validation and {test:,} for test"
        )
    order = np.random.default_rng(seed).permutation(num_molecules)
    held_out = test + validation
    return Split(
        train=order[held_out : held_out + train],
        validation=order[test:held_out],
        test=order[:test],
    )


class Normalizer(NamedTuple):
    """Brings every target to mean 0 and standard deviation 1 over the training molecules."""

    mean: NDArray[np.float64]
    """[11]"""
    std: NDArray[np.float64]
    """[11]"""

    @classmethod
    def fit(cls, train_targets: NDArray[np.float64]) -> Self:
        """Of the targets [N, 11] of the training molecules."""
        std = train_targets.std(axis=0)
        if constant := [task for task, s in zip(TASKS, std, strict=True) if not s > 0]:
            raise ValueError(
                f"cannot normalise {', '.join(constant)}: the same for all "
                f"{len(train_targets)} training molecules"
            )
        return cls(train_targets.mean(axis=0), std)

    def normalize(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Targets [N, 11] without unit."""
        return (targets - self.mean) / self.std

    def mae_in_units(self, normalized_mae: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean absolute errors [11] of normalised targets, in `UNITS`."""
        return normalized_mae * self.std
