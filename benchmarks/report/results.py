"""What the tables and plots show, computed from the records of a folder's runs."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

import dbmtl_jax as dbmtl
from benchmarks import run_log, step_times
from benchmarks.methods import BASELINE, display_name, order
from benchmarks.report import columns as columns_
from benchmarks.report.columns import Columns

Records = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One method over its seeds."""

    method: str
    columns: Columns  # the same for all outcomes of a folder
    test: np.ndarray  # [seeds, M], all metrics of all tasks, as in `columns.flat`
    delta_p: np.ndarray  # [seeds], percent; NaN without the baseline of that seed
    delta_p_per_task: np.ndarray  # [seeds, T]
    steps_per_second: float  # of its runs, or where all were timed in turns, from that
    epochs: list[list[dict[str, Any]]]  # the "epoch" records of every seed
    failed: list[str]  # for a seed that failed: at which step

    @property
    def name(self) -> str:
        """As the paper writes it."""
        return display_name(self.method)

    @property
    def shown(self) -> np.ndarray:
        """[seeds, M'], the test metrics in the units of their headings, and their average if any.

        M' is M, or M + 1 where the columns have an average.
        """
        values = self.test * [metric.scale for metric in self.columns.flat]
        if not self.columns.has_average:
            return values
        return np.column_stack([values, values.mean(axis=1)])


def columns_of(outcomes: Sequence[Outcome]) -> Columns:
    """What the outcomes' figures are of; QM9's columns where there are none."""
    return outcomes[0].columns if outcomes else columns_.QM9


def load(folder: pathlib.Path) -> list[Outcome]:
    """The outcomes of all methods with at least one run that came to an end, baseline first.

    Raises:
      UserError: naming the run whose first record disagrees with the others.
    """
    runs = run_log.read_folder(folder)
    methods = sorted(runs, key=order)
    columns = columns_.agreed(
        {
            _name(method, seed): columns_.read(_start(records), _name(method, seed))
            for method in methods
            for seed, records in sorted(runs[method].items())
        }
    )
    test = {
        method: {
            seed: columns.flatten(records[-1]["test"], _name(method, seed))
            for seed, records in sorted(runs[method].items())
            if records[-1]["kind"] == "result"
        }
        for method in methods
    }
    baseline = test.get(BASELINE, {})
    outcomes = [_outcome(m, columns, runs[m], test[m], baseline) for m in methods]
    times = step_times.read(folder)
    return [
        dataclasses.replace(o, steps_per_second=1e3 / times[o.method]["milliseconds"])
        if o.method in times
        else o
        for o in outcomes
    ]


def _name(method: str, seed: int) -> str:
    """How messages call a run."""
    return run_log.run_path(pathlib.Path(), method, seed).name


def _start(records: Records) -> dict[str, Any]:
    return next((record for record in records if record["kind"] == "start"), {})


def _outcome(
    method: str,
    columns: Columns,
    runs: dict[int, Records],
    test: dict[int, np.ndarray],
    baseline: dict[int, np.ndarray],
) -> Outcome:
    num_tasks, num_metrics = len(columns.tasks), len(columns.flat)
    unknown = np.full(num_metrics, np.nan)
    deltas = np.array(
        [_improvements(columns, row, baseline.get(seed, unknown)) for seed, row in test.items()]
    ).reshape(len(test), num_tasks)
    finished = [runs[seed] for seed in test]
    speeds = [records[-1]["steps_per_second"] for records in finished]
    return Outcome(
        method=method,
        columns=columns,
        test=np.array(list(test.values())).reshape(len(test), num_metrics),
        delta_p=deltas.mean(axis=1),
        delta_p_per_task=deltas,
        steps_per_second=float(np.median(speeds)) if speeds else float("nan"),
        epochs=[[r for r in records if r["kind"] == "epoch"] for records in finished],
        failed=[
            f"seed {seed} at step {records[-1]['step']}"
            for seed, records in sorted(runs.items())
            if records[-1]["kind"] == "failed"
        ],
    )


def _improvements(columns: Columns, row: np.ndarray, reference: np.ndarray) -> list[float]:
    """Every task's Δp; NaN where the baseline is not known, or 0: nothing is relative to that."""
    tasks = zip(
        columns.per_task(row), columns.per_task(reference), columns.higher_is_better, strict=True
    )
    return [dbmtl.delta_p([v], [r], [h]) if all(r) else float("nan") for v, r, h in tasks]
