"""The comparison as the paper's Table 3: a row per method, a column per task, and Δp."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from benchmarks.data import qm9
from benchmarks.report.results import Outcome, paper_table, task_titles


def _figure(values: np.ndarray, decimals: int | None = None) -> str:
    """Mean ± standard deviation over seeds, to three significant digits unless told."""
    mean = float(np.mean(values))
    if not np.isfinite(mean):
        return "–"
    if decimals is None:
        decimals = max(0, 2 - int(np.floor(np.log10(max(abs(mean), 1e-9)))))
    text = f"{mean:.{decimals}f}"
    return f"{text} ± {np.std(values, ddof=1):.{decimals}f}" if len(values) > 1 else text


def rows(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells: ours, then the paper's own figures for the same methods."""
    headings = ["method"]
    headings += [*task_titles(), "Δp (%)", "steps/s"]
    cells = []
    for outcome in outcomes:
        if len(outcome.test):
            figures = [_figure(column) for column in outcome.test.T]
            figures += [_figure(outcome.delta_p, 2), f"{outcome.steps_per_second:.1f}"]
            cells.append([outcome.name, *figures])
        for failure in outcome.failed:
            cells.append([f"{outcome.name} (failed: {failure})", *["–"] * (len(headings) - 1)])
    paper = paper_table("table3")
    for outcome in outcomes:
        if row := paper.get(outcome.name):
            spread = f" ± {row['delta_p_std']}" if row["delta_p_std"] else ""
            figures = [row[task] for task in qm9.TASKS]
            cells.append([f"{outcome.name}, paper", *figures, row["delta_p"] + spread, "–"])
    return headings, cells


def _best(outcomes: Sequence[Outcome]) -> dict[tuple[str, int], str]:
    """(method's name, column) -> "bold" for the best of our figures, "underline" for the second."""
    finished = [outcome for outcome in outcomes if len(outcome.test)]
    if not finished:
        return {}
    values = np.array([[*o.test.mean(axis=0), -o.delta_p.mean()] for o in finished])
    styles = {}
    for column in range(values.shape[1]):
        order = np.argsort(values[:, column], kind="stable")
        for style, row in zip(("bold", "underline"), order, strict=False):
            if np.isfinite(values[row, column]):
                styles[finished[row].name, column + 1] = style
    return styles


def markdown(outcomes: Sequence[Outcome], notes: Sequence[str]) -> str:
    """The table as Markdown, best figures bold, second best underlined."""
    headings, cells = rows(outcomes)
    marks = {"bold": "**{}**", "underline": "<u>{}</u>"}
    styles = _best(outcomes)
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for row in cells:
        marked = [
            marks.get(styles.get((row[0], i), ""), "{}").format(cell) for i, cell in enumerate(row)
        ]
        lines.append("| " + " | ".join(marked) + " |")
    return "\n".join([*lines, "", *notes, ""])


def terminal(outcomes: Sequence[Outcome], title: str) -> Table:
    """The table for a terminal: all tasks for a few methods, Δp and speed for many."""
    return (_by_task if len(outcomes) <= _FEW else _by_method)(outcomes, title)


_FEW = 4
"""More methods than this do not fit beside each other."""


def _by_task(outcomes: Sequence[Outcome], title: str) -> Table:
    """One column per method, as eleven tasks do not fit beside each other."""
    headings, cells = rows(outcomes)
    styles = _best(outcomes)
    table = Table(title=title, title_justify="left")
    table.add_column("test MAE", no_wrap=True)
    for row in cells:
        paper = row[0].endswith(", paper")
        table.add_column(row[0], justify="right", style="dim" if paper else "", no_wrap=not paper)
    for column, heading in enumerate(headings[1:], start=1):
        last_task = heading == headings[-3]
        figures = [Text(row[column], style=styles.get((row[0], column), "")) for row in cells]
        table.add_row(heading, *figures, end_section=last_task)
    return table


def _by_method(outcomes: Sequence[Outcome], title: str) -> Table:
    """One row per method, the best first."""
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for heading in ("Δp (%)", "Δp, paper", "steps/s", "time / EW"):
        table.add_column(heading, justify="right")
    paper = paper_table("table3")
    ew = next((o.steps_per_second for o in outcomes if o.method == "ew"), float("nan"))

    def place(outcome: Outcome) -> float:
        mean = outcome.delta_p.mean() if len(outcome.delta_p) else np.nan
        return -mean if np.isfinite(mean) else np.inf

    for outcome in sorted(outcomes, key=place):
        printed = paper.get(outcome.name, {}).get("delta_p", "–")
        if len(outcome.test):
            speed = outcome.steps_per_second
            own = outcome.method == "stl"
            table.add_row(
                outcome.name,
                "baseline" if own else _figure(outcome.delta_p, 2),
                "baseline" if own else printed,
                f"{speed:.1f}",
                f"{ew / speed:.2f}",
            )
        for failure in outcome.failed:
            table.add_row(outcome.name, f"failed: {failure}", printed, "–", "–")
    return table
