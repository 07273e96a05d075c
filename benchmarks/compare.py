"""`python -m benchmarks compare`: trains methods and compares them in a table and plots."""

import dataclasses
import functools

from rich.console import Console

from benchmarks import initial_weights, jobs, methods, run_log, step_times
from benchmarks.config import Compare
from benchmarks.errors import UserError
from benchmarks.problems import datasets
from benchmarks.problems.problem import Problem
from benchmarks.progress_bar import on_console
from benchmarks.report import command as report
from benchmarks.report import summary
from benchmarks.report.tables import terminal
from benchmarks.settings import Comparison
from benchmarks.training import distributed, runs


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
    work = _work(config, console).kept()
    if config.jobs == 1:
        runs.train_missing(work)
    elif config.mesh or config.distributed:
        raise UserError(f"--jobs: expected 1 with --mesh or --distributed, found {config.jobs}")
    else:
        alone = dataclasses.replace(config, jobs=1, time_steps=0)
        failed = jobs.run(functools.partial(run_missing, alone), config.jobs, console.print)
        if failed and runs.schedule_of(work.config).left():
            raise UserError(f"{failed[0]}; the same command goes on with what is left")
    if config.time_steps:
        _time_steps(config, config.time_steps, work.problem(), console)


def follow(config: Compare) -> None:
    """Trains the runs that process 0 announces."""
    runs.follow(_work(config, Console(quiet=True)))


def _work(config: Compare, console: Console) -> runs.Work:
    return runs.Work(config, lambda: open_problem(config, console), on_console(console))


def time_steps(config: Comparison, rounds: int, console: Console) -> None:
    """Times a training step of every method in turns, and writes the times to the folder."""
    run_log.check_settings(config.out, config.settings())
    problem = open_problem(config, console)
    run_log.open_folder(config.out, config.settings())
    _time_steps(config, rounds, problem, console)


def open_problem(config: Comparison, console: Console) -> Problem:
    """Opens the data set of the configuration."""
    initial_weights.check(config)
    console.print(f"reading {config.dataset} ...", style="dim")
    problem = datasets.find(config.dataset).open(config.data, config.train)
    if problem.is_sample:
        console.print(f"{config.dataset} is sample data, not the real data set")
    if problem.initial_weights is not None:
        console.print(f"{problem.network}: {initial_weights.text(problem.initial_weights)}")
    return problem


def render(config: Compare, console: Console) -> None:
    """Prints the table of a folder of results and writes its report."""
    study = report.load(config.out)
    console.print(terminal.table(study.outcomes, report.title(study)))
    for note in study.notes:
        console.print(note, style="italic")
    report.print_written(report.write_study(study), console)
    for line in summary.lines(study):
        console.print(line, style="bold")
    console.print(f"All tables and plots are in {study.folder / report.PAGE}", style="bold")


def _time_steps(config: Comparison, rounds: int, problem: Problem, console: Console) -> None:
    """Times a training step of every method, and the reading of a batch.

    The speeds measured in the runs are not comparable, as the load of the machine changes.
    """
    console.print(f"timing a step of every method, in {rounds} turns ...", style="dim")
    config = runs.spelt_out(config)
    programs = {name: runs.programs_of(name, problem, config) for name in config.methods}
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
