"""Plots of the cosine similarities of the tasks' gradients over training."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.report.figures import curves, style
from benchmarks.report.records.results import Outcome, columns_of

_WHAT = "cosine similarity of two tasks' gradients, on the same training data in every epoch"
_FEW = 6
"""Up to this number of pairs of tasks, there is a panel per pair; otherwise a panel per method."""


def draw(outcomes: Sequence[Outcome]) -> Figure | None:
    """Plots the cosine of every pair of tasks over epochs; None if no run has recorded any."""
    shown = [o for o in outcomes if np.isfinite(_pairs_of(o)).any()]
    if not shown:
        return None
    pairs = list(itertools.combinations(columns_of(shown).task_titles, 2))
    if len(pairs) > _FEW:
        return _all_pairs(shown)
    rows, columns = np.triu_indices(len(columns_of(shown).tasks), 1)

    def pick(record: dict[str, Any]) -> np.ndarray | None:
        table = record.get("cosine_similarity")
        return None if table is None else np.array(table, float)[rows, columns]

    titles = [f"{a} and {b}" for a, b in pairs]
    figure = curves.draw(shown, curves.Panels(_WHAT, titles, [False] * len(pairs), pick))
    if figure is not None:
        _zero([axis for axis in figure.axes if axis.axison])
    return figure


def _all_pairs(outcomes: Sequence[Outcome]) -> Figure:
    """A panel for each method, with all pairs, their mean and a band of most pairs."""
    size = (4.6 * len(outcomes) + 0.4, 4.2)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(outcomes), sharey=True, squeeze=False)[0]
    for axis, outcome in zip(axes, outcomes, strict=True):
        look = style.of(outcome)
        values = np.nanmean(_pairs_of(outcome), axis=0)  # over seeds
        epochs = np.arange(1, len(values) + 1)
        axis.plot(epochs, values, color="0.55", alpha=0.35, linewidth=0.6)
        low, high = np.nanquantile(values, [0.1, 0.9], axis=1)
        colour = look["color"]
        axis.fill_between(
            epochs, low, high, color=colour, alpha=0.2, linewidth=0, label="10th to 90th percentile"
        )
        axis.plot(epochs, np.nanmean(values, axis=1), color=colour, linewidth=2.4, label="mean")
        axis.plot([], [], color="0.55", linewidth=0.8, label="each pair")
        axis.set_title(f"{look['label']} ({values.shape[1]} pairs of tasks)", fontsize=10)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.25)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=8,
                    frameon=False)  # fmt: skip
    _zero(axes)
    axes[0].set_ylabel("cosine similarity")
    figure.suptitle(_WHAT)
    return figure


def _zero(axes: Sequence[Any]) -> None:
    """Gives all axes the same scale, and a line at 0, below which gradients are in conflict."""
    lows, highs = zip(*(axis.get_ylim() for axis in axes), strict=True)
    for axis in axes:
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_ylim(min(*lows, -0.1), max(*highs, 0.1))


def _pairs_of(outcome: Outcome) -> np.ndarray:
    """The cosines [seeds, epochs, pairs]; NaN if not recorded."""
    tasks = len(outcome.columns.tasks)
    rows, columns = np.triu_indices(tasks, 1)
    length = max((len(records) for records in outcome.epochs), default=0)
    values = np.full((len(outcome.epochs), length, len(rows)), np.nan)
    for seed, records in enumerate(outcome.epochs):
        for epoch, record in enumerate(records):
            table = record.get("cosine_similarity")
            if table is not None:
                values[seed, epoch] = np.array(table, float)[rows, columns]
    return values
