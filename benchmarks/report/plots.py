"""All plots of a comparison."""

import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.methods import BASELINE
from benchmarks.report import curves, delta_plots
from benchmarks.report.columns import Columns, marked, with_unit
from benchmarks.report.results import Outcome


def write(outcomes: Sequence[Outcome], folder: pathlib.Path, note: str) -> list[pathlib.Path]:
    """Writes all plots of a comparison and returns their paths.

    Those of quantities that the runs did not record are left out.

    Args:
      outcomes: of `results.load`.
      folder: where the PNG files go.
      note: stands below every figure; of sample data it says so, if it does not already.
    """
    finished = [outcome for outcome in outcomes if len(outcome.test)]
    if not finished:
        return []
    columns = finished[0].columns
    figures = {name: curves.draw(finished, panels) for name, panels in _panels(columns).items()}
    compared = [o for o in finished if o.method != BASELINE and np.isfinite(o.delta_p).all()]
    if compared:
        figures["delta_p.png"] = delta_plots.by_task(compared)
        figures["delta_p_and_time.png"] = delta_plots.against_time(compared)
    note = marked(note, columns)
    return [
        _save(figure, folder / name, note) for name, figure in figures.items() if figure is not None
    ]


def _panels(columns: Columns) -> dict[str, curves.Panels]:
    tasks = len(columns.tasks)
    same_loss = len(set(columns.losses)) == 1
    scales = np.array([metric.scale for metric in columns.flat])

    def validation(record: dict[str, Any]) -> np.ndarray | None:
        values = record.get("validation")
        return columns.flatten(values, "validation") * scales if values else None

    return {
        "losses.png": curves.Panels(
            with_unit("training loss", columns.losses[0] if same_loss else ""),
            columns.task_titles
            if same_loss
            else list(map(with_unit, columns.task_titles, columns.losses)),
            [True] * tasks,
            lambda r: r["losses"],
        ),
        "gradient_norms.png": curves.Panels(
            "norm of the task's gradient, on one fixed training batch",
            columns.task_titles,
            [True] * tasks,
            lambda r: r.get("gradient_norms"),
        ),
        "validation.png": curves.Panels(
            with_unit("validation", columns.one_metric or ""),
            columns.metric_titles,
            # Errors shrink by factors; what is better higher is a share, and may be 0.
            [not metric.higher_is_better for metric in columns.flat],
            validation,
        ),
    }


def _save(figure: Figure, path: pathlib.Path, note: str) -> pathlib.Path:
    lines = textwrap.wrap(note, int(13 * figure.get_size_inches()[0]))
    figure.supxlabel("\n".join(lines), fontsize=8, color="0.35")
    figure.savefig(path, dpi=130)
    return path
