"""The common parts of all exhibits: the selection of outcomes, and notes on missing ones."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from benchmarks import methods
from benchmarks.errors import UserError
from benchmarks.methods import BASELINE
from benchmarks.report.records import choice
from benchmarks.report.records.results import Outcome
from benchmarks.report.records.study import Study
from benchmarks.report.tables import comparison, table
from benchmarks.report.tables.table import Table

Studies = Mapping[str, Study]
"""One or more studies, by data set and network."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """The content of an exhibit, without the parts that are the same for all exhibits."""

    caption: str
    """explanation of the content"""
    table: Table | None = None
    """the table, if there is one"""
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)
    """figures by the suffix that follows the name of the exhibit in the file name"""
    notes: Sequence[str] = ()
    """warnings for the reader, such as missing runs"""


Make = Callable[[Studies], Parts]
"""A function that makes the content of an exhibit from its studies."""


def select(
    study: Study, names: Sequence[str], *, compared: bool = True, tuned: bool = True
) -> tuple[dict[str, Outcome], list[str]]:
    """Selects the outcomes of the named methods that can be shown, with notes on the others.

    Args:
      study: study with the runs.
      names: names of the methods, as in the file names of the runs.
      compared: whether to leave out methods without Δp.
      tuned: whether `db_mtl` stands for the forgetting rate that validation chooses; otherwise it
        stands for the plain `db_mtl`, if it has runs.
    """
    found, missing, notes = {}, [], []
    for name in names:
        outcome = study.find(name)
        if name == choice.DB_MTL and (tuned or outcome is None):
            outcome, chosen = choice.db_mtl(study.outcomes)
            notes += chosen
        if outcome is not None:
            notes += [f"{outcome.name} failed: {failure}." for failure in outcome.failed]
        if outcome is None or not len(outcome.test):
            missing += [methods.display_name(name)] * (outcome is None)
        elif compared and not np.isfinite(outcome.delta_p).all():
            itself = not np.isfinite(outcome.test).all()
            needed = "finite figures of its own" if itself else "a finished run of STL"
            notes.append(f"{outcome.name} has no Δp: it needs {needed}.")
        else:
            found[name] = outcome
    if missing:
        notes.append(f"No finished runs of {', '.join(missing)}.")
    return found, [f"{study.title}: {note}" for note in notes]


def need(found: object, studies: Studies, wanted: str) -> None:
    """Raises UserError if `found` is empty; `wanted` describes the missing runs."""
    if not found:
        folders = ", ".join(str(study.folder) for study in studies.values())
        raise UserError(
            f"{folders}: expected finished runs of {wanted}, found none{_reasons(studies)}"
        )


def _reasons(studies: Studies) -> str:
    """What is to be known of runs that are there and still show nothing."""
    said = []
    failed = sum(len(outcome.failed) for s in studies.values() for outcome in s.outcomes)
    if failed:
        said.append(f"{failed} runs failed, as a loss was not finite")
    baselines = [study.find(BASELINE) for study in studies.values()]
    if any(b is None or not np.isfinite(b.test).all() or not len(b.test) for b in baselines):
        said.append("Δp needs single-task runs (stl) with finite figures")
    return "".join(f"; {line}" for line in said)


def delta_table(first: str, rows: Mapping[str, Mapping[str, np.ndarray]], what: str) -> Table:
    """A table of Δp from a mapping: name of the row -> heading -> values over seeds."""
    headings = list(dict.fromkeys(heading for cells in rows.values() for heading in cells))
    none = np.full(1, np.nan)
    return table.plain(
        [first, *(f"{heading}: {what}" if heading else what for heading in headings)],
        [
            [name, *(comparison.figure(cells.get(heading, none), 2) for heading in headings)]
            for name, cells in rows.items()
        ],
    )
