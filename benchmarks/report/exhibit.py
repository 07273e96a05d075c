"""What is shown of some results, and the files that it is written to."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks import run_log
from benchmarks.report import figure_files, table_formats
from benchmarks.report.table import Table


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """A table or figures, with all that must stand beside them."""

    name: str
    """as in `table1`: names the files"""
    title: str
    caption: str
    """what the figures are"""
    notes: tuple[str, ...] = ()
    """what whoever reads them must know, and what is missing"""
    table: Table | None = None
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)
    """by the stems of their files"""
    figure_captions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """by stem, where the caption is not of the figures"""
    settings: tuple[str, ...] = ()
    """which data, preset, length of training and seeds, a line for each study"""
    environment: tuple[str, ...] = ()
    """device, versions and commit"""


def write(exhibit: Exhibit, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the table as Markdown and LaTeX, every figure as PNG and SVG; returns the paths."""
    run_log.make_folder(folder)
    written = []
    if exhibit.table is not None:
        for suffix, text in ((".md", markdown(exhibit)), (".tex", latex(exhibit))):
            path = folder / f"{exhibit.name}{suffix}"
            run_log.write_file(path, text)
            written.append(path)
    for stem, figure in exhibit.figures.items():
        written += figure_files.write(figure, folder, stem)
    return written


def markdown(exhibit: Exhibit) -> str:
    """The table under its title, notes below."""
    table = table_formats.markdown(exhibit.table) if exhibit.table else ""
    lines = "  \n".join([exhibit.caption, *exhibit.notes, *exhibit.settings])
    return f"## {exhibit.title}\n\n{table}\n{lines}\n"


def latex(exhibit: Exhibit) -> str:
    """The table, its caption without the paper's number: LaTeX has its own."""
    if exhibit.table is None:
        return ""
    title = re.sub(r"^(Table|Figure) \d+\. ", "", exhibit.title)
    notes = [*exhibit.notes, *exhibit.settings]
    return table_formats.latex(exhibit.table, f"{title}. {exhibit.caption}", notes)
