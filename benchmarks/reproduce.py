"""`python -m benchmarks reproduce`: makes the tables and figures of the paper."""

import contextlib
import dataclasses
import math
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import compare, initial_weights, run_log, step_times, terminal_table
from benchmarks.config import Compare, MakeSample, Prepare, Reproduce
from benchmarks.errors import UserError
from benchmarks.methods import BASELINE, for_network
from benchmarks.problems import datasets
from benchmarks.problems.image_settings import ImageConfig
from benchmarks.report import rendered
from benchmarks.report.command import print_written
from benchmarks.report.paper import exhibits
from benchmarks.report.paper.catalogue import CATALOGUE, EXHIBITS, StudyName
from benchmarks.report.records.choice import BETA_GRID
from benchmarks.terminal_table import Column

_MEASURED = (BASELINE, "ew", "db_mtl")
"""The methods that `--measure` times. All methods that use task gradients take about as long as
DB-MTL."""


class Part(NamedTuple):
    """The runs of one study that an exhibit (a table or figure) needs."""

    study: StudyName
    """data set and network"""
    methods: tuple[str, ...]
    """names of the methods"""
    timed: bool
    """whether the training steps are only timed"""


def reproduce(config: Reproduce, console: Console) -> None:
    """Trains the missing runs of the named exhibits, then writes the exhibits.

    Raises:
      UserError: for an unknown name or a number that cannot be, or if data are missing and sample
        data are not allowed.
    """
    for option, value, low in (("rounds", config.rounds, 1), ("measure", config.measure, 0)):
        if value < low:
            raise UserError(f"--{option}: expected at least {low}, found {value}")
    plans = plan(config)
    if config.measure:
        for study in {part.study: None for parts in plans.values() for part in parts}:
            _measure(study, config, console)
    if config.list:
        console.print(listing(config, plans))
        return
    for part in (part for parts in plans.values() for part in parts):
        initial_weights.check(comparison(part.study, config))  # before hours of other studies
    for name, parts in plans.items():
        console.print(f"{name}: {EXHIBITS[name].title}", style="bold")
        for part in parts:
            _run(part, config, console)
        shown = exhibits.render(name, {p.study.key: config.out / p.study.key for p in parts})
        print_written(rendered.write(shown, config.out), console)


def plan(config: Reproduce) -> dict[str, list[Part]]:
    """The runs that every named exhibit needs.

    If a data set is not prepared, QM9 or sample data replace it, except with the preset "paper".
    """
    if not config.names:
        raise UserError(f"name one or more of all, {', '.join(EXHIBITS)}")
    names = list(CATALOGUE) if "all" in config.names else list(dict.fromkeys(config.names))
    for name in names:
        if name not in EXHIBITS:
            raise UserError(f"unknown {name!r}: expected all or some of {', '.join(EXHIBITS)}")
    if config.seeds < 1:
        raise UserError(f"--seeds: expected at least 1, found {config.seeds}")
    plans = {name: _parts(name, config) for name in names}
    if "all" in config.names:
        plans = {name: parts for name, parts in plans.items() if parts}
    for name, parts in plans.items():
        if not parts:
            raise UserError(f"{name}: the preset {config.preset} has QM9 alone, choose another one")
    return plans


def _parts(name: str, config: Reproduce) -> list[Part]:
    exhibit = EXHIBITS[name]
    missing = [s for s in exhibit.studies if not _prepared(s, config.data_dir)]
    if config.preset == "paper" and missing:
        raise UserError(
            f"{name} needs {missing[0].dataset}, which is not prepared in {config.data_dir}: run "
            f"`python -m benchmarks prepare {missing[0].dataset} --source FOLDER --out "
            f"{config.data_dir}` first; --preset quick does without"
        )
    studies: Iterable[StudyName] = exhibit.offline if missing else exhibit.studies
    if config.preset not in ("quick", "paper"):
        studies = [s for s in exhibit.offline if config.preset in datasets.find(s.dataset).presets]
    search = exhibit.searched and (config.preset == "paper" or config.search_beta)

    def methods(study: StudyName) -> tuple[str, ...]:
        shares = datasets.find(study.dataset).shares_representation(study.network)
        names = for_network(exhibit.methods, shares)
        if exhibit.timed:
            return tuple(method for method in names if method != BASELINE)
        searched = search and comparison(study, config).data.holds_out()
        return (*names, *BETA_GRID) if searched else tuple(names)

    return [Part(study, methods(study), exhibit.timed) for study in studies]


def _prepared(study: StudyName, data_dir: pathlib.Path) -> bool:
    return datasets.find(study.dataset).is_prepared(data_dir)


def comparison(study: StudyName, config: Reproduce, methods: Sequence[str] = ()) -> Compare:
    """The command `compare` that trains the methods of a study."""
    command = Compare.preset_of(datasets.find(study.dataset), config.preset, study.network)
    data = command.data
    if isinstance(data, ImageConfig):
        found = _prepared(study, config.data_dir)
        data = dataclasses.replace(
            data,
            data_dir=config.data_dir if found else _samples(config),
            from_scratch=config.from_scratch,
        )
        if config.weights is not None:
            weights = initial_weights.in_folder(config.weights, data.network)
            data = dataclasses.replace(data, weights=weights)
    return dataclasses.replace(
        command,
        data=data.holding_out() if config.hold_out else data,
        methods=tuple(methods),
        out=config.out / study.key,
        seeds=config.seeds,
        vmap_seeds=config.vmap_seeds,
        jobs=config.jobs,
        checkpoint_seconds=config.checkpoint_seconds,
    )


def _samples(config: Reproduce) -> pathlib.Path:
    return config.out / "samples"


def _run(part: Part, config: Reproduce, console: Console) -> None:
    """Trains or times the missing runs."""
    _make_sample(part.study, config, console)
    command = comparison(part.study, config, part.methods)
    if not part.timed:
        compare.run_missing(command, console)
    elif not set(part.methods) <= _timed(command.out).keys():
        compare.time_steps(command, config.rounds, console)


def _make_sample(study: StudyName, config: Reproduce, console: Console) -> None:
    """Renders and prepares sample data if the data set of the study is missing."""
    if _prepared(study, config.data_dir) or _prepared(study, _samples(config)):
        return
    from benchmarks.data import commands

    name: Any = study.dataset
    sample = datasets.find(name).sample
    if sample is None:
        return
    files = _samples(config) / "files" / name
    if not files.exists():
        commands.run(MakeSample(name, files, **sample._asdict()), console)
    commands.run(Prepare(name, files, _samples(config)), console)


def _timed(folder: pathlib.Path) -> Mapping[str, Any]:
    times = step_times.read(folder)
    return {} if times is None else times.methods


def _measure(study: StudyName, config: Reproduce, console: Console) -> None:
    """Times a training step of single-task learning, equal weighting and DB-MTL."""
    command = comparison(study, config, _MEASURED)
    if set(_MEASURED) <= _timed(command.out).keys():
        return
    _make_sample(study, config, console)
    compare.time_steps(command, config.measure, console)


def listing(config: Reproduce, plans: dict[str, list[Part]]) -> Table:
    """A table of the runs of each exhibit, how many are done, and the time that the rest takes."""
    sections = []
    for name, parts in plans.items():
        rows: list[tuple[str, ...]] = []
        for part in parts:
            done, total, seconds = _progress(part, config)
            key = part.study.key
            data = key if _prepared(part.study, config.data_dir) else f"{key} (sample data)"
            shown = ("", "") if rows else (name, EXHIBITS[name].title)
            rows.append((*shown, data, f"{done}/{total}", _duration(seconds)))
        sections.append(rows)
    return terminal_table.table(
        f"preset {config.preset}, {config.seeds} seeds, in {config.out}",
        ("", Column("shows"), Column("data"), "runs done", "time left"),
        sections,
        "Runs that several exhibits share are trained once. A ? is not known yet: --measure 3 "
        "times three steps.",
    )


def _progress(part: Part, config: Reproduce) -> tuple[int, int, float]:
    """The numbers of done and of all runs, and the seconds of the rest (NaN if not known)."""
    folder = config.out / part.study.key
    if part.timed:
        done = len(set(part.methods) & _timed(folder).keys())
        return done, len(part.methods), 0.0 if done == len(part.methods) else math.nan
    ends: dict[str, list[dict[str, Any]]] = {}
    for method in part.methods:
        for seed in range(config.seeds):
            with contextlib.suppress(UserError):  # a damaged record is none of a run that is done
                records = run_log.read_run(run_log.run_path(folder, method, seed))
                if run_log.is_complete(records):
                    ends.setdefault(method, []).append(records[-1])
    done = sum(map(len, ends.values()))
    costs = _costs(folder, ends, comparison(part.study, config).train.epochs)
    seconds = sum(
        (config.seeds - len(ends.get(method, ()))) * costs.get(method, costs.get("", math.nan))
        for method in part.methods
        if len(ends.get(method, ())) < config.seeds
    )
    return done, config.seeds * len(part.methods), seconds


def _costs(
    folder: pathlib.Path, ends: dict[str, list[dict[str, Any]]], epochs: int
) -> dict[str, float]:
    """The seconds of a run by method, from finished runs and timed steps; "" for other methods."""
    costs = {
        method: statistics.fmean(seconds)
        for method, records in ends.items()
        if (seconds := [r["seconds"] for r in records if r["kind"] == "result" and "seconds" in r])
    }
    trained = [cost for method, cost in costs.items() if method not in (BASELINE, "ew")]
    times = step_times.read(folder)
    if times is not None:
        steps = epochs * times.steps_per_epoch
        timed = {m: steps * t["milliseconds"] / 1e3 for m, t in times.methods.items()}
        costs = timed | costs
        trained = trained or [timed[m] for m in ("db_mtl",) if m in timed]
    if trained:
        costs[""] = statistics.median(trained)
    return costs


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
