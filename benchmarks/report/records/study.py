"""A study: all runs of a folder and their settings."""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from benchmarks import examples_file, initial_weights, run_log, step_times
from benchmarks.methods import order
from benchmarks.problems import datasets
from benchmarks.report.records import results, setting
from benchmarks.report.records.columns import Columns, marked
from benchmarks.report.records.results import Outcome, Records
from benchmarks.step_times import StepTimes


@dataclasses.dataclass(frozen=True)
class Study:
    """The content of a folder of results, which is read once."""

    folder: pathlib.Path
    """the folder"""
    settings: Mapping[str, Any]
    """content of config.json; empty if there is no such file"""
    runs: Mapping[str, Mapping[int, Records]]
    """runs that have ended: method -> seed -> records"""
    outcomes: list[Outcome]
    """results of each method"""
    unfinished: list[str]
    """runs that have begun but not ended"""
    step_times: StepTimes | None
    """times of training steps, if they were measured in turns"""
    left_out: list[str] = dataclasses.field(default_factory=list)
    """a line on each file that is named like a run, and cannot be read as one"""

    @property
    def columns(self) -> Columns:
        """The columns of the tables."""
        return results.columns_of(self.outcomes)

    @property
    def dataset(self) -> str:
        """The name of the data set, even if nothing was trained."""
        name: str = self.columns.dataset if self.outcomes else self.settings.get("dataset", "")
        return name

    @property
    def sample_data(self) -> bool:
        """Whether the data are rendered sample data."""
        timed = self.step_times is not None and self.step_times.sample_data
        return self.columns.sample_data if self.outcomes else timed

    @property
    def title(self) -> str:
        """The data set and network, marked if the data are sample data."""
        network = setting.data(self.settings).get("network") or self.columns.network
        description = datasets.describe(self.dataset)
        shown = [description.network(network)] if network and description.networks else []
        return marked(", ".join([description.title, *shown]), self.sample_data)

    @functools.cached_property
    def provenance(self) -> str:
        """The data, preset, length of training, number of seeds and initial weights in one line."""
        data = "rendered sample data" if self.sample_data else "real data"
        network = setting.data(self.settings).get("network") or self.columns.network
        description = datasets.describe(self.dataset)
        name = f"{description.title} ({data})"
        steps = {
            r[-1]["steps"] for seeds in self.runs.values() for r in seeds.values()
            if "steps" in r[-1]
        }  # fmt: skip
        counts = sorted({len(outcome.test) for outcome in self.outcomes} - {0}) or [0]
        seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        said = f"{name}, {description.network(network)}" if network else name
        began = f"; {self._initial_weights}" if self._initial_weights else ""
        if not self.outcomes:
            preset = self.settings.get("preset", "unknown")
            return f"{said}, preset {preset}; nothing trained{began}"
        protocol = setting.protocol(self.settings, max(steps, default=None))
        return f"{said}, {protocol}; {seeds} seed{'' if seeds == '1' else 's'}{began}"

    @functools.cached_property
    def _initial_weights(self) -> str:
        """What the networks began with; several if the runs differ."""
        assumed = initial_weights.of_settings(self.settings)
        starts = [r[0] for seeds in self.runs.values() for r in seeds.values()]
        found = [start.get("initial_weights", assumed) for start in starts] or [assumed]
        return " and ".join(dict.fromkeys(filter(None, map(initial_weights.text, found))))

    @property
    def environment(self) -> list[str]:
        """The device, versions and commit of the runs; several lines if they differ."""
        found = collections.Counter(
            _environment_line(record["environment"])
            for seeds in self.runs.values()
            for records in seeds.values()
            for record in records[:1]
            if "environment" in record
        )
        if not found and self.step_times is not None:
            return [_environment_line(self.step_times.environment)]
        if len(found) == 1:
            return list(found)
        return [f"{line} ({count} runs)" for line, count in found.items()]

    @property
    def notes(self) -> list[str]:
        """Notes that readers of the results need."""
        waiting = f"Not finished, and left out: {', '.join(self.unfinished)}."
        return [
            *setting.notes(self.settings),
            *[waiting] * bool(self.unfinished),
            *(f"Left out: {line}." for line in self.left_out),
        ]

    def find(self, method: str) -> Outcome | None:
        """The outcome of a method, even if all of its runs failed; None if it has no runs."""
        return next((o for o in self.outcomes if o.method == method), None)

    def examples(self) -> dict[str, pathlib.Path]:
        """The file of examples of each method, from the first seed that has one."""
        found = {}
        for method, seeds in sorted(self.runs.items(), key=lambda run: order(run[0])):
            paths = (examples_file.path(self.folder, method, seed) for seed in sorted(seeds))
            first = next((path for path in paths if path.exists()), None)
            if first is not None:
                found[method] = first
        return found


def load(folder: pathlib.Path) -> Study:
    """Reads a folder of results.

    A file that is not a run is left out, and so is a run whose records do not go together.

    Raises:
      UserError: if another file is damaged, or the runs do not match each other.
    """
    found = run_log.read_folder(folder)
    runs, odd = results.consistent(found.runs)
    times = step_times.read(folder)
    return Study(
        folder=folder,
        settings=run_log.read_settings(folder) or {},
        runs=runs,
        outcomes=results.outcomes(runs, times),
        unfinished=found.unfinished,
        step_times=times,
        left_out=[*found.left_out, *odd],
    )


def is_study(folder: pathlib.Path) -> bool:
    """Whether a folder contains runs."""
    return bool(run_log.run_files(folder))


def _environment_line(environment: Mapping[str, Any]) -> str:
    versions = environment.get("versions", {})
    said = [
        f"{environment.get('device_count', 1)} × {environment.get('device', 'unknown device')}",
        f"{environment.get('cpu_count', '?')} CPU cores",
        f"Python {environment.get('python', '?')}",
        *(f"{name} {version}" for name, version in versions.items()),
        f"commit {environment.get('commit') or 'unknown'}",
    ]
    return ", ".join(said)
