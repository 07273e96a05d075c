"""The tables as printed in the paper, and their columns by metric."""

import csv
import importlib.resources

from benchmarks.report.records.columns import Columns


def paper_table(name: str) -> dict[str, dict[str, str]]:
    """Reads a table of the paper as printed: method -> column -> text."""
    resource = (
        importlib.resources.files("benchmarks.report.tables") / "printed_tables" / f"{name}.csv"
    )
    with resource.open(encoding="utf-8") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def paper_figures(columns: Columns) -> dict[str, tuple[list[str], str]]:
    """The values of the paper for these columns: method -> (a text for every metric, Δp).

    Sample data get the table of the real data, of which only Δp is shown. Missing values are "–".
    The average over tasks, if there is one, is the last metric.
    """
    description = columns.description
    name = description.printed_table((columns.network or "").lower())
    if name is None:
        return {}
    wanted = [
        description.printed_column(columns.tasks[metric.task], metric.name)
        for metric in columns.flat
    ]
    wanted += ["average"] * columns.has_average
    return {
        method: ([with_spread(row, column) for column in wanted], with_spread(row, "delta_p"))
        for method, row in paper_table(name).items()
    }


def with_spread(row: dict[str, str], column: str) -> str:
    """A value with its ± if the paper prints one; "–" if there is no value."""
    spread = row.get(f"{column}_std")
    return (row.get(column) or "–") + (f" ± {spread}" if spread else "")
