"""All goals in one table, with the measured values."""

from collections.abc import Sequence

from benchmarks.methods import display_name
from benchmarks.perf import aggregation
from benchmarks.perf.measurement import Measurement, Quantity
from benchmarks.perf.network import MODES
from benchmarks.perf.peers import PEERS
from benchmarks.report.tables.table import Table, plain

_OF_STEPS: tuple[Quantity, ...] = ("over_ew", "memory")
_QUANTITIES = (*_OF_STEPS, "over_triad", "over_theirs", "first_step_seconds")
"""Those with goals, in the order of the table."""


def table(measured: Sequence[Measurement]) -> Table:
    """The figures that have a goal; of the engine's modes only the best one for each network."""
    cells = []
    for quantity in _QUANTITIES:
        rows = [row for row in measured if quantity in row.figures and row.figures[quantity].goal]
        for row in _best(rows, quantity) if quantity in _OF_STEPS else rows:
            figure = row.figures[quantity]
            target, fail = figure.goal or (0, 0)
            numbers = (f"{target:.3g}", f"{fail:.3g}", f"{figure.value:.2f}", figure.verdict)
            cells.append((_words(row, quantity), str(row.num_tasks), *numbers))
    return plain(("", "T", "target", "failure", "measured", "verdict"), cells)


def _best(rows: Sequence[Measurement], quantity: Quantity) -> list[Measurement]:
    """The best of the engine's modes for each network and number of tasks, then other programs."""
    of_modes = [row for row in rows if row.name in MODES]
    best = [
        min(
            (row for row in of_modes if (row.subject, row.num_tasks) == of),
            key=lambda row: row.figures[quantity].value,
        )
        for of in dict.fromkeys((row.subject, row.num_tasks) for row in of_modes)
    ]
    return best + [row for row in rows if row.name not in MODES]


def _words(row: Measurement, quantity: Quantity) -> str:
    if quantity == "over_ew":
        return f"{row.subject}: step over EW's ({row.name})"
    if quantity == "memory":
        return f"{row.subject}: memory beyond EW's, in P ({row.name})"
    if quantity == "over_triad":
        return f"{row.subject}: GB/s over triad"
    if quantity == "first_step_seconds":
        return f"{row.subject}: seconds until the first step is done"
    if row.subject == aggregation.SUBJECT:
        return f"{display_name(row.name)}: update over TorchJD's"
    return f"{row.subject}: step over that of {PEERS[row.name]}"
