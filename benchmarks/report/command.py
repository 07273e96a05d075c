"""`python -m benchmarks report`: tables, plots and a page from folders of results."""

import os
import pathlib
from collections.abc import Mapping

from rich.console import Console

from benchmarks.errors import UserError
from benchmarks.report import page, rendered, study_report
from benchmarks.report.paper import exhibits
from benchmarks.report.paper.catalogue import CATALOGUE, EXHIBITS
from benchmarks.report.records.study import Study, is_study, load
from benchmarks.report.study_report import title

__all__ = ["load", "print_written", "report", "title", "write_all", "write_study"]

PAGE = "report.html"


def report(folder: pathlib.Path, console: Console) -> None:
    """Writes the report of a folder into the folder.

    Args:
      folder: a study, or a folder of studies that are named by data set and network.
      console: console for the names of the written files.

    Raises:
      UserError: if no run has ended.
    """
    if is_study(folder):
        print_written(write_study(_checked(folder, console)), console)
        return
    there = folder.glob("*") if os.path.isdir(folder) else ()
    inside = sorted(path for path in there if is_study(path))
    if not inside:
        raise UserError(
            f"{folder}: expected runs ({{method}}-seed{{seed}}.jsonl) or folders of runs, found "
            f"{'neither' if os.path.isdir(folder) else 'no such folder'}"
        )
    print_written(
        write_all(folder, {path.name: _checked(path, console) for path in inside}), console
    )


def write_study(study: Study) -> list[pathlib.Path]:
    """Writes the tables, plots and page of a study into its folder; returns the paths."""
    shown = study_report.make(study)
    written = rendered.write(shown, study.folder)
    section = page.Section(shown, study.folder, "study")
    return [*written, page.write(study.folder / PAGE, shown.title, [section])]


def write_all(folder: pathlib.Path, studies: Mapping[str, Study]) -> list[pathlib.Path]:
    """Writes all possible exhibits, of the paper and others, all studies, and a page.

    Args:
      folder: folder of the exhibits and the page.
      studies: `{dataset}` or `{dataset}-{network}` -> study.

    Returns:
      The paths of the files.
    """
    sections, absent = [], []
    for name in EXHIBITS:
        try:
            shown = exhibits.make(name, studies)
        except UserError as error:
            absent.append(f"{name}: {error}")
        else:
            chapter = "As in the paper" if name in CATALOGUE else "What the paper does not ask"
            sections.append(page.Section(shown, folder, name, chapter))
    for key, study in studies.items():
        shown = study_report.make(study)
        sections.append(page.Section(shown, study.folder, key, "All runs of each study"))
    written = [path for s in sections for path in rendered.write(s.rendered, s.folder)]
    return [*written, page.write(folder / PAGE, "Experiments", sections, absent)]


def print_written(paths: list[pathlib.Path], console: Console) -> None:
    """Prints the names of the written files, one line per folder."""
    folders = dict.fromkeys(path.parent for path in paths)
    for folder in folders:
        names = sorted({path.name for path in paths if path.parent == folder})
        console.print(f"written to {folder}: {', '.join(names)}")


def _checked(folder: pathlib.Path, console: Console) -> Study:
    study = load(folder)
    for line in study.left_out:
        console.print(f"left out of {folder}: {line}", soft_wrap=True)
    if not study.outcomes:
        begun = ", ".join(study.unfinished) or "none has begun"
        raise UserError(f"{folder}: no run has come to an end: {begun}")
    return study
