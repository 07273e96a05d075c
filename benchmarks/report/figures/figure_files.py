"""Writes figures as PNG and SVG files."""

import base64
import pathlib
import textwrap
from typing import Any

import matplotlib as mpl
from matplotlib.axis import Tick
from matplotlib.figure import Figure
from matplotlib.text import Text


def footnote(figure: Figure, text: str) -> Figure:
    """Adds a text below a figure."""
    width = int(15 * figure.get_size_inches()[0])
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    figure.supxlabel("\n".join(lines), fontsize=8, color="0.35")
    return figure


def as_it_is(figure: Figure) -> Figure:
    """Has a `$` in a name stand for itself, where matplotlib would look for a formula.

    The numbers at axes remain formulas, as powers of ten are.
    """
    ticks = {id(label) for tick in figure.findobj(Tick) for label in (tick.label1, tick.label2)}
    for text in figure.findobj(Text):
        if id(text) not in ticks:
            text.set_parse_math(False)
    return figure


def write(figure: Figure, folder: pathlib.Path, stem: str) -> list[pathlib.Path]:
    """Writes a figure as PNG and SVG; the same figure always gives the same bytes."""
    as_it_is(figure)
    paths = [folder / f"{stem}.png", folder / f"{stem}.svg"]
    with mpl.rc_context({"svg.hashsalt": stem}):
        # Cuts the margins that images of a fixed shape leave.
        look: dict[str, Any] = {"dpi": 130, "bbox_inches": "tight", "pad_inches": 0.08}
        figure.savefig(paths[0], **look)
        figure.savefig(paths[1], **look, metadata={"Date": None})
    return paths


def data_uri(folder: pathlib.Path, stem: str) -> str:
    """A written figure as a data URI, from the smaller of the two files."""
    files = [(folder / f"{stem}.svg", "svg+xml"), (folder / f"{stem}.png", "png")]
    path, kind = min(files, key=lambda file: file[0].stat().st_size)
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
