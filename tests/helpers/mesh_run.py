"""A tiny comparison on virtual devices, as `python -m tests.helpers.mesh_run OUT --devices 8 ...`.

A process of its own: how many devices a CPU is must be known before JAX starts. With --stop N it is
interrupted before the N-th step of its first method, and begins again.
"""

import argparse
import contextlib
import dataclasses
import functools
import pathlib

import jax
from rich.console import Console

import tests.conftest  # noqa: F401  # the same settings of JAX
from benchmarks import compare
from benchmarks.config import Compare
from benchmarks.problems import qm9
from benchmarks.problems.qm9 import problem as qm9_problem
from benchmarks.problems.qm9.problem import QM9Problem
from benchmarks.training import checkpoints
from benchmarks.training.programs import Programs
from tests.benchmarks.conftest import QM9, TASKS, TRAIN, make_molecules
from tests.helpers.interruptions import Interruption, before_step
from tests.helpers.noisy_problem import NoisyProblem


def comparison(out: pathlib.Path) -> Compare:
    """Of two methods, with a checkpoint at every step and batches of two chunks."""
    data = dataclasses.replace(QM9, chunks=2)
    train = dataclasses.replace(TRAIN, epochs=1)
    return Compare("qm9", data, train, ("stl", "db_mtl"), out=out, checkpoint_seconds=0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--problem", choices=("qm9", "noisy"), default="qm9")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--mesh", default="")
    parser.add_argument("--stop", type=int, default=0)
    parser.add_argument("--process", type=int, help="of two")
    parser.add_argument("--coordinator", help="of the two")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", options.devices)

    def stop() -> None:
        raise Interruption

    make = Programs.__init__
    steps_until_stop = [options.stop]

    def made(self, *arguments, **keywords):
        make(self, *arguments, **keywords)
        if steps_until_stop:
            self._train_step = before_step(steps_until_stop.pop(), self._train_step, stop)

    Programs.__init__ = made
    qm9.load = lambda *_: make_molecules()
    qm9_problem.QM9Problem = functools.partial(QM9Problem, tasks=TASKS)
    if options.problem == "noisy":
        compare.open_problem = lambda *_: NoisyProblem()
    config = dataclasses.replace(
        comparison(options.out),
        mesh=options.mesh,
        distributed=options.process is not None,
        coordinator=options.coordinator,
        process_id=options.process,
        num_processes=None if options.process is None else 2,
    )
    checkpoints._ASK_EVERY = 1  # runs are short
    compare.render = lambda *_: None  # nothing to see
    with contextlib.suppress(Interruption):
        compare.compare(config, Console(width=200))
    if options.stop:
        compare.compare(config, Console(width=200))


if __name__ == "__main__":
    main()
