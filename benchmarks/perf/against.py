"""This checkout's programs next to those of another checkout, an older commit's for example.

Each checkout runs in a process of its own, both with the same script (`checkout_worker.py`), and
the processes take turns.
"""

import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks import run_log
from benchmarks.config import Perf
from benchmarks.errors import UserError
from benchmarks.files import expected, json_text
from benchmarks.files.expected import POSITIVE, Kind
from benchmarks.perf import aggregation, steps, tables
from benchmarks.perf.measurement import Measurement, milliseconds, ratio
from benchmarks.perf.worker import Worker

HERE = pathlib.Path(__file__).resolve().parents[2]
"""This checkout."""


class Program(NamedTuple):
    """What a worker can build."""

    subject: str  # a network, or "transformation" or "aggregation"
    num_tasks: int
    name: str  # the mode of a network's step; else the method


_FOUND = Kind("built or missing", lambda answer: answer in ("built", "missing"))


class Side(NamedTuple):
    """A checkout and its process, which may answer anything."""

    folder: pathlib.Path
    worker: Worker

    @property
    def origin(self) -> dict[str, Any]:
        """The folder and the environment.

        Raises:
          UserError: if the first line is no environment.
        """
        where = f"{self._where}: the environment"
        found = json_text.parse(self.worker.version.encode(), where)
        expected.check(found, run_log.ENVIRONMENT, where)
        return found | {"folder": str(self.folder.resolve())}

    def build(self, program: Program) -> bool:
        """Builds a program; whether there is one.

        Raises:
          UserError: if the answer is another.
        """
        answer = self.worker.ask("build {} {} {}".format(*program))
        expected.check(answer, _FOUND, f"{self._where}: building {program.name}")
        return answer == "built"

    def seconds(self) -> float:
        """Runs the program that was built last.

        Raises:
          UserError: if the answer is no time.
        """
        where = f"{self._where}: the seconds of a program"
        seconds = json_text.parse(self.worker.ask("run").encode(), where)
        expected.check(seconds, POSITIVE, where)
        return seconds

    @property
    def _where(self) -> str:
        return f"--against: {self.folder}"


def compare(config: Perf, checkout: pathlib.Path, console: Console) -> None:
    """Measures and prints, and writes all pairs of times to `against.json`.

    Raises:
      UserError: if the folder is no checkout, or its process fails or answers something else.
    """
    check(checkout)
    run_log.make_folder(config.out)
    rows: list[Measurement] = []
    missing: list[str] = []
    heading = ""
    with open_worker(HERE) as ours, open_worker(checkout) as theirs:
        this, that = Side(HERE, ours), Side(checkout, theirs)
        record: dict[str, Any] = {"this": this.origin, "that": that.origin}
        for program in programs(config):
            if heading != (heading := f"{program.subject}, T = {program.num_tasks} ..."):
                console.print(heading, style="dim")
            row = measure(program, this, that, config.rounds)
            if row is None:
                missing.append("{} T={} {}".format(*program))
            else:
                rows.append(row)
            # At once, so that what has been measured is not lost.
            record |= {"rows": [row.as_json() for row in rows], "missing": missing}
            text = json.dumps(record, indent=2) + "\n"
            run_log.write_file(config.out / "against.json", text)
    for side in ("this", "that"):
        line = f"{side}: {record[side]['folder']} ({record[side].get('commit')})"
        console.print(line, soft_wrap=True, highlight=False)
    console.print(tables.against(rows))
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


def measure(program: Program, this: Side, that: Side, rounds: int) -> Measurement | None:
    """Builds a program in both processes and times it; None where one of them has no such one."""
    if not all([this.build(program), that.build(program)]):
        return None
    pairs = in_pairs(this.seconds, that.seconds, rounds)
    ours, theirs = zip(*pairs, strict=True)
    return Measurement(
        *program,
        {
            "milliseconds": milliseconds(ours),
            "their_milliseconds": milliseconds(theirs),
            "over_theirs": ratio(ours, theirs),
        },
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
