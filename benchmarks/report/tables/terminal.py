"""The comparison as a table for the terminal."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from benchmarks import terminal_table
from benchmarks.report.records.columns import Columns, marked, with_unit
from benchmarks.report.records.results import Outcome, columns_of
from benchmarks.report.tables.comparison import best, figure, figures
from benchmarks.report.tables.printed import paper_figures
from benchmarks.terminal_table import Column


def table(outcomes: Sequence[Outcome], title: str) -> Table:
    """The table for the terminal: all metrics for a few methods, Δp and speed for many."""
    title = marked(title, columns_of(outcomes).sample_data)
    return (_by_metric if len(outcomes) <= _FEW else _by_method)(outcomes, title)


_FEW = 4
"""More methods than this do not fit side by side."""


def _by_metric(outcomes: Sequence[Outcome], title: str) -> Table:
    """A table with a column per method, as many metrics do not fit side by side."""
    columns = columns_of(outcomes)
    headings, cells = _rows(outcomes, ": ")
    # Indents all metrics of a task but the first.
    headings = [f"  {h[2:]}" if h.startswith(": ") else h for h in headings]
    styles = best(outcomes)
    shown = [Column(with_unit("test", columns.one_metric or ""), no_wrap=True)]
    for row in cells:
        paper = row[0].endswith(", paper")
        style = "dim" if paper else ""
        shown.append(Column(row[0], justify="right", style=style, no_wrap=not paper))
    rows: list[list[str | Text]] = [
        [heading, *(Text(row[i], style=styles.get((row[0], i), "")) for row in cells)]
        for i, heading in enumerate(headings[1:], start=1)
    ]
    # The last two rows are no metrics.
    return terminal_table.table(title, shown, (rows[:-2], rows[-2:]))


def _by_method(outcomes: Sequence[Outcome], title: str) -> Table:
    """A table with a row per method, the best first."""
    paper = {name: delta for name, (_, delta) in _paper(columns_of(outcomes)).items()}
    headings = ("Δp (%)", *["Δp, paper"] * bool(paper), "steps/s", "time / EW")
    rows = []
    ew = next((o.steps_per_second for o in outcomes if o.method == "ew"), float("nan"))

    def place(outcome: Outcome) -> float:
        mean = outcome.delta_p.mean() if len(outcome.delta_p) else np.nan
        return -mean if np.isfinite(mean) else np.inf

    for outcome in sorted(outcomes, key=place):
        printed = [paper.get(outcome.name, "–")] * bool(paper)
        if len(outcome.test):
            speed = outcome.steps_per_second
            figures = [figure(outcome.delta_p, 2), *printed]
            if outcome.method == "stl":
                figures = ["baseline"] * len(figures)
            rows.append((outcome.name, *figures, f"{speed:.1f}", f"{ew / speed:.2f}"))
        for failure in outcome.failed:
            rows.append((outcome.name, f"failed: {failure}", *printed, "–", "–"))
    # The lines of names and of failures may be broken.
    shown = [Column("method"), *(Column(heading, justify="right") for heading in headings)]
    return terminal_table.table(title, shown, [rows])


def _paper(columns: Columns) -> dict[str, tuple[list[str], str]]:
    """The values of the paper; none for sample data, as they are not comparable."""
    return {} if columns.sample_data else paper_figures(columns)


def _metric_headings(columns: Columns, separator: str) -> list[str]:
    """The headings of all metrics; the first metric of a task has the name of the task."""
    tasks = columns.task_titles
    if columns.one_metric:
        headings = columns.metric_titles
        return [*headings, "average (%) ↑"] if columns.has_average else headings
    firsts = np.cumsum([0, *(len(names) for names in columns.metrics)])
    return [
        f"{tasks[m.task] if i in firsts else ''}{separator}{m.heading}"
        for i, m in enumerate(columns.flat)
    ]


def _rows(outcomes: Sequence[Outcome], separator: str) -> tuple[list[str], list[list[str]]]:
    """The headings and cells: our results, then those of the paper for the same methods."""
    columns = columns_of(outcomes)
    headings = ["method", *_metric_headings(columns, separator), "Δp (%) ↑", "steps/s"]
    cells = []
    for outcome in outcomes:
        if len(outcome.test):
            own = [*figures(outcome), figure(outcome.delta_p, 2)]
            cells.append([outcome.name, *own, f"{outcome.steps_per_second:.1f}"])
        for failure in outcome.failed:
            cells.append([f"{outcome.name} (failed: {failure})", *["–"] * (len(headings) - 1)])
    paper = _paper(columns)
    for outcome in outcomes:
        if outcome.name in paper:
            theirs, delta = paper[outcome.name]
            cells.append([f"{outcome.name}, paper", *theirs, delta, "–"])
    return headings, cells
