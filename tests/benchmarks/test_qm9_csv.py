"""The reader of qm9pack's CSV files, whole and damaged."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.errors import UserError
from benchmarks.problems import qm9
from benchmarks.problems.qm9 import data
from tests.benchmarks.invented_molecules import (
    HEADER,
    INDICES,
    assert_same,
    csv_line,
    expected,
    invent,
    write_csv,
)


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
