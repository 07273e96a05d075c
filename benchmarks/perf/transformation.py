"""The DB-MTL transformation alone, next to the same arithmetic unchecked and to memory speed."""

import functools
import operator
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import dbmtl_jax as dbmtl
from benchmarks.perf.timing import in_turns
from benchmarks.perf.verdict import Goal, Verdict, judged

GOAL = Goal(1.0, 0.8)
"""Of the bytes per second over a triad's, from ten million parameters on."""

_BETA = 0.9
_EPS = 1e-8


class Row(NamedTuple):
    """Medians over rounds for T tasks of P parameters."""

    num_tasks: int
    num_parameters: int
    milliseconds: float  # of one update
    over_unchecked: float  # relative to the arithmetic without any check
    over_triad: float  # bytes that must move, 4 (4 T P + P), per second, over those of a triad
    target: float | None  # of over_triad
    fail: float | None
    verdict: Verdict


def unchecked(average: list[jax.Array], grads: list[jax.Array], losses: jax.Array) -> Any:
    """Log, average, norms and sum as they stand in the paper, and nothing else."""
    inverse = (1 / (losses + _EPS)).reshape(-1, 1, 1)
    average = [g * inverse + _BETA * (a - g * inverse) for g, a in zip(grads, average, strict=True)]
    norms = jnp.sqrt(sum(jnp.sum(a * a, axis=(1, 2)) for a in average))
    weights = norms.max() / (norms + _EPS)
    updates = [
        functools.reduce(operator.add, (weights[t] * a[t] for t in range(losses.shape[0])))
        for a in average
    ]
    return updates, average


def measure(num_tasks: int, num_leaves: int = 10, side: int = 1000, rounds: int = 7) -> Row:
    """Times updates of `num_leaves` matrices [side, side].

    All programs write into memory that is donated, the updates too: fresh memory would be timed
    with them, which a step that adds the updates to its parameters never asks for.
    """
    grads = [
        jax.random.normal(jax.random.key(i), (num_tasks, side, side)) for i in range(num_leaves)
    ]
    params = [jnp.zeros((side, side)) for _ in range(num_leaves)]
    losses = jnp.ones(num_tasks)
    tx = dbmtl.db_mtl(num_tasks, _BETA)

    def checked(state: Any, grads: Any, losses: jax.Array) -> Any:
        return tx.update(grads, state, params=None, losses=losses)

    size = 20 * side * side  # the triad's arrays, far larger than any cache
    a, b = jnp.ones(size), jnp.ones(size)
    triad = jax.jit(lambda a, b, out: a + 2 * b, donate_argnums=2, keep_unused=True)

    def repeated(update: Callable[..., Any], state: Any) -> Callable[[], Any]:
        """Calls (state, grads, losses) -> (updates, state) with what the last call returned."""

        @functools.partial(jax.jit, donate_argnums=(0, 1), keep_unused=True)
        def step(state: Any, updates: Any, grads: Any, losses: jax.Array) -> Any:
            del updates  # their memory is that of the new ones
            return update(state, grads, losses)

        kept = [jax.tree.map(jnp.copy, params), state]

        def call() -> Any:
            updates, state = kept
            kept[:] = step(state, updates, grads, losses)
            return kept

        return call

    buffer = [jnp.ones(size)]

    def run_triad():
        buffer[0] = triad(a, b, buffer[0])
        return buffer[0]

    times = in_turns(
        {
            "checked": repeated(checked, tx.init(params)),
            "plain": repeated(unchecked, [jnp.zeros_like(g) for g in grads]),
            "triad": run_triad,
        },
        rounds,
    )
    num_parameters = num_leaves * side * side
    bytes_moved = 4 * (4 * num_tasks * num_parameters + num_parameters)
    pairs = list(zip(*times.values(), strict=True))
    over_triad = statistics.median((bytes_moved / c) / (3 * 4 * size / t) for c, _, t in pairs)
    return Row(
        num_tasks,
        num_parameters,
        1e3 * statistics.median(times["checked"]),
        statistics.median(checked / plain for checked, plain, _ in pairs),
        over_triad,
        *judged(GOAL if num_parameters >= 10**7 else None, over_triad),
    )
