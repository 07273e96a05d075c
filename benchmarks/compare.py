"""`python -m benchmarks compare`: trains methods and compares them in a table and plots."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh
from rich.console import Console

from benchmarks import methods, run_log, step_times
from benchmarks.config import Compare, DenseConfig, QM9Config
from benchmarks.data.vision import specs
from benchmarks.errors import UserError
from benchmarks.methods import BASELINE
from benchmarks.problems.problem import Metrics, Problem
from benchmarks.problems.qm9 import QM9Problem
from benchmarks.progress import Progress
from benchmarks.report import command as report
from benchmarks.report import terminal
from benchmarks.schedule import Schedule
from benchmarks.scores import delta_p_per_task
from benchmarks.training import distributed, mesh
from benchmarks.training.checkpoints import Checkpoints
from benchmarks.training.checkpoints import path as checkpoint_path
from benchmarks.training.programs import MethodFactory, Programs
from benchmarks.training.trainer import Trainer
from benchmarks.training.validation import Result, Run

_NO_MORE = "no more"
"""The message with which process 0 ends the work of the other processes."""


def compare(config: Compare, console: Console) -> None:
    """Trains the missing runs of a folder of results, then writes its report."""
    distributed.initialize(config)
    if distributed.is_first():
        run_missing(config, console)
        render(config, console)
    else:
        follow(config)


def run_missing(config: Compare, console: Console) -> None:
    """Trains the missing runs of a folder of results."""
    config = dataclasses.replace(config, methods=methods.spelt_out(config.methods))
    schedule = _schedule(config)
    run_log.open_folder(config.out, config.settings())
    missing = schedule.left()
    if not missing:
        console.print(f"all runs are complete in {config.out}")
    if missing or config.time_steps:
        problem = open_problem(config, console)

        @functools.lru_cache(maxsize=1)  # a method's programs are compiled once for all seeds
        def trainer(method: str) -> Trainer:
            return Trainer(_programs(method, problem, config))

        def train(method: str, logs: dict[int, run_log.RunLog]) -> None:
            _train(method, logs, config, trainer, console)

        schedule.run(train, console.print)
        distributed.agree(_NO_MORE)
        if config.time_steps:
            _time_steps(config, config.time_steps, problem, console)


def follow(config: Compare) -> None:
    """Trains the runs that process 0 announces; only process 0 prints and writes results."""
    console = Console(quiet=True)
    problem = functools.cache(lambda: open_problem(config, console))
    trainer = functools.lru_cache(1)(lambda method: Trainer(_programs(method, problem(), config)))
    while (work := distributed.agree(None)) != _NO_MORE:
        method, seeds = work
        runs = [
            Run(seed, None if baseline is None else Result(*baseline), run_log.MutedLog())
            for seed, baseline in seeds
        ]
        _train_runs(method, runs, config, trainer, console)


def time_steps(config: Compare, rounds: int, console: Console) -> None:
    """Times a training step of every method in turns, and writes the times to the folder."""
    run_log.open_folder(config.out, config.settings())
    _time_steps(config, rounds, open_problem(config, console), console)


def open_problem(config: Compare, console: Console) -> Problem:
    """Opens the data set of the configuration."""
    data, batch_size = config.data, config.train.batch_size
    if isinstance(data, QM9Config):
        console.print(f"reading QM9 ({data.source}) ...")
        return QM9Problem(data, batch_size, compute_dtype=config.train.compute_dtype)
    if config.train.compute_dtype != "float32":
        raise UserError(
            f"--train.compute-dtype: expected float32 for {config.dataset}, as only QM9's network "
            f"has been compared with it, found {config.train.compute_dtype}"
        )
    name: Any = config.dataset
    problem: Problem
    try:
        # Imported late, as QM9 does not need the packages for images.
        if isinstance(data, DenseConfig):
            from benchmarks.problems.dense import DenseProblem

            problem = DenseProblem(name, data, batch_size)
        else:
            from benchmarks.problems.office import OfficeProblem

            problem = OfficeProblem(name, data, batch_size)
    except ModuleNotFoundError as error:
        raise UserError(
            f"image data need the package {error.name}, which is not installed: {specs.INSTALL}"
        ) from error
    if problem.is_sample:
        console.print(f"{name} in {data.data_dir} is sample data, not the real data set")
    if data.weights is None:
        console.print(f"{data.network} starts from scratch: no --weights")
    return problem


def render(config: Compare, console: Console) -> None:
    """Prints the table of a folder of results and writes its report."""
    study = report.load(config.out)
    console.print(terminal.table(study.outcomes, report.title(study)))
    for note in study.notes:
        console.print(note, style="italic")
    report.print_written(report.write_study(study), console)


def _schedule(config: Compare) -> Schedule:
    """Checks the options and returns the schedule of the runs."""
    for method in config.methods:
        methods.check(method)
    if config.seeds < 1:
        raise UserError(f"--seeds: expected at least 1, found {config.seeds}")
    if not config.checkpoint_seconds >= 0:
        raise UserError(
            f"--checkpoint-seconds: expected 0 or more, found {config.checkpoint_seconds}"
        )
    _mesh(config)
    schedule = Schedule(config.out, config.methods, range(config.seeds), config.vmap_seeds)
    schedule.check_baselines()
    return schedule


def _train(
    method: str,
    logs: dict[int, run_log.RunLog],
    config: Compare,
    make_trainer: Callable[[str], Trainer],
    console: Console,
) -> None:
    """Trains several seeds of a method together."""
    runs = []
    for seed, log in logs.items():
        baseline = None if method == BASELINE else _baseline(config, seed)
        if method != BASELINE and baseline is None:
            console.print(f"{method}, seed {seed}: left out, as its baseline failed")
        else:
            runs.append(Run(seed, baseline, log))
    if runs:
        distributed.agree([method, [(run.seed, run.baseline) for run in runs]])
        _train_runs(method, runs, config, make_trainer, console)


def _train_runs(
    method: str,
    runs: list[Run],
    config: Compare,
    make_trainer: Callable[[str], Trainer],
    console: Console,
) -> None:
    seeds = [run.seed for run in runs]
    several = len(seeds) > 1
    numbers = ", ".join(map(str, seeds))
    name = f"{methods.display_name(method)}, seed{'s' if several else ''} {numbers}"
    saved = Checkpoints(checkpoint_path(config.out, method, seeds), config.checkpoint_seconds)
    trainer = make_trainer(method)
    better = trainer.programs.problem.higher_is_better
    with Progress(console, name) as progress:
        results = trainer.run(runs, progress, saved)
        for run, result in zip(runs, results, strict=True):
            which = f"seed {run.seed} " if several else ""
            if result is not None and run.baseline is not None:
                deltas = delta_p_per_task(result.test, run.baseline.test, better)
                progress.note(f"{which}done, test Δp {deltas.mean():+.1f} %")
            elif result is not None:
                progress.note(f"{which}done")


def _programs(method: str, problem: Problem, config: Compare) -> Programs:
    devices = _mesh(config)
    if method == BASELINE:
        return Programs(problem, problem.single_task, None, config.train, mesh=devices)
    last = methods.parse(method).method
    return Programs(
        problem,
        problem.multi_task,
        make_method(method, problem, config),
        config.train,
        optax.identity() if last in methods.REPLACES_ADAM else None,
        gradients=methods.gradients_of(method),
        mesh=devices,
    )


def _mesh(config: Compare) -> Mesh | None:
    axes = config.mesh or (f"data={jax.device_count()}" if config.distributed else "")
    return mesh.make(axes, config.train.batch_size) if axes else None


def _time_steps(config: Compare, rounds: int, problem: Problem, console: Console) -> None:
    """Times a training step of every method, and the reading of a batch.

    The speeds measured in the runs are not comparable, as the load of the machine changes.
    """
    console.print(f"timing a step of every method, in {rounds} turns ...", style="dim")
    programs = {method: _programs(method, problem, config) for method in config.methods}
    times = step_times.measure({m: p.repeated_step() for m, p in programs.items()}, rounds)
    batches = problem.batches("train")
    reading = step_times.measure_reading(next(iter(programs.values())).read(batches))
    quickest = min(times, key=lambda method: times[method]["milliseconds"])
    console.print(
        f"a batch is read in {reading:.2f} ms, while the device computes; the quickest step "
        f"({methods.display_name(quickest)}) takes {times[quickest]['milliseconds']:.2f} ms"
    )
    step_times.write(
        config.out,
        times,
        rounds,
        len(batches),
        sample_data=problem.is_sample,
        reading=reading,
    )


def make_method(name: str, problem: Problem, config: Compare) -> MethodFactory | None:
    """A function from the seed to the method; None for equal weighting, which needs no method."""
    if name == "ew":
        return None
    model, train = problem.multi_task, config.train
    form = methods.parse(name).form
    if form.wrt == "representation" and model.representation_task_grads is None:
        raise UserError(
            f"--methods: {name!r}: the heads of {problem.network} share no representation"
        )
    if form.measured and model.last_shared is None:
        raise UserError(f"--methods: {name!r}: {problem.network} has no last shared layer")
    options: dict[str, Any] = {
        "labels": model.labels,
        "last_shared": model.last_shared,
        "steps_per_epoch": len(problem.batches("train")),
        "weight_optimizer": optax.adam(train.learning_rate),
    }
    return lambda seed: methods.build(name, model.num_tasks, seed=seed, **options)


def _baseline(config: Compare, seed: int) -> Result | None:
    records = run_log.read_run(run_log.run_path(config.out, BASELINE, seed))
    if not run_log.has_result(records):
        return None
    return Result(_figures(records[-1]["validation"]), _figures(records[-1]["test"]))


def _figures(metrics: list[list[float | None]]) -> Metrics:
    """Converts metrics from JSON, where null stands for NaN."""
    return [[float("nan") if x is None else x for x in task] for task in metrics]
