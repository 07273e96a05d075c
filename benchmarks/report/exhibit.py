"""Exhibits, which are tables or figures with their captions, and their files."""

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
    """A table or figures, with the texts that must accompany them."""

    name: str
    """name of the files, such as `table1`"""
    title: str
    """title above the table or figures"""
    caption: str
    """explanation of the content"""
    notes: tuple[str, ...] = ()
    """warnings for the reader, such as missing runs"""
    table: Table | None = None
    """the table, if there is one"""
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)
    """figures by the stems of their file names"""
    figure_captions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """captions of figures that need their own, by stem"""
    settings: tuple[str, ...] = ()
    """data, preset, length of training and number of seeds, one line per study"""
    environment: tuple[str, ...] = ()
    """device, versions and commit"""


def write(exhibit: Exhibit, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the table as Markdown and LaTeX, and figures as PNG and SVG; returns the paths."""
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
    """The exhibit as Markdown: title, table, caption and notes."""
    table = table_formats.markdown(exhibit.table) if exhibit.table else ""
    title, *lines = map(
        table_formats.markdown_text,
        [exhibit.title, exhibit.caption, *exhibit.notes, *exhibit.settings],
    )
    text = "  \n".join(lines)
    return f"## {title}\n\n{table}\n{text}\n"


def latex(exhibit: Exhibit) -> str:
    """The table as LaTeX; its caption has no number, as LaTeX adds one."""
    if exhibit.table is None:
        return ""
    title = re.sub(r"^(Table|Figure) \d+\. ", "", exhibit.title)
    notes = [*exhibit.notes, *exhibit.settings]
    return table_formats.latex(exhibit.table, f"{title}. {exhibit.caption}", notes)
