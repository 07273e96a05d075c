"""The command line of the kit; see `python -m benchmarks.kit --help` and docs/gpu_kit.md."""

import argparse
import pathlib
import sys

from benchmarks.errors import told_in_one_line
from benchmarks.kit.deadline import Deadline

_NETWORKS = ("mlp", "qm9", "resnet")
_DTYPES = ("float32", "bfloat16")


def parser() -> argparse.ArgumentParser:
    """The options of all commands."""
    whole = argparse.ArgumentParser(prog="python -m benchmarks.kit", description=__doc__)
    commands = whole.add_subparsers(dest="command", required=True)

    data = commands.add_parser("data", help="write QM9 as one file (needs what `compare` needs)")
    data.add_argument("--out", type=pathlib.Path, default=pathlib.Path("data/qm9.npz"))

    modes = commands.add_parser("modes", help="time every mode's step next to equal weighting's")
    modes.add_argument("--out", type=pathlib.Path, required=True, help="folder of the results")
    modes.add_argument("--minutes", type=float, default=8.0, help="time the command may take")
    modes.add_argument("--networks", nargs="+", choices=_NETWORKS, default=list(_NETWORKS))
    modes.add_argument("--num-tasks", nargs="+", type=int, default=[3, 11, 2])
    modes.add_argument("--dtypes", nargs="+", choices=_DTYPES, default=list(_DTYPES))
    modes.add_argument("--rounds", type=int, default=7, help="timed turns of each program")

    qm9 = commands.add_parser("qm9", help="train on QM9, as `compare qm9` does, piece by piece")
    qm9.add_argument("--data", type=pathlib.Path, required=True, help="file of the command data")
    qm9.add_argument("--out", type=pathlib.Path, required=True, help="folder of the pieces")
    qm9.add_argument("--minutes", type=float, default=9.0, help="time the command may take")
    qm9.add_argument("--methods", nargs="+", default=["stl", "ew", "db_mtl"])
    qm9.add_argument("--seeds", type=int, default=1)
    qm9.add_argument(
        "--at-once", type=int, default=11, help="single-task networks that are trained together"
    )
    qm9.add_argument("--preset", choices=("quick", "small", "medium", "paper"), default="paper")

    unpack = commands.add_parser("unpack", help="write the runs of a folder of pieces")
    unpack.add_argument("pieces", type=pathlib.Path, help="the folder --out of the command qm9")
    unpack.add_argument("--out", type=pathlib.Path, required=True, help="new folder of the runs")
    return whole


def run(arguments: list[str]) -> None:
    """Runs a command; time begins here, as importing JAX takes some of it.

    Raises:
      UserError: for an error that the user can fix.
    """
    options = parser().parse_args(arguments)
    if options.command == "modes":
        deadline = Deadline(options.minutes)
        from benchmarks.kit import modes

        modes.measure(
            options.out,
            modes.cases(options.networks, options.num_tasks, options.dtypes),
            options.rounds,
            deadline,
        )
    elif options.command == "qm9":
        deadline = Deadline(options.minutes, at_least=4)
        from benchmarks import allocator
        from benchmarks.kit import training
        from benchmarks.problems.qm9 import npz_file
        from benchmarks.problems.qm9.dataset import QM9
        from benchmarks.settings import Comparison

        allocator.keep_memory()
        data, train = QM9.preset(options.preset)
        config = Comparison(
            "qm9",
            data,
            train,
            tuple(options.methods),
            options.preset,
            options.out,
            options.seeds,
            checkpoint_seconds=150.0,
        )
        molecules = npz_file.read(options.data)
        training.train(config, molecules, deadline, at_once=options.at_once)
    elif options.command == "unpack":
        from benchmarks.kit import pieces

        pieces.unpack(options.pieces, options.out)
        print(f"written to {options.out}: python -m benchmarks report {options.out}")
    else:
        from benchmarks.problems import qm9
        from benchmarks.problems.qm9 import npz_file

        print("reading QM9 ...")
        npz_file.write(options.out, qm9.load())
        print(f"written to {options.out} ({options.out.stat().st_size / 2**20:.0f} MiB)")


def main() -> None:
    """Runs a command; what a user can fix, and an interruption, is told in one line."""
    with told_in_one_line(lambda: ": the same command goes on"):
        run(sys.argv[1:])


if __name__ == "__main__":
    main()
