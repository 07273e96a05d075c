"""The methods in a size fit for tests, and trees of gradients as plain arrays."""

import functools
from typing import Any

import jax
import numpy as np

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from dbmtl_jax.core import TaskTransformation


def modo(num_tasks: Any, **options: Any) -> Any:
    """MoDo that takes one batch for both."""
    tx = dbmtl.modo(num_tasks, **options)

    def update(grads: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        stacked = grads.stacked() if isinstance(grads, dbmtl.PendingTaskGrads) else grads
        return tx.update(grads, state, params, other_grads=[stacked], **extra)

    return TaskTransformation(tx.init, update, **vars(tx))


METHODS = dict(dbmtl.METHODS) | {
    "igbv2": functools.partial(
        dbmtl.igbv2, hidden_sizes=(4,), buffer_size=8, batch_size=4, train_every=2
    ),
    "modo": modo,
}
"""`dbmtl_jax.METHODS` with an agent small enough for tests, and MoDo with one batch."""


def _reads(name: str) -> bool:
    aggregator = METHODS[name](2).aggregator
    return (
        aggregator.weigh is not None and aggregator.reads != "sum" and not aggregator.of_parameters
    )


READING = tuple(filter(_reads, METHODS))
"""Methods that weigh gradients by norms or products: they have the cheap forms."""
AT_ONCE = tuple(name for name in READING if name not in ("imtl", "db_mtl"))
"""Those of them that read and weigh in one part."""


def step(tx: Any, **arguments: Any) -> Any:
    """The update and the state of a first step on gradients and losses of three tasks."""
    params = testing.sample_params()
    given = {"updates": testing.sample_task_grads(3), "losses": testing.sample_losses(3)}
    given |= arguments
    return tx.update(given.pop("updates"), tx.init(params), params, **given)


def flat(tree: Any) -> np.ndarray:
    """Stacked leaves as one [T, P] array, for the oracles."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def flat_update(tree: Any) -> np.ndarray:
    """Aggregated leaves as one [P] array."""
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])
