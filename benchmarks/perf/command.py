"""`python -m benchmarks perf`: the speed of training steps, as ratios of times taken in turns."""

import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence

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
    tables,
    transformation,
)
from benchmarks.perf.measurement import Measurement
from benchmarks.report.tables import table_formats


def perf(config: Perf, console: Console) -> None:
    """Measures and prints, and writes the results to `perf.json` and the goals to `goals.md`.

    With `config.against`, what is measured is this checkout next to another, and nothing else; with
    `config.compile_for`, programs are compiled and read, and not run.

    Raises:
      UserError: for options that do not go together, and where another interpreter fails.
    """
    _check(config)
    if config.compile_for is not None:
        compile_for.measure(config, console)
    elif config.against is not None:
        against.compare(config, config.against, console)
    else:
        _measure(config, console)


def _check(config: Perf) -> None:
    """Raises UserError for options that do not go together."""
    if config.compile_for is not None:
        if config.against is not None or config.peers:
            raise UserError(
                "--compile-for goes with neither --against nor --peers: it runs nothing"
            )
        return
    given = {
        "--methods": bool(config.methods),
        "--batch-size": config.batch_size is not None,
        "--largest-batch": config.largest_batch,
        "--networks deeplab": "deeplab" in config.networks,
    }
    for option, here in given.items():
        if here:
            raise UserError(f"{option} goes with --compile-for")
    if config.against is not None and config.peers:
        raise UserError("--against and --peers do not go together: they are separate runs")
    if config.peers and config.torch_python is None:
        raise UserError("--peers needs --torch-python, the Python that has torch and torchjd")


class _Results:
    """What has been measured, which is on disk at once, so that nothing is lost later."""

    def __init__(self, config: Perf, console: Console) -> None:
        run_log.make_folder(config.out)
        self._folder, self._console = config.out, console
        self._environment = run_log.environment()
        self._kinds: dict[str, list[Measurement]] = {}
        self._missing: dict[str, None] = {}
        self._write()

    def add(self, kind: str, rows: Sequence[Measurement], missing: Iterable[str] = ()) -> None:
        """Keeps and writes rows of a kind, and notes what was not there to be timed."""
        self._kinds.setdefault(kind, []).extend(rows)
        self._missing |= dict.fromkeys(missing)
        self._write()

    def of(self, kind: str) -> list[Measurement]:
        """The rows of a kind."""
        return self._kinds.get(kind, [])

    def say(self, what: str) -> None:
        """Prints what is measured now."""
        self._console.print(f"{what} ...", style="dim")

    def show(self, kind: str, table: Callable[[Sequence[Measurement]], Table]) -> None:
        """Prints a table of the rows of a kind, if there are any."""
        if rows := self.of(kind):
            self._console.print(table(rows))

    def end(self) -> None:
        """Prints what was not timed, and the goals."""
        for line in self._missing:
            self._console.print(f"not timed: {line}")
        self._console.print(self._goals(), soft_wrap=True, markup=False)
        self._console.print(f"written to {self._folder / 'perf.json'} and goals.md")

    def _write(self) -> None:
        record = {kind: [row.as_json() for row in rows] for kind, rows in self._kinds.items()}
        text = json.dumps({"environment": self._environment} | record, indent=2) + "\n"
        run_log.write_file(self._folder / "perf.json", text)
        run_log.write_file(self._folder / "goals.md", self._goals() + "\n")

    def _goals(self) -> str:
        return table_formats.markdown(goals.table([*itertools.chain(*self._kinds.values())]))


def _measure(config: Perf, console: Console) -> None:
    """All that the options ask for, one kind after the other."""
    results = _Results(config, console)
    _steps(config, results)
    if config.transformation:
        results.say("the transformation alone")
        for num_tasks in config.num_tasks:
            results.add("transformation", [transformation.measure(num_tasks, rounds=config.rounds)])
        results.show("transformation", tables.transformation)
    if config.aggregation:
        results.say("the Gramian methods")
        for num_tasks in config.num_tasks:
            found = aggregation.measure(num_tasks, config.torch_python, rounds=config.rounds)
            results.add("aggregation", *found)
        results.show("aggregation", tables.aggregation)
    if config.compilation:
        results.say("compilation")
        results.add("compilation", compilation.measure(min(config.num_tasks, default=2)))
        results.show("compilation", tables.compilation)
    if config.peers and config.torch_python is not None:
        _peers(config, config.torch_python, results)
    results.end()


def _steps(config: Perf, results: _Results) -> None:
    for name, num_tasks in itertools.product(config.networks, config.num_tasks):
        results.say(f"{name}, T = {num_tasks}")
        network = steps.NETWORKS[name](num_tasks)
        results.add("steps", steps.measure(name, network, config.modes, config.rounds))
    results.show("steps", tables.steps)
    results.show("steps", tables.memory)


def _peers(config: Perf, python: pathlib.Path, results: _Results) -> None:
    """Times the same steps in PyTorch."""
    networks = [name for name in config.networks if name in peers.NETWORKS]
    with peers.open_worker(python) as worker:
        for name, num_tasks in itertools.product(networks, config.num_tasks):
            results.say(f"{name}, T = {num_tasks}, and in PyTorch")
            network = steps.NETWORKS[name](num_tasks)
            mode = steps.best_mode(results.of("steps"), name, num_tasks)
            results.add("peers", *peers.measure(name, network, mode, worker, config.rounds))
        results.show("peers", lambda rows: tables.peers(rows, worker.version))
