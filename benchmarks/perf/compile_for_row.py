"""A row of `perf --compile-for`: a training step, and what its compiled program takes."""

from typing import NamedTuple

from benchmarks.perf.compiled import Compiled


class Program(NamedTuple):
    """A training step for batches of one size on one device."""

    target: str
    network: str
    num_tasks: int
    batch_size: int
    method: str
    mode: str


Row = Compiled[Program]
