"""The methods that work on the Gramian, next to TorchJD's on gradients of the same size."""

import os
import pathlib
import statistics
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.table import Table

import dbmtl_jax as dbmtl
from benchmarks.errors import UserError
from benchmarks.methods import DISPLAY_NAMES
from benchmarks.perf.timing import in_turns

METHODS = ("mgda", "pcgrad", "grad_vac", "imtl_g", "cagrad", "nash_mtl", "aligned_mtl")
"""Those that both libraries have."""


class Row(NamedTuple):
    """Medians over rounds."""

    method: str
    num_tasks: int
    num_parameters: int
    milliseconds: float  # of one update
    over_sum: float  # relative to a plain sum of the gradients
    torchjd_milliseconds: float  # NaN without TorchJD
    over_torchjd: float


class TorchJD:
    """TorchJD in a process of its own."""

    def __init__(self, python: pathlib.Path, num_tasks: int, num_parameters: int) -> None:
        worker = pathlib.Path(__file__).with_name("torchjd_worker.py")
        sizes = [str(n) for n in (num_tasks, num_parameters, os.cpu_count() or 1)]
        try:
            self._process = subprocess.Popen(
                [python, worker, *sizes],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            raise UserError(f"--torchjd-python: cannot run {python}: {error.strerror}") from error
        self.version = self._answer()

    def seconds(self, name: str) -> float:
        """The time of one call of an aggregator."""
        if self._process.stdin is None:
            raise RuntimeError("the worker has no standard input")
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _answer(self) -> str:
        answer = self._process.stdout.readline() if self._process.stdout else ""
        if not answer:
            _, errors = self._process.communicate()
            last = errors.strip().splitlines()[-1:] or ["it ended without a word"]
            raise UserError(f"--torchjd-python: TorchJD failed: {last[0]}")
        return answer.strip()


def measure(
    num_tasks: int,
    torchjd_python: pathlib.Path | None,
    *,
    num_leaves: int = 10,
    side: int = 1000,
    rounds: int = 7,
) -> list[Row]:
    """Times updates of gradients [T, side, side] in `num_leaves` leaves, in turns with TorchJD.

    TorchJD has the same number of parameters as one matrix [T, P], which spares it the
    concatenation of its leaves, and as many threads as there are processors.
    """
    grads = [
        jax.random.normal(jax.random.key(i), (num_tasks, side, side)) for i in range(num_leaves)
    ]
    params = [jnp.zeros((side, side)) for _ in range(num_leaves)]
    num_parameters = num_leaves * side * side

    def program(name: str) -> Callable[[], Any]:
        tx = dbmtl.METHODS[name](num_tasks)
        update = jax.jit(tx.update)
        state = [tx.init(params)]

        def call() -> Any:
            updates, state[0] = update(grads, state[0])
            return updates

        return call

    programs: Mapping[str, Callable[[], Any]] = {name: program(name) for name in ("ew", *METHODS)}
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    peer = TorchJD(torchjd_python, num_tasks, num_parameters) if torchjd_python else None

    def torchjd(name: str) -> Callable[[], Any]:
        def call() -> None:
            if peer is not None:
                seconds[name].append(peer.seconds(DISPLAY_NAMES[name]))

        return call

    turns = {}
    for name, call in programs.items():
        turns[name] = call
        if name in METHODS:
            turns[f"TorchJD {name}"] = torchjd(name)
    try:
        times = in_turns(turns, rounds)
    finally:
        if peer is not None:
            peer.close()

    rows = []
    for name in METHODS:
        theirs = seconds[name][1:] or [float("nan")] * rounds
        rows.append(
            Row(
                name,
                num_tasks,
                num_parameters,
                1e3 * statistics.median(times[name]),
                statistics.median(a / b for a, b in zip(times[name], times["ew"], strict=True)),
                1e3 * statistics.median(theirs),
                statistics.median(a / b for a, b in zip(times[name], theirs, strict=True)),
            )
        )
    return rows


def table(rows: list[Row]) -> Table:
    """For the terminal."""
    result = Table(title="aggregation alone, Gramian methods", title_justify="left")
    for heading in ("method", "T", "P", "ms", "over a sum", "TorchJD ms", "over TorchJD"):
        result.add_column(heading, justify="left" if heading == "method" else "right")
    for row in rows:
        result.add_row(
            DISPLAY_NAMES[row.method],
            str(row.num_tasks),
            f"{row.num_parameters:,}",
            f"{row.milliseconds:.1f}",
            f"{row.over_sum:.2f}",
            f"{row.torchjd_milliseconds:.1f}",
            f"{row.over_torchjd:.2f}",
        )
    return result
