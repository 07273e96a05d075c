"""The tables of what is measured, for the terminal."""

import itertools
import operator
from collections.abc import Callable, Mapping, Sequence

import jax
from rich.table import Table

from benchmarks import terminal_table
from benchmarks.methods import display_name
from benchmarks.perf.measurement import Measurement, Quantity
from benchmarks.perf.peers import PEERS
from benchmarks.terminal_table import Column

_Cell = Callable[[Measurement], str]

_subject: _Cell = operator.attrgetter("subject")
_name: _Cell = operator.attrgetter("name")

_COLUMNS = {
    "T": Column("T", justify="right", no_wrap=True),
    "mode": Column("mode", no_wrap=True),
    "program": Column("program", no_wrap=True),
    "peer": Column("peer"),
    "goal": Column("goal", justify="right"),
}
"""Those that are not as others: a first one of numbers, texts, and lines that may be broken."""


def _num_tasks(row: Measurement) -> str:
    return str(row.num_tasks)


def _method(row: Measurement) -> str:
    return display_name(row.name)


def _peer(row: Measurement) -> str:
    return PEERS[row.name]


def _value(quantity: Quantity, form: str = ".2f", unit: str = "") -> _Cell:
    def cell(row: Measurement) -> str:
        figure = row.figures.get(quantity)
        return "" if figure is None else f"{figure.value:{form}}{unit}"

    return cell


def _spread(quantity: Quantity) -> _Cell:
    def cell(row: Measurement) -> str:
        smallest, largest = row.figures[quantity].spread or (0, 0)
        return f"{smallest:.2f}–{largest:.2f}"

    return cell


def _goal(quantity: Quantity) -> _Cell:
    def cell(row: Measurement) -> str:
        figure = row.figures.get(quantity)
        if figure is None or figure.goal is None:
            return ""
        return f"{figure.goal.target:.3g} / {figure.goal.fail:.3g} {figure.verdict}"

    return cell


_STEP: dict[str, _Cell] = {"network": _subject, "T": _num_tasks, "mode": _name}


def steps(rows: Sequence[Measurement]) -> Table:
    """Times of the steps."""
    columns = {
        **_STEP,
        "ratio": _value("over_ew"),
        "range": _spread("over_ew"),
        "goal": _goal("over_ew"),
        "ms": _value("milliseconds", ".1f"),
    }
    device = jax.devices()[0].device_kind
    title = f"DB-MTL's step over equal weighting's, {device} (rows: the gradients alone)"
    return _table(title, rows, columns)


def memory(rows: Sequence[Measurement]) -> Table:
    """Memory of the steps, and the time of their compilation."""
    columns = {
        **_STEP,
        "memory": _value("memory", ".1f"),
        "goal": _goal("memory"),
        "compile": _value("compile_seconds", ".1f", " s"),
    }
    title = "memory beyond equal weighting's step, over that of the shared parameters"
    return _table(title, rows, columns)


def transformation(rows: Sequence[Measurement]) -> Table:
    """The gradient transformation alone."""
    columns = {
        "T": _num_tasks,
        "P": _value("parameters", ",.0f"),
        "ms": _value("milliseconds", ".1f"),
        "over unchecked\narithmetic": _value("over_unchecked"),
        "GB/s\nover triad": _value("over_triad"),
        "goal": _goal("over_triad"),
    }
    return _table("DB-MTL's transformation alone", rows, columns)


def aggregation(rows: Sequence[Measurement]) -> Table:
    """The methods on the Gramian."""
    columns = {
        "method": _method,
        "T": _num_tasks,
        "ms": _value("milliseconds", ".1f"),
        "over\na sum": _value("over_ew"),
        "TorchJD\nms": _value("their_milliseconds", ".1f"),
        "over\nTorchJD": _value("over_theirs"),
        "goal": _goal("over_theirs"),
    }
    size = _value("parameters", ",.0f", " parameters")(rows[0])
    return _table(f"aggregation alone, Gramian methods, {size}", rows, columns)


def compilation(rows: Sequence[Measurement]) -> Table:
    """The first step of every method."""
    columns = {
        "method": _method,
        "T": _num_tasks,
        "seconds": _value("first_step_seconds", ".1f"),
        "programs": _value("programs", ".0f"),
        "goal": _goal("first_step_seconds"),
    }
    return _table("until the first step of the MLP is done", rows, columns)


def peers(rows: Sequence[Measurement], version: str) -> Table:
    """Steps next to those in PyTorch, whose version is in the title."""
    device = jax.devices()[0].device_kind
    columns = {
        "network": _subject,
        "T": _num_tasks,
        "peer": _peer,
        "its\nms": _value("their_milliseconds", ".1f"),
        "over its\nEW": _value("their_over_ew"),
        "our\nms": _value("milliseconds", ".1f"),
        "ours\n/ its": _value("over_theirs"),
        "goal": _goal("over_theirs"),
    }
    title = f"DB-MTL's step over its peers', {device}, {version} (goal: target / failure)"
    return _table(title, rows, columns)


def against(rows: Sequence[Measurement]) -> Table:
    """Programs of two checkouts."""
    columns = {
        "": _subject,
        "T": _num_tasks,
        "program": _name,
        "this\nms": _value("milliseconds", ".1f"),
        "that\nms": _value("their_milliseconds", ".1f"),
        "this\n/ that": _value("over_theirs", ".3f"),
        "range": _spread("over_theirs"),
    }
    return _table("this checkout's time over the other's, medians over rounds", rows, columns)


def _table(title: str, rows: Sequence[Measurement], columns: Mapping[str, _Cell]) -> Table:
    """A section for each network (or part of a step) and number of tasks."""
    headings = [_COLUMNS.get(name, name) for name in columns]
    sections = [
        [[cell(row) for cell in columns.values()] for row in section]
        for _, section in itertools.groupby(rows, key=lambda row: (row.subject, row.num_tasks))
    ]
    return terminal_table.table(title, headings, sections)
