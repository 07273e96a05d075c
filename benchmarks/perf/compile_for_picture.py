"""A picture of what the modes of the engine take on accelerators."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from benchmarks.perf.compile_for import Row

_QUANTITIES = (("temporary", "temporary memory, MB"), ("traffic", "memory traffic of a step, MB"))


def draw(rows: Sequence["Row"], path: pathlib.Path) -> None:
    """Bars of temporary memory and memory traffic for the modes of DB-MTL, and equal weighting."""
    shown = [row for row in rows if row.method in ("ew", "db_mtl") and row.needed]
    groups = list(dict.fromkeys((row.target, row.network, row.num_tasks) for row in shown))
    modes = list(dict.fromkeys(row.mode for row in shown))
    figure = Figure(figsize=(1.5 + 1.6 * len(groups), 5.5), layout="constrained")
    for axes, (field, label) in zip(figure.subplots(2, 1, sharex=True), _QUANTITIES, strict=True):
        width = 0.8 / max(len(modes), 1)
        for i, mode in enumerate(modes):
            of_mode = {row[:3]: getattr(row, field) / 1e6 for row in shown if row.mode == mode}
            places = [groups.index(group) + i * width for group in of_mode]
            axes.bar(places, list(of_mode.values()), width, label=mode)
        axes.set_yscale("log")
        axes.set_ylabel(label)
        axes.set_xticks(
            [i + 0.4 - width / 2 for i in range(len(groups))],
            [f"{target}\n{network}, T = {number}" for target, network, number in groups],
        )
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    figure.suptitle("DB-MTL's step by mode: compiled, not run")
    figure.savefig(path, dpi=120)
