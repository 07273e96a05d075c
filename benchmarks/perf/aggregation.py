"""The times of methods that use the Gramian of the gradients, compared with those of TorchJD."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import dbmtl_jax as dbmtl
from benchmarks.methods import DISPLAY_NAMES
from benchmarks.perf.measurement import Figure, Goal, Measurement, Quantity, milliseconds, ratio
from benchmarks.perf.timing import in_turns
from benchmarks.perf.worker import Worker

_OF_THE_PAPER = ("mgda", "pcgrad", "grad_vac", "imtl_g", "cagrad", "nash_mtl", "aligned_mtl")
_BEYOND = ("upgrad", "dual_proj", "con_fig", "fair_grad")

SUBJECT = "aggregation"

METHODS = (*_OF_THE_PAPER, *_BEYOND)
"""The methods that both libraries have."""

GOALS = {name: Goal(0.35, 0.5) for name in _OF_THE_PAPER} | {
    name: Goal(0.3, 0.5) for name in _BEYOND
}
"""The goals for the time of our update relative to that of TorchJD, for eleven tasks."""


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
) -> tuple[list[Measurement], list[str]]:
    """Times updates of gradients [T, side, side] in `num_leaves` leaves, in turns with TorchJD.

    TorchJD gets the gradients as one matrix [T, P], so that it need not concatenate leaves, and as
    many threads as there are processors.

    Returns:
      The rows, and a message for each method that TorchJD lacks.
    """
    grads = [
        jax.random.normal(jax.random.key(i), (num_tasks, side, side)) for i in range(num_leaves)
    ]
    num_parameters = num_leaves * side * side
    turns: dict[str, Callable[[], Any]] = {
        name: _program(name, num_tasks, grads) for name in ("ew", *METHODS)
    }
    missing = []
    with contextlib.ExitStack() as stack:
        if torch_python is not None:
            peer = stack.enter_context(open_torchjd(torch_python, num_tasks, num_parameters))
            for name in METHODS:
                answer = peer.ask(DISPLAY_NAMES[name])
                if "missing" in answer:
                    missing.append(f"TorchJD's {DISPLAY_NAMES[name]}: {answer}")
                else:
                    turns[_peer(name)] = functools.partial(peer.ask, DISPLAY_NAMES[name])
        times = in_turns(turns, rounds)
    rows = [_measured(name, num_tasks, num_parameters, times) for name in METHODS]
    return rows, missing


def _program(name: str, num_tasks: int, grads: list[jax.Array]) -> Callable[[], Any]:
    """A method's update, which goes on from the state that the one before has left."""
    tx = dbmtl.METHODS[name](num_tasks)
    update = jax.jit(tx.update)
    state = tx.init([jnp.zeros(g.shape[1:]) for g in grads])

    def call() -> Any:
        nonlocal state
        updates, state = update(grads, state)
        return updates

    return call


def _measured(
    name: str, num_tasks: int, num_parameters: int, times: Mapping[str, Sequence[float]]
) -> Measurement:
    """The figures of a method; those next to TorchJD's only if it was timed."""
    figures: dict[Quantity, Figure] = {
        "parameters": Figure(num_parameters),
        "milliseconds": milliseconds(times[name]),
        "over_ew": ratio(times[name], times["ew"]),
    }
    theirs = times.get(_peer(name))
    if theirs is not None:
        goal = GOALS[name] if num_tasks == 11 else None
        figures["their_milliseconds"] = milliseconds(theirs)
        figures["over_theirs"] = ratio(times[name], theirs, goal)
    return Measurement(SUBJECT, num_tasks, name, figures)


def _peer(name: str) -> str:
    return f"TorchJD {name}"
