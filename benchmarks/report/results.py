"""What the tables and plots show, computed from the records of a folder's runs."""

import csv
import dataclasses
import importlib.resources
import pathlib
from typing import Any

import numpy as np

import dbmtl_jax as dbmtl
from benchmarks import run_log, step_times
from benchmarks.data import qm9
from benchmarks.methods import BASELINE, display_name, order


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One method over its seeds."""

    method: str
    test: np.ndarray  # [seeds, T], the metrics of the tasks in their units
    delta_p: np.ndarray  # [seeds], percent; NaN without the baseline of that seed
    delta_p_per_task: np.ndarray  # [seeds, T]
    steps_per_second: float  # of its runs, or where all were timed in turns, from that
    epochs: list[list[dict[str, Any]]]  # the "epoch" records of every seed
    failed: list[str]  # for a seed that failed: at which step

    @property
    def name(self) -> str:
        """As the paper writes it."""
        return display_name(self.method)


def load(folder: pathlib.Path) -> list[Outcome]:
    """The outcomes of all methods with at least one run that came to an end, baseline first."""
    runs = run_log.read_folder(folder)
    baseline = {
        seed: np.array(records[-1]["test"], float)
        for seed, records in runs.get(BASELINE, {}).items()
        if records[-1]["kind"] == "result"
    }
    outcomes = [_outcome(method, runs[method], baseline) for method in sorted(runs, key=order)]
    times = step_times.read(folder)
    return [
        dataclasses.replace(o, steps_per_second=1e3 / times[o.method]["milliseconds"])
        if o.method in times
        else o
        for o in outcomes
    ]


def _outcome(
    method: str, runs: dict[int, list[dict[str, Any]]], baseline: dict[int, np.ndarray]
) -> Outcome:
    finished = {seed: r for seed, r in sorted(runs.items()) if r[-1]["kind"] == "result"}
    test = [np.array(records[-1]["test"], float) for records in finished.values()]
    per_task = []
    for seed, values in zip(finished, test, strict=True):
        reference = baseline.get(seed, np.full_like(values, np.nan))
        per_task.append(
            [
                dbmtl.delta_p([v], [r], [[False] * len(v)])
                for v, r in zip(values, reference, strict=True)
            ]
        )
    deltas = np.array(per_task).reshape(len(test), -1)
    return Outcome(
        method=method,
        test=np.array([values[:, 0] for values in test]),
        delta_p=deltas.mean(axis=1) if test else np.empty(0),
        delta_p_per_task=deltas,
        steps_per_second=float(
            np.median([records[-1]["steps_per_second"] for records in finished.values()])
        )
        if test
        else float("nan"),
        epochs=[
            [record for record in records if record["kind"] == "epoch"]
            for records in finished.values()
        ],
        failed=[
            f"seed {seed} at step {records[-1]['step']}"
            for seed, records in sorted(runs.items())
            if records[-1]["kind"] == "failed"
        ],
    )


def paper_table(name: str) -> dict[str, dict[str, str]]:
    """A table of the paper as printed: method -> column -> text."""
    resource = importlib.resources.files("benchmarks.report") / "paper" / f"{name}.csv"
    with resource.open(encoding="utf-8") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


SYMBOLS = {"mu": "μ", "alpha": "α", "eps_HOMO": "ε HOMO", "eps_LUMO": "ε LUMO", "R2": "⟨R²⟩"}
_UNIT_SYMBOLS = {"a0^3": "a₀³", "a0^2": "a₀²"}


def task_symbols() -> list[str]:
    """The tasks as the paper writes them."""
    return [SYMBOLS.get(task, task) for task in qm9.TASKS]


def task_titles() -> list[str]:
    """The tasks with their units, for headings."""
    units = [_UNIT_SYMBOLS.get(unit, unit) for unit in qm9.UNITS]
    return [f"{task} ({unit})" for task, unit in zip(task_symbols(), units, strict=True)]
