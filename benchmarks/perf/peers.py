"""The time of a step of DB-MTL compared with PyTorch: a plain loop, TorchJD and LibMTL."""

import functools
import os
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from rich.table import Table

from benchmarks.perf import steps
from benchmarks.perf.network import Network
from benchmarks.perf.timing import in_turns
from benchmarks.perf.verdict import Goal, Verdict, judged
from benchmarks.perf.worker import Worker

NETWORKS = ("mlp", "resnet")
"""The networks that `torch_worker.py` also has."""

PEERS = {
    "loop": "PyTorch, plain loop",
    "torchjd": "TorchJD",
    "torchjd-sequential": "TorchJD, one task at a time",
    "libmtl": "LibMTL",
}
GOALS = {
    ("mlp", 3, "libmtl"): Goal(0.28, 0.4),
    ("mlp", 11, "libmtl"): Goal(0.24, 0.4),
    ("resnet", 3, "libmtl"): Goal(0.8, 1.0),
    ("resnet", 11, "libmtl"): Goal(0.48, 0.65),
    ("mlp", 2, "torchjd"): Goal(0.4, 0.5),
    ("mlp", 3, "torchjd"): Goal(0.4, 0.5),
    ("mlp", 11, "torchjd"): Goal(0.4, 0.5),
    ("resnet", 11, "torchjd"): Goal(0.55, 0.7),
}
"""Goals for the time of our step relative to that of the peer, by network, tasks and peer."""


class Row(NamedTuple):
    """The result of one peer; times and ratios are medians over the rounds."""

    network: str
    num_tasks: int
    peer: str
    milliseconds: float  # time of the peer's step
    over_its_ew: float  # relative to a step of equal weighting in PyTorch
    our_milliseconds: float
    ratio: float  # our time relative to the peer's
    target: float | None
    fail: float | None
    verdict: Verdict


def measure(
    name: str, network: Network, mode: str, worker: Worker, rounds: int
) -> tuple[list[Row], list[str]]:
    """Times our step, in one mode of the engine, and those of PyTorch in turns.

    Returns:
      The rows, and a message for each peer that is not installed.
    """
    step, state = steps.step_of(network, mode)
    program = step.lower(state, network.batch).compile()
    states = [state]

    def ours() -> Any:
        states.append(program(states.pop(), network.batch))
        return states

    def theirs(peer: str) -> str:
        return worker.ask(f"{name} {network.num_tasks} {peer}")

    first = {peer: theirs(peer) for peer in ("ew", *PEERS)}
    missing = [f"{PEERS[p]}: {answer}" for p, answer in first.items() if "missing" in answer]
    there = [peer for peer, answer in first.items() if "missing" not in answer]
    turns: dict[str, Callable[[], Any]] = {"ours": ours}
    turns |= {peer: functools.partial(theirs, peer) for peer in there}
    times = in_turns(turns, rounds)
    rows = []
    for peer in there:
        if peer == "ew":
            continue
        ratio = _median_ratio(times["ours"], times[peer])
        rows.append(
            Row(
                name,
                network.num_tasks,
                peer,
                1e3 * statistics.median(times[peer]),
                _median_ratio(times[peer], times["ew"]),
                1e3 * statistics.median(times["ours"]),
                ratio,
                *judged(GOALS.get((name, network.num_tasks, peer.split("-")[0])), ratio),
            )
        )
    return rows, missing


def open_worker(python: pathlib.Path) -> Worker:
    """Starts PyTorch in another process, with as many threads as there are processors."""
    script = pathlib.Path(__file__).with_name("torch_worker.py")
    return Worker(python, script, os.cpu_count() or 1)


def table(rows: Sequence[Row], version: str) -> Table:
    """The rows as a table for the terminal."""
    device = jax.devices()[0].device_kind
    title = f"DB-MTL's step over its peers', {device}, {version} (goal: target / failure)"
    result = Table(title=title, title_justify="left")
    result.add_column("network", no_wrap=True)
    result.add_column("T", justify="right", no_wrap=True)
    result.add_column("peer")
    for heading in ("its\nms", "over its\nEW", "our\nms", "ours\n/ its"):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("goal", justify="right")
    for row in rows:
        goal = "" if row.target is None else f"{row.target:g} / {row.fail:g} {row.verdict}"
        result.add_row(
            row.network,
            str(row.num_tasks),
            PEERS[row.peer],
            f"{row.milliseconds:.1f}",
            f"{row.over_its_ew:.2f}",
            f"{row.our_milliseconds:.1f}",
            f"{row.ratio:.2f}",
            goal,
        )
    return result


def _median_ratio(a: Sequence[float], b: Sequence[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))
