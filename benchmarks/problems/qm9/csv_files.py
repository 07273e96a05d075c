"""QM9 from the three CSV files of the PyPI package `qm9pack`.

The package itself is not imported, as it needs `pkg_resources`, which setuptools has dropped.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.errors import UserError
from benchmarks.problems.qm9.molecules import (
    ELEMENTS,
    INSTALL,
    MAX_ATOMS,
    TASKS,
    Molecules,
    to_units,
)

_FILES = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")
_TARGETS = [
    "Dipole_debye",
    "Polarizability_bohr3",
    "HOMO_au",
    "LUMO_au",
    "R2_bohr2",
    "ZPVE_au",
    "InternalEnergy_0K_au",
    "InternalEnergy_298K_au",
    "Enthalphy_298K_au",  # sic
    "GibbsFreeEnergy_298K_au",
    "Heatcapacity_Cv_cal_mol_K",
]
_NUMBERS = ["Index", "N_atoms", *_TARGETS]
_LISTS = ["Elements", "XYZ_Ang"]  # "['C','H',…]" and "[[x,y,z],[x,y,z],…]"

_ATOMISATION = [TASKS.index(task) for task in ("U0", "U", "H", "G")]
# U0, U, H and G of the free atoms, in Hartree; the rows are in the order of ELEMENTS.
_FREE_ATOMS = np.array(
    [
        [-0.500273, -0.498857, -0.497912, -0.510927],
        [-37.846772, -37.845355, -37.844411, -37.861317],
        [-54.583861, -54.582445, -54.581501, -54.598897],
        [-75.064579, -75.063163, -75.062219, -75.079532],
        [-99.718730, -99.717314, -99.716370, -99.733544],
    ]
)

_CHARGE_OF_LETTER = np.zeros(256, np.int8)
_CHARGE_OF_LETTER[[ord(symbol) for symbol in ELEMENTS]] = list(ELEMENTS.values())
_BRACKETS_AND_QUOTES = str.maketrans("", "", "[]' ")


def read(data_dir: str | Path | None = None) -> Molecules:
    """Reads the CSV files in `data_dir`, by default the folder of the installed package."""
    directory = _package_directory() if data_dir is None else Path(data_dir)
    table = pd.concat({str(path): _read_file(path) for path in map(directory.joinpath, _FILES)})

    numbers = table[_NUMBERS].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    _require(np.isfinite(numbers), table, _NUMBERS, "a finite number")
    index, num_atoms = numbers[:, :2].astype(np.int64).T
    _require(np.diff(index, prepend=0) > 0, table, ["Index"], "ascending numbers")
    _require((num_atoms > 0) & (num_atoms <= MAX_ATOMS), table, ["N_atoms"], f"1 to {MAX_ATOMS}")
    _require(table[_LISTS].notna().to_numpy(), table, _LISTS, "a list")

    is_atom = np.arange(MAX_ATOMS) < num_atoms[:, None]
    charges = np.zeros(is_atom.shape, np.int8)
    charges[is_atom] = _parse_lists(
        table, "Elements", _parse_elements, num_atoms, f"N_atoms of {', '.join(ELEMENTS)}"
    )
    positions = np.zeros((*is_atom.shape, 3), np.float32)
    positions[is_atom] = _parse_lists(
        table, "XYZ_Ang", _parse_floats, 3 * num_atoms, "3 × N_atoms finite numbers"
    ).reshape(-1, 3)

    targets = numbers[:, 2:]
    element_counts = np.stack([(charges == z).sum(axis=1) for z in ELEMENTS.values()], axis=1)
    targets[:, _ATOMISATION] -= element_counts @ _FREE_ATOMS
    return Molecules(charges, positions, to_units(targets))


def _package_directory() -> Path:
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"QM9 needs the package qm9pack, which is not installed: {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / "data"


def _read_file(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)  # With `usecols`, pandas would accept lines with too many values.
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing, a file of the package qm9pack: {INSTALL}") from error
    except (OSError, ValueError) as error:  # a disk error, or text that pandas cannot parse
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    columns = [*_NUMBERS, *_LISTS]
    if missing := [column for column in columns if column not in table]:
        raise UserError(f"{path} has no column {', '.join(missing)}")
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes a longer first line for an index
        raise UserError(f"{path}, line 2 has more values than the {len(table.columns)} columns")
    return table[columns]


def _parse_lists(
    table: pd.DataFrame,
    column: str,
    parse: Callable[[str], NDArray[Any]],
    lengths: NDArray[np.int64],
    expected: str,
) -> NDArray[Any]:
    """Parses all lists of a column into one array.

    The lists are parsed as one text, which is much faster than one by one. Only if that fails are
    they parsed one by one, to find the bad line. `parse` returns an empty array for a bad text.
    """
    texts = [text.translate(_BRACKETS_AND_QUOTES) for text in table[column]]
    found_lengths = np.array([text.count(",") + 1 for text in texts])
    _require(found_lengths == lengths, table, [column], expected)
    values = parse(",".join(texts))
    if len(values) != lengths.sum():
        complete = [len(parse(text)) == n for text, n in zip(texts, lengths, strict=True)]
        _require(np.array(complete), table, [column], expected)
    return values


def _parse_elements(text: str) -> NDArray[np.int8]:
    """Parses a text such as "C,H,H" to atomic numbers; all symbols in QM9 have one letter."""
    letters = np.frombuffer(text.encode("ascii", "replace"), np.uint8)
    charges = _CHARGE_OF_LETTER[letters[::2]]
    valid = charges.all() and (letters[1::2] == ord(",")).all()
    return charges if valid else charges[:0]


def _parse_floats(text: str) -> NDArray[np.float64]:
    """Parses a text such as "1.5,-2E-7" to numbers."""
    try:
        numbers = np.fromstring(text, sep=",")
    except (ValueError, DeprecationWarning):  # older versions of NumPy give a DeprecationWarning
        return np.empty(0)
    return numbers if np.isfinite(numbers).all() else numbers[:0]


def _require(
    valid: NDArray[np.bool_], table: pd.DataFrame, columns: list[str], expected: str
) -> None:
    """Raises an error with the first value of `columns` where `valid` [N, columns] is False."""
    if valid.all():
        return
    row, column = np.argwhere(~valid.reshape(len(table), len(columns)))[0]
    path, record = table.index[row]
    found = str(table[columns[column]].iloc[row])
    if len(found) > 80:
        found = f"{found[:40]} … {found[-40:]}"
    raise UserError(
        f"{path}, line {record + 2} (molecule {table['Index'].iloc[row]}): "
        f"{columns[column]} is {found}, expected {expected}"
    )
