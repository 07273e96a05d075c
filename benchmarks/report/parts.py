"""What the kinds of exhibits have in common: which outcomes they show, and what they must say."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from benchmarks import methods
from benchmarks.errors import UserError
from benchmarks.report import choice, table, tables
from benchmarks.report.results import Outcome
from benchmarks.report.study import Study
from benchmarks.report.table import Table

Studies = Mapping[str, Study]
"""By data set and network, at least one."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a kind of exhibit makes of its studies."""

    caption: str
    table: Table | None = None
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)
    """by what comes after the exhibit's name in their files' stems"""
    notes: Sequence[str] = ()


Make = Callable[[Studies], Parts]


def select(
    study: Study, names: Sequence[str], *, compared: bool = True, tuned: bool = True
) -> tuple[dict[str, Outcome], list[str]]:
    """Of the named methods those that a figure can show, and notes on the others.

    Args:
      study: whose runs.
      names: of methods, as in the runs' files.
      compared: Δp is shown, and what has none is left out.
      tuned: `db_mtl` is the one whose forgetting rate validation chose; else it is that of the
        other variants, unless there is no such run.
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
            notes.append(f"{outcome.name} has no Δp: it needs finished runs of STL with its seeds.")
        else:
            found[name] = outcome
    if missing:
        notes.append(f"No finished runs of {', '.join(missing)}.")
    return found, [f"{study.title}: {note}" for note in notes]


def need(found: object, studies: Studies, wanted: str) -> None:
    """Raises UserError if nothing was found."""
    if not found:
        folders = ", ".join(str(study.folder) for study in studies.values())
        raise UserError(f"{folders}: expected finished runs of {wanted}, found none")


def delta_table(first: str, rows: Mapping[str, Mapping[str, np.ndarray]], what: str) -> Table:
    """A table of Δp: name of the row -> heading -> over seeds."""
    headings = list(dict.fromkeys(heading for cells in rows.values() for heading in cells))
    none = np.full(1, np.nan)
    return table.plain(
        [first, *(f"{heading}: {what}" if heading else what for heading in headings)],
        [
            [name, *(tables.figure(cells.get(heading, none), 2) for heading in headings)]
            for name, cells in rows.items()
        ],
    )
