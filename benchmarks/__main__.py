"""`python -m benchmarks`: the command line of the experiments."""

import dataclasses
import functools
import inspect
import operator
import sys
from typing import Annotated, Any

import tyro
from rich.console import Console

from benchmarks import allocator
from benchmarks.config import (
    Compare,
    ConvertCityscapes,
    MakeSample,
    Perf,
    Prepare,
    Report,
    Reproduce,
)
from benchmarks.errors import UserError, told_in_one_line
from benchmarks.problems.datasets import DATASETS
from benchmarks.settings import Preset

_PROGRAM = "python -m benchmarks"
_HELP = ("-h", "--help")
Command = Compare | Reproduce | Report | Perf | Prepare | ConvertCityscapes | MakeSample


@dataclasses.dataclass(frozen=True)
class _Which:
    """What the defaults of `compare` depend on, besides the data set."""

    preset: Preset = "quick"
    network: str = ""


def parse(arguments: list[str]) -> Command:
    """Parses the command line."""
    if arguments[:1] == ["compare"]:
        return _parse_compare(arguments[1:])
    return tyro.cli(
        Annotated[Compare, tyro.conf.subcommand("compare")]
        | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Perf, tyro.conf.subcommand("perf")]
        | Annotated[Prepare, tyro.conf.subcommand("prepare")]
        | Annotated[ConvertCityscapes, tyro.conf.subcommand("convert-cityscapes")]
        | Annotated[MakeSample, tyro.conf.subcommand("make-sample")],
        args=arguments,
        prog=_PROGRAM,
        description=__doc__,
    )


def _parse_compare(arguments: list[str]) -> Compare:
    """Parses `compare`, which has a subcommand for each data set, with its own defaults.

    Raises:
      UserError: if an option stands where the data set should.
    """
    name = arguments[0] if arguments else ""
    if name.startswith("-") and name not in _HELP:
        raise UserError(
            f"compare: expected a data set first, as in `compare qm9 {name} ...`, found {name}"
        )
    which = _Which()
    if name in DATASETS:
        options = [argument for argument in arguments[1:] if argument not in _HELP]
        which, _ = tyro.cli(
            _Which, args=options, prog=f"{_PROGRAM} compare {name}", return_unknown_args=True
        )
    commands: list[Any] = []
    for dataset in DATASETS.values():
        own = which if dataset.name == name else _Which()
        default = Compare.preset_of(dataset, own.preset, own.network)
        data: Any = Annotated[type(default.data), tyro.conf.arg(name="")]
        command = dataclasses.make_dataclass(
            "Compare", [("data", data)], bases=(Compare,), frozen=True
        )
        subcommand = tyro.conf.subcommand(
            dataset.name,
            default=command(**_fields(default)),
            description=f"Compare methods on {dataset.description.title}.",
        )
        commands.append(Annotated[command, subcommand])
    parsed: Any = tyro.cli(
        functools.reduce(operator.or_, commands),
        args=arguments,
        prog=f"{_PROGRAM} compare",
        description=inspect.getdoc(Compare),
    )
    return Compare(**_fields(parsed))


def _fields(config: Compare) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(Compare)}


def _run(config: Command, console: Console) -> None:
    # Imported late: `--help` does not need JAX, and training does not need the image readers.
    if isinstance(config, Compare):
        from benchmarks.compare import compare

        compare(config, console)
    elif isinstance(config, Reproduce):
        from benchmarks.reproduce import reproduce

        reproduce(config, console)
    elif isinstance(config, Report):
        from benchmarks.report import command

        command.report(config.folder, console)
    elif isinstance(config, Perf):
        from benchmarks.perf.command import perf

        perf(config, console)
    else:
        from benchmarks.data import commands

        commands.run(config, console)


def main() -> None:
    """Runs a command; what a user can fix, and an interruption, is told in one line."""
    config: Command | None = None

    def how_to_go_on() -> str:
        goes_on = isinstance(config, Compare | Reproduce)
        return ": the same command goes on from the last checkpoint" if goes_on else ""

    with told_in_one_line(how_to_go_on):
        config = parse(sys.argv[1:])
        if not isinstance(config, Perf) or config.keep_memory:
            allocator.keep_memory()
        _run(config, Console(markup=False, highlight=False))


if __name__ == "__main__":
    main()
