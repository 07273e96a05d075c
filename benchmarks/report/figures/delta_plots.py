"""Plots of Δp by task, and of Δp against the time of a step."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

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
    """Plots the Δp of each method against the time of a training step."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axis = figure.subplots()
    means = np.array([outcome.delta_p.mean() for outcome in outcomes])
    errors = np.array([o.delta_p.std(ddof=1) if len(o.delta_p) > 1 else 0 for o in outcomes])
    for outcome, mean, error in zip(outcomes, means, errors, strict=True):
        look = style.of(outcome) | {"linestyle": "none"}
        x = 1e3 / outcome.steps_per_second
        axis.errorbar(x, mean, yerr=error or None, markersize=8, capsize=3, **look)
    lowest, highest = (means - errors).min(), (means + errors).max()
    if lowest < -250:  # a few outliers would squeeze the others
        axis.set_yscale("symlog", linthresh=100)
        axis.set_ylim(1.3 * lowest, highest + 8)
        ticks = (-2000, -1000, -500, -200, *range(-100, 101, 20))
        axis.set_yticks([t for t in ticks if 1.3 * lowest <= t <= highest + 8])
        axis.yaxis.set_major_formatter(FormatStrFormatter("%d"))
    # The margin avoids that markers at the edge are cut.
    axis.set_xlim(0, 1.05 * max(1e3 / o.steps_per_second for o in outcomes))
    axis.set_xlabel("time of a training step (ms), median")
    axis.set_ylabel("Δp on the test set (%), higher is better")
    axis.grid(alpha=0.25)
    columns = 1 if len(outcomes) <= 24 else 2
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), ncols=columns, frameon=False)
    return figure
