"""A comparison of the noisy problem that is killed, as `python -m tests.helpers.killed_run`.

Arguments: the folder of results, then one of
  step N: dies before the N-th step of the process;
  publish N: dies after the N-th checkpoint is written and before it has its name;
  hold N: before the N-th step makes the file `holding` in the folder, waits for the file `go`
    there, and dies.
"""

import dataclasses
import os
import pathlib
import signal
import sys
import time

from rich.console import Console

import tests.conftest  # noqa: F401  # the same settings of JAX, so that programs are the same
from benchmarks import compare
from benchmarks.config import Compare
from benchmarks.training.programs import Programs
from tests.benchmarks.conftest import QM9, TRAIN
from tests.helpers.interruptions import before_step
from tests.helpers.noisy_problem import NoisyProblem


def comparison(out: pathlib.Path) -> Compare:
    """Of two methods and two seeds, with a checkpoint at every step."""
    train = dataclasses.replace(TRAIN, epochs=4)
    methods = ("stl", "igbv2")
    return Compare("qm9", QM9, train, methods, out=out, seeds=2, checkpoint_seconds=0)


def die() -> None:
    """As on a loss of power."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(out: pathlib.Path, what: str, number: int) -> None:
    def hold() -> None:
        (out / "holding").touch()
        while not (out / "go").exists():
            time.sleep(0.05)
        die()

    if what == "publish":
        rename = os.rename
        renamed = 0

        def counted(source, target, **options):
            nonlocal renamed
            renamed += str(source).endswith("-tmp")
            if renamed == number:
                die()
            rename(source, target, **options)

        os.rename = counted
    else:
        act = {"step": die, "hold": hold}[what]
        make = Programs.__init__
        created = 0

        def made(self, *arguments, **options):
            nonlocal created
            make(self, *arguments, **options)
            created += 1
            if created == 1:
                self._train_step = before_step(number, self._train_step, act)

        Programs.__init__ = made
    train(out, Console(width=200))


def train(out: pathlib.Path, console: Console) -> None:
    """What `benchmarks.jobs` can have several processes do."""
    compare.open_problem = lambda *_: NoisyProblem()
    compare.run_missing(comparison(out), console)


def die_in(out: pathlib.Path, step: int, console: Console) -> None:
    """The same, but dies before a step of the process."""
    main(out, "step", step)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
