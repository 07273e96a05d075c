"""All plots of a comparison."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.methods import BASELINE
from benchmarks.report.figures import cosines, curves, delta_plots
from benchmarks.report.records import choice
from benchmarks.report.records.columns import Columns, with_unit
from benchmarks.report.records.results import Outcome

CAPTIONS = {
    "losses": "Training loss of every task: means of an epoch.",
    "gradient_norms": "Norm of every task's gradient, on the same training data in every epoch.",
    "validation": "Metrics on the validation set.",
    "delta_p": "Relative improvement over single-task learning on the test set, by task.",
    "delta_p_and_time": "What a method gains, and what its step costs.",
    "cosine_similarity": "Cosine similarity of the tasks' gradients, of EW and DB-MTL.",
}
"""The captions of the plots by name."""

_MOST = 24
"""With more methods than this, only those of the tables of the paper are drawn."""


def draw(outcomes: Sequence[Outcome]) -> dict[str, Figure]:
    """All plots of a comparison by name, without those of quantities that no run has recorded."""
    finished = [outcome for outcome in outcomes if len(outcome.test)]
    if len(finished) > _MOST:
        finished = [o for o in choice.headline(outcomes)[0] if len(o.test)]
    if not finished:
        return {}
    columns = finished[0].columns
    figures = {name: curves.draw(finished, shown) for name, shown in panels(columns).items()}
    compared = [o for o in finished if o.method != BASELINE and np.isfinite(o.delta_p).all()]
    if compared:
        figures["delta_p"] = delta_plots.by_task(compared)
        figures["delta_p_and_time"] = delta_plots.against_time(compared)
    pair = [o for o in choice.headline(outcomes)[0] if o.method in ("ew", choice.DB_MTL)]
    figures["cosine_similarity"] = cosines.draw([o for o in pair if len(o.test)])
    return {name: figure for name, figure in figures.items() if figure is not None}


def panels(columns: Columns) -> dict[str, curves.Panels]:
    """The plots over epochs: name -> content of the panels."""
    tasks = len(columns.tasks)
    same_loss = len(set(columns.losses)) == 1
    scales = np.array([metric.scale for metric in columns.flat])

    def validation(record: dict[str, Any]) -> np.ndarray | None:
        values = record.get("validation")
        return columns.flatten(values, "validation") * scales if values else None

    return {
        "losses": curves.Panels(
            with_unit("training loss", columns.losses[0] if same_loss else ""),
            columns.task_titles
            if same_loss
            else list(map(with_unit, columns.task_titles, columns.losses)),
            [True] * tasks,
            lambda r: r["losses"],
        ),
        "gradient_norms": curves.Panels(
            "norm of the task's gradient, on the same training data",
            columns.task_titles,
            [True] * tasks,
            lambda r: r.get("gradient_norms"),
        ),
        "validation": curves.Panels(
            with_unit("validation", columns.one_metric or ""),
            columns.metric_titles,
            # Logarithmic for errors only, as shares can be 0.
            [not metric.higher_is_better for metric in columns.flat],
            validation,
        ),
    }
