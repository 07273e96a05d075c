"""The table of `kit modes` in Markdown."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.perf import steps
from benchmarks.perf.network import FORMS, MODES, README
from benchmarks.report.tables import table_formats
from benchmarks.report.tables.table import plain

_COLUMNS = (steps.ROWS, *MODES, *FORMS, README)

Result = Mapping[str, Any]


def page(record: Mapping[str, Any]) -> str:
    """The page: time, memory and compilation of every program."""
    environment = record["environment"]
    versions = environment["versions"]
    text = (
        f"# Steps of DB-MTL on {environment['device']}\n\n"
        f"jax {versions.get('jax')}, jaxlib {versions.get('jaxlib')}, Python "
        f"{environment['python']}, source {record['source']}, commit {environment['commit']}, "
        f"matmul precision {record['matmul_precision'] or 'default'}.\n"
    )
    for dtype in dict.fromkeys(result["dtype"] for result in record["results"]):
        here = [result for result in record["results"] if result["dtype"] == dtype]
        for title, unit, cell in _TABLES:
            text += f"\n## {title}, {dtype}\n\n{_table(here, unit, cell)}"
    return text


def _ratio(result: Result) -> str:
    return f"{result['ratio']:.2f}"


def _memory(result: Result) -> str:
    return f"{result['temporary'] / 1e6:.1f}"


def _compilation(result: Result) -> str:
    return f"{result['compile_seconds']:.1f}"


def _milliseconds(result: Result) -> str:
    return f"{result['milliseconds']:.2f}"


_TABLES: tuple[tuple[str, Callable[[Result], str], Callable[[Result], str]], ...] = (
    ("Time of a step over equal weighting's", _milliseconds, _ratio),
    ("Temporary memory in MB", _memory, _memory),
    ("Compilation in seconds", _compilation, _compilation),
)
"""Title, the cell of equal weighting, and that of the others."""


def _table(
    results: list[Result], of_ew: Callable[[Result], str], cell: Callable[[Result], str]
) -> str:
    """A row for each network and number of tasks."""
    modes = [mode for mode in _COLUMNS if any(r["mode"] == mode for r in results)]
    subjects = sorted({(result["network"], result["num_tasks"]) for result in results})
    rows = []
    for network, num_tasks in subjects:
        mine = {
            r["mode"]: r for r in results if (r["network"], r["num_tasks"]) == (network, num_tasks)
        }

        def text(mode: str, cell: Callable[[Result], str], mine: Any = mine) -> str:
            result = mine.get(mode)
            return "–" if result is None else "failed" if "failed" in result else cell(result)

        cells = [text(steps.EW, of_ew), *(text(mode, cell) for mode in modes)]
        rows.append((network, str(num_tasks), *cells))
    unit = "EW, ms" if of_ew is _milliseconds else "EW"
    return table_formats.markdown(plain(("network", "T", unit, *modes), rows))
