"""The methods in a size fit for tests, and trees of gradients as plain arrays."""

import functools
from typing import Any

import jax
import numpy as np

import dbmtl_jax as dbmtl

METHODS = dict(dbmtl.METHODS) | {
    "igbv2": functools.partial(
        dbmtl.igbv2, hidden_sizes=(4,), buffer_size=8, batch_size=4, train_every=2
    )
}
"""`dbmtl_jax.METHODS` with an agent small enough for tests."""


def flat(tree: Any) -> np.ndarray:
    """Stacked leaves as one [T, P] array, for the oracles."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def flat_update(tree: Any) -> np.ndarray:
    """Aggregated leaves as one [P] array."""
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])
