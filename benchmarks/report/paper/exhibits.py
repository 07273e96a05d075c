"""The tables and figures, of the paper and others, made only from folders of runs."""

import pathlib
from collections.abc import Mapping

from benchmarks.errors import UserError, look_up
from benchmarks.problems import datasets
from benchmarks.report.figures import figure_files
from benchmarks.report.paper.catalogue import BEYOND, EXHIBITS
from benchmarks.report.paper.parts import Studies
from benchmarks.report.records import study
from benchmarks.report.rendered import Rendered


def render(name: str, studies: Mapping[str, pathlib.Path]) -> Rendered:
    """Makes an exhibit from folders of runs.

    Missing runs are left out, and a note says so. If none of the data sets of the paper is there,
    the figures and Table 5 show other data sets.

    Args:
      name: a name in `EXHIBITS`, such as table1 or figure10.
      studies: `{dataset}` or, for NYUv2 and Cityscapes, `{dataset}-{network}` -> folder.

    Raises:
      UserError: if the name is unknown, or there is nothing to show.
    """
    chosen = _choose(name, studies)
    return make(name, {key: study.load(studies[key]) for key in chosen})


def make(name: str, studies: Studies) -> Rendered:
    """Like `render`, but with studies that are already loaded."""
    exhibit, sources = EXHIBITS[name], _sources(name)
    keys = _choose(name, studies)
    shown = {key: studies[key] for key in keys}
    parts = exhibit.make(shown)
    missing = [_title(key) for key in sources if key not in shown]
    notes = list(parts.notes)
    titles = " and ".join(one.title for one in shown.values())
    if set(keys).isdisjoint(sources) and name not in BEYOND:
        notes.append(f"The paper shows {', '.join(missing)} here; this is of {titles}.")
    elif missing and exhibit.several:
        notes.append(f"No runs of {', '.join(missing)}.")
    for one in shown.values():
        notes += [note for note in one.notes if note not in notes]
    settings = tuple(one.provenance for one in shown.values())
    environment = dict.fromkeys(line for one in shown.values() for line in one.environment)
    number = name.replace("table", "Table ").replace("figure", "Figure ") + ". "
    number = "" if name in BEYOND else number
    of = f": {titles}" if len(shown) <= 2 else f": {len(shown)} data sets"
    return Rendered(
        name=name,
        title=f"{number}{exhibit.title}{of}",
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
    exhibit, sources = look_up(name, EXHIBITS, "exhibit"), _sources(name)
    found = [key for key in sources if key in studies]
    if not found and exhibit.anywhere:
        found = list(studies)
    if not found:
        raise UserError(
            f"{name}: expected runs of {' or '.join(sources)}, found {', '.join(studies) or 'none'}"
        )
    return found if exhibit.several else found[:1]


def _sources(name: str) -> list[str]:
    """The keys of the studies that the paper shows in an exhibit."""
    return [study.key for study in EXHIBITS[name].studies]


def _title(key: str) -> str:
    """The title of a data set and network."""
    dataset, _, network = key.partition("-")
    description = datasets.describe(dataset)
    return f"{description.title} ({description.network(network)})" if network else description.title
