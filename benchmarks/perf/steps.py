"""Time and memory of a step of DB-MTL relative to equal weighting, for every mode of the engine."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

import dbmtl_jax as dbmtl
from benchmarks.perf.compiled import needed_bytes
from benchmarks.perf.measurement import Figure, Goal, Measurement, Quantity, milliseconds, ratio
from benchmarks.perf.mlp import mlp
from benchmarks.perf.network import FORMS, MODES, README, Network, refresh_of
from benchmarks.perf.qm9 import qm9
from benchmarks.perf.resnet import resnet
from benchmarks.perf.timing import in_turns

GOALS = {
    ("mlp", 2): Goal(1.75, 2.0),
    ("mlp", 3): Goal(2.35, 2.7),
    ("mlp", 11): Goal(7.0, 8.5),
    ("resnet", 3): Goal(1.8, 2.2),
    ("resnet", 11): Goal(4.9, 6.0),
}
"""Goals for the time of a step relative to equal weighting on CPUs, by network and tasks."""

README_GOALS = {
    ("mlp", 2): Goal(1.85, 2.0),
    ("mlp", 3): Goal(2.5, 2.7),
    ("mlp", 11): Goal(7.8, 8.5),
}
"""The same for the pattern of the README's example."""

MEMORY_GOALS = {("mlp", 11): Goal(11.5, 17.5)}
"""Goals for the memory beyond that of equal weighting, in units of the shared parameters."""

_LEARNING_RATE = 1e-4

EW = "EW"
"""In place of a mode: equal weighting, the gradient of the sum of the losses."""

ROWS = "rows"
"""In place of a mode: only the gradient of every task and its norm, one task after the other."""


NETWORKS: dict[str, Callable[..., Network]] = {"mlp": mlp, "qm9": qm9, "resnet": resnet}
"""From the number of tasks, and the type to compute in."""


def step_of(
    network: Network,
    mode: str,
    method: optax.GradientTransformationExtraArgs | None = None,
) -> tuple[Any, Any]:
    """A jitted SGD step with donated state, and the initial state.

    Args:
      network: the network to train.
      mode: mode of the engine, or one of `FORMS`, or `README`, `EW` or `ROWS`.
      method: method that combines the task gradients; None: DB-MTL in the form of the mode.
    """
    tx = optax.sgd(_LEARNING_RATE)
    if mode not in (EW, ROWS):
        tx = dbmtl.chain(method or _db_mtl(network, mode), tx)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        params, opt_state = state
        if mode == ROWS:
            _, pending = network.task_grads("stream")(params, batch)
            return params, pending.rows().squared_norms()
        if mode == EW:
            grads = jax.grad(lambda p: sum(network.losses(p, batch)))(params)
            updates, opt_state = tx.update(grads, opt_state, params)
        else:
            losses, grads = _task_grads(network, mode)(params, batch)
            updates, opt_state = tx.update(grads, opt_state, params, losses=losses)
        return optax.apply_updates(params, updates), opt_state

    params = jax.tree.map(jnp.copy, network.params)
    first = jnp.zeros(network.num_tasks) if mode == ROWS else tx.init(params)
    return step, (params, first)


def _task_grads(network: Network, mode: str) -> Callable[[Any, Any], tuple[Any, Any]]:
    if mode != README:
        return network.task_grads(mode)
    return dbmtl.value_and_task_grads(network.losses, labels=network.labels, stream=True)


def _db_mtl(network: Network, mode: str) -> optax.GradientTransformationExtraArgs:
    """DB-MTL, which averages norms where it would not sum the averages."""
    every = refresh_of(mode)
    method = dbmtl.db_mtl(
        network.num_tasks,
        0.9,
        average="norms" if every > 1 or mode == "representation" else "gradients",
        labels=network.labels,
        measured=dbmtl.labels_by_path(network.last_shared) if mode == "measured" else None,
    )
    return dbmtl.refresh_weights(method, every) if every > 1 else method


def best_mode(rows: Sequence[Measurement], network: str, num_tasks: int) -> str:
    """The fastest measured mode of a network; "stream" if none is measured."""
    found = [row for row in rows if (row.subject, row.num_tasks) == (network, num_tasks)]
    of_mode = {row.name: row.figures["over_ew"].value for row in found if row.name in MODES}
    return min(of_mode, key=lambda mode: of_mode[mode], default="stream")


class Program:
    """The compiled step of a mode, with the state that its steps change."""

    def __init__(self, network: Network, mode: str) -> None:
        step, self._state = step_of(network, mode)
        self._batch = network.batch
        begin = time.perf_counter()
        self.compiled = step.lower(self._state, self._batch).compile()
        self.compile_seconds = time.perf_counter() - begin

    def run(self, steps: int) -> Any:
        """Takes steps, and returns the arrays to wait for."""
        for _ in range(steps):
            self._state = self.compiled(self._state, self._batch)
        return self._state


def measure(name: str, network: Network, modes: Sequence[str], rounds: int) -> list[Measurement]:
    """Times a step of every mode, of equal weighting, and of the gradients alone."""
    programs = {mode: Program(network, mode) for mode in (EW, ROWS, *modes)}
    turns = in_turns(
        {mode: functools.partial(p.run, refresh_of(mode)) for mode, p in programs.items()}, rounds
    )
    times = {mode: [t / refresh_of(mode) for t in taken] for mode, taken in turns.items()}
    shared_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(network.params[0]))
    full = ratio(times.get("stream", times[EW]), times[EW]).value
    needed = {mode: needed_bytes(program.compiled) for mode, program in programs.items()}
    rows = []
    for mode, program in programs.items():
        goal, memory_goal = _goals(name, network.num_tasks, mode, full)
        figures: dict[Quantity, Figure] = {
            "milliseconds": milliseconds(times[mode]),
            "over_ew": ratio(times[mode], times[EW], goal),
            "compile_seconds": Figure(program.compile_seconds),
            "memory": Figure((needed[mode] - needed[EW]) / shared_bytes, goal=memory_goal),
        }
        rows.append(Measurement(name, network.num_tasks, mode, figures))
    return rows


def _goals(name: str, num_tasks: int, mode: str, full: float) -> tuple[Goal | None, Goal | None]:
    """The goals for time and memory of a mode; `full` is the ratio of the exact method's step."""
    if mode in FORMS and num_tasks == 11:
        every = refresh_of(mode)
        target = 1.35 if every == 1 else 1.1 + (full - 1) / every
        return Goal(target, target + 0.15), None
    of_mode = README_GOALS if mode == README else GOALS if mode in MODES else {}
    memory = MEMORY_GOALS if mode in MODES else {}
    return of_mode.get((name, num_tasks)), memory.get((name, num_tasks))
