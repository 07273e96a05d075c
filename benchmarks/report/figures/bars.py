"""Grouped bar charts, with the spread over seeds."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.report.figures import style
from benchmarks.report.records.results import Outcome

CHAIN_HATCH = "//"
"""The hatching of chains and variants of methods."""


class Series(NamedTuple):
    """Bars with the same label, one in each group."""

    label: str
    """text in the legend"""
    colours: Sequence[str]
    """colour of the bar in each group"""
    hatch: str
    """hatching of the bars; empty for none"""
    values: Sequence[np.ndarray]
    """values [seeds] for each group; an empty array for no bar"""


def of(outcome: Outcome, values: Sequence[np.ndarray]) -> Series:
    """A series in the colour of the method; chains and variants of methods are hatched."""
    look = style.of(outcome)
    hatch = CHAIN_HATCH if "linestyle" in look else ""
    return Series(look["label"], [look["color"]] * len(values), hatch, values)


def grouped(axis: Any, labels: Sequence[str], series: Sequence[Series], width: float = 0.8) -> None:
    """Draws a group of bars for each label, with a bar for each series.

    Bars show means, error bars standard deviations over seeds.

    Args:
      axis: axis to draw on.
      labels: labels of the groups.
      series: the bars.
      width: width of a group; the distance of two groups is 1.
    """
    width /= len(series)
    for position, one in enumerate(series):
        shown = [k for k, values in enumerate(one.values) if len(values)]
        means = [float(np.mean(one.values[k])) for k in shown]
        spreads = [np.std(v, ddof=1) if len(v := one.values[k]) > 1 else np.nan for k in shown]
        axis.bar(
            np.array(shown, float) + (position - (len(series) - 1) / 2) * width,
            means,
            width,
            yerr=spreads if np.isfinite(spreads).any() else None,
            capsize=2,
            color=[one.colours[k] for k in shown],
            ecolor="0.4",  # also visible on black bars
            hatch=one.hatch,
            edgecolor="white",
            linewidth=0.5,
            label=one.label,
        )
    axis.axhline(0, color="black", linewidth=1)
    axis.set_xticks(range(len(labels)), labels, parse_math=False)
    axis.set_xlim(-0.6, len(labels) - 0.4)
    axis.grid(alpha=0.25, axis="y")
    axis.set_axisbelow(True)


def legend(figure: Figure, axis: Any, handles: Sequence[Patch] | None = None) -> None:
    """Draws a legend above the figure, of the series or of the given handles."""
    shown = handles or axis.get_legend_handles_labels()[0]
    figure.legend(handles=shown, loc="outside upper center", ncols=len(shown), frameon=False)
