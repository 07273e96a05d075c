"""The tables and figures of the paper, made only from folders of runs."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.catalogue import CATALOGUE
from benchmarks.errors import UserError
from benchmarks.report import (
    exhibit_bars,
    exhibit_curves,
    exhibit_tables,
    exhibit_times,
    figure_files,
    study,
)
from benchmarks.report.columns import dataset_title
from benchmarks.report.exhibit import Exhibit
from benchmarks.report.parts import Make, Studies


class Kind(NamedTuple):
    """How an exhibit (a table or figure) is made."""

    make: Make
    """function that makes its content"""
    several: bool = False
    """whether it shows all of its studies; otherwise it shows the first that exists"""
    anywhere: bool = True
    """whether it shows other studies if those of the paper are missing"""


_TABLE = Kind(exhibit_tables.comparison, anywhere=False)
KINDS: Mapping[str, Kind] = {
    "table1": _TABLE,
    "table2": _TABLE,
    "table3": _TABLE,
    "table4": _TABLE._replace(several=True),
    "table5": Kind(exhibit_tables.ablation, several=True),
    "table6": _TABLE,
    "figure1": Kind(exhibit_bars.with_log),
    "figure2": Kind(
        exhibit_bars.pair(
            ("imtl_l", "log+ew"), "Two ways to balance the losses' scales, on every data set"
        ),
        several=True,
    ),
    "figure3": Kind(
        exhibit_bars.pair(
            ("grad_norm", "db_mtl@log_losses=false"),
            "Two ways to balance the gradients' magnitudes, on every data set",
        ),
        several=True,
    ),
    "figure4": Kind(exhibit_bars.by_task, several=True, anywhere=False),
    "figure5": Kind(exhibit_curves.forgetting_rates),
    "figure6": Kind(exhibit_bars.strategies),
    "figure7": Kind(exhibit_times.times),
    "figure8": Kind(
        exhibit_curves.over_epochs(
            "gradient_norms",
            "Norm of every task's gradient over training, of EW and DB-MTL, on one fixed batch.",
        )
    ),
    "figure9": Kind(
        exhibit_curves.over_epochs(
            "losses", "Training loss of every task, of EW and DB-MTL: means of an epoch."
        )
    ),
    "figure10": Kind(exhibit_curves.cosine_similarity),
}
"""The exhibits by name; `benchmarks.catalogue` lists their studies and methods."""


def render(name: str, studies: Mapping[str, pathlib.Path]) -> Exhibit:
    """Makes an exhibit from folders of runs.

    Missing runs are left out, and a note says so. If none of the data sets of the paper is there,
    the figures and Table 5 show other data sets.

    Args:
      name: a name in `KINDS`: table1 to table6, figure1 to figure10.
      studies: `{dataset}` or, for NYUv2 and Cityscapes, `{dataset}-{network}` -> folder.

    Raises:
      UserError: if the name is unknown, or there is nothing to show.
    """
    chosen = _choose(name, studies)
    return make(name, {key: study.load(studies[key]) for key in chosen})


def make(name: str, studies: Studies) -> Exhibit:
    """Like `render`, but with studies that are already loaded."""
    kind, title, sources = KINDS[name], CATALOGUE[name].title, _sources(name)
    keys = _choose(name, studies)
    shown = {key: studies[key] for key in keys}
    parts = kind.make(shown)
    missing = [_title(key) for key in sources if key not in shown]
    notes = list(parts.notes)
    titles = " and ".join(one.title for one in shown.values())
    if set(keys).isdisjoint(sources):
        notes.append(f"The paper shows {', '.join(missing)} here; this is of {titles}.")
    elif missing and kind.several:
        notes.append(f"No runs of {', '.join(missing)}.")
    for one in shown.values():
        notes += [note for note in one.notes if note not in notes]
    settings = tuple(one.provenance for one in shown.values())
    environment = dict.fromkeys(line for one in shown.values() for line in one.environment)
    number = name.replace("table", "Table ").replace("figure", "Figure ")
    of = f": {titles}" if len(shown) <= 2 else f": {len(shown)} data sets"
    return Exhibit(
        name=name,
        title=f"{number}. {title}{of}",
        caption=parts.caption,
        notes=tuple(notes),
        table=parts.table,
        figures={
            name + suffix: figure_files.footnote(figure, "\n".join(settings))
            for suffix, figure in parts.figures.items()
        },
        settings=settings,
        environment=tuple(environment),
    )


def _choose(name: str, studies: Mapping[str, object]) -> list[str]:
    """The keys of the studies that an exhibit shows."""
    if name not in KINDS:
        raise UserError(f"unknown exhibit {name!r}, expected one of {', '.join(KINDS)}")
    kind, sources = KINDS[name], _sources(name)
    found = [key for key in sources if key in studies]
    if not found and kind.anywhere:
        found = list(studies)
    if not found:
        raise UserError(
            f"{name}: expected runs of {' or '.join(sources)}, found {', '.join(studies) or 'none'}"
        )
    return found if kind.several else found[:1]


def _sources(name: str) -> list[str]:
    """The keys of the studies that the paper shows in an exhibit."""
    return [study.key for study in CATALOGUE[name].studies]


def _title(key: str) -> str:
    """The title of a data set and network."""
    dataset, _, network = key.partition("-")
    return f"{dataset_title(dataset)} ({network})" if network else dataset_title(dataset)
