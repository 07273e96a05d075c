"""QM9: eleven properties of small molecules, each a regression task."""

from benchmarks.problems.qm9.data import NUM_MOLECULES, Normalizer, Split, load, split
from benchmarks.problems.qm9.molecules import (
    ELEMENTS,
    INSTALL,
    MAX_ATOMS,
    TASKS,
    UNITS,
    Molecules,
    to_units,
)

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
