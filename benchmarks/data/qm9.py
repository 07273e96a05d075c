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
from numpy.typing import NDArray

from benchmarks.data.molecules import (
    ELEMENTS,
    INSTALL,
    MAX_ATOMS,
    TASKS,
    UNITS,
    Molecules,
    to_units,
)
from benchmarks.errors import UserError

__all__ = [
    "ELEMENTS",
    "INSTALL",
    "MAX_ATOMS",
    "NUM_MOLECULES",
    "TASKS",
    "UNITS",
    "Molecules",
    "Normalizer",
    "Split",
    "load",
    "split",
    "to_units",
]

NUM_MOLECULES = 130_831


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
