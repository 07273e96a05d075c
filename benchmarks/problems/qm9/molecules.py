"""The molecules of QM9 as arrays, the same for both sources."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.errors import how_to_install

TASKS = ("mu", "alpha", "eps_HOMO", "eps_LUMO", "R2", "ZPVE", "U0", "U", "H", "G", "c_v")
"""The targets, in the order of the paper's Table 3."""

UNITS = ("D", "a0^3", "meV", "meV", "a0^2", "meV", "meV", "meV", "meV", "meV", "cal/mol/K")
"""The unit of each target."""

ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
"""The elements in QM9, with their atomic numbers."""

MAX_ATOMS = 29
"""The number of atoms of the largest molecule."""

INSTALL = how_to_install("qm9")
"""What error messages say if a package for reading QM9 is missing."""

_MEV_PER_HARTREE = 27211.3825435
_UNIT_PER_SOURCE_UNIT = np.array([_MEV_PER_HARTREE if unit == "meV" else 1.0 for unit in UNITS])


class Molecules(NamedTuple):
    """N molecules, padded to the number of atoms of the largest molecule."""

    charges: NDArray[np.int8]
    """[N, 29] atomic numbers, followed by 0 for padding"""
    positions: NDArray[np.float32]
    """[N, 29, 3] coordinates in Angstrom; 0 for padding"""
    targets: NDArray[np.float64]
    """[N, 11] in the order of `TASKS` and the units of `UNITS`; U0, U, H and G are energies of
    atomisation: the energies of the free atoms are subtracted"""

    @property
    def num_atoms(self) -> NDArray[np.int32]:
        """[N] the number of atoms of each molecule."""
        num_atoms: NDArray[np.int32] = (self.charges > 0).sum(axis=1, dtype=np.int32)
        return num_atoms

    def select(self, indices: ArrayLike) -> "Molecules":
        """The molecules at `indices`, in the order of `indices`."""
        return Molecules(*(array[np.asarray(indices)] for array in self))


def to_units(source_targets: NDArray[np.floating]) -> NDArray[np.float64]:
    """Converts targets [N, 11] to `UNITS`; both sources give energies in Hartree."""
    targets: NDArray[np.float64] = source_targets.astype(np.float64) * _UNIT_PER_SOURCE_UNIT
    return targets
