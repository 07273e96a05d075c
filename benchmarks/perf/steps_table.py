"""The tables of the timed steps, for the terminal."""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
from rich.table import Table

from benchmarks.perf import steps
from benchmarks.perf.verdict import Verdict


def tables(rows: Sequence[steps.Row]) -> list[Table]:
    """Tables for the terminal, one of times and one of memory and compilation, with their goals."""
    device = jax.devices()[0].device_kind
    return [
        _table(
            f"DB-MTL's step over equal weighting's, {device} (rows: the gradients alone)",
            ("ratio", "range", "goal", "ms"),
            rows,
            lambda row: (
                f"{row.ratio:.2f}",
                f"{row.spread[0]:.2f}–{row.spread[1]:.2f}",
                _goal(row.target, row.fail, row.verdict),
                f"{row.milliseconds:.1f}",
            ),
        ),
        _table(
            "memory beyond equal weighting's step, over that of the shared parameters",
            ("memory", "goal", "compile"),
            rows,
            lambda row: (
                f"{row.memory:.1f}",
                _goal(row.memory_target, row.memory_fail, row.memory_verdict),
                f"{row.compile_seconds:.1f} s",
            ),
        ),
    ]


def _table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[steps.Row],
    cells: Callable[[steps.Row], tuple[str, ...]],
) -> Table:
    drawn = Table(title=title, title_justify="left")
    for heading in ("network", "T", "mode", *headings):
        justify: Literal["left", "right"] = "left" if heading in ("network", "mode") else "right"
        drawn.add_column(heading, no_wrap=True, justify=justify)
    for index, row in enumerate(rows):
        last = index + 1 == len(rows) or rows[index + 1][:2] != row[:2]
        drawn.add_row(row.network, str(row.num_tasks), row.mode, *cells(row), end_section=last)
    return drawn


def _goal(target: float | None, fail: float | None, verdict: Verdict) -> str:
    return "" if target is None else f"{target:.3g} / {fail:.3g} {verdict}"
