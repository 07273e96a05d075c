"""The readers of QM9 on invented molecules in the real formats.

The molecules are written twice, as the CSV files of qm9pack and as the original files that
TFDS's own builder downloads, and both readers must give back what was written.
"""

import importlib.util
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks.errors import UserError
from benchmarks.problems import qm9
from benchmarks.problems.qm9 import data

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


# ---------------------------------------------------------------------------- qm9pack's CSV files

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


@pytest.fixture
def csv_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight invented molecules; `load` is told that this is all of QM9."""
    pytest.importorskip("pandas")
    write_csv(tmp_path, invent(INDICES))
    monkeypatch.setattr(data, "NUM_MOLECULES", 8)
    return tmp_path


def test_csv_gives_what_was_written(csv_directory):
    molecules = qm9.load("qm9pack", csv_directory)
    assert_same(molecules, expected(invent(INDICES)), rtol=1e-9)
    assert molecules.num_atoms[:2].tolist() == [1, 29]
    assert molecules.num_atoms.dtype == np.int32


def test_select(csv_directory):
    molecules = qm9.load("qm9pack", csv_directory)
    two = molecules.select([4, 1])
    assert_same(two, qm9.Molecules(*(np.stack([a[4], a[1]]) for a in molecules)), rtol=0)


# What is replaced in which file, by what, and what the error says. The first line of part 2 is
# molecule 5; molecule 2 in part 1 has 29 atoms.
MU_OF_5 = invent(INDICES)[3].targets[0]
LIST_OF_5 = csv_line(invent(INDICES)[3]).split('"')[9]
END_OF_LAST_LIST = f'\']","[[{invent(INDICES)[-1].positions[0][0]}'
DAMAGES = {
    "no column": ("part2", "LUMO_au", "LUMO", "LUMO_au"),
    "not a CSV": ("part2", HEADER, "", "XYZ_Ang"),
    "an element unknown": ("part1", "'C'", "'Cl'", r"\(molecule 2\): Elements"),
    "an element of one letter unknown": ("part2", "'C'", "'B'", r"\(molecule 5\): Elements"),
    "an element too long at the very end": (
        "part3",
        END_OF_LAST_LIST,
        f"r{END_OF_LAST_LIST}",
        r"\(molecule 34\): Elements",
    ),
    "no elements": (
        "part2",
        f'"{LIST_OF_5}"',
        "",
        r"molecule 5\): Elements is nan, expected a list",
    ),
    "an element not there": ("part2", "'C'", "''", r"\(molecule 5\): Elements"),
    "two elements in one": ("part2", "'C','", "'CO',','", r"\(molecule 5\): Elements"),
    "an element too many": ("part2", "['", "['H','", r"line 2 \(molecule 5\): Elements"),
    "a coordinate missing": ("part2", '"[[', '"[[],[', r"molecule 5\): XYZ_Ang"),
    "a coordinate too few": ("part2", ",-8.62E-8,", ",", r"molecule 5\): XYZ_Ang.* 3 × N_atoms"),
    "a coordinate of letters": ("part2", "-8.62E-8", "-8.62F-8", r"molecule 5\): XYZ_Ang"),
    "a coordinate not finite": ("part2", "-8.62E-8", "nan", r"molecule 5\): XYZ_Ang"),
    "a list of nothing": ("part2", "-8.62E-8,", ",,", r"molecule 5\): XYZ_Ang"),
    "a target of letters": ("part2", ",0.5,", ",0.5,x", r"5\): R2_bohr2 is x.*finite number"),
    "a target not finite": (
        "part2",
        f",3.,{MU_OF_5},",
        ",3.,1e999,",
        r"Dipole_debye is (inf|1e999)",
    ),
    "a value too many": ("part1", ",0.5,", ",0.5,1,", "line 2 has more values than the 25 columns"),
    "a later value too many": ("part1", ',29,"', ',29,7,"', "Expected 25 fields in line 3, saw 26"),
    "too many atoms": ("part1", ",29,", ",30,", r"molecule 2\): N_atoms is 30, expected 1 to 29"),
    "no atoms": ("part1", ',29,"', ',0,"', r"molecule 2\): N_atoms is 0"),
    "an order": ("part2", '.xyz",5,', '.xyz",3,', r"Index is 3, expected ascending"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_csv_is_named(csv_directory, damage):
    part, old, new, message = DAMAGES[damage]
    path = csv_directory / f"qm9_{part}.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as raised:
        qm9.load("qm9pack", csv_directory)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400 + len(str(path))


def test_atom_that_moved_to_the_next_molecule_is_named(csv_directory):
    path = csv_directory / "qm9_part2.csv"
    text = path.read_text()
    first, second = text.index("\"['") + 2, text.rindex("\"['") + 2
    text = text[:first] + text[first + 4 : second] + text[first : first + 4] + text[second:]
    path.write_text(text)
    with pytest.raises(UserError, match=r"line 2 \(molecule 5\): Elements"):
        qm9.load("qm9pack", csv_directory)


@pytest.mark.parametrize("where", ["header", "elements", "positions", "numbers", "all", "line"])
def test_truncated_csv_is_named(csv_directory, where):
    path = csv_directory / "qm9_part3.csv"
    text = path.read_text()
    last = text.rindex("dsgdb9nsd_000034")
    end = {
        "header": 50,
        "elements": text.index("['", last) + 4,
        "positions": text.index("[[", last) + 50,
        "numbers": text.rindex(",0.5,") + 8,
        "all": 0,
        "line": last - 1,
    }[where]
    path.write_text(text[:end])
    named = "qm9pack is incomplete: 7 molecules, expected 8" if where == "line" else str(path)
    with pytest.raises(UserError) as raised:
        qm9.load("qm9pack", csv_directory)
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_csv_is_named(csv_directory):
    (csv_directory / "qm9_part2.csv").unlink()
    with pytest.raises(UserError, match=r"qm9_part2.csv is missing.*pip install -e '.\[qm9\]'"):
        qm9.load("qm9pack", csv_directory)


def test_missing_packages_are_named(monkeypatch):
    install = r"not installed: run `pip install -e '.\[qm9\]'`"
    pytest.importorskip("pandas")
    with monkeypatch.context() as without:
        without.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UserError, match=f"package qm9pack, which is {install}"):
            qm9.load("qm9pack")
    for source, package in (
        ("qm9pack", "pandas"),
        ("tfds", "tensorflow_datasets"),
        ("tfds", "pandas"),
    ):
        with monkeypatch.context() as without:
            for reader in ("csv_files", "tfds_builder"):
                name = f"benchmarks.problems.qm9.{reader}"
                without.delitem(sys.modules, name, raising=False)
            without.setitem(sys.modules, package, None)
            with pytest.raises(UserError, match=f"needs the package {package}, which is {install}"):
                qm9.load(source)


def test_unknown_source():
    with pytest.raises(ValueError, match='"qm9pack" or "tfds", not \'qm8\''):
        qm9.load("qm8")  # type: ignore[arg-type]


# ----------------------------------------------------------------------------- TFDS's own builder

ATOMREF = (
    "=\n  Ele-    ZPVE    U (0 K)    U (298.15 K)    H (298.15 K)    G (298.15 K)     CV\n"
    "  ment   Hartree   Hartree    Hartree         Hartree         Hartree     Cal/(Mol Kelvin)\n"
    "=\n\n"
    + "".join(f" {e} 0.000000 {' '.join(map(str, FREE_ATOMS[e]))} 2.981\n" for e in FREE_ATOMS)
    + "=\n"
)


def write_originals(directory: Path, molecules: list[Molecule]) -> None:
    """Three downloads: free atoms, uncharacterised molecules, a file per molecule."""
    (directory / "atomref.txt").write_text(ATOMREF)
    missing = sorted(set(range(1, molecules[-1].index)) - {m.index for m in molecules})
    rows = "".join(f"  {index}   C#C   0.1 \n" for index in missing)
    (directory / "uncharacterized.txt").write_text("=\n" * 9 + rows + f"{len(missing)} compounds\n")
    for molecule in molecules:
        mu, alpha, homo, lumo, *others = molecule.targets
        lines = [
            str(len(molecule.elements)),
            "\t".join([f"gdb {molecule.index}", "1.", "2.", "3.", mu, alpha, homo, lumo, "0.5"])
            + "\t"
            + "\t".join(others)
            + "\t",
            *(
                "\t".join([element, *(x.replace("E", "*^") for x in row), "-0.1"])
                for element, row in zip(molecule.elements, molecule.positions, strict=True)
            ),
            "1341.307\t1341.3284",
            "C\tC\t",
            "InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4",
        ]
        (directory / f"dsgdb9nsd_{molecule.index:06d}.xyz").write_text("\n".join(lines) + "\n")


@pytest.fixture
def tfds_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lets TFDS's real builder prepare invented molecules, as if it had downloaded them."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    requests = pytest.importorskip("requests")
    from etils import epath
    from tensorflow_datasets.datasets.qm9 import qm9_dataset_builder

    downloads = tmp_path / "downloads"
    downloads.mkdir()

    def download(manager, urls):
        files = {"atomref": "atomref.txt", "uncharacterized": "uncharacterized.txt"}
        return {name: epath.Path(downloads) / files.get(name, "") for name in urls}

    def serve(molecules: list[Molecule]) -> None:
        write_originals(downloads, molecules)
        monkeypatch.setattr(requests, "head", lambda url, timeout: None)
        monkeypatch.setattr(qm9_dataset_builder, "_SIZE", molecules[-1].index)
        monkeypatch.setattr(qm9_dataset_builder, "_CHARACTERIZED_SIZE", len(molecules))
        monkeypatch.setattr(data, "NUM_MOLECULES", len(molecules))
        monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
        monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", download)

    return serve


def no_network(*_, **__):
    raise AssertionError("the network was used")


# The builder has pandas fall back from one of its parsers to another.
tfds_test = pytest.mark.filterwarnings("ignore:Falling back to the 'python' engine")


@tfds_test
def test_tfds_gives_the_same_as_csv(tfds_downloads, tmp_path, monkeypatch):
    import requests

    molecules = invent([1, 2, 4, 5, 6, 9, 10, 12], exponents=False)
    tfds_downloads(molecules)
    from_tfds = qm9.load("tfds", tmp_path / "prepared")
    assert_same(from_tfds, expected(molecules), rtol=1e-6)
    write_csv(tmp_path, molecules)
    assert_same(from_tfds, qm9.load("qm9pack", tmp_path), rtol=1e-6)

    monkeypatch.setattr(requests, "head", no_network)
    assert_same(qm9.load("tfds", tmp_path / "prepared"), from_tfds, rtol=0)

    (shard,) = (tmp_path / "prepared").glob("qm9/original/*/*.array_record*")
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"prepared/qm9.* cannot be read .*delete that folder"):
        qm9.load("tfds", tmp_path / "prepared")


@tfds_test
def test_tfds_reads_exponents_or_says_why_not(tfds_downloads, tmp_path):
    import pandas as pd

    molecules = invent([1, 2])
    tfds_downloads(molecules)
    if int(pd.__version__.split(".")[0]) < 3:
        assert_same(qm9.load("tfds", tmp_path / "prepared"), expected(molecules), rtol=1e-6)
    else:  # a mistake of TFDS's builder; if this fails, it may be mended
        with pytest.raises(UserError, match=r'could not prepare QM9 .*"pandas<3"$'):
            qm9.load("tfds", tmp_path / "prepared")


@tfds_test
def test_tfds_target_that_is_not_finite_is_named(tfds_downloads, tmp_path):
    good, bad = invent([1, 2], exponents=False)
    tfds_downloads([good, bad._replace(targets=["nan", *bad.targets[1:]])])
    with pytest.raises(UserError, match="mu of molecule 2 is nan, expected a finite number"):
        qm9.load("tfds", tmp_path / "prepared")


def test_tfds_without_data_and_network(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    requests = pytest.importorskip("requests")

    def unreachable(url, timeout):
        raise requests.ConnectionError("Name or service not known")

    monkeypatch.setattr(requests, "head", unreachable)
    with pytest.raises(UserError, match=f"no QM9 data in {tmp_path}.*qm9pack needs no network"):
        qm9.load("tfds", tmp_path)
