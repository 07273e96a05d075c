"""Plots of Δp by task, and of Δp with the time of a step."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure

from benchmarks.report.figures import bars, style
from benchmarks.report.records.results import Outcome, columns_of

LABEL = "improvement over STL (%), higher is better"


def by_task(outcomes: Sequence[Outcome]) -> Figure:
    """Plots the relative improvement of each task over single-task learning, and the mean."""
    return (_bars if len(outcomes) <= style.FEW else _cells)(outcomes)


def _bars(outcomes: Sequence[Outcome]) -> Figure:
    """A bar chart with a group of bars for each task."""
    labels = [*columns_of(outcomes).task_titles, "Δp"]
    figure = Figure(figsize=(max(6.5, 11 / 12 * len(labels)), 4.5), layout="constrained")
    axis = figure.subplots()
    bars.grouped(axis, labels, [bars.of(o, _values(o)) for o in outcomes])
    axis.axvline(len(labels) - 1.5, color="0.6", linewidth=1, linestyle=":")
    axis.set_ylabel(LABEL)
    bars.legend(figure, axis)
    return figure


def _values(outcome: Outcome) -> list[np.ndarray]:
    """The improvements [seeds] of every task and their mean Δp."""
    return [*outcome.delta_p_per_task.T, outcome.delta_p]


def _cells(outcomes: Sequence[Outcome]) -> Figure:
    """A table in colours for many methods, with a row per method, the best first."""
    ordered = sorted(outcomes, key=lambda o: -o.delta_p.mean())
    labels = [*columns_of(outcomes).task_titles, "Δp"]
    values = np.array([[*o.delta_p_per_task.mean(0), o.delta_p.mean()] for o in ordered])
    size = (max(6.0, 2.4 + 0.72 * len(labels)), 1.5 + 0.32 * len(ordered))
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    limit = float(np.abs(values).max()) or 1.0
    wide = limit > 50  # a few outliers would make all others look alike
    decimals = 0 if wide else 1
    norm = SymLogNorm(10, vmin=-limit, vmax=limit) if wide else Normalize(-limit, limit)
    image = axis.imshow(values, cmap="PuOr", norm=norm, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        dark = abs(norm(value) - 0.5) > 0.35
        axis.text(
            column,
            row,
            f"{round(value, decimals) + 0.0:+.{decimals}f}",  # + 0.0 avoids -0
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
            fontweight="bold" if column == len(labels) - 1 else "normal",
        )
    axis.axvline(len(labels) - 1.5, color="black", linewidth=1)
    axis.set_xticks(range(len(labels)), labels, parse_math=False)
    axis.set_yticks(range(len(ordered)), [o.name for o in ordered], parse_math=False)
    axis.tick_params(length=0)
    ticks = [t for t in (-1000, -100, -10, 0, 10, 100, 1000) if abs(t) <= limit] if wide else None
    bar = figure.colorbar(image, ax=axis, ticks=ticks, format="%+g", pad=0.01)
    bar.minorticks_off()
    bar.set_label(LABEL)
    return figure


def against_time(outcomes: Sequence[Outcome]) -> Figure:
    """Plots the Δp of each method, sorted, with a panel for each class of cost.

    Beside a method stands the time of its step, relative to EW's or else to the quickest.
    """
    unit = next((o for o in outcomes if o.method == "ew"), None)
    unit = unit or max(outcomes, key=lambda o: o.steps_per_second)
    costs = {o.method: unit.steps_per_second / o.steps_per_second for o in outcomes}
    panels = {
        title: sorted(members, key=lambda o: -o.delta_p.mean())
        for title, members in (
            ("about the time of one pass", [o for o in outcomes if costs[o.method] <= _ONE_PASS]),
            ("several passes", [o for o in outcomes if not costs[o.method] <= _ONE_PASS]),
        )
        if members
    }
    sizes = [len(members) for members in panels.values()]
    figure = Figure(
        figsize=(8.5, 1.4 + 0.45 * len(sizes) + 0.27 * sum(sizes)), layout="constrained"
    )
    axes = figure.subplots(len(sizes), sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    means = np.array([o.delta_p.mean() for o in outcomes])
    low = max(means.min(), np.median(means) - _FAR * (means.max() - np.median(means) + 1))
    for axis, (title, members) in zip(axes, panels.items(), strict=True):
        for row, outcome in enumerate(members):
            _interval(axis, row, outcome, low)
            axis.text(
                1.01, row, f"{costs[outcome.method]:.2f} × {unit.name}", va="center", fontsize=8,
                transform=axis.get_yaxis_transform(), color="0.35",
            )  # fmt: skip
        axis.set_yticks(range(len(members)), [o.name for o in members], parse_math=False)
        axis.set_ylim(len(members) - 0.4, -0.6)
        axis.set_title(title, fontsize=10, loc="left")
        axis.axvline(0, color="black", linewidth=0.8)
        axis.grid(alpha=0.25, axis="x")
        axis.tick_params(axis="y", length=0)
    axes[-1].set_xlabel("Δp on the test set (%), higher is better")
    return figure


_ONE_PASS = 1.75
"""Steps that take at most this many times as long as equal weighting's are about one pass."""
_FAR = 4
"""Means that are this many times as far below the median as the best is above it have an arrow."""


def _interval(axis: Any, row: int, outcome: Outcome, low: float) -> None:
    """Draws a mean with its standard deviation over seeds; an arrow if it is below `low`."""
    look = style.of(outcome)
    mean = float(outcome.delta_p.mean())
    if mean < low:
        axis.plot(low, row, marker="<", markersize=7, color=look["color"])
        axis.text(low, row, f"   {mean:.0f}", va="center", fontsize=8)
        return
    spread = outcome.delta_p.std(ddof=1) if len(outcome.delta_p) > 1 else None
    own = {key: look[key] for key in ("color", "marker", "markerfacecolor") if key in look}
    axis.errorbar(mean, row, xerr=spread, markersize=7, capsize=3, linestyle="none", **own)
