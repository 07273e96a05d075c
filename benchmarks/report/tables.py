"""The comparison as the paper's tables: a row per method, a column per metric, and Δp."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from benchmarks.report.columns import Columns, marked, with_unit
from benchmarks.report.printed import paper_figures
from benchmarks.report.results import Outcome, columns_of


def _figure(values: np.ndarray, decimals: int | None = None, digits: int = 3) -> str:
    """Mean ± standard deviation over seeds, to three significant digits unless told."""
    mean = float(np.mean(values))
    if not np.isfinite(mean):
        return "–"
    if decimals is None:
        decimals = max(0, digits - 1 - int(np.floor(np.log10(max(abs(mean), 1e-9)))))
    text = f"{mean:.{decimals}f}"
    return f"{text} ± {np.std(values, ddof=1):.{decimals}f}" if len(values) > 1 else text


def _figures(outcome: Outcome) -> list[str]:
    """All shown metrics, with as many digits as the paper's table has."""
    columns = outcome.columns
    units = [metric.unit for metric in columns.flat] + ["%"] * columns.has_average
    digits = 3 if columns.dataset == "qm9" else 4
    return [
        _figure(values, 2 if unit in ("%", "°") else None, digits)
        for values, unit in zip(outcome.shown.T, units, strict=True)
    ]


def _metric_headings(columns: Columns, separator: str) -> list[str]:
    """One for every metric, the task's name before the first of its metrics."""
    tasks = columns.task_titles
    if columns.one_metric:
        headings = columns.metric_titles
        return [*headings, "average (%) ↑"] if columns.has_average else headings
    firsts = np.cumsum([0, *(len(names) for names in columns.metrics)])
    return [
        f"{tasks[m.task] if i in firsts else ''}{separator}{m.heading}"
        for i, m in enumerate(columns.flat)
    ]


def rows(outcomes: Sequence[Outcome], separator: str) -> tuple[list[str], list[list[str]]]:
    """Headings and cells: ours, then the paper's own figures for the same methods.

    Sample data have no rows of the paper's, which are of the real data.
    """
    columns = columns_of(outcomes)
    headings = ["method", *_metric_headings(columns, separator), "Δp (%) ↑", "steps/s"]
    cells = []
    for outcome in outcomes:
        if len(outcome.test):
            figures = [*_figures(outcome), _figure(outcome.delta_p, 2)]
            cells.append([outcome.name, *figures, f"{outcome.steps_per_second:.1f}"])
        for failure in outcome.failed:
            cells.append([f"{outcome.name} (failed: {failure})", *["–"] * (len(headings) - 1)])
    paper = paper_figures(columns)
    for outcome in outcomes:
        if outcome.name in paper:
            figures, delta = paper[outcome.name]
            cells.append([f"{outcome.name}, paper", *figures, delta, "–"])
    return headings, cells


def _best(outcomes: Sequence[Outcome]) -> dict[tuple[str, int], str]:
    """(method's name, column) -> "bold" for the best of our figures, "underline" for the second."""
    finished = [outcome for outcome in outcomes if len(outcome.test)]
    if not finished:
        return {}
    columns = finished[0].columns
    higher = [metric.higher_is_better for metric in columns.flat] + [True] * columns.has_average
    signs = np.array([-1 if better else 1 for better in [*higher, True]])
    values = signs * [[*o.shown.mean(axis=0), o.delta_p.mean()] for o in finished]
    styles = {}
    for column in range(values.shape[1]):
        order = np.argsort(values[:, column], kind="stable")
        for style, row in zip(("bold", "underline"), order, strict=False):
            if np.isfinite(values[row, column]):
                styles[finished[row].name, column + 1] = style
    return styles


def _legend(outcomes: Sequence[Outcome]) -> str:
    """What the figures are."""
    metric = columns_of(outcomes).one_metric
    seeds = sorted({len(outcome.test) for outcome in outcomes} - {0})
    text = f"Test {metric or 'metrics'}"
    if seeds and seeds[-1] > 1:
        text += f", mean ± standard deviation over {' or '.join(map(str, seeds))} seeds"
    return text + "; arrows point to the better side; **best**, <u>second best</u>."


def markdown(outcomes: Sequence[Outcome], title: str, notes: Sequence[str]) -> str:
    """The table as Markdown under its title, best figures bold, second best underlined."""
    columns = columns_of(outcomes)
    headings, cells = rows(outcomes, "<br>")
    marks = {"bold": "**{}**", "underline": "<u>{}</u>"}
    styles = _best(outcomes)
    lines = [f"## {marked(title, columns)}", ""]
    lines += ["| " + " | ".join(headings) + " |", "|---" + "|---:" * (len(headings) - 1) + "|"]
    for row in cells:
        lines.append(
            "| "
            + " | ".join(
                marks.get(styles.get((row[0], i), ""), "{}").format(cell)
                for i, cell in enumerate(row)
            )
            + " |"
        )
    legend = _legend(outcomes)
    return "\n".join([*lines, "", "  \n".join([legend, *notes]), ""])


def terminal(outcomes: Sequence[Outcome], title: str) -> Table:
    """The table for a terminal: all metrics for a few methods, Δp and speed for many."""
    title = marked(title, columns_of(outcomes))
    return (_by_metric if len(outcomes) <= _FEW else _by_method)(outcomes, title)


_FEW = 4
"""More methods than this do not fit beside each other."""


def _by_metric(outcomes: Sequence[Outcome], title: str) -> Table:
    """One column per method, as many metrics do not fit beside each other."""
    columns = columns_of(outcomes)
    headings, cells = rows(outcomes, ": ")
    # Under each other, the metrics after a task's first are indented instead.
    headings = [f"  {h[2:]}" if h.startswith(": ") else h for h in headings]
    styles = _best(outcomes)
    table = Table(title=title, title_justify="left")
    table.add_column(with_unit("test", columns.one_metric or ""), no_wrap=True)
    for row in cells:
        paper = row[0].endswith(", paper")
        table.add_column(row[0], justify="right", style="dim" if paper else "", no_wrap=not paper)
    for column, heading in enumerate(headings[1:], start=1):
        last_metric = column == len(headings) - 3
        figures = [Text(row[column], style=styles.get((row[0], column), "")) for row in cells]
        table.add_row(heading, *figures, end_section=last_metric)
    return table


def _by_method(outcomes: Sequence[Outcome], title: str) -> Table:
    """One row per method, the best first."""
    paper = {name: delta for name, (_, delta) in paper_figures(columns_of(outcomes)).items()}
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for heading in ("Δp (%)", *["Δp, paper"] * bool(paper), "steps/s", "time / EW"):
        table.add_column(heading, justify="right")
    ew = next((o.steps_per_second for o in outcomes if o.method == "ew"), float("nan"))

    def place(outcome: Outcome) -> float:
        mean = outcome.delta_p.mean() if len(outcome.delta_p) else np.nan
        return -mean if np.isfinite(mean) else np.inf

    for outcome in sorted(outcomes, key=place):
        printed = [paper.get(outcome.name, "–")] * bool(paper)
        if len(outcome.test):
            speed = outcome.steps_per_second
            own = outcome.method == "stl"
            figures = [_figure(outcome.delta_p, 2), *printed]
            table.add_row(
                outcome.name,
                *(["baseline"] * len(figures) if own else figures),
                f"{speed:.1f}",
                f"{ew / speed:.2f}",
            )
        for failure in outcome.failed:
            table.add_row(outcome.name, f"failed: {failure}", *printed, "–", "–")
    return table
