"""A table, independent of the formats Markdown, LaTeX and HTML."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

Style = Literal["", "bold", "underline"]


class Heading(NamedTuple):
    """The heading of a column."""

    text: str
    group: str = ""
    """heading above neighbouring columns of the same group"""
    paper: bool = False
    """whether the column has values of the paper, which are shown in grey"""


class Cell(NamedTuple):
    """The text of a cell and its style."""

    text: str
    style: Style = ""


MISSING = Cell("–")


class Row(NamedTuple):
    """A row of a table; the first cell contains its name."""

    cells: tuple[Cell, ...]
    failed: bool = False
    """whether the row is of a failed run"""

    @property
    def name(self) -> str:
        """The name of the row."""
        return self.cells[0].text


@dataclasses.dataclass(frozen=True)
class Table:
    """Headings and rows of the same length; the first column has the names of the rows."""

    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.headings):
                raise ValueError(
                    f"rows: expected {len(self.headings)} cells in {row.name!r}, "
                    f"found {len(row.cells)}"
                )

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The groups from left to right, each with the number of its columns."""
        spans: list[tuple[str, int]] = []
        for heading in self.headings:
            if spans and spans[-1][0] == heading.group:
                spans[-1] = (heading.group, spans[-1][1] + 1)
            else:
                spans.append((heading.group, 1))
        return spans


def plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Makes a table without groups and styles."""
    return Table(
        tuple(map(Heading, headings)), tuple(Row(tuple(map(Cell, cells))) for cells in rows)
    )


def beside(left: Table, right: Table) -> Table:
    """Joins two tables side by side by the names of the rows; missing cells get a dash."""
    names = list(dict.fromkeys(row.name for table in (left, right) for row in table.rows))
    by_name = [{row.name: row for row in table.rows} for table in (left, right)]
    rows = []
    for name in names:
        found = [rows.get(name) for rows in by_name]
        halves = [
            row.cells[1:] if row else (MISSING,) * (len(table.headings) - 1)
            for row, table in zip(found, (left, right), strict=True)
        ]
        failed = any(row.failed for row in found if row)
        rows.append(Row((Cell(name), *halves[0], *halves[1]), failed))
    # Failed runs come last, as in both tables.
    rows.sort(key=lambda row: row.failed)
    return Table((*left.headings, *right.headings[1:]), tuple(rows))
