"""The paper's tables as printed, and which of their columns is which metric."""

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
    """A table of the paper as printed: method -> column -> text."""
    resource = importlib.resources.files("benchmarks.report") / "paper" / f"{name}.csv"
    with resource.open(encoding="utf-8") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def table_name(columns: Columns) -> str | None:
    """The table that the runs can stand beside, sample data's too, of which only Δp does.

    None for networks of which the paper prints no figures.
    """
    network = (columns.network or "").lower()
    if "segnet" in network:  # the figures that the paper took over are of MTAN on it
        return "table6" if columns.dataset == "nyuv2" else None
    if "mtan" in network or "stitch" in network:  # Figure 4
        return None
    return _TABLES.get(columns.dataset)


def column_of(columns: Columns, metric: Metric) -> str:
    """The metric's column in the paper's table."""
    if columns.dataset == "qm9":
        return columns.tasks[metric.task]
    task = columns.tasks[metric.task]
    return _DOMAINS.get(task, metric.name.removeprefix("<"))


def paper_figures(columns: Columns) -> dict[str, tuple[list[str], str]]:
    """The paper's figures for these columns: method -> (one for every metric, Δp).

    "–" where the table has no such column; an average over tasks comes last, where there is one.
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
    """A row's figure with its ± where the paper prints one; "–" where there is no figure."""
    spread = row.get(f"{column}_std")
    return (row.get(column) or "–") + (f" ± {spread}" if spread else "")
