"""How fast a step is, as ratios of programs that are timed in turns."""

import json

from rich.console import Console
from rich.table import Table

from benchmarks import run_log
from benchmarks.config import Perf
from benchmarks.errors import UserError
from benchmarks.perf import aggregation, peers, steps, transformation


def perf(config: Perf, console: Console) -> None:
    """Measures, prints the tables and writes their figures to `perf.json`."""
    rows: list[steps.Row] = []
    for name in config.networks:
        for num_tasks in config.num_tasks:
            console.print(f"{name}, T = {num_tasks} ...", style="dim")
            network = steps.NETWORKS[name](num_tasks)
            rows += steps.measure(name, network, config.modes, config.rounds)
    if rows:
        for table in steps.tables(rows):
            console.print(table)
    alone = []
    if config.transformation:
        console.print("the transformation alone ...", style="dim")
        alone = [transformation.measure(t, rounds=config.rounds) for t in config.num_tasks]
        console.print(_transformation_table(alone))
    merged: list[aggregation.Row] = []
    if config.aggregation:
        console.print("the Gramian methods ...", style="dim")
        for num_tasks in config.num_tasks:
            merged += aggregation.measure(num_tasks, config.torch_python, rounds=config.rounds)
        console.print(aggregation.table(merged))

    beside: list[peers.Row] = []
    if config.peers:
        beside = _peers(config, console)

    run_log.make_folder(config.out)
    record = {
        "environment": run_log.environment(),
        "steps": [row._asdict() for row in rows],
        "transformation": [row._asdict() for row in alone],
        "aggregation": [row._asdict() for row in merged],
        "peers": [row._asdict() for row in beside],
    }
    path = config.out / "perf.json"
    run_log.write_file(path, json.dumps(record, indent=2) + "\n")
    console.print(f"written to {path}")


def _peers(config: Perf, console: Console) -> list[peers.Row]:
    """Times the same steps in PyTorch, and prints their table."""
    if config.torch_python is None:
        raise UserError("--peers needs --torch-python, the Python that has torch and torchjd")
    rows: list[peers.Row] = []
    missing: dict[str, None] = {}
    with peers.open_worker(config.torch_python) as worker:
        for name in (name for name in config.networks if name in peers.NETWORKS):
            for num_tasks in config.num_tasks:
                console.print(f"{name}, T = {num_tasks}, and in PyTorch ...", style="dim")
                network = steps.NETWORKS[name](num_tasks)
                found, absent = peers.measure(name, network, worker, config.rounds)
                rows += found
                missing |= dict.fromkeys(absent)
        version = worker.version
    console.print(peers.table(rows, version))
    for line in missing:
        console.print(f"not timed: {line}")
    return rows


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
