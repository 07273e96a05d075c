"""The tables as printed in the paper, and their columns by metric."""

import csv
import importlib.resources

from benchmarks.report.columns import Columns, Metric

_TABLES = {
    "nyuv2": "table1",
    "cityscapes": "table2",
    "qm9": "table3",
    "office31": "table4_office31",
    "officehome": "table4_officehome",
}
_DOMAINS = {
    "amazon": "Amazon", "dslr": "DSLR", "webcam": "Webcam",
    "Art": "Artistic", "Clipart": "Clipart", "Product": "Product", "Real_World": "Real",
}  # fmt: skip


def paper_table(name: str) -> dict[str, dict[str, str]]:
    """Reads a table of the paper as printed: method -> column -> text."""
    resource = importlib.resources.files("benchmarks.report") / "paper" / f"{name}.csv"
    with resource.open(encoding="utf-8") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def table_name(columns: Columns) -> str | None:
    """The name of the table of the paper with the same data set and network.

    None if the paper has no such table. Sample data get the table of the real data, of which only
    Δp is shown.
    """
    network = (columns.network or "").lower()
    if "segnet" in network:  # the values quoted in the paper are of MTAN on SegNet
        return "table6" if columns.dataset == "nyuv2" else None
    if "mtan" in network or "stitch" in network:  # Figure 4
        return None
    return _TABLES.get(columns.dataset)


def column_of(columns: Columns, metric: Metric) -> str:
    """The column of a metric in the table of the paper."""
    if columns.dataset == "qm9":
        return columns.tasks[metric.task]
    task = columns.tasks[metric.task]
    return _DOMAINS.get(task, metric.name.removeprefix("<"))


def paper_figures(columns: Columns) -> dict[str, tuple[list[str], str]]:
    """The values of the paper for these columns: method -> (a text for every metric, Δp).

    Missing values are "–". The average over tasks, if there is one, is the last metric.
    """
    name = table_name(columns)
    if name is None:
        return {}
    wanted = [column_of(columns, metric) for metric in columns.flat]
    wanted += ["average"] * columns.has_average
    return {
        method: ([with_spread(row, column) for column in wanted], with_spread(row, "delta_p"))
        for method, row in paper_table(name).items()
    }


def with_spread(row: dict[str, str], column: str) -> str:
    """A value with its ± if the paper prints one; "–" if there is no value."""
    spread = row.get(f"{column}_std")
    return (row.get(column) or "–") + (f" ± {spread}" if spread else "")
