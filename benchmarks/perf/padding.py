"""What chunks of QM9's batches cost and save: padded work, compilation, and the time of a step.

`python -m benchmarks.perf.padding --width 24 --batch-size 16 --methods ew db_mtl` reads the
molecules of `compare qm9` and compares numbers of chunks in turns, over the same random batches.
"""

import argparse
import collections
import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import allocator
from benchmarks.errors import told_in_one_line
from benchmarks.perf.timing import in_turns
from benchmarks.problems import qm9
from benchmarks.problems.qm9.problem import QM9Problem
from benchmarks.problems.qm9.settings import QM9Config
from benchmarks.settings import Comparison, TrainConfig
from benchmarks.training import runs

_MOLECULES = 4096


def main() -> None:
    """Prints a line for each method and number of chunks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--edge-width", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--methods", nargs="+", default=["ew", "db_mtl"])
    parser.add_argument("--chunks", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=16, help="steps that are timed together")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    allocator.keep_memory()
    molecules = qm9.load()
    config = QM9Config(
        train_size=_MOLECULES,
        validation_size=1,
        test_size=1,
        width=options.width,
        edge_width=options.edge_width,
    )
    train = TrainConfig(batch_size=options.batch_size)
    for method in options.methods:
        programs = {}
        for chunks in options.chunks:
            data = dataclasses.replace(config, chunks=chunks)
            problem = QM9Problem(data, train.batch_size, molecules)
            comparison = Comparison("qm9", data, train, (method,))
            print(f"{method}, {chunks} chunks: {_padding(problem)}", end="", flush=True)
            begin = time.perf_counter()
            programs[chunks] = _steps(method, problem, comparison, options.steps)
            print(f", compiled in {time.perf_counter() - begin:.0f} s", flush=True)
        for chunks, seconds in in_turns(programs, options.rounds).items():
            step = 1e3 * statistics.median(seconds) / options.steps
            print(f"{method}, {chunks} chunks: {step:.1f} ms a step", flush=True)


def _padding(problem: QM9Problem) -> str:
    """What is computed in an epoch, relative to molecules without padding."""
    batches = problem.batches("train")
    atoms = problem.num_atoms("train")
    paddings = collections.Counter(static for static, _ in batches)
    sizes = np.array([static for static, _ in batches], float)
    (most, count), *_ = paddings.most_common()
    return (
        f"{sizes.mean() / atoms.mean():.2f} times the atoms, "
        f"{np.square(sizes).mean() / np.square(atoms.astype(float)).mean():.2f} times the pairs, "
        f"{len(paddings)} paddings, {count / len(batches):.0%} of the batches have {most}"
    )


def _steps(
    method: str, problem: QM9Problem, comparison: Comparison, count: int
) -> Callable[[], Any]:
    """A function that takes the next steps of an epoch that never ends; all is compiled before."""
    programs = runs.programs_of(method, problem, comparison)
    rates = programs.copies(jnp.full(programs.model.num_models, 1e-3))
    batches = list(programs.read(problem.batches("train")))
    first = {batch[0]: batch for batch in batches}
    order = itertools.cycle(batches)
    states = [programs.init_state(programs.init(0), 0)]

    def step(batch: Any) -> Any:
        state, losses = programs.train_step(states.pop(), batch, rates)
        states.append(state)
        return losses

    jax.block_until_ready([step(batch) for batch in first.values()])
    return lambda: [step(batch) for batch in itertools.islice(order, count)]


if __name__ == "__main__":
    with told_in_one_line():
        main()
