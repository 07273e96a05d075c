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

from benchmarks.errors import UserError
from benchmarks.problems.qm9.molecules import (
    INSTALL,
    TASKS,
    Molecules,
)

NUM_MOLECULES = 130_831
"""The number of molecules of the data set."""


def load(
    source: Literal["qm9pack", "tfds"] = "qm9pack", data_dir: str | Path | None = None
) -> Molecules:
    """Reads all molecules, in the order of their numbers in the data set.

    Both sources give the same arrays, except that TFDS stores the targets as float32. "qm9pack"
    takes seconds; "tfds" takes longer, as it decodes molecule by molecule.

    Args:
      source: "qm9pack" for the CSV files of the PyPI package, or "tfds", which first downloads and
        prepares the data if they are not in `data_dir`.
      data_dir: for "qm9pack" the folder of the CSV files, by default that of the installed
        package; for "tfds" the folder of TFDS data sets, by default that of TFDS.

    Raises:
      UserError: if a package or file is missing, or the data are incomplete or damaged.
    """
    try:  # Each source needs packages that the other does not.
        if source == "qm9pack":
            from benchmarks.problems.qm9.csv_files import read
        elif source == "tfds":
            from benchmarks.problems.qm9.tfds_builder import read
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
    """The indices of the molecules of each set; no molecule is in two sets."""

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

    With the same seed, the test and validation sets do not depend on the size of the training set,
    and a larger training set contains every smaller one.

    Args:
      num_molecules: the number of molecules to choose from.
      seed: seed of the random split.
      train, validation, test: sizes of the sets; `train=None` takes all remaining molecules.
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
    """Scales every target to mean 0 and standard deviation 1 over the training molecules."""

    mean: NDArray[np.float64]
    """[11], the mean of every target"""
    std: NDArray[np.float64]
    """[11], the standard deviation of every target"""

    @classmethod
    def fit(cls, train_targets: NDArray[np.float64]) -> Self:
        """Computes mean and standard deviation of the training targets [N, 11]."""
        std = train_targets.std(axis=0)
        if constant := [task for task, s in zip(TASKS, std, strict=True) if not s > 0]:
            raise ValueError(
                f"cannot normalise {', '.join(constant)}: the same for all "
                f"{len(train_targets)} training molecules"
            )
        return cls(train_targets.mean(axis=0), std)

    def normalize(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Normalises targets [N, 11]."""
        return (targets - self.mean) / self.std

    def mae_in_units(self, normalized_mae: NDArray[np.floating]) -> NDArray[np.float64]:
        """Converts mean absolute errors [11] of normalised targets to `UNITS`."""
        return normalized_mae * self.std
