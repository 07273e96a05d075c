"""The time of DB-MTL's gradient transformation alone.

It is compared with the same arithmetic without checks, and with the memory bandwidth (a triad).
"""

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
"""The goal for the bytes per second relative to a triad, for at least ten million parameters."""

_BETA = 0.9
_EPS = 1e-8


class Row(NamedTuple):
    """The result for T tasks and P parameters; times and ratios are medians over the rounds."""

    num_tasks: int
    num_parameters: int
    milliseconds: float  # time of one update
    over_unchecked: float  # relative to the arithmetic without any check
    over_triad: float  # necessary bytes, 4 (4 T P + P), per second, relative to a triad
    target: float | None  # goal for over_triad
    fail: float | None  # value of over_triad that counts as a failure
    verdict: Verdict


def unchecked(average: list[jax.Array], grads: list[jax.Array], losses: jax.Array) -> Any:
    """The formulas of the paper (log, average, norms and sum) without any checks."""
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

    All programs, including the updates, write into donated memory. Otherwise the allocation of
    memory would be timed too, which a training step does not need.
    """
    grads = [
        jax.random.normal(jax.random.key(i), (num_tasks, side, side)) for i in range(num_leaves)
    ]
    params = [jnp.zeros((side, side)) for _ in range(num_leaves)]
    losses = jnp.ones(num_tasks)
    tx = dbmtl.db_mtl(num_tasks, _BETA)

    def checked(state: Any, grads: Any, losses: jax.Array) -> Any:
        return tx.update(grads, state, params=None, losses=losses)

    size = 20 * side * side  # size of the arrays of the triad, far larger than any cache
    a, b = jnp.ones(size), jnp.ones(size)
    triad = jax.jit(lambda a, b, out: a + 2 * b, donate_argnums=2, keep_unused=True)

    def repeated(update: Callable[..., Any], state: Any) -> Callable[[], Any]:
        """A function that calls `update` with the state and the memory of the previous call."""

        @functools.partial(jax.jit, donate_argnums=(0, 1), keep_unused=True)
        def step(state: Any, updates: Any, grads: Any, losses: jax.Array) -> Any:
            del updates  # the new updates reuse their memory
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
