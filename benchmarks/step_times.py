"""The times of a training step of every method, measured in turns."""

import json
import pathlib
import reprlib
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from benchmarks import methods, run_log
from benchmarks.files import expected, json_text
from benchmarks.files.expected import COUNT, FLAG, NAME, NUMBER, OBJECT, POSITIVE, optional

FILE = "step_times.json"


def measure(steps: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Times all steps in turns, so that a change in the machine's speed affects all of them alike.

    Args:
      steps: method -> function that takes a step and returns the arrays to wait for.
      rounds: number of timed steps of each method, after one warm-up step.

    Returns:
      method -> the median of its times in "milliseconds", and if "ew" is among the methods,
      "over_ew", the median of its ratios to the step of equal weighting in the same round.
    """
    from benchmarks.perf.timing import in_turns  # late, as reports do not need it

    times = in_turns(steps, rounds)
    record = {}
    for name, seconds in times.items():
        record[name] = {"milliseconds": 1e3 * statistics.median(seconds)}
        if "ew" in times:
            ratios = [a / b for a, b in zip(seconds, times["ew"], strict=True)]
            record[name]["over_ew"] = statistics.median(ratios)
    return record


def measure_reading(batches: Iterable[Any]) -> float:
    """The average time to read a batch in milliseconds; 0 if there are no batches."""
    begin = time.perf_counter()
    count = sum(1 for _ in batches)
    return 1e3 * (time.perf_counter() - begin) / max(count, 1)


class StepTimes(NamedTuple):
    """The measured times and the conditions of the measurement."""

    methods: Mapping[str, Mapping[str, float]]
    """the result of `measure`"""
    steps_per_epoch: int
    """number of training steps in an epoch"""
    sample_data: bool
    """whether the data are rendered sample data"""
    rounds: int
    """number of timed steps of each method"""
    environment: Mapping[str, Any]
    """software and hardware, see `run_log.environment`"""
    reading: float | None = None
    """time to read a batch in milliseconds, the result of `measure_reading`"""


def write(
    folder: pathlib.Path,
    times: Mapping[str, Mapping[str, float]],
    rounds: int,
    steps_per_epoch: int,
    *,
    sample_data: bool = False,
    reading: float | None = None,
) -> None:
    """Writes the times and the conditions of the measurement to the folder of the runs."""
    environment = run_log.environment()
    record = StepTimes(times, steps_per_epoch, sample_data, rounds, environment, reading)
    run_log.write_file(folder / FILE, json.dumps(record._asdict(), indent=2) + "\n")


def read(folder: pathlib.Path) -> StepTimes | None:
    """Reads the times that `write` has written; None if there are none.

    Raises:
      UserError: if the file is damaged.
    """
    path = folder / FILE
    found = json_text.read_object(path)
    if found is None:
        return None
    expected.check_present(found, tuple(name for name in _FIELDS if name != "reading"), str(path))
    expected.check_fields(found, _FIELDS, str(path))
    current = {}
    for name, figures in found["methods"].items():
        where = f"{path}: methods: {reprlib.repr(name)}"
        expected.check(name, NAME, where)
        methods.parse(name)
        expected.check(figures, OBJECT, where)
        expected.check_present(figures, ("milliseconds",), where)
        expected.check_fields(figures, _OF_METHOD, where)
        current[methods.current_name(name)] = figures
    fields = {name: found[name] for name in _FIELDS if name in found}
    return StepTimes(**fields | {"methods": current})


_FIELDS = {
    "methods": OBJECT,
    "steps_per_epoch": COUNT,
    "sample_data": FLAG,
    "rounds": COUNT,
    "environment": run_log.ENVIRONMENT,
    "reading": optional(NUMBER),
}
_OF_METHOD = {"milliseconds": POSITIVE, "over_ew": POSITIVE}
