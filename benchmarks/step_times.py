"""The time of a training step of every method, measured in turns."""

import json
import pathlib
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from benchmarks import methods, run_log
from benchmarks.errors import UserError

FILE = "step_times.json"


def measure(steps: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Times all steps in turns, so that a change in the machine's speed falls on all of them.

    Args:
      steps: method -> a step, which returns the arrays to wait for.
      rounds: timed steps of each, after one that is not counted.

    Returns:
      method -> the median of its times in "milliseconds", and where "ew" is among them, "over_ew",
      the median of its ratios to equal weighting's step of the same round.
    """
    from benchmarks.perf.timing import in_turns  # reports read times without what trains

    times = in_turns(steps, rounds)
    record = {}
    for name, seconds in times.items():
        record[name] = {"milliseconds": 1e3 * statistics.median(seconds)}
        if "ew" in times:
            ratios = [a / b for a, b in zip(seconds, times["ew"], strict=True)]
            record[name]["over_ew"] = statistics.median(ratios)
    return record


def measure_reading(batches: Iterable[Any]) -> float:
    """Milliseconds to read a batch when nothing else is to be done; where there are none, 0."""
    begin = time.perf_counter()
    count = sum(1 for _ in batches)
    return 1e3 * (time.perf_counter() - begin) / max(count, 1)


class StepTimes(NamedTuple):
    """What was measured, and on what."""

    methods: Mapping[str, Mapping[str, float]]
    """as `measure` returns them"""
    steps_per_epoch: int
    sample_data: bool
    rounds: int
    environment: Mapping[str, Any]
    reading: float | None = None
    """milliseconds, as `measure_reading` returns them"""


def write(
    folder: pathlib.Path,
    times: Mapping[str, Mapping[str, float]],
    rounds: int,
    steps_per_epoch: int,
    *,
    sample_data: bool = False,
    reading: float | None = None,
) -> None:
    """Records the times, and what they were measured on, beside the runs."""
    environment = run_log.environment()
    record = StepTimes(times, steps_per_epoch, sample_data, rounds, environment, reading)
    run_log.write_file(folder / FILE, json.dumps(record._asdict(), indent=2) + "\n")


def read(folder: pathlib.Path) -> StepTimes | None:
    """What `write` recorded; None where nothing was.

    Raises:
      UserError: if the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        times = StepTimes(**json.loads(path.read_text(encoding="utf-8")))
        current = {methods.current_name(name): figures for name, figures in times.methods.items()}
        return times._replace(methods=current)
    except (json.JSONDecodeError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the times of steps ({error})") from error
