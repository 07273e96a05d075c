"""The content of tables and plots, computed from the records of the runs of a folder."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import run_log
from benchmarks.errors import UserError
from benchmarks.methods import BASELINE, display_name, order
from benchmarks.report.records import columns as columns_
from benchmarks.report.records.columns import Columns
from benchmarks.run_log import Records
from benchmarks.scores import delta_p_per_task
from benchmarks.step_times import StepTimes

Figures = dict[str, dict[int, np.ndarray]]
"""method -> seed -> values of all metrics"""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The results of one method over its seeds."""

    method: str
    columns: Columns  # the same for all outcomes of a folder
    test: np.ndarray  # [seeds, M], metrics in the order of `columns.flat`
    delta_p: np.ndarray  # [seeds], percent, against the baseline's mean over its seeds; else NaN
    delta_p_per_task: np.ndarray  # [seeds, T]
    validation_delta_p: np.ndarray  # [seeds], of the chosen epoch; NaN without validation
    steps_per_second: float  # of timing in turns if there is one, else of the runs
    epochs: list[list[dict[str, Any]]]  # the "epoch" records of every seed
    failed: list[str]  # messages on failed seeds

    @property
    def name(self) -> str:
        """The name of the method as in the paper."""
        return display_name(self.method)

    @property
    def shown(self) -> np.ndarray:
        """The test metrics in the units of their headings, [seeds, M], or [seeds, M + 1].

        The last one is the average over tasks, if the columns have one.
        """
        values = self.test * [metric.scale for metric in self.columns.flat]
        if not self.columns.has_average:
            return values
        return np.column_stack([values, values.mean(axis=1)])


def columns_of(outcomes: Sequence[Outcome]) -> Columns:
    """The columns of the outcomes; none if there are no outcomes."""
    return outcomes[0].columns if outcomes else columns_.NONE


def consistent(
    runs: Mapping[str, Mapping[int, Records]],
) -> tuple[dict[str, dict[int, Records]], list[str]]:
    """The runs whose records go together, and a line on each of the others."""
    kept: dict[str, dict[int, Records]] = {}
    left_out = []
    for method, seeds in runs.items():
        for seed, records in seeds.items():
            try:
                columns = columns_.read(_start(records), _name(method, seed))
                columns.check(records, _name(method, seed))
            except UserError as error:
                left_out.append(str(error))
            else:
                kept.setdefault(method, {})[seed] = records
    return kept, left_out


def outcomes(
    runs: Mapping[str, Mapping[int, Records]], step_times: StepTimes | None = None
) -> list[Outcome]:
    """The outcomes of all methods with at least one run that has ended, baseline first.

    Args:
      runs: the runs of `run_log.read_folder`.
      step_times: the result of `step_times.read`, which replaces the speeds of the runs.

    Raises:
      UserError: if the first record of a run does not match the others.
    """
    methods = sorted(runs, key=order)
    if not methods:
        return []
    columns = columns_.agreed(
        {
            _name(method, seed): columns_.read(_start(records), _name(method, seed))
            for method in methods
            for seed, records in sorted(runs[method].items())
        }
    )

    def figures(split: str) -> Figures:
        return {
            method: {
                seed: _row(columns, records[-1].get(split), _name(method, seed))
                for seed, records in sorted(runs[method].items())
                if records[-1]["kind"] == "result"
            }
            for method in methods
        }

    test, validation = figures("test"), figures("validation")
    found = [_outcome(m, columns, runs[m], test, validation) for m in methods]
    times = step_times.methods if step_times else {}
    return [
        dataclasses.replace(o, steps_per_second=1e3 / times[o.method]["milliseconds"])
        if o.method in times
        else o
        for o in found
    ]


def _row(columns: Columns, values: Any, where: str) -> np.ndarray:
    """A row of all metrics [M]; NaN if none are recorded."""
    return np.full(len(columns.flat), np.nan) if values is None else columns.flatten(values, where)


def _name(method: str, seed: int) -> str:
    """The name of a run in messages."""
    return run_log.run_path(pathlib.Path(), method, seed).name


def _start(records: Records) -> dict[str, Any]:
    return next((record for record in records if record["kind"] == "start"), {})


def _outcome(
    method: str,
    columns: Columns,
    runs: Mapping[int, Records],
    all_test: Figures,
    all_validation: Figures,
) -> Outcome:
    test = all_test[method]
    deltas = _improvements(columns, test, all_test.get(BASELINE, {}))
    finished = [runs[seed] for seed in test]
    speeds = [records[-1]["steps_per_second"] for records in finished]
    return Outcome(
        method=method,
        columns=columns,
        test=np.array(list(test.values())).reshape(len(test), len(columns.flat)),
        delta_p=deltas.mean(axis=1),
        delta_p_per_task=deltas,
        validation_delta_p=_improvements(
            columns, all_validation[method], all_validation.get(BASELINE, {})
        ).mean(axis=1),
        steps_per_second=float(np.median(speeds)) if speeds else float("nan"),
        epochs=[[r for r in records if r["kind"] == "epoch"] for records in finished],
        failed=[
            f"seed {seed} at step {records[-1]['step']}"
            for seed, records in sorted(runs.items())
            if records[-1]["kind"] == "failed"
        ],
    )


def _improvements(
    columns: Columns, rows: Mapping[int, np.ndarray], reference: Mapping[int, np.ndarray]
) -> np.ndarray:
    """The Δp of every seed and task, [seeds, T]; NaN without a baseline.

    All are relative to the baseline's mean metrics, so that their mean is the Δp of the mean
    metrics, as in the paper's tables, and their spread is not that of the baseline.
    """
    found = list(reference.values()) or [np.full(len(columns.flat), np.nan)]
    baseline = columns.per_task(np.mean(found, axis=0))
    deltas = [
        delta_p_per_task(columns.per_task(row), baseline, columns.higher_is_better)
        for row in rows.values()
    ]
    return np.array(deltas, float).reshape(len(rows), len(columns.tasks))
