"""All goals in one table, with the measured values."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.methods import display_name
from benchmarks.perf import aggregation, compilation, peers, steps, transformation
from benchmarks.perf.network import MODES
from benchmarks.perf.verdict import Verdict
from benchmarks.report.tables.table import Table, plain


class Row(NamedTuple):
    """A goal and the measured value."""

    subject: str
    num_tasks: int
    target: float
    fail: float
    measured: float
    verdict: Verdict


def of_steps(rows: Sequence[steps.Row]) -> list[Row]:
    """The goals for time and memory of every network, each in the best mode of the engine."""
    best: dict[tuple[str, int], steps.Row] = {}
    least: dict[tuple[str, int], steps.Row] = {}
    for row in rows:
        key = row.network, row.num_tasks
        is_exact = row.target is not None and row.mode in MODES
        if is_exact and (key not in best or row.ratio < best[key].ratio):
            best[key] = row
        if row.memory_target is not None and (key not in least or row.memory < least[key].memory):
            least[key] = row
    others = [row for row in rows if row.target is not None and row.mode not in MODES]
    times = [
        _row(f"{row.network}: step over EW's ({row.mode})", row, row.ratio)
        for row in (*best.values(), *others)
    ]
    return times + [
        Row(
            f"{row.network}: memory beyond EW's, in P ({row.mode})",
            row.num_tasks,
            row.memory_target or 0,
            row.memory_fail or 0,
            row.memory,
            row.memory_verdict,
        )
        for row in least.values()
    ]


def of_transformation(rows: Sequence[transformation.Row]) -> list[Row]:
    """The goals for the gradient transformation alone."""
    return [_row("transformation: GB/s over triad", row, row.over_triad) for row in rows]


def of_aggregation(rows: Sequence[aggregation.Row]) -> list[Row]:
    """The goals for methods that use the Gramian."""
    return [
        _row(f"{display_name(row.method)}: update over TorchJD's", row, row.over_torchjd)
        for row in rows
    ]


def of_compilation(rows: Sequence[compilation.Row]) -> list[Row]:
    """The goals for compilation times."""
    return [_row("mlp: seconds until the first step is done", row, row.seconds) for row in rows]


def of_peers(rows: Sequence[peers.Row]) -> list[Row]:
    """The goals relative to the same step in PyTorch."""
    return [
        _row(f"{row.network}: step over that of {peers.PEERS[row.peer]}", row, row.ratio)
        for row in rows
    ]


def table(rows: Sequence[Row]) -> Table:
    """A table of the rows that have a goal."""
    return plain(
        ("", "T", "target", "failure", "measured", "verdict"),
        [
            (
                row.subject,
                str(row.num_tasks),
                f"{row.target:.3g}",
                f"{row.fail:.3g}",
                f"{row.measured:.2f}",
                row.verdict,
            )
            for row in rows
            if row.verdict
        ],
    )


def _row(subject: str, row: Any, measured: float) -> Row:
    return Row(subject, row.num_tasks, row.target or 0, row.fail or 0, measured, row.verdict)
