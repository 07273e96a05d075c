"""`python -m benchmarks`: the command line of the experiments."""

import itertools
import signal
import sys
from typing import Annotated, get_args

import tyro
from rich.console import Console

from benchmarks import allocator, presets
from benchmarks.config import (
    Compare,
    ConvertCityscapes,
    MakeSample,
    Perf,
    Prepare,
    Report,
    Reproduce,
)
from benchmarks.errors import UserError
from benchmarks.settings import Preset

_OF_A_FOLDER = ("--out", "--data-dir", "--lists")
"""Options after which a name such as `nyuv2` is that of a folder."""

_INTERRUPTED = 128 + signal.SIGINT

Command = Compare | Reproduce | Report | Perf | Prepare | ConvertCityscapes | MakeSample


def parse(arguments: list[str]) -> Command:
    """Parses the command line; the defaults of `compare` depend on its preset and data set."""
    named = (x for before, x in itertools.pairwise(["", *arguments]) if before not in _OF_A_FOLDER)
    dataset = next((x for x in named if x in presets.DATASETS), "qm9")
    preset = _option(arguments, "--preset")
    default = presets.comparison(
        preset if preset in get_args(Preset) else "quick", dataset, _option(arguments, "--network")
    )
    return tyro.cli(
        Annotated[Compare, tyro.conf.subcommand("compare", default=default)]
        | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Perf, tyro.conf.subcommand("perf")]
        | Annotated[Prepare, tyro.conf.subcommand("prepare")]
        | Annotated[ConvertCityscapes, tyro.conf.subcommand("convert-cityscapes")]
        | Annotated[MakeSample, tyro.conf.subcommand("make-sample")],
        args=arguments,
        prog="python -m benchmarks",
        description=__doc__,
    )


def _option(arguments: list[str], name: str) -> str:
    """The value of an option, or an empty string if the option is not given."""
    for position, argument in enumerate(arguments):
        found, separator, value = argument.partition("=")
        if found == name:
            return value if separator else "".join(arguments[position + 1 : position + 2])
    return ""


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
        from benchmarks.data.vision import commands

        commands.run(config, console)


def main() -> None:
    """Runs a command; an error that the user can fix is printed as one line, with exit status 2.

    So is an interruption (Ctrl-C), with the exit status that a shell gives it.
    """
    console = Console(markup=False, highlight=False)
    errors = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    config: Command | None = None
    try:
        config = parse(sys.argv[1:])
        if not isinstance(config, Perf) or config.keep_memory:
            allocator.keep_memory()
        _run(config, console)
    except (UserError, OSError) as error:  # of the latter, names that are too long, for example
        errors.print(f"error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        goes_on = isinstance(config, Compare | Reproduce)
        how = ": the same command goes on from the last checkpoint" if goes_on else ""
        errors.print(f"interrupted{how}")
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
