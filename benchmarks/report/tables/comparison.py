"""The comparison as in the tables of the paper: a row per method, a column per metric, and Δp."""

from collections.abc import Sequence

import numpy as np

from benchmarks.report.records import agreement
from benchmarks.report.records.columns import Columns
from benchmarks.report.records.results import Outcome, columns_of
from benchmarks.report.tables.printed import paper_figures
from benchmarks.report.tables.table import Cell, Heading, Row, Style, Table


def table(outcomes: Sequence[Outcome], *, group: str = "", speed: bool = False) -> Table:
    """A table of our results, each beside that of the paper for the same method.

    For sample data, only the Δp of the paper is shown, which is of the real data.

    Args:
      outcomes: results for the rows; failed runs have their own rows at the end.
      group: heading above all columns; empty: the names of the tasks are above their columns.
      speed: whether to add a column with the steps per second.
    """
    columns = columns_of(outcomes)
    paper = paper_figures(columns)
    beside = bool(paper) and not columns.sample_data
    metrics = _headings(columns, group)
    headings = [Heading("method")]
    for heading in metrics:
        headings += [heading, *[Heading("paper", heading.group, True)] * beside]
    delta = "paper" if beside else "Δp, paper (real data)"
    headings += [Heading("Δp (%) ↑", group), *[Heading(delta, group, True)] * bool(paper)]
    headings += [Heading("steps/s")] * speed
    styles = best(outcomes)
    dashes = ["–"] * len(metrics)

    def row(name: str, outcome: Outcome, ours: Sequence[str], delta: str, rate: str) -> Row:
        theirs, their_delta = paper.get(outcome.name, (dashes, "–"))
        cells = [Cell(name)]
        for position, (own, printed) in enumerate(zip(ours, theirs, strict=True), start=1):
            cells.append(Cell(own, styles.get((name, position), "")))
            cells += [Cell(printed)] * beside
        cells.append(Cell(delta, styles.get((name, len(metrics) + 1), "")))
        cells += [Cell(their_delta)] * bool(paper) + [Cell(rate)] * speed
        return Row(tuple(cells), failed=name != outcome.name)

    rows = [
        row(o.name, o, figures(o), figure(o.delta_p, 2), f"{o.steps_per_second:.1f}")
        for o in outcomes
        if len(o.test)
    ]
    rows += [
        row(f"{o.name} (failed: {failure})", o, dashes, "–", "–")
        for o in outcomes
        for failure in o.failed
    ]
    return Table(tuple(headings), tuple(rows))


def legend(outcomes: Sequence[Outcome]) -> str:
    """The caption of `table`."""
    columns = columns_of(outcomes)
    seeds = sorted({len(outcome.test) for outcome in outcomes} - {0})
    text = f"Test {columns.one_metric or 'metrics'}"
    if seeds and seeds[-1] > 1:
        text += (
            f", mean ± standard deviation over {' or '.join(map(str, seeds))} seeds; Δp of these "
            "means against those of STL"
        )
    text += "; arrows point to the better side; best in bold, second best underlined"
    if not paper_figures(columns):
        return f"{text}."
    beside = (
        "Δp the paper's, which is of the real data" if columns.sample_data else "them the paper's"
    )
    return f"{text}; beside {beside}, as printed."


def agreement_notes(outcomes: Sequence[Outcome]) -> list[str]:
    """How far the order of the methods is the paper's; nothing for sample data."""
    columns = columns_of(outcomes)
    paper = {} if columns.sample_data else paper_figures(columns)
    return agreement.note(outcomes, {method: delta_p for method, (_, delta_p) in paper.items()})


def figure(values: np.ndarray, decimals: int | None = None, digits: int = 3) -> str:
    """Formats mean ± standard deviation over seeds.

    Args:
      values: values over seeds.
      decimals: number of decimals; None: as given by `digits`.
      digits: number of significant digits of the mean.
    """
    mean = float(np.mean(values))
    if not np.isfinite(mean):
        return "–"
    if decimals is None:
        decimals = max(0, digits - 1 - int(np.floor(np.log10(max(abs(mean), 1e-9)))))
    text = f"{round(mean, decimals) + 0.0:.{decimals}f}"  # + 0.0 avoids -0
    return f"{text} ± {np.std(values, ddof=1):.{decimals}f}" if len(values) > 1 else text


def figures(outcome: Outcome) -> list[str]:
    """Formats all shown metrics, with as many digits as the table of the paper."""
    columns = outcome.columns
    units = [metric.unit for metric in columns.flat] + ["%"] * columns.has_average
    return [
        figure(values, 2 if unit in ("%", "°") else None, columns.description.digits)
        for values, unit in zip(outcome.shown.T, units, strict=True)
    ]


def _headings(columns: Columns, group: str) -> list[Heading]:
    """The headings of all shown metrics except Δp."""
    if columns.one_metric:
        titles = [*columns.metric_titles, *["average (%) ↑"] * columns.has_average]
        return [Heading(title, group) for title in titles]
    tasks = columns.task_titles
    return [Heading(m.heading, group or tasks[m.task]) for m in columns.flat]


def best(outcomes: Sequence[Outcome]) -> dict[tuple[str, int], Style]:
    """The style of cells: (name of the method, column) -> "bold" or "underline".

    The best of our results in a column is bold, the second best underlined. Columns are counted
    from 1: all shown metrics, then Δp.
    """
    finished = [outcome for outcome in outcomes if len(outcome.test)]
    if not finished:
        return {}
    columns = finished[0].columns
    higher = [metric.higher_is_better for metric in columns.flat] + [True] * columns.has_average
    signs = np.array([-1 if better else 1 for better in [*higher, True]])
    values = signs * [[*o.shown.mean(axis=0), o.delta_p.mean()] for o in finished]
    styles: dict[tuple[str, int], Style] = {}
    for column in range(values.shape[1]):
        order = np.argsort(values[:, column], kind="stable")
        for style, row in zip(BEST, order, strict=False):
            if np.isfinite(values[row, column]):
                styles[finished[row].name, column + 1] = style
    return styles


BEST: tuple[Style, Style] = ("bold", "underline")
