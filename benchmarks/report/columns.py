"""What the figures of a folder's runs are of: tasks, metrics, directions, units, headings."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.data import qm9
from benchmarks.data.vision import specs
from benchmarks.errors import UserError

SAMPLE = "sample data"


class Metric(NamedTuple):
    """One column."""

    task: int
    name: str
    """in the runs' files"""
    higher_is_better: bool
    title: str
    unit: str
    """"" where there is none"""
    scale: float
    """from the files' figures to the shown ones"""

    @property
    def heading(self) -> str:
        """With unit and an arrow to the better side."""
        return f"{with_unit(self.title, self.unit)} {'↑' if self.higher_is_better else '↓'}"


@dataclasses.dataclass(frozen=True)
class Columns:
    """The same for all runs of a folder, read from the first record of each."""

    dataset: str
    tasks: tuple[str, ...]
    metrics: tuple[tuple[str, ...], ...]
    """their names, for every task"""
    higher_is_better: tuple[tuple[bool, ...], ...]
    """for every metric of every task"""
    sample_data: bool = False
    """rendered by `make-sample`: whatever is shown must say so"""
    network: str | None = None

    @property
    def title(self) -> str:
        """The data set as people write it, marked where it is a sample."""
        return marked(dataset_title(self.dataset), self.sample_data)

    @functools.cached_property
    def flat(self) -> tuple[Metric, ...]:
        """All metrics, task by task: the order of the columns."""
        return tuple(
            Metric(task, name, higher, *_shown(self.dataset, self.tasks[task], name))
            for task, (names, directions) in enumerate(
                zip(self.metrics, self.higher_is_better, strict=True)
            )
            for name, higher in zip(names, directions, strict=True)
        )

    @property
    def one_metric(self) -> str | None:
        """The metric's title where every task has that one alone, as in QM9 and Office."""
        titles = {metric.title for metric in self.flat}
        alone = all(len(names) == 1 for names in self.metrics)
        return titles.pop() if alone and len(titles) == 1 else None

    @property
    def has_average(self) -> bool:
        """Whether a mean over tasks makes sense: they share one metric, which has no unit."""
        return self.one_metric is not None and self.flat[0].unit == "%"

    @property
    def task_titles(self) -> list[str]:
        """The tasks as the paper writes them."""
        return [_TASKS.get(task, task) for task in self.tasks]

    @property
    def metric_titles(self) -> list[str]:
        """Every metric in full, for figures: its task, itself, its unit, the better side."""
        tasks = self.task_titles
        if self.one_metric:
            return [m._replace(title=tasks[m.task]).heading for m in self.flat]
        return [f"{tasks[m.task]}: {m.heading}" for m in self.flat]

    @property
    def losses(self) -> list[str]:
        """What is minimised for every task; "" where it is not known."""
        losses = [_LOSSES.get(task, _LOSSES.get(self.dataset, "")) for task in self.tasks]
        return [
            f"{loss}, m" if self.dataset == "nyuv2" and "absolute" in loss else loss
            for loss in losses
        ]

    def flatten(self, values: Sequence[Sequence[Any]], where: str = "") -> np.ndarray:
        """A run's metrics per task as one row [M]; NaN for null.

        Raises:
          UserError: naming `where`, if these are not the metrics.
        """
        found = [len(task) for task in values]
        expected = [len(names) for names in self.metrics]
        if found != expected:
            raise UserError(f"{where}: expected {expected} metrics of the tasks, found {found}")
        return np.array([value for task in values for value in task], float)

    def per_task(self, row: np.ndarray) -> list[list[float]]:
        """The reverse of `flatten`."""
        ends = np.cumsum([len(names) for names in self.metrics])[:-1]
        return [part.tolist() for part in np.split(np.asarray(row, float), ends)]


QM9 = Columns(
    "qm9", qm9.TASKS, (("MAE",),) * len(qm9.TASKS), ((False,),) * len(qm9.TASKS), network=None
)
"""What files say that were written before they told."""


def read(start: Mapping[str, Any], where: str) -> Columns:
    """The columns that a run's first record names.

    Without a data set it is QM9's, as is what is missing there.

    Raises:
      UserError: naming `where`, if something is missing or does not match.
    """
    dataset = start.get("dataset", QM9.dataset)
    fields: dict[str, Any] = {}
    for name in ("tasks", "metrics", "higher_is_better"):
        if name in start:
            fields[name] = _tuples(start[name])
        elif dataset == QM9.dataset:
            fields[name] = getattr(QM9, name)
        else:
            raise UserError(f"{where}: its first record has no {name!r}")
    lengths = [[len(names) for names in fields[n]] for n in ("metrics", "higher_is_better")]
    if len(fields["tasks"]) != len(lengths[0]) or lengths[0] != lengths[1] or 0 in lengths[0]:
        raise UserError(
            f"{where}: expected a metric and its direction for each of {len(fields['tasks'])} "
            f"tasks, found {lengths[0]} metrics and {lengths[1]} directions"
        )
    return Columns(
        dataset,
        **fields,
        sample_data=bool(start.get("sample_data", False)),
        network=start.get("network"),
    )


def agreed(found: Mapping[str, Columns]) -> Columns:
    """What all runs of a folder say.

    A network that is not named agrees with any.

    Args:
      found: run -> its columns; for none at all QM9's are returned.

    Raises:
      UserError: naming the first run that differs, and in what.
    """
    if not found:
        return QM9
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
    """The text; of sample data it says so, if it did not already."""
    if not sample_data or SAMPLE in text.lower():
        return text
    return f"{text.rstrip('.')} ({SAMPLE})".strip()


def dataset_title(name: str) -> str:
    """A data set as people write it."""
    return _DATASETS.get(name, name)


def with_unit(title: str, unit: str) -> str:
    """Both, or the title where there is no unit."""
    return f"{title} ({unit})" if unit else title


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


_DATASETS = {"qm9": "QM9"} | {name: s.title for name, s in (specs.DENSE | specs.OFFICE).items()}
_TASKS = {
    "mu": "μ", "alpha": "α", "eps_HOMO": "ε HOMO", "eps_LUMO": "ε LUMO", "R2": "⟨R²⟩",
    "segmentation": "Segmentation", "depth": "Depth", "normals": "Normals",
    "amazon": "Amazon", "dslr": "DSLR", "webcam": "Webcam",
    "Art": "Artistic", "Real_World": "Real",
}  # fmt: skip
_LOSSES = {
    "qm9": "normalised MSE",
    "segmentation": "cross-entropy",
    "depth": "mean absolute error",
    "normals": "1 − mean cosine",
    "office31": "cross-entropy",
    "officehome": "cross-entropy",
}
"""By task, or else by data set."""

_QM9_UNITS = dict(zip(qm9.TASKS, qm9.UNITS, strict=True))
_UNIT_SYMBOLS = {"a0^3": "a₀³", "a0^2": "a₀²"}
_METRICS = {
    "mIoU": ("mIoU", "%"),
    "PAcc": ("PAcc", "%"),
    "Acc": ("accuracy", "%"),
    "mean": ("mean angle", "°"),
    "median": ("median angle", "°"),
}
"""Titles and units; the files hold shares, which are shown in percent."""


def _shown(dataset: str, task: str, metric: str) -> tuple[str, str, float]:
    """Title, unit and scale of a metric."""
    if dataset == "qm9":
        unit = _QM9_UNITS.get(task, "")
        return metric, _UNIT_SYMBOLS.get(unit, unit), 1.0
    if metric == "AErr" and dataset == "nyuv2":  # Cityscapes has disparities, without a unit
        return metric, "m", 1.0
    if metric.startswith("<"):
        return f"within {metric[1:]}°", "%", 100.0
    title, unit = _METRICS.get(metric, (metric, ""))
    return title, unit, 100.0 if unit == "%" else 1.0
