"""The file that marks a folder as sample data.

`prepare` copies the mark into the metadata of the prepared data, so that results can say that they
are based on sample data.
"""

import json
import pathlib
from typing import NamedTuple

from benchmarks.errors import UserError
from benchmarks.files import expected, json_text
from benchmarks.files.disk import write_file
from benchmarks.files.expected import COUNT, NAME, Kind

FILE = "SAMPLE_DATA.json"


class SampleMark(NamedTuple):
    """The content of the file."""

    dataset: str
    size: tuple[int, int]
    """height and width of the images"""
    seed: int


def write(folder: pathlib.Path, mark: SampleMark) -> None:
    """Marks a folder as sample data."""
    note = "Sample data: rendered by `python -m benchmarks make-sample`, not the real data set."
    write_file(folder / FILE, json.dumps({"note": note} | mark._asdict(), indent=2) + "\n")


def read(folder: pathlib.Path, dataset: str) -> SampleMark | None:
    """Reads the mark of a folder; None for real data."""
    path = folder / FILE
    found = json_text.read_object(path)
    if found is None:
        return None
    expected.check_present(found, tuple(_FIELDS), str(path))
    expected.check_fields(found, _FIELDS, str(path))
    mark = SampleMark(found["dataset"], tuple(found["size"]), found["seed"])
    if mark.dataset != dataset:
        raise UserError(f"{folder} holds sample data of {mark.dataset}, not of {dataset}")
    return mark


_LONGEST = 2**14
_SIZE = Kind(
    f"height and width of 1 to {_LONGEST:,} pixels",
    lambda x: (
        isinstance(x, list)
        and len(x) == 2
        and all(type(side) is int and 1 <= side <= _LONGEST for side in x)
    ),
)
_FIELDS = {"dataset": NAME, "size": _SIZE, "seed": COUNT}
