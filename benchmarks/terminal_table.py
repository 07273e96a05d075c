"""Tables for the terminal, which all look alike."""

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

__all__ = ["Column", "table"]


def table(
    title: str,
    headings: Sequence[str | Column],
    sections: Iterable[Sequence[Sequence[str | Text]]],
    caption: str | None = None,
) -> Table:
    """Makes a table.

    Args:
      title: what is above it, at the left.
      headings: of the columns. The first one is aligned at the left and the others at the right,
        and none is broken into lines, unless a heading is a `Column` that says otherwise.
      sections: rows, with a line below each section.
      caption: what is below it.
    """
    columns = [_column(heading, first=not index) for index, heading in enumerate(headings)]
    made = Table(*columns, title=escape(title), title_justify="left", caption=caption)
    for section in sections:
        for row in section:
            made.add_row(*(escape(cell) if isinstance(cell, str) else cell for cell in row))
        made.add_section()
    return made


def _column(heading: str | Column, *, first: bool) -> Column:
    """A column of its own, as one that is drawn holds its cells."""
    if isinstance(heading, str):
        return Column(escape(heading), justify="left" if first else "right", no_wrap=True)
    column = heading.copy()
    if isinstance(column.header, str):
        column.header = escape(column.header)
    return column
