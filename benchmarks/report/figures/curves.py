"""Plots over epochs, with a panel for each task or metric and a line for each method."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from benchmarks.methods import BASELINE
from benchmarks.report.figures import style
from benchmarks.report.records.results import Outcome

_GRIDS = {1: (1, 1), 2: (1, 2), 3: (1, 3), 4: (2, 2), 9: (2, 5), 10: (2, 5)}
"""Number of panels -> rows and columns; other numbers of panels fill rows of three or four."""


@dataclasses.dataclass(frozen=True)
class Panels:
    """The content of the panels of a plot."""

    what: str
    """title of the plot"""
    titles: Sequence[str]
    """titles of the panels"""
    logarithmic: Sequence[bool]
    """whether each panel has a logarithmic scale"""
    pick: Callable[[dict[str, Any]], Sequence[float] | np.ndarray | None]
    """"epoch" record -> a value for every panel, or None if not recorded"""


def draw(outcomes: Sequence[Outcome], panels: Panels) -> Figure | None:
    """Plots a quantity over epochs: the mean over seeds, with the range as a band.

    Returns None if no run has recorded the quantity.
    """
    lines = [_values(outcome, panels) for outcome in outcomes]
    if not any(np.isfinite(line).any() for line in lines):
        return None
    count = len(panels.titles)
    rows, columns = _GRIDS.get(count) or (-(-count // _width(count)), _width(count))
    spare = rows * columns > count
    width, height = columns * (3.25 if columns > 2 else 4.2), rows * (2.7 if rows > 1 else 3.4)
    size = (width + (0 if spare else 1.5), height)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    shown = axes.flat[:count]
    told_apart = _told_apart(outcomes)
    for outcome, line in zip(outcomes, lines, strict=True):
        look = style.of(outcome) if outcome.method in told_apart else _OTHERS
        for axis, values in zip(shown, np.moveaxis(line, 2, 0), strict=True):
            _line(axis, values, look)
    for axis, title, logarithmic in zip(shown, panels.titles, panels.logarithmic, strict=True):
        _finish(axis, title, logarithmic)
    for axis in axes.flat[count:]:
        axis.axis("off")
    for column in range(columns):
        last = max(row for row in range(rows) if row * columns + column < count)
        axes[last, column].tick_params(labelbottom=True)
        axes[last, column].set_xlabel("epoch")
    entries = dict(zip(*shown[0].get_legend_handles_labels()[::-1], strict=True))
    if spare:
        axes.flat[count].legend(entries.values(), entries, loc="center")
    else:
        figure.legend(entries.values(), entries, loc="outside right center")
    figure.suptitle(panels.what)
    return figure


_ALWAYS = ("ew", "db_mtl")
_OTHERS = {"color": "0.75", "linewidth": 0.8, "zorder": 1, "label": "other methods"}


def _told_apart(outcomes: Sequence[Outcome]) -> set[str]:
    """The methods that have a colour: all if they are few, else EW, DB-MTL and the best one."""
    if len(outcomes) <= style.FEW:
        return {outcome.method for outcome in outcomes}
    ranked = [o for o in outcomes if len(o.delta_p) and np.isfinite(o.delta_p).all()]
    best = max((o for o in ranked if o.method != BASELINE), key=lambda o: o.delta_p.mean(),
               default=outcomes[0])  # fmt: skip
    return {*_ALWAYS, best.method}


def _width(count: int) -> int:
    return 3 if count <= 6 else 4


def _values(outcome: Outcome, panels: Panels) -> np.ndarray:
    """The values [seeds, epochs, panels]; NaN if not recorded."""
    missing = [np.nan] * len(panels.titles)
    seeds = [
        [missing if (row := panels.pick(r)) is None else row for r in records]
        for records in outcome.epochs
    ]
    length = max(map(len, seeds))
    filled = [[*rows, *[missing] * (length - len(rows))] for rows in seeds]
    return np.array(filled, float).reshape(len(seeds), length, len(panels.titles))


def _line(axis: Any, values: np.ndarray, look: dict[str, Any]) -> None:
    """Draws values [seeds, epochs] as a line, with a band for several seeds."""
    epochs = np.arange(1, values.shape[1] + 1)
    every = max(1, len(epochs) // 8)
    axis.plot(epochs, values.mean(0), markevery=every, markersize=4, **look)
    if len(epochs) == 1:
        axis.set(xlim=(0.5, 1.5), xticks=[1])
    if len(values) > 1 and look is not _OTHERS:
        low, high = values.min(0), values.max(0)
        axis.fill_between(epochs, low, high, color=look["color"], alpha=0.2, linewidth=0)


def _finish(axis: Any, title: str, logarithmic: bool) -> None:
    axis.set_title(title, fontsize=10)
    if logarithmic and 0 < axis.yaxis.get_minpos() < np.inf:  # there is something to show
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(NullFormatter())
        span = np.divide(*axis.get_ylim()[::-1])
        if span < 100:  # powers of ten would give at most one label
            few = span < 3
            axis.yaxis.set_major_locator(MaxNLocator(4) if few else LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(FuncFormatter(_plain))
    axis.grid(alpha=0.25, which="both")
    if axis.get_xlim() != (0.5, 1.5):  # more than one epoch
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _plain(value: float, _: int) -> str:
    """A number without a power of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
