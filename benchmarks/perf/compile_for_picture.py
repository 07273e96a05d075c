"""A picture of what the modes of the engine take on accelerators."""

import pathlib
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.perf.compile_for_row import Row

_QUANTITIES: tuple[tuple[str, Callable[[Row], int]], ...] = (
    ("temporary memory, MB", lambda row: row.temporary),
    ("memory traffic of a step, MB", lambda row: row.counts.traffic),
)


def draw(rows: Sequence[Row], path: pathlib.Path) -> None:
    """Bars of temporary memory and memory traffic for the modes of DB-MTL, and equal weighting.

    A column of the picture for each target.
    """
    shown = [row for row in rows if row.program.method in ("ew", "db_mtl") and row.needed]
    kinds = list(dict.fromkeys(row.program.target for row in shown))
    groups = list(dict.fromkeys(_group(row) for row in shown))
    modes = list(dict.fromkeys(row.program.mode for row in shown))
    figure = Figure(
        figsize=(1 + max(1.1 * len(groups), 2) * max(len(kinds), 1), 5.5), layout="constrained"
    )
    grid = figure.subplots(2, max(len(kinds), 1), sharex=True, sharey="row", squeeze=False)
    width = 0.8 / max(len(modes), 1)
    for line, (label, quantity) in zip(grid, _QUANTITIES, strict=True):
        line[0].set_ylabel(label)
        for axes, kind in zip(line, kinds, strict=False):
            for i, mode in enumerate(modes):
                of_mode = {
                    _group(row): quantity(row) / 1e6
                    for row in shown
                    if (row.program.target, row.program.mode) == (kind, mode)
                }
                places = [groups.index(group) + i * width for group in of_mode]
                axes.bar(places, list(of_mode.values()), width, color=f"C{i}", label=mode)
            axes.set_yscale("log")
            axes.set_xticks([i + 0.4 - width / 2 for i in range(len(groups))], groups)
            axes.spines[["top", "right"]].set_visible(False)
    for axes, kind in zip(grid[0], kinds, strict=False):
        axes.set_title(kind)
    handles = [Patch(color=f"C{i}", label=mode) for i, mode in enumerate(modes)]
    figure.legend(handles=handles, loc="outside lower center", ncols=9, frameon=False)
    figure.suptitle("DB-MTL's step by mode, and that of equal weighting (EW): compiled, not run")
    figure.savefig(path, dpi=120)


def _group(row: Row) -> str:
    return f"{row.program.network}\nT = {row.program.num_tasks}"
