"""Invented molecules in the formats of QM9's sources, and what a reader must give back.

Here they are written as the CSV files of qm9pack, and in the tests of TFDS as the original files
that its own builder downloads.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.problems import qm9

HARTREE_IN_MEV = 27211.3825435
FREE_ATOMS = {  # U0, U, H, G in Hartree
    "H": (-0.500273, -0.498857, -0.497912, -0.510927),
    "C": (-37.846772, -37.845355, -37.844411, -37.861317),
    "N": (-54.583861, -54.582445, -54.581501, -54.598897),
    "O": (-75.064579, -75.063163, -75.062219, -75.079532),
    "F": (-99.718730, -99.717314, -99.716370, -99.733544),
}
CHARGES = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
INDICES = [1, 2, 3, 5, 8, 13, 21, 34]


class Molecule(NamedTuple):
    """What the files say: the numbers as text, as they write them."""

    index: int
    elements: list[str]
    positions: list[list[str]]
    targets: list[str]  # Table 3's order, but total energies, and all energies in Hartree


def invent(indices: list[int], *, exponents: bool = True) -> list[Molecule]:
    rng = np.random.default_rng(0)
    molecules = []
    for index, n in zip(indices, [1, 29, *rng.integers(2, 29, len(indices))], strict=False):
        elements = [str(e) for e in rng.choice(list(CHARGES), size=n)]
        positions = [[f"{x:.10f}" for x in row] for row in rng.normal(scale=3, size=(n, 3))]
        if exponents:
            positions[0][1] = "-8.62E-8"
        free = np.sum([FREE_ATOMS[e] for e in elements], axis=0)
        targets = rng.normal(size=11)
        targets[6:10] += free
        molecules.append(Molecule(index, elements, positions, [f"{x:.6f}" for x in targets]))
    return molecules


def expected(molecules: list[Molecule]) -> qm9.Molecules:
    """Computed one by one, by the definitions."""
    charges = np.zeros((len(molecules), 29), np.int8)
    positions = np.zeros((len(molecules), 29, 3), np.float32)
    targets = np.zeros((len(molecules), 11))
    for row, molecule in enumerate(molecules):
        for atom, element in enumerate(molecule.elements):
            charges[row, atom] = CHARGES[element]
            positions[row, atom] = [float(x) for x in molecule.positions[atom]]
        mu, alpha, homo, lumo, r2, zpve, *total, c_v = map(float, molecule.targets)
        atomisation = total - np.sum([FREE_ATOMS[e] for e in molecule.elements], axis=0)
        energies = [HARTREE_IN_MEV * e for e in (homo, lumo, zpve, *atomisation)]
        targets[row] = [mu, alpha, *energies[:2], r2, *energies[2:], c_v]
    return qm9.Molecules(charges, positions, targets)


def assert_same(found: qm9.Molecules, wanted: qm9.Molecules, rtol: float) -> None:
    np.testing.assert_array_equal(found.charges, wanted.charges)
    np.testing.assert_array_equal(found.positions, wanted.positions)
    np.testing.assert_allclose(found.targets, wanted.targets, rtol=rtol, atol=0)
    assert [array.dtype for array in found] == [np.int8, np.float32, np.float64]


HEADER = (
    "XYZ_file,Index,SMILES,InChi,N_atoms,Stoichiometry,Elements,XYZ_Ang,Mulliken_pop,"
    "Harmonic_Freq_cmi,RotA_GHz,RotB_GHz,RotC_GHz,Dipole_debye,Polarizability_bohr3,HOMO_au,"
    "LUMO_au,HOMO_LUMO_gap_au,R2_bohr2,ZPVE_au,InternalEnergy_0K_au,InternalEnergy_298K_au,"
    "Enthalphy_298K_au,GibbsFreeEnergy_298K_au,Heatcapacity_Cv_cal_mol_K\n"
)


def csv_line(molecule: Molecule) -> str:
    elements = ",".join(f"'{element}'" for element in molecule.elements)
    positions = ",".join(f"[{','.join(row)}]" for row in molecule.positions)
    mu, alpha, homo, lumo, *others = molecule.targets
    return (
        f'"dsgdb9nsd_{molecule.index:06d}.xyz",{molecule.index},"C","InChI=1S/C,1",'
        f'{len(molecule.elements)},"[4,1,0,0,0]","[{elements}]","[{positions}]","[0.1,-0.1]",'
        f'"[1341.307]",1.,2.,3.,{mu},{alpha},{homo},{lumo},0.5,{",".join(others)}\n'
    )


def write_csv(directory: Path, molecules: list[Molecule]) -> None:
    for part, rows in enumerate((molecules[:3], molecules[3:5], molecules[5:]), start=1):
        text = HEADER + "".join(map(csv_line, rows))
        (directory / f"qm9_part{part}.csv").write_text(text)
