"""The time of a step of DB-MTL compared with PyTorch: a plain loop, TorchJD and LibMTL."""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks.perf import steps
from benchmarks.perf.measurement import Goal, Measurement, milliseconds, ratio
from benchmarks.perf.network import Network
from benchmarks.perf.timing import in_turns
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


def measure(
    name: str, network: Network, mode: str, worker: Worker, rounds: int
) -> tuple[list[Measurement], list[str]]:
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
        goal = GOALS.get((name, network.num_tasks, peer.split("-")[0]))
        rows.append(
            Measurement(
                name,
                network.num_tasks,
                peer,
                {
                    "milliseconds": milliseconds(times["ours"]),
                    "their_milliseconds": milliseconds(times[peer]),
                    "over_theirs": ratio(times["ours"], times[peer], goal),
                    "their_over_ew": ratio(times[peer], times["ew"]),
                },
            )
        )
    return rows, missing


def open_worker(python: pathlib.Path) -> Worker:
    """Starts PyTorch in another process, with as many threads as there are processors."""
    script = pathlib.Path(__file__).with_name("torch_worker.py")
    return Worker(python, script, os.cpu_count() or 1)
