"""The times of methods that use the Gramian of the gradients, compared with those of TorchJD."""

import contextlib
import functools
import math
import os
import pathlib
import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.table import Table

import dbmtl_jax as dbmtl
from benchmarks.methods import DISPLAY_NAMES
from benchmarks.perf.timing import in_turns
from benchmarks.perf.verdict import Goal, Verdict, judged
from benchmarks.perf.worker import Worker

_OF_THE_PAPER = ("mgda", "pcgrad", "grad_vac", "imtl_g", "cagrad", "nash_mtl", "aligned_mtl")
_BEYOND = ("upgrad", "dual_proj", "con_fig", "fair_grad")

METHODS = (*_OF_THE_PAPER, *_BEYOND)
"""The methods that both libraries have."""

GOALS = {name: Goal(0.35, 0.5) for name in _OF_THE_PAPER} | {
    name: Goal(0.3, 0.5) for name in _BEYOND
}
"""The goals for the time of our update relative to that of TorchJD, for eleven tasks."""


class Row(NamedTuple):
    """The result of one method; times and ratios are medians over the rounds."""

    method: str
    num_tasks: int
    num_parameters: int
    milliseconds: float  # time of one update
    over_sum: float  # relative to a plain sum of the gradients
    torchjd_milliseconds: float  # time of one call of TorchJD; NaN without it
    over_torchjd: float  # relative to TorchJD; NaN without it
    target: float | None
    fail: float | None
    verdict: Verdict


def open_torchjd(python: pathlib.Path, num_tasks: int, num_parameters: int) -> Worker:
    """Starts TorchJD in another process, with as many threads as there are processors."""
    script = pathlib.Path(__file__).with_name("torchjd_worker.py")
    return Worker(python, script, num_tasks, num_parameters, os.cpu_count() or 1)


def measure(
    num_tasks: int,
    torch_python: pathlib.Path | None,
    *,
    num_leaves: int = 10,
    side: int = 1000,
    rounds: int = 7,
) -> tuple[list[Row], list[str]]:
    """Times updates of gradients [T, side, side] in `num_leaves` leaves, in turns with TorchJD.

    TorchJD gets the gradients as one matrix [T, P], so that it need not concatenate leaves, and as
    many threads as there are processors.

    Returns:
      The rows, and a message for each method that TorchJD lacks.
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
    missing = {}
    with contextlib.ExitStack() as stack:
        turns: dict[str, Callable[[], Any]] = dict(programs)
        if torch_python is not None:
            peer = stack.enter_context(open_torchjd(torch_python, num_tasks, num_parameters))
            for name in METHODS:
                answer = peer.ask(DISPLAY_NAMES[name])
                if "missing" in answer:
                    missing[name] = f"TorchJD's {DISPLAY_NAMES[name]}: {answer}"
                else:
                    turns[_peer(name)] = functools.partial(peer.ask, DISPLAY_NAMES[name])
        times = in_turns(turns, rounds)

    rows = []
    for name in METHODS:
        theirs = times.get(_peer(name), [math.nan] * rounds)
        over_torchjd = statistics.median(a / b for a, b in zip(times[name], theirs, strict=True))
        rows.append(
            Row(
                name,
                num_tasks,
                num_parameters,
                1e3 * statistics.median(times[name]),
                statistics.median(a / b for a, b in zip(times[name], times["ew"], strict=True)),
                1e3 * statistics.median(theirs),
                over_torchjd,
                *judged(
                    GOALS[name] if _peer(name) in times and num_tasks == 11 else None, over_torchjd
                ),
            )
        )
    return rows, list(missing.values())


def _peer(name: str) -> str:
    return f"TorchJD {name}"


def table(rows: list[Row]) -> Table:
    """The rows as a table for the terminal."""
    size = f"{rows[0].num_parameters:,} parameters" if rows else ""
    result = Table(title=f"aggregation alone, Gramian methods, {size}", title_justify="left")
    result.add_column("method", no_wrap=True)
    for heading in ("T", "ms", "over\na sum", "TorchJD\nms", "over\nTorchJD"):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("goal", justify="right")
    for row in rows:
        result.add_row(
            DISPLAY_NAMES[row.method],
            str(row.num_tasks),
            f"{row.milliseconds:.1f}",
            f"{row.over_sum:.2f}",
            f"{row.torchjd_milliseconds:.1f}",
            f"{row.over_torchjd:.2f}",
            "" if row.target is None else f"{row.target:g} / {row.fail:g} {row.verdict}",
        )
    return result
