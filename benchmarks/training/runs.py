"""Trains the missing runs of a folder of results, whatever shows the progress."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

from benchmarks import methods, run_log
from benchmarks.errors import UserError
from benchmarks.files.expected import check_present
from benchmarks.methods import BASELINE
from benchmarks.problems import datasets
from benchmarks.problems.problem import Metrics, Problem
from benchmarks.progress import Display
from benchmarks.schedule import Schedule
from benchmarks.scores import delta_p_per_task
from benchmarks.settings import Comparison
from benchmarks.training import distributed, mesh
from benchmarks.training.checkpoints import Checkpoints
from benchmarks.training.checkpoints import path as checkpoint_path
from benchmarks.training.programs import MethodFactory, Programs
from benchmarks.training.trainer import Trainer
from benchmarks.training.validation import Result, Run

_NO_MORE = "no more"
"""The message with which process 0 ends the work of the other processes."""


class Work(NamedTuple):
    """What trains the runs of a folder, and how they are kept and shown."""

    config: Comparison
    problem: Callable[[], Problem]
    display: Display
    checkpoints: Callable[[pathlib.Path, float], Checkpoints] = Checkpoints

    def kept(self) -> "Work":
        """The same, where the data and the programs of the last method are made only once."""
        return self._replace(problem=functools.cache(self.problem))


def train_missing(work: Work) -> None:
    """Trains the runs that a folder of results does not have yet.

    Raises:
      UserError: for options that do not go together, or a folder of other settings.
    """
    work = work._replace(config=spelt_out(work.config)).kept()
    schedule = schedule_of(work.config)
    run_log.check_settings(work.config.out, work.config.settings())
    trainer = _trainers(work)
    if left := schedule.left():  # what is wrong comes to light before there is a folder
        for method in work.config.methods:
            make_method(method, work.problem(), work.config)
        trainer(left[0].method)
    else:
        work.display.say(f"all runs are complete in {work.config.out}")
    run_log.open_folder(work.config.out, work.config.settings())
    schedule.run(lambda method, logs: _train(method, logs, work, trainer), work.display.say)
    distributed.agree(_NO_MORE)


def follow(work: Work) -> None:
    """Trains the runs that process 0 announces; only process 0 prints and writes results."""
    work = work.kept()
    trainer = _trainers(work)
    while (announced := distributed.agree(None)) != _NO_MORE:
        method, seeds = announced
        runs = [
            Run(seed, None if baseline is None else Result(*baseline), run_log.MutedLog())
            for seed, baseline in seeds
        ]
        _train_runs(method, runs, work, trainer)


def spelt_out(config: Comparison) -> Comparison:
    """The comparison with the names of methods in place of those of lists."""
    shares = datasets.find(config.dataset).shares_representation(config.data.network)
    names = methods.spelt_out(config.methods, shares_representation=shares)
    return dataclasses.replace(config, methods=names)


def schedule_of(config: Comparison) -> Schedule:
    """Checks the options and returns the schedule of the runs."""
    for method in config.methods:
        methods.check(method)
    _check_numbers(config)
    _mesh(config)
    schedule = Schedule(config.out, config.methods, range(config.seeds), config.vmap_seeds)
    schedule.check_baselines()
    return schedule


def _check_numbers(config: Comparison) -> None:
    """Raises UserError, naming the option, for numbers that no training can have."""
    train = config.train
    for option, value, low in (
        ("seeds", config.seeds, 1),
        ("checkpoint-seconds", config.checkpoint_seconds, 0),
        ("time-steps", config.time_steps, 0),
        ("train.epochs", train.epochs, 1),
        ("train.batch-size", train.batch_size, 1),
        ("train.log-every", train.log_every, 1),
        ("train.last-epochs", train.last_epochs, 1),
        ("train.plateau-patience", train.plateau_patience, 0),
        ("train.weight-decay", train.weight_decay, 0),
    ):
        if not low <= value < math.inf:
            raise UserError(f"--{option}: expected at least {low}, found {value}")
    if not 0 < train.learning_rate < math.inf:
        raise UserError(
            f"--train.learning-rate: expected a number above 0, found {train.learning_rate}"
        )
    for field in dataclasses.fields(config.data):
        value = getattr(config.data, field.name)
        low = 0 if field.name.startswith(("validation", "split_seed")) else 1
        if type(value) is int and value < low:
            option = field.name.replace("_", "-")
            raise UserError(f"--{option}: expected at least {low}, found {value}")


def programs_of(method: str, problem: Problem, config: Comparison) -> Programs:
    """The programs that train a method."""
    devices = _mesh(config)
    if method == BASELINE:
        return Programs(problem, problem.single_task, None, config.train, mesh=devices)
    spec = methods.parse(method)
    rate = config.train.learning_rate * spec.form.rate
    return Programs(
        problem,
        problem.multi_task,
        make_method(method, problem, config),
        dataclasses.replace(config.train, learning_rate=rate),
        optax.identity() if spec.method in methods.REPLACES_ADAM else None,
        gradients=methods.gradients_of(method),
        mesh=devices,
    )


def make_method(name: str, problem: Problem, config: Comparison) -> MethodFactory | None:
    """A function from the seed to the method; None for the two without one, EW and the baseline."""
    spec = methods.parse(name)
    if spec.method in ("ew", BASELINE) and spec.is_plain:
        return None
    model, form = problem.multi_task, spec.form
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
        # A step sets the rate, see `make_update`: learnt weights follow the model's schedule.
        "weight_optimizer": optax.inject_hyperparams(optax.adam)(config.train.learning_rate),
    }
    return lambda seed: methods.build(name, model.num_tasks, seed=seed, **options)


def _trainers(work: Work) -> Callable[[str], Trainer]:
    """A method's trainer, whose programs are compiled once for all seeds."""
    return functools.lru_cache(maxsize=1)(
        lambda method: Trainer(programs_of(method, work.problem(), work.config))
    )


def _train(
    method: str,
    logs: dict[int, run_log.RunLog],
    work: Work,
    trainer: Callable[[str], Trainer],
) -> None:
    """Trains several seeds of a method together."""
    runs = []
    for seed, log in logs.items():
        baseline = None if method == BASELINE else _baseline(work, seed)
        if method != BASELINE and baseline is None:
            work.display.say(f"{method}, seed {seed}: left out, as its baseline failed")
        else:
            runs.append(Run(seed, baseline, log))
    if runs:
        distributed.agree([method, [(run.seed, run.baseline) for run in runs]])
        _train_runs(method, runs, work, trainer)


def _train_runs(
    method: str, runs: list[Run], work: Work, make_trainer: Callable[[str], Trainer]
) -> None:
    config = work.config
    seeds = [run.seed for run in runs]
    several = len(seeds) > 1
    numbers = ", ".join(map(str, seeds))
    name = f"{methods.display_name(method)}, seed{'s' if several else ''} {numbers}"
    saved = work.checkpoints(checkpoint_path(config.out, method, seeds), config.checkpoint_seconds)
    trainer = make_trainer(method)
    better = trainer.programs.problem.higher_is_better
    with work.display.progress(name) as progress:
        results = trainer.run(runs, progress, saved)
        for run, result in zip(runs, results, strict=True):
            which = f"seed {run.seed} " if several else ""
            if result is not None and run.baseline is not None:
                deltas = delta_p_per_task(result.test, run.baseline.test, better)
                progress.note(f"{which}done, test Δp {deltas.mean():+.1f} %")
            elif result is not None:
                progress.note(f"{which}done")


def _mesh(config: Comparison) -> Mesh | None:
    axes = config.mesh or (f"data={jax.device_count()}" if config.distributed else "")
    if not axes:
        return None
    return mesh.make(axes, config.train.batch_size, config.data.parts_of_batch())


def _baseline(work: Work, seed: int) -> Result | None:
    path = run_log.run_path(work.config.out, BASELINE, seed)
    records = run_log.read_run(path)
    if not run_log.has_result(records):
        return None
    where = f"{path}, line {len(records)}"
    check_present(records[-1], Result._fields, where)
    baseline = Result(*(_figures(records[-1][name]) for name in Result._fields))
    expected = list(map(len, work.problem().higher_is_better))
    for figures in baseline:
        if (found := list(map(len, figures))) != expected:
            raise UserError(f"{where}: expected {expected} metrics of the tasks, found {found}")
    return baseline


def _figures(metrics: list[list[float | None]]) -> Metrics:
    """Converts metrics from JSON, where null stands for NaN."""
    return [[float("nan") if x is None else x for x in task] for task in metrics]
