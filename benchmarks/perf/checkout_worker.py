"""The programs of one checkout, timed on request: the other end of `against.py`.

Started with the checkout's folder, from which `dbmtl_jax` and `benchmarks` must be imported.  The
first line that it writes is the environment as JSON.  Then it answers requests on standard input, a
line each: "build SUBJECT TASKS NAME" with "built" or "missing", and "run" with the seconds that the
program built last takes.

The checkout may be an older commit.  So this file takes nothing from it but
`benchmarks.perf.steps`, `benchmarks.run_log.environment`, and public names of `dbmtl_jax`.
"""

import functools
import gc
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

import benchmarks
import dbmtl_jax as dbmtl
from benchmarks import run_log
from benchmarks.perf import steps

LEAVES, SIDE = 10, 1000
"""Gradients of ten million parameters, as in `transformation.py` and `aggregation.py`."""

Program = Callable[[], Any]
"""Returns the arrays to wait for."""


def main() -> None:
    """Serves until standard input ends."""
    refuse_other_checkouts(pathlib.Path(sys.argv[1]))
    print(json.dumps(run_log.environment()), flush=True)
    for answer in answers(sys.stdin):
        print(answer, flush=True)


def refuse_other_checkouts(checkout: pathlib.Path) -> None:
    """Ends the process if a package is not the checkout's, so that no other is timed for it."""
    for package in (dbmtl, benchmarks):
        found = pathlib.Path(package.__file__ or "").resolve()
        if not found.is_relative_to(checkout.resolve()):
            sys.exit(f"{package.__name__} is imported from {found}")


def answers(requests: Iterable[str]) -> Iterator[str]:
    """Answers each request, and keeps no more than one program in memory."""
    program: Program | None = None
    for request in requests:
        command, *words = request.split()
        if command == "build":
            program = None
            gc.collect()
            jax.clear_caches()
            subject, num_tasks, name = words
            program = build(subject, int(num_tasks), name)
            yield "missing" if program is None else "built"
        elif program is not None:
            yield str(seconds(program))


def seconds(program: Program) -> float:
    """Calls it twice, and the second call counts: see `timing.in_turns`."""
    jax.block_until_ready(program())
    begin = time.perf_counter()
    jax.block_until_ready(program())
    return time.perf_counter() - begin


def build(subject: str, num_tasks: int, name: str) -> Program | None:
    """Makes a program.

    Args:
      subject: a network, or "transformation" or "aggregation".
      num_tasks: T.
      name: the mode of a network's step; else the method.

    Returns:
      None if the checkout has no such program, or thinks it not worth timing.
    """
    if subject not in ("transformation", "aggregation"):
        return _step(subject, num_tasks, name)
    if name not in dbmtl.METHODS:
        return None
    return (_transformation if subject == "transformation" else _aggregation)(num_tasks, name)


@functools.lru_cache(maxsize=1)
def _network(name: str, num_tasks: int) -> Any:
    return steps.NETWORKS[name](num_tasks)


def _step(network_name: str, num_tasks: int, mode: str) -> Program | None:
    """A training step with DB-MTL; in place of a mode, `steps.EW` or `steps.ROWS`."""
    if network_name not in steps.NETWORKS:
        return None
    network = _network(network_name, num_tasks)
    timed = getattr(network, "modes", (mode,))  # older commits time some
    if mode not in (steps.EW, steps.ROWS, *timed):
        return None
    step, state = steps.step_of(network, mode)
    compiled = step.lower(state, network.batch).compile()

    def call() -> Any:
        nonlocal state
        state = compiled(state, network.batch)
        return state

    return call


@functools.lru_cache(maxsize=1)
def _grads(num_tasks: int) -> list[jax.Array]:
    return [jax.random.normal(jax.random.key(i), (num_tasks, SIDE, SIDE)) for i in range(LEAVES)]


def _transformation(num_tasks: int, name: str) -> Program:
    return _update(dbmtl.METHODS[name](num_tasks, 0.9), num_tasks, losses=jnp.ones(num_tasks))


def _aggregation(num_tasks: int, name: str) -> Program:
    return _update(dbmtl.METHODS[name](num_tasks), num_tasks)


def _update(tx: Any, num_tasks: int, **losses: jax.Array) -> Program:
    """An update that writes into donated memory.

    In fresh memory the operating system's work would be timed too, which by chance is done in one
    process and spared in the other.
    """
    grads = _grads(num_tasks)

    @functools.partial(jax.jit, donate_argnums=(0, 1), keep_unused=True)
    def step(state: Any, updates: Any, grads: Any, losses: dict[str, jax.Array]) -> Any:
        del updates  # their memory is that of the new ones
        return tx.update(grads, state, params=None, **losses)

    updates: Any = [jnp.zeros((SIDE, SIDE)) for _ in range(LEAVES)]
    state = tx.init(updates)

    def call() -> Any:
        nonlocal updates, state
        updates, state = step(state, updates, grads, losses)
        return updates, state

    return call


if __name__ == "__main__":
    main()
