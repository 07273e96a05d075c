"""Plots of a comparison, readable in print and to the colour-blind."""

import pathlib
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import SymLogNorm
from matplotlib.ticker import FormatStrFormatter, MaxNLocator, NullFormatter

from benchmarks.methods import BASELINE, DISPLAY_NAMES
from benchmarks.report.results import Outcome, task_symbols, task_titles

# Okabe and Ito's palette, for the colour-blind, and eight markers: a method has the same pair in
# every figure. The paper's own method and the two that everything is compared with come first.
_PALETTE = (
    "#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D1F",
)  # fmt: skip
_MARKERS = ("s", "^", "o", "D", "v", "P", "X", "*")
_FIRST = ("stl", "ew", "db_mtl")
_ORDER = (*_FIRST, *(name for name in DISPLAY_NAMES if name not in _FIRST))


def _style(outcome: Outcome) -> dict[str, Any]:
    """A chain looks like its last method, with an open marker and a dashed line."""
    *balancers, method = outcome.method.split("+")
    position = _ORDER.index(method) if method in _ORDER else len(_ORDER)
    # Seven steps in the markers for each of eight colours: pairs repeat after 56 methods.
    style = {
        "color": _PALETTE[position % len(_PALETTE)],
        "marker": _MARKERS[(position + position // len(_PALETTE)) % len(_MARKERS)],
        "label": outcome.name,
    }
    return style | {"markerfacecolor": "white", "linestyle": "--"} if balancers else style


_FEW = 6
"""More methods than this do not fit beside each other."""


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
    compared = [o for o in finished if o.method != BASELINE and np.isfinite(o.delta_p).all()]
    if compared:
        few = len(compared) <= _FEW
        figures["delta_p.png"] = (_delta_p if few else _delta_p_of_many)(compared)
        figures["delta_p_and_time.png"] = _delta_p_and_time(compared)
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
    for outcome in outcomes:
        values = np.array([[pick(r) for r in epochs] for epochs in outcome.epochs], float)
        epochs = np.arange(1, values.shape[1] + 1)
        for task, axis in enumerate(axes.flat[: len(titles)]):
            style = _style(outcome)
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
    handles = axes.flat[0].get_legend_handles_labels()
    many = len(outcomes) > _FEW
    legend.legend(*handles, loc="center", fontsize=7 if many else 12, ncols=2 if many else 1)
    figure.suptitle(what)
    return figure


def _delta_p(outcomes: Sequence[Outcome]) -> Any:
    """Bars: each task's relative improvement over single-task learning, and their mean."""
    labels = [*task_symbols(), "Δp"]
    figure, axis = plt.subplots(figsize=(11, 4.5), layout="constrained")
    width = 0.8 / len(outcomes)
    for position, outcome in enumerate(outcomes):
        values = np.column_stack([outcome.delta_p_per_task, outcome.delta_p])
        x = np.arange(len(labels)) + (position - (len(outcomes) - 1) / 2) * width
        style = _style(outcome)
        error = values.std(axis=0, ddof=1) if len(values) > 1 else None
        axis.bar(x, values.mean(0), width, yerr=error, color=style["color"], label=style["label"])
    axis.axhline(0, color="black", linewidth=1)
    axis.axvline(len(labels) - 1.5, color="0.6", linewidth=1, linestyle=":")
    axis.set_xticks(range(len(labels)), labels)
    axis.set_ylabel("improvement over STL (%), higher is better")
    axis.grid(alpha=0.25, axis="y")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=len(outcomes), frameon=False)
    return figure


def _delta_p_of_many(outcomes: Sequence[Outcome]) -> Any:
    """The same for more methods than bars could show: a row each, best first, figures in cells."""
    ordered = sorted(outcomes, key=lambda o: -o.delta_p.mean())
    labels = [*task_symbols(), "Δp"]
    values = np.array([[*o.delta_p_per_task.mean(0), o.delta_p.mean()] for o in ordered])
    figure, axis = plt.subplots(figsize=(11, 1.5 + 0.32 * len(ordered)), layout="constrained")
    limit = np.abs(values).max()
    norm = SymLogNorm(linthresh=10, vmin=-limit, vmax=limit)
    image = axis.imshow(values, cmap="PuOr", norm=norm, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        dark = abs(norm(value) - 0.5) > 0.35
        axis.text(
            column,
            row,
            f"{value:+.0f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
            fontweight="bold" if column == len(labels) - 1 else "normal",
        )
    axis.axvline(len(labels) - 1.5, color="black", linewidth=1)
    axis.set_xticks(range(len(labels)), labels)
    axis.set_yticks(range(len(ordered)), [o.name for o in ordered])
    axis.tick_params(length=0)
    ticks = [t for t in (-1000, -100, -10, 0, 10, 100, 1000) if abs(t) <= limit]
    bar = figure.colorbar(image, ax=axis, ticks=ticks, format="%+d", pad=0.01)
    bar.minorticks_off()
    bar.set_label("improvement over STL (%), higher is better")
    return figure


def _delta_p_and_time(outcomes: Sequence[Outcome]) -> Any:
    """What a method gains against what its step costs."""
    figure, axis = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for outcome in outcomes:
        error = outcome.delta_p.std(ddof=1) if len(outcome.delta_p) > 1 else None
        style = _style(outcome) | {"linestyle": "none"}
        x = 1e3 / outcome.steps_per_second
        axis.errorbar(x, outcome.delta_p.mean(), yerr=error, markersize=8, capsize=3, **style)
    lowest = min(o.delta_p.mean() for o in outcomes)
    if lowest < -100:  # a few far below would press the others together
        axis.set_yscale("symlog", linthresh=50)
        axis.set_yticks(
            [t for t in (-1000, -500, -200, -100, -50, -25, 0, 25) if t >= 1.5 * lowest]
        )
        axis.yaxis.set_major_formatter(FormatStrFormatter("%d"))
    axis.set_xlim(left=0)
    axis.set_xlabel("time of a training step (ms), median over epochs")
    axis.set_ylabel("Δp on the test set (%), higher is better")
    axis.grid(alpha=0.25)
    columns = 1 if len(outcomes) <= 24 else 2
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), ncols=columns, frameon=False)
    return figure
