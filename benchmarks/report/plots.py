"""Plots of a comparison, readable in print and to the colour-blind."""

import pathlib
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FormatStrFormatter, MaxNLocator, NullFormatter

from benchmarks.report.results import Outcome, task_symbols, task_titles

# Okabe and Ito's palette: a method has the same colour and marker in every figure.
COLOURS = {"stl": "#000000", "ew": "#E69F00", "db_mtl": "#0072B2"}
MARKERS = {"stl": "s", "ew": "^", "db_mtl": "o"}
_OTHERS = ("#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")


def _style(outcome: Outcome, position: int) -> dict[str, Any]:
    return {
        "color": COLOURS.get(outcome.method, _OTHERS[position % len(_OTHERS)]),
        "marker": MARKERS.get(outcome.method, "D"),
        "label": outcome.name,
    }


def write(outcomes: Sequence[Outcome], folder: pathlib.Path, note: str) -> list[pathlib.Path]:
    """Writes all plots of a comparison and returns their paths."""
    finished = [outcome for outcome in outcomes if len(outcome.test)]
    if not finished:
        return []
    figures = {
        "losses.png": _curves(finished, lambda r: r["losses"], "training loss (normalised MSE)"),
        "gradient_norms.png": _curves(
            finished,
            lambda r: r["gradient_norms"],
            "norm of the task's gradient, on one fixed training batch",
        ),
        "validation.png": _curves(
            finished, lambda r: [task[0] for task in r["validation"]], "validation MAE"
        ),
    }
    if any(np.isfinite(o.delta_p).all() and o.method != "stl" for o in finished):
        figures["delta_p.png"] = _delta_p(finished)
    paths = []
    for name, figure in figures.items():
        lines = textwrap.wrap(note, int(13 * figure.get_size_inches()[0]))
        figure.supxlabel("\n".join(lines), fontsize=8, color="0.35")
        path = folder / name
        figure.savefig(path, dpi=130)
        plt.close(figure)
        paths.append(path)
    return paths


def _curves(
    outcomes: Sequence[Outcome], pick: Callable[[dict[str, Any]], Sequence[float]], what: str
) -> Any:
    """One panel per task: a quantity over epochs, the mean over seeds, its range shaded."""
    titles = task_titles()
    figure, axes = plt.subplots(3, 4, figsize=(13, 8), sharex=True, layout="constrained")
    for position, outcome in enumerate(outcomes):
        values = np.array([[pick(r) for r in epochs] for epochs in outcome.epochs], float)
        epochs = np.arange(1, values.shape[1] + 1)
        for task, axis in enumerate(axes.flat[: len(titles)]):
            style = _style(outcome, position)
            line = values[:, :, task]
            axis.plot(
                epochs, line.mean(0), markevery=max(1, len(epochs) // 8), markersize=4, **style
            )
            if len(line) > 1:
                axis.fill_between(epochs, line.min(0), line.max(0), color=style["color"], alpha=0.2)
    for title, axis in zip(titles, axes.flat, strict=False):
        axis.set_title(title, fontsize=10)
        axis.set_yscale("log")
        axis.grid(alpha=0.25, which="both")
        axis.yaxis.set_minor_formatter(NullFormatter())
        if np.divide(*axis.get_ylim()[::-1]) < 10:  # less than a decade: plain numbers
            axis.yaxis.set_major_locator(MaxNLocator(4))
            axis.yaxis.set_major_formatter(FormatStrFormatter("%.3g"))
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    axes[-2, -1].tick_params(labelbottom=True)
    axes[-2, -1].set_xlabel("epoch")
    legend = axes.flat[len(titles)]
    legend.axis("off")
    legend.legend(*axes.flat[0].get_legend_handles_labels(), loc="center", fontsize=12)
    figure.suptitle(what)
    return figure


def _delta_p(outcomes: Sequence[Outcome]) -> Any:
    """Bars: each task's relative improvement over single-task learning, and their mean."""
    compared = [o for o in outcomes if o.method != "stl" and np.isfinite(o.delta_p).all()]
    labels = [*task_symbols(), "Δp"]
    figure, axis = plt.subplots(figsize=(11, 4.5), layout="constrained")
    width = 0.8 / len(compared)
    for position, outcome in enumerate(compared):
        values = np.column_stack([outcome.delta_p_per_task, outcome.delta_p])
        x = np.arange(len(labels)) + (position - (len(compared) - 1) / 2) * width
        style = _style(outcome, outcomes.index(outcome))
        error = values.std(axis=0, ddof=1) if len(values) > 1 else None
        axis.bar(x, values.mean(0), width, yerr=error, color=style["color"], label=style["label"])
    axis.axhline(0, color="black", linewidth=1)
    axis.axvline(len(labels) - 1.5, color="0.6", linewidth=1, linestyle=":")
    axis.set_xticks(range(len(labels)), labels)
    axis.set_ylabel("improvement over STL (%), higher is better")
    axis.grid(alpha=0.25, axis="y")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=len(compared), frameon=False)
    return figure
