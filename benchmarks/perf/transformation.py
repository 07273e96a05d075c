"""The time of DB-MTL's gradient transformation alone.

It is compared with the same arithmetic without checks, and with the memory bandwidth (a triad).
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import dbmtl_jax as dbmtl
from benchmarks.perf.measurement import Figure, Goal, Measurement, milliseconds, ratio
from benchmarks.perf.timing import in_turns

GOAL = Goal(1.0, 0.8)
"""The goal for the bytes per second relative to a triad, for at least ten million parameters."""

_BETA = 0.9
_EPS = 1e-8


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


def measure(num_tasks: int, num_leaves: int = 10, side: int = 1000, rounds: int = 7) -> Measurement:
    """Times updates of `num_leaves` matrices [side, side].

    All programs, including the updates, write into donated memory. Otherwise the allocation of
    memory would be timed too, which a training step does not need.
    """
    grads = [
        jax.random.normal(jax.random.key(i), (num_tasks, side, side)) for i in range(num_leaves)
    ]
    params = [jnp.zeros((side, side)) for _ in range(num_leaves)]
    tx = dbmtl.db_mtl(num_tasks, _BETA)

    def checked(state: Any, grads: Any, losses: jax.Array) -> Any:
        return tx.update(grads, state, params=None, losses=losses)

    size = 20 * side * side  # of the triad's arrays, far larger than any cache
    times = in_turns(
        {
            "checked": _repeated(checked, params, tx.init(params), grads),
            "unchecked": _repeated(unchecked, params, [jnp.zeros_like(g) for g in grads], grads),
            "triad": _triad(size),
        },
        rounds,
    )
    num_parameters = num_leaves * side * side
    moved = 4 * (4 * num_tasks * num_parameters + num_parameters)  # bytes, at least
    speeds = [moved / seconds for seconds in times["checked"]]
    of_triad = [3 * 4 * size / seconds for seconds in times["triad"]]
    goal = GOAL if num_parameters >= 10**7 else None
    return Measurement(
        "transformation",
        num_tasks,
        "db_mtl",
        {
            "parameters": Figure(num_parameters),
            "milliseconds": milliseconds(times["checked"]),
            "over_unchecked": ratio(times["checked"], times["unchecked"]),
            "over_triad": ratio(speeds, of_triad, goal),
        },
    )


def _repeated(
    update: Callable[..., Any], params: Any, state: Any, grads: list[jax.Array]
) -> Callable[[], Any]:
    """A function that calls `update` with the state and the memory of the previous call."""
    losses = jnp.ones(len(grads[0]))

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


def _triad(size: int) -> Callable[[], Any]:
    """A function that reads two arrays and writes a third one, as fast as memory lets it."""
    a, b, out = (jnp.ones(size) for _ in range(3))
    triad = jax.jit(lambda a, b, out: a + 2 * b, donate_argnums=2, keep_unused=True)

    def call() -> jax.Array:
        nonlocal out
        out = triad(a, b, out)
        return out

    return call
