"""The single-task networks of the baseline, trained some at a time.

All at once, as `compare` trains them, they have the largest state of all runs. As they do not know
of each other, groups of them can be runs of their own, whose records are joined to those of one.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import run_log
from benchmarks.errors import UserError
from benchmarks.methods import BASELINE
from benchmarks.problems.qm9 import TASKS
from benchmarks.settings import Comparison
from benchmarks.training import runs

Records = list[dict[str, Any]]

_SUMS = ("num_parameters", "seconds")


def train(
    config: Comparison, at_once: int, work: Callable[[Comparison, Sequence[int]], runs.Work]
) -> None:
    """Trains the baseline of all seeds in groups, each in a folder, and joins their records.

    Args:
      config: what to train.
      at_once: number of networks in a group.
      work: (comparison, tasks) -> what trains the single-task networks of these tasks.
    """
    tasks = range(len(TASKS))
    groups = {
        config.out / f"{BASELINE}-tasks-{first}": tasks[first : first + at_once]
        for first in tasks[::at_once]
    }
    for folder, own in groups.items():
        if not all(run_log.is_complete(_records(folder, seed)) for seed in range(config.seeds)):
            group = dataclasses.replace(config, out=folder, methods=(BASELINE,))
            runs.train_missing(work(group, own))
    for seed in range(config.seeds):
        try:
            records = joined([_records(folder, seed) for folder in groups])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{config.out}: the records of {', '.join(folder.name for folder in groups)} with "
                f"seed {seed} are not of the same training ({error})"
            ) from error
        text = "".join(json.dumps(record) + "\n" for record in records)
        run_log.write_file(run_log.run_path(config.out, BASELINE, seed), text)


def joined(groups: Sequence[Records]) -> Records:
    """The records of one run from those of groups of its networks, in the order of the tasks.

    The seconds are those of all groups one after the other. A run of which one group failed has
    failed.
    """
    for records in groups:
        if records[-1]["kind"] == "failed":
            return [_joined([group[0] for group in groups]), records[-1]]
    return [_joined(same) for same in zip(*groups, strict=True)]


def _joined(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {key: _value(key, [record[key] for record in records]) for key in records[0]}


def _value(key: str, values: Sequence[Any]) -> Any:
    if key in _SUMS:
        return sum(values)
    if key == "steps_per_second":
        return 1 / sum(1 / value for value in values)
    if isinstance(values[0], list):  # an item for each task
        return [item for value in values for item in value]
    return values[0]


def _records(folder: pathlib.Path, seed: int) -> Records:
    return run_log.read_run(run_log.run_path(folder, BASELINE, seed))
