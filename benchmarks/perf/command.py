"""`python -m benchmarks perf`: the speed of training steps, as ratios of times taken in turns."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import run_log
from benchmarks.config import Perf
from benchmarks.errors import UserError
from benchmarks.perf import (
    against,
    aggregation,
    compilation,
    compile_for,
    goals,
    peers,
    steps,
    steps_table,
    transformation,
)
from benchmarks.report.tables import table_formats


def perf(config: Perf, console: Console) -> None:
    """Measures and prints, and writes the results to `perf.json` and the goals to `goals.md`.

    With `config.against`, what is measured is this checkout next to another, and nothing else; with
    `config.compile_for`, programs are compiled and read, and not run.
    """
    if config.compile_for is None:
        _refuse_for_compiling_alone(config)
    else:
        if config.against is not None or config.peers:
            raise UserError(
                "--compile-for goes with neither --against nor --peers: it runs nothing"
            )
        compile_for.measure(config, console)
        return
    if config.against is not None:
        if config.peers:
            raise UserError("--against and --peers do not go together: they are separate runs")
        against.compare(config, config.against, console)
        return
    if config.peers and config.torch_python is None:
        raise UserError("--peers needs --torch-python, the Python that has torch and torchjd")
    run_log.make_folder(config.out)
    record: dict[str, Any] = {"environment": run_log.environment()}
    reached: dict[str, list[goals.Row]] = {}

    def reached_goals() -> str:
        return table_formats.markdown(goals.table([*chain(*reached.values())]))

    def keep(subject: str, rows: list[Any], of_them: list[goals.Row], *tables: Table) -> None:
        """Prints and writes the rows of a subject at once, so that they are not lost later."""
        for table in tables if rows else ():
            console.print(table)
        record[subject] = [row._asdict() for row in rows]
        reached[subject] = of_them
        text = json.dumps(record, indent=2) + "\n"
        run_log.write_file(config.out / "perf.json", text)
        run_log.write_file(config.out / "goals.md", reached_goals() + "\n")

    rows: list[steps.Row] = []
    for group in _steps(config, console):
        rows += group
        keep("steps", rows, goals.of_steps(rows))
    keep("steps", rows, goals.of_steps(rows), *steps_table.tables(rows))
    alone = []
    if config.transformation:
        console.print("the transformation alone ...", style="dim")
        alone = [transformation.measure(t, rounds=config.rounds) for t in config.num_tasks]
    keep("transformation", alone, goals.of_transformation(alone), _transformation_table(alone))
    merged: list[aggregation.Row] = []
    missing: dict[str, None] = {}
    if config.aggregation:
        console.print("the Gramian methods ...", style="dim")
        for num_tasks in config.num_tasks:
            found, absent = aggregation.measure(
                num_tasks, config.torch_python, rounds=config.rounds
            )
            merged += found
            missing |= dict.fromkeys(absent)
    keep("aggregation", merged, goals.of_aggregation(merged), aggregation.table(merged))
    compiled: list[compilation.Row] = []
    if config.compilation:
        console.print("compilation ...", style="dim")
        compiled = compilation.measure(min(config.num_tasks, default=2))
    keep("compilation", compiled, goals.of_compilation(compiled), compilation.table(compiled))
    beside, version, absent = _peers(config, rows, console)
    keep("peers", beside, goals.of_peers(beside), peers.table(beside, version))
    for line in (*missing, *absent):
        console.print(f"not timed: {line}")
    console.print(reached_goals(), soft_wrap=True, markup=False)
    console.print(f"written to {config.out / 'perf.json'} and goals.md")


def _refuse_for_compiling_alone(config: Perf) -> None:
    """Raises UserError for an option that goes with `--compile-for`."""
    given = {
        "--methods": bool(config.methods),
        "--batch-size": config.batch_size is not None,
        "--largest-batch": config.largest_batch,
        "--networks deeplab": "deeplab" in config.networks,
    }
    for option, here in given.items():
        if here:
            raise UserError(f"{option} goes with --compile-for")


def _steps(config: Perf, console: Console) -> Iterator[list[steps.Row]]:
    """The rows of each network and number of tasks."""
    for name in config.networks:
        for num_tasks in config.num_tasks:
            console.print(f"{name}, T = {num_tasks} ...", style="dim")
            network = steps.NETWORKS[name](num_tasks)
            yield steps.measure(name, network, config.modes, config.rounds)


def _peers(
    config: Perf, ours: list[steps.Row], console: Console
) -> tuple[list[peers.Row], str, list[str]]:
    """Times the same steps in PyTorch: rows, version of PyTorch, and what is not installed."""
    rows: list[peers.Row] = []
    missing: dict[str, None] = {}
    if not config.peers or config.torch_python is None:
        return rows, "", []
    with peers.open_worker(config.torch_python) as worker:
        for name in (name for name in config.networks if name in peers.NETWORKS):
            for num_tasks in config.num_tasks:
                console.print(f"{name}, T = {num_tasks}, and in PyTorch ...", style="dim")
                network = steps.NETWORKS[name](num_tasks)
                mode = steps.best_mode(ours, name, num_tasks)
                found, absent = peers.measure(name, network, mode, worker, config.rounds)
                rows += found
                missing |= dict.fromkeys(absent)
        return rows, worker.version, list(missing)


def _transformation_table(rows: list[transformation.Row]) -> Table:
    table = Table(title="DB-MTL's transformation alone", title_justify="left")
    for heading in ("T", "P", "ms", "over unchecked arithmetic", "GB/s over triad", "goal", ""):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row.num_tasks),
            f"{row.num_parameters:,}",
            f"{row.milliseconds:.1f}",
            f"{row.over_unchecked:.2f}",
            f"{row.over_triad:.2f}",
            "" if row.target is None else f"{row.target:g} / {row.fail:g}",
            row.verdict,
        )
    return table
