"""A table by itself: what Markdown, LaTeX and HTML are written from."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

Style = Literal["", "bold", "underline"]


class Heading(NamedTuple):
    """Of a column."""

    text: str
    group: str = ""
    """stands once above neighbours that share it"""
    paper: bool = False
    """the paper's figures, which stand back"""


class Cell(NamedTuple):
    """A text and how it stands out."""

    text: str
    style: Style = ""


MISSING = Cell("–")


class Row(NamedTuple):
    """The first cell names the row."""

    cells: tuple[Cell, ...]
    failed: bool = False

    @property
    def name(self) -> str:
        """What the row is of."""
        return self.cells[0].text


@dataclasses.dataclass(frozen=True)
class Table:
    """Headings, the first above the rows' names, and rows as long."""

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
        """The groups from left to right, each with how many columns it spans."""
        spans: list[tuple[str, int]] = []
        for heading in self.headings:
            if spans and spans[-1][0] == heading.group:
                spans[-1] = (heading.group, spans[-1][1] + 1)
            else:
                spans.append((heading.group, 1))
        return spans


def plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table without groups and styles."""
    return Table(
        tuple(map(Heading, headings)), tuple(Row(tuple(map(Cell, cells))) for cells in rows)
    )


def beside(left: Table, right: Table) -> Table:
    """Both side by side, rows of the same name in one; a dash where one of them has none."""
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
    # Failed runs stand last, as in each of the two.
    rows.sort(key=lambda row: row.failed)
    return Table((*left.headings, *right.headings[1:]), tuple(rows))
