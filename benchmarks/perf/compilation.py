"""The time to compile a step of every method, and whether later steps compile again."""

import time
from typing import Any

import jax
import optax

import dbmtl_jax as dbmtl
from benchmarks import methods
from benchmarks.perf import steps
from benchmarks.perf.measurement import Figure, Goal, Measurement
from benchmarks.perf.mlp import mlp

MANY_TASKS = 40
"""The number of tasks for which the goal holds."""

METHODS = tuple(name for name in dbmtl.METHODS if name not in methods.OF_TWO_BATCHES)
"""The methods that take a step with one batch."""

GOAL = Goal(10.0, 10.0)
"""The goal in seconds for the MLP with `MANY_TASKS` tasks."""


def measure(num_tasks: int, num_steps: int = 3) -> list[Measurement]:
    """Takes a few steps with every method, and with DB-MTL also for many tasks.

    The persistent compilation cache is not used.
    """
    cached = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        rows = [_measure(name, num_tasks, None, num_steps) for name in METHODS]
        return [*rows, _measure("db_mtl", MANY_TASKS, GOAL, num_steps)]
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)


def _measure(name: str, num_tasks: int, goal: Goal | None, num_steps: int) -> Measurement:
    network = mlp(num_tasks)
    options: dict[str, Any] = {
        "labels": network.labels,
        "steps_per_epoch": num_steps,
        "weight_optimizer": optax.sgd(1e-3),
    }
    step, state = steps.step_of(network, "stream", methods.build(name, num_tasks, **options))
    begin = time.perf_counter()
    state = jax.block_until_ready(step(state, network.batch))
    seconds = time.perf_counter() - begin
    for _ in range(num_steps - 1):
        state = step(state, network.batch)
    return Measurement(
        "mlp",
        num_tasks,
        name,
        {
            "first_step_seconds": Figure(seconds, goal=goal),
            "programs": Figure(step._cache_size()),
        },
    )
