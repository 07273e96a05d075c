"""The file that marks a folder as sample data.

`prepare` copies the mark into the metadata of the prepared data, so that results can say that they
are based on sample data.
"""

import json
import pathlib
from typing import NamedTuple

from benchmarks.errors import UserError
from benchmarks.run_log import write_file

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
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        height, width = found["size"]
        mark = SampleMark(found["dataset"], (int(height), int(width)), int(found["seed"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}: {error})") from error
    if mark.dataset != dataset:
        raise UserError(f"{folder} holds sample data of {mark.dataset}, not of {dataset}")
    return mark
