"""Tables and figures with the texts that must accompany them, and their files."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks import run_log
from benchmarks.report.figures import figure_files
from benchmarks.report.tables import table_formats
from benchmarks.report.tables.table import Table


@dataclasses.dataclass(frozen=True)
class Rendered:
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


def write(rendered: Rendered, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the table as Markdown and LaTeX, and figures as PNG and SVG; returns the paths."""
    run_log.make_folder(folder)
    written = []
    if rendered.table is not None:
        for suffix, text in ((".md", markdown(rendered)), (".tex", latex(rendered))):
            path = folder / f"{rendered.name}{suffix}"
            run_log.write_file(path, text)
            written.append(path)
    for stem, figure in rendered.figures.items():
        written += figure_files.write(figure, folder, stem)
    return written


def markdown(rendered: Rendered) -> str:
    """The table as Markdown: title, table, caption and notes."""
    table = table_formats.markdown(rendered.table) if rendered.table else ""
    title, *lines = map(
        table_formats.markdown_text,
        [rendered.title, rendered.caption, *rendered.notes, *rendered.settings],
    )
    text = "  \n".join(lines)
    return f"## {title}\n\n{table}\n{text}\n"


def latex(rendered: Rendered) -> str:
    """The table as LaTeX; its caption has no number, as LaTeX adds one."""
    if rendered.table is None:
        return ""
    title = re.sub(r"^(Table|Figure) \d+\. ", "", rendered.title)
    notes = [*rendered.notes, *rendered.settings]
    return table_formats.latex(rendered.table, f"{title}. {rendered.caption}", notes)
