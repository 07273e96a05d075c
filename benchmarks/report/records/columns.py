"""The columns of tables of results: tasks, metrics, directions, units and headings."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.errors import UserError
from benchmarks.files.expected import check_present
from benchmarks.problems import datasets
from benchmarks.problems.dataset import Description
from benchmarks.run_log import Records

SAMPLE = "sample data"
"""The words that mark results on rendered sample data."""

MOST = 200
"""The largest number of metrics: figures have no room for more."""

_NEEDED = {"epoch": ("losses", "step"), "result": ("steps_per_second",), "failed": ("step",)}
"""The fields without which there is no report, by the kind of the record."""


class Metric(NamedTuple):
    """A column of a table: one metric of one task."""

    task: int
    """index of the task"""
    name: str
    """name in the files of the runs"""
    higher_is_better: bool
    """whether higher values are better"""
    title: str
    """name in tables and plots"""
    unit: str
    """unit in tables and plots; empty if there is none"""
    scale: float
    """factor from the values in the files to those in tables and plots"""

    @property
    def heading(self) -> str:
        """The title with the unit and an arrow in the better direction."""
        return f"{with_unit(self.title, self.unit)} {'↑' if self.higher_is_better else '↓'}"


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a folder, from the first record of a run; all its runs must have the same."""

    dataset: str
    """name of the data set"""
    tasks: tuple[str, ...]
    """names of the tasks"""
    metrics: tuple[tuple[str, ...], ...]
    """names of the metrics of every task"""
    higher_is_better: tuple[tuple[bool, ...], ...]
    """whether higher values are better, for every metric of every task"""
    sample_data: bool = False
    """whether the data are rendered by `make-sample`, which tables and plots must say"""
    network: str | None = None
    """name of the network; None if not recorded"""

    @property
    def title(self) -> str:
        """The title of the data set, marked if it is sample data."""
        return marked(self.description.title, self.sample_data)

    @property
    def description(self) -> Description:
        """The words for the data set."""
        return datasets.describe(self.dataset)

    @functools.cached_property
    def flat(self) -> tuple[Metric, ...]:
        """All metrics in the order of the columns, task by task."""
        return tuple(
            Metric(task, name, higher, *self.description.metric(self.tasks[task], name))
            for task, (names, directions) in enumerate(
                zip(self.metrics, self.higher_is_better, strict=True)
            )
            for name, higher in zip(names, directions, strict=True)
        )

    @property
    def one_metric(self) -> str | None:
        """The title of the only metric, if all tasks have the same one (QM9, Office), else None."""
        titles = {metric.title for metric in self.flat}
        alone = all(len(names) == 1 for names in self.metrics)
        return titles.pop() if alone and len(titles) == 1 else None

    @property
    def has_average(self) -> bool:
        """Whether to show a mean over tasks: if they have the same metric, in percent."""
        return self.one_metric is not None and self.flat[0].unit == "%"

    @property
    def task_titles(self) -> list[str]:
        """The names of the tasks as in the paper."""
        return [self.description.tasks.get(task, task) for task in self.tasks]

    @property
    def metric_titles(self) -> list[str]:
        """The headings of all metrics for plots: task, metric, unit and better direction."""
        tasks = self.task_titles
        if self.one_metric:
            return [m._replace(title=tasks[m.task]).heading for m in self.flat]
        return [f"{tasks[m.task]}: {m.heading}" for m in self.flat]

    @property
    def losses(self) -> list[str]:
        """The name of the loss of every task; empty if not known."""
        return list(map(self.description.loss, self.tasks))

    def flatten(self, values: Sequence[Sequence[Any]], where: str = "") -> np.ndarray:
        """Converts the metrics of a run, a list per task, to a row [M], with NaN for null.

        Raises:
          UserError: if the numbers of metrics do not match; the message names `where`.
        """
        self._check_lengths(values, [len(names) for names in self.metrics], "metrics", where)
        return np.array([value for task in values for value in task], float)

    def check(self, records: Records, where: str) -> None:
        """Checks that the records of a run have values for these columns, and what reports need.

        Raises:
          UserError: otherwise; the message begins with `where` and the number of the line.
        """
        tasks = len(self.tasks)
        for line, record in enumerate(records, start=1):
            at, kind = f"{where}, line {line}", record["kind"]
            check_present(record, _NEEDED.get(kind, ()), at)
            if kind not in ("epoch", "result"):
                continue
            for name in ("validation", "test"):
                values = record.get(name)
                if values or (name == "test" and values is not None):
                    self.flatten(values, f"{at}: {name}")
            for name in ("losses", "gradient_norms", "cosine_similarity"):
                if (values := record.get(name)) is not None and len(values) != tasks:
                    raise UserError(
                        f"{at}: {name}: expected {tasks}, one for each task, found {len(values)}"
                    )
            if cosines := record.get("cosine_similarity"):
                self._check_lengths(cosines, [tasks] * tasks, "cosines", at)

    @staticmethod
    def _check_lengths(
        values: Sequence[Sequence[Any]], expected: list[int], what: str, where: str
    ) -> None:
        found = [len(task) for task in values]
        if found != expected:
            raise UserError(f"{where}: expected {expected} {what} of the tasks, found {found}")

    def per_task(self, row: np.ndarray) -> list[list[float]]:
        """The inverse of `flatten`."""
        ends = np.cumsum([len(names) for names in self.metrics])[:-1]
        return [part.tolist() for part in np.split(np.asarray(row, float), ends)]


NONE = Columns("", (), (), ())
"""The columns of a folder without a run that has ended."""


def read(start: Mapping[str, Any], where: str) -> Columns:
    """Reads the columns from the first record of a run.

    Raises:
      UserError: if an entry is missing or does not match; the message names `where`.
    """
    if not start:
        raise UserError(f'{where}: expected a record of the kind "start" first, found none')
    check_present(start, ("dataset", "tasks", "metrics", "higher_is_better"), where)
    fields = {name: _tuples(start[name]) for name in ("tasks", "metrics", "higher_is_better")}
    lengths = [[len(names) for names in fields[n]] for n in ("metrics", "higher_is_better")]
    if not 1 <= sum(lengths[0]) <= MOST:
        raise UserError(f"{where}: expected 1 to {MOST} metrics, found {sum(lengths[0])}")
    if len(fields["tasks"]) != len(lengths[0]) or lengths[0] != lengths[1] or 0 in lengths[0]:
        raise UserError(
            f"{where}: expected a metric and its direction for each of {len(fields['tasks'])} "
            f"tasks, found {lengths[0]} metrics and {lengths[1]} directions"
        )
    return Columns(
        start["dataset"],
        **fields,
        sample_data=bool(start.get("sample_data", False)),
        network=start.get("network"),
    )


def agreed(found: Mapping[str, Columns]) -> Columns:
    """Returns the columns of a folder if all runs have the same.

    A run without the name of its network agrees with any network.

    Args:
      found: run -> its columns; not empty.

    Raises:
      UserError: if runs differ; the message names the first such run and the difference.
    """
    (first_run, first), *others = found.items()
    named, network = first_run, first.network
    for run, columns in others:
        if network is None:
            named, network = run, columns.network
        expected = dataclasses.replace(first, network=columns.network and network)
        for field in dataclasses.fields(Columns):
            theirs, ours = getattr(columns, field.name), getattr(expected, field.name)
            if theirs != ours:
                other = named if field.name == "network" else first_run
                raise UserError(
                    f"{run}: {field.name} is {theirs!r} there and {ours!r} in {other}; "
                    "the runs of one folder must be of the same"
                )
    return dataclasses.replace(first, network=network)


def marked(text: str, sample_data: bool) -> str:
    """Adds "sample data" to a text about sample data, unless it already contains these words."""
    if not sample_data or SAMPLE in text.lower():
        return text
    return f"{text.rstrip('.')} ({SAMPLE})".strip()


def with_unit(title: str, unit: str) -> str:
    """The title with the unit in parentheses, if there is one."""
    return f"{title} ({unit})" if unit else title


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
