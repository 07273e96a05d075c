"""This checkout's programs next to those of another checkout, an older commit's for example.

Each checkout runs in a process of its own, both with the same script (`checkout_worker.py`), and
the processes take turns.
"""

import json
import os
import pathlib
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import run_log
from benchmarks.config import Perf
from benchmarks.errors import UserError
from benchmarks.perf import aggregation, steps
from benchmarks.perf.worker import Worker

HERE = pathlib.Path(__file__).resolve().parents[2]
"""This checkout."""


class Program(NamedTuple):
    """What a worker can build."""

    subject: str  # a network, or "transformation" or "aggregation"
    num_tasks: int
    name: str  # the mode of a network's step; else the method


class Row(NamedTuple):
    """One program in both checkouts."""

    subject: str
    num_tasks: int
    name: str
    milliseconds: float  # this checkout's median
    their_milliseconds: float
    ratio: float  # median of the rounds' ratios, this checkout's time over the other's
    spread: tuple[float, float]  # smallest and largest ratio
    pairs: list[tuple[float, float]]  # seconds of (this, the other) in every round


def compare(config: Perf, checkout: pathlib.Path, console: Console) -> None:
    """Measures and prints, and writes all pairs of times to `against.json`."""
    check(checkout)
    run_log.make_folder(config.out)
    rows: list[Row] = []
    missing: list[str] = []
    heading = ""
    with open_worker(HERE) as this, open_worker(checkout) as that:
        record: dict[str, Any] = {"this": _origin(HERE, this), "that": _origin(checkout, that)}
        for program in programs(config):
            if heading != (heading := f"{program.subject}, T = {program.num_tasks} ..."):
                console.print(heading, style="dim")
            row = measure(program, this, that, config.rounds)
            if row is None:
                missing.append("{} T={} {}".format(*program))
            else:
                rows.append(row)
            # At once, so that what has been measured is not lost.
            record |= {"rows": [row._asdict() for row in rows], "missing": missing}
            text = json.dumps(record, indent=2) + "\n"
            run_log.write_file(config.out / "against.json", text)
    for side in ("this", "that"):
        line = f"{side}: {record[side]['folder']} ({record[side]['commit']})"
        console.print(line, soft_wrap=True, highlight=False)
    console.print(table(rows))
    if missing:
        lacking = ", ".join(missing)
        console.print(f"not timed, as a checkout leaves it out: {lacking}", highlight=False)
    console.print(f"written to {config.out / 'against.json'}")


def check(checkout: pathlib.Path) -> None:
    """Raises UserError unless the folder looks like a checkout of this project."""
    if not checkout.is_dir():
        raise UserError(f"--against: {checkout} is not a folder")
    for file in ("dbmtl_jax/__init__.py", "benchmarks/perf/steps.py"):
        if not (checkout / file).is_file():
            raise UserError(
                f"--against: {checkout} is not a checkout of this project: it has no {file}"
            )


def open_worker(checkout: pathlib.Path) -> Worker:
    """Starts a checkout's process, which imports its packages from that folder alone."""
    checkout = checkout.resolve()
    paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",  # the script's own folder is not where packages are looked for
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # two processes share an accelerator's memory
    }
    script = pathlib.Path(__file__).with_name("checkout_worker.py")
    return Worker(
        pathlib.Path(sys.executable),
        script,
        checkout,
        blamed=f"--against: {checkout}",
        environment=environment,
    )


def programs(config: Perf) -> list[Program]:
    """All that is to be timed, in order."""
    modes = (steps.EW, steps.ROWS, *config.modes)
    found = [
        Program(network, num_tasks, mode)
        for network in config.networks
        for num_tasks in config.num_tasks
        for mode in modes
    ]
    for num_tasks in config.num_tasks:
        if config.transformation:
            found.append(Program("transformation", num_tasks, "db_mtl"))
        if config.aggregation:
            found += [Program("aggregation", num_tasks, name) for name in aggregation.METHODS]
    return found


def measure(program: Program, this: Worker, that: Worker, rounds: int) -> Row | None:
    """Builds a program in both processes and times it; None where one of them has no such one."""
    request = "build {} {} {}".format(*program)
    if "missing" in [this.ask(request), that.ask(request)]:
        return None
    pairs = in_pairs(lambda: float(this.ask("run")), lambda: float(that.ask("run")), rounds)
    ours, theirs = zip(*pairs, strict=True)
    ratios = [a / b for a, b in pairs]
    return Row(
        *program,
        1e3 * statistics.median(ours),
        1e3 * statistics.median(theirs),
        statistics.median(ratios),
        (min(ratios), max(ratios)),
        pairs,
    )


def in_pairs(
    this: Callable[[], float], that: Callable[[], float], rounds: int
) -> list[tuple[float, float]]:
    """The results of both in every round; one more round goes first and is not counted.

    Who begins changes from round to round, so that it favours neither.
    """
    pairs = []
    for number in range(rounds + 1):
        if number % 2 == 0:
            ours = this()
            theirs = that()
        else:
            theirs = that()
            ours = this()
        pairs.append((ours, theirs))
    return pairs[1:]


def table(rows: Sequence[Row]) -> Table:
    """For the terminal."""
    title = "this checkout's time over the other's, medians over rounds"
    result = Table(title=title, title_justify="left")
    result.add_column("", no_wrap=True)
    result.add_column("T", justify="right", no_wrap=True)
    result.add_column("program", no_wrap=True)
    for heading in ("this\nms", "that\nms", "this\n/ that", "range"):
        result.add_column(heading, justify="right", no_wrap=True)
    for index, row in enumerate(rows):
        last = index + 1 == len(rows) or rows[index + 1][:2] != row[:2]
        result.add_row(
            row.subject,
            str(row.num_tasks),
            row.name,
            f"{row.milliseconds:.1f}",
            f"{row.their_milliseconds:.1f}",
            f"{row.ratio:.3f}",
            f"{row.spread[0]:.2f}–{row.spread[1]:.2f}",
            end_section=last,
        )
    return result


def _origin(checkout: pathlib.Path, worker: Worker) -> dict[str, Any]:
    return {"folder": str(checkout.resolve()), **json.loads(worker.version)}
